//! What an agent counts about itself. What it measures of its site goes to the controller as samples.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub generation: IntGauge,
    pub refused: IntCounter,
    pub linked: IntGauge,
    pub dials: IntCounter,
    pub samples_waiting: IntGauge,
    pub samples_dropped: IntCounter,
    pub calls: IntCounterVec,
    pub conditions: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn new(metrics: &telemetry::Metrics) -> Self {
        Self {
            generation: metrics.gauge("site_generation", "The generation that is in force."),
            refused: metrics.counter(
                "site_configs_refused_total",
                "Configurations of the controller that were not taken.",
            ),
            linked: metrics.gauge("site_linked", "1 while there is a link to the controller."),
            dials: metrics.counter("site_dials_total", "Attempts to reach the controller."),
            samples_waiting: metrics.gauge(
                "site_samples_waiting",
                "Samples that wait for the link, of which there is a bounded number.",
            ),
            samples_dropped: metrics.counter(
                "site_samples_dropped_total",
                "Samples that were dropped, oldest first, because too many waited.",
            ),
            calls: metrics.counters(
                "site_driver_calls_total",
                "Calls of drivers that have ended.",
                &["call", "result"],
            ),
            conditions: metrics.gauges(
                "site_condition",
                "1 for each thing that is wrong with the site.",
                &["kind"],
            ),
        }
    }
}
