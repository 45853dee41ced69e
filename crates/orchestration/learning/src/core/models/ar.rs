//! An autoregression with a trend, fitted by ridge least squares to the last values: `y[t] = a + b t + c1 y[t-1] + c2 y[t-2]`.

use std::collections::VecDeque;

use super::Model;
use super::grid::Grid;
use crate::seam::Time;

const WINDOW: usize = 48;
const ORDER: usize = 2;
const N_TERMS: usize = ORDER + 2;
/// Values before a fit means anything.
const MIN_VALUES: usize = 12;
/// Pulls the coefficients towards zero, relative to the size of their terms, so that short and flat windows have a solution.
const RIDGE: f64 = 1e-3;
const AHEAD_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Ar {
    grid: Grid,
    fit: Option<[f64; N_TERMS]>,
}

impl Ar {
    pub(super) fn new(step: f64) -> Self {
        Self {
            grid: Grid::new(step, WINDOW),
            fit: None,
        }
    }
}

impl Model for Ar {
    fn observe(&mut self, at: Time, value: f64) {
        self.grid.observe(at, value);
        self.fit = fit(&self.grid.values);
    }

    fn forecast(&self, target: Time) -> Option<f64> {
        let fit = self.fit?;
        let ahead = self.grid.steps_to(target)?;
        let values = &self.grid.values;
        let newest = *values.back()?;
        if ahead > AHEAD_MAX {
            return None;
        }
        let mut past = [newest, values[values.len() - 2]];
        for step in 0..ahead {
            let next = dot(&fit, &terms(values.len() + step, past, newest)) + newest;
            past = [next, past[0]];
        }
        Some(past[0])
    }

    fn reset(&mut self) {
        self.grid.reset();
        self.fit = None;
    }
}

/// What multiplies the coefficients for value number `idx`. Values count from the newest, and time in windows, so that the ridge
/// pulls all alike and towards "as it is".
fn terms(idx: usize, past: [f64; ORDER], origin: f64) -> [f64; N_TERMS] {
    #[expect(clippy::cast_precision_loss, reason = "at most WINDOW + AHEAD_MAX")]
    let time = idx as f64 / WINDOW as f64;
    [1.0, time, past[0] - origin, past[1] - origin]
}

fn dot(a: &[f64; N_TERMS], b: &[f64; N_TERMS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn fit(values: &VecDeque<f64>) -> Option<[f64; N_TERMS]> {
    if values.len() < MIN_VALUES {
        return None;
    }
    let origin = *values.back()?;
    // The normal equations, with the right side as the last column.
    let mut rows = [[0.0; N_TERMS + 1]; N_TERMS];
    for idx in ORDER..values.len() {
        let terms = terms(idx, [values[idx - 1], values[idx - 2]], origin);
        for (row, a) in rows.iter_mut().zip(terms) {
            for (cell, b) in row.iter_mut().zip(terms) {
                *cell += a * b;
            }
            row[N_TERMS] += a * (values[idx] - origin);
        }
    }
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += RIDGE * row[i] + f64::MIN_POSITIVE;
    }
    solve(rows)
}

/// Gaussian elimination with partial pivoting; `None` if there is no finite solution.
fn solve(mut rows: [[f64; N_TERMS + 1]; N_TERMS]) -> Option<[f64; N_TERMS]> {
    for i in 0..N_TERMS {
        let pivot = (i..N_TERMS).max_by(|a, b| rows[*a][i].abs().total_cmp(&rows[*b][i].abs()))?;
        rows.swap(i, pivot);
        let pivot = rows[i];
        for below in &mut rows[i + 1..] {
            let factor = below[i] / pivot[i];
            for (cell, above) in below.iter_mut().zip(pivot).skip(i) {
                *cell -= factor * above;
            }
        }
    }
    let mut solution = [0.0; N_TERMS];
    for i in (0..N_TERMS).rev() {
        let known: f64 = (i + 1..N_TERMS).map(|k| rows[i][k] * solution[k]).sum();
        solution[i] = (rows[i][N_TERMS] - known) / rows[i][i];
    }
    solution.iter().all(|x| x.is_finite()).then_some(solution)
}
