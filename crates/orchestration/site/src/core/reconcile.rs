//! From what is to run and what runs to what is to be done.
//!
//! For each unit, with *lasting* meaning that the same was asked before with the same spec and offers:
//!
//! | configured | observed | what is done |
//! |---|---|---|
//! | yes | (a call is under way, or the observation is older than the end of the last call) | nothing yet |
//! | yes | this epoch, a final phase | nothing, ever |
//! | yes | a newer epoch | nothing; it is reported |
//! | yes | any other | `Ensure`: at once when the spec or the offers are new, else after a delay that doubles while it does not help |
//! | yes | this epoch, not final, lasting | `Ensure` again every [`REFRESH`] |
//! | yes, but refused by its driver for good | any | nothing until the spec is new |
//! | no | any | `Stop`, with the same delays |
//! | no | none | it is forgotten |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ids::{Digest, Name, UnitId};
use workload::{Kind, Observed, Offers, Phase, SiteConfig, UnitSpec};

use crate::disk::ledger::AllOffers;

/// The delay between attempts that do not help: the first, and the longest. Up to half of it is taken off at random.
pub(crate) const DELAY_MIN: Duration = Duration::from_millis(50);
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(5);

/// A driver is asked again after this time even if all seems well, in case that something was missed.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);

/// A call or an observation that takes longer than this hangs.
pub(crate) const CALL_SLOW: Duration = Duration::from_secs(2);

/// What one driver knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    /// When it was asked.
    pub at: Duration,
    pub units: BTreeMap<UnitId, Observed>,
}

/// All that decisions depend on. Times count from the start of the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub site: &'a Name,
    pub config: &'a SiteConfig,
    pub offers: &'a AllOffers,
    /// By kind of driver; only those drivers that have answered once.
    pub observed: &'a BTreeMap<&'static str, Observation>,
    /// Modules that units need and that are not here, each with what is known about why.
    pub lacking: &'a BTreeMap<Digest, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Ensure {
        kind: &'static str,
        spec: Box<UnitSpec>,
        offers: Offers,
    },
    Stop {
        kind: &'static str,
        unit: UnitId,
    },
}

/// How a call to a driver ended, if not well.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub why: String,
    /// It is of no use to ask for the same again.
    pub is_final: bool,
}

/// What is asked for: that a unit runs like this, or that it does not.
type Request = Option<(UnitSpec, Offers)>;

/// What was done about one unit.
#[derive(Clone, Debug)]
struct Track {
    asked: Request,
    /// How often in a row, without its helping.
    attempts: u32,
    /// Since when a call is under way.
    calling_since: Option<Duration>,
    ended_at: Duration,
    not_before: Duration,
    failure: Option<Failure>,
}

#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    tracks: BTreeMap<UnitId, Track>,
}

impl Reconciler {
    /// What is to be done now. Each action is a call that must be reported to [`ended`](Self::ended).
    pub(crate) fn step(&mut self, view: &View<'_>, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let configured: BTreeSet<_> = view.config.units.iter().map(|spec| &spec.id).collect();
        for spec in &view.config.units {
            let kind = spec.kind.name();
            if let Some(observation) = view.observed.get(kind)
                && module_needed(spec, view.site).is_none_or(|d| !view.lacking.contains_key(d))
            {
                let seen = observation.units.get(&spec.id);
                if seen.is_some_and(|seen| settled(spec, seen)) {
                    continue;
                }
                let here = seen.is_some_and(|seen| seen.epoch == spec.epoch);
                let offers = offers_for(spec, view);
                let request = Some((spec.clone(), offers.clone()));
                if self.ask(&spec.id, request, here, observation.at, now) {
                    let spec = Box::new(spec.clone());
                    actions.push(Action::Ensure { kind, spec, offers });
                }
            }
        }
        for (kind, observation) in view.observed {
            for unit in observation.units.keys() {
                if !configured.contains(unit) && self.ask(unit, None, false, observation.at, now) {
                    let unit = unit.clone();
                    actions.push(Action::Stop { kind, unit });
                }
            }
        }
        self.tracks.retain(|unit, track| {
            let is_seen = |observation: &Observation| {
                observation.units.contains_key(unit) || observation.at <= track.ended_at
            };
            configured.contains(unit)
                || track.calling_since.is_some()
                || view.observed.values().any(is_seen)
        });
        actions
    }

    /// Notes that `request` is called now, if it is time for that. `here`: it has had its effect once.
    fn ask(
        &mut self,
        unit: &UnitId,
        request: Request,
        here: bool,
        observed_at: Duration,
        now: Duration,
    ) -> bool {
        let attempts = match self.tracks.get_mut(unit) {
            None => 0,
            // What was observed before the call ended says nothing about what it did.
            Some(track) if track.calling_since.is_some() || observed_at <= track.ended_at => {
                return false;
            }
            Some(track) if track.asked != request => 0,
            Some(track)
                if track
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.is_final) =>
            {
                return false;
            }
            Some(track) => {
                let helps = here && track.failure.is_none();
                if helps {
                    track.attempts = 0;
                    track.not_before = track.not_before.max(track.ended_at + REFRESH);
                }
                if now < track.not_before {
                    return false;
                }
                track.attempts + 1
            }
        };
        let track = Track {
            asked: request,
            attempts,
            calling_since: Some(now),
            ended_at: Duration::ZERO,
            not_before: now,
            failure: None,
        };
        self.tracks.insert(unit.clone(), track);
        true
    }

    /// A call has ended. `jitter` is random.
    pub(crate) fn ended(
        &mut self,
        unit: &UnitId,
        result: Result<(), Failure>,
        now: Duration,
        jitter: u64,
    ) {
        let Some(track) = self.tracks.get_mut(unit) else {
            return;
        };
        track.calling_since = None;
        track.ended_at = now;
        track.not_before = now + delay(track.attempts, jitter);
        track.failure = result.err();
    }

    /// When [`step`](Self::step) may have something new to do although nothing has changed.
    pub(crate) fn next_due(&self, now: Duration) -> Option<Duration> {
        let waiting = |track: &&Track| track.calling_since.is_none() && track.not_before > now;
        let waiting = self.tracks.values().filter(waiting);
        waiting.map(|track| track.not_before).min()
    }

    pub(crate) fn is_calling(&self) -> bool {
        self.tracks.values().any(|t| t.calling_since.is_some())
    }

    /// What the site says about its units: what the drivers know, and for what they do not know yet why that is so.
    pub(crate) fn report(&self, view: &View<'_>, now: Duration) -> Vec<Observed> {
        let mut reports: BTreeMap<&UnitId, Observed> = BTreeMap::new();
        for observation in view.observed.values() {
            for (unit, seen) in &observation.units {
                reports.insert(unit, seen.clone());
            }
        }
        for spec in &view.config.units {
            if !reports.contains_key(&spec.id) {
                let pending = self.not_known_to_its_driver(spec, view);
                reports.insert(&spec.id, pending);
            }
        }
        for (unit, report) in &mut reports {
            let Some(track) = self.tracks.get(*unit) else {
                continue;
            };
            if let Some(since) = track.calling_since
                && now.saturating_sub(since) > CALL_SLOW
                && !report.phase.is_final()
            {
                report.phase = Phase::Unresponsive;
                report.reason = "a call to its driver does not return".into();
            } else if let Some(failure) = &track.failure
                && report.reason.is_empty()
            {
                report.reason.clone_from(&failure.why);
            }
        }
        reports.into_values().collect()
    }

    fn not_known_to_its_driver(&self, spec: &UnitSpec, view: &View<'_>) -> Observed {
        let track = self.tracks.get(&spec.id);
        let failure = track.and_then(|track| track.failure.as_ref());
        let is_final = failure.is_some_and(|failure| failure.is_final);
        let lacking = module_needed(spec, view.site).and_then(|d| view.lacking.get(d));
        let reason = match (failure, lacking) {
            (_, Some(why)) => why.clone(),
            (Some(failure), None) => failure.why.clone(),
            (None, None) if !view.observed.contains_key(spec.kind.name()) => {
                format!("no driver of {} units has answered yet", spec.kind.name())
            }
            (None, None) => String::new(),
        };
        Observed {
            id: spec.id.clone(),
            epoch: spec.epoch,
            is_home: spec.home == *view.site,
            phase: if is_final {
                Phase::Failed
            } else {
                Phase::Pending
            },
            reason,
            offer: None,
            ranks: Vec::new(),
            n_moves: 0,
            moves: Vec::new(),
            restarts: 0,
            exit_code: None,
            log_bytes: 0,
        }
    }
}

/// Whether nothing is left to be done for a unit that is configured.
fn settled(spec: &UnitSpec, seen: &Observed) -> bool {
    seen.epoch > spec.epoch || (seen.epoch == spec.epoch && seen.phase.is_final())
}

/// Offers of an earlier incarnation lead nowhere.
fn offers_for(spec: &UnitSpec, view: &View<'_>) -> Offers {
    match view.offers.get(&spec.id) {
        Some((epoch, offers)) if *epoch == spec.epoch => offers.clone(),
        _ => Offers::new(),
    }
}

/// The module that this site must have to run its part: the home passes it on to the others.
pub(crate) fn module_needed<'a>(spec: &'a UnitSpec, site: &Name) -> Option<&'a Digest> {
    let Kind::Cell(cell) = &spec.kind;
    (spec.home == *site).then_some(&cell.module)
}

fn delay(attempts: u32, jitter: u64) -> Duration {
    let whole = DELAY_MIN
        .saturating_mul(1 << attempts.min(16))
        .min(DELAY_MAX);
    let half = u64::try_from((whole / 2).as_nanos()).expect("seconds");
    whole - Duration::from_nanos(jitter % (half + 1))
}

#[cfg(test)]
pub(crate) mod tests;
