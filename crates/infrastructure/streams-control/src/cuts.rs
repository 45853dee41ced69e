//! Positions in a stream, and what lies between them.
//!
//! Of two segments that have keys in common, the one with the lesser id ends before the other begins. So all is decided by ids and ranges: what
//! a cut has behind it, whether one can be reached by reading, and which of two is further.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::epochs::{Epochs, Segment};
use crate::error::Refusal;
use crate::names::SegmentId;
use crate::ranges::{Greatest, Range, joined};

/// An offset in each of some segments. A negative one: nothing of the segment was read, because others that it takes the place of are not read
/// to their end; it stands for the keys of those that are.
pub type Cut = BTreeMap<SegmentId, i64>;

type Placed = Vec<(Segment, i64)>;

fn placed(epochs: &Epochs, cut: &Cut) -> Result<Placed, Refusal> {
    cut.iter()
        .map(|(id, offset)| match epochs.segment(*id) {
            Some(segment) => Ok((*segment, *offset)),
            None => Err(Refusal::Precondition(
                "a segment of the cut was never one of the stream",
            )),
        })
        .collect()
}

/// The ids of some segments, by keys.
#[derive(Debug)]
struct Ids {
    greatest: Greatest<SegmentId>,
    least: Greatest<Reverse<SegmentId>>,
}

impl Ids {
    fn of(placed: &[(Segment, i64)]) -> Self {
        let greatest: Vec<_> = placed.iter().map(|(it, _)| (it.range, it.id)).collect();
        let least: Vec<_> = placed
            .iter()
            .map(|(it, _)| (it.range, Reverse(it.id)))
            .collect();
        Self {
            greatest: Greatest::new(&greatest),
            least: Greatest::new(&least),
        }
    }

    /// One of those that have keys in common with it comes later.
    fn has_later(&self, segment: &Segment) -> bool {
        self.greatest.of(&segment.range) > Some(segment.id)
    }

    /// One of them comes earlier.
    fn has_earlier(&self, segment: &Segment) -> bool {
        let least = self.least.of(&segment.range);
        least.is_some_and(|Reverse(id)| id < segment.id)
    }

    /// One of them comes earlier, or is it.
    fn has_earlier_or(&self, segment: &Segment) -> bool {
        let least = self.least.of(&segment.range);
        least.is_some_and(|Reverse(id)| id <= segment.id)
    }
}

/// Who reads the stream can be there: each key is at one offset, and none at an earlier one than the rest of its segment.
///
/// # Errors
/// [`Refusal::Precondition`]: it is none of this stream.
pub(crate) fn check(epochs: &Epochs, cut: &Cut) -> Result<(), Refusal> {
    let wrong = |why| Err(Refusal::Precondition(why));
    let all = placed(epochs, cut)?;
    let (present, future): (Placed, Placed) = all.iter().partition(|(_, offset)| *offset >= 0);
    let ranges: Vec<Range> = present.iter().map(|(segment, _)| segment.range).collect();
    if joined(&ranges).is_none() {
        return wrong("two segments of the cut have keys in common");
    }
    let present = Ids::of(&present);
    if future.iter().any(|(it, _)| present.has_later(it)) {
        return wrong("the cut expects what it has passed");
    }
    if !covers(&all) {
        return wrong("the cut does not have all keys");
    }
    for (id, offset) in cut {
        let length = epochs.sealed_length(*id).unwrap_or(u64::MAX);
        if u64::try_from(*offset).is_ok_and(|offset| offset > length) {
            return wrong("the cut lies behind the end of a segment");
        }
    }
    let all = Ids::of(&all);
    // A segment that follows one of the cut, and that another follows: it is to be read, and was read.
    let is_torn = |between: &Segment| {
        !cut.contains_key(&between.id) && present.has_earlier(between) && all.has_later(between)
    };
    if epochs.segments().any(is_torn) {
        return wrong("the cut has read a segment that it is to read");
    }
    Ok(())
}

/// Each key is in one of them at least.
fn covers(placed: &Placed) -> bool {
    let mut ranges: Vec<_> = placed.iter().map(|(segment, _)| segment.range).collect();
    ranges.sort_by(|a, b| a.low().total_cmp(&b.low()));
    let mut until = 0.0;
    for range in ranges {
        if range.low() > until {
            return false;
        }
        until = range.high().max(until);
    }
    until == 1.0
}

/// The later one is nowhere before the earlier one. Both are checked.
#[must_use]
pub(crate) fn is_at_or_after(epochs: &Epochs, later: &Cut, earlier: &Cut) -> bool {
    let (Ok(later), Ok(earlier)) = (placed(epochs, later), placed(epochs, earlier)) else {
        return false;
    };
    let (present, future): (Placed, Placed) = earlier.iter().partition(|(_, offset)| *offset >= 0);
    let (present, future) = (Ids::of(&present), Ids::of(&future));
    let offsets: BTreeMap<_, _> = earlier
        .iter()
        .map(|(it, offset)| (it.id, *offset))
        .collect();
    later.iter().all(|(it, offset)| {
        // What is only expected is met by what comes before it, which the earlier one has not passed either.
        let is_expected = || !future.has_later(it) || present.has_earlier_or(it);
        let is_behind = offsets.get(&it.id).is_some_and(|earlier| offset < earlier);
        !is_behind && !present.has_later(it) && is_expected()
    })
}

/// What a cut has behind it.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    cut: &'a Cut,
    ids: Ids,
}

impl<'a> Passed<'a> {
    /// Of a cut that is checked.
    pub(crate) fn new(epochs: &Epochs, cut: &'a Cut) -> Self {
        let placed = placed(epochs, cut).unwrap_or_default();
        let ids = Ids::of(&placed);
        Self { cut, ids }
    }

    /// That segment.
    #[must_use]
    pub(crate) fn has(&self, segment: &Segment) -> bool {
        !self.cut.contains_key(&segment.id) && self.ids.has_later(segment)
    }
}

/// The bytes between the beginning of the stream and a cut.
#[must_use]
pub(crate) fn size_until(epochs: &Epochs, cut: &Cut) -> u64 {
    let passed = Passed::new(epochs, cut);
    let whole = epochs.segments().filter(|it| passed.has(it));
    let whole = whole.map(|it| epochs.sealed_length(it.id).unwrap_or(0));
    let parts = cut
        .values()
        .map(|offset| u64::try_from(*offset).unwrap_or(0));
    whole.chain(parts).fold(0, u64::saturating_add)
}

/// All segments that have something between two cuts, in order of their ids. Both are checked.
///
/// # Errors
/// [`Refusal::Precondition`]: the latter one is before the other.
pub(crate) fn between(epochs: &Epochs, from: &Cut, to: &Cut) -> Result<Vec<Segment>, Refusal> {
    if !is_at_or_after(epochs, to, from) {
        return Err(Refusal::Precondition(
            "the range of cuts ends before it begins",
        ));
    }
    let from = Ids::of(&placed(epochs, from)?);
    let to = Ids::of(&placed(epochs, to)?);
    let between = epochs.segments();
    let between = between.filter(|it| !from.has_later(it) && !to.has_earlier(it));
    Ok(between.copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epochs::tests::{history, id};

    fn cut(offsets: &[(u32, u32, i64)]) -> Cut {
        let offsets = offsets.iter().map(|&(e, n, offset)| (id(e, n), offset));
        offsets.collect()
    }

    #[test]
    fn a_cut_can_be_reached_by_reading() {
        let epochs = history();
        let check = |offsets: &[(u32, u32, i64)], expected| {
            let is_good = check(&epochs, &cut(offsets)).is_ok();
            assert_eq!(is_good, expected, "{offsets:?}");
        };
        check(&[(0, 0, 3), (0, 1, 4)], true);
        check(&[(1, 2, 3), (1, 3, 0), (0, 1, 4)], true);
        check(&[(1, 2, 3), (2, 4, 0)], true);
        check(&[(3, 0, 0), (3, 1, 0)], true);
        // What is merged waits for the other half.
        check(&[(1, 2, 3), (1, 3, 5), (2, 4, -1)], true);
        check(&[(1, 2, 3), (2, 4, -1)], true);
        // No cut, gaps, and keys that are there twice.
        check(&[], false);
        check(&[(0, 0, 3)], false);
        check(&[(1, 2, 0), (0, 1, 0)], false);
        check(&[(0, 0, 3), (2, 4, 0)], false);
        // It expects what it has passed.
        check(&[(1, 2, 0), (2, 4, 5), (0, 1, -1)], false);
        // 4.#2 ends before 0.#3 and 1.#3 begin, and has keys of 1.#0, at which it is.
        check(&[(3, 0, 0), (0, 1, 4)], false);
        check(&[(1, 9, 0), (0, 1, 4)], false);
    }

    #[test]
    fn cuts_have_an_order_and_a_size() {
        let mut epochs = history();
        let mut one = epochs.get(crate::Epoch(1)).expect("it is there").clone();
        one.sealed.insert(id(0, 0), 100);
        epochs.insert(crate::Epoch(1), one);
        let head = cut(&[(0, 0, 0), (0, 1, 0)]);
        let split = cut(&[(1, 2, 10), (1, 3, 20), (0, 1, 30)]);
        assert!(is_at_or_after(&epochs, &split, &head));
        assert!(!is_at_or_after(&epochs, &head, &split));
        assert!(is_at_or_after(&epochs, &split, &split));
        assert_eq!(size_until(&epochs, &head), 0);
        assert_eq!(size_until(&epochs, &split), 160);
        let ids = |from, to| {
            let between = between(&epochs, from, to)?;
            Ok::<Vec<_>, Refusal>(between.iter().map(|it| it.id).collect())
        };
        let expected = vec![id(0, 0), id(0, 1), id(1, 2), id(1, 3)];
        assert_eq!(ids(&head, &split), Ok(expected));
        ids(&split, &head).expect_err("it goes backwards");
        let behind = cut(&[(0, 0, 101), (0, 1, 0)]);
        super::check(&epochs, &behind).expect_err("it is behind the end");
    }
}
