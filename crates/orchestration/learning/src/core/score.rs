//! One series and its forecasts: all models forecast it, the truth scores them, and the best at the horizon in question speaks.
//!
//! Every forecast is stored when it is made, with its quantiles, and never changed. When the truth at its target time has come (by
//! interpolation between two samples that are close enough to each other) it is scored. A horizon has its own scores: who is good at one
//! second may be bad at ten.
//!
//! What is forecast is the median of the last three values: one that stands out alone is no beginning of anything.

use std::collections::VecDeque;
use std::time::Duration;

use super::conformal::{Conformal, LEVELS, MIN_ERRORS};
use super::models::{self, Model, N_HEURISTICS, N_MODELS, NAMES};
use crate::seam::{Point, Time};

/// Horizons double from the shortest. A series has scores at the horizon that is needed before it is needed.
const N_RUNGS: usize = 6;
/// Scored points over which models are compared.
const COMPARED: usize = 48;
/// A model beats the heuristic if its mean error is smaller than this part of the heuristic's.
const BEATS_BELOW: f64 = 0.95;
/// Recent values, for the bounds of what a forecast may say.
const RECENT: usize = 64;
/// Values of which the median is taken.
const SMOOTHED: usize = 3;
/// A slow program has a value only when an iteration ends: so many of its iteration times may pass without one, but no longer than this.
const PATIENCE_ITERATIONS: f64 = 3.0;
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// What was said about the value at `target`, knowing what was known at `as_of`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forecast {
    pub model: usize,
    pub as_of: Time,
    pub target: Time,
    /// At [`LEVELS`].
    pub quantiles: [f64; LEVELS.len()],
}

impl Forecast {
    pub(crate) fn model_name(&self) -> &'static str {
        NAMES[self.model]
    }
}

/// A stored forecast that met its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub model: usize,
    pub abs_error: f64,
    /// Whether the truth was between the outermost quantiles, if there were any.
    pub covered: Option<bool>,
}

/// What each model says about one moment.
#[derive(Clone, Debug)]
struct Stored {
    as_of: Time,
    target: Time,
    by_model: [Option<Said>; N_MODELS],
}

#[derive(Clone, Copy, Debug)]
struct Said {
    value: f64,
    quantiles: Option<[f64; LEVELS.len()]>,
}

#[derive(Debug)]
struct Rung {
    horizon: Duration,
    stored: VecDeque<Stored>,
    conformal: [Conformal; N_MODELS],
    /// Absolute errors of all models at the same points.
    errors: VecDeque<[Option<f64>; N_MODELS]>,
}

#[derive(Debug)]
pub(crate) struct Forecaster {
    models: [Box<dyn Model>; N_MODELS],
    rungs: [Rung; N_RUNGS],
    gap_max: Duration,
    /// As they came, oldest first.
    last: VecDeque<Point>,
    /// The newest, smoothed.
    smooth: Option<Point>,
    recent: VecDeque<f64>,
}

impl Forecaster {
    /// For a series with a value every `step`, in which a gap longer than `gap_max` is not bridged.
    pub(crate) fn new(step: Duration, gap_max: Duration, horizon_min: Duration) -> Self {
        let mut horizon = horizon_min;
        let rungs = [(); N_RUNGS].map(|()| {
            let rung = Rung {
                horizon,
                stored: VecDeque::new(),
                conformal: Default::default(),
                errors: VecDeque::new(),
            };
            horizon *= 2;
            rung
        });
        Self {
            models: models::all(step),
            rungs,
            gap_max,
            last: VecDeque::new(),
            smooth: None,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn newest(&self) -> Option<Point> {
        self.last.back().copied()
    }

    /// Whether two points in a row are too far apart for anything to be known of the time between them.
    pub(crate) fn is_gap(&self, before: Point, after: Point) -> bool {
        after.at.since(before.at) > patience(self.gap_max, before.value.max(after.value))
    }

    /// Takes a point, which must be newer than those before it and finite, scores what is due, and stores forecasts that reach
    /// `needed` ahead until the next point, if that takes as long as this one took to come, and those of one horizon beyond.
    pub(crate) fn observe(&mut self, point: Point, needed: Duration) -> Vec<Scored> {
        let mut scored = Vec::new();
        let mut needed = needed;
        if let Some(newest) = self.newest() {
            if self.is_gap(newest, point) {
                self.interrupt();
            } else {
                needed += point.at.since(newest.at);
            }
        }
        if self.last.len() == SMOOTHED {
            self.last.pop_front();
        }
        self.last.push_back(point);
        let point = Point {
            at: point.at,
            value: lower_median(&self.last),
        };
        if let Some(before) = self.smooth.replace(point) {
            for rung in &mut self.rungs {
                rung.score(before, point, &mut scored);
            }
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(point.value);
        for model in &mut self.models {
            model.observe(point.at, point.value);
        }
        let up_to = self.rung(needed).map_or(N_RUNGS, |rung| rung + 2);
        for idx in 0..up_to.min(N_RUNGS) {
            self.store(idx, point.at);
        }
        scored
    }

    /// What is known of the models is kept, what they know of the series is not: nothing is forecast across a gap.
    fn interrupt(&mut self) {
        for model in &mut self.models {
            model.reset();
        }
        for rung in &mut self.rungs {
            rung.stored.clear();
        }
        self.recent.clear();
        self.last.clear();
        self.smooth = None;
    }

    /// The forecast about `until` or later that reaches least beyond it, by the model that is best so far ahead, or why there is none.
    pub(crate) fn forecast(&self, until: Time) -> Result<Forecast, String> {
        let Some(rung) = self.rung_until(until) else {
            let longest = self.rungs[N_RUNGS - 1].horizon.as_secs();
            return Err(format!(
                "no forecast reaches the end of a move: the longest is about {longest} s after the newest measurement"
            ));
        };
        let model = rung.best();
        let stored = rung.stored.back().filter(|stored| stored.target >= until);
        let found = stored.and_then(|stored| {
            Some(Forecast {
                model,
                as_of: stored.as_of,
                target: stored.target,
                quantiles: stored.by_model[model]?.quantiles?,
            })
        });
        found.ok_or_else(|| "there are too few scored forecasts yet at this horizon".to_owned())
    }

    /// Every model and its mean error as far ahead as `until` is, best first.
    pub(crate) fn ranking(&self, until: Time) -> Vec<(&'static str, f64)> {
        let Some(rung) = self.rung_until(until) else {
            return Vec::new();
        };
        let error = |model| Some((NAMES[model], rung.mean_error(model, model)?.0));
        let mut ranking: Vec<_> = (0..N_MODELS).filter_map(error).collect();
        ranking.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        ranking
    }

    /// The shortest horizon that is not shorter than `needed`.
    fn rung(&self, needed: Duration) -> Option<usize> {
        self.rungs.iter().position(|rung| rung.horizon >= needed)
    }

    /// Horizons count from the newest point, which is not of now.
    fn rung_until(&self, until: Time) -> Option<&Rung> {
        let newest = self.newest()?;
        let idx = self.rung(until.since(newest.at))?;
        Some(&self.rungs[idx])
    }

    fn store(&mut self, idx: usize, as_of: Time) {
        // A model that leaves what was seen by more than its width is not believed: fits of short series explode.
        let low = self.recent.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self
            .recent
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let width = high - low;
        let rung = &mut self.rungs[idx];
        let target = as_of.plus(rung.horizon);
        let mut by_model = [None; N_MODELS];
        for ((said, model), conformal) in by_model.iter_mut().zip(&self.models).zip(&rung.conformal)
        {
            *said = model
                .forecast(target)
                .filter(|value| value.is_finite())
                .map(|value| {
                    let value = value.clamp((low - width).max(0.0), high + width);
                    let quantiles = conformal.quantiles(value);
                    Said { value, quantiles }
                });
        }
        rung.stored.push_back(Stored {
            as_of,
            target,
            by_model,
        });
    }
}

/// For how long a value says something, when the shortest such time is `least`.
pub(crate) fn patience(least: Duration, value: f64) -> Duration {
    let seconds = (PATIENCE_ITERATIONS * value).clamp(0.0, PATIENCE_MAX.as_secs_f64());
    least.max(Duration::from_secs_f64(seconds))
}

fn lower_median(points: &VecDeque<Point>) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

impl Rung {
    /// Scores what was said about the time between two samples.
    fn score(&mut self, before: Point, after: Point, scored: &mut Vec<Scored>) {
        while let Some(stored) = self.stored.pop_front_if(|s| s.target <= after.at) {
            let part = stored.target.seconds_since(before.at) / after.at.seconds_since(before.at);
            let truth = before.value + part * (after.value - before.value);
            let mut errors = [None; N_MODELS];
            for (model, said) in stored.by_model.iter().enumerate() {
                let Some(Said { value, quantiles }) = said else {
                    continue;
                };
                self.conformal[model].learn(*value, quantiles.as_ref(), truth);
                let abs_error = (truth - value).abs();
                errors[model] = Some(abs_error);
                let inside = |q: [f64; LEVELS.len()]| q[0] <= truth && truth <= q[LEVELS.len() - 1];
                scored.push(Scored {
                    model,
                    abs_error,
                    covered: quantiles.map(inside),
                });
            }
            if self.errors.len() == COMPARED {
                self.errors.pop_front();
            }
            self.errors.push_back(errors);
        }
    }

    /// The mean errors of two models at the points where both were scored, if there are enough.
    fn mean_error(&self, a: usize, b: usize) -> Option<(f64, f64)> {
        let both = self.errors.iter().filter_map(|e| e[a].zip(e[b]));
        let (mut n, mut sums) = (0_u32, (0.0, 0.0));
        for (a, b) in both {
            n += 1;
            sums = (sums.0 + a, sums.1 + b);
        }
        let enough = usize::try_from(n).is_ok_and(|n| n >= MIN_ERRORS);
        enough.then(|| (sums.0 / f64::from(n), sums.1 / f64::from(n)))
    }

    /// The better heuristic, unless another model clearly beats it.
    fn best(&self) -> usize {
        let mut best = 0;
        for model in 1..N_MODELS {
            let factor = if best < N_HEURISTICS && model >= N_HEURISTICS {
                BEATS_BELOW
            } else {
                1.0
            };
            if let Some((error, to_beat)) = self.mean_error(model, best)
                && error < factor * to_beat
                && self
                    .stored
                    .back()
                    .is_some_and(|s| s.by_model[model].is_some_and(|said| said.quantiles.is_some()))
            {
                best = model;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::world::Random;

    const STEP: Duration = Duration::from_millis(500);
    const GAP: Duration = Duration::from_secs(2);
    const HORIZON: Duration = Duration::from_secs(3);
    /// With the step, the shortest horizon.
    const NEEDED: Duration = Duration::from_millis(2500);

    fn forecaster() -> Forecaster {
        Forecaster::new(STEP, GAP, HORIZON)
    }

    /// Observes values, one each step, and returns all that was stored and all that was scored.
    fn run(values: impl IntoIterator<Item = f64>) -> (Vec<Stored>, Vec<Scored>, Forecaster) {
        let mut forecaster = forecaster();
        let (mut stored, mut scored) = (Vec::new(), Vec::new());
        for (i, value) in values.into_iter().enumerate() {
            let at = Time(500 * (i as u64 + 1));
            scored.extend(forecaster.observe(Point { at, value }, NEEDED));
            for rung in &forecaster.rungs[..2] {
                stored.extend(rung.stored.back().cloned());
            }
        }
        (stored, scored, forecaster)
    }

    fn bits(stored: &Stored) -> Vec<u64> {
        let said = stored.by_model.iter().flatten();
        let values = said.flat_map(|said| {
            std::iter::once(said.value).chain(said.quantiles.into_iter().flatten())
        });
        [stored.as_of.0, stored.target.0]
            .into_iter()
            .chain(values.map(f64::to_bits))
            .collect()
    }

    fn staircase(seed: u64, n: u32) -> Vec<f64> {
        let mut random = Random(seed);
        let level = |i: u32| f64::from(1 + i / 16) * (1.0 + 0.05 * random.normal());
        (0..n).map(level).collect()
    }

    #[test]
    fn what_comes_later_changes_no_stored_forecast_by_a_bit() {
        let calm = staircase(7, 80);
        for spike_at in [10, 40, 41, 79] {
            let mut spiked = calm.clone();
            spiked[spike_at] = 1e6;
            let (before, _, _) = run(calm.clone());
            let (after, _, _) = run(spiked);
            let as_of = Time(500 * (spike_at as u64 + 1));
            let mut compared = 0;
            for (a, b) in before.iter().zip(&after).filter(|(a, _)| a.as_of < as_of) {
                assert_eq!(bits(a), bits(b));
                compared += 1;
            }
            assert_eq!(compared, 2 * spike_at);
        }
    }

    #[test]
    fn forecasts_reach_as_far_as_is_needed() {
        let (_, _, forecaster) = run(staircase(1, 100));
        for (needed, expected) in [
            (0.5, Some(3)),
            (3.0, Some(3)),
            (3.1, Some(6)),
            (500.0, None),
        ] {
            let forecast = forecaster.forecast(after(&forecaster, needed));
            let reach = forecast.map(|f| f.target.since(f.as_of).as_secs());
            assert_eq!(reach.ok(), expected, "{needed}");
        }
    }

    /// So many seconds after the newest point.
    fn after(forecaster: &Forecaster, seconds: f64) -> Time {
        let newest = forecaster.newest().expect("there is one");
        newest.at.plus(Duration::from_secs_f64(seconds))
    }

    /// A series with a value every `step` seconds, and how far ahead of now a forecast must reach.
    #[test]
    fn forecasts_reach_as_far_beyond_now_as_is_needed_however_old_the_newest_value_is() {
        for (step, needed) in [(0.5, 2.5), (1.5, 1.5), (0.5, 8.0), (20.0, 2.5)] {
            let mut forecaster = forecaster();
            let step = Duration::from_secs_f64(step);
            let needed = Duration::from_secs_f64(needed);
            let mut at = Time(0);
            for _ in 0..100 {
                at = at.plus(step);
                let value = step.as_secs_f64();
                forecaster.observe(Point { at, value }, needed);
            }
            for quarters in 0..=4 {
                let now = at.plus(step * quarters / 4);
                let forecast = forecaster.forecast(now.plus(needed));
                let forecast = forecast.unwrap_or_else(|why| panic!("{step:?} {needed:?}: {why}"));
                let reach = forecast.target.since(now);
                assert!(reach >= needed, "{step:?} {needed:?}: {reach:?}");
            }
            // Too long after it nothing that was said then is about the time in question.
            let late = forecaster.forecast(at.plus(step * 10).plus(needed));
            if let Ok(late) = late {
                assert!(late.target >= at.plus(step * 10).plus(needed));
            }
        }
    }

    #[test]
    fn whoever_is_best_at_the_horizon_speaks() {
        let speaker = |values: Vec<f64>| {
            let (_, _, forecaster) = run(values);
            let until = after(&forecaster, 3.0);
            let forecast = forecaster.forecast(until).expect("it is calibrated");
            let ranking = forecaster.ranking(until);
            assert!(ranking.is_sorted_by(|(_, a), (_, b)| a <= b), "{ranking:?}");
            forecast.model_name()
        };
        let noise = |seed, scale: f64| {
            let mut random = Random(seed);
            move |_| scale * random.normal()
        };
        let along = |shape: fn(f64) -> f64, scale: f64| {
            let (mut noise, shape) = (noise(3, scale), move |i| shape(f64::from(i)));
            (0..200).map(|i| shape(i) + noise(i)).collect::<Vec<f64>>()
        };
        assert_eq!(speaker(along(|_| 1.0, 0.05)), "ewma");
        assert!(["holt", "ar"].contains(&speaker(along(|i| 1.0 + 0.05 * i, 0.02))));
        assert_eq!(speaker(along(|i| 2.0 + (i * 0.4).sin(), 0.1)), "seasonal");
        // A walk is as likely to go up as down: nothing beats the heuristics by enough.
        let mut level = 100.0;
        let mut noise = noise(5, 1.0);
        let walk = (0..200).map(|i: i32| {
            level += noise(i);
            level
        });
        assert!(NAMES[..N_HEURISTICS].contains(&speaker(walk.collect())));
    }

    #[test]
    fn nothing_is_said_too_early_or_across_a_gap() {
        let mut forecaster = forecaster();
        let mut first = None;
        for i in 0..60 {
            let at = Time(500 * i);
            forecaster.observe(Point { at, value: 1.0 }, NEEDED);
            let forecast = forecaster.forecast(after(&forecaster, 3.0));
            first = first.or_else(|| forecast.ok().map(|f| f.as_of));
        }
        // The first score comes with the horizon; so many are needed.
        let needed = 3_000 + 500 * (MIN_ERRORS as u64 - 1);
        assert_eq!(first, Some(Time(needed)));
        let scored = forecaster.observe(
            Point {
                at: Time(60_000),
                value: 9.0,
            },
            NEEDED,
        );
        assert_eq!(scored, [], "what was due in the gap has no truth");
        let forecast = forecaster.forecast(after(&forecaster, 3.0));
        let forecast = forecast.expect("the errors are kept");
        assert!(
            forecast.quantiles[0] > 8.0,
            "from before the gap: {forecast:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The intervals from 5 % to 95 % hold nine of ten truths, whatever the series does.
        #[test]
        fn intervals_cover(seed: u64, shape in 0..4, scale in 0.01..1.0) {
            let mut random = Random(seed);
            let mut level = 10.0;
            let values = (0..1500).map(|i: i32| {
                let noise: f64 = scale * random.normal();
                match shape {
                    0 => 10.0 + noise,
                    1 => { level += 0.2 * noise; 100.0 + level }
                    // Twice as noisy from the middle on, and skewed.
                    2 => 10.0 + noise.abs() * if i < 750 { 1.0 } else { 2.0 },
                    _ => 10.0 + (f64::from(i) * 0.1).sin() + noise,
                }
            });
            let (_, scored, _) = run(values);
            for (model, name) in NAMES.iter().enumerate() {
                let covered: Vec<bool> =
                    scored.iter().filter(|s| s.model == model).filter_map(|s| s.covered).collect();
                if covered.len() < 1000 {
                    continue;
                }
                let ratio = covered.iter().filter(|c| **c).count() as f64 / covered.len() as f64;
                prop_assert!((0.86..=0.95).contains(&ratio), "{name}: {ratio}, shape {shape}");
            }
        }

        #[test]
        fn no_series_panics_and_all_quantiles_are_finite_and_sorted(
            values in prop::collection::vec((1_u64..4_000, prop_oneof![0.0..1.0, 1e-300..1e300]), 0..120),
        ) {
            let mut forecaster = forecaster();
            let mut at = Time(0);
            for (dt, value) in values {
                at = Time(at.0 + dt);
                forecaster.observe(Point { at, value }, NEEDED);
                if let Ok(forecast) = forecaster.forecast(at.plus(HORIZON)) {
                    prop_assert!(forecast.quantiles.iter().all(|q| q.is_finite() && *q >= 0.0));
                    prop_assert!(forecast.quantiles.is_sorted());
                }
            }
        }
    }
}
