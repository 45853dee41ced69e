//! Time as far as it can be believed.
//!
//! The clock on the wall is set by people and by the network, backwards and by years. What is counted here goes only forwards, and by no more
//! than the owner is known to look away: a leap neither ends a transaction nor deletes data, it only delays both.
//!
//! Between two owners nothing is counted, since nobody can tell that from a leap. An owner goes on from the latest that rows have: an end of a
//! stream that is noted for retention, or of a transaction. So by time a stream is truncated when there was an owner for that long behind what goes,
//! and what an owner that was killed had counted since is counted again.

use crate::limits::Limits;

/// When something was noted, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// What was counted, from the first owner on.
    pub(crate) counted_ms: u64,
    /// On the wall, since 1970.
    pub(crate) wall_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// `None` until the first reading.
    last_wall_ms: Option<u64>,
    counted_ms: u64,
    /// The latest that rows have.
    noted: Stamp,
}

impl Clock {
    /// What an earlier owner has noted.
    pub(crate) fn note(&mut self, stamp: Stamp) {
        self.noted = self.noted.max(stamp);
    }

    /// It goes on to what the wall says, within limits.
    pub(crate) fn advance(&mut self, wall_ms: u64, limits: &Limits) {
        match self.last_wall_ms {
            // It is what somebody has read a little earlier, and tells a little later.
            Some(last) if last > wall_ms && last - wall_ms <= limits.clock_step_ms_max => return,
            Some(last) => {
                let step = wall_ms.saturating_sub(last).min(limits.clock_step_ms_max);
                self.counted_ms = self.counted_ms.saturating_add(step);
            }
            None => self.counted_ms = self.noted.counted_ms,
        }
        self.last_wall_ms = Some(wall_ms);
    }

    pub(crate) fn counted_ms(&self) -> u64 {
        self.counted_ms
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            counted_ms: self.counted_ms,
            wall_ms: self.last_wall_ms.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaps_are_not_believed() {
        let limits = Limits {
            clock_step_ms_max: 60,
            ..Limits::default()
        };
        let mut clock = Clock::default();
        for (wall_ms, counted_ms) in [
            (500, 0),
            (510, 10),
            (505, 10),
            (511, 11),
            (509, 11),
            (510, 11),
            (400, 11),
            (419, 30),
            (9_999, 90),
        ] {
            clock.advance(wall_ms, &limits);
            assert_eq!(clock.counted_ms(), counted_ms, "at {wall_ms}");
        }
        // Nor is time without an owner.
        for wall_ms in [10_099, 5_000, 99_999] {
            let mut next = Clock::default();
            next.note(clock.stamp());
            next.advance(wall_ms, &limits);
            assert_eq!(next.counted_ms(), 90, "loaded at {wall_ms}");
            next.advance(wall_ms + 7, &limits);
            assert_eq!(next.counted_ms(), 97, "loaded at {wall_ms}");
        }
    }
}
