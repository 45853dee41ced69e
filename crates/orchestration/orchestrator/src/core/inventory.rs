//! What sites said last. Soft state: after a restart of the controller, the sites say it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ids::{Digest, Generation, Labels, Name, UnitId};
use serde::{Deserialize, Serialize};
use workload::link::{Condition, PERIOD};
use workload::{Observed, UnitSpec};

/// After three periods without a report, nothing is known of a site.
pub(crate) const STALE_AFTER: Duration = PERIOD.saturating_mul(3);

/// Milliseconds on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// Since the controller started, for ages.
    pub mono_ms: u64,
    /// Since 1970, for what people read and for deadlines that outlive the controller.
    pub wall_ms: u64,
}

pub(crate) type Sites = BTreeMap<Name, Arc<Site>>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Site {
    pub facts: Facts,
    pub report: Option<Arc<Report>>,
}

/// What lasts of a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub joined_ms: u64,
    pub labels: Labels,
    pub cpu_share: f64,
    pub cpu_share_by: String,
    /// It has reported this generation, which was not made for it here: the store was restored from a backup. Nothing is pushed to it until
    /// an operator says so.
    pub ahead: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// On the monotonic clock.
    pub at_ms: u64,
    pub generation: Generation,
    pub refused: Option<String>,
    pub conditions: Vec<Condition>,
    pub units: BTreeMap<UnitId, Observed>,
}

impl Site {
    pub(crate) fn age(&self, now: Now) -> Option<Duration> {
        let report = self.report.as_ref()?;
        Some(Duration::from_millis(
            now.mono_ms.saturating_sub(report.at_ms),
        ))
    }

    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        self.age(now).is_some_and(|age| age <= STALE_AFTER)
    }

    /// Whether it has said that a configuration of this number, or a newer one, is in force, and that it has nothing of a unit any more.
    pub(crate) fn has_ended(&self, id: &UnitId, awaited: Generation) -> bool {
        let report = self.report.as_ref();
        self.has_in_force(awaited) && report.is_some_and(|report| !report.units.contains_key(id))
    }

    /// Whether it has said that this configuration, or a newer one, is in force.
    pub(crate) fn has_in_force(&self, generation: Generation) -> bool {
        let report = self.report.as_ref();
        self.facts.ahead.is_none() && report.is_some_and(|report| report.generation >= generation)
    }

    /// Why nothing new can be placed here; `None`: it can.
    pub(crate) fn unfit(&self, now: Now) -> Option<&'static str> {
        if self.facts.ahead.is_some() {
            Some("it waits for an operator")
        } else if self.report.is_none() {
            Some("it has not reported yet")
        } else if !self.is_fresh(now) {
            Some("it has not reported for three periods")
        } else {
            None
        }
    }
}

/// What the home of a unit says about this incarnation of it, whenever that was.
pub(crate) fn last_report<'a>(sites: &'a Sites, spec: &UnitSpec) -> Option<&'a Observed> {
    let report = sites.get(&spec.home)?.report.as_ref()?;
    let observed = report.units.get(&spec.id)?;
    (observed.epoch == spec.epoch && observed.is_home).then_some(observed)
}

/// The same, if it is not stale.
pub(crate) fn fresh_report<'a>(
    sites: &'a Sites,
    spec: &UnitSpec,
    now: Now,
) -> Option<&'a Observed> {
    let is_fresh = sites.get(&spec.home)?.is_fresh(now);
    last_report(sites, spec).filter(|_| is_fresh)
}
