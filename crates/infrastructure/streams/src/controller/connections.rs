//! Connections, but not too many of them.

use std::future::ready;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::tls::handshake;

/// One of a bounded number.
#[derive(Debug)]
pub(crate) struct Connection<IO> {
    io: IO,
    _place: OwnedSemaphorePermit,
}

/// Who comes when all places are taken waits for one.
pub(crate) fn bounded<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    max: usize,
) -> impl Stream<Item = io::Result<Connection<IO>>> {
    let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
    incoming.then(move |io| {
        let places = Arc::clone(&places);
        async move {
            let io = io?;
            let place = places.acquire_owned().await;
            let _place = place.expect("nobody closes it");
            Ok(Connection { io, _place })
        }
    })
}

/// Those who speak TLS. Handshakes do not wait for each other, and `max` of them are under way at most.
pub(crate) fn secured(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
    tls: TlsAcceptor,
    max: usize,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let secure = move |tcp: io::Result<TcpStream>| {
        let tls = tls.clone();
        async move {
            let tcp = match tcp {
                Ok(tcp) => tcp,
                Err(error) => {
                    // Mostly too many open files: then those that end make room.
                    tracing::warn!(%error, "a connection is not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return Ok(None);
                }
            };
            let secured = handshake(&tls, tcp).await;
            let secured = secured.inspect_err(|error| {
                tracing::debug!(%error, "a connection has ended before it was secured");
            });
            Ok(secured.ok())
        }
    };
    let secured = incoming.map(secure).buffer_unordered(max.max(1));
    secured.filter_map(|secured| ready(secured.transpose()))
}

impl<IO> Connected for Connection<IO> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
