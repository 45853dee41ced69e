//! A server of streams: it binds its ports, recovers, serves, and ends in order.
//!
//! ```text
//!  start ──▶ ports ──▶ Store: log, checkpoints ──▶ Controller: its rows ──▶ all ports are served
//!  stop  ──▶ REST and the controller take no more ──▶ the store's port ──▶ Store: what was taken is durable, checkpoints
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use store::s3::Counters as Counters3;
use store::{Credentials, Opened, Registry, S3};
use streams_store::Store;
use telemetry::{Health, Metrics};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::access::{self, Access};
use crate::config::{self, Config};
use crate::controller::{self, Anyone, Authority, Controller, Endpoint, Published};
use crate::front::{Door, Shared};
use crate::metrics::{self, Counters};
use crate::rest;
use crate::tls::Tls;

/// Certificates and users are looked at so often.
const LOOK: Duration = Duration::from_secs(2);

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
    #[error("use the certificate of the server")]
    Tls(#[source] std::io::Error),
    #[error(transparent)]
    Access(#[from] access::Error),
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
    /// Where its REST interface is.
    pub rest: SocketAddr,
    door: Door,
    rest_door: rest::Door,
    ends: oneshot::Sender<()>,
    serving: rt::Task,
    served: watch::Receiver<Option<Arc<controller::Error>>>,
    segments: Store,
    _guarding: rt::Task,
}

/// Who connects before it has recovered waits.
///
/// # Errors
/// [`Error`].
pub async fn start(config: Config, deps: Deps) -> Result<Service, Error> {
    let for_store = listen(config.store.listen).await?;
    let for_controller = listen(config.controller.listen).await?;
    let for_rest = listen(config.rest.listen).await?;
    let lts = lts(&config, &deps.stores, &deps.metrics)?;
    let guards = Guards::open(&config)?;
    let segments = Store::open(&config.dir, &config.segments, lts).await?;
    let limits = config.store.limits();
    let counters = Counters::new(&deps.metrics);
    metrics::declare(&deps.metrics, segments.clone());
    let tokens = guards.access.as_ref().map(|access| access.tokens());
    let shared = Arc::new(Shared::new(segments.clone(), limits, counters, tokens));
    let listening = |source| Error::Listen {
        address: config.store.listen,
        source,
    };
    let [tls_of_store, tls_of_controller] = guards.acceptors()?;
    let door = Door::open(for_store, tls_of_store.clone(), shared).map_err(listening)?;
    let address = for_controller.local_addr().map_err(listening)?;
    let host = |address: SocketAddr| Endpoint {
        host: match &config.publish {
            Some(name) => name.clone(),
            None if config.tls.is_some() => "localhost".to_owned(),
            None => address.ip().to_string(),
        },
        port: address.port(),
    };
    let published = Published {
        controllers: vec![host(address)],
        store: host(door.addr),
    };
    let of_controller = config.controller.config();
    let authority = guards.authority();
    let controller = Controller::open(segments.clone(), &of_controller, authority, published);
    let controller = controller.await?;
    let routes = rest::routes(controller.service());
    let rest_door = rest::Door::open(for_rest, tls_of_store, config.rest.connections, routes);
    let rest_door = rest_door.map_err(listening)?;
    let (ends, ended) = oneshot::channel();
    let (told, served) = watch::channel(None);
    let serving = rt::spawn("streams-controller-port", async move {
        let ended = async {
            // Who drops the service ends it as well.
            ended.await.ok();
        };
        let served = match tls_of_controller {
            Some(tls) => Box::pin(controller.serve_tls(for_controller, tls, ended)).await,
            None => controller.serve(for_controller, ended).await,
        };
        if let Err(error) = served {
            told.send_replace(Some(Arc::new(error)));
        }
    });
    Ok(Service {
        store: door.addr,
        controller: address,
        rest: rest_door.addr,
        door,
        rest_door,
        ends,
        serving,
        served,
        segments,
        _guarding: rt::spawn("streams-guards", guards.look()),
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
        self.rest_door.close().await;
        self.ends.send(()).ok();
        self.serving.ended().await;
        self.door.close().await;
        self.segments.close().await;
    }
}

/// What keeps others out.
#[derive(Debug)]
struct Guards {
    tls: Option<Tls>,
    access: Option<Arc<Access>>,
}

impl Guards {
    fn open(config: &Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(Tls::open);
        let access = config.auth.as_ref();
        let access = access.map(|access| Access::open(access, &config.dir));
        let is_open = |address: SocketAddr| !address.ip().is_loopback();
        if access.is_some()
            && tls.is_none()
            && (is_open(config.store.listen) || is_open(config.controller.listen))
        {
            tracing::warn!("without tls, others on the network can read passwords and tokens");
        }
        Ok(Self {
            tls: tls.transpose().map_err(Error::Tls)?,
            access: access.transpose()?.map(Arc::new),
        })
    }

    fn authority(&self) -> Arc<dyn Authority> {
        match &self.access {
            Some(access) => Arc::clone(access) as _,
            None => Arc::new(Anyone),
        }
    }

    /// For the store and REST, and for the controller.
    fn acceptors(&self) -> Result<[Option<TlsAcceptor>; 2], Error> {
        let of_store = self.tls.as_ref().map(Tls::of_store);
        let of_controller = self.tls.as_ref().map(Tls::of_controller);
        let made = |acceptor: Option<std::io::Result<_>>| acceptor.transpose().map_err(Error::Tls);
        Ok([made(of_store)?, made(of_controller)?])
    }

    /// Looks from time to time whether there is another certificate, or who the users are.
    async fn look(mut self) {
        if self.tls.is_none() && self.access.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let looked = rt::blocking(move || {
                self.refresh();
                self
            });
            match looked.await {
                Ok(guards) => self = guards,
                Err(_) => return,
            }
        }
    }

    fn refresh(&mut self) {
        if let Some(Err(error)) = self.tls.as_mut().map(Tls::refresh) {
            tracing::warn!(%error, "the certificate stays as it was");
        }
        if let Some(Err(error)) = self.access.as_ref().map(|access| access.refresh()) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the users stay as they were");
        }
    }
}

/// Long-term storage, as the settings say.
pub(crate) fn lts(config: &Config, stores: &Registry, metrics: &Metrics) -> Result<Opened, Error> {
    if let Some(s3) = &config.s3 {
        let s3 = S3::new(read(s3)?, Counters3::new(metrics))?;
        stores.register("s3", Arc::new(s3))?;
    }
    Ok(stores.open(&config.lts)?)
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
