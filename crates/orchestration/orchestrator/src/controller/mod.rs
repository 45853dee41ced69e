//! The controller: what the north-bound interface and the wiring call. All methods are safe to call from any task.
//!
//! Requests (`requests`, `sites`) change records in the store, and nothing else. Background tasks (`tasks`) make blueprints of them, push those to sites,
//! and record what became of the requests. Reads (`reads`) are made of the mirror of the store and the reports of the sites (`state`).
//! A controller that is killed anywhere starts again from the store; any number of controllers on one store agree by compare-and-set.

pub(crate) mod failure;
mod feed;
pub(crate) mod modules;
pub(crate) mod reads;
mod records;
pub(crate) mod requests;
mod sites;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod tasks;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use auth::Authority;
use ids::Name;
use meta::{Condition, MetaStore, Write};
use nbi::Operation;
use tokio::sync::{Notify, watch};

pub use modules::Upload;
pub use reads::{BlockView, Event, LogPiece, UnitView, Watch};
pub use records::Role;
pub use requests::Terms;

use failure::Failure;
use feed::Feed;
use modules::Modules;
use state::State;
use store::{Gone, Store, Worker};
use tasks::Shown;

use crate::core::inventory::Now;
use crate::link::Connections;
use crate::metrics::Metrics;
use crate::{Deps, Error, ErrorKind, Explainer, series};

/// Cheap to clone; all clones are one controller.
#[derive(Clone, Debug)]
pub struct Controller(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// Dropped before the store, whose end says that the directory can be used again.
    series: Arc<series::Store>,
    pub store: Store,
    state: Mutex<State>,
    pub feed: Feed,
    pub modules: Modules,
    pub connections: Connections,
    pub explainer: Option<Arc<dyn Explainer>>,
    /// Where it is asked what may wait for a disk.
    pub asker: Worker,
    pub authority: Authority,
    pub metrics: Metrics,
    pub signals: Signals,
    /// Where plans are made: for large fleets that takes a while.
    pub planner: Worker,
    pub failure: Failure,
    shown: Mutex<Shown>,
    started: Instant,
}

/// What wakes the tasks. Each also runs now and then by itself.
#[derive(Debug)]
pub(crate) struct Signals {
    pub plan: Notify,
    pub execute: Notify,
    pub offers: Notify,
    pub project: Notify,
    pub sweep: Notify,
    /// Counts reports of sites, for those who wait for one.
    pub reports: watch::Sender<u64>,
}

impl Signals {
    fn new() -> Self {
        Self {
            plan: Notify::new(),
            execute: Notify::new(),
            offers: Notify::new(),
            project: Notify::new(),
            sweep: Notify::new(),
            reports: watch::Sender::new(0),
        }
    }

    /// The store has news.
    pub(crate) fn all(&self) {
        self.plan.notify_one();
        self.execute.notify_one();
        self.offers.notify_one();
        self.project.notify_one();
    }

    /// A site has spoken.
    pub(crate) fn report(&self) {
        self.offers.notify_one();
        self.project.notify_one();
        self.reports.send_modify(|count| *count += 1);
    }
}

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS_MAX: usize = 32;

/// What is to be written, and what it depends on.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub conditions: Vec<Condition>,
    pub writes: Vec<Write>,
}

impl Controller {
    pub(crate) fn open(
        store: Arc<dyn MetaStore>,
        dir: &Path,
        series: Arc<series::Store>,
        deps: Deps,
    ) -> Result<(Self, Gone), Error> {
        let state = State::load(store.as_ref())?;
        let failure = Failure::new();
        let (store, gone) = Store::new(store, &failure)?;
        let inner = Inner {
            series,
            store,
            state: Mutex::new(state),
            feed: Feed::new(),
            modules: Modules::open(&dir.join("modules"), &failure)?,
            connections: Connections::default(),
            explainer: deps.explainer,
            asker: Worker::start("learning-requests", &failure)?,
            authority: deps.authority,
            metrics: Metrics::new(&deps.metrics),
            signals: Signals::new(),
            planner: Worker::start("planner", &failure)?,
            failure,
            shown: Mutex::default(),
            started: rt::now(),
        };
        inner.forget_series();
        Ok((Self(Arc::new(inner)), gone))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // The mirror is rebuilt from the store when it does not follow; a panic in a task ends the process' part that had it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        let since = rt::now().saturating_duration_since(self.started);
        let wall = rt::wall().duration_since(SystemTime::UNIX_EPOCH);
        Now {
            mono_ms: ms(since),
            wall_ms: ms(wall.unwrap_or_default()),
        }
    }

    /// Takes over what anybody has committed.
    pub(crate) fn catch_up(&self) -> Result<(), Error> {
        if self.state().catch_up(self.store.meta())? {
            self.forget_series();
            self.signals.all();
        }
        Ok(())
    }

    /// Lets go what sites have measured that were forgotten.
    fn forget_series(&self) {
        let forgotten = std::mem::take(&mut self.state().dirty.forgotten);
        for (site, at_ms) in forgotten {
            self.series.forget(site.as_str(), at_ms);
        }
    }

    /// Decides, commits, and sees it in the mirror; decides again if something that it depends on has changed meanwhile. `Ok(Err(…))`: there is
    /// nothing to commit.
    pub(crate) async fn change<T, U>(
        &self,
        decide: impl Fn(&State) -> Result<Result<(Draft, T), U>, Error>,
    ) -> Result<Result<T, U>, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let decision = decide(&self.state())?;
            let (draft, outcome) = match decision {
                Ok(decided) => decided,
                Err(nothing) => {
                    // It was decided by what is in the store; that shall be seen as well.
                    self.catch_up()?;
                    return Ok(Err(nothing));
                }
            };
            let committed = self.store.commit(draft.conditions, draft.writes).await?;
            self.catch_up()?;
            if committed.is_some() {
                return Ok(Ok(outcome));
            }
        }
        let message = "others change the same thing all the time: try again";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    pub(crate) fn operation(&self, org: &Name, id: &str) -> Result<Operation, Error> {
        let state = self.state();
        let found = state.operations.get(org).and_then(|rows| rows.get(id));
        let row = found.ok_or_else(|| Error::not_found("operation", id))?;
        Ok(reads::operation(&state, &row.record, org, self.now()))
    }
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
