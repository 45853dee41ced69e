//! Reader groups: what their readers have agreed on before they begin. What they agree on later is in the group's own stream, of which this is a
//! row.

use std::collections::BTreeMap;

use crate::cuts::Cut;
use crate::error::Refusal;
use crate::names::{Name, StreamName};

/// What the stream of a group is called: this, and then as the group.
pub(crate) const GROUP_PREFIX: &str = "_RG";

/// What clients agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Tells it from others of the same name.
    pub id: u128,
    /// Counts its configurations.
    pub generation: u64,
    /// So often readers look for what others have agreed on.
    pub refresh_ms: u64,
    /// So often there is a checkpoint; from 2⁶³ on: never.
    pub checkpoint_ms: u64,
    /// Checkpoints that may be waited for.
    pub checkpoints_max: u32,
    /// Whether what is kept of its streams is what it has not read.
    pub retention: Subscription,
    /// Where its streams are read from. Empty: from where they begin.
    pub from: BTreeMap<StreamName, Cut>,
    /// And up to where. Empty: there is no end.
    pub to: BTreeMap<StreamName, Cut>,
    /// The size of the chunks of its stream; 0: as the store has them.
    pub rollover_size_bytes: u64,
}

/// Whether what is kept of a stream is what a group has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// It is not.
    None,
    /// The group says what it has read.
    Manual,
    /// Its checkpoints do.
    Automatic,
}

impl Group {
    /// What the stream of a group is called.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]: no group has that name.
    pub fn stream(scope: &str, group: &str) -> Result<StreamName, Refusal> {
        if group.starts_with('_') {
            return Err(Refusal::Invalid("names with an underscore are not chosen"));
        }
        Name::new(group)?;
        StreamName::new(scope, &format!("{GROUP_PREFIX}{group}"))
    }
}
