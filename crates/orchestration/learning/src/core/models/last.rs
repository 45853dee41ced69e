//! It stays as it is.

use super::Model;
use crate::seam::Time;

#[derive(Debug, Default)]
pub(super) struct Last(Option<f64>);

impl Model for Last {
    fn observe(&mut self, _at: Time, value: f64) {
        self.0 = Some(value);
    }

    fn forecast(&self, _target: Time) -> Option<f64> {
        self.0
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}
