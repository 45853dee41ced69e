//! The Learning Plane as a service: one thread that samples and decides, one that calls the actuator.
//!
//! The second one is there so that an actuator that hangs holds up nothing but moves. Neither calls out while it holds the lock.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ids::Name;

use crate::config::Config;
use crate::core::ledger::Record;
use crate::core::plane::{Answer, Effect, Plane};
use crate::decision::{Decision, Target};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::seam::{Actuator, Sensor, TargetId, Time};
use crate::store::Store;

/// Calls to the actuator that may wait.
const CALLS_MAX: usize = 256;
const STACK_BYTES: usize = 1 << 20;

/// The running Learning Plane. It stops when this is dropped; moves that are under way then are followed up after the next start.
#[derive(Debug)]
pub struct Learning {
    state: Arc<Mutex<State>>,
    /// Dropped to stop.
    running: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    plane: Plane,
    store: Store,
    metrics: Metrics,
    /// `None` once it stops.
    calls: Option<SyncSender<Call>>,
}

#[derive(Debug)]
enum Call {
    Migrate {
        key: String,
        target: TargetId,
        to: Name,
    },
    Observe {
        key: String,
    },
}

impl Learning {
    /// Starts with the ledger in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When the ledger cannot be opened or is damaged, and when the system refuses a thread.
    pub fn start(
        config: Config,
        dir: &Path,
        metrics: &telemetry::Metrics,
        sensor: Arc<dyn Sensor>,
        actuator: Arc<dyn Actuator>,
    ) -> Result<Self, Error> {
        let store = Store::open(dir, config.ledger_bytes_max)?;
        let period = config.period;
        let (calls, called) = sync_channel(CALLS_MAX);
        let state = Arc::new(Mutex::new(State {
            plane: Plane::new(config, store.recovered(), wall()),
            store,
            metrics: Metrics::new(metrics),
            calls: Some(calls),
        }));
        let (running, stop) = sync_channel(0);
        let mut learning = Self {
            state: Arc::clone(&state),
            running: Some(running),
            threads: Vec::new(),
        };
        let shared = Arc::clone(&state);
        learning.thread("learning", dir, move || {
            sense(&shared, &*sensor, period, &stop)
        })?;
        learning.thread("learning-act", dir, move || {
            act(&state, &*actuator, &called)
        })?;
        Ok(learning)
    }

    fn thread(
        &mut self,
        name: &str,
        dir: &Path,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let thread = rt::thread(name.to_owned(), STACK_BYTES, body);
        self.threads.push(thread.map_err(|source| Error::Io {
            doing: "start a thread for",
            path: dir.display().to_string(),
            source,
        })?);
        Ok(())
    }

    /// Watches a target, or watches it in another way from now on. What was learned of it is kept, unless it is another program;
    /// what its conditions have held for begins anew. To say the same again changes nothing.
    ///
    /// # Errors
    /// When the policy needs a KPI and there is none, when the KPI is no time, and when there are too many targets.
    pub fn apply(&self, target: Target) -> Result<(), Error> {
        lock(&self.state).plane.apply(target)
    }

    /// Watches it no longer. A move that is under way goes on.
    pub fn remove(&self, id: &TargetId) {
        lock(&self.state).plane.remove(id);
    }

    #[must_use]
    pub fn targets(&self) -> Vec<TargetId> {
        lock(&self.state).plane.targets()
    }

    /// Runs the rules `apiRequest("path")` of a target's policy now, and returns what they decide, in the order of the rules. It waits for the
    /// disk if that is a move.
    ///
    /// # Errors
    /// When it is not watched, or has no such rule.
    pub fn request(&self, id: &TargetId, path: &str) -> Result<Vec<Decision>, Error> {
        let mut state = lock(&self.state);
        let (mut decisions, effects) = state.plane.request(wall(), id, path)?;
        state.carry_out(effects);
        // A move that could not be made durable has failed meanwhile.
        let known = state.plane.decisions(id);
        for decision in &mut decisions {
            if let Some(now) = known.iter().find(|known| known.id == decision.id) {
                decision.clone_from(now);
            }
        }
        Ok(decisions)
    }

    /// The last decisions about a target, newest first.
    #[must_use]
    pub fn explain(&self, id: &TargetId) -> Vec<Decision> {
        lock(&self.state).plane.decisions(id)
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.running = None;
        lock(&self.state).calls = None;
        for thread in self.threads.drain(..) {
            // It has panicked, and said so; there is nothing left to stop.
            drop(thread.join());
        }
    }
}

fn wall() -> Time {
    Time::of(rt::wall())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .expect("whoever panics under this lock has found a mistake of ours")
}

fn sense(state: &Mutex<State>, sensor: &dyn Sensor, period: Duration, stop: &Receiver<()>) {
    while stop.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
        let targets = lock(state).plane.targets();
        let observation = sensor.sample(&targets);
        let mut state = lock(state);
        let effects = state.plane.observe(wall(), observation);
        state.carry_out(effects);
        state.measure();
    }
}

fn act(state: &Mutex<State>, actuator: &dyn Actuator, calls: &Receiver<Call>) {
    while let Ok(call) = calls.recv() {
        let (key, answer) = match call {
            Call::Migrate { key, target, to } => {
                let called = actuator.migrate(&key, &target, &to);
                (key, Answer::Called(called))
            }
            Call::Observe { key } => {
                let status = actuator.observe(&key);
                (key, Answer::Observed(status))
            }
        };
        let mut state = lock(state);
        let effects = state.plane.answer(wall(), &key, answer);
        state.carry_out(effects);
    }
}

impl State {
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let (key, call) = match effect {
                Effect::Act(intent) => {
                    let key = intent.key().to_owned();
                    let call = Call::Migrate {
                        key: key.clone(),
                        target: intent.target.clone(),
                        to: intent.to.clone(),
                    };
                    tracing::info!(key, target = %intent.target, from = %intent.from, to = %intent.to, "move");
                    let recorded = self.store.record(Record::Intent(intent));
                    (key, recorded.map(|()| call).map_err(|error| told(&error)))
                }
                Effect::Ask(key) => (key.clone(), Ok(Call::Observe { key })),
                Effect::Close(closing) => {
                    tracing::info!(key = closing.key, outcome = %closing.outcome, "move ended");
                    // If it is not recorded it is asked about again after a restart.
                    if let Err(error) = self.store.record(Record::Outcome(closing)) {
                        tracing::error!(error = told(&error), "the end of a move is not recorded");
                    }
                    continue;
                }
            };
            let handed = call.and_then(|call| self.hand_on(call));
            if let Err(why) = handed {
                tracing::error!(key, why, "the actuator is not called");
                let more = self.plane.answer(wall(), &key, Answer::NotCalled(why));
                self.carry_out(more);
            }
        }
    }

    fn hand_on(&self, call: Call) -> Result<(), String> {
        let calls = self.calls.as_ref().ok_or("the Learning Plane stops")?;
        let full = |_| "too many calls wait for the actuator".to_owned();
        calls.try_send(call).map_err(full)
    }

    fn measure(&mut self) {
        let (targets, open) = (self.plane.targets().len(), self.plane.n_open());
        self.metrics.take(&mut self.plane.tally);
        self.metrics.levels(targets, open, self.store.len());
    }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
