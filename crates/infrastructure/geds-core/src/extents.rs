//! Who has which pages of a set of segments.
//!
//! Best fit, and of equally fitting ranges the one that was freed last, because its content is the likeliest to be in a cache. Free
//! neighbours are always one range. So a segment has as many free ranges as it has gaps between its used extents, and a range that is long
//! enough is found whenever there is one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The unit of allocation.
pub const PAGE_BYTES: u64 = 4096;

/// The number of a segment. It is never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNo(pub u64);

/// Pages that somebody has. It is not `Copy`: whoever has it gives it back once.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    pub segment: SegmentNo,
    pub first: u32,
    /// Never 0.
    pub pages: u32,
}

impl Extent {
    /// Where it begins in its segment, in bytes.
    pub fn offset(&self) -> u64 {
        u64::from(self.first) * PAGE_BYTES
    }

    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES
    }

    /// Cuts all but the first `pages` off; `None` if there is nothing to cut.
    pub fn cut(&mut self, pages: u32) -> Option<Self> {
        assert!(pages > 0, "an extent has pages");
        let rest = self.pages.checked_sub(pages).filter(|rest| *rest > 0)?;
        self.pages = pages;
        Some(Self {
            segment: self.segment,
            first: self.first + pages,
            pages: rest,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Free {
    pages: u32,
    /// Counts frees; 0: never used.
    freed: u64,
}

/// How well a free range fits: short ones first, then those freed last.
type Fit = (u32, Reverse<u64>, SegmentNo, u32);

#[derive(Debug, Default)]
pub struct Extents {
    /// Pages of each segment.
    segments: BTreeMap<SegmentNo, u32>,
    by_place: BTreeMap<(SegmentNo, u32), Free>,
    by_fit: BTreeSet<Fit>,
    frees: u64,
}

impl Extents {
    /// Adds a segment, all of it free.
    pub fn add(&mut self, segment: SegmentNo, pages: u32) {
        self.add_taken(segment, pages);
        self.insert(segment, 0, Free { pages, freed: 0 });
    }

    /// Adds a segment, none of it free: its pages come with [`Self::give`].
    pub fn add_taken(&mut self, segment: SegmentNo, pages: u32) {
        assert!(pages > 0, "a segment has pages");
        let before = self.segments.insert(segment, pages);
        assert!(before.is_none(), "numbers of segments are not used again");
    }

    pub fn has(&self, segment: SegmentNo) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Takes `pages` in one piece, if there are as many.
    pub fn take(&mut self, pages: u32) -> Option<Extent> {
        assert!(pages > 0, "an extent has pages");
        let least = (pages, Reverse(u64::MAX), SegmentNo(0), 0);
        let fit = *self.by_fit.range(least..).next()?;
        Some(self.take_from(fit, pages))
    }

    /// Takes the longest piece there is, but no more than `pages`.
    pub fn take_longest(&mut self, pages: u32) -> Option<Extent> {
        assert!(pages > 0, "an extent has pages");
        let fit = *self.by_fit.last()?;
        Some(self.take_from(fit, pages.min(fit.0)))
    }

    /// Takes these very pages, if all of them are free.
    pub fn take_at(&mut self, segment: SegmentNo, first: u32, pages: u32) -> Option<Extent> {
        let end = first.checked_add(pages).filter(|_| pages > 0)?;
        let before = self.by_place.range(..=(segment, first)).next_back();
        let (&(no, start), &free) = before?;
        if no != segment || start + free.pages < end {
            return None;
        }
        self.remove(segment, start);
        let freed = free.freed;
        for (start, end) in [(start, first), (end, start + free.pages)] {
            if start < end {
                let pages = end - start;
                self.insert(segment, start, Free { pages, freed });
            }
        }
        Some(Extent {
            segment,
            first,
            pages,
        })
    }

    /// Makes an extent longer by at most `pages`, as far as those behind it are free.
    pub fn grow(&mut self, extent: &mut Extent, pages: u32) {
        let end = extent.first + extent.pages;
        let Some(behind) = self.by_place.get(&(extent.segment, end)) else {
            return;
        };
        let more = behind.pages.min(pages);
        if self.take_at(extent.segment, end, more).is_some() {
            extent.pages += more;
        }
    }

    pub fn give(&mut self, extent: Extent) {
        let Extent {
            segment,
            mut first,
            mut pages,
        } = extent;
        let before = self.by_place.range(..(segment, first)).next_back();
        if let Some((&(no, start), &free)) = before
            && no == segment
        {
            assert!(start + free.pages <= first, "pages are given back once");
            if start + free.pages == first {
                self.remove(segment, start);
                first = start;
                pages += free.pages;
            }
        }
        let after = self.by_place.range((segment, first)..).next();
        if let Some((&(no, start), &free)) = after
            && no == segment
        {
            assert!(first + pages <= start, "pages are given back once");
            if first + pages == start {
                self.remove(segment, start);
                pages += free.pages;
            }
        }
        let all = self.segments.get(&segment).copied().unwrap_or(0);
        assert!(first + pages <= all, "an extent lies in a segment");
        self.frees += 1;
        let freed = self.frees;
        self.insert(segment, first, Free { pages, freed });
    }

    /// The segments without a used page.
    pub fn idle(&self) -> impl Iterator<Item = SegmentNo> + '_ {
        let whole = |segment: &SegmentNo, pages: u32| {
            let free = self.by_place.get(&(*segment, 0));
            free.is_some_and(|free| free.pages == pages)
        };
        let idle = self.segments.iter();
        idle.filter_map(move |(segment, pages)| whole(segment, *pages).then_some(*segment))
    }

    /// Forgets a segment of which no page is used.
    pub fn forget(&mut self, segment: SegmentNo) {
        let pages = self.segments.remove(&segment);
        let free = self.remove(segment, 0);
        assert_eq!(pages, Some(free.pages), "no page of it is used");
    }

    fn take_from(&mut self, fit: Fit, pages: u32) -> Extent {
        let (free_pages, Reverse(freed), segment, first) = fit;
        self.remove(segment, first);
        if free_pages > pages {
            let rest = Free {
                pages: free_pages - pages,
                freed,
            };
            self.insert(segment, first + pages, rest);
        }
        Extent {
            segment,
            first,
            pages,
        }
    }

    fn insert(&mut self, segment: SegmentNo, first: u32, free: Free) {
        self.by_place.insert((segment, first), free);
        let fit = (free.pages, Reverse(free.freed), segment, first);
        self.by_fit.insert(fit);
    }

    fn remove(&mut self, segment: SegmentNo, first: u32) -> Free {
        let free = self.by_place.remove(&(segment, first));
        let free = free.expect("both orders have the same ranges");
        let fit = (free.pages, Reverse(free.freed), segment, first);
        assert!(self.by_fit.remove(&fit), "both orders have the same ranges");
        free
    }
}

#[cfg(test)]
mod tests;
