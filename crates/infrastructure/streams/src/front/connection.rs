//! One connection, from its first byte to its last.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use streams_core::names::ConnectionId;
use streams_wire::blocks::{Joined, Joiner};
use streams_wire::frame::{Split, split};
use streams_wire::requests::{Hello, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Semaphore;

use super::Shared;
use super::outbox::Outbox;
use super::writers::Writers;

/// So much is read at once, if there is as much.
const READ_BYTES: usize = 64 << 10;

/// Memory for a frame is taken as it comes, this much ahead.
const AHEAD_BYTES: usize = 1 << 20;

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
    /// It has made segments that go with it.
    pub(super) has_transient: bool,
    joiner: Joiner,
    is_greeted: bool,
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
        has_transient: false,
        joiner: Joiner::default(),
        is_greeted: false,
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
    let ((read, has_transient), written) = tokio::join!(read, written);
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
        loop {
            // A full buffer may have many.
            while self.waiting.len() >= self.shared.limits.reads {
                tokio::select! {
                    () = &mut over => return Ok(()),
                    _ = self.waiting.next() => {}
                }
            }
            match split(&mut received).map_err(io::Error::other)? {
                Split::Frame(frame) => {
                    let request = Request::decode(frame).map_err(io::Error::other)?;
                    tokio::select! {
                        taken = self.take(request) => taken?,
                        () = &mut over => return Ok(()),
                    }
                    continue;
                }
                Split::Missing(n_bytes) if !self.is_greeted && n_bytes > GREETING_BYTES => {
                    return Err(io::Error::other("that is no greeting"));
                }
                Split::Missing(n_bytes) => {
                    received.reserve(n_bytes.clamp(READ_BYTES, AHEAD_BYTES));
                }
            }
            tokio::select! {
                biased;
                () = &mut over => return Ok(()),
                Some(()) = self.waiting.next() => {}
                () = tokio::time::sleep(GREETING), if !self.is_greeted => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                n_bytes = reader.read_buf(&mut received) => {
                    if n_bytes? == 0 {
                        return Ok(());
                    }
                }
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
            request => match self.joiner.join(request).map_err(io::Error::other)? {
                Joined::Append(append) => self.append(append).await,
                Joined::Other(request) => self.answer(request).await,
                Joined::Nothing => Ok(()),
            },
        }
    }
}
