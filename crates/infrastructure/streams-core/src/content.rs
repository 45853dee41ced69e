//! Where the bytes of a segment lie.
//!
//! ```text
//!  offset   start                                         length
//!           | stored, of this | stored, of  | log: record | log: record |
//!           | segment         | one merged  | 17, at 40   | 19, at 38   |
//!           '---- stored_to --'
//! ```
//!
//! A segment that is merged into another one gives it its runs: no byte moves.

use std::collections::BTreeMap;

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

    fn stored_of(self) -> Option<SegmentId> {
        match self {
            Self::Log { .. } => None,
            Self::Stored { of, .. } => Some(of),
        }
    }
}

/// Runs without gaps, by their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content(BTreeMap<u64, Run>);

impl Content {
    pub(crate) fn n_runs(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Run)> {
        self.0.iter().map(|(offset, run)| (*offset, *run))
    }

    /// At the end.
    pub(crate) fn push(&mut self, offset: u64, run: Run) {
        if run.bytes == 0 {
            return;
        }
        if let Some((_, last)) = self.0.last_key_value() {
            let continues =
                last.place.stored_of().is_some() && last.place.behind(last.bytes) == run.place;
            if continues {
                let mut last = self.0.last_entry().expect("it was just seen");
                last.get_mut().bytes += run.bytes;
                return;
            }
        }
        self.0.insert(offset, run);
    }

    pub(crate) fn absorb(&mut self, offset: u64, source: Self) {
        for (at, run) in source.0 {
            self.push(offset + at, run);
        }
    }

    /// Forgets what is before that. Returns under which numbers nothing of it is kept any more.
    pub(crate) fn truncate(&mut self, before: u64) -> Vec<SegmentId> {
        self.split(before);
        let kept = self.0.split_off(&before);
        let dropped = std::mem::replace(&mut self.0, kept);
        self.no_longer_of(dropped.values())
    }

    /// All before that is stored now, under the number of its own segment. Returns under which other ones nothing is kept any more.
    pub(crate) fn store(&mut self, id: SegmentId, from: u64, before: u64) -> Vec<SegmentId> {
        self.split(before);
        let kept = self.0.split_off(&before);
        let replaced = std::mem::take(&mut self.0);
        let place = Place::Stored {
            of: id,
            offset: from,
        };
        let bytes = before - from;
        self.push(from, Run { bytes, place });
        for (offset, run) in kept {
            self.push(offset, run);
        }
        self.no_longer_of(replaced.values())
    }

    /// How far it is stored under its own number without a gap.
    pub(crate) fn stored_to(&self, id: SegmentId, start: u64) -> u64 {
        match self.0.first_key_value() {
            Some((offset, run)) => match run.place {
                Place::Stored { of, offset: at } if of == id && at == *offset => offset + run.bytes,
                _ => start,
            },
            None => start,
        }
    }

    /// Whether something is stored under that number.
    pub(crate) fn stored_of(&self) -> impl Iterator<Item = SegmentId> {
        self.0.values().filter_map(|run| run.place.stored_of())
    }

    /// The oldest record that it needs.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        let records = self.0.values().filter_map(|run| match run.place {
            Place::Log { record, .. } => Some(record),
            Place::Stored { .. } => None,
        });
        records.min()
    }

    /// The runs of a range, cut to it, in order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = Run> {
        let first = self.0.range(..=from).next_back();
        let start = first.map_or(from, |(offset, _)| *offset);
        self.0.range(start..).map_while(move |(offset, run)| {
            let begin = from.max(*offset);
            let end = to.min(offset + run.bytes);
            (begin < end).then(|| Run {
                bytes: end - begin,
                place: run.place.behind(begin - offset),
            })
        })
    }

    fn split(&mut self, at: u64) {
        let Some((offset, run)) = self.0.range_mut(..at).next_back() else {
            return;
        };
        let front = at - offset;
        if front < run.bytes {
            let rest = Run {
                bytes: run.bytes - front,
                place: run.place.behind(front),
            };
            run.bytes = front;
            self.0.insert(at, rest);
        }
    }

    fn no_longer_of<'a>(&self, dropped: impl Iterator<Item = &'a Run>) -> Vec<SegmentId> {
        let mut ids: Vec<_> = dropped.filter_map(|run| run.place.stored_of()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| !self.stored_of().any(|other| other == *id));
        ids
    }
}

impl FromIterator<(u64, Run)> for Content {
    fn from_iter<T: IntoIterator<Item = (u64, Run)>>(runs: T) -> Self {
        Self(runs.into_iter().collect())
    }
}
