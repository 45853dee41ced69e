//! Connections: perhaps TLS, then HTTP/1.1, within limits.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::backend::Backend;
use crate::body::Pace;
use crate::config::{Config, Limits};
use crate::front::Front;
use crate::http::Server;
use crate::metrics::Counters;
use crate::users::Users;

const HEADERS_MAX: usize = 128;
/// How long, and how much, a client may go on sending after it has been answered for the last time.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// All that a server is made of.
#[derive(Clone)]
pub struct Setup {
    pub config: Config,
    pub users: Users,
    pub backend: Arc<dyn Backend>,
    /// `None`: whoever can listen to the network can read what is written. Secrets of users are not sent in either case.
    pub tls: Option<Arc<ServerConfig>>,
    pub counters: Counters,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Setup");
        debug
            .field("config", &self.config)
            .field("users", &self.users);
        debug.finish_non_exhaustive()
    }
}

/// A running server; dropping it ends it at once.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Service {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: rt::Task,
}

impl Service {
    /// Takes no more requests, and lets those that are being served end, within [`Limits::drain`].
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.ended().await;
    }
}

/// Serves S3 in the background.
///
/// # Errors
/// When the listener has no address.
pub fn serve(listener: TcpListener, setup: Setup) -> io::Result<Service> {
    let addr = listener.local_addr()?;
    let limits = setup.config.limits;
    let counters = setup.counters;
    let front = Front {
        backend: setup.backend,
        users: setup.users,
        config: setup.config,
    };
    let door = Door {
        server: Arc::new(Server::new(front, counters.clone())),
        acceptor: setup.tls.map(TlsAcceptor::from),
        limits,
        counters,
    };
    let (stop, stopped) = watch::channel(false);
    let task = rt::spawn("s3", accept(listener, door, stopped));
    Ok(Service { addr, stop, task })
}

/// What all connections share.
#[derive(Clone)]
struct Door {
    server: Arc<Server>,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    counters: Counters,
}

async fn accept(listener: TcpListener, door: Door, mut stopped: watch::Receiver<bool>) {
    let connections_max = door.limits.connections;
    let places = Arc::new(Semaphore::new(connections_max));
    // They end with this task. Those that are over are let go at the next call: as many as there are places, at most.
    let mut tasks = BTreeMap::new();
    let (over, mut ended) = mpsc::channel(connections_max);
    for number in 0_u64.. {
        if places.available_permits() == 0 {
            door.counters.delayed.inc();
        }
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("nobody closes the semaphore");
            (place, listener.accept().await)
        };
        let (place, socket) = tokio::select! {
            next = next => next,
            () = end_of(&mut stopped) => break,
        };
        let socket = match socket {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Too few file descriptors, for instance: others will end.
                tracing::warn!(%error, "accept an S3 client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while let Ok(number) = ended.try_recv() {
            tasks.remove(&number);
        }
        let (door, over, stopped) = (door.clone(), over.clone(), stopped.clone());
        let open = Level::up(&door.counters.connections);
        let life = async move {
            if let Err(error) = converse(&door, socket, stopped).await {
                tracing::debug!(%error, "a connection of an S3 client ended");
            }
            // There is room for everyone who has a place; nobody listens any more when all ends.
            over.try_send(number).ok();
            drop((place, open));
        };
        tasks.insert(number, rt::spawn("s3 client", life));
    }
    drop(listener);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    timeout(door.limits.drain, places.acquire_many(all))
        .await
        .ok();
}

/// Returns when the server is stopped, or gone.
async fn end_of(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stopped| *stopped).await.ok();
}

/// Counts one as long as it is held.
struct Level(IntGauge);

impl Level {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn converse(
    door: &Door,
    socket: TcpStream,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let limits = door.limits;
    socket.set_nodelay(true)?;
    let stream = match &door.acceptor {
        None => Stream::Plain(socket),
        Some(acceptor) => {
            let handshake = timeout(limits.patience, acceptor.accept(socket)).await;
            Stream::Tls(Box::new(handshake.map_err(io::Error::from)??))
        }
    };
    let (back, returned) = oneshot::channel();
    let connection = Connection {
        stream: Some(stream),
        back: Some(back),
        pace: Pace::new(limits.patience, limits.bytes_per_second),
        stalled: None,
        counters: door.counters.clone(),
    };
    let server = Arc::clone(&door.server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { server.answer(request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Between requests as well: a connection that says nothing is closed.
        .header_read_timeout(limits.patience)
        // A client that has said all may close its side, and is answered.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(limits.head_bytes.max(8 << 10));
    let ended = {
        let mut conversation = pin!(http.serve_connection(TokioIo::new(connection), service));
        tokio::select! {
            ended = conversation.as_mut() => ended,
            () = end_of(&mut stopped) => {
                conversation.as_mut().graceful_shutdown();
                conversation.as_mut().await
            }
        }
    };
    if ended.as_ref().is_err_and(hyper::Error::is_parse) {
        door.counters.heads_refused.inc();
    }
    if let Ok(stream) = returned.await {
        timeout(limits.patience.min(LINGER), linger(stream))
            .await
            .ok();
    }
    ended.map_err(io::Error::other)
}

/// Takes what the client still sends: closed before that, the connection would be reset, and the answer lost.
async fn linger(mut stream: Stream) {
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

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Passes a call on to the stream that there is.
macro_rules! on_stream {
    ($this:expr, $method:ident($($argument:expr),*)) => {
        match $this {
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(&mut *self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(&mut *self, poll_write_vectored(context, pieces))
    }

    /// Without it, the HTTP library would copy all content into one buffer.
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, poll_shutdown(context))
    }
}

/// A connection that fails when its client takes what is written too slowly. It gives the stream back when it is dropped.
struct Connection {
    stream: Option<Stream>,
    back: Option<oneshot::Sender<Stream>>,
    pace: Pace,
    /// Since when writing waits for the client, and until when it may.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
    counters: Counters,
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
    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("it is there until the end"))
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        n_bytes: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(result) = result else {
            let left = self.pace.left();
            let begin = || (rt::now(), Box::pin(tokio::time::sleep(left)));
            let (_, end) = self.stalled.get_or_insert_with(begin);
            return match end.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            };
        };
        let n_bytes = result.as_ref().map_or(0, n_bytes);
        let waited = match self.stalled.take() {
            Some((since, _)) => rt::now() - since,
            None => Duration::ZERO,
        };
        self.pace.count(waited, n_bytes);
        self.counters.sent_bytes.inc_by(n_bytes as u64);
        Poll::Ready(result)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = self.stream().poll_read(context, buffer);
        let n_bytes = buffer.filled().len() - before;
        self.counters.received_bytes.inc_by(n_bytes as u64);
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.stream().poll_write(context, bytes);
        self.in_time(context, result, |n_bytes| *n_bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.stream().poll_write_vectored(context, pieces);
        self.in_time(context, result, |n_bytes| *n_bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.stream().poll_flush(context);
        self.in_time(context, result, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.stream().poll_shutdown(context);
        self.in_time(context, result, |()| 0)
    }
}
