//! The agent of one site: it sees to it that what is configured runs here, and says what does.
//!
//! It holds no guest. Units run in processes that [`workload::Driver`]s start; those outlive the agent, and a later agent finds them again.
//!
//! What it guarantees:
//! - **Autonomy.** It starts from its ledger, and dials afterwards. A site without its controller runs what it was told last, also after
//!   a reboot. Losing the link, sleeping, and a full disk have names, and restart nothing. Only if its ledger is damaged it waits for its
//!   controller, and meanwhile neither starts nor stops anything.
//! - **Order.** A configuration is durable before it is in force, and it is in force before it is reported. An older generation than
//!   the one in force is refused, and the inventory says so.
//! - **Level, not edge.** Every period, and whenever something happens, what is wanted is compared with what is observed. A message
//!   that is lost is made up for. What helps nothing is tried ever more seldom; what runs is never restarted; what has ended by
//!   itself stays ended; what nobody has configured is stopped.
//! - **Calls that hang** keep neither the link nor other units waiting, and no samples but those of their driver.
//! - **Bounds.** Samples wait for the link in a bounded buffer, the oldest make room, and that is counted. A controller that speaks nonsense
//!   is left, and dialled again later. A module is taken only if its SHA-256 is right.
//! - **Missing is not zero.** A counter of the kernel that cannot be read gives no sample.
//!
//! What it is not: it does not decide what runs where (the controller), nor how a unit runs (its driver).
//!
//! ```text
//!   controller ◀── link ──▶ hub ◀──▶ agent ── workers ──▶ drivers ──▶ processes
//!    (TLS)        (1 thread)  ▲     (1 thread)  (≤ 64)        ▲
//!                             └── watch: two threads a driver, one that samples the machine
//! ```
//!
//! Reading order: `core/reconcile` (the decisions), `agent` (the loop), `disk/ledger`, `link`, `watch`, `share`, `sample`.
#![forbid(unsafe_code)]

mod agent;
mod clock;
mod core;
mod disk;
mod error;
mod hub;
mod join;
mod link;
mod metrics;
mod sample;
mod share;
mod watch;
mod workers;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use auth::Tls;
use ids::{Name, UnitId};
use workload::Driver;
use workload::link::Inventory;

use agent::{Agent, Driven, State};
use clock::Clock;
use disk::identity::Membership;
use disk::ledger::Ledger;
use disk::modules::Modules;
use hub::Hub;
use link::{Introduction, Link};
use watch::Poke;

pub use error::{Error, Kind};
pub use join::join;
pub use share::{Share, Wanted};

/// Where an agent keeps its modules, inside its directory: each is called `SHA256.wasm`.
pub const MODULES: &str = "modules";

/// The agent's own threads neither recurse nor keep much on their stacks.
const STACK_BYTES: usize = 512 << 10;
/// How long the end of a thread is waited for that may hang in a driver.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Config {
    /// The directory that [`join`] has filled; the ledger and the modules are there, too.
    pub dir: PathBuf,
    /// The name under which it has joined.
    pub site: Name,
    pub share: Share,
}

/// What becomes of the units when the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// They go on, and the next agent finds them.
    LeaveUnits,
    /// They are stopped first. The next agent starts them again.
    StopUnits,
}

/// A running agent. Dropping it stops it and leaves its units.
#[derive(Debug)]
pub struct Site {
    hub: Arc<Hub>,
    agent: Option<JoinHandle<Vec<UnitId>>>,
    others: Vec<JoinHandle<()>>,
    pokes: Vec<Arc<Poke>>,
    _lock: fs::File,
}

/// Starts the agent of a site that has joined.
///
/// # Errors
/// `NotFound` when it has not, `Conflict` when another agent runs there, `Corrupt` when its identity cannot be read, `Internal` when the system
/// refuses files or threads.
///
/// # Panics
/// When two of the drivers run the same kind of units, or `metrics` has an agent's metrics already.
pub fn start(
    config: Config,
    drivers: Vec<Arc<dyn Driver>>,
    metrics: &telemetry::Metrics,
) -> Result<Site, Error> {
    let dir = &config.dir;
    private_dir(dir)?;
    let lock = lock(dir)?;
    let membership = Membership::load(dir)?.ok_or_else(|| {
        let why = format!(
            "{} has joined no controller: use --join and --token once",
            dir.display()
        );
        Error::new(Kind::NotFound, why)
    })?;
    if membership.site != config.site {
        let (dir, site) = (dir.display(), membership.site);
        let why = format!("{dir} belongs to the site {site}, not to {}", config.site);
        return Err(Error::new(Kind::Conflict, why));
    }
    let modules = Modules::open(dir.join(MODULES))
        .map_err(|error| Error::io("make a folder for modules", error))?;
    let tls = Tls::new(&membership.identity)
        .map_err(|error| Error::io("use the identity of this site", error))?;
    let (ledger, damages) = Ledger::open(dir);
    for damage in &damages {
        tracing::error!(damage, "a copy of the ledger is damaged");
    }
    let hub = Hub::new(metrics::Metrics::new(metrics));
    let hub = Arc::new(hub.map_err(|error| Error::io("make an eventfd", error))?);
    let state = State::begin(&ledger, damages);
    hub.outbox().latest.generation = state
        .in_force(&ledger)
        .map_or_else(Default::default, |config| config.generation);
    let share = Arc::new(config.share);
    let link = Link {
        hub: Arc::clone(&hub),
        modules: modules.clone(),
        tls,
        controller: membership.controller,
        introduction: Introduction {
            site: membership.site.clone(),
            labels: membership.labels,
            cpu_share: share.cores(),
            cpu_share_by: share.by().to_owned(),
        },
    };
    let agent = Agent {
        site: membership.site,
        hub: Arc::clone(&hub),
        clock: Clock::start(),
        drivers: driven(drivers),
        modules,
        share,
        state,
        ledger,
    };
    let mut site = Site {
        hub,
        agent: None,
        others: Vec::new(),
        pokes: Vec::new(),
        _lock: lock,
    };
    // If a thread cannot be had, those that run are ended by the drop.
    site.spawn(agent, link)
        .map_err(|error| Error::io("start a thread", error))?;
    Ok(site)
}

fn driven(drivers: Vec<Arc<dyn Driver>>) -> std::collections::BTreeMap<&'static str, Driven> {
    let mut by_kind = std::collections::BTreeMap::new();
    for driver in drivers {
        let kind = driver.kind();
        let poke = Arc::default();
        let earlier = by_kind.insert(kind, Driven { driver, poke });
        assert!(earlier.is_none(), "there are two drivers of {kind} units");
    }
    by_kind
}

impl Site {
    fn spawn(&mut self, agent: Agent, link: Link) -> std::io::Result<()> {
        for (kind, driven) in &agent.drivers {
            let (driver, poke) = (Arc::clone(&driven.driver), Arc::clone(&driven.poke));
            let (share, hub, clock) =
                (Arc::clone(&agent.share), Arc::clone(&self.hub), agent.clock);
            self.pokes.push(Arc::clone(&poke));
            let body = move || watch::observe(&*driver, &share, &hub, clock, &poke);
            self.others
                .push(rt::thread(format!("observe-{kind}"), STACK_BYTES, body)?);
        }
        let drivers: Vec<_> = agent
            .drivers
            .values()
            .map(|d| Arc::clone(&d.driver))
            .collect();
        for driver in &drivers {
            let (driver, hub, site) = (
                Arc::clone(driver),
                Arc::clone(&self.hub),
                agent.site.clone(),
            );
            let poke = self.poke();
            let name = format!("sample-{}", driver.kind());
            let body = move || watch::sample_units(&site, &*driver, &hub, &poke);
            self.others.push(rt::thread(name, STACK_BYTES, body)?);
        }
        let (share, hub, site) = (
            Arc::clone(&agent.share),
            Arc::clone(&self.hub),
            agent.site.clone(),
        );
        let poke = self.poke();
        let body = move || watch::sample(&site, &drivers, &share, &hub, &poke);
        self.others
            .push(rt::thread("sample".into(), STACK_BYTES, body)?);
        // What was running is looked for first, and runs again; then comes the link.
        self.agent = Some(rt::thread("agent".into(), STACK_BYTES, move || {
            agent.run()
        })?);
        self.others
            .push(rt::thread("link".into(), STACK_BYTES, move || link.run())?);
        Ok(())
    }

    fn poke(&mut self) -> Arc<Poke> {
        let poke = Arc::<Poke>::default();
        self.pokes.push(Arc::clone(&poke));
        poke
    }

    /// What the agent reports to its controller.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        self.hub.outbox().latest.clone()
    }

    /// Ends the agent.
    ///
    /// # Errors
    /// When units should have been stopped and still run.
    pub fn stop(mut self, mode: StopMode) -> Result<(), Error> {
        let left = self.end(mode)?;
        if left.is_empty() {
            return Ok(());
        }
        let left: Vec<_> = left.iter().map(UnitId::as_str).collect();
        let why = format!("these units still run: {}", left.join(", "));
        Err(Error::new(Kind::Unavailable, why))
    }

    /// Whether the agent has ended although nobody has stopped it: a mistake of ours, that is in the log.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let is_over = |thread: &JoinHandle<_>| thread.is_finished();
        self.agent.as_ref().is_none_or(is_over) || self.others.iter().any(JoinHandle::is_finished)
    }

    fn end(&mut self, mode: StopMode) -> Result<Vec<UnitId>, Error> {
        self.hub.tell(|inbox| inbox.stop = Some(mode));
        let panicked = |_| Error::new(Kind::Internal, "a thread of the agent has panicked");
        let agent = self.agent.take().map(JoinHandle::join);
        let mut left = agent.unwrap_or(Ok(Vec::new())).map_err(panicked);
        self.hub.report(|outbox| outbox.is_stopping = true);
        for poke in &self.pokes {
            poke.stop();
        }
        let began = rt::now();
        for thread in self.others.drain(..) {
            while !thread.is_finished() && began.elapsed() < PATIENCE {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            // One that hangs in a driver is left to the end of the process.
            if thread.is_finished() {
                left = left.and_then(|left| thread.join().map(|()| left).map_err(panicked));
            }
        }
        left
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = self.end(StopMode::LeaveUnits) {
            tracing::error!(%error, "the agent did not end in order");
        }
    }
}

fn private_dir(dir: &Path) -> Result<(), Error> {
    let made = durable::make_private_dir(dir);
    made.map_err(|error| Error::io(format!("make {}", dir.display()), error))
}

/// Two agents in one directory would not know of each other.
fn lock(dir: &Path) -> Result<fs::File, Error> {
    let context = |error| Error::io(format!("lock {}", dir.display()), error);
    let file = fs::File::create(dir.join("agent.lock")).map_err(context)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let why = format!("another agent runs in {}", dir.display());
            Err(Error::new(Kind::Conflict, why))
        }
        Err(fs::TryLockError::Error(error)) => Err(context(error)),
    }
}
