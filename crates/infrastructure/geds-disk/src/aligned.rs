//! Memory that begins on a page, as reading and writing past the page cache wants it.

use std::ops::{Deref, DerefMut};

use geds_core::extents::PAGE_BYTES;

pub(crate) const PAGE: usize = 4096;
const _: () = assert!(PAGE as u64 == PAGE_BYTES);

/// Such memory, with any length. A page more than is needed makes it possible without unsafe code, and costs little: there are few, and they are large.
#[derive(Debug)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        assert!(start < PAGE, "only constants cannot be aligned");
        Self { bytes, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE)
}

/// The largest whole number of pages that is not more.
pub(crate) fn whole_pages(len: usize) -> usize {
    len - len % PAGE
}
