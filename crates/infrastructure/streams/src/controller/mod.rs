//! The controller of streams, as clients of Pravega expect it: the control plane of `streams-control`, with its rows in a table of the store,
//! behind the gRPC service of `streams-proto`.
//!
//! ```text
//!   gRPC ─▶ rpc: parse, authority, ask or request ─▶ driver ─▶ Control ─▶ rows: a table ┐
//!                                                       ▲                 calls: segments ├─▶ Store
//!                                                       └─────────────────────────────────┘
//! ```
//!
//! What is answered is durable, and what was begun is finished, also by the next one that is opened over the same store. There is one at a time:
//! who finds the rows changed by somebody else answers `UNAVAILABLE` from then on.
//!
//! Not here yet, and answered `UNIMPLEMENTED`: key-value tables, subscribers, the time of writers, buckets.

mod authority;
mod config;
mod connections;

mod rpc;

mod calls;
mod driver;
mod rows;
mod segments;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use streams_control::{Corrupt, Limits};
use streams_proto::controller::controller_service_server::ControllerServiceServer;
use streams_store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use self::driver::Driver;
use self::segments::Segments;

pub(crate) use self::connections::{bounded, secured};
pub(crate) use self::rows::TABLE;
pub(crate) use self::rpc::Service;

pub use self::authority::{Anyone, Authority, Permission};
pub use self::config::{Config, Endpoint, Published};

/// Of one message that comes in; what clients have as well.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Calls of one connection at once.
const CALLS_MAX: u32 = 1_000;

/// After which a silent connection is asked whether it is alive, and has to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What calls that are under way have left when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no controller, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the rows of the controller cannot be read")]
    Rows(#[from] streams_store::Error),
    #[error("the rows of the controller make no sense")]
    Corrupt(#[from] Corrupt),
    #[error("the controller cannot be reached any more")]
    Serve(#[from] tonic::transport::Error),
}

/// It works as long as it is there, also if nobody is served.
#[derive(Debug)]
pub struct Controller {
    driver: Driver,
    service: Service,
    connections_max: usize,
}

impl Controller {
    /// Loads its rows, which are there afterwards, and goes on with what was begun.
    ///
    /// # Errors
    /// [`Error::Rows`] and [`Error::Corrupt`].
    pub async fn open(
        store: Store,
        config: &Config,
        authority: Arc<dyn Authority>,
        published: Published,
    ) -> Result<Self, Error> {
        let limits = Limits::default();
        Self::over(Arc::new(store), limits, config, authority, published).await
    }

    async fn over(
        segments: Arc<dyn Segments>,
        limits: Limits,
        config: &Config,
        authority: Arc<dyn Authority>,
        published: Published,
    ) -> Result<Self, Error> {
        let driver = Driver::open(segments, limits, config.requests_max).await?;
        let service = Service::new(driver.desk(), authority, published);
        Ok(Self {
            driver,
            service,
            connections_max: config.connections_max,
        })
    }

    /// It answers. Otherwise somebody else has taken over, or the store has ended: open another one.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.service.is_served()
    }

    /// To be served together with others, by whoever limits connections.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let service = ControllerServiceServer::new(self.service.clone());
        Routes::new(service.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// What it answers, for who asks in another way than by gRPC.
    pub(crate) fn service(&self) -> Service {
        self.service.clone()
    }

    /// Until it is to end. Connections are not encrypted.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        self.serve_connections(incoming, shutdown).await
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        tls: TlsAcceptor,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let incoming = secured(incoming, tls, self.connections_max);
        self.serve_connections(incoming, shutdown).await
    }

    /// Until it is to end. Connections are as they come: they are asked for one by one, and never too many.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub async fn serve_connections<IO>(
        self,
        incoming: impl Stream<Item = io::Result<IO>> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (tell, told) = oneshot::channel::<()>();
        let shutdown = async move {
            shutdown.await;
            drop(tell);
        };
        let served = Server::builder()
            .max_concurrent_streams(CALLS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(self.routes())
            .serve_with_incoming_shutdown(bounded(incoming, self.connections_max), shutdown);
        let grace = async {
            told.await.ok();
            tokio::time::sleep(GRACE).await;
        };
        let served = tokio::select! {
            served = served => served,
            () = grace => Ok(()),
        };
        self.close().await;
        Ok(served?)
    }

    /// When it is told, nothing is under way any more.
    pub async fn close(self) {
        self.driver.close().await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
