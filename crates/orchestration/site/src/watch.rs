//! Looking at what runs: for each driver a thread that observes and one that samples, and one that samples the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ids::{Labels, Name};
use workload::link::Sample;
use workload::{Driver, Observed};

use crate::clock::{Clock, wall_ms};
use crate::core::reconcile::Observation;
use crate::hub::Hub;
use crate::sample::Snapshot;
use crate::share::Share;

/// How often a driver is observed: while things change, and when all is calm.
const HOT: Duration = Duration::from_millis(5);
const CALM: Duration = Duration::from_millis(250);
/// For how long after a change it counts as changing.
const HOT_FOR: Duration = Duration::from_secs(2);
const SAMPLE_PERIOD: Duration = Duration::from_millis(500);

/// Wakes a watcher.
#[derive(Debug, Default)]
pub(crate) struct Poke {
    state: Mutex<Poked>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Poked {
    now: bool,
    stop: bool,
}

impl Poke {
    /// Something was done that will show soon.
    pub(crate) fn now(&self) {
        self.set(|poked| poked.now = true);
    }

    pub(crate) fn stop(&self) {
        self.set(|poked| poked.stop = true);
    }

    fn set(&self, change: impl FnOnce(&mut Poked)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, at_most: Duration) -> Poked {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = |poked: &mut Poked| *poked == Poked::default();
        let waited = self.changed.wait_timeout_while(state, at_most, calm);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let poked = *state;
        state.now = false;
        poked
    }

    /// Waits for the next time to sample. `false`: there is none.
    fn await_next(&self, next: &mut Instant) -> bool {
        // At fixed times, so that a late sample does not make all later ones late; but missed ones are not made up for.
        *next = (*next + SAMPLE_PERIOD).max(rt::now());
        loop {
            let left = next.saturating_duration_since(rt::now());
            if left.is_zero() {
                return true;
            }
            if self.wait(left).stop {
                return false;
            }
        }
    }
}

/// Observes one driver until it is told to stop.
pub(crate) fn observe(driver: &dyn Driver, share: &Share, hub: &Hub, clock: Clock, poke: &Poke) {
    let mut before: Option<BTreeMap<_, Observed>> = None;
    let mut hot_until = Duration::ZERO;
    loop {
        let at = clock.now();
        let units: BTreeMap<_, _> = driver
            .observe()
            .into_iter()
            .map(|seen| (seen.id.clone(), seen))
            .collect();
        let admitted = share.admit(&driver.pids());
        if before.as_ref().is_none_or(|before| differ(before, &units)) {
            hot_until = at + HOT_FOR;
        }
        before = Some(units.clone());
        hub.tell(|inbox| {
            inbox
                .observed
                .insert(driver.kind(), Observation { at, units });
            inbox.share = Some(admitted.map_err(|error| error.to_string()));
        });
        let poked = poke.wait(if at < hot_until { HOT } else { CALM });
        if poked.now {
            hot_until = clock.now() + HOT_FOR;
        }
        if poked.stop {
            return;
        }
    }
}

/// Whether more has changed than what a running unit has written.
fn differ<K: Ord>(before: &BTreeMap<K, Observed>, after: &BTreeMap<K, Observed>) -> bool {
    let same = |(before, after): (&Observed, &Observed)| same_but_log(before, after);
    !before.keys().eq(after.keys()) || !before.values().zip(after.values()).all(same)
}

/// Whether two observations are the same but for the length of the log, which grows all the time.
pub(crate) fn same_but_log(a: &Observed, b: &Observed) -> bool {
    let with_log_of_b = Observed {
        log_bytes: b.log_bytes,
        ..a.clone()
    };
    with_log_of_b == *b
}

/// Samples the machine until it is told to stop.
pub(crate) fn sample(
    site: &Name,
    drivers: &[Arc<dyn Driver>],
    share: &Share,
    hub: &Hub,
    poke: &Poke,
) {
    let labels = labels_of(site);
    let mut before = None;
    let mut reported = None;
    let mut next = rt::now();
    loop {
        let pids: Vec<u32> = drivers.iter().flat_map(|driver| driver.pids()).collect();
        let at = rt::now();
        let mut values = vec![("site_cpu_share", share.cores())];
        let (measured, uncounted) = measure(Path::new("/proc"), &pids, at, &mut before);
        values.extend(measured);
        if reported.as_ref() != Some(&uncounted) {
            hub.tell(|inbox| inbox.uncounted = Some(uncounted.clone()));
            reported = Some(uncounted);
        }
        let at_ms = wall_ms();
        let samples = values.into_iter().map(|(name, value)| Sample {
            name: name.to_owned(),
            labels: labels.clone(),
            at_ms,
            value,
        });
        hub.keep_samples(samples.collect());
        if !poke.await_next(&mut next) {
            return;
        }
    }
}

/// Asks a driver for its samples until it is told to stop. A driver that is slow, or hangs, keeps nobody else's samples waiting.
pub(crate) fn sample_units(site: &Name, driver: &dyn Driver, hub: &Hub, poke: &Poke) {
    let labels = labels_of(site);
    let mut next = rt::now();
    loop {
        let mut samples = driver.sample();
        for sample in &mut samples {
            sample.labels.extend(labels.clone());
        }
        hub.keep_samples(samples);
        if !poke.await_next(&mut next) {
            return;
        }
    }
}

fn labels_of(site: &Name) -> Labels {
    [("site".to_owned(), site.to_string())].into()
}

/// What the kernel has counted since `before`, and why there is no processor time in it.
fn measure(
    proc: &Path,
    pids: &[u32],
    at: Instant,
    before: &mut Option<(Snapshot, Instant)>,
) -> (Vec<(&'static str, f64)>, Option<String>) {
    let now = match Snapshot::take(proc, pids) {
        Ok(now) => now,
        Err(error) => {
            *before = None;
            return (Vec::new(), Some(error.to_string()));
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "to 53 bits is enough")]
    let mut values = vec![("site_memory_used_bytes", now.memory_bytes() as f64)];
    let usage = before
        .as_ref()
        .and_then(|(earlier, then)| now.since(earlier, at.duration_since(*then)));
    if let Some(usage) = usage {
        values.push(("site_cpu_used", usage.used));
        values.push(("site_cpu_waiting", usage.waiting));
    }
    let uncounted = now.uncounted().map(str::to_owned);
    *before = Some((now, at));
    (values, uncounted)
}
