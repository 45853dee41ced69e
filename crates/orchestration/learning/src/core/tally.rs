//! What is counted, until it is taken over into metrics.

use super::models::N_MODELS;
use super::score::Scored;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub models: [ModelTally; N_MODELS],
    /// For how many targets each model speaks now; this alone is not a sum.
    pub speaking: [i64; N_MODELS],
    /// Points that were not believed.
    pub rejected: u64,
    pub violation_seconds: f64,
    /// Decisions by kind of outcome, as they were first made.
    pub outcomes: Vec<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct ModelTally {
    pub scored: u64,
    pub error_seconds: f64,
    pub with_quantiles: u64,
    pub covered: u64,
}

impl Tally {
    pub(crate) fn score(&mut self, scored: Scored) {
        let model = &mut self.models[scored.model];
        model.scored += 1;
        model.error_seconds += scored.abs_error;
        if let Some(covered) = scored.covered {
            model.with_quantiles += 1;
            model.covered += u64::from(covered);
        }
    }
}
