//! A server of streams: it binds its ports, recovers, serves, and ends in order.
//!
//! ```text
//!  start ──▶ ports ──▶ Store: log, checkpoints ──▶ Controller: its rows ──▶ both ports are served
//!  stop  ──▶ the controller takes no more ──▶ the store's port ──▶ Store: what was taken is durable, checkpoints
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::s3::Counters as Counters3;
use store::{Credentials, Registry, S3};
use streams_store::Store;
use telemetry::{Health, Metrics};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::config::{self, Config};
use crate::controller::{self, Anyone, Controller, Endpoint, Published};
use crate::front::{Door, Shared};
use crate::metrics::{self, Counters};

/// What the process has for its server.
#[derive(Debug)]
pub struct Deps {
    pub metrics: Metrics,
    pub health: Health,
    /// Where long-term storage can be.
    pub stores: Registry,
}

/// Why there is no server, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("read {}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("open long-term storage")]
    Lts(#[from] store::Error),
    #[error(transparent)]
    Store(#[from] streams_store::Error),
    #[error(transparent)]
    Controller(#[from] controller::Error),
}

/// A running server. [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Service {
    /// Where the store is.
    pub store: SocketAddr,
    /// Where the controller is.
    pub controller: SocketAddr,
    door: Door,
    ends: oneshot::Sender<()>,
    serving: rt::Task,
    served: watch::Receiver<Option<Arc<controller::Error>>>,
    segments: Store,
}

/// Who connects before it has recovered waits.
///
/// # Errors
/// [`Error`].
pub async fn start(config: Config, deps: Deps) -> Result<Service, Error> {
    let for_store = listen(config.store.listen).await?;
    let for_controller = listen(config.controller.listen).await?;
    if let Some(s3) = &config.s3 {
        let s3 = S3::new(read(s3)?, Counters3::new(&deps.metrics))?;
        deps.stores.register("s3", Arc::new(s3))?;
    }
    let lts = deps.stores.open(&config.lts)?;
    let segments = Store::open(&config.dir, &config.segments, lts).await?;
    let limits = config.store.limits();
    let counters = Counters::new(&deps.metrics);
    metrics::declare(&deps.metrics, segments.clone());
    let shared = Arc::new(Shared::new(segments.clone(), limits, counters));
    let listening = |source| Error::Listen {
        address: config.store.listen,
        source,
    };
    let door = Door::open(for_store, shared).map_err(listening)?;
    let address = for_controller.local_addr().map_err(listening)?;
    let host = |address: SocketAddr| Endpoint {
        host: match &config.publish {
            Some(name) => name.clone(),
            None => address.ip().to_string(),
        },
        port: address.port(),
    };
    let published = Published {
        controllers: vec![host(address)],
        store: host(door.addr),
    };
    let of_controller = config.controller.config();
    let authority = Arc::new(Anyone);
    let controller = Controller::open(segments.clone(), &of_controller, authority, published);
    let controller = controller.await?;
    let (ends, ended) = oneshot::channel();
    let (told, served) = watch::channel(None);
    let serving = rt::spawn("streams-controller-port", async move {
        let ended = async {
            // Who drops the service ends it as well.
            ended.await.ok();
        };
        if let Err(error) = controller.serve(for_controller, ended).await {
            told.send_replace(Some(Arc::new(error)));
        }
    });
    Ok(Service {
        store: door.addr,
        controller: address,
        door,
        ends,
        serving,
        served,
        segments,
    })
}

impl Service {
    /// Waits until it cannot go on, and says why.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            error = self.segments.failed() => error.to_string(),
            failed = self.served.wait_for(Option::is_some) => match failed {
                Ok(error) => error.as_ref().map_or_else(String::new, ToString::to_string),
                Err(_) => "the controller has ended".to_owned(),
            },
        }
    }

    /// What was taken is durable when this is over.
    pub async fn stop(self) {
        self.ends.send(()).ok();
        self.serving.ended().await;
        self.door.close().await;
        self.segments.close().await;
    }
}

/// What the settings name.
fn read(s3: &config::S3) -> Result<store::s3::Config, Error> {
    let file = |path: &Path| {
        let path = path.to_owned();
        std::fs::read(&path).map_err(|source| Error::File { path, source })
    };
    let credentials = file(&s3.credentials)?;
    let endpoint = s3.endpoint.as_deref().map(str::parse);
    let wrong = |_| store::Error::Invalid("an endpoint is https://HOST or http://HOST".to_owned());
    Ok(store::s3::Config {
        endpoint: endpoint.transpose().map_err(wrong)?,
        region: s3.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        credentials: Credentials::parse(&String::from_utf8_lossy(&credentials))?,
        authorities: s3.authorities.as_deref().map(file).transpose()?,
        limits: store::s3::Limits::default(),
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| Error::Listen { address, source })
}
