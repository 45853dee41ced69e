//! How much room there is, and for whom.

use std::collections::BTreeMap;

use geds_core::extents::{Extent, Extents, SegmentNo};

use super::Place;

/// The pages of all segments. A page is free, promised (to nobody in particular: a number), used by one or several, or set apart.
#[derive(Debug, Default)]
pub(crate) struct Room {
    extents: Extents,
    segments: BTreeMap<SegmentNo, u32>,
    pages: u64,
    free: u64,
    promised: u64,
    /// Of the extents that several have, or had, and one still has: by where they begin.
    shared: BTreeMap<(SegmentNo, u32), Sharing>,
    /// Where the disk has failed. They are not used again by this owner.
    apart: Vec<Extent>,
}

#[derive(Debug)]
struct Sharing {
    n_owners: u64,
    /// One of those who had it has found so.
    is_damaged: bool,
}

impl Room {
    pub(crate) fn add(&mut self, segment: SegmentNo, pages: u32) {
        self.extents.add(segment, pages);
        self.segments.insert(segment, pages);
        self.pages += u64::from(pages);
        self.free += u64::from(pages);
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Neither used nor promised.
    pub(crate) fn available(&self) -> u64 {
        self.free.saturating_sub(self.promised)
    }

    /// Neither available nor set apart.
    pub(crate) fn used(&self) -> u64 {
        self.pages - self.available() - self.apart()
    }

    pub(crate) fn apart(&self) -> u64 {
        self.apart
            .iter()
            .map(|extent| u64::from(extent.pages))
            .sum()
    }

    /// Promises pages to whoever has asked, if there are as many.
    pub(crate) fn promise(&mut self, pages: u64) -> bool {
        let is_there = pages <= self.available();
        if is_there {
            self.promised += pages;
        }
        is_there
    }

    /// The same for pages that were promised before, and have been set apart since: it may promise more than there is.
    pub(super) fn promise_again(&mut self, pages: u64) {
        self.promised += pages;
    }

    pub(crate) fn release(&mut self, pages: u64) {
        let left = self.promised.checked_sub(pages);
        self.promised = left.expect("what is released was promised");
    }

    /// Takes pages that were promised, in as few pieces as there are. `None`: so much has been set apart that the promise cannot be kept;
    /// it is released.
    pub(crate) fn take(&mut self, pages: u64) -> Option<Vec<Extent>> {
        self.release(pages);
        let mut taken = Vec::new();
        let mut left = pages;
        while left > 0 {
            let wish = u32::try_from(left).unwrap_or(u32::MAX);
            let extent = self.extents.take(wish);
            let Some(extent) = extent.or_else(|| self.extents.take_longest(wish)) else {
                self.give(taken);
                return None;
            };
            left -= u64::from(extent.pages);
            self.free -= u64::from(extent.pages);
            taken.push(extent);
        }
        Some(taken)
    }

    /// Takes this very place, if it is free.
    pub(super) fn take_at(&mut self, place: Place) -> Option<Extent> {
        let taken = self
            .extents
            .take_at(place.segment, place.first, place.pages)?;
        self.free -= u64::from(place.pages);
        Some(taken)
    }

    pub(super) fn has(&self, place: Place) -> bool {
        let end = place.first.checked_add(place.pages);
        let pages = self.segments.get(&place.segment);
        pages.is_some_and(|pages| end.is_some_and(|end| end <= *pages))
    }

    /// The right to what somebody has, for another one: all of them give it back.
    pub(crate) fn share(&mut self, extent: &Extent) -> Extent {
        let key = (extent.segment, extent.first);
        if self.has(Place::of(extent)) {
            let alone = Sharing {
                n_owners: 1,
                is_damaged: false,
            };
            self.shared.entry(key).or_insert(alone).n_owners += 1;
        }
        Extent { ..*extent }
    }

    pub(crate) fn give(&mut self, extents: impl IntoIterator<Item = Extent>) {
        self.take_back(extents, false);
    }

    /// Does not use them again: writing or reading there has failed.
    pub(crate) fn set_apart(&mut self, extents: impl IntoIterator<Item = Extent>) {
        self.take_back(extents, true);
    }

    fn take_back(&mut self, extents: impl IntoIterator<Item = Extent>, is_damaged: bool) {
        for extent in extents {
            // What lay in a segment that is lost is not ours to give.
            if !self.has(Place::of(&extent)) {
                continue;
            }
            match self.let_go(&extent, is_damaged) {
                None => {}
                Some(true) => self.apart.push(extent),
                Some(false) => {
                    self.free += u64::from(extent.pages);
                    self.extents.give(extent);
                }
            }
        }
    }

    /// Whether the disk has failed there. `None`: others have it too.
    fn let_go(&mut self, extent: &Extent, is_damaged: bool) -> Option<bool> {
        let key = (extent.segment, extent.first);
        let Some(sharing) = self.shared.get_mut(&key) else {
            return Some(is_damaged);
        };
        sharing.n_owners -= 1;
        sharing.is_damaged |= is_damaged;
        if sharing.n_owners > 0 {
            return None;
        }
        self.shared.remove(&key).map(|sharing| sharing.is_damaged)
    }
}
