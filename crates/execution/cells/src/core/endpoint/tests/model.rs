//! MPI matching as the standard tells it, with lists and nothing clever.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, Wanted};

/// What the checker knows of a message when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) ctx: u32,
    pub(super) source: u32,
    pub(super) tag: i32,
    /// Which message from this source to this rank it is.
    pub(super) serial: u32,
    pub(super) len: u32,
    pub(super) eager: bool,
}

impl Note {
    fn suits(&self, wanted: Wanted) -> bool {
        let source = match wanted.source {
            Source::Any => true,
            Source::Rank(rank) | Source::Replay(rank) => rank == self.source,
        };
        source && self.ctx == wanted.ctx && wanted.tag.is_none_or(|tag| tag == self.tag)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// Per source the number of the next frame, and the frames that came before their turn.
    links: BTreeMap<u32, (u64, BTreeMap<u64, Option<Note>>)>,
    unexpected: Vec<Note>,
    posted: Vec<(u32, Wanted)>,
    matched: BTreeMap<u32, Note>,
    requests: BTreeSet<u32>,
}

impl Model {
    /// A frame came, with a note if it brings a message or announces one.
    pub(super) fn frame(&mut self, from: u32, seq: u64, note: Option<Note>) {
        let (next, early) = self.links.entry(from).or_default();
        if seq >= *next {
            early.insert(seq, note);
        }
        let mut due = Vec::new();
        while let Some(note) = early.remove(next) {
            *next += 1;
            due.extend(note);
        }
        for note in due {
            match self
                .posted
                .iter()
                .position(|(_, wanted)| note.suits(*wanted))
            {
                None => self.unexpected.push(note),
                Some(at) => {
                    let (request, _) = self.posted.remove(at);
                    self.matched.insert(request, note);
                }
            }
        }
    }

    /// What came too early is not part of a saved rank.
    pub(super) fn save(&mut self) {
        self.links.values_mut().for_each(|(_, early)| early.clear());
    }

    /// The number that a new request must get.
    pub(super) fn request(&mut self) -> u32 {
        let free = (0..)
            .find(|n| !self.requests.contains(n))
            .expect("numbers do not run out");
        self.requests.insert(free);
        free
    }

    pub(super) fn post(&mut self, request: u32, wanted: Wanted) {
        match self.unexpected.iter().position(|note| note.suits(wanted)) {
            None => self.posted.push((request, wanted)),
            Some(at) => {
                self.matched.insert(request, self.unexpected.remove(at));
            }
        }
    }

    pub(super) fn probe(&self, wanted: Wanted) -> Option<Note> {
        self.unexpected
            .iter()
            .find(|note| note.suits(wanted))
            .copied()
    }

    pub(super) fn matched(&self, request: u32) -> Option<Note> {
        self.matched.get(&request).copied()
    }

    pub(super) fn consume(&mut self, request: u32) {
        self.matched.remove(&request);
        self.requests.remove(&request);
    }

    pub(super) fn cancel(&mut self, request: u32) -> bool {
        let before = self.posted.len();
        self.posted.retain(|(posted, _)| *posted != request);
        let cancelled = self.posted.len() < before;
        if cancelled {
            self.requests.remove(&request);
        }
        cancelled
    }
}
