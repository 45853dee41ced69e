//! What left memory lately, by its hash alone: what comes back soon was let go too early.
//!
//! A table of small buckets, each a ring in which the newest mark takes the place of the oldest. There are as many places as there are objects in
//! memory, so it is bounded whatever comes, and nothing is allocated unless that number doubles. Two objects with one hash are taken for
//! one: then something cold is kept a little longer than it deserves.

use std::mem;

/// Two lines of a cache.
const WAYS: usize = 8;

/// The lowest bit of a hash is used for something else.
const WARM: u64 = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    hash: u64,
    /// The clock when it was made; 0: there is none.
    at: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ghost {
    /// A power of two, or none.
    marks: Vec<Mark>,
    /// Counts the bytes that were remembered.
    clock: u64,
}

impl Ghost {
    /// Remembers what has left, and whether it was warm, among about as many others as `n_max`.
    pub(super) fn remember(&mut self, hash: u64, is_warm: bool, bytes: u64, n_max: usize) {
        self.fit(n_max);
        self.clock += bytes.max(1);
        self.place(Mark {
            hash: hash & !WARM | u64::from(is_warm),
            at: self.clock,
        });
    }

    /// Was it warm, if it is remembered and no more than `bytes_max` have left since? It is forgotten then.
    pub(super) fn recall(&mut self, hash: u64, bytes_max: u64) -> Option<bool> {
        let oldest = self.clock.saturating_sub(bytes_max).max(1);
        let mut bucket = self.bucket(hash).iter_mut();
        let mark = bucket.find(|mark| mark.hash & !WARM == hash & !WARM && mark.at >= oldest)?;
        let mark = mem::take(mark);
        Some(mark.hash & WARM == WARM)
    }

    /// Makes as many places as there may be marks, within a factor of four.
    fn fit(&mut self, n_max: usize) {
        let n_marks = n_max.next_power_of_two().max(WAYS);
        if (n_marks..=n_marks * 4).contains(&self.marks.len()) {
            return;
        }
        let mut marks = mem::replace(&mut self.marks, vec![Mark::default(); n_marks]);
        marks.retain(|mark| mark.at > 0);
        for mark in marks {
            self.place(mark);
        }
    }

    fn place(&mut self, mark: Mark) {
        let bucket = self.bucket(mark.hash);
        let same = |old: &&mut Mark| old.hash & !WARM == mark.hash & !WARM;
        let place = match bucket.iter_mut().find(same) {
            Some(same) => Some(same),
            None => bucket.iter_mut().min_by_key(|old| old.at),
        };
        let place = place.expect("a bucket has places");
        if place.at < mark.at {
            *place = mark;
        }
    }

    fn bucket(&mut self, hash: u64) -> &mut [Mark] {
        let n_buckets = self.marks.len() / WAYS;
        if n_buckets == 0 {
            return &mut [];
        }
        let half = usize::try_from(hash >> 32).expect("addresses have 64 bits");
        let first = half % n_buckets * WAYS;
        &mut self.marks[first..first + WAYS]
    }
}

#[cfg(test)]
impl Ghost {
    pub(super) fn places(&self) -> usize {
        self.marks.len()
    }
}
