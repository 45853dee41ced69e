//! Connections: TLS, then HTTP/1.1, within limits.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::counters::{Counters, Level};

const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long, and how much, a caller may go on sending after it has been answered for the last time.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// What all connections share.
struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    patience: Duration,
}

pub(super) fn serve(
    limits: Limits,
    counters: Counters,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
) -> impl Future<Output = ()> + Send {
    let server = Arc::new(Server {
        acceptor: TlsAcceptor::from(tls),
        router,
        patience: limits.patience,
    });
    accept(listener, limits.connections, counters, server)
}

async fn accept(
    listener: TcpListener,
    connections_max: usize,
    counters: Counters,
    server: Arc<Server>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    // They end with this task. Those that are over are let go at the next call: as many as there are places, at most.
    let mut tasks = BTreeMap::new();
    let (over, mut ended) = mpsc::channel(connections_max);
    for number in 0_u64.. {
        if places.available_permits() == 0 {
            counters.delayed.inc();
        }
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("nobody closes the semaphore");
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too few file descriptors, for instance: others will end.
                tracing::warn!(%error, "accept a caller");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while let Ok(number) = ended.try_recv() {
            tasks.remove(&number);
        }
        let (server, over) = (Arc::clone(&server), over.clone());
        let open = Level::up(&counters.connections);
        let life = async move {
            if let Err(error) = converse(&server, socket).await {
                tracing::debug!(%error, "a connection of a caller ended");
            }
            // There is room for everyone who has a place; nobody listens any more when all ends.
            over.try_send(number).ok();
            drop((place, open));
        };
        tasks.insert(number, rt::spawn("caller", life));
    }
}

async fn converse(server: &Server, socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let handshake = timeout(server.patience, server.acceptor.accept(socket));
    let (back, returned) = oneshot::channel();
    let connection = Connection {
        stream: Some(handshake.await.map_err(io::Error::from)??),
        back: Some(back),
        patience: server.patience,
        stalled: None,
    };
    let service = TowerToHyperService::new(server.router.clone());
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        // Between requests as well: a connection that says nothing is closed.
        .header_read_timeout(server.patience)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Ok(stream) = returned.await {
        timeout(server.patience.min(LINGER), linger(stream))
            .await
            .ok();
    }
    ended.map_err(io::Error::other)
}

/// Takes what the caller still sends: closed before that, the connection would be reset, and the answer lost.
async fn linger(mut stream: TlsStream<TcpStream>) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n_bytes @ 1..) = stream.read(&mut buffer).await {
        let Some(still) = left.checked_sub(n_bytes) else {
            return;
        };
        left = still;
    }
}

/// A connection that fails when its caller does not take what is written. It gives the stream back when it is dropped.
struct Connection {
    stream: Option<TlsStream<TcpStream>>,
    back: Option<oneshot::Sender<TlsStream<TcpStream>>>,
    patience: Duration,
    /// Runs while writing waits for the caller.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // When all ends, nobody waits for it.
            back.send(stream).ok();
        }
    }
}

impl Connection {
    fn stream(&mut self) -> Pin<&mut TlsStream<TcpStream>> {
        Pin::new(self.stream.as_mut().expect("it is there until the end"))
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let sleep = || Box::pin(tokio::time::sleep(patience));
        let stalled = self.stalled.get_or_insert_with(sleep);
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.stream().poll_flush(context);
        self.in_time(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.stream().poll_shutdown(context);
        self.in_time(context, written)
    }
}
