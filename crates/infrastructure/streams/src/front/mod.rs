//! The port of the store: Pravega's protocol over TCP.
//!
//! ```text
//!  socket ─▶ frames ─▶ requests ─▶ Store          one task for each connection reads, asks, and waits for what is read of segments
//!  socket ◀─ Outbox ◀─ what is told               another one writes
//! ```
//!
//! A connection on which too much is under way is not read. All other bounds are in [`Limits`].

mod allowed;
mod connection;
mod outbox;
mod refusals;
mod requests;
mod storage;
mod tables;
mod writers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use streams_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::Tokens;
use crate::metrics::Counters;
use crate::tls::handshake;

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Open connections; others wait.
    pub(crate) connections: usize,
    /// Appended and not durable, of one connection and of all, in bytes.
    pub(crate) connection_window: usize,
    pub(crate) window: usize,
    /// Long frames of all connections that have not come to their end, in bytes.
    pub(crate) frames: usize,
    /// Reads of one connection that wait.
    pub(crate) reads: usize,
    /// Reads of one connection that are fetched at once.
    pub(crate) fetches: usize,
    /// So long a read at the tail waits for more.
    pub(crate) patience: Duration,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    /// Without them, everybody may do everything.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// Bytes that may be under way.
    window: Arc<Semaphore>,
    /// Bytes of frames that may be coming.
    frames: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        limits: Limits,
        counters: Counters,
        tokens: Option<Arc<Tokens>>,
    ) -> Self {
        Self {
            store,
            limits,
            counters,
            tokens,
            window: Arc::new(Semaphore::new(limits.window)),
            frames: Arc::new(Semaphore::new(limits.frames)),
        }
    }

    async fn room_for_frame(&self, n_bytes: usize) -> OwnedSemaphorePermit {
        let n_permits = u32::try_from(n_bytes.min(self.limits.frames)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.frames).acquire_many_owned(n_permits).await;
        room.expect("nobody closes it")
    }
}

/// A port that is served.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    task: rt::Task,
}

impl Door {
    /// # Errors
    /// The listener has no address.
    pub(crate) fn open(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let addr = listener.local_addr()?;
        let task = rt::spawn("streams-store-port", accept(listener, tls, shared));
        Ok(Self { addr, task })
    }

    /// Ends all connections, too.
    pub(crate) async fn close(self) {
        self.task.cancel().await;
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    // They end with it.
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("nobody closes it");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly too many open files: then those that end make room.
                tracing::warn!(%error, "a connection is not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            shared.counters.connections.inc();
            let open = shared.counters.connections.clone();
            if let Err(error) = serve(stream, tls, shared).await {
                tracing::debug!(%error, "a connection has ended");
            }
            open.dec();
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let stream = handshake(&tls, stream).await?;
            let (reader, writer) = tokio::io::split(stream);
            connection::serve(reader, writer, shared).await
        }
        None => {
            let (reader, writer) = stream.into_split();
            connection::serve(reader, writer, shared).await
        }
    }
}

#[cfg(test)]
mod tests;
