//! What the interface counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(super) answers: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) delayed: IntCounter,
    pub(super) streams: IntGauge,
}

impl Counters {
    pub(crate) fn new(metrics: &telemetry::Metrics) -> Self {
        Self {
            answers: metrics.counters("nbi_answers_total", "Answers by their status.", &["status"]),
            connections: metrics.gauge("nbi_connections", "Open connections of callers."),
            delayed: metrics.counter(
                "nbi_connections_delayed_total",
                "Times that the limit on open connections made others wait.",
            ),
            streams: metrics.gauge("nbi_streams", "Logs and watches that are being read."),
        }
    }
}

/// Counts while it lives.
#[derive(Debug)]
pub(super) struct Level(IntGauge);

impl Level {
    pub(super) fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.dec();
    }
}
