//! Forecasting models, all trained online behind one trait.
//!
//! A model says what it expects, one number. How far off it may be is learned outside ([`super::score`]), from the errors that it
//! made at the same horizon, in the same way for all: no model is trusted about its own spread.

mod ar;
mod ewma;
mod grid;
mod holt;
mod last;
mod seasonal;

use std::fmt::Debug;
use std::time::Duration;

use crate::seam::Time;

/// What can forecast a series.
///
/// The contract: `forecast` depends on nothing but the values observed so far, so that what comes later changes no earlier forecast;
/// it never panics, and what it returns may be any number, also not a finite one.
pub(crate) trait Model: Debug + Send {
    /// The next value. Times grow strictly, and values are finite.
    fn observe(&mut self, at: Time, value: f64);

    /// What the value will be at `target`; `None` if it has not seen enough.
    fn forecast(&self, target: Time) -> Option<f64>;

    /// Forgets all: the series has a gap, or has become another.
    fn reset(&mut self);
}

/// The names of the models, in the order of [`all`]. The first [`N_HEURISTICS`] cannot fail, and are what the others must beat.
pub(crate) const NAMES: [&str; 5] = ["last", "ewma", "seasonal", "holt", "ar"];
pub(crate) const N_MODELS: usize = NAMES.len();
pub(crate) const N_HEURISTICS: usize = 2;

/// New models for a series with a value every `step`.
pub(crate) fn all(step: Duration) -> [Box<dyn Model>; N_MODELS] {
    let step = step.as_secs_f64().max(0.001);
    [
        Box::new(last::Last::default()),
        Box::new(ewma::Ewma::new(4.0 * step)),
        Box::new(seasonal::Seasonal::new(step)),
        Box::new(holt::Holt::new(3.0 * step, 24.0 * step)),
        Box::new(ar::Ar::new(step)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(500);

    /// What each model says after these values, `ahead` seconds later.
    fn forecasts(values: impl Iterator<Item = f64>, ahead: f64) -> [Option<f64>; N_MODELS] {
        let mut models = all(STEP);
        let mut now = Time(1_000_000);
        for value in values {
            now = now.plus(STEP);
            for model in &mut models {
                model.observe(now, value);
            }
        }
        models.map(|model| model.forecast(now.plus(Duration::from_secs_f64(ahead))))
    }

    #[track_caller]
    fn close(name: &str, values: impl Iterator<Item = f64>, ahead: f64, truth: f64, within: f64) {
        let idx = NAMES.iter().position(|n| *n == name).expect("a model");
        let found = forecasts(values, ahead)[idx].expect("it has seen enough");
        assert!(
            (found - truth).abs() < within,
            "{name}: {found} for {truth}"
        );
    }

    #[test]
    fn a_constant_is_forecast_by_all_that_answer() {
        for (name, found) in NAMES.iter().zip(forecasts((0..60).map(|_| 0.25), 6.0)) {
            match found {
                Some(found) => assert!((found - 0.25).abs() < 1e-6, "{name}: {found}"),
                None => assert_eq!(*name, "seasonal", "it has no season"),
            }
        }
    }

    #[test]
    fn models_with_a_trend_follow_a_ramp() {
        let ramp = || (0..80).map(|i| 1.0 + 0.05 * f64::from(i));
        close("holt", ramp(), 3.0, 1.0 + 0.05 * 85.0, 0.1);
        close("ar", ramp(), 3.0, 1.0 + 0.05 * 85.0, 0.05);
        close("last", ramp(), 3.0, 1.0 + 0.05 * 79.0, 1e-9);
    }

    #[test]
    fn a_season_is_found_and_followed() {
        let wave = |i: i32| 1.0 + 0.5 * (f64::from(i) * std::f64::consts::TAU / 20.0).sin();
        close("seasonal", (0..120).map(wave), 5.0, wave(129), 0.05);
        close("ar", (0..120).map(wave), 5.0, wave(129), 0.15);
    }

    #[test]
    fn too_little_is_no_forecast() {
        assert_eq!(forecasts([].into_iter(), 3.0), [None; N_MODELS]);
        let after_one = forecasts([1.0].into_iter(), 3.0);
        assert_eq!(after_one, [Some(1.0), Some(1.0), None, None, None]);
    }

    #[test]
    fn reset_forgets() {
        for mut model in all(STEP) {
            for i in 1..100 {
                model.observe(Time(i * 500), 1.0);
            }
            model.reset();
            assert_eq!(model.forecast(Time(60_000)), None, "{model:?}");
        }
    }

    proptest! {
        #[test]
        fn none_panics_and_all_are_deterministic(
            steps in prop::collection::vec((1_u64..5_000, prop_oneof![-1e3..1e3, Just(0.0), -1e300..1e300, Just(1e-300)]), 0..150),
            ahead in 0_u64..100_000,
        ) {
            let run = || {
                let mut models = all(STEP);
                let mut now = Time(0);
                for (dt, value) in &steps {
                    now = Time(now.0 + dt);
                    for model in &mut models {
                        model.observe(now, *value);
                    }
                }
                models.map(|model| model.forecast(Time(now.0 + ahead)).map(f64::to_bits))
            };
            prop_assert_eq!(run(), run());
        }
    }
}
