//! The segments that a stream has and had, by epochs, and what follows what.
//!
//! ```text
//!   epoch 0        1              2 (repeats 0)   3 (repeats 1)
//!  1 ┌──────┐  ┌────────┐        ┌──────┐        ┌────────┐
//!    │ 1.#0 │  │  1.#0  │   ──▶  │ 1.#2 │   ──▶  │  1.#3  │     2 and 3 are there because a transaction
//!    ├──────┤  ├────────┤        ├──────┤        ├────────┤     of epoch 0 was committed after epoch 1
//!    │ 0.#0 │  │3.#1|2.#1        │ 0.#2 │        │3.#3|2.#3     had begun.
//!  0 └──────┘  └────────┘        └──────┘        └────────┘
//! ```

use std::collections::BTreeMap;

use crate::error::Corrupt;
use crate::names::{Epoch, SegmentId};
use crate::ranges::{Range, is_tiling};

/// A segment and its keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// In its stream.
    pub id: SegmentId,
    /// Of the events in it.
    pub range: Range,
}

/// What a stream is written to at a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EpochSegments {
    /// The first of those with the same ranges that a rolled transaction has made of each other; mostly itself.
    pub reference: Epoch,
    /// In order of their ids, with ranges that tile all keys.
    segments: Vec<Segment>,
    /// How long those of the epoch before that this one does not have were, once they are sealed.
    pub sealed: BTreeMap<SegmentId, u64>,
    /// On the wall, since 1970; 0: nobody has noted it.
    pub created_at_ms: u64,
}

impl EpochSegments {
    /// # Errors
    /// [`Corrupt`]: the ranges do not tile, or two have the same number.
    pub(crate) fn new(reference: Epoch, mut segments: Vec<Segment>) -> Result<Self, Corrupt> {
        segments.sort_by_key(|segment| segment.id);
        let mut numbers: Vec<_> = segments.iter().map(|segment| segment.id.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let ranges: Vec<_> = segments.iter().map(|segment| segment.range).collect();
        if numbers.len() != segments.len() || !is_tiling(&ranges) {
            return Err(Corrupt("the segments of an epoch do not tile all keys"));
        }
        Ok(Self {
            reference,
            segments,
            sealed: BTreeMap::new(),
            created_at_ms: 0,
        })
    }

    /// In order of their ids.
    #[must_use]
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// That segment, if it is one of these.
    #[must_use]
    pub(crate) fn get(&self, id: SegmentId) -> Option<&Segment> {
        let idx = self
            .segments
            .binary_search_by_key(&id, |segment| segment.id);
        Some(&self.segments[idx.ok()?])
    }

    /// In order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.segments.iter().map(|segment| segment.id)
    }

    /// The lowest number that none of these has, nor any lower one.
    #[must_use]
    pub(crate) fn next_number(&self) -> u32 {
        let numbers = self.segments.iter().map(|segment| segment.id.number);
        1 + numbers.max().expect("they tile, so there is one")
    }

    /// The same ranges and numbers, made anew by a later epoch.
    #[must_use]
    pub(crate) fn repeated_in(&self, epoch: Epoch) -> Self {
        let segments = self.segments.iter().map(|&Segment { id, range }| Segment {
            id: SegmentId { epoch, ..id },
            range,
        });
        Self {
            reference: self.reference,
            segments: segments.collect(),
            sealed: BTreeMap::new(),
            created_at_ms: 0,
        }
    }
}

/// A segment that takes the place of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    /// It.
    pub segment: Segment,
    /// All whose place it takes: who reads it has to have read these.
    pub predecessors: Vec<SegmentId>,
}

/// All epochs of a stream. The last may be ones that are still being made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Epochs {
    epochs: BTreeMap<Epoch, EpochSegments>,
    /// For each segment that is replaced, the first epoch without it.
    ends: BTreeMap<SegmentId, Epoch>,
    /// Of those that are sealed.
    lengths: BTreeMap<SegmentId, u64>,
}

impl Epochs {
    /// Behind the one before it.
    pub(crate) fn insert(&mut self, epoch: Epoch, segments: EpochSegments) {
        self.lengths.extend(&segments.sealed);
        let before = self.epochs.range(..epoch).next_back();
        let gone = before.into_iter().flat_map(|(_, before)| before.ids());
        let gone = gone.filter(|id| segments.get(*id).is_none());
        self.ends.extend(gone.map(|id| (id, epoch)));
        self.epochs.insert(epoch, segments);
    }

    /// From the last one on.
    pub(crate) fn remove(&mut self, epoch: Epoch) {
        self.epochs.remove(&epoch);
    }

    /// That epoch, if it is known.
    #[must_use]
    pub(crate) fn get(&self, epoch: Epoch) -> Option<&EpochSegments> {
        self.epochs.get(&epoch)
    }

    /// How many are known.
    #[must_use]
    pub(crate) fn n_epochs(&self) -> usize {
        self.epochs.len()
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Epoch, &EpochSegments)> {
        self.epochs
            .iter()
            .map(|(epoch, segments)| (*epoch, segments))
    }

    /// A segment, from the epoch that made it.
    #[must_use]
    pub(crate) fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.epochs.get(&id.epoch)?.get(id)
    }

    /// All there ever were, once each, in order of their ids.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.epochs.iter().flat_map(|(epoch, segments)| {
            let made_here = |segment: &&Segment| segment.id.epoch == *epoch;
            segments.segments.iter().filter(made_here)
        })
    }

    /// What takes its place, in the first epoch that does not have it; none if there is none. `None`: there is no such segment.
    #[must_use]
    pub(crate) fn successors(&self, id: SegmentId) -> Option<Vec<Successor>> {
        let segment = self.segment(id)?;
        let Some(epoch) = self.ends.get(&id) else {
            return Some(Vec::new());
        };
        let after = self.epochs.get(epoch)?.segments.iter();
        let (_, before) = self.epochs.range(..epoch).next_back()?;
        let mut before: Vec<_> = before.segments.iter().collect();
        before.sort_by(|a, b| a.range.low().total_cmp(&b.range.low()));
        let predecessors = |of: Range| {
            let first = before.partition_point(|it| it.range.high() <= of.low());
            let behind = before[first..].iter();
            let overlapping = behind.take_while(|it| it.range.overlaps(&of));
            let mut ids: Vec<_> = overlapping.map(|it| it.id).collect();
            ids.sort_unstable();
            ids
        };
        let successors = after.filter(|it| it.range.overlaps(&segment.range));
        let successors = successors.map(|it| Successor {
            segment: *it,
            predecessors: predecessors(it.range),
        });
        Some(successors.collect())
    }

    /// How long a sealed segment is, if it is known.
    #[must_use]
    pub(crate) fn sealed_length(&self, id: SegmentId) -> Option<u64> {
        self.lengths.get(&id).copied()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(epoch: u32, number: u32) -> SegmentId {
        let epoch = Epoch(epoch);
        SegmentId { epoch, number }
    }

    pub(crate) fn epoch(reference: u32, segments: &[(u32, u32, f64, f64)]) -> EpochSegments {
        let segments = segments.iter().map(|&(epoch, number, low, high)| Segment {
            id: id(epoch, number),
            range: Range::new(low, high).expect("a range"),
        });
        EpochSegments::new(Epoch(reference), segments.collect()).expect("they tile")
    }

    /// One is split in two, one of these with the other, untouched one merged, and a transaction of epoch 0 rolled.
    pub(crate) fn history() -> Epochs {
        let zero = epoch(0, &[(0, 0, 0.0, 0.5), (0, 1, 0.5, 1.0)]);
        let one = epoch(1, &[(0, 1, 0.5, 1.0), (1, 2, 0.0, 0.2), (1, 3, 0.2, 0.5)]);
        let two = epoch(2, &[(1, 2, 0.0, 0.2), (2, 4, 0.2, 1.0)]);
        let mut epochs = Epochs::default();
        let (three, four) = (zero.repeated_in(Epoch(3)), two.repeated_in(Epoch(4)));
        for (number, epoch) in (0..).zip([zero, one, two, three, four]) {
            epochs.insert(Epoch(number), epoch);
        }
        epochs
    }

    #[test]
    fn successors_are_in_the_first_epoch_without_the_segment() {
        let epochs = history();
        type Expected<'a> = &'a [((u32, u32), &'a [(u32, u32)])];
        let check = |(epoch, number), expected: Expected<'_>| {
            let found = epochs.successors(id(epoch, number)).expect("it is there");
            let found: Vec<_> = found
                .into_iter()
                .map(|it| (it.segment.id, it.predecessors))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|&((epoch, number), predecessors)| {
                    let predecessors: Vec<_> =
                        predecessors.iter().map(|&(e, n)| id(e, n)).collect();
                    (id(epoch, number), predecessors)
                })
                .collect();
            assert_eq!(found, expected, "of {number}.#epoch.{epoch}");
        };
        check((0, 0), &[((1, 2), &[(0, 0)]), ((1, 3), &[(0, 0)])]);
        check((0, 1), &[((2, 4), &[(0, 1), (1, 3)])]);
        check((1, 3), &[((2, 4), &[(0, 1), (1, 3)])]);
        check((1, 2), &[((3, 0), &[(1, 2), (2, 4)])]);
        check((2, 4), &[((3, 0), &[(1, 2), (2, 4)]), ((3, 1), &[(2, 4)])]);
        check((3, 1), &[((4, 4), &[(3, 0), (3, 1)])]);
        check((4, 4), &[]);
        assert_eq!(epochs.successors(id(0, 2)), None);
        assert_eq!(epochs.segments().count(), 9);
    }

    #[test]
    fn an_epoch_tiles_all_keys() {
        let half = Segment {
            id: id(0, 0),
            range: Range::new(0.0, 0.5).expect("a range"),
        };
        EpochSegments::new(Epoch(0), vec![half]).expect_err("half of the keys");
        EpochSegments::new(Epoch(0), vec![]).expect_err("no keys");
        let other = Segment {
            range: Range::new(0.5, 1.0).expect("a range"),
            ..half
        };
        EpochSegments::new(Epoch(0), vec![half, other]).expect_err("one number twice");
    }
}
