//! Bounded time series on disk: what `/v1/metrics` serves and what the Learning Plane looks at.
//!
//! It is the embedded default for one controller, not a database for many: a few thousand series at a point every half second. Whoever
//! wants more, or longer, has Prometheus read the processes' `/metrics`.
//!
//! Guarantees:
//! - A point is found as soon as [`Store::append`] has returned. It reaches the disk within a second: a crash of the process or the machine
//!   costs the last second.
//! - The points of a series are in order. A point of a time that the series has, or before its newest, is not taken, and counted; so are
//!   malformed ones, those ahead of the clock, and those of a series too many (`series_samples_total` by outcome).
//! - Missing is never zero: a gap is a gap, and an instant query looks back no further than it says.
//! - Memory and disk are bounded by [`Limits`]; the oldest points go first. An organisation at a site cannot take the places of another.
//! - When the disk fails, queries go on from memory; what could not be written is counted (`series_points_lost_total`).
//!
//! Reading order: `core` (what is kept), `selector` (what is asked for), `disk` (one block of points as a file).

mod core;
mod disk;
mod selector;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use telemetry::Metrics;
use workload::link::Sample;

pub use self::core::{Key, Limits, Point};
pub(crate) use self::selector::NAME_LABEL;
pub use self::selector::{BadSelector, Selector};

use self::core::{Refusal, Tables};
use self::disk::{Batch, Writer};

/// How far back an instant query looks: by Prometheus' rule for the outside, and for what is sampled every half second.
pub const LOOKBACK: Duration = Duration::from_mins(5);
pub const SENSOR_LOOKBACK: Duration = Duration::from_secs(5);

/// What one query may find.
const FOUND_SERIES_MAX: usize = 5_000;
const FOUND_POINTS_MAX: usize = 500_000;
/// What one range query may look at: steps at which a series may have a point.
const LOOKS_MAX: u64 = 500_000;
/// Prometheus' limit on the points of one series in one answer.
const STEPS_MAX: u64 = 11_000;

/// How often is written to disk, and how much may wait for it.
const WRITE_PERIOD: Duration = Duration::from_secs(1);
const PENDING_POINTS_MAX: usize = 200_000;

/// Series with one point each, or with many.
pub type Instants = Vec<(Arc<Key>, Point)>;
pub type Ranges = Vec<(Arc<Key>, Vec<Point>)>;

/// The steps of a range query, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start_ms: u64,
    pub end_ms: u64,
    pub step_ms: u64,
}

impl Steps {
    /// The numbers of those at which a series may have a point, of all that there are.
    fn at_which(&self, series: &core::Found<'_>, lookback_ms: u64) -> std::ops::Range<u64> {
        let n_steps = (self.end_ms - self.start_ms) / self.step_ms + 1;
        let Some((oldest, newest)) = series.span() else {
            return 0..0;
        };
        // The first one at or after the oldest point, and the first one for which the newest is too old.
        let begin = oldest.saturating_sub(self.start_ms).div_ceil(self.step_ms);
        let too_old_ms = newest.saturating_add(lookback_ms);
        let end = too_old_ms
            .saturating_sub(self.start_ms)
            .div_ceil(self.step_ms)
            .min(n_steps);
        begin.min(end)..end
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("the end is before the start, or the step is zero")]
    BadRange,
    #[error("more than {STEPS_MAX} points a series: take a longer step or a shorter range")]
    TooManySteps,
    #[error("more than {0}: select fewer series or a shorter range")]
    TooMuch(&'static str),
}

/// The series. Dropping it writes what waits.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    memory: RwLock<Memory>,
    disk: Mutex<Option<Writer>>,
    is_ending: Mutex<bool>,
    end: Condvar,
    counters: Counters,
}

#[derive(Debug)]
struct Memory {
    tables: Tables,
    /// What is not on disk yet.
    pending: Vec<Waiting>,
}

/// Series, milliseconds since 1970, value.
type Waiting = (u32, u64, f64);

#[derive(Debug)]
struct Counters {
    samples: IntCounterVec,
    lost: IntCounter,
    series: IntGauge,
    bytes: IntGauge,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let outcome = "Samples by what became of them: taken, or why not.";
        let lost = "Points that were not written to disk.";
        let bytes = "What the kept points take, in memory and about the same on disk.";
        Self {
            samples: metrics.counters("series_samples_total", outcome, &["outcome"]),
            lost: metrics.counter("series_points_lost_total", lost),
            series: metrics.gauge("series_active", "Series with points."),
            bytes: metrics.gauge("series_bytes", bytes),
        }
    }
}

impl Store {
    /// Reads what `dir` holds and goes on from there.
    ///
    /// # Errors
    /// When the directory cannot be made or read. Damaged files cost their points only.
    pub fn open(dir: &Path, limits: Limits, metrics: &Metrics) -> io::Result<Self> {
        durable::make_dir(dir)?;
        let counters = Counters::new(metrics);
        let mut tables = Tables::new(limits);
        for block in disk::blocks(dir)? {
            // Of two files with one number there is none: the name is the number.
            if block != tables.block() {
                tables.open_block(block);
            }
            let (series, n_unread_bytes) = disk::read(dir, block)?;
            if n_unread_bytes > 0 {
                tracing::warn!(block, n_unread_bytes, "the end of a file of series is cut");
            }
            for (key, points) in series {
                for point in points {
                    // It was taken when it came in; damage that the checksum missed is dropped here.
                    tables.load(&key.name, &key.labels, point).ok();
                }
            }
            tables.open_block(block + 1);
        }
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            memory: RwLock::new(Memory {
                tables,
                pending: Vec::new(),
            }),
            disk: Mutex::new(None),
            is_ending: Mutex::new(false),
            end: Condvar::new(),
            counters,
        });
        shared.flush();
        let writing = Arc::clone(&shared);
        let writer = rt::thread("series".to_owned(), 256 << 10, move || {
            writing.keep_writing()
        })?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// Takes what can be taken; the rest is counted.
    pub fn append(&self, samples: &[Sample]) {
        self.append_at(samples, wall_ms());
    }

    fn append_at(&self, samples: &[Sample], now_ms: u64) {
        let counters = &self.shared.counters;
        let mut memory = self.shared.write();
        let Memory { tables, pending } = &mut *memory;
        for sample in samples {
            let point = Point {
                at_ms: sample.at_ms,
                value: sample.value,
            };
            let outcome = match tables.append(&sample.name, &sample.labels, point, now_ms) {
                Ok(series) => {
                    if pending.len() < PENDING_POINTS_MAX {
                        pending.push((series, sample.at_ms, sample.value));
                    } else {
                        counters.lost.inc();
                    }
                    "taken"
                }
                Err(Refusal::Malformed) => "malformed",
                Err(Refusal::Duplicate) => "duplicate",
                Err(Refusal::OutOfOrder) => "out_of_order",
                Err(Refusal::Ahead) => "ahead",
                Err(Refusal::TooManySeries) => "too_many_series",
            };
            counters.samples.with_label_values(&[outcome]).inc();
        }
    }

    /// Lets go what a site has measured until then (ms since 1970). On disk it stays until its block goes, so this is to be said again whenever
    /// the store was opened.
    pub fn forget(&self, site: &str, at_ms: u64) {
        let mut memory = self.shared.write();
        let Memory { tables, pending } = &mut *memory;
        tables.forget(site, at_ms);
        pending.retain(|(series, ..)| tables.key(*series).is_some());
    }

    /// The newest point of each series at `at_ms`, if it was less than `lookback` old then. `org` sees its own series and those of nobody;
    /// `None` sees all.
    ///
    /// # Errors
    /// When there are too many.
    pub fn query(
        &self,
        selector: &Selector,
        org: Option<&str>,
        at_ms: u64,
        lookback: Duration,
    ) -> Result<Instants, QueryError> {
        let memory = self.shared.read();
        let lookback_ms = millis(lookback);
        let found = memory.tables.select(selector, org);
        collect(found.filter_map(|series| {
            let point = series.at(at_ms, lookback_ms)?;
            Some((Arc::clone(series.key), point))
        }))
    }

    /// The newest point of each series, however old.
    ///
    /// # Errors
    /// When there are too many.
    pub fn last_seen(
        &self,
        selector: &Selector,
        org: Option<&str>,
    ) -> Result<Instants, QueryError> {
        let memory = self.shared.read();
        let found = memory.tables.select(selector, org);
        collect(found.filter_map(|series| Some((Arc::clone(series.key), series.newest()?))))
    }

    /// What [`query`](Self::query) says at each step.
    ///
    /// # Errors
    /// When that is too much, or the steps lead nowhere.
    pub fn query_range(
        &self,
        selector: &Selector,
        org: Option<&str>,
        steps: Steps,
        lookback: Duration,
    ) -> Result<Ranges, QueryError> {
        if steps.step_ms == 0 || steps.end_ms < steps.start_ms {
            return Err(QueryError::BadRange);
        }
        let n_steps = (steps.end_ms - steps.start_ms) / steps.step_ms + 1;
        if n_steps > STEPS_MAX {
            return Err(QueryError::TooManySteps);
        }
        let lookback_ms = millis(lookback);
        let memory = self.shared.read();
        // What it takes is known, and bounded, before anything of it is done.
        let mut n_looks = 0;
        let mut found = Vec::new();
        for series in memory.tables.select(selector, org) {
            let looked_at = steps.at_which(&series, lookback_ms);
            if looked_at.is_empty() {
                continue;
            }
            n_looks += looked_at.end - looked_at.start;
            if n_looks > LOOKS_MAX {
                return Err(QueryError::TooMuch("500,000 steps of series"));
            }
            found.push((series, looked_at));
        }
        let points = |series: &core::Found<'_>, looked_at: std::ops::Range<u64>| {
            let times = looked_at.map(|n| steps.start_ms + n * steps.step_ms);
            let at = |at_ms| Some((at_ms, series.at(at_ms, lookback_ms)?.value));
            let points = times.filter_map(at);
            points
                .map(|(at_ms, value)| Point { at_ms, value })
                .collect::<Vec<_>>()
        };
        let ranges = found
            .into_iter()
            .map(|(series, looked_at)| (Arc::clone(series.key), points(&series, looked_at)));
        collect(ranges.filter(|(_, points)| !points.is_empty()))
    }

    /// The points as they came in, both ends included.
    ///
    /// # Errors
    /// When there are too many.
    pub fn points(
        &self,
        selector: &Selector,
        org: Option<&str>,
        from_ms: u64,
        to_ms: u64,
    ) -> Result<Ranges, QueryError> {
        self.ranges(selector, org, |series| {
            let between = series.between(from_ms, to_ms);
            between.take(FOUND_POINTS_MAX + 1).collect()
        })
    }

    fn ranges(
        &self,
        selector: &Selector,
        org: Option<&str>,
        points: impl Fn(&core::Found<'_>) -> Vec<Point>,
    ) -> Result<Ranges, QueryError> {
        let memory = self.shared.read();
        let mut n_points = 0;
        let mut ranges = Vec::new();
        for series in memory.tables.select(selector, org) {
            let points = points(&series);
            if points.is_empty() {
                continue;
            }
            n_points += points.len();
            if n_points > FOUND_POINTS_MAX {
                return Err(QueryError::TooMuch("500,000 points"));
            }
            ranges.push((Arc::clone(series.key), points));
        }
        collect(ranges.into_iter())
    }

    /// Writes what waits, now. Whoever stops in order calls it, or drops the store.
    pub fn flush(&self) {
        self.shared.flush();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        *lock(&self.shared.is_ending) = true;
        self.shared.end.notify_all();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was reported by its thread, and has cost no more than what it would have written.
            writer.join().ok();
        }
        self.shared.flush();
    }
}

impl Shared {
    fn keep_writing(&self) {
        let mut is_ending = lock(&self.is_ending);
        while !*is_ending {
            let waited = self.end.wait_timeout(is_ending, WRITE_PERIOD);
            is_ending = waited.unwrap_or_else(PoisonError::into_inner).0;
            self.flush();
        }
    }

    fn flush(&self) {
        // Held throughout, so that batches reach the disk in their order; memory is not, so that nobody waits for the disk.
        let mut disk = lock(&self.disk);
        let mut memory = self.write();
        let points = std::mem::take(&mut memory.pending);
        let block = memory.tables.block();
        *disk = disk.take().filter(|writer| writer.block == block);
        let batch = batch(&memory.tables, disk.as_ref(), points);
        let gone = memory.tables.turn(wall_ms());
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.counters
            .series
            .set(count(memory.tables.n_series() as u64));
        self.counters.bytes.set(count(memory.tables.bytes()));
        drop(memory);
        if let Err(error) = write(&mut disk, &self.dir, block, &batch) {
            tracing::warn!(%error, "series cannot be written to disk");
            self.take_back(batch.points);
        }
        for block in gone {
            if let Err(error) = disk::remove(&self.dir, block) {
                tracing::warn!(%error, block, "an old file of series cannot be removed");
            }
        }
    }

    /// What could not be written waits again, in front of what has come since.
    fn take_back(&self, mut points: Vec<Waiting>) {
        let mut memory = self.write();
        points.append(&mut memory.pending);
        let n_lost = points.len().saturating_sub(PENDING_POINTS_MAX);
        points.truncate(PENDING_POINTS_MAX);
        self.counters.lost.inc_by(n_lost as u64);
        memory.pending = points;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The points, with the keys of the series that the file does not name yet.
fn batch(tables: &Tables, writer: Option<&Writer>, points: Vec<Waiting>) -> Batch {
    let is_new = |series: &u32| writer.is_none_or(|writer| !writer.names(*series));
    let series: BTreeSet<u32> = points.iter().map(|(series, ..)| *series).collect();
    let new = series.into_iter().filter(is_new);
    let definitions = new.filter_map(|series| {
        let key = tables.key(series)?;
        Some((series, key.name.clone(), key.labels.clone()))
    });
    Batch {
        definitions: definitions.collect(),
        points,
    }
}

fn write(disk: &mut Option<Writer>, dir: &Path, block: u32, batch: &Batch) -> io::Result<()> {
    if batch.points.is_empty() {
        return Ok(());
    }
    let writer = match disk {
        Some(writer) => writer,
        None => disk.insert(Writer::create(dir, block)?),
    };
    writer.append(batch)
}

fn collect<T>(found: impl Iterator<Item = T>) -> Result<Vec<T>, QueryError> {
    let found: Vec<T> = found.take(FOUND_SERIES_MAX + 1).collect();
    if found.len() > FOUND_SERIES_MAX {
        return Err(QueryError::TooMuch("5,000 series"));
    }
    Ok(found)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn wall_ms() -> u64 {
    let since = rt::wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, millis)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
