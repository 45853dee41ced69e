//! Quantiles from experience: adaptive conformal inference over a model's recent errors at one horizon.
//!
//! The quantile at a level is the median forecast plus the error that so many of the recent errors stayed below. Errors of a series
//! that changes are not exchangeable, so the level that is looked up adapts: whenever the truth comes out above the
//! quantile more often than it should, a higher level is looked up from then on, and the other way round (Gibbs and Candès, 2021).
//!
//! What coverage can be had: `n` errors make `n + 1` gaps, and the next one is as likely in each. So at most `n / (n + 1)` of what comes
//! is below the largest of them, which is 89 % for 8, and no quantile of the sample is one of 95 % before there are 19. With the
//! [`MIN_ERRORS`] and errors that are exchangeable all of [`LEVELS`] are met; with others the adaptation brings the coverage back to
//! the level over a long run, and there is no promise for a short one.

use std::collections::VecDeque;

/// The levels at which a forecast says a value.
pub(crate) const LEVELS: [f64; 5] = [0.05, 0.1, 0.5, 0.9, 0.95];
pub(crate) const MEDIAN: usize = 2;

/// Errors that are remembered.
const WINDOW: usize = 64;
/// Errors before there are quantiles: the fewest with which the outermost of [`LEVELS`] are inside the sample.
pub(super) const MIN_ERRORS: usize = 19;
/// How fast a level adapts.
const RATE: f64 = 0.01;

#[derive(Debug)]
pub(super) struct Conformal {
    /// Truth minus forecast, oldest first.
    errors: VecDeque<f64>,
    /// The level that is looked up for each of [`LEVELS`].
    adapted: [f64; LEVELS.len()],
}

impl Default for Conformal {
    fn default() -> Self {
        Self {
            errors: VecDeque::new(),
            adapted: LEVELS,
        }
    }
}

impl Conformal {
    /// The quantiles around a forecast, in growing order.
    pub(super) fn quantiles(&self, forecast: f64) -> Option<[f64; LEVELS.len()]> {
        if self.errors.len() < MIN_ERRORS {
            return None;
        }
        let mut sorted: Vec<f64> = self.errors.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut found = self.adapted.map(|level| forecast + at(&sorted, level));
        // Levels adapt each for itself and may cross; a time is not negative.
        found.sort_unstable_by(f64::total_cmp);
        Some(found.map(|value| value.max(0.0)))
    }

    /// The truth has come for a forecast that was made with these quantiles.
    pub(super) fn learn(
        &mut self,
        forecast: f64,
        quantiles: Option<&[f64; LEVELS.len()]>,
        truth: f64,
    ) {
        if let Some(quantiles) = quantiles {
            for ((adapted, level), value) in self.adapted.iter_mut().zip(LEVELS).zip(quantiles) {
                let below = if truth <= *value { 1.0 } else { 0.0 };
                *adapted = (*adapted + RATE * (level - below)).clamp(-1.0, 2.0);
            }
        }
        if self.errors.len() == WINDOW {
            self.errors.pop_front();
        }
        self.errors.push_back(truth - forecast);
    }
}

/// The quantile of a sorted sample, with the correction for its size: the next value is as likely in each of the gaps. Levels that have
/// adapted beyond what so many values can tell are the outermost value; those beyond 0 and 1 lie outside, by the sample's width for
/// each whole level.
fn at(sorted: &[f64], level: f64) -> f64 {
    let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
    if level <= 0.0 {
        return first + level * (last - first);
    }
    if level >= 1.0 {
        return last + (level - 1.0) * (last - first);
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to WINDOW + 1"
    )]
    let rank = {
        let exact = level * (sorted.len() + 1) as f64;
        let outward = if level < 0.5 {
            exact.floor()
        } else {
            exact.ceil()
        };
        outward as usize
    };
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::Random;

    /// The first quantiles that there are, many times.
    #[test]
    fn the_first_quantiles_cover_as_much_as_they_say() {
        const RUNS: u32 = 20_000;
        let mut random = Random(1);
        let mut below = [0; LEVELS.len()];
        for _ in 0..RUNS {
            let mut conformal = Conformal::default();
            let quantiles = loop {
                match conformal.quantiles(100.0) {
                    Some(quantiles) => break quantiles,
                    None => conformal.learn(0.0, None, random.normal()),
                }
            };
            let truth = 100.0 + random.normal();
            for (n, value) in below.iter_mut().zip(quantiles) {
                *n += u32::from(truth <= value);
            }
        }
        for (level, n) in LEVELS.into_iter().zip(below) {
            let covered = f64::from(n) / f64::from(RUNS);
            assert!((covered - level).abs() < 0.01, "{level}: {covered}");
        }
    }
}
