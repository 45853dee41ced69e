//! Ranges of routing keys, which are numbers from 0 on and below 1.

use crate::error::Refusal;

/// Keys from the lower end on, and below the upper one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// # Errors
    /// [`Refusal::Invalid`]: it is empty, or not in 0 to 1.
    pub fn new(low: f64, high: f64) -> Result<Self, Refusal> {
        // A NaN fails each comparison.
        if 0.0 <= low && low < high && high <= 1.0 {
            // There are two zeros.
            let low = if low == 0.0 { 0.0 } else { low };
            Ok(Self { low, high })
        } else {
            Err(Refusal::Invalid("a range of keys lies in 0 to 1"))
        }
    }

    /// Its first key.
    #[must_use]
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The key behind its last.
    #[must_use]
    pub fn high(&self) -> f64 {
        self.high
    }

    /// They have keys in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low < other.high && other.low < self.high
    }

    /// Into as many of about the same size. The last one ends exactly where this one does.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]: its keys do not suffice.
    pub fn split(&self, n_parts: u32) -> Result<Vec<Self>, Refusal> {
        let width = (self.high - self.low) / f64::from(n_parts);
        let border = |idx: u32| {
            if idx == n_parts {
                self.high
            } else {
                self.low + width * f64::from(idx)
            }
        };
        (0..n_parts)
            .map(|idx| Self::new(border(idx), border(idx + 1)))
            .collect()
    }
}

/// The same keys in as few ranges as possible, in order. `None`: two of them have keys in common.
#[must_use]
pub(crate) fn joined(ranges: &[Range]) -> Option<Vec<Range>> {
    let mut ranges = ranges.to_vec();
    ranges.sort_by(|a, b| a.low.total_cmp(&b.low));
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.high > range.low => return None,
            Some(last) if last.high == range.low => last.high = range.high,
            _ => joined.push(range),
        }
    }
    Some(joined)
}

/// Each key is in exactly one of them.
#[must_use]
pub(crate) fn is_tiling(ranges: &[Range]) -> bool {
    matches!(joined(ranges).as_deref(), Some([all]) if all.low == 0.0 && all.high == 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_not_empty_and_in_0_to_1() {
        for (low, high, is_good) in [
            (0.0, 1.0, true),
            (-0.0, 0.5, true),
            (0.5, 0.5, false),
            (0.6, 0.5, false),
            (-0.1, 0.5, false),
            (0.3, -1.0, false),
            (0.5, 1.1, false),
            (f64::NAN, 1.0, false),
            (0.0, f64::NAN, false),
        ] {
            assert_eq!(Range::new(low, high).is_ok(), is_good, "{low} {high}");
        }
    }

    #[test]
    fn parts_tile_what_was_split() {
        let (low, high) = (1.0 / 3.0, 0.9);
        let whole = Range::new(low, high).expect("a range");
        for n_parts in 1..200 {
            let parts = whole.split(n_parts).expect("it has keys enough");
            assert_eq!(joined(&parts), Some(vec![whole]), "{n_parts}");
        }
        let narrow = Range::new(0.5, 0.5_f64.next_up()).expect("a range");
        narrow.split(2).expect_err("it has one key");
    }

    #[test]
    fn tiles_neither_overlap_nor_leave_gaps() {
        let check = |ranges: &[(f64, f64)], expected| {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|&(low, high)| Range::new(low, high).expect("a range"))
                .collect();
            assert_eq!(is_tiling(&ranges), expected, "{ranges:?}");
        };
        check(&[(0.0, 1.0)], true);
        check(&[(0.5, 1.0), (0.0, 0.5)], true);
        check(&[(0.0, 0.5), (0.6, 1.0)], false);
        check(&[(0.0, 0.6), (0.5, 1.0)], false);
        check(&[(0.0, 0.9)], false);
        check(&[], false);
    }
}
