//! A node as a service: it binds its ports, recovers, serves, keeps house, and ends in order.
//!
//! ```text
//!  start ──▶ ports ──▶ the directory's lock ──▶ users ──▶ Store, whose memory is shared ──▶ S3 face and node protocol ──▶ upkeep, metrics
//!                                                                                                  └─▶ owner of a site, or member
//!  stop ──▶ faces take no more, and end what they serve ──▶ upkeep ──▶ Store, whose log is synced ──▶ the lock
//! ```

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use auth::Shown;
use rustls::{ClientConfig, ServerConfig};
use s3::Setup;
use s3::users::{Secret, User};
use telemetry::{Health, Metrics};
use tokio::net::TcpListener;
use wal::Directory;

use crate::behind::{self, Behind};
use crate::client::Credentials;
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::front::local::Local;
use crate::front::s3::S3;
use crate::front::{self, node};
use crate::index::NodeId;
use crate::metrics;
use crate::site::member::{Member, OWNER as NODE};
use crate::site::peers::Peers;
use crate::site::{self, Role};
use crate::store::{Disks, Store};
use crate::tasks::{Tick, Upkeep};
use crate::tier1::Drive;
use crate::users::Watched;

/// Where processes of the machine come to the node's memory, in its directory.
const MEMORY: &str = "memory.sock";

/// What the process has for its node.
#[derive(Debug)]
pub struct Deps {
    pub metrics: Metrics,
    /// Says what is wrong with the store, as long as it is.
    pub health: Health,
}

/// A running node. [`stop`](Self::stop) ends it in order; dropping it does not wait for what it serves.
#[derive(Debug)]
#[must_use = "the node ends when this is dropped"]
pub struct Service {
    /// Where S3 is served.
    pub s3: SocketAddr,
    /// The same over TLS.
    pub s3_tls: Option<SocketAddr>,
    /// Where the node protocol is spoken.
    pub node: SocketAddr,
    /// The same over TLS.
    pub node_tls: Option<SocketAddr>,
    // They are dropped in this order.
    faces: Vec<s3::Service>,
    nodes: Vec<node::Service>,
    local: Option<Arc<Local>>,
    /// There until the node ends.
    requests: Option<rt::Task>,
    /// Keeps it a member of a site, or counts the leases of those.
    of_site: Option<rt::Task>,
    upkeep: Upkeep,
    store: Arc<Store>,
    _lock: File,
}

/// Starts the node of a directory. Who connects before it has recovered waits.
///
/// # Errors
/// `Conflict`: another one runs there. `Invalid`: the configuration or the file of users. `Unavailable`: an address cannot be listened on.
/// What the store says.
///
/// # Panics
/// If the metrics have a node already.
pub async fn start(config: Config, deps: Deps) -> Result<Service> {
    let doors = Doors::open(&config).await?;
    let front = config.s3();
    let limits = config.node_limits();
    let metrics = deps.metrics.clone();
    let address = config.site.as_ref().map(|site| site.address);
    let speaks_tls = authority(&config).is_some();
    let Recovered {
        lock,
        store,
        local,
        face,
        users,
    } = apart(move || recover(&config, &metrics)).await??;
    let setup = Setup {
        config: front,
        users: users.users().clone(),
        backend: face,
        tls: None,
        counters: s3::Counters::new(&deps.metrics),
    };
    let faces = serve_s3(doors.s3, &setup)?;
    let counters = node::Counters::new(&deps.metrics);
    let shared = node::Shared::default();
    let nodes = doors.node.into_iter().map(|(listener, tls)| {
        let setup = node::Setup {
            limits,
            users: users.users().clone(),
            peers: users.peers().clone(),
            store: store.clone(),
            shared: shared.clone(),
            local: local.clone(),
            tls,
            counters: counters.clone(),
        };
        let door = node::serve(listener, setup);
        door.map_err(|error| Error::io("serve the node protocol", error))
    });
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let own = nodes
        .get(usize::from(speaks_tls))
        .expect("it has a certificate");
    let address = address.map(|address| address.unwrap_or(own.addr));
    let of_site = keep_site(&store, address, &deps.health)?;
    let requests = keep_s3(store.clone());
    let store = Arc::new(store);
    metrics::declare(&deps.metrics, Arc::downgrade(&store));
    let upkeep = Upkeep::start(Tick {
        store: Store::clone(&store),
        users,
        shown: doors.shown,
        health: deps.health,
    })?;
    let [s3, s3_tls] = [0, 1].map(|n| faces.get(n).map(|face| face.addr));
    let [node, node_tls] = [0, 1].map(|n| nodes.get(n).map(|door| door.addr));
    Ok(Service {
        s3: s3.expect("it was the first"),
        s3_tls,
        node: node.expect("it was the first"),
        node_tls,
        faces,
        nodes,
        local,
        of_site: Some(of_site),
        requests: Some(requests),
        upkeep,
        store,
        _lock: lock,
    })
}

impl Service {
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Has done soon what is done once a second: to take up users that were added, for instance.
    pub fn maintain(&self) {
        self.upkeep.tell();
    }

    /// Waits until the node cannot go on, and says why: whoever has started it starts it again.
    pub async fn failed(&mut self) -> String {
        self.upkeep.over().await
    }

    /// Takes no more requests, lets those end that are served, within their limit, and closes the store.
    ///
    /// # Errors
    /// `Unavailable`: there is no thread to be had, and it was not waited for.
    pub async fn stop(mut self) -> Result<()> {
        for face in self.faces.drain(..) {
            face.stop().await;
        }
        for door in self.nodes.drain(..) {
            door.stop().await;
        }
        if let Some(task) = self.of_site.take() {
            task.cancel().await;
        }
        if let Some(member) = self.store.member() {
            member.leave().await;
        }
        // What other processes have told is done when this is over.
        if let Some(local) = self.local.take() {
            apart(move || local.stop()).await?;
        }
        // What was on its way to S3 is sent again at the next start.
        if let Some(requests) = self.requests.take() {
            requests.cancel().await;
        }
        // It waits for the disk.
        apart(move || drop(self)).await
    }
}

struct Recovered {
    lock: File,
    store: Store,
    local: Option<Arc<Local>>,
    face: Arc<S3>,
    users: Watched,
}

fn recover(config: &Config, metrics: &Metrics) -> Result<Recovered> {
    if config.dir.as_os_str().is_empty() {
        return Err(Error::new(Kind::Invalid, "a node needs a directory"));
    }
    let making = |error| Error::io(format!("make {}", config.dir.display()), error);
    durable::make_private_dir(&config.dir).map_err(making)?;
    let lock = lock(&config.dir)?;
    let runtime = tokio::runtime::Handle::current();
    let member = match &config.site {
        None => None,
        Some(site) => Some(of_member(config, site, runtime.clone())?),
    };
    let own = member.as_ref().map(|(_, own)| own.clone());
    let users = Watched::open(config.users(), own)?;
    let [log, objects] = ["log", "objects"].map(|name| config.dir.join(name));
    let opening = |dir: &Path| format!("open {}", dir.display());
    let disks = Disks {
        log: Arc::new(Directory::open(&log).map_err(|e| Error::io(opening(&log), e))?),
        objects: Arc::new(Drive::open(&objects).map_err(|e| Error::io(opening(&objects), e))?),
    };
    let mut of_store = config.store();
    if let Some(behind) = &config.tier2 {
        let Behind { remote, cached } = behind::open(behind, &config.dir, metrics)?;
        of_store.remote = Some(remote);
        of_store.cached = cached;
    }
    let (node, role) = match member {
        None => (NODE, Role::Owner),
        Some((member, _)) => (of_store.member.insert(member).node(), Role::Member),
    };
    let known = site::read(&config.dir, role)?;
    let store = Store::open(&of_store, node, disks)?;
    let face = Arc::new(S3::open(store.clone())?);
    let local = match store.is_member() {
        // What a member has shared would be read when it has lost touch with the owner of the names.
        true => None,
        false => {
            let peers = Peers::new(users.as_peer(), tls_of_site(config)?, runtime);
            site::begin(&config.dir, known, &store, peers)?;
            let local = Local::start(&config.dir.join(MEMORY), store.clone())?;
            Some(Arc::new(local))
        }
    };
    Ok(Recovered {
        lock,
        local,
        face,
        store,
        users,
    })
}

/// What a member is, and how the others of the site know it.
fn of_member(
    config: &Config,
    site: &config::Site,
    runtime: tokio::runtime::Handle,
) -> Result<(Arc<Member>, User)> {
    let wrong = |what: &str| Error::new(Kind::Invalid, what);
    if config.tier2.is_some() {
        return Err(wrong(
            "only the node that owns the names of a site has S3 behind it",
        ));
    }
    if NodeId(site.node) <= NODE {
        return Err(wrong("the number of a member of a site is 2 or higher"));
    }
    let path = &site.credentials;
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Error::io(format!("read {}", path.display()), error))?;
    let credentials = Credentials::parse(&text)?;
    let user = User {
        access_key: credentials.access_key.clone(),
        secret: Secret::new(credentials.secret.clone()),
        tenant: front::s3::peer(),
    };
    let member = Member::new(site::member::Setup {
        node: NodeId(site.node),
        owner: site.index,
        credentials,
        tls: tls_of_site(config)?,
        dir: config.dir.clone(),
        runtime,
    });
    Ok((member, user))
}

/// What goes on in the background as long as the node is one of a site, which listens there if it is a member.
fn keep_site(store: &Store, address: Option<SocketAddr>, health: &Health) -> Result<rt::Task> {
    if let (Some(member), Some(address)) = (store.member(), address) {
        if address.ip().is_unspecified() {
            let what = "other nodes do not find this one: `address` of `site` in the settings is to say where it listens";
            return Err(Error::new(Kind::Invalid, what));
        }
        health.block("site", "it is not a member yet");
        let member = Arc::clone(member);
        let run = member.run(store.clone(), address);
        return Ok(rt::spawn("geds member", run));
    }
    let owner = store.owner().expect("it is one or the other");
    let watch = Arc::clone(owner).watch_leases(store.clone());
    Ok(rt::spawn("geds leases", watch))
}

/// Makes the requests to S3 that nobody waits for, if there is one.
fn keep_s3(store: Store) -> rt::Task {
    let requests = async move { store.run_requests().await };
    rt::spawn("geds requests to S3", requests)
}

/// A second node would fence the first one, and both would be of no use.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let locking = |error| Error::io(format!("lock {}", path.display()), error);
    let file = File::create(&path).map_err(locking)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(locking(error)),
        Err(TryLockError::WouldBlock) => {
            let dir = dir.display();
            let what =
                format!("a node runs in {dir} already: use another directory, or end that one");
            Err(Error::new(Kind::Conflict, what))
        }
    }
}

/// What the node shows to those who speak TLS with it.
fn show(tls: &config::Tls) -> Result<(Shown, Arc<ServerConfig>)> {
    let wrong = |error| Error::caused(Kind::Invalid, "use the certificate of the node", error);
    let shown = Shown::open(tls.certificate.clone(), tls.key.clone()).map_err(wrong)?;
    let config = shown.config().map_err(wrong)?;
    Ok((shown, config))
}

fn authority(config: &Config) -> Option<&Path> {
    config.tls.as_ref()?.authority.as_deref()
}

/// How it speaks TLS with other nodes, if it does.
fn tls_of_site(config: &Config) -> Result<Option<Arc<ClientConfig>>> {
    let Some(path) = authority(config) else {
        return Ok(None);
    };
    let doing = || format!("use the authority in {}", path.display());
    let pem = std::fs::read_to_string(path).map_err(|error| Error::io(doing(), error))?;
    let config = auth::anonymous_client(&pem);
    let config = config.map_err(|error| Error::caused(Kind::Invalid, doing(), error))?;
    Ok(Some(config))
}

fn serve_s3(doors: Vec<Door>, setup: &Setup) -> Result<Vec<s3::Service>> {
    let serve = |(listener, tls)| {
        let setup = Setup {
            tls,
            ..setup.clone()
        };
        s3::serve(listener, setup).map_err(|error| Error::io("serve S3", error))
    };
    doors.into_iter().map(serve).collect()
}

/// Where somebody may come in, and what is shown to those who speak TLS: none without a certificate.
type Door = (TcpListener, Option<Arc<ServerConfig>>);

struct Doors {
    shown: Option<Shown>,
    s3: Vec<Door>,
    node: Vec<Door>,
}

impl Doors {
    async fn open(config: &Config) -> Result<Self> {
        let shown = config.tls.as_ref().map(show).transpose()?;
        let (shown, tls) = shown.unzip();
        let Config { s3, node, .. } = config;
        Ok(Self {
            shown,
            s3: doors([s3.listen, s3.listen_tls], tls.as_ref()).await?,
            node: doors([node.listen, node.listen_tls], tls.as_ref()).await?,
        })
    }
}

/// The plain one first.
async fn doors(
    [plain, secure]: [SocketAddr; 2],
    tls: Option<&Arc<ServerConfig>>,
) -> Result<Vec<Door>> {
    let mut doors = vec![(listen(plain).await?, None)];
    if let Some(tls) = tls {
        doors.push((listen(secure).await?, Some(Arc::clone(tls))));
    }
    Ok(doors)
}

async fn listen(addr: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(addr).await;
    listener.map_err(|error| Error::io(format!("listen on {addr}"), error))
}

/// Does what may wait for a disk where that is allowed.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = rt::blocking(work).await;
    done.map_err(|error| Error::io("wait for a thread", error))
}

#[cfg(test)]
mod tests;
