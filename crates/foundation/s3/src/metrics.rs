//! What the front door counts.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use telemetry::Metrics;

/// Of one server, or of several that are counted together. Clones share them.
#[derive(Clone, Debug)]
pub struct Counters {
    pub(crate) connections: IntGauge,
    pub(crate) delayed: IntCounter,
    pub(crate) heads_refused: IntCounter,
    pub(crate) requests: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) seconds: Histogram,
    pub(crate) received_bytes: IntCounter,
    pub(crate) sent_bytes: IntCounter,
}

impl Counters {
    /// # Panics
    /// If they are declared there already.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        const SECONDS: [f64; 10] = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0,
        ];
        Self {
            connections: metrics.gauge("s3_connections", "Open connections of S3 clients."),
            delayed: metrics.counter(
                "s3_connections_delayed_total",
                "Times that the limit on open connections made others wait.",
            ),
            heads_refused: metrics.counter(
                "s3_heads_refused_total",
                "Connections closed because the head of a request was too large or not HTTP.",
            ),
            requests: metrics.counters(
                "s3_requests_total",
                "Requests answered, by operation of S3 and class of the status.",
                &["operation", "status"],
            ),
            errors: metrics.counters(
                "s3_errors_total",
                "Requests refused, by S3's code for the reason; EntityTooLarge and RequestTimeout are limits.",
                &["code"],
            ),
            seconds: metrics.histogram(
                "s3_request_seconds",
                "From the head of a request to the head of its answer.",
                &SECONDS,
            ),
            received_bytes: metrics.counter(
                "s3_received_bytes_total",
                "Bytes received from S3 clients, before decryption.",
            ),
            sent_bytes: metrics.counter(
                "s3_sent_bytes_total",
                "Bytes sent to S3 clients, before encryption.",
            ),
        }
    }
}
