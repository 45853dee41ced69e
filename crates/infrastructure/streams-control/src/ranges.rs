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

/// Things that lie over ranges of keys, and the greatest of those that have keys in common with another range, in logarithmic time.
#[derive(Debug)]
pub(crate) struct Greatest<T> {
    /// Where ranges begin and end, in order. Between two neighbours is a piece.
    borders: Vec<f64>,
    /// Pieces are the leaves of a tree, which is in an array from 1 on. The greatest that lies over all of a node, once for each of its nodes,
    all: Vec<Option<T>>,
    /// and the greatest of a node and those below it.
    some: Vec<Option<T>>,
}

impl<T: Copy + Ord> Greatest<T> {
    #[must_use]
    pub(crate) fn new(items: &[(Range, T)]) -> Self {
        let borders = items.iter().flat_map(|(range, _)| [range.low, range.high]);
        let mut borders: Vec<_> = borders.collect();
        borders.sort_by(f64::total_cmp);
        borders.dedup();
        let n_nodes = 2 * borders.len().next_power_of_two();
        let mut greatest = Self {
            borders,
            all: vec![None; n_nodes],
            some: vec![None; n_nodes],
        };
        for (range, item) in items {
            greatest.put(range, Some(*item));
        }
        greatest
    }

    /// The leaves that a range has keys in common with.
    fn leaves(&self, range: &Range) -> std::ops::Range<usize> {
        let first = self.borders.partition_point(|it| *it <= range.low);
        let end = self.borders.partition_point(|it| *it < range.high);
        let n_leaves = self.all.len() / 2;
        n_leaves + first.saturating_sub(1)..n_leaves + end
    }

    fn put(&mut self, range: &Range, item: Option<T>) {
        let leaves = self.leaves(range);
        for node in nodes(leaves.clone()) {
            self.all[node] = self.all[node].max(item);
            self.some[node] = self.some[node].max(item);
        }
        for node in above(leaves) {
            self.some[node] = self.some[node].max(item);
        }
    }

    /// `None`: there is none.
    #[must_use]
    pub(crate) fn of(&self, range: &Range) -> Option<T> {
        let leaves = self.leaves(range);
        let some = nodes(leaves.clone()).map(|node| self.some[node]);
        let all = above(leaves).map(|node| self.all[node]);
        some.chain(all).max().flatten()
    }
}

/// The fewest that have just these leaves.
fn nodes(leaves: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    let (mut low, mut high) = (leaves.start, leaves.end);
    let level = move || {
        if low >= high {
            return None;
        }
        let first = (low % 2 == 1).then_some(low);
        let last = (high % 2 == 1).then(|| high - 1);
        (low, high) = (low.div_ceil(2), high / 2);
        Some([first, last])
    };
    std::iter::from_fn(level).flatten().flatten()
}

/// Those that have some of these leaves, and others.
fn above(leaves: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    let is_none = leaves.is_empty();
    let ends = [leaves.start, leaves.end.saturating_sub(1)];
    let ends = ends.into_iter().filter(move |_| !is_none);
    ends.flat_map(|leaf| {
        std::iter::successors(Some(leaf / 2), |node| Some(node / 2)).take_while(|node| *node > 0)
    })
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
    fn the_greatest_is_that_of_all_that_overlap() {
        let range = |low: u32, high: u32| {
            Range::new(f64::from(low) / 32.0, f64::from(high) / 32.0).expect("a range")
        };
        for seed in 0..200_u32 {
            let number = |idx: u32| {
                seed.wrapping_mul(31)
                    .wrapping_add(idx.wrapping_mul(idx + 7))
                    % 31
            };
            let items = (0..seed % 9).map(|idx| {
                let low = number(3 * idx);
                (
                    range(low, low + 1 + number(3 * idx + 1) % (32 - low)),
                    number(3 * idx + 2),
                )
            });
            let items: Vec<_> = items.collect();
            let greatest = Greatest::new(&items);
            for low in 0..32 {
                for high in low + 1..=32 {
                    let of = range(low, high);
                    let overlapping = items.iter().filter(|(it, _)| it.overlaps(&of));
                    let expected = overlapping.map(|(_, item)| *item).max();
                    assert_eq!(greatest.of(&of), expected, "{items:?} over {of:?}");
                }
            }
        }
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
