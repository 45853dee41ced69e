//! Connections, within limits.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use futures_util::{Stream, StreamExt as _};
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::TcpIncoming;

use crate::controller::{bounded, secured};

use super::PATIENCE;

/// What requests that are under way have left when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

/// So long a connection may say nothing, and as long a request may take to come and to be answered.
const LIFE: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

/// A port that is served.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    ends: oneshot::Sender<()>,
    task: rt::Task,
}

impl Door {
    /// # Errors
    /// The listener has no address.
    pub(crate) fn open(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        connections_max: usize,
        routes: Router,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (ends, ended) = oneshot::channel();
        let task = match tls {
            Some(tls) => {
                let incoming = secured(incoming, tls, connections_max);
                let served = serve(incoming, connections_max, routes, ended);
                rt::spawn("streams-rest-port", served)
            }
            None => {
                let served = serve(incoming, connections_max, routes, ended);
                rt::spawn("streams-rest-port", served)
            }
        };
        Ok(Self { addr, ends, task })
    }

    /// Takes no more.
    pub(crate) async fn close(self) {
        self.ends.send(()).ok();
        // What is still under way then ends with the task.
        timeout(GRACE, self.task.ended()).await.ok();
    }
}

/// Connections are as they come. HTTP/1.1 is spoken only: what one of them has under way is one request.
async fn serve<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Send + 'static,
    connections_max: usize,
    routes: Router,
    ended: oneshot::Receiver<()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut incoming = pin!(bounded(incoming, connections_max));
    let mut ended = pin!(ended);
    let (tell, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        let next = tokio::select! {
            // Who drops the door ends it as well.
            _ = &mut ended => break,
            next = incoming.next() => next,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match next {
            Some(Ok(io)) => {
                let service = TowerToHyperService::new(routes.clone());
                let connection =
                    Builder::new().serve_connection(TokioIo::new(Timed::new(io)), service);
                connections.spawn(one(connection, told.clone()));
            }
            Some(Err(error)) => {
                // Mostly too many open files: then those that end make room.
                tracing::warn!(%error, "a connection is not accepted");
                sleep(Duration::from_millis(100)).await;
            }
            None => break,
        }
    }
    tell.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// To its end, or to that of the request that is under way.
async fn one<IO>(
    connection: Connection<TokioIo<Timed<IO>>, TowerToHyperService<Router>>,
    mut told: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = pin!(connection);
    let over = async {
        told.wait_for(|is_over| *is_over).await.ok();
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = over => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the REST interface has ended");
    }
}

/// A connection that ends when it says nothing, or a request takes too long: so nobody keeps a place by sending slowly.
struct Timed<IO> {
    io: IO,
    end: Pin<Box<Sleep>>,
    /// Nothing of a request has come since the last answer.
    is_idle: bool,
}

impl<IO> Timed<IO> {
    fn new(io: IO) -> Self {
        let end = Box::pin(sleep(LIFE));
        Self {
            io,
            end,
            is_idle: true,
        }
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_pending() && self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() && std::mem::take(&mut self.is_idle) {
            self.end = Box::pin(sleep(LIFE));
        }
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            self.end = Box::pin(sleep(LIFE));
            self.is_idle = true;
        }
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.in_time(context, shut)
    }
}
