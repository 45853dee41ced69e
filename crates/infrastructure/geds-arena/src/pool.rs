//! The segments of one owner, and who has which pages of them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use geds_core::extents::{Extent, Extents, SegmentNo};
use geds_core::{Error, Kind, Result};

use super::budget::Budget;
use super::lock;
use super::memory::{Home, Memory, Pages};
use super::segments::{Owner, Segment, Segments};

#[derive(Debug)]
pub(crate) struct Pool {
    owner: Owner,
    segments: Arc<Segments>,
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    extents: Extents,
    segments: BTreeMap<SegmentNo, Segment>,
    /// Its client is gone: nothing is written here any more.
    is_closed: bool,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let segments = std::mem::take(&mut lock(&self.state).segments);
        for segment in segments.into_values() {
            self.segments.give_up(segment);
        }
    }
}

impl Home for Pool {
    fn take(self: Arc<Self>, pages: u32) -> Result<Pages> {
        let pages = pages.min(self.segments.segment_pages());
        let extent = self.obtain(pages, |extents| extents.take(pages))?;
        let memory = self.memory(extent.segment);
        Ok(Pages::new(memory, extent, self))
    }

    fn grow(&self, extent: &mut Extent, pages: u32) {
        lock(&self.state).extents.grow(extent, pages);
    }

    fn give(&self, extent: Extent) {
        let mut state = lock(&self.state);
        state.extents.give(extent);
        if state.is_closed {
            self.give_up_idle(state);
        }
    }

    fn for_reader(&self, segment: SegmentNo) -> Result<OwnedFd> {
        self.with(segment, Segment::for_reader)
    }
}

impl Pool {
    pub(crate) fn new(owner: Owner, segments: Arc<Segments>, budget: Arc<Budget>) -> Arc<Self> {
        let pool = Arc::new(Self {
            owner,
            segments,
            budget,
            state: Mutex::default(),
        });
        pool.segments.enlist(&pool);
        pool
    }

    /// Takes pages in one piece for a client: at least `least` if there is such a piece or can be one, and as many as there are, up to
    /// `most`.
    pub(crate) fn lease(&self, least: u32, most: u32) -> Result<Extent> {
        self.obtain(most, |extents| {
            let extent = extents.take_longest(most)?;
            if extent.pages >= least {
                return Some(extent);
            }
            extents.give(extent);
            None
        })
    }

    /// Takes what is wanted, from another segment if there is no such piece; if there is no segment to be had, then the longest piece.
    fn obtain(&self, most: u32, want: impl Fn(&mut Extents) -> Option<Extent>) -> Result<Extent> {
        loop {
            if let Some(extent) = want(&mut lock(&self.state).extents) {
                return Ok(extent);
            }
            match self.segments.make(self.owner, &self.budget) {
                Ok(segment) => self.add(segment),
                Err(error) if error.kind == Kind::Exhausted => {
                    let longest = lock(&self.state).extents.take_longest(most);
                    return longest.ok_or(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn memory(&self, segment: SegmentNo) -> Arc<Memory> {
        let state = lock(&self.state);
        let segment = state.segments.get(&segment);
        Arc::clone(&segment.expect("a segment with a used page stays").memory)
    }

    pub(crate) fn for_writer(&self, segment: SegmentNo) -> Result<OwnedFd> {
        self.with(segment, Segment::for_writer)
    }

    pub(crate) fn close_to_writers(&self, segment: SegmentNo) -> Result<()> {
        self.with(segment, Segment::close_to_writers)
    }

    /// What is not used is given up from now on.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        self.give_up_idle(state);
    }

    /// Gives up an idle segment whose memory is freed by that. Was there any?
    pub(crate) fn give_up_one(&self) -> bool {
        let mut state = lock(&self.state);
        let mut idle = state.extents.idle();
        let found = idle.find(|no| state.segments.get(no).is_some_and(Segment::is_alone));
        drop(idle);
        if let Some(no) = found {
            state.extents.forget(no);
            state.segments.remove(&no);
        }
        found.is_some()
    }

    pub(crate) fn is_of(&self, domain: &Arc<Budget>) -> bool {
        Arc::ptr_eq(&self.budget, domain)
    }

    fn give_up_idle(&self, mut state: MutexGuard<'_, State>) {
        let idle: Vec<SegmentNo> = state.extents.idle().collect();
        for no in &idle {
            state.extents.forget(*no);
        }
        let idle = idle.iter().filter_map(|no| state.segments.remove(no));
        let idle: Vec<Segment> = idle.collect();
        // Others that look for memory take their lock first and then ours.
        drop(state);
        for segment in idle {
            self.segments.give_up(segment);
        }
    }

    fn add(&self, segment: Segment) {
        let mut state = lock(&self.state);
        let pages = self.segments.segment_pages();
        state.extents.add(segment.no, pages);
        state.segments.insert(segment.no, segment);
    }

    fn with<T>(&self, segment: SegmentNo, act: impl FnOnce(&Segment) -> Result<T>) -> Result<T> {
        let state = lock(&self.state);
        let segment = state.segments.get(&segment);
        act(segment.ok_or_else(|| Error::new(Kind::Invalid, "there is no such segment"))?)
    }
}
