//! What things are called, and the numbers that are not called anything else.

use std::fmt;
use std::sync::Arc;

use crate::Refusal;

/// How clients call a segment. A name that is given again is another segment: see [`SegmentId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName(Arc<str>);

impl SegmentName {
    /// Scope and stream have 255 each upstream, and what is put behind them is shorter.
    pub const BYTES_MAX: usize = 1024;

    /// # Errors
    /// [`Refusal::Invalid`]: it is empty or too long.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(Refusal::Invalid("a segment's name has 1 to 1024 bytes"));
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Of one segment of a container, and never of another one: whatever is kept of a segment that was deleted says nothing of the next one of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// So many are never used.
    pub(crate) const MAX: Self = Self(1 << 62);
}

/// The number of a record. They go up by one, over all owners of the container. Nothing was proposed at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// So many are never used.
    pub(crate) const MAX: Self = Self(1 << 62);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whose transient segments are gone with it: a connection, by a number that its container's owner does not use twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Where a record lies in the log. Later ones have higher ones, and the number means nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);
