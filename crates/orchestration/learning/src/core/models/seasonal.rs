//! It does what it did one season ago. The season is the lag at which the series resembles itself most.

use std::collections::VecDeque;

use super::Model;
use super::grid::Grid;
use crate::seam::Time;

const WINDOW: usize = 256;
/// The shortest season, and how many of them must have been seen.
const LAG_MIN: usize = 6;
const SEASONS_MIN: usize = 3;
/// Less autocorrelation than this is no season.
const CORRELATION_MIN: f64 = 0.7;
/// The season is looked for again after so many values.
const SEARCH_EVERY: usize = 8;

#[derive(Debug)]
pub(super) struct Seasonal {
    grid: Grid,
    lag: Option<usize>,
    since_search: usize,
}

impl Seasonal {
    pub(super) fn new(step: f64) -> Self {
        Self {
            grid: Grid::new(step, WINDOW),
            lag: None,
            since_search: 0,
        }
    }
}

impl Model for Seasonal {
    fn observe(&mut self, at: Time, value: f64) {
        self.grid.observe(at, value);
        self.since_search += 1;
        if self.since_search >= SEARCH_EVERY {
            self.since_search = 0;
            self.lag = season(&self.grid.values);
        }
    }

    fn forecast(&self, target: Time) -> Option<f64> {
        let values = &self.grid.values;
        let lag = self.lag?;
        let ahead = self.grid.steps_to(target)?.max(1);
        let back = lag - 1 - (ahead - 1) % lag;
        // The mean of the same moment in the last two seasons.
        let newest = values.len().checked_sub(1 + back)?;
        let older = newest.checked_sub(lag)?;
        Some(f64::midpoint(values[newest], values[older]))
    }

    fn reset(&mut self) {
        self.grid.reset();
        self.lag = None;
        self.since_search = 0;
    }
}

/// The lag with the highest autocorrelation, behind the first lag at which there is none: a slow series resembles itself at every
/// short lag, which is no season.
fn season(values: &VecDeque<f64>) -> Option<usize> {
    #[expect(clippy::cast_precision_loss, reason = "at most WINDOW")]
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let centred: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let energy = |part: &[f64]| part.iter().map(|v| v * v).sum::<f64>();
    let correlation = |lag: usize| {
        let (early, late) = (&centred[..centred.len() - lag], &centred[lag..]);
        let product: f64 = early.iter().zip(late).map(|(a, b)| a * b).sum();
        product / (energy(early) * energy(late)).sqrt()
    };
    let lags = 1..=values.len() / SEASONS_MIN;
    lags.map(|lag| (lag, correlation(lag)))
        .skip_while(|(_, correlation)| *correlation > 0.0)
        .filter(|(lag, correlation)| *lag >= LAG_MIN && *correlation > CORRELATION_MIN)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(lag, _)| lag)
}
