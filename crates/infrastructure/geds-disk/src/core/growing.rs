//! What an object has of the disk that comes piece by piece: whole blocks, but for the last.

use std::ops::Range;

use geds_core::extents::{Extent, PAGE_BYTES};

use super::catalogue::{BLOCK_BYTES, Lying, Place, Weight, pages_of};

const BLOCK_PAGES: u64 = BLOCK_BYTES / PAGE_BYTES;

#[derive(Debug, Default)]
pub(crate) struct Growing {
    len: u64,
    extents: Vec<Extent>,
    sums: Vec<u32>,
}

impl Growing {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What an entry of it takes.
    pub(crate) fn weight(&self) -> Weight {
        Weight {
            entries: 1,
            places: self.extents.len() as u64,
            sums: self.sums.len() as u64,
        }
    }

    pub(crate) fn ends_with_a_block(&self) -> bool {
        self.len.is_multiple_of(BLOCK_BYTES)
    }

    /// Lengthens it, with pages for so many bytes, after a whole block.
    pub(crate) fn add(&mut self, len: u64, extents: Vec<Extent>, sums: &[u32]) {
        assert!(self.ends_with_a_block(), "only the last block is short");
        for extent in extents {
            match self.extents.last_mut() {
                Some(last)
                    if last.segment == extent.segment
                        && last.first + last.pages == extent.first =>
                {
                    last.pages += extent.pages;
                }
                _ => self.extents.push(extent),
            }
        }
        self.len += len;
        self.sums.extend_from_slice(sums);
    }

    /// Shortens it to a whole number of blocks. Gives the pages that it has no more.
    pub(crate) fn cut(&mut self, n_blocks: u64) -> Vec<Extent> {
        let mut left = n_blocks * BLOCK_PAGES;
        let mut rest = Vec::new();
        for mut extent in std::mem::take(&mut self.extents) {
            let pages = left.min(extent.pages.into());
            left -= pages;
            if pages == 0 {
                rest.push(extent);
                continue;
            }
            rest.extend(extent.cut(u32::try_from(pages).expect("an extent has as many")));
            self.extents.push(extent);
        }
        self.len = self.len.min(n_blocks * BLOCK_BYTES);
        let n_sums = usize::try_from(n_blocks).unwrap_or(usize::MAX);
        self.sums.truncate(n_sums);
        rest
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.extents.iter().map(Place::of)
    }

    /// Where a block lies, and how long it is.
    pub(crate) fn block(&self, block: u64) -> (Vec<Place>, u64) {
        let start = block * BLOCK_BYTES;
        let len = self.len.saturating_sub(start).min(BLOCK_BYTES);
        let first = block * BLOCK_PAGES;
        (self.places_of(first..first + pages_of(len)), len)
    }

    fn places_of(&self, wanted: Range<u64>) -> Vec<Place> {
        let mut places = Vec::new();
        let mut before = 0;
        for place in self.places() {
            let end = before + u64::from(place.pages);
            let found = wanted.start.max(before)..wanted.end.min(end);
            if !found.is_empty() {
                let short = |pages| u32::try_from(pages).expect("an extent has as many");
                places.push(Place {
                    segment: place.segment,
                    first: place.first + short(found.start - before),
                    pages: short(found.end - found.start),
                });
            }
            before = end;
        }
        places
    }

    pub(crate) fn sum(&self, block: u64) -> u32 {
        self.sums[usize::try_from(block).expect("its sums are in memory")]
    }

    pub(crate) fn set_sum(&mut self, block: u64, sum: u32) {
        self.sums[usize::try_from(block).expect("its sums are in memory")] = sum;
    }

    pub(crate) fn finish(self) -> Lying {
        Lying::new(self.len, self.extents.into(), self.sums.into())
    }

    pub(crate) fn into_extents(self) -> Vec<Extent> {
        self.extents
    }
}

#[cfg(test)]
mod tests;
