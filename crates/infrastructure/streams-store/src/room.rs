//! How much the log may still take, and how fast.
//!
//! When long-term storage does not take what is in the log, what brings bytes is slowed down, so that the log is not filled sooner than in
//! `log.slow_down`: acknowledgements come later and later, and nobody meets a wall. Then nothing more is taken. Before the disk is full, too:
//! a log that cannot be written would end its owner.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wal::Wal;

use crate::config;
use crate::error::{Error, Result};

/// Nobody is made to wait longer for one operation.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What comes at once is not slowed down.
const BURST: Duration = Duration::from_millis(100);

/// The current segment of the log is never let go, and what is not yet truncated is in another one.
const SEGMENTS_MIN: u64 = 3;

/// The last of it is not taken by waiting ever longer: one hundredth, and no more than this.
const LEAST_BYTES_MAX: u64 = 8 << 20;

/// The room of all containers.
#[derive(Debug)]
pub(crate) struct Room {
    wal: Arc<Wal>,
    dir: Option<PathBuf>,
    config: config::Log,
    state: Mutex<Pace>,
    /// Something was refused since there was room.
    is_full: AtomicBool,
}

/// What is left, and when it may be taken.
#[derive(Debug)]
struct Pace {
    left: u64,
    /// What was taken and is not in the log yet.
    held: u64,
    /// Of what is left, nothing is taken.
    least: u64,
    slow_down: Duration,
    /// What was taken so far was to take until then.
    until: Instant,
    /// What there is too little of.
    of: &'static str,
}

const LOG: &str = "the log is full, as long-term storage does not take what is in it";
const DISK: &str = "the disk of the log is full but for `log.reserve`: make room there";

impl Room {
    pub(crate) fn new(wal: Arc<Wal>, dir: Option<&Path>, config: &config::Log) -> Self {
        let mut config = config.clone();
        config.limit.0 = config.limit.0.max(SEGMENTS_MIN * config.segment.0);
        let room = Self {
            wal,
            dir: dir.map(Path::to_owned),
            state: Mutex::new(Pace {
                left: 0,
                held: 0,
                least: (config.limit.0 / 100).min(LEAST_BYTES_MAX),
                slow_down: config.slow_down,
                until: rt::now(),
                of: LOG,
            }),
            config,
            is_full: AtomicBool::new(false),
        };
        room.measure();
        room
    }

    /// Nothing more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> wal::Stats {
        self.wal.stats()
    }

    /// What the log takes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.stats().n_segments as u64 * self.config.segment.0
    }

    /// Looks at log and disk, and says how much of what the log can have is taken, in percent.
    pub(crate) fn measure(&self) -> u64 {
        let limit = self.config.limit.0;
        // What is kept begins somewhere in its first segment.
        let kept = self.stats().kept_bytes;
        let of_log = limit.saturating_sub(kept);
        // If the disk does not say, it is written until it refuses.
        let dir = self.dir.as_deref();
        let of_disk = dir.and_then(|dir| durable::available_bytes(dir).ok());
        let of_disk = of_disk.unwrap_or(u64::MAX);
        let of_disk = of_disk.saturating_sub(self.config.reserve.0);
        let mut state = self.state();
        (state.left, state.of) = if of_disk < of_log {
            (of_disk, DISK)
        } else {
            (of_log, LOG)
        };
        state.left = state.left.saturating_sub(state.held);
        if state.left > state.least {
            self.is_full.store(false, Ordering::Relaxed);
        }
        kept.saturating_mul(100) / kept.saturating_add(state.left).max(1)
    }

    /// Takes room, and waits while it is taken too fast. To be held until it is used.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: there is none.
    pub(crate) async fn take(&self, n_bytes: u64) -> Result<Taken<'_>> {
        let mut wait = self.state().take(n_bytes, rt::now());
        if wait.is_err() {
            // There may be some meanwhile.
            self.measure();
            wait = self.state().take(n_bytes, rt::now());
        }
        let wait = wait.map_err(|why| {
            self.is_full.store(true, Ordering::Relaxed);
            Error::unavailable(why)
        })?;
        let taken = Taken {
            room: self,
            n_bytes,
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(taken)
    }

    fn state(&self) -> MutexGuard<'_, Pace> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for something that is not in the log yet.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    room: &'a Room,
    n_bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.state().held -= self.n_bytes;
    }
}

impl Pace {
    /// How long to wait then, or why there is no room.
    fn take(&mut self, n_bytes: u64, now: Instant) -> Result<Duration, &'static str> {
        let left = self.left;
        self.left = left
            .checked_sub(n_bytes)
            .filter(|left| *left >= self.least)
            .ok_or(self.of)?;
        self.held += n_bytes;
        // At the rate at which all that is left would be taken in that time.
        #[expect(clippy::cast_precision_loss, reason = "it is a share")]
        let share = n_bytes as f64 / left.max(1) as f64;
        let until = self.until.max(now) + self.slow_down.mul_f64(share);
        // Nobody pays for more than they would wait.
        self.until = until.min(now + BURST + WAIT_MAX);
        let ahead = self.until.duration_since(now);
        Ok(ahead.saturating_sub(BURST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 30;

    fn pace(now: Instant) -> Pace {
        Pace {
            left: LIMIT,
            held: 0,
            least: LIMIT / 100,
            slow_down: Duration::from_secs(3),
            until: now,
            of: LOG,
        }
    }

    /// Whoever takes as fast as may be is slowed down by and by, and is never kept for long.
    #[test]
    fn the_last_of_it_goes_slowly_and_then_it_is_refused() {
        const PIECE: u64 = 64 << 10;
        let start = rt::now();
        let (mut now, mut pace) = (start, pace(start));
        let (mut last, mut n_taken) = (Duration::ZERO, 0);
        let why = loop {
            // So long the log takes for it: 150 MB/s.
            now += Duration::from_micros(437);
            match pace.take(PIECE, now) {
                Ok(wait) => {
                    assert!(wait <= last + Duration::from_millis(5), "{last:?} {wait:?}");
                    now += wait;
                    last = wait;
                }
                Err(why) => break why,
            }
            n_taken += PIECE;
        };
        assert_eq!(why, LOG);
        assert!(n_taken >= LIMIT / 100 * 99 - PIECE, "{n_taken}");
        let took = now - start;
        let unpaced = Duration::from_secs(LIMIT / 150_000_000);
        assert!(took > unpaced + Duration::from_secs(5), "{took:?}");
        assert!(last > Duration::from_millis(10), "{last:?}");
    }

    /// However many have waited, there is nothing left to wait for when there is room again.
    #[test]
    fn many_who_wait_leave_no_debt() {
        let now = rt::now();
        let mut pace = pace(now);
        pace.left = 20 << 20;
        for _ in 0..10_000 {
            pace.left = 20 << 20;
            let wait = pace.take(100_000, now).expect("there is room");
            assert!(wait <= WAIT_MAX, "{wait:?}");
        }
        pace.left = LIMIT;
        let later = now + WAIT_MAX + BURST;
        assert_eq!(pace.take(100_000, later), Ok(Duration::ZERO));
    }

    #[test]
    fn who_takes_slowly_does_not_wait_until_little_is_left() {
        let start = rt::now();
        let (mut now, mut pace) = (start, pace(start));
        let mut n_taken = 0;
        // 15 MB/s.
        while pace.take(15_000, now) == Ok(Duration::ZERO) {
            now += Duration::from_millis(1);
            n_taken += 15_000;
        }
        assert!(n_taken >= LIMIT / 100 * 95, "{n_taken}");
    }
}
