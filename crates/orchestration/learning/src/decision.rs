//! Targets, and what is told about decisions.

use std::collections::BTreeMap;
use std::fmt;

use ids::Name;

use crate::core::policy::Policy;
use crate::seam::{TargetId, Time};

/// A block that the Learning Plane watches.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub id: TargetId,
    /// The longest time of an iteration that is in order, seconds.
    pub kpi_max: Option<f64>,
    pub policy: Policy,
    pub mode: Mode,
    /// Programs of one organisation that say the same here take alike: what one did at a site tells about the others. For instance the
    /// module's digest and the number of ranks.
    pub like: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It decides, and says what it would do.
    Shadow,
    /// It acts.
    Active,
}

/// One decision, with all that it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// For a decision to move also the idempotency key.
    pub id: String,
    pub at: Time,
    pub mode: Mode,
    /// What was looked at: name to value, with unit and age in the text.
    pub inputs: BTreeMap<String, String>,
    pub forecast: Option<Prediction>,
    /// The line of the policy that decided, and its text.
    pub branch: String,
    /// What was decided: `migrate_service to cloud`, `Nothing_to_do`.
    pub action: String,
    /// The sites that were considered, the one where it is among them.
    pub alternatives: Vec<Alternative>,
    pub outcome: Outcome,
    /// How often the same was decided in a row. For a decision in shadow mode all else is from the first time, otherwise from the last.
    pub times: u32,
    /// When, after this decision to move, an iteration first took longer than the KPI allows.
    pub violated_at: Option<Time>,
}

/// A forecast of the iteration time where the block is.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    pub model: String,
    pub as_of: Time,
    pub target: Time,
    /// Level (0.95) and seconds, in growing order.
    pub quantiles: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    pub site: Name,
    /// Seconds an iteration would take there; `None`: unknown.
    pub predicted: Option<f64>,
    /// Why it was taken or not.
    pub why: String,
}

/// What became of a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Done,
    /// It would have been done in mode `active`.
    Shadow,
    /// The policy wants it, or cannot tell, and this is why nothing is done.
    Held(String),
    Failed(String),
    /// It has been asked for; what is known of it.
    Pending(String),
}

impl Outcome {
    /// For a metric's label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Shadow => "shadow",
            Self::Held(_) => "held",
            Self::Failed(_) => "failed",
            Self::Pending(_) => "pending",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done | Self::Shadow => f.write_str(self.kind()),
            Self::Pending(why) if why.is_empty() => f.write_str(self.kind()),
            Self::Held(why) | Self::Failed(why) | Self::Pending(why) => {
                write!(f, "{}: {why}", self.kind())
            }
        }
    }
}
