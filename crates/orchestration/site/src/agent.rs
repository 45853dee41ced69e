//! The agent's own loop: take the news, keep what must be kept, find out what is to be done, have it done, say how it is.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ids::{Digest, Generation, Name, UnitId};
use workload::link::{Condition, Inventory, PERIOD};
use workload::{Driver, DriverError, SiteConfig};

use crate::StopMode;
use crate::clock::Clock;
use crate::core::admission::{Verdict, judge};
use crate::core::jumps::{self, Jump, Reading};
use crate::core::reconcile::{
    Action, CALL_SLOW, Failure, Observation, Reconciler, View, module_needed,
};
use crate::disk::ledger::{AllOffers, Ledger, Record};
use crate::disk::modules::Modules;
use crate::hub::{BUSY, Hub, Inbox, LOG_READS_MAX, LinkState, LogPiece, LogRead, keep_offers};
use crate::link::LINK_LOST;
use crate::share::Share;
use crate::watch::{Poke, same_but_log};
use crate::workers::Workers;

/// How long something that happened once is reported.
const NEWS: Duration = Duration::from_secs(60);
/// The most such things at one time.
const EVENTS_MAX: usize = 8;
/// A module that could not be had is asked for again after this time.
const FETCH_AGAIN: Duration = Duration::from_secs(1);
/// How long units may take to stop when the site stops with them.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A driver, and how to wake the one who observes it.
#[derive(Debug)]
pub(crate) struct Driven {
    pub driver: Arc<dyn Driver>,
    pub poke: Arc<Poke>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub site: Name,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    pub drivers: BTreeMap<&'static str, Driven>,
    pub modules: Modules,
    pub share: Arc<Share>,
    pub ledger: Ledger,
    pub state: State,
}

/// What an agent has in mind.
#[derive(Debug, Default)]
pub(crate) struct State {
    reconciler: Reconciler,
    workers: Workers,
    observed: BTreeMap<&'static str, Observation>,
    offers: AllOffers,
    /// A configuration that is good, but is not in the ledger yet.
    config_to_keep: Option<SiteConfig>,
    offers_to_keep: bool,
    ledger_failure: Option<FailedWrite>,
    /// What was wrong with the ledger at the start. Until a controller has said what is to run, what was read may be out of date, and nothing is
    /// in force.
    ledger_damages: Vec<String>,
    refused: Option<String>,
    lacking: BTreeMap<Digest, String>,
    fetch_failures: BTreeMap<Digest, FailedWrite>,
    has_old_modules: bool,
    log_places: Arc<()>,
    link: Option<LinkState>,
    share_failure: Option<String>,
    uncounted: Option<String>,
    read_at: Option<Reading>,
    events: Vec<(Duration, Condition)>,
    last_call_ended: Duration,
    stopping: Option<(StopMode, Duration)>,
    reported: (Duration, Inventory),
}

#[derive(Debug)]
struct FailedWrite {
    why: String,
    is_full: bool,
    again_at: Duration,
}

impl FailedWrite {
    fn new(context: &str, error: &io::Error, again_at: Duration) -> Self {
        Self {
            why: format!("{context}: {error}"),
            is_full: durable::is_full(error),
            again_at,
        }
    }
}

impl State {
    /// What the ledger knows is where an agent begins.
    pub(crate) fn begin(ledger: &Ledger, damages: Vec<String>) -> Self {
        Self {
            offers: ledger.record().offers.clone(),
            ledger_damages: damages,
            has_old_modules: true,
            ..Self::default()
        }
    }

    /// What is to run, if that is known.
    pub(crate) fn in_force<'a>(&self, ledger: &'a Ledger) -> Option<&'a SiteConfig> {
        let is_sure = self.ledger_damages.is_empty();
        ledger.record().config.as_ref().filter(|_| is_sure)
    }
}

impl Agent {
    /// Runs until it is told to stop; returns the units that it should have stopped and could not.
    pub(crate) fn run(mut self) -> Vec<UnitId> {
        let mut wait = Duration::ZERO;
        loop {
            let inbox = self.hub.await_news(wait);
            let now = self.clock.now();
            self.take(inbox, now);
            self.look_at_clocks(now);
            self.keep(now);
            self.find_modules(now);
            self.act(now);
            self.publish(now);
            if let Some(units) = self.stopped(now) {
                return units;
            }
            wait = self.next_due(now).saturating_sub(now);
        }
    }

    fn take(&mut self, inbox: Inbox, now: Duration) {
        let state = &mut self.state;
        state.observed.extend(inbox.observed);
        for (unit, at, result) in inbox.ended {
            state.last_call_ended = state.last_call_ended.max(at);
            state.reconciler.ended(&unit, result, at, rt::random_u64());
        }
        if let Some(link) = inbox.link {
            state.link = Some(link);
        }
        if let Some(share) = inbox.share {
            state.share_failure = share.err();
        }
        if let Some(uncounted) = inbox.uncounted {
            state.uncounted = uncounted;
        }
        if let Some(mode) = inbox.stop {
            state.stopping = Some((mode, now));
        }
        for (digest, result) in inbox.fetched {
            match result {
                Ok(()) => drop(state.fetch_failures.remove(&digest)),
                Err(error) => {
                    let context = format!("fetch module {digest}");
                    let failure = FailedWrite::new(&context, &error, now + FETCH_AGAIN);
                    state.fetch_failures.insert(digest, failure);
                }
            }
        }
        if !inbox.offers.is_empty() {
            let before = state.offers.clone();
            keep_offers(&mut state.offers, inbox.offers);
            state.offers_to_keep |= before != state.offers;
        }
        if let Some(config) = inbox.config {
            self.consider(config);
        }
        for read in inbox.log_reads {
            self.read_log(read);
        }
    }

    fn consider(&mut self, offered: SiteConfig) {
        let state = &mut self.state;
        let current = self.ledger.record().config.as_ref();
        match judge(current, &offered) {
            Verdict::Have if state.ledger_damages.is_empty() => state.refused = None,
            // What was read from a damaged ledger is confirmed, and written anew.
            Verdict::Have | Verdict::Take => {
                let waiting = state.config_to_keep.as_ref();
                if waiting.is_none_or(|waiting| waiting.generation <= offered.generation) {
                    state.config_to_keep = Some(offered);
                }
            }
            Verdict::Refuse(why) => {
                tracing::warn!(why, "a configuration is refused");
                self.hub.metrics.refused.inc();
                state.refused = Some(why);
            }
        }
    }

    fn look_at_clocks(&mut self, now: Duration) {
        let state = &mut self.state;
        let reading = self.clock.reading();
        let before = state.read_at.replace(reading);
        state.events.retain(|(until, _)| now < *until);
        for jump in before.map_or_else(Vec::new, |before| jumps::between(before, reading)) {
            let (kind, message) = match jump {
                Jump::Slept(time) => ("Slept", format!("the machine slept for {time:.1?}")),
                Jump::SetForward(time) => (
                    "ClockJumped",
                    format!("the time was set forward by {time:.1?}"),
                ),
                Jump::SetBack(time) => (
                    "ClockJumped",
                    format!("the time was set back by {time:.1?}"),
                ),
            };
            tracing::warn!(kind, message, "the clocks jumped");
            state.events.push((now + NEWS, condition(kind, message)));
        }
        let excess = state.events.len().saturating_sub(EVENTS_MAX);
        state.events.drain(..excess);
    }

    /// Writes to the ledger what is not in it yet. A configuration is in force from then on, and not before.
    fn keep(&mut self, now: Duration) {
        let state = &mut self.state;
        let is_sure = state.ledger_damages.is_empty();
        let is_waiting = state.config_to_keep.is_some() || (state.offers_to_keep && is_sure);
        let is_time = |failure: &FailedWrite| failure.again_at <= now;
        if !is_waiting || !state.ledger_failure.as_ref().is_none_or(is_time) {
            return;
        }
        let mut record = Record {
            config: self.ledger.record().config.clone(),
            offers: state.offers.clone(),
        };
        if let Some(config) = &state.config_to_keep {
            let has = |unit: &UnitId| config.units.iter().any(|spec| spec.id == *unit);
            record.offers.retain(|unit, _| has(unit));
            record.config = Some(config.clone());
        }
        let offers = record.offers.clone();
        let mut stored = self.ledger.store(record.clone());
        if !is_sure && stored.is_ok() {
            // Both copies, so that the next agent doubts neither.
            stored = self.ledger.store(record);
        }
        if let Err(error) = stored {
            let failure = FailedWrite::new("write the ledger", &error, now + PERIOD);
            if state.ledger_failure.is_none() {
                tracing::error!(%error, "the ledger cannot be written; what runs goes on");
            }
            if let Some(config) = &state.config_to_keep {
                state.refused = Some(format!("generation {}: {}", config.generation, failure.why));
            }
            state.ledger_failure = Some(failure);
            return;
        }
        state.offers = offers;
        state.offers_to_keep = false;
        state.ledger_failure = None;
        state.ledger_damages.clear();
        if let Some(config) = state.config_to_keep.take() {
            tracing::info!(generation = %config.generation, units = config.units.len(), "configured");
            state.refused = None;
            state.has_old_modules = true;
        }
    }

    /// Which modules are missing, which of them are to be asked for now, and which are not needed any more.
    fn find_modules(&mut self, now: Duration) {
        let state = &mut self.state;
        let Some(config) = state.in_force(&self.ledger) else {
            return;
        };
        state.lacking.clear();
        for spec in &config.units {
            let Some(digest) = module_needed(spec, &self.site) else {
                continue;
            };
            if !self.modules.has(digest) {
                let failure = state.fetch_failures.get(digest);
                let why = failure.map_or_else(
                    || format!("its module {digest} is on its way"),
                    |failure| failure.why.clone(),
                );
                state.lacking.insert(digest.clone(), why);
            }
        }
        state
            .fetch_failures
            .retain(|digest, _| state.lacking.contains_key(digest));
        let is_due = |digest: &&Digest| {
            let failure = state.fetch_failures.get(*digest);
            failure.is_none_or(|failure| failure.again_at <= now)
        };
        let wanted = state.lacking.keys().filter(is_due).cloned().collect();
        if self.hub.outbox().wanted != wanted {
            self.hub.report(|outbox| outbox.wanted = wanted);
        }
        let has = |unit: &UnitId| config.units.iter().any(|spec| spec.id == *unit);
        let mut running = state.observed.values().flat_map(|seen| seen.units.keys());
        if state.has_old_modules && state.observed.len() == self.drivers.len() && running.all(has) {
            let of = |spec: &workload::UnitSpec| module_needed(spec, &self.site).cloned();
            let needed = config.units.iter().filter_map(of).collect();
            match self.modules.keep(&needed) {
                Ok(()) => state.has_old_modules = false,
                Err(error) => tracing::warn!(%error, "modules that nobody needs are not removed"),
            }
        }
    }

    fn act(&mut self, now: Duration) {
        let nothing = SiteConfig::default();
        let config = match (&self.state.stopping, self.state.in_force(&self.ledger)) {
            (Some((StopMode::LeaveUnits, _)), _) | (None, None) => return,
            (Some((StopMode::StopUnits, _)), _) => &nothing,
            (None, Some(config)) => config,
        };
        let state = &mut self.state;
        let view = View {
            site: &self.site,
            config,
            offers: &state.offers,
            observed: &state.observed,
            lacking: &state.lacking,
        };
        for action in state.reconciler.step(&view, now) {
            self.call(action);
        }
    }

    fn call(&self, action: Action) {
        let (kind, unit, name) = match &action {
            Action::Ensure { kind, spec, .. } => (kind, spec.id.clone(), "ensure"),
            Action::Stop { kind, unit } => (kind, unit.clone(), "stop"),
        };
        let driven = &self.drivers[kind];
        let (driver, poke) = (Arc::clone(&driven.driver), Arc::clone(&driven.poke));
        let (hub, clock) = (Arc::clone(&self.hub), self.clock);
        self.state.workers.run(move || {
            let result = caught(|| match &action {
                Action::Ensure { spec, offers, .. } => driver.ensure(spec, offers),
                Action::Stop { unit, .. } => driver.stop(unit),
            });
            count(&hub, name, result.is_ok());
            if let Err(error) = &result {
                tracing::debug!(%unit, call = name, %error, "a driver failed");
            }
            let result = result.map_err(|error| Failure {
                is_final: matches!(error, DriverError::Invalid(_)),
                why: in_full(&error),
            });
            hub.tell(|inbox| inbox.ended.push((unit, clock.now(), result)));
            poke.now();
        });
    }

    fn read_log(&self, read: LogRead) {
        let knows = |(_, seen): &(&&str, &Observation)| seen.units.contains_key(&read.unit);
        let Some((kind, _)) = self.state.observed.iter().find(knows) else {
            let why = format!("{} is not at this site", read.unit);
            return self.hub.answer(read.refused(why));
        };
        let places = &self.state.log_places;
        // One of them is kept here to make others of.
        if Arc::strong_count(places) > LOG_READS_MAX {
            return self.hub.answer(read.refused(BUSY));
        }
        let place = Arc::clone(places);
        let (driver, hub) = (
            Arc::clone(&self.drivers[kind].driver),
            Arc::clone(&self.hub),
        );
        self.state.workers.run(move || {
            let result = caught(|| driver.read_log(&read.unit, read.offset, read.max));
            count(&hub, "read_log", result.is_ok());
            hub.answer(LogPiece {
                request: read.request,
                session: read.session,
                result: result.map_err(|error| in_full(&error)),
                place: Some(place),
            });
        });
    }

    /// Reports what has changed at once, and everything every period.
    fn publish(&mut self, now: Duration) {
        let nothing = SiteConfig::default();
        let state = &self.state;
        if state.observed.len() < self.drivers.len() {
            // Units that nobody has looked for yet must not seem to be gone.
            return;
        }
        let in_force = state.in_force(&self.ledger);
        let config = in_force.unwrap_or(&nothing);
        let view = View {
            site: &self.site,
            config,
            offers: &state.offers,
            observed: &state.observed,
            lacking: &state.lacking,
        };
        let inventory = Inventory {
            generation: config.generation,
            digest: in_force.and_then(|_| self.ledger.digest().cloned()),
            refused: state.refused.clone(),
            units: state.reconciler.report(&view, now),
            conditions: self.conditions(now),
        };
        let (at, before) = &self.state.reported;
        if now < *at + PERIOD && same(before, &inventory) {
            return;
        }
        self.show(&inventory);
        self.hub.report(|outbox| {
            outbox.latest = inventory.clone();
            outbox.inventory = Some(inventory.clone());
        });
        self.state.reported = (now, inventory);
    }

    fn show(&self, inventory: &Inventory) {
        let metrics = &self.hub.metrics;
        let Generation(generation) = inventory.generation;
        metrics
            .generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        let kinds = |inventory: &Inventory| -> Vec<String> {
            inventory
                .conditions
                .iter()
                .map(|c| c.kind.clone())
                .collect()
        };
        for kind in kinds(&self.state.reported.1) {
            metrics.conditions.with_label_values(&[&kind]).set(0);
        }
        for kind in kinds(inventory) {
            metrics.conditions.with_label_values(&[&kind]).set(1);
        }
    }

    /// What is wrong with the site now.
    fn conditions(&self, now: Duration) -> Vec<Condition> {
        let state = &self.state;
        let mut conditions: Vec<_> = state
            .events
            .iter()
            .map(|(_, event)| event.clone())
            .collect();
        match &state.link {
            Some(LinkState::Up) => {}
            Some(LinkState::Down(why)) => conditions.push(condition(LINK_LOST, why.clone())),
            None => conditions.push(condition(LINK_LOST, "there was none yet".into())),
        }
        let failures = state
            .ledger_failure
            .iter()
            .chain(state.fetch_failures.values());
        if let Some(failure) = failures.clone().find(|failure| failure.is_full) {
            conditions.push(condition("DiskFull", failure.why.clone()));
        }
        if let Some(failure) = state.ledger_failure.iter().find(|failure| !failure.is_full) {
            conditions.push(condition("DiskFails", failure.why.clone()));
        }
        if !state.ledger_damages.is_empty() {
            let damages = state.ledger_damages.join("; ");
            conditions.push(condition("LedgerDamaged", damages));
        }
        let problem = self.share.problem().map(str::to_owned);
        if let Some(problem) = problem.or_else(|| state.share_failure.clone()) {
            conditions.push(condition("CpuShareNotEnforced", problem));
        }
        if let Some(why) = &state.uncounted {
            conditions.push(condition("CpuNotMeasured", why.clone()));
        }
        for kind in self.drivers.keys() {
            let at = state
                .observed
                .get(kind)
                .map_or(Duration::ZERO, |seen| seen.at);
            if now.saturating_sub(at) > CALL_SLOW {
                let message = format!("the driver of {kind} units does not say how they are");
                conditions.push(condition("DriverHangs", message));
            }
        }
        conditions
    }

    fn next_due(&self, now: Duration) -> Duration {
        let state = &self.state;
        let failures = state
            .ledger_failure
            .iter()
            .chain(state.fetch_failures.values());
        failures
            .map(|failure| failure.again_at)
            .filter(|at| *at > now)
            .chain(state.reconciler.next_due(now))
            .fold(state.reported.0 + PERIOD, Duration::min)
    }

    /// Whether there is nothing left to do, and what was not done.
    fn stopped(&self, now: Duration) -> Option<Vec<UnitId>> {
        let state = &self.state;
        let (mode, since) = state.stopping?;
        if mode == StopMode::LeaveUnits {
            return Some(Vec::new());
        }
        let running = state.observed.values().flat_map(|seen| seen.units.keys());
        let running: Vec<_> = running.cloned().collect();
        let latest = since.max(state.last_call_ended);
        let is_fresh = |kind| {
            state
                .observed
                .get(kind)
                .is_some_and(|seen| seen.at > latest)
        };
        let is_known = self.drivers.keys().all(is_fresh);
        let is_done = is_known && running.is_empty() && !state.reconciler.is_calling();
        (is_done || now.saturating_sub(since) > STOP_PATIENCE).then_some(running)
    }
}

/// A driver that panics has failed, and no more.
fn caught<T>(call: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(DriverError::NotYet(
            "its driver panicked: see the log".into(),
        ))
    })
}

/// What happened, with what caused it.
fn in_full(error: &DriverError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn count(hub: &Hub, call: &str, is_ok: bool) {
    let result = if is_ok { "ok" } else { "error" };
    hub.metrics.calls.with_label_values(&[call, result]).inc();
}

fn condition(kind: &str, message: String) -> Condition {
    Condition {
        kind: kind.to_owned(),
        message,
    }
}

/// Whether there is no news in the later of two inventories.
fn same(before: &Inventory, after: &Inventory) -> bool {
    let mut units = before.units.iter().zip(&after.units);
    before.generation == after.generation
        && before.refused == after.refused
        && before.conditions == after.conditions
        && before.units.len() == after.units.len()
        && units.all(|(before, after)| same_but_log(before, after))
}

#[cfg(test)]
mod tests;
