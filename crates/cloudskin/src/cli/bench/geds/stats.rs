//! What differences say that were measured a few times.

use super::data;

const RESAMPLES: usize = 4_000;
const CONFIDENCE: f64 = 0.95;

/// With 95 % confidence the mean of what the differences are drawn from is not more than this. By the bootstrap: nothing is assumed of how they are
/// distributed.
pub(super) fn upper_bound(differences: &[f64]) -> f64 {
    at_confidence(resampled_means(differences))
}

/// The same of its distance from zero.
pub(super) fn distance_bound(differences: &[f64]) -> f64 {
    let means = resampled_means(differences);
    at_confidence(means.into_iter().map(f64::abs).collect())
}

fn resampled_means(differences: &[f64]) -> Vec<f64> {
    let n = differences.len();
    let mean = |resample: usize| {
        let drawn = (0..n).map(|draw| differences[data::pick(resample * n + draw, n)]);
        drawn.sum::<f64>() / n as f64
    };
    (0..RESAMPLES).map(mean).collect()
}

fn at_confidence(mut means: Vec<f64>) -> f64 {
    means.sort_by(f64::total_cmp);
    let above = (RESAMPLES as f64 * (1.0 - CONFIDENCE)).floor();
    let mut from_above = (1_u32..).zip(means.iter().rev());
    let at = from_above.find(|(n, _)| f64::from(*n) > above);
    at.map_or(f64::NAN, |(_, mean)| *mean)
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
        let differences = [-3.0, 2.0, -1.0, 1.0, -2.0, 3.0, 0.5, -0.5];
        let bound = upper_bound(&differences);
        // The standard error is 0.67, and 1.64 of them are 95 %.
        assert!((0.8..1.4).contains(&bound), "{bound}");
        let distance = distance_bound(&differences);
        assert!((bound..1.7).contains(&distance), "{distance}");
    }
}
