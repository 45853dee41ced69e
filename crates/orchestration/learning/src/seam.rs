//! What the Learning Plane needs from around it, [`Sensor`] and [`Actuator`], and the plain data that passes in and out.
//!
//! Both traits block. They are called from threads of the Learning Plane, never under one of its locks, so that one that hangs
//! delays only what waits for it.

use std::fmt;
use std::time::{Duration, SystemTime};

use ids::Name;

pub use crate::decision::{Alternative, Decision, Mode, Outcome, Prediction, Target};

/// Wall-clock time, milliseconds since 1970. Samples, forecasts and decisions of all sites are compared by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    #[must_use]
    pub fn of(wall: SystemTime) -> Self {
        let since = wall.duration_since(SystemTime::UNIX_EPOCH);
        Self(millis(since.unwrap_or_default()))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Seconds from `earlier` to this, for models.
    pub(crate) fn seconds_since(self, earlier: Self) -> f64 {
        self.since(earlier).as_secs_f64()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A block of a service of an organisation: what is watched, and moved as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    pub org: Name,
    pub service: Name,
    pub block: Name,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.org, self.service, self.block)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Time,
    pub value: f64,
}

/// Everything that is known at one moment. What is missing is left out; it is never zero.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub sites: Vec<SiteSample>,
    pub blocks: Vec<BlockSample>,
}

/// The newest measurements of a site, in cores.
#[derive(Clone, Debug)]
pub struct SiteSample {
    pub site: Name,
    /// What kind of site it is, such as `edge` or `cloud`: its label `tier`.
    pub tier: Option<String>,
    /// What its workloads may use (`site_cpu_share`).
    pub share: Option<Point>,
    /// What they use (`site_cpu_used`).
    pub used: Option<Point>,
    /// How many threads wait for a processor on average (`site_cpu_waiting`).
    pub waiting: Option<Point>,
}

/// What is known of one target.
#[derive(Clone, Debug)]
pub struct BlockSample {
    pub target: TargetId,
    /// Where all of it runs; `None` while it starts or moves, when it is spread over sites, and when that is not known.
    pub site: Option<Name>,
    /// Where it may be.
    pub candidates: Vec<Name>,
    /// The most cores it can use: its ranks, over all replicas.
    pub cores_max: f64,
    pub series: Vec<Series>,
    /// The last moves of it, or of others if it has not moved yet, oldest first.
    pub moves: Vec<MoveCost>,
}

/// Iteration times, in seconds, of one replica at one site (`cell_iteration_seconds`).
#[derive(Clone, Debug)]
pub struct Series {
    pub site: Name,
    pub replica: u32,
    /// Which completions count as iterations. Another key is another quantity, and begins anew.
    pub key: String,
    /// The newest, oldest first. Those seen before are skipped; after a start, longer history warms the models up.
    pub points: Vec<Point>,
}

/// What one move cost. One of which either is not known is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoveCost {
    /// From the request until everything ran at the destination.
    pub took: Duration,
    /// How long the program stood still.
    pub pause: Duration,
}

/// Where measurements come from.
pub trait Sensor: Send + Sync {
    /// The newest measurements of all sites, and of `targets`.
    fn sample(&self, targets: &[TargetId]) -> Observation;
}

/// Where decisions go to.
///
/// The contract: `key` names the migration. `migrate` returns once the migration is accepted, and is called at most once for a key,
/// in all lives of the Learning Plane. `observe` tells what has become of it, also after a restart of either side;
/// after it has answered [`MoveStatus::Unknown`], a request with this key must not take effect any more.
pub trait Actuator: Send + Sync {
    /// # Errors
    /// [`ActError::Refused`] if it will not happen; [`ActError::Unclear`] if it may have been accepted.
    fn migrate(&self, key: &str, target: &TargetId, to: &Name) -> Result<(), ActError>;

    fn observe(&self, key: &str) -> MoveStatus;
}

/// Why a migration was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    #[error("refused: {0}")]
    Refused(String),
    /// No answer, or one that does not tell.
    #[error("no clear answer: {0}")]
    Unclear(String),
}

/// What has become of a migration.
#[derive(Clone, Debug, PartialEq)]
pub enum MoveStatus {
    /// No migration has this key.
    Unknown,
    /// The actuator cannot be asked now.
    Unreachable,
    Running,
    Done,
    /// It ended without everything being there; what has moved may have been moved back.
    Failed(String),
}
