//! The guest's monotonic clock: it goes on where it was when the guest moved.

use std::time::{Duration, Instant, UNIX_EPOCH};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    guest_ns: u64,
    host: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            guest_ns: 0,
            host: rt::now(),
        }
    }

    /// A clock that stood at `monotonic_ns` when the wall clock was `wall_ns`. The time since then passes for the guest, too, if the wall clocks
    /// of both machines make that a time that can be.
    pub(crate) fn resume(monotonic_ns: u64, wall_ns: u64) -> Self {
        let elapsed = wall_now_ns().saturating_sub(wall_ns);
        Self {
            guest_ns: monotonic_ns.saturating_add(elapsed),
            host: rt::now(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.guest_ns.saturating_add(nanos(self.host.elapsed()))
    }
}

/// The wall clock, ns since 1970.
pub(crate) fn wall_now_ns() -> u64 {
    nanos(rt::wall().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
