//! Where metrics are declared and rendered.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The metrics of a process. Clones share them.
///
/// Every declaration takes a name and a sentence of help. It panics when the name breaks Prometheus' conventions or is
/// declared twice: both are mistakes in our code that the first test to start the process shows. Label *names* are
/// literals; whoever sets a label's value keeps the number of values bounded.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
    samplers: Arc<Samplers>,
}

/// What is called before the metrics are read.
#[derive(Default)]
struct Samplers(Mutex<Vec<Box<dyn Fn() + Send>>>);

impl fmt::Debug for Samplers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samplers")
    }
}

impl Samplers {
    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Fn() + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a name is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Foreign,
    Gauge,
    Histogram,
}

impl Metrics {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number of things that happened; its name ends in `_total`.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.declare(Kind::Counter, name, help, &[], IntCounter::with_opts)
    }

    /// Counters told apart by labels.
    #[must_use]
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.declare(Kind::Counter, name, help, labels, |opts| {
            IntCounterVec::new(opts, labels)
        })
    }

    /// A counter whose name another system has given it, and that its users know: conventions for names do not count.
    #[must_use]
    pub fn foreign_counter(&self, name: &str, help: &str) -> IntCounter {
        self.declare(Kind::Foreign, name, help, &[], IntCounter::with_opts)
    }

    /// The same for a histogram.
    #[must_use]
    pub fn foreign_histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.spread(Kind::Foreign, name, help, buckets)
    }

    /// A sum that only grows and is not whole, such as seconds spent; its name ends in `_total`.
    #[must_use]
    pub fn sum(&self, name: &str, help: &str) -> Counter {
        self.declare(Kind::Counter, name, help, &[], Counter::with_opts)
    }

    /// Sums told apart by labels.
    #[must_use]
    pub fn sums(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.declare(Kind::Counter, name, help, labels, |opts| {
            CounterVec::new(opts, labels)
        })
    }

    /// A level that goes up and down.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.declare(Kind::Gauge, name, help, &[], IntGauge::with_opts)
    }

    /// Gauges told apart by labels.
    #[must_use]
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.declare(Kind::Gauge, name, help, labels, |opts| {
            IntGaugeVec::new(opts, labels)
        })
    }

    /// How values spread over `buckets`, which are upper bounds in growing order.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.spread(Kind::Histogram, name, help, buckets)
    }

    fn spread(&self, kind: Kind, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.declare(kind, name, help, &[], |common_opts| {
            Histogram::with_opts(HistogramOpts {
                common_opts,
                buckets: buckets.to_vec(),
            })
        })
    }

    /// Histograms told apart by labels.
    #[must_use]
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        self.declare(Kind::Histogram, name, help, labels, |common_opts| {
            HistogramVec::new(
                HistogramOpts {
                    common_opts,
                    buckets: buckets.to_vec(),
                },
                labels,
            )
        })
    }

    /// Has `sample` called whenever somebody is about to read the metrics, and never twice at once: it sets those whose values are kept
    /// elsewhere. It is to be short, and reads no metrics itself.
    pub fn before_reading(&self, sample: impl Fn() + Send + 'static) {
        self.samplers.lock().push(Box::new(sample));
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let samplers = self.samplers.lock();
        samplers.iter().for_each(|sample| sample());
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked at their declaration, and a string takes it all")
    }

    fn declare<M: Collector + Clone + 'static>(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[&str],
        build: impl FnOnce(Opts) -> prometheus::Result<M>,
    ) -> M {
        if let Some(why) = objection(kind, name, help, labels) {
            panic!("metric `{name}`: {why}");
        }
        let metric =
            build(Opts::new(name, help)).unwrap_or_else(|error| panic!("metric `{name}`: {error}"));
        self.registry
            .register(Box::new(metric.clone()))
            .unwrap_or_else(|error| panic!("metric `{name}`: {error}"));
        metric
    }
}

/// What Prometheus' conventions have against such a metric, if anything.
fn objection(kind: Kind, name: &str, help: &str, labels: &[&str]) -> Option<&'static str> {
    if help.trim().is_empty() {
        return Some("a sentence must say what it is");
    }
    if let Some(why) = std::iter::once(name)
        .chain(labels.iter().copied())
        .find_map(misspelt)
    {
        return Some(why);
    }
    if kind == Kind::Foreign {
        return None;
    }
    if name.ends_with("_total") != (kind == Kind::Counter) {
        return Some("counters end in `_total`, and nothing else does");
    }
    if ["_count", "_sum", "_bucket", "_info"]
        .iter()
        .any(|end| name.ends_with(end))
    {
        return Some("this ending belongs to the parts of histograms");
    }
    let words = ["counter", "gauge", "histogram"];
    if name.split('_').any(|word| words.contains(&word)) {
        return Some("the name says what is measured, not how");
    }
    // Not base units, or short forms of them.
    let units = [
        "ms",
        "us",
        "ns",
        "milliseconds",
        "microseconds",
        "nanoseconds",
        "minutes",
        "hours",
        "days",
        "kilobytes",
        "megabytes",
        "gigabytes",
        "kb",
        "mb",
        "gb",
        "bits",
        "percent",
    ];
    if name.split('_').any(|word| units.contains(&word)) {
        return Some("units are base units: seconds, bytes, ratio");
    }
    None
}

fn misspelt(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let spelt = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain);
    (!spelt || name == "le").then_some("names are lower case letters, digits and `_`, and not `le`")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn metrics_are_rendered() {
        let metrics = Metrics::new();
        metrics.counter("cells_moves_total", "Moves.").inc_by(3);
        metrics
            .gauges("cells_ranks", "Ranks.", &["state"])
            .with_label_values(&["parked"])
            .set(2);
        metrics
            .histogram("cells_pause_seconds", "Pauses.", &[0.01, 0.1])
            .observe(0.05);
        let text = metrics.clone().render();
        for line in [
            "# HELP cells_moves_total Moves.",
            "# TYPE cells_moves_total counter",
            "cells_moves_total 3",
            "cells_ranks{state=\"parked\"} 2",
            "cells_pause_seconds_bucket{le=\"0.01\"} 0",
            "cells_pause_seconds_bucket{le=\"+Inf\"} 1",
            "cells_pause_seconds_count 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing from:\n{text}"
            );
        }
    }

    #[test]
    fn what_is_kept_elsewhere_is_asked_for_when_somebody_reads() {
        let metrics = Metrics::new();
        let (level, elsewhere) = (
            metrics.gauge("cells_ranks", "Ranks."),
            Arc::new(AtomicI64::new(1)),
        );
        let kept = Arc::clone(&elsewhere);
        metrics
            .clone()
            .before_reading(move || level.set(kept.load(Ordering::Relaxed)));
        for value in [1, 7] {
            elsewhere.store(value, Ordering::Relaxed);
            let text = metrics.render();
            assert!(text.contains(&format!("\ncells_ranks {value}\n")), "{text}");
        }
    }

    #[test]
    fn conventions_are_kept() {
        let fine =
            |kind, name| assert_eq!(objection(kind, name, "Help.", &["state"]), None, "{name}");
        fine(Kind::Counter, "cells_moves_total");
        fine(Kind::Gauge, "cells_memory_bytes");
        fine(Kind::Histogram, "cells_pause_seconds");
        fine(Kind::Foreign, "others__files_opened");
        for (kind, name, help, label) in [
            (Kind::Foreign, "Others", "Help.", "a"),
            (Kind::Counter, "cells_moves", "Help.", "a"),
            (Kind::Gauge, "cells_ranks_total", "Help.", "a"),
            (Kind::Gauge, "cells_ranks", " ", "a"),
            (Kind::Gauge, "Cells", "Help.", "a"),
            (Kind::Gauge, "1_cell", "Help.", "a"),
            (Kind::Gauge, "", "Help.", "a"),
            (Kind::Gauge, "cells_ranks_count", "Help.", "a"),
            (Kind::Gauge, "cells_gauge", "Help.", "a"),
            (Kind::Histogram, "cells_pause_ms", "Help.", "a"),
            (Kind::Histogram, "cells_pause_seconds", "Help.", "le"),
            (Kind::Histogram, "cells_pause_seconds", "Help.", "Rank"),
        ] {
            assert!(
                objection(kind, name, help, &[label]).is_some(),
                "{name} {help} {label}"
            );
        }
    }

    #[test]
    fn a_second_declaration_is_a_mistake() {
        let metrics = Metrics::new();
        let declare = || drop(metrics.gauge("cells_ranks", "Ranks."));
        declare();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(declare)).is_err());
    }
}
