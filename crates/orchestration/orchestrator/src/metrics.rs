//! What the controller counts.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

#[derive(Debug)]
pub(crate) struct Metrics {
    pub sites_connected: IntGauge,
    pub sites_refused: IntCounter,
    pub sites_dropped: IntCounter,
    pub configurations: IntCounter,
    pub blueprints: IntCounter,
    pub overtaken: IntCounter,
    pub plan_seconds: Histogram,
    pub task_failures: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(metrics: &telemetry::Metrics) -> Self {
        let buckets = [0.001, 0.004, 0.016, 0.064, 0.256, 1.0, 4.0];
        Self {
            sites_connected: metrics.gauge("orchestrator_sites_connected", "Sites with a link to this controller."),
            sites_refused: metrics.counter(
                "orchestrator_sites_refused_total",
                "Connections that were not taken: no token, another's certificate, another version.",
            ),
            sites_dropped: metrics.counter(
                "orchestrator_sites_dropped_total",
                "Links that were ended because the site did not take its messages, or dialled anew.",
            ),
            configurations: metrics.counter("orchestrator_configurations_total", "Configurations pushed to sites."),
            blueprints: metrics.counter("orchestrator_blueprints_total", "Blueprints made by this controller."),
            overtaken: metrics.counter(
                "orchestrator_blueprints_overtaken_total",
                "Blueprints that another controller, or an operator, was faster than.",
            ),
            plan_seconds: metrics.histogram("orchestrator_plan_seconds", "How long the planner took.", &buckets),
            task_failures: metrics.counters(
                "orchestrator_task_failures_total",
                "Runs of background tasks that failed, by task.",
                &["task"],
            ),
        }
    }
}
