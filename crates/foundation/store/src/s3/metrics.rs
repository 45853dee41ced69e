//! What is counted of requests to stores that speak S3.

use prometheus::{IntCounter, IntCounterVec};
use telemetry::Metrics;

/// Declared once for all endpoints.
#[derive(Clone, Debug)]
pub struct Counters {
    pub(super) requests: IntCounterVec,
    pub(super) sent_bytes: IntCounter,
    pub(super) received_bytes: IntCounter,
}

impl Counters {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.counters(
                "store_s3_requests_total",
                "Requests to stores that speak S3, each attempt by itself, by method and class of the status; `none`: no answer.",
                &["method", "status"],
            ),
            sent_bytes: metrics.counter(
                "store_s3_sent_bytes_total",
                "Bytes of the bodies of requests that were answered.",
            ),
            received_bytes: metrics.counter(
                "store_s3_received_bytes_total",
                "Bytes of the bodies of answers.",
            ),
        }
    }

    pub(super) fn answered(&self, method: &str, status: Option<u16>) {
        let class = match status.map(|status| status / 100) {
            None => "none",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(_) => "5xx",
        };
        self.requests.with_label_values(&[method, class]).inc();
    }
}
