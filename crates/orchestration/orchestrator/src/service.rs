//! A controller as a running service.

use std::net::SocketAddr;
use std::sync::Arc;

use auth::{Authority, Tls};
use meta::{MetaStore, Redb};
use rt::Task;
use tokio::net::TcpListener;
use workload::link::CONTROLLER_NAME;

use crate::config::Config;
use crate::controller::Controller;
use crate::controller::store::Gone;
use crate::{Error, ErrorKind, Explainer, front, link, series};

/// What a controller is given beside its configuration.
#[derive(Debug)]
pub struct Deps {
    /// Signs the certificates of sites, and the controller's own.
    pub authority: Authority,
    /// The Learning Plane, as far as the north-bound interface shows it.
    pub explainer: Option<Arc<dyn Explainer>>,
    pub metrics: telemetry::Metrics,
    /// Another store than the file in its directory.
    pub store: Option<Arc<dyn MetaStore>>,
}

/// A running controller. Dropping it ends it; sites and what they run go on.
#[derive(Debug)]
pub struct Service {
    pub link: SocketAddr,
    pub nbi: SocketAddr,
    pub controller: Controller,
    pub series: Arc<series::Store>,
    gone: Gone,
    _tasks: Vec<Task>,
}

/// Binds its addresses, reads what is in its directory, and goes on from there.
///
/// # Errors
/// When an address is taken, or the directory cannot be used.
pub async fn start(config: Config, deps: Deps) -> Result<Service, Error> {
    let failed = |what: String| move |e| Error::new(ErrorKind::Unavailable, what).because(e);
    let bind = async |address: SocketAddr| {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(failed(format!("listen on {address}")))?;
        let address = listener
            .local_addr()
            .map_err(failed("learn its address".to_owned()))?;
        Ok::<_, Error>((listener, address))
    };
    let (link_listener, link) = bind(config.link).await?;
    let (nbi_listener, nbi) = bind(config.nbi).await?;

    let dir = &config.dir;
    durable::make_dir(dir).map_err(failed(format!("make the directory {}", dir.display())))?;
    let store = match &deps.store {
        Some(store) => Arc::clone(store),
        None => {
            let redb = Redb::open(&dir.join("meta.redb"));
            let unusable =
                |e| Error::new(ErrorKind::Unavailable, "open the metadata store").because(e);
            Arc::new(redb.map_err(unusable)?)
        }
    };
    let tls = |name: &str| {
        let identity = deps.authority.identity(name);
        let tls = identity.and_then(|identity| Tls::new(&identity));
        let tls = tls.map_err(failed(format!("make a certificate for {name}")))?;
        Ok::<_, Error>(tls.server_config_admitting_anonymous())
    };
    let (link_tls, nbi_tls) = (tls(CONTROLLER_NAME)?, tls("localhost")?);
    let series = series::Store::open(
        &dir.join("series"),
        series::Limits::default(),
        &deps.metrics,
    );
    let series = Arc::new(series.map_err(failed("open the series".to_owned()))?);

    let counters = front::Counters::new(&deps.metrics);
    let (controller, gone) = Controller::open(store, dir, Arc::clone(&series), deps)?;
    let mut tasks = controller.start_tasks();
    let inner = Arc::clone(controller.inner());
    tasks.push(link::serve(
        link_listener,
        link_tls,
        inner,
        Arc::clone(&series),
    ));
    tasks.push(front::serve(
        nbi_listener,
        nbi_tls,
        controller.clone(),
        Arc::clone(&series),
        counters,
    ));
    Ok(Service {
        link,
        nbi,
        controller,
        series,
        gone,
        _tasks: tasks,
    })
}

impl Service {
    /// Why it cannot go on: its store has failed, or a part of it has panicked. It answers still, and does nothing any more; whoever has
    /// started it ends it, and starts another.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.controller.inner().failure.get()
    }

    /// The same, once it is so. Cancel-safe.
    pub async fn failed(&self) -> String {
        self.controller.inner().failure.wait().await
    }

    /// Ends it, and returns when its directory can be used again: when nobody has a clone of its controller, or a watch, any more.
    pub async fn stop(self) {
        let Self {
            gone,
            controller,
            series,
            _tasks: tasks,
            ..
        } = self;
        drop((tasks, controller, series));
        // It never sends: the error is that it is gone.
        gone.await.ok();
    }
}
