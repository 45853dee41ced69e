//! What a stream is to be like.

use std::collections::BTreeSet;

use crate::error::Refusal;
use crate::limits::Limits;

/// What its owner says of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Into how many segments it is divided, and by what.
    pub scaling: Scaling,
    /// `None`: all is kept.
    pub retention: Option<Retention>,
    /// By which it is found.
    pub tags: BTreeSet<String>,
    /// After which a silent writer does not hold up the time of the others.
    pub timestamp_aggregation_timeout_ms: u64,
    /// The size of its chunks in long-term storage; 0: as the store has them.
    pub rollover_size_bytes: u64,
}

/// Into how many segments a stream is divided, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// What one segment is to take.
    pub rate: Rate,
    /// Into how many segments one is split.
    pub factor: u32,
    /// With which the stream begins.
    pub segments_min: u32,
}

/// What one segment is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// All that comes.
    Fixed,
    /// kB a second.
    Kilobytes(u32),
    /// Events a second.
    Events(u32),
}

/// What is kept: at least the lower bound, and no more than the upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// By the age of the data.
    Time {
        /// That old it is kept.
        min_ms: u64,
        /// That old it goes even if it is still needed.
        max_ms: u64,
    },
    /// By its size.
    Size {
        /// That much is kept.
        min_bytes: u64,
        /// More than that goes even if it is still needed.
        max_bytes: u64,
    },
}

impl Config {
    /// # Errors
    /// [`Refusal::Invalid`] and [`Refusal::Limit`].
    pub fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        let invalid = |what| Err(Refusal::Invalid(what));
        if self.scaling.segments_min == 0 {
            return invalid("a stream has one segment at least");
        }
        let (min, max) = match self.retention {
            None => (0, u64::MAX),
            Some(Retention::Time { min_ms, max_ms }) => (min_ms, max_ms),
            Some(Retention::Size {
                min_bytes,
                max_bytes,
            }) => (min_bytes, max_bytes),
        };
        if min > max {
            return invalid("more is kept at least than at most");
        }
        let n_segments = usize::try_from(self.scaling.segments_min).unwrap_or(usize::MAX);
        limits.check_segments(n_segments)?;
        limits.check("tags of a stream", self.tags.len(), limits.tags_max)?;
        for tag in &self.tags {
            limits.check("bytes of a tag", tag.len(), limits.tag_bytes_max)?;
        }
        Ok(())
    }
}
