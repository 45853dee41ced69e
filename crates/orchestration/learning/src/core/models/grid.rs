//! A series at equal distances.

use std::collections::VecDeque;

use crate::seam::Time;

/// The last values at equal distances. Samples come when they come; between two of them it is interpolated. (Gaps too long for that
/// reset the models before.)
#[derive(Debug)]
pub(super) struct Grid {
    step: f64,
    capacity: usize,
    pub(super) values: VecDeque<f64>,
    /// The last sample, and how long before it the last value of the grid lies.
    last: Option<(Time, f64, f64)>,
}

impl Grid {
    pub(super) fn new(step: f64, capacity: usize) -> Self {
        Self {
            step,
            capacity,
            values: VecDeque::new(),
            last: None,
        }
    }

    pub(super) fn observe(&mut self, at: Time, value: f64) {
        let Some((before, old, behind)) = self.last else {
            self.push(value);
            self.last = Some((at, value, 0.0));
            return;
        };
        let seconds = at.seconds_since(before);
        // A sample a little early is taken for the moment that it was meant for, so that jitter does not smooth the series.
        let mut next = self.step - behind;
        let mut behind = behind + seconds;
        for _ in 0..self.capacity {
            if next > seconds + 0.25 * self.step {
                break;
            }
            let part = (next / seconds).clamp(0.0, 1.0);
            self.push(old + part * (value - old));
            next += self.step;
            behind = (behind - self.step).max(0.0);
        }
        self.last = Some((at, value, behind.min(self.step)));
    }

    /// How many steps `target` is away from the last value.
    pub(super) fn steps_to(&self, target: Time) -> Option<usize> {
        let (at, _, behind) = self.last?;
        let steps = ((target.seconds_since(at) + behind) / self.step).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is cut to what fits"
        )]
        Some(steps.clamp(0.0, 1e9) as usize)
    }

    pub(super) fn reset(&mut self) {
        self.values.clear();
        self.last = None;
    }

    fn push(&mut self, value: f64) {
        if self.values.len() == self.capacity {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }
}
