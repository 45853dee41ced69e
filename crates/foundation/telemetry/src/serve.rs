//! The HTTP face: metrics, health and readiness.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::{Error, Health, Metrics};

/// What one server takes on.
#[derive(Clone, Copy)]
struct Limits {
    /// Open connections; others wait in the kernel's queue.
    connections: usize,
    /// After this long a connection ends, whatever it is doing: a client that trickles bytes holds its place no longer.
    /// Clients that keep connections open see it close and open another.
    life: Duration,
}

/// A scraper, an operator, an orchestrator's probe, and room for many times as much.
const LIMITS: Limits = Limits {
    connections: 32,
    life: Duration::from_secs(30),
};

/// A running telemetry server; dropping it stops accepting.
#[derive(Debug)]
#[must_use = "the server stops when this is dropped"]
pub struct Service {
    /// Where it listens, with the port that the system chose if 0 was asked for.
    pub addr: SocketAddr,
    /// Ends when dropped.
    pub task: rt::Task,
}

/// Listens on `addr`, then serves `/metrics`, `/healthz` and `/readyz` in the background.
///
/// Request heads are limited by the HTTP library (100 headers and some 400 kB); bodies are not read.
///
/// # Errors
/// When the address cannot be listened on.
///
/// # Panics
/// If these metrics are served already.
pub async fn serve(addr: SocketAddr, metrics: Metrics, health: Health) -> Result<Service, Error> {
    serve_within(LIMITS, addr, metrics, health).await
}

async fn serve_within(
    limits: Limits,
    addr: SocketAddr,
    metrics: Metrics,
    health: Health,
) -> Result<Service, Error> {
    let listen = |source| Error::Listen { addr, source };
    let socket = TcpListener::bind(addr).await.map_err(listen)?;
    let addr = socket.local_addr().map_err(listen)?;
    let listener = Limited {
        socket,
        places: Arc::new(Semaphore::new(limits.connections)),
        life: limits.life,
        open: metrics.gauge(
            "telemetry_http_connections",
            "Open connections to this server.",
        ),
        delayed: metrics.counter(
            "telemetry_http_connections_delayed_total",
            "Times that the limit on open connections made others wait.",
        ),
    };
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready_page))
        .with_state((metrics, health));
    let task = rt::spawn("telemetry", async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "telemetry server ended");
        }
    });
    tracing::info!(%addr, "telemetry");
    Ok(Service { addr, task })
}

async fn metrics_page(State((metrics, _)): State<(Metrics, Health)>) -> Response {
    const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], metrics.render()).into_response()
}

async fn ready_page(State((_, health)): State<(Metrics, Health)>) -> Response {
    match health.render() {
        reasons if reasons.is_empty() => "ready\n".into_response(),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
    }
}

/// A listener that holds a bounded number of connections, each for a bounded time.
struct Limited {
    socket: TcpListener,
    places: Arc<Semaphore>,
    life: Duration,
    open: IntGauge,
    delayed: IntCounter,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        if self.places.available_permits() == 0 {
            self.delayed.inc();
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("nobody closes the semaphore");
        // Errors of single connections and a shortage of file descriptors are waited out by the library.
        let (stream, peer) = Listener::accept(&mut self.socket).await;
        self.open.inc();
        let end = Box::pin(tokio::time::sleep(self.life));
        (
            Connection {
                stream,
                end,
                open: self.open.clone(),
                _place: place,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that fails once its time is over, and gives its place back when it is dropped.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    open: IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Connection {
    /// The stream, as long as there is time; the end of time wakes whoever waits for the stream.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;

    use super::*;

    /// A server within these limits, and its metrics.
    fn start(limits: Limits) -> (tokio::runtime::Runtime, Metrics, Service) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let metrics = Metrics::new();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let health = Health::starting("test");
        let service = runtime
            .block_on(serve_within(limits, any_port, metrics.clone(), health))
            .expect("loopback can be listened on");
        (runtime, metrics, service)
    }

    /// A connection that gives up on a server that never answers.
    fn connect(service: &Service) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(service.addr).expect("the server accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("it is not zero");
        stream
    }

    #[test]
    fn a_client_that_trickles_loses_its_place() {
        let life = Duration::from_millis(20);
        let (_runtime, _metrics, service) = start(Limits {
            connections: 1,
            life,
        });
        let mut idle = connect(&service);
        let mut trickling = connect(&service);
        trickling
            .write_all(b"GET /healthz HTTP/1.1\r\nHo")
            .expect("the kernel takes it");
        for stream in [&mut idle, &mut trickling] {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the server closes");
            assert_eq!(answer, b"", "neither has asked for anything");
        }
    }

    #[test]
    fn connections_beyond_the_limit_wait_for_a_place() {
        let life = Duration::from_secs(60);
        let (_runtime, metrics, service) = start(Limits {
            connections: 2,
            life,
        });
        let idle = [connect(&service), connect(&service)];
        while !metrics
            .render()
            .contains("\ntelemetry_http_connections_delayed_total 1\n")
        {
            std::thread::yield_now();
        }
        let mut waiting = connect(&service);
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        waiting.write_all(request).expect("the kernel takes it");
        assert!(
            metrics
                .render()
                .contains("\ntelemetry_http_connections 2\n")
        );
        drop(idle);
        let mut answer = String::new();
        waiting
            .read_to_string(&mut answer)
            .expect("a place became free");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
