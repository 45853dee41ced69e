//! The exponentially weighted mean: it stays as it has been lately.

use super::Model;
use crate::seam::Time;

#[derive(Debug)]
pub(super) struct Ewma {
    /// What a value weighs falls to 1/e in so many seconds.
    memory: f64,
    state: Option<(Time, f64)>,
}

impl Ewma {
    pub(super) fn new(memory: f64) -> Self {
        Self {
            memory,
            state: None,
        }
    }
}

impl Model for Ewma {
    fn observe(&mut self, at: Time, value: f64) {
        let level = self.state.map_or(value, |(before, level)| {
            let keep = (-at.seconds_since(before) / self.memory).exp();
            keep * level + (1.0 - keep) * value
        });
        self.state = Some((at, level));
    }

    fn forecast(&self, _target: Time) -> Option<f64> {
        self.state.map(|(_, level)| level)
    }

    fn reset(&mut self) {
        self.state = None;
    }
}
