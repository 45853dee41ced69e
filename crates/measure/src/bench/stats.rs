//! What differences say that were measured a few times.

use super::{Measured, data, tell};

const RESAMPLES: usize = 4_000;
const CONFIDENCE: f64 = 0.95;

/// Of three that are the same but for one thing: the one that does it, one that does not, and another one that does not.
pub(super) const ON: usize = 0;
pub(super) const OFF: usize = 1;
pub(super) const AGAIN: usize = 2;

/// How much worse it is to do it, in percent, beside how much the two that do not differ. `found`: of each of the three, in seconds, in pairs.
/// Says in microseconds what was found, too: percents say little without it.
pub(super) fn beside_noise(id: &str, found: &[Vec<f64>; 3]) -> Measured {
    let us = |n: usize| median(found[n].clone()) * 1e6;
    let (on, off, again) = (us(ON), us(OFF), us(AGAIN));
    tell(&format!(
        "{id}: on {on:.1} us, off {off:.1} us, again {again:.1} us"
    ));
    let worse = |n: usize| {
        let pairs = found[n].iter().zip(&found[OFF]);
        let percents = pairs.map(|(time, off)| (time / off - 1.0) * 100.0);
        percents.collect::<Vec<_>>()
    };
    Measured {
        value: upper_bound(&worse(ON)),
        peer_value: distance_bound(&worse(AGAIN)),
        runs: found[OFF].len(),
        cpu: None,
    }
}

/// With 95 % confidence the median of what the differences are drawn from is not more than this. By the bootstrap: nothing is assumed of how they are
/// distributed. The median, because a time in which the machine had something else to do says nothing.
fn upper_bound(differences: &[f64]) -> f64 {
    at_confidence(resampled_medians(differences))
}

/// The same of its distance from zero.
fn distance_bound(differences: &[f64]) -> f64 {
    let medians = resampled_medians(differences);
    at_confidence(medians.into_iter().map(f64::abs).collect())
}

fn resampled_medians(differences: &[f64]) -> Vec<f64> {
    let n = differences.len();
    let resampled = |resample: usize| {
        let drawn = (0..n).map(|draw| differences[data::pick(resample * n + draw, n)]);
        median(drawn.collect())
    };
    (0..RESAMPLES).map(resampled).collect()
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        values[half]
    } else {
        values[half - 1].midpoint(values[half])
    }
}

fn at_confidence(mut medians: Vec<f64>) -> f64 {
    medians.sort_by(f64::total_cmp);
    let above = (RESAMPLES as f64 * (1.0 - CONFIDENCE)).floor();
    let mut from_above = (1_u32..).zip(medians.iter().rev());
    let at = from_above.find(|(n, _)| f64::from(*n) > above);
    at.map_or(f64::NAN, |(_, median)| *median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_vary_is_its_own_bound() {
        assert_eq!(upper_bound(&[2.0; 5]), 2.0);
        assert_eq!(upper_bound(&[-2.0; 5]), -2.0);
        assert_eq!(distance_bound(&[-2.0; 5]), 2.0);
    }

    #[test]
    fn what_varies_around_zero_is_bounded_beside_it() {
        let differences = [-3.0, 2.0, -1.0, 1.0, -2.0, 3.0, 0.5, -0.5, 90.0];
        let bound = upper_bound(&differences);
        assert!((1.0..=3.0).contains(&bound), "{bound}");
        let distance = distance_bound(&differences);
        assert!((bound..=3.0).contains(&distance), "{distance}");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
