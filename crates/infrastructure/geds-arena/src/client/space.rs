//! Pages that the agent has leased to this process to write to.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use geds_core::extents::{Extent, Extents, PAGE_BYTES, SegmentNo};
use geds_core::{Error, Kind, Result};

use super::link::{Link, unexpected};
use crate::lock;
use crate::memory::{Home, Memory, Pages};
use crate::wire::{Place, Reply, Request};

/// The first lease; each is twice as long as the one before, up to a segment.
const PAGES_MIN: u32 = 64;

#[derive(Debug)]
pub(super) struct Space {
    link: Arc<Link>,
    /// Held while the agent is asked.
    state: Mutex<State>,
    memory: Mutex<BTreeMap<SegmentNo, Arc<Memory>>>,
}

#[derive(Debug)]
struct State {
    extents: Extents,
    next_pages: u32,
    /// Up to which page the kernel has mapped the pages of each segment.
    populated: BTreeMap<SegmentNo, u32>,
}

impl Home for Space {
    fn take(self: Arc<Self>, pages: u32) -> Result<Pages> {
        let mut state = lock(&self.state);
        let pages = pages.min(self.segment_pages());
        let mut extent = state.extents.take(pages);
        if extent.is_none() {
            let leased = self.lease(&mut state, pages);
            // If that was not enough, the agent has no longer piece, nor room for one.
            extent = state.extents.take(pages);
            extent = extent.or_else(|| state.extents.take_longest(pages));
            if extent.is_none() {
                leased?;
            }
        }
        let extent = extent.ok_or_else(unexpected)?;
        drop(state);
        let memory = self.memory(extent.segment);
        let memory = memory.expect("what is leased is mapped");
        Ok(Pages::new(memory, extent, self))
    }

    fn grow(&self, extent: &mut Extent, pages: u32) {
        lock(&self.state).extents.grow(extent, pages);
    }

    fn give(&self, extent: Extent) {
        lock(&self.state).extents.give(extent);
    }

    fn for_reader(&self, _segment: SegmentNo) -> Result<OwnedFd> {
        let what = "only the agent lets others read";
        Err(Error::new(Kind::Invalid, what))
    }
}

impl Space {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            state: Mutex::new(State {
                extents: Extents::default(),
                next_pages: PAGES_MIN,
                populated: BTreeMap::new(),
            }),
            memory: Mutex::default(),
        }
    }

    /// A segment that this process writes to.
    pub(super) fn memory(&self, segment: SegmentNo) -> Option<Arc<Memory>> {
        lock(&self.memory).get(&segment).cloned()
    }

    /// Gets some more from the agent: `least` pages in one piece if there is such a piece, and perhaps more.
    fn lease(&self, state: &mut State, least: u32) -> Result<()> {
        let most = least.max(state.next_pages);
        let request = Request::Lease { least, most };
        let (place, fd) = self.link.call(&request, |reply, _, fds| match reply {
            Reply::Leased(place) => Ok((place, fds.into_iter().next())),
            _ => Err(unexpected()),
        })?;
        let Place {
            segment,
            first,
            pages,
        } = place;
        let segment = SegmentNo(segment);
        let map = |error| Error::io("map leased pages", error);
        let end = first.checked_add(pages);
        if pages == 0 || end.is_none_or(|end| end > self.segment_pages()) {
            return Err(unexpected());
        }
        if let Some(fd) = fd {
            let memory = Memory::of_ours(fd, self.link.segment_bytes).map_err(map)?;
            lock(&self.memory).insert(segment, Arc::new(memory));
            state.extents.add_taken(segment, self.segment_pages());
        }
        let extent = Extent {
            segment,
            first,
            pages,
        };
        let memory = self.memory(segment).ok_or_else(unexpected)?;
        // Leases of a new segment begin at its beginning; what is leased again is mapped.
        let populated = state.populated.entry(segment).or_default();
        if extent.first + extent.pages > *populated {
            let start = u64::from(*populated) * PAGE_BYTES;
            *populated = extent.first + extent.pages;
            let bytes = u64::from(*populated) * PAGE_BYTES - start;
            memory.populate(start, bytes);
        }
        state.extents.give(extent);
        state.next_pages = most.saturating_mul(2).min(self.segment_pages());
        Ok(())
    }

    fn segment_pages(&self) -> u32 {
        let pages = self.link.segment_bytes / PAGE_BYTES;
        u32::try_from(pages).unwrap_or(u32::MAX)
    }
}
