//! What time it is, in the three ways that an agent needs.

use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::jumps::Reading;

/// Counts from the start of the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        // What happens at the very start is later than nothing at all.
        Self(rt::now() - Duration::from_millis(1))
    }

    pub(crate) fn now(&self) -> Duration {
        rt::now().duration_since(self.0)
    }

    pub(crate) fn reading(&self) -> Reading {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or_default();
        Reading {
            monotonic: self.now(),
            boot: Duration::from_secs(seconds) + Duration::from_nanos(nanos),
            wall: since_1970(),
        }
    }
}

fn since_1970() -> Duration {
    rt::wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock, ms since 1970.
pub(crate) fn wall_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
