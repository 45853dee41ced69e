//! A store that is as short as it can be: one container, in memory, where everything is durable at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use ids::Epoch;
use rt::Task;
use streams_core::attributes::AttributeId;
use streams_core::container::{Readable, Source};
use streams_core::names::Position;
use streams_core::op::{Append, EventNumbers, Outcome};
use streams_core::{Container, Limits, Op, Recovery, Refusal, SegmentName};
use streams_wire::Outgoing;
use streams_wire::blocks::{self, Joined, Joiner};
use streams_wire::frame::{Split, split};
use streams_wire::replies as to;
use streams_wire::replies::Reply;
use streams_wire::requests::{Hello, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    /// Whether it looks at the numbers of events.
    counts: bool,
    container: Mutex<(Container, Vec<Bytes>)>,
    /// How often it has.
    changed: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::that_counts(true)
    }

    /// One with a fault, which has to be noticed.
    pub(crate) fn without_numbers() -> Self {
        Self::that_counts(false)
    }

    fn that_counts(counts: bool) -> Self {
        let opened = Recovery::new().open(Limits::default(), Epoch(1), 0);
        let (mut container, first) = opened.expect("it is the first");
        let log = vec![first.record.parts().concat().into()];
        container.durable(Position(0));
        Self(Arc::new(Shared {
            counts,
            container: Mutex::new((container, log)),
            changed: watch::Sender::new(0),
        }))
    }

    pub(crate) async fn listen(&self) -> Result<(SocketAddr, Task)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let store = self.clone();
        let task = rt::spawn("test store", async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let store = store.clone();
                connections.push(rt::spawn("test connection", async move {
                    // However it ends.
                    drop(Connection::serve(store, stream).await);
                }));
            }
        });
        Ok((address, task))
    }

    pub(crate) fn propose(&self, op: &Op) -> Result<Outcome, Refusal> {
        let mut locked = self.0.container.lock().expect("nobody panics");
        let (container, log) = &mut *locked;
        let proposal = container.propose(op, 0).map_err(|refused| refused.why)?;
        container.durable(Position(log.len() as u64));
        log.push(proposal.record.parts().concat().into());
        drop(locked);
        self.0.changed.send_modify(|version| *version += 1);
        Ok(proposal.outcome)
    }

    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Container) -> T) -> T {
        question(&self.0.container.lock().expect("nobody panics").0)
    }

    pub(crate) fn length(&self, segment: &str) -> u64 {
        let name = SegmentName::new(segment).expect("it is one");
        let info = self.ask(|container| container.info(&name));
        info.map_or(0, |info| info.value.length)
    }

    fn bytes(&self, sources: &[Source]) -> Bytes {
        let log = &self.0.container.lock().expect("nobody panics").1;
        let mut bytes = BytesMut::new();
        for source in sources {
            let Source::Log {
                record,
                at,
                bytes: n,
            } = source
            else {
                unreachable!("nothing is stored elsewhere");
            };
            let [record, at, n] = [record.0, *at, *n].map(|it| usize::try_from(it).expect("short"));
            bytes.extend_from_slice(&log[record][at..at + n]);
        }
        bytes.freeze()
    }
}

type Output = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

struct Connection {
    store: Store,
    output: Output,
    /// By writer: its segment, and its last event.
    writers: HashMap<u128, (SegmentName, i64)>,
    reads: Vec<Task>,
}

impl Connection {
    async fn serve(store: Store, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let (mut input, output) = stream.into_split();
        let output = Arc::new(tokio::sync::Mutex::new(output));
        let mut connection = Self {
            store,
            output,
            writers: HashMap::new(),
            reads: Vec::new(),
        };
        let (mut received, mut joiner) = (BytesMut::new(), Joiner::default());
        loop {
            let request = next(&mut input, &mut received).await?;
            let reply = match joiner.join(request)? {
                Joined::Nothing => None,
                Joined::Append(append) => connection.append(append)?,
                Joined::Other(request) => connection.answer(request)?,
            };
            if let Some(reply) = reply {
                let is_over = matches!(reply, Reply::InvalidEventNumber(_));
                tell(&connection.output, &reply).await?;
                if is_over {
                    bail!("the writer does not know what it has written");
                }
            }
        }
    }

    fn append(&mut self, append: blocks::Append) -> Result<Option<Reply>> {
        let blocks::Append {
            writer_id,
            request_id,
            last_event_number: last,
            ..
        } = append;
        let Some((segment, previous)) = self.writers.get_mut(&writer_id) else {
            // It was refused, and this is behind it.
            return Ok(None);
        };
        let data = append.data.iter().flatten().copied().collect();
        let numbers = EventNumbers {
            writer: AttributeId(writer_id),
            previous: *previous,
            last,
            n_events: append.n_events.into(),
        };
        let mut append = Append::events(segment.clone(), data, numbers);
        if !self.store.0.counts {
            append.attributes.clear();
        }
        match self.store.propose(&Op::Append(append)) {
            Ok(Outcome::Appended { length }) => Ok(Some(
                to::DataAppended {
                    writer_id,
                    event_number: last,
                    previous_event_number: std::mem::replace(previous, last),
                    request_id,
                    current_segment_write_offset: i64::try_from(length)?,
                }
                .into(),
            )),
            Ok(other) => bail!("{other:?}"),
            Err(why) => {
                self.writers.remove(&writer_id);
                refusal(request_id, writer_id, why).map(Some)
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Option<Reply>> {
        let id = request.request_id().unwrap_or_default();
        let answered = match request {
            Request::Hello(_) => Ok(Hello::OURS.into()),
            Request::KeepAlive(it) => Ok(it.into()),
            Request::SetupAppend(it) => self.set_up(&it),
            Request::ReadSegment(it) => {
                let (store, output) = (self.store.clone(), self.output.clone());
                self.reads.push(rt::spawn("test read", async move {
                    if let Ok(reply) = read(&store, it).await {
                        // However the connection ends.
                        drop(tell(&output, &reply).await);
                    }
                }));
                return Ok(None);
            }
            request => crate::requests::answer(&self.store, request),
        };
        let reply = answered.or_else(|why| refusal(id, 0, why.downcast()?))?;
        Ok(Some(reply))
    }

    fn set_up(&mut self, it: &streams_wire::requests::SetupAppend) -> Result<Reply> {
        let segment = SegmentName::new(&it.segment)?;
        let id = AttributeId(it.writer_id);
        let last = self
            .store
            .ask(|container| container.attribute(&segment, id));
        let last = last.map_err(|refused| refused.why)?.value;
        self.writers.insert(it.writer_id, (segment, last));
        Ok(to::AppendSetup {
            request_id: it.request_id,
            segment: it.segment.clone(),
            writer_id: it.writer_id,
            last_event_number: last,
        }
        .into())
    }
}

async fn next(input: &mut OwnedReadHalf, received: &mut BytesMut) -> Result<Request> {
    loop {
        if let Split::Frame(frame) = split(received)? {
            return Ok(Request::decode(frame)?);
        }
        if input.read_buf(received).await? == 0 {
            bail!("it has ended");
        }
    }
}

async fn tell(output: &Output, reply: &Reply) -> Result<()> {
    let mut out = Outgoing::default();
    reply.encode(&mut out)?;
    let mut bytes = out.copy_to_bytes(out.remaining());
    Ok(output.lock().await.write_all_buf(&mut bytes).await?)
}

/// What is longer than a connection lasts never arrives.
const READ_BYTES_MAX: u64 = 2000;

/// Waits at the tail.
async fn read(store: &Store, it: streams_wire::requests::ReadSegment) -> Result<Reply> {
    let name = SegmentName::new(&it.segment)?;
    let mut changed = store.0.changed.subscribe();
    let (offset, bytes_max) = (
        u64::try_from(it.offset)?,
        u64::try_from(it.suggested_length)?,
    );
    loop {
        let found =
            store.ask(|container| container.read(&name, offset, bytes_max.min(READ_BYTES_MAX)));
        let (data, end_of_segment) = match found {
            Ok(Readable::Bytes(sources)) => (store.bytes(&sources), false),
            Ok(Readable::End) => (Bytes::new(), true),
            Ok(Readable::AtTail(_)) => {
                changed.changed().await?;
                continue;
            }
            Err(refused) => return refusal(it.request_id, 0, refused.why),
        };
        return Ok(to::SegmentRead {
            segment: it.segment,
            offset: it.offset,
            at_tail: false,
            end_of_segment,
            data,
            request_id: it.request_id,
        }
        .into());
    }
}

fn refusal(request_id: i64, writer_id: u128, why: Refusal) -> Result<Reply> {
    let server_stack_trace = String::new();
    Ok(match why {
        Refusal::NoSuchSegment(segment) => to::NoSuchSegment {
            request_id,
            segment: segment.to_string(),
            server_stack_trace,
            offset: 0,
        }
        .into(),
        Refusal::Exists(segment) => to::SegmentAlreadyExists {
            request_id,
            segment: segment.to_string(),
            server_stack_trace,
        }
        .into(),
        Refusal::Sealed(segment) => to::SegmentIsSealed {
            request_id,
            segment: segment.to_string(),
            server_stack_trace,
            offset: 0,
        }
        .into(),
        Refusal::BadOffset { expected } => to::SegmentIsTruncated {
            request_id,
            segment: String::new(),
            start_offset: i64::try_from(expected)?,
            server_stack_trace,
            offset: 0,
        }
        .into(),
        Refusal::BadAttribute { found, .. } => to::InvalidEventNumber {
            writer_id,
            request_id,
            server_stack_trace,
            event_number: found,
        }
        .into(),
        Refusal::KeyBadVersion => to::TableKeyBadVersion {
            request_id,
            segment: String::new(),
            server_stack_trace,
        }
        .into(),
        other => bail!("{other}"),
    })
}
