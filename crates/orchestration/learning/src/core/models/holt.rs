//! Holt's linear trend, damped: a level and a slope, both smoothed; the slope fades with the distance.

use super::Model;
use crate::seam::Time;

/// The slope falls to 1/e of itself in so many times its own memory: a trend does not last for ever.
const DAMPING_MEMORIES: f64 = 4.0;
/// Values before the slope means anything.
const MIN_VALUES: u32 = 4;

#[derive(Debug)]
pub(super) struct Holt {
    /// Memories of level and slope, seconds.
    level_memory: f64,
    slope_memory: f64,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    at: Time,
    level: f64,
    /// Per second.
    slope: f64,
    n_values: u32,
}

impl Holt {
    pub(super) fn new(level_memory: f64, slope_memory: f64) -> Self {
        Self {
            level_memory,
            slope_memory,
            state: None,
        }
    }

    /// How far a slope of one leads in `seconds`.
    fn reach(&self, seconds: f64) -> f64 {
        let fading = DAMPING_MEMORIES * self.slope_memory;
        fading * (1.0 - (-seconds / fading).exp())
    }
}

impl Model for Holt {
    fn observe(&mut self, at: Time, value: f64) {
        let Some(State {
            at: before,
            level: old,
            slope,
            n_values,
        }) = self.state
        else {
            self.state = Some(State {
                at,
                level: value,
                slope: 0.0,
                n_values: 1,
            });
            return;
        };
        let seconds = at.seconds_since(before);
        let expected = old + slope * self.reach(seconds);
        let keep = (-seconds / self.level_memory).exp();
        let level = keep * expected + (1.0 - keep) * value;
        let keep = (-seconds / self.slope_memory).exp();
        self.state = Some(State {
            at,
            level,
            slope: keep * slope + (1.0 - keep) * (level - old) / seconds,
            n_values: n_values.saturating_add(1),
        });
    }

    fn forecast(&self, target: Time) -> Option<f64> {
        let state = self.state.as_ref().filter(|s| s.n_values >= MIN_VALUES)?;
        Some(state.level + state.slope * self.reach(target.seconds_since(state.at)))
    }

    fn reset(&mut self) {
        self.state = None;
    }
}
