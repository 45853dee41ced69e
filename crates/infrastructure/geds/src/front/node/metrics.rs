//! What the node's door counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use telemetry::Metrics;

use crate::error::Kind;

/// Of one server, or of several that are counted together. Clones share them.
#[derive(Clone, Debug)]
pub struct Counters {
    pub(super) connections: IntGauge,
    pub(super) delayed: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) requests: IntCounterVec,
    pub(super) errors: IntCounterVec,
    pub(super) received_bytes: IntCounter,
    pub(super) sent_bytes: IntCounter,
}

impl Counters {
    /// # Panics
    /// If they are declared there already.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge(
                "geds_node_connections",
                "Open connections of clients of the node protocol.",
            ),
            delayed: metrics.counter(
                "geds_node_connections_delayed_total",
                "Times that the limits on connections made others wait.",
            ),
            refused: metrics.counter(
                "geds_node_connections_refused_total",
                "Connections closed because nobody proved in time to be a user.",
            ),
            requests: metrics.counters(
                "geds_node_requests_total",
                "Requests heard, by operation.",
                &["operation"],
            ),
            errors: metrics.counters(
                "geds_node_errors_total",
                "Requests refused, by the kind of the reason; Exhausted is a limit.",
                &["kind"],
            ),
            received_bytes: metrics.counter(
                "geds_node_received_bytes_total",
                "Bytes received from clients that are known, before decryption.",
            ),
            sent_bytes: metrics.counter(
                "geds_node_sent_bytes_total",
                "Bytes sent to clients that are known, before encryption.",
            ),
        }
    }

    pub(super) fn count_error(&self, kind: Kind) {
        let kind = format!("{kind:?}");
        self.errors.with_label_values(&[&kind]).inc();
    }
}
