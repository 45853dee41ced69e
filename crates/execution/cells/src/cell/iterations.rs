//! How long a rank takes from one completion of an MPI call to the next of the same kind.
//!
//! A kind is a call with its communicator and tag. What takes most of a program's time between two of them is one of its iterations, so
//! these times tell how well it is doing without knowing the program. Only whole intervals at one place are counted: none with a move or
//! a checkpoint in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Counter, IntCounter};

use crate::host::metrics::Metrics;
use crate::wire::messages::Rank;

/// Kinds that are told apart; a rank that has more is told so by a counter.
const KEYS_MAX: usize = 32;
/// The clock is not read more often than this, about: sums of successive intervals need no clock in between.
const CLOCK_PERIOD_NS: u128 = 50_000;
/// Completions without a look at the clock, so that a program that becomes slow is noticed.
const STRIDE_MAX: u32 = 64;
/// Below it the tag is no part of the kind: collectives have none.
const FIRST_POINT_TO_POINT: u32 = 16;

/// The intervals of one rank as long as it is here. They are forgotten, and with them its metrics, when this is dropped.
#[derive(Debug)]
pub(super) struct Iterations {
    rank: String,
    metrics: Arc<Metrics>,
    entries: Vec<Entry>,
    latest: usize,
    uncounted: Option<IntCounter>,
}

/// A kind of completion, as the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    call: u32,
    comm: u32,
    tag: i32,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    count: IntCounter,
    seconds: Counter,
    /// When the intervals began that are not counted yet, if they did.
    began: Option<Instant>,
    n_pending: u32,
    /// So many are counted together.
    stride: u32,
}

impl Iterations {
    pub(super) fn new(rank: Rank, metrics: &Arc<Metrics>) -> Self {
        Self {
            rank: rank.to_string(),
            metrics: Arc::clone(metrics),
            entries: Vec::new(),
            latest: 0,
            uncounted: None,
        }
    }

    /// A call has completed.
    #[inline]
    pub(super) fn completed(&mut self, call: u32, ctx: u32, tag: i32) {
        let key = Key {
            call,
            comm: ctx / 2,
            tag: if call < FIRST_POINT_TO_POINT { 0 } else { tag },
        };
        let is_latest = |entry: &Entry| entry.key == key;
        if !self.entries.get(self.latest).is_some_and(is_latest) {
            let Some(at) = self.find(key) else {
                return self.leave_out();
            };
            self.latest = at;
        }
        self.entries[self.latest].completed();
    }

    fn find(&mut self, key: Key) -> Option<usize> {
        if let Some(at) = self.entries.iter().position(|entry| entry.key == key) {
            return Some(at);
        }
        if self.entries.len() >= KEYS_MAX {
            return None;
        }
        let labels = [self.rank.as_str(), &key.name()?];
        self.entries.push(Entry {
            key,
            count: self.metrics.iterations.with_label_values(&labels),
            seconds: self.metrics.iteration_seconds.with_label_values(&labels),
            began: None,
            n_pending: 0,
            stride: 1,
        });
        Some(self.entries.len() - 1)
    }

    fn leave_out(&mut self) {
        let counter = || {
            let counters = &self.metrics.uncounted_completions;
            counters.with_label_values(&[&self.rank])
        };
        self.uncounted.get_or_insert_with(counter).inc();
    }

    /// The rank stands still: the intervals that have begun mean nothing.
    pub(super) fn interrupt(&mut self) {
        for entry in &mut self.entries {
            (entry.began, entry.n_pending, entry.stride) = (None, 0, 1);
        }
    }

    /// The rank is here no more.
    pub(super) fn forget(&mut self) {
        // What is not there need not be removed.
        for entry in self.entries.drain(..) {
            let labels = [self.rank.as_str(), &entry.key.name().unwrap_or_default()];
            drop(self.metrics.iterations.remove_label_values(&labels));
            drop(self.metrics.iteration_seconds.remove_label_values(&labels));
        }
        if self.uncounted.take().is_some() {
            let counters = &self.metrics.uncounted_completions;
            drop(counters.remove_label_values(&[&self.rank]));
        }
    }
}

impl Drop for Iterations {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Entry {
    fn completed(&mut self) {
        self.n_pending += 1;
        if self.n_pending < self.stride {
            return;
        }
        let now = rt::now();
        if let Some(began) = self.began {
            self.count(now.saturating_duration_since(began));
        }
        self.began = Some(now);
        self.n_pending = 0;
    }

    fn count(&mut self, elapsed: Duration) {
        self.count.inc_by(u64::from(self.n_pending));
        self.seconds.inc_by(elapsed.as_secs_f64());
        let one_ns = (elapsed.as_nanos() / u128::from(self.n_pending)).max(1);
        let stride = u32::try_from(CLOCK_PERIOD_NS / one_ns).unwrap_or(STRIDE_MAX);
        self.stride = stride.clamp(1, STRIDE_MAX);
    }
}

impl Key {
    /// `CALL/COMM/TAG`, see `docs/cell-abi.md`; `None`: there is no such call.
    fn name(self) -> Option<String> {
        let call = match self.call {
            1 => "MPI_Barrier",
            2 => "MPI_Bcast",
            3 => "MPI_Reduce",
            4 => "MPI_Allreduce",
            5 => "MPI_Gather",
            6 => "MPI_Scatter",
            7 => "MPI_Allgather",
            8 => "MPI_Alltoall",
            9 => "MPI_Scan",
            10 => "MPI_Exscan",
            11 => "MPI_Reduce_scatter",
            16 => "MPI_Recv",
            17 => "MPI_Sendrecv",
            18 => "MPI_Wait",
            _ => return None,
        };
        let comm = match self.comm {
            0 => "world".to_owned(),
            1 => "self".to_owned(),
            number => number.to_string(),
        };
        Some(if self.call < FIRST_POINT_TO_POINT {
            format!("{call}/{comm}/-")
        } else {
            format!("{call}/{comm}/{}", self.tag)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(metrics: &telemetry::Metrics) -> Iterations {
        Iterations::new(3, &Arc::new(Metrics::new(metrics)))
    }

    /// The sample of a series.
    fn sample(metrics: &telemetry::Metrics, series: &str) -> Option<f64> {
        let text = metrics.render();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }

    fn count(metrics: &telemetry::Metrics, key: &str) -> Option<f64> {
        let name = "cloudskin_cell_iterations_total";
        sample(metrics, &format!("{name}{{key=\"{key}\",rank=\"3\"}}"))
    }

    fn seconds(metrics: &telemetry::Metrics, key: &str) -> Option<f64> {
        let name = "cloudskin_cell_iteration_seconds_total";
        sample(metrics, &format!("{name}{{key=\"{key}\",rank=\"3\"}}"))
    }

    #[test]
    fn every_interval_between_completions_counts_and_their_times_add_up() {
        let metrics = telemetry::Metrics::new();
        let mut iterations = new(&metrics);
        let start = rt::now();
        for _ in 0..100_000 {
            iterations.completed(4, 0, 17);
            iterations.completed(16, 0, 17);
        }
        let elapsed = start.elapsed().as_secs_f64();
        for key in ["MPI_Allreduce/world/-", "MPI_Recv/world/17"] {
            let count = count(&metrics, key).expect("a series");
            let missing = 99_999.0 - count;
            assert!((0.0..f64::from(STRIDE_MAX)).contains(&missing), "{count}");
            let seconds = seconds(&metrics, key).expect("a series");
            assert!(seconds > 0.0 && seconds <= elapsed);
        }
    }

    #[test]
    fn keys_have_names() {
        let metrics = telemetry::Metrics::new();
        let mut iterations = new(&metrics);
        for (call, ctx, tag, key) in [
            (1, 2, 5, "MPI_Barrier/self/-"),
            (11, 4, 0, "MPI_Reduce_scatter/2/-"),
            (17, 0, 5, "MPI_Sendrecv/world/5"),
            (18, 7, i32::MAX, "MPI_Wait/3/2147483647"),
        ] {
            iterations.completed(call, ctx, tag);
            assert_eq!(count(&metrics, key), Some(0.0), "{key}");
            iterations.completed(call, ctx, tag);
            assert_eq!(count(&metrics, key), Some(1.0), "{key}");
        }
    }

    #[test]
    fn an_interval_with_a_stop_in_it_does_not_count() {
        let metrics = telemetry::Metrics::new();
        let mut iterations = new(&metrics);
        for n in 0..5 {
            iterations.completed(1, 0, 0);
            iterations.completed(1, 0, 0);
            iterations.interrupt();
            assert_eq!(
                count(&metrics, "MPI_Barrier/world/-"),
                Some(f64::from(n + 1))
            );
        }
    }

    #[test]
    fn a_rank_has_so_many_series_and_takes_them_along() {
        let metrics = telemetry::Metrics::new();
        let mut iterations = new(&metrics);
        let uncounted = "cloudskin_cell_uncounted_completions_total{rank=\"3\"}";
        for tag in 0..40 {
            iterations.completed(16, 0, tag);
        }
        iterations.completed(99, 0, 0);
        assert!(count(&metrics, "MPI_Recv/world/31").is_some());
        assert!(count(&metrics, "MPI_Recv/world/32").is_none());
        assert_eq!(sample(&metrics, uncounted), Some(9.0));
        iterations.forget();
        iterations.completed(1, 0, 0);
        assert!(metrics.render().contains("MPI_Barrier"));
        drop(iterations);
        assert!(!metrics.render().contains("MPI_"));
        assert_eq!(sample(&metrics, uncounted), None);
    }
}
