//! Where the bytes of a segment lie.
//!
//! ```text
//!  offset   start                                         length
//!           | stored, of this | stored, of  | log: record | log: record |
//!           | segment         | one merged  | 17, at 40   | 19, at 38   |
//!           '---- stored_to --'
//! ```
//!
//! A segment that is merged into another one gives it its runs: no byte moves. A table has no runs: nobody reads its bytes, so it needs no record of
//! the log when a checkpoint has its entries, and nothing of it is stored.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{SegmentId, Seq};

/// Bytes that lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) bytes: u64,
    pub(crate) place: Place,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the log, so many bytes behind the begin of a record.
    Log { record: Seq, at: u64 },
    /// In long-term storage, where it is kept under the number of the segment that it was stored for.
    Stored { of: SegmentId, offset: u64 },
}

impl Place {
    fn behind(self, bytes: u64) -> Self {
        match self {
            Self::Log { record, at } => Self::Log {
                record,
                at: at + bytes,
            },
            Self::Stored { of, offset } => Self::Stored {
                of,
                offset: offset + bytes,
            },
        }
    }

    pub(crate) fn stored_of(self) -> Option<SegmentId> {
        match self {
            Self::Log { .. } => None,
            Self::Stored { of, .. } => Some(of),
        }
    }
}

/// Runs without gaps, by their offsets. A record of the log, and a number in long-term storage, has one run at most in all segments: runs move from
/// segment to segment, are cut at their front, and are never copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    runs: BTreeMap<u64, Run>,
    /// Those of the log that some of the runs are in.
    records: BTreeSet<Seq>,
}

/// What nothing lies in any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) records: Vec<Seq>,
    /// Under these numbers what is before these offsets.
    pub(crate) stored: Vec<(SegmentId, u64)>,
}

/// The offset that all is before.
pub(crate) const ALL: u64 = u64::MAX;

impl Freed {
    fn run(&mut self, place: Place) {
        match place {
            Place::Log { record, .. } => self.records.push(record),
            Place::Stored { of, .. } => self.stored.push((of, ALL)),
        }
    }
}

impl Content {
    pub(crate) fn n_runs(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Run)> {
        self.runs.iter().map(|(offset, run)| (*offset, *run))
    }

    /// At the end.
    pub(crate) fn push(&mut self, offset: u64, run: Run) {
        if run.bytes == 0 {
            return;
        }
        if let Place::Log { record, .. } = run.place {
            self.records.insert(record);
        }
        self.runs.insert(offset, run);
    }

    pub(crate) fn absorb(&mut self, offset: u64, source: Self) {
        for (at, run) in source.runs {
            self.push(offset + at, run);
        }
    }

    /// Forgets what is before that.
    pub(crate) fn truncate(&mut self, id: SegmentId, before: u64) -> Freed {
        let mut freed = self.cut(before);
        // What comes later is stored under its own number too, which is not free as long as the segment is there.
        freed.stored.retain(|(of, _)| *of != id);
        freed.stored.push((id, before));
        freed
    }

    /// All before that is stored now, under the number of its own segment.
    pub(crate) fn store(&mut self, id: SegmentId, from: u64, before: u64) -> Freed {
        let mut freed = self.cut(before);
        freed.stored.retain(|(of, _)| *of != id);
        let run = Run {
            bytes: before - from,
            place: Place::Stored {
                of: id,
                offset: from,
            },
        };
        self.push(from, run);
        freed
    }

    /// Forgets all of it, with its segment.
    pub(crate) fn remove(self, id: SegmentId) -> Freed {
        let mut freed = Freed::default();
        freed.stored.push((id, ALL));
        let others = self.runs.values().map(|run| run.place);
        let others = others.filter(|place| place.stored_of() != Some(id));
        others.for_each(|place| freed.run(place));
        freed
    }

    fn cut(&mut self, before: u64) -> Freed {
        let mut freed = Freed::default();
        while let Some(first) = self.runs.first_entry()
            && *first.key() < before
        {
            let (offset, run) = first.remove_entry();
            let front = before - offset;
            if front < run.bytes {
                let place = run.place.behind(front);
                if let Place::Stored { of, offset } = place {
                    freed.stored.push((of, offset));
                }
                let bytes = run.bytes - front;
                self.runs.insert(before, Run { bytes, place });
                break;
            }
            if let Place::Log { record, .. } = run.place {
                self.records.remove(&record);
            }
            freed.run(run.place);
        }
        freed
    }

    /// How far it is stored under its own number without a gap.
    pub(crate) fn stored_to(&self, id: SegmentId, start: u64) -> u64 {
        match self.runs.first_key_value() {
            Some((offset, run)) if run.place.stored_of() == Some(id) => offset + run.bytes,
            _ => start,
        }
    }

    /// The oldest record that it needs.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.records.first().copied()
    }

    /// The runs of a range, cut to it, in order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = Run> {
        let first = self.runs.range(..=from).next_back();
        let start = first.map_or(from, |(offset, _)| *offset);
        self.runs.range(start..).map_while(move |(offset, run)| {
            let begin = from.max(*offset);
            let end = to.min(offset + run.bytes);
            (begin < end).then(|| Run {
                bytes: end - begin,
                place: run.place.behind(begin - offset),
            })
        })
    }
}

impl FromIterator<(u64, Run)> for Content {
    fn from_iter<T: IntoIterator<Item = (u64, Run)>>(runs: T) -> Self {
        let mut content = Self::default();
        for (offset, run) in runs {
            content.push(offset, run);
        }
        content
    }
}
