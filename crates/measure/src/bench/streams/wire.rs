//! As little of a client as can be: frames that were made before, on a connection that is waited for.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use streams_wire::frame::{Split, split};
use streams_wire::replies::{Reply, SegmentRead};
use streams_wire::requests::{
    AppendBlockEnd, GetStreamSegmentInfo, Hello, ReadSegment, Request, SetupAppend, TruncateSegment,
};
use streams_wire::shapes::{DelegationToken, Event};
use streams_wire::{Outgoing, events};

use super::load::{Answered, Ask, Lane};

/// Whoever answers nothing for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 << 10;
/// Of one answer: what a store gives at most.
const READ_BYTES_MAX: i32 = 2 << 20;

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Link {
    socket: TcpStream,
    received: BytesMut,
    /// What was read of the socket goes through here.
    buffer: Vec<u8>,
}

impl Link {
    /// `HOST:PORT`.
    pub(super) fn open(store: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(store).with_context(|| format!("connect to {store}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut link = Self {
            socket,
            received: BytesMut::new(),
            buffer: vec![0; READ_BYTES],
        };
        link.send(Hello::OURS)?;
        let Reply::Hello(theirs) = link.next()? else {
            bail!("{store} does not greet");
        };
        ensure!(Hello::OURS.meets(&theirs), "no version in common");
        Ok(link)
    }

    /// The same connection once more: one side sends, the other one reads.
    pub(super) fn again(&self) -> anyhow::Result<TcpStream> {
        Ok(self.socket.try_clone()?)
    }

    pub(super) fn send(&mut self, request: impl Into<Request>) -> anyhow::Result<()> {
        Ok(self.socket.write_all(&encoded(request)?)?)
    }

    pub(super) fn ask(&mut self, request: impl Into<Request>) -> anyhow::Result<Reply> {
        self.send(request)?;
        self.reply()
    }

    /// The next answer; a failure is an error.
    pub(super) fn reply(&mut self) -> anyhow::Result<Reply> {
        loop {
            match self.next()? {
                Reply::KeepAlive(_) => {}
                reply if reply.is_failure() => bail!("the store says {reply:?}"),
                reply => return Ok(reply),
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Reply> {
        loop {
            match split(&mut self.received)? {
                Split::Frame(frame) => return Ok(Reply::decode(frame)?),
                Split::Missing(_) => {
                    let n = self.socket.read(&mut self.buffer)?;
                    ensure!(n > 0, "the store has closed the connection");
                    self.received.extend_from_slice(&self.buffer[..n]);
                }
            }
        }
    }
}

/// Truncates a segment where it ends.
pub(super) fn give_up(store: &str, segment: &str) -> anyhow::Result<()> {
    let mut link = Link::open(store)?;
    let info = link.ask(GetStreamSegmentInfo {
        request_id: 1,
        segment: segment.to_owned(),
        token: DelegationToken(String::new()),
    })?;
    let Reply::StreamSegmentInfo(info) = info else {
        bail!("the store says {info:?}");
    };
    link.ask(TruncateSegment {
        request_id: 2,
        segment: segment.to_owned(),
        truncation_offset: info.write_offset,
        token: DelegationToken(String::new()),
    })?;
    Ok(())
}

/// Whoever waits for an answer is told that there will be none.
impl Drop for Link {
    fn drop(&mut self) {
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

fn encoded(request: impl Into<Request>) -> anyhow::Result<Vec<u8>> {
    let mut out = Outgoing::default();
    request.into().encode(&mut out)?;
    Ok(out.copy_to_bytes(out.remaining()).into())
}

/// So many events, as one frame, of which only the numbers change.
#[derive(Debug)]
pub(super) struct Batch {
    frame: Vec<u8>,
    n_events: u64,
}

impl Batch {
    /// Behind type, length, writer, size and length; and behind type and length of the first event.
    const PAYLOAD_AT: usize = 8 + 16 + 4 + 4 + 8;
    const NUMBERS_BYTES: usize = 16;

    pub(super) fn new(writer_id: u128, payload: &[u8], n_events: usize) -> anyhow::Result<Self> {
        let data = Event::new(payload)?.framed().repeat(n_events);
        let end = AppendBlockEnd {
            writer_id,
            size_of_whole_events: i32::try_from(data.len())?,
            data: data.into(),
            num_events: i32::try_from(n_events)?,
            last_event_number: 0,
            request_id: 0,
        };
        Ok(Self {
            frame: encoded(end)?,
            n_events: n_events as u64,
        })
    }

    /// The frame as the `n`th of its writer.
    pub(super) fn numbered(&mut self, n: u64) -> &[u8] {
        let last = (n + 1) * self.n_events - 1;
        let at = self.frame.len() - Self::NUMBERS_BYTES;
        self.frame[at..at + 8].copy_from_slice(&last.to_be_bytes());
        self.frame[at + 8..].copy_from_slice(&n.to_be_bytes());
        &self.frame
    }

    /// Begins the first event with this number: see [`stamp`].
    pub(super) fn set_stamp(&mut self, number: u64) {
        let at = Self::PAYLOAD_AT;
        self.frame[at..at + 8].copy_from_slice(&number.to_be_bytes());
    }
}

/// With what number an event begins.
pub(super) fn stamp(event: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(event.get(..8)?.try_into().ok()?))
}

/// A writer of a segment that nobody else knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub id: u128,
    pub link: Link,
}

impl Writer {
    pub(super) fn open(store: &str, segment: &str) -> anyhow::Result<Self> {
        let mut link = Link::open(store)?;
        let id = set_up(&mut link, segment)?;
        Ok(Self { id, link })
    }
}

fn set_up(link: &mut Link, segment: &str) -> anyhow::Result<u128> {
    let writer_id = u128::from(rt::random_u64()) << 64 | u128::from(rt::random_u64());
    let setup = SetupAppend {
        request_id: 0,
        writer_id,
        segment: segment.to_owned(),
        token: DelegationToken::default(),
    };
    match link.ask(setup)? {
        Reply::AppendSetup(_) => Ok(writer_id),
        other => bail!("a writer is set up, and the store says {other:?}"),
    }
}

/// One connection that appends the same batch to these segments in turn.
pub(super) fn lane(
    store: &str,
    segments: &[String],
    payload: &[u8],
    n_events: usize,
) -> anyhow::Result<Lane> {
    let mut link = Link::open(store)?;
    let (mut batches, mut acknowledged) = (Vec::new(), HashMap::new());
    for segment in segments {
        let id = set_up(&mut link, segment)?;
        batches.push(Batch::new(id, payload, n_events)?);
        acknowledged.insert(id, 0);
    }
    let mut socket = link.again()?;
    let n_writers = batches.len() as u64;
    let send: Ask = Box::new(move |n| {
        let (round, writer) = (n / n_writers, usize::try_from(n % n_writers)?);
        Ok(socket.write_all(batches[writer].numbered(round))?)
    });
    let mut total = 0;
    let receive: Answered = Box::new(move || {
        let Reply::DataAppended(appended) = link.reply()? else {
            bail!("something else than an acknowledgement came");
        };
        let of_writer = acknowledged.get_mut(&appended.writer_id);
        let of_writer = of_writer.context("an acknowledgement of another writer")?;
        let n_batches = u64::try_from(appended.event_number + 1)? / n_events as u64;
        total += n_batches.saturating_sub(*of_writer);
        *of_writer = n_batches;
        Ok(total)
    });
    Ok(Lane::new(send, receive))
}

/// Reads a segment, event by event or as bytes.
#[derive(Debug)]
pub(super) struct Reader {
    link: Link,
    segment: String,
    pub offset: i64,
    /// The beginning of an event, perhaps.
    read: BytesMut,
}

impl Reader {
    pub(super) fn open(store: &str, segment: &str) -> anyhow::Result<Self> {
        Ok(Self {
            link: Link::open(store)?,
            segment: segment.to_owned(),
            offset: 0,
            read: BytesMut::new(),
        })
    }

    /// What comes next; nothing if the store has waited enough.
    pub(super) fn bytes(&mut self) -> anyhow::Result<Bytes> {
        let request = ReadSegment {
            segment: self.segment.clone(),
            offset: self.offset,
            suggested_length: READ_BYTES_MAX,
            token: DelegationToken::default(),
            request_id: 0,
        };
        match self.link.ask(request)? {
            Reply::SegmentRead(SegmentRead { data, .. }) => {
                self.offset += i64::try_from(data.len())?;
                Ok(data)
            }
            other => bail!("a segment is read, and the store says {other:?}"),
        }
    }

    /// All whole events that come next.
    pub(super) fn events(&mut self) -> anyhow::Result<Vec<Bytes>> {
        let bytes = self.bytes()?;
        self.read.extend_from_slice(&bytes);
        let mut whole = self.read.split().freeze();
        let mut found = Vec::new();
        while let Some(event) = events::take(&mut whole)? {
            found.push(event);
        }
        self.read.extend_from_slice(&whole);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_what_it_says() {
        let mut batch = Batch::new(7, &[1; 20], 3).expect("it fits");
        batch.set_stamp(42);
        let mut received = BytesMut::from(batch.numbered(4));
        let Ok(Split::Frame(frame)) = split(&mut received) else {
            panic!("it is whole");
        };
        let Ok(Request::AppendBlockEnd(end)) = Request::decode(frame) else {
            panic!("it is an append");
        };
        assert_eq!((end.writer_id, end.num_events), (7, 3));
        assert_eq!((end.last_event_number, end.request_id), (14, 4));
        let mut data = end.data;
        let first = events::take(&mut data).expect("events").expect("whole");
        assert_eq!(stamp(&first), Some(42));
        assert_eq!(first.len(), 20);
    }
}
