//! One connection, from its first byte to its last.

use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use streams_core::names::ConnectionId;
use streams_store::Unwritten;
use streams_wire::blocks::{Joined, Joiner};
use streams_wire::frame::{Split, split};
use streams_wire::requests::{Hello, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::allowed::{Until, until};
use super::outbox::Outbox;
use super::writers::Writers;

/// So much is read at once, if there is as much; more, as long as a client sends more.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// Memory for a frame is taken as it comes, this much ahead.
const AHEAD_BYTES: usize = 1 << 20;

/// A longer frame takes room of all connections until it has come and is taken. The longest token fits into shorter ones.
const LONG_BYTES: usize = 2 * READ_BYTES;

/// So long as much of it as is taken ahead may take to come.
const PROGRESS: Duration = Duration::from_secs(30);

/// So long a client may take to say that it speaks this protocol, and in so many bytes.
const GREETING: Duration = Duration::from_secs(10);
const GREETING_BYTES: usize = 64;

/// What waits for bytes of a segment. It is gone with its connection.
pub(super) type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one connection has.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) writers: Writers,
    pub(super) waiting: FuturesUnordered<Waiting>,
    /// For what is neither in memory nor to come.
    pub(super) fetches: Arc<Semaphore>,
    /// Who would wait for the client writes it first.
    pub(super) unwritten: Unwritten,
    /// It has made segments that go with it.
    pub(super) has_transient: bool,
    /// It has shown a token, if one is wanted.
    pub(super) is_trusted: bool,
    joiner: Joiner,
    is_greeted: bool,
}

/// A long frame that comes, or a block of appends with one.
struct Arriving {
    _room: OwnedSemaphorePermit,
    /// More of it is to have come by then.
    late: Instant,
    seen: usize,
}

impl Arriving {
    fn new(room: OwnedSemaphorePermit) -> Self {
        Self {
            _room: room,
            late: rt::now() + PROGRESS,
            seen: 0,
        }
    }

    /// So much of it is there.
    fn see(&mut self, n_bytes: usize) {
        if n_bytes < self.seen {
            self.seen = 0;
        }
        if n_bytes >= self.seen + AHEAD_BYTES {
            self.late = rt::now() + PROGRESS;
            self.seen = n_bytes;
        }
    }
}

pub(super) async fn serve(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let id = shared.store.connection();
    let outbox = Arc::new(Outbox::new(id));
    let store = shared.store.clone();
    // If this is dropped in between, transient segments stay until the store is opened anew.
    let mut connection = Connection {
        id,
        writers: Writers::new(&shared),
        outbox: Arc::clone(&outbox),
        waiting: FuturesUnordered::new(),
        fetches: Arc::new(Semaphore::new(shared.limits.fetches)),
        unwritten: Unwritten::default(),
        has_transient: false,
        joiner: Joiner::default(),
        is_greeted: false,
        is_trusted: shared.tokens.is_none(),
        shared,
    };
    outbox.send(Hello::OURS);
    let ended = Arc::clone(&outbox);
    let read = async move {
        let read = connection.read(reader).await;
        ended.end();
        // What waits for bytes waits no more.
        (read, connection.has_transient)
    };
    let written = async {
        let written = tokio::select! {
            written = outbox.run(writer) => written,
            () = outbox.late() => Err(io::ErrorKind::TimedOut.into()),
        };
        outbox.end();
        written
    };
    // In this order: what was answered is sent in the same turn.
    let ((read, has_transient), written) = tokio::join!(biased; read, written);
    if has_transient {
        store.disconnected(id).await;
    }
    read.and(written)
}

impl Connection {
    async fn read(&mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let outbox = Arc::clone(&self.outbox);
        let mut over = std::pin::pin!(outbox.over());
        let mut received = BytesMut::new();
        let mut read_bytes = READ_BYTES;
        let mut arriving: Option<Arriving> = None;
        let greeted_by = rt::now() + GREETING;
        loop {
            let late = arriving.as_ref().map(|arriving| arriving.late);
            if !self.may_ask(over.as_mut(), late).await? {
                return Ok(());
            }
            match split(&mut received).map_err(io::Error::other)? {
                Split::Frame(frame) => {
                    self.unwritten.leave();
                    let request = Request::decode(frame).map_err(io::Error::other)?;
                    tokio::select! {
                        taken = self.take(request) => taken?,
                        () = &mut over => return Ok(()),
                    }
                    if self.joiner.is_in_block() {
                        // It has room for that, and its end is to come.
                        arriving
                            .iter_mut()
                            .for_each(|it| it.late = rt::now() + PROGRESS);
                    } else if arriving.take().is_some() {
                        // Memory for a long frame is not kept for short ones.
                        received = BytesMut::from(&received[..]);
                    }
                    continue;
                }
                Split::Missing(n_bytes) => {
                    self.may_come(n_bytes)?;
                    if n_bytes > LONG_BYTES && arriving.is_none() {
                        self.unwritten.leave();
                        let room = self.shared.room_for_frame(n_bytes);
                        let room = tokio::select! {
                            room = room => room,
                            () = &mut over => return Ok(()),
                        };
                        arriving = Some(Arriving::new(room));
                    }
                    arriving.iter_mut().for_each(|it| it.see(received.len()));
                    received.reserve(n_bytes.clamp(read_bytes, AHEAD_BYTES));
                }
            }
            let late = arriving.as_ref().map(|arriving| arriving.late);
            let greeted_by = (!self.is_greeted).then_some(greeted_by);
            let expires = self.writers.expires();
            tokio::select! {
                biased;
                () = &mut over => return Ok(()),
                () = until(expires) => {
                    if self.writers.expire() {
                        return Ok(());
                    }
                }
                Some(()) = self.waiting.next() => {}
                () = until(late) => return Err(io::ErrorKind::TimedOut.into()),
                () = until(greeted_by) => return Err(io::ErrorKind::TimedOut.into()),
                n_bytes = reader.read_buf(&mut received) => {
                    read_bytes = match n_bytes? {
                        0 => return Ok(()),
                        n_bytes if n_bytes < read_bytes => READ_BYTES,
                        _ => READ_BYTES_MAX.min(2 * read_bytes),
                    };
                }
                () = future::ready(()), if self.unwritten.is_some() => self.unwritten.write(),
            }
        }
    }

    /// So much of a request, as it says itself.
    fn may_come(&self, n_bytes: usize) -> io::Result<()> {
        if !self.is_greeted && n_bytes > GREETING_BYTES {
            return Err(io::Error::other("that is no greeting"));
        }
        if !self.is_trusted && n_bytes > LONG_BYTES {
            return Err(io::Error::other("a long request without a token before it"));
        }
        Ok(())
    }

    /// Who does not take answers asks no more, nor does who waits for too much. Whether the connection goes on.
    async fn may_ask(
        &mut self,
        mut over: Pin<&mut impl Future<Output = ()>>,
        late: Until,
    ) -> io::Result<bool> {
        loop {
            let has_many = self.waiting.len() >= self.shared.limits.reads;
            tokio::select! {
                biased;
                () = &mut over => return Ok(false),
                () = self.outbox.room(), if !has_many => return Ok(true),
                () = until(late) => return Err(io::ErrorKind::TimedOut.into()),
                Some(()) = self.waiting.next() => {}
                () = future::ready(()), if self.unwritten.is_some() => self.unwritten.write(),
            }
        }
    }

    async fn take(&mut self, request: Request) -> io::Result<()> {
        let request_id = request.request_id();
        tracing::trace!(connection = self.id.0, request = request.name(), request_id);
        match request {
            Request::Hello(hello) => {
                if !Hello::OURS.meets(&hello) {
                    return Err(io::Error::other("no version in common"));
                }
                self.is_greeted = true;
                Ok(())
            }
            _ if !self.is_greeted => Err(io::Error::other("a request before the greeting")),
            Request::KeepAlive(alive) => {
                self.outbox.send(alive);
                Ok(())
            }
            Request::AppendBlock(block) if !self.writers.may_append(block.writer_id) => {
                Err(io::Error::other("a block of a writer that is not set up"))
            }
            request => match self.joiner.join(request).map_err(io::Error::other)? {
                Joined::Append(append) => self.append(append).await,
                Joined::Other(request) => match self.allowed(&request) {
                    Some(until) => self.answer(request, until).await,
                    None => Ok(()),
                },
                Joined::Nothing => Ok(()),
            },
        }
    }
}
