//! What the Learning Plane tells of itself.

use prometheus::{Counter, CounterVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::core::models::NAMES;
use crate::core::tally::Tally;

#[derive(Debug)]
pub(crate) struct Metrics {
    scored: IntCounterVec,
    errors: CounterVec,
    with_quantiles: IntCounterVec,
    covered: IntCounterVec,
    speaking: IntGaugeVec,
    decisions: IntCounterVec,
    rejected: IntCounter,
    violation: Counter,
    targets: IntGauge,
    open_moves: IntGauge,
    ledger: IntGauge,
}

impl Metrics {
    pub(crate) fn new(metrics: &telemetry::Metrics) -> Self {
        let model = ["model"];
        Self {
            scored: metrics.counters(
                "learning_forecasts_scored_total",
                "Forecasts whose truth has come.",
                &model,
            ),
            errors: metrics.sums(
                "learning_forecast_error_seconds_total",
                "Absolute errors of the scored forecasts.",
                &model,
            ),
            with_quantiles: metrics.counters(
                "learning_intervals_scored_total",
                "Scored forecasts that had an interval from their 5 % to their 95 % quantile.",
                &model,
            ),
            covered: metrics.counters(
                "learning_intervals_covered_total",
                "Scored intervals that held the truth; 90 % of them should.",
                &model,
            ),
            speaking: metrics.gauges(
                "learning_targets_forecast",
                "Targets for which the model is the best at the horizon that is needed.",
                &model,
            ),
            decisions: metrics.counters(
                "learning_decisions_total",
                "Decisions, counted when they are first made and again when a move ends.",
                &["outcome"],
            ),
            rejected: metrics.counter(
                "learning_samples_rejected_total",
                "Iteration times that were not believed: not finite, not positive, or from the future.",
            ),
            violation: metrics.sum(
                "learning_violation_seconds_total",
                "Time in which iterations took longer than the KPI of their block allows.",
            ),
            targets: metrics.gauge("learning_targets", "Blocks that are watched."),
            open_moves: metrics.gauge("learning_moves_open", "Moves that are under way."),
            ledger: metrics.gauge("learning_ledger_bytes", "The ledger of decisions on disk."),
        }
    }

    /// Takes over what was counted.
    pub(crate) fn take(&self, tally: &mut Tally) {
        for (name, (model, speaking)) in NAMES.iter().zip(tally.models.iter().zip(tally.speaking)) {
            let label = [*name];
            self.scored.with_label_values(&label).inc_by(model.scored);
            self.errors
                .with_label_values(&label)
                .inc_by(model.error_seconds);
            self.with_quantiles
                .with_label_values(&label)
                .inc_by(model.with_quantiles);
            self.covered.with_label_values(&label).inc_by(model.covered);
            self.speaking.with_label_values(&label).set(speaking);
        }
        for outcome in tally.outcomes.drain(..) {
            self.decisions.with_label_values(&[outcome]).inc();
        }
        self.rejected.inc_by(tally.rejected);
        self.violation.inc_by(tally.violation_seconds);
        *tally = Tally::default();
    }

    pub(crate) fn levels(&self, targets: usize, open_moves: usize, ledger: u64) {
        let level = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.targets.set(level(targets));
        self.open_moves.set(level(open_moves));
        self.ledger.set(i64::try_from(ledger).unwrap_or(i64::MAX));
    }
}
