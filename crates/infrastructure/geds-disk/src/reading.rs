//! Reading objects back, with every checksum looked at.

use std::io;
use std::sync::Arc;

use geds_core::extents::PAGE_BYTES;

use super::aligned::{PAGE, is_aligned};
use super::error::{Error, Result};
use super::store::{Inner, Store};
use crate::core::catalogue::{BLOCK_BYTES, Id, Lying, Place, What, pages_of};

/// An object that is open: its bytes stay where they are, also when it is freed.
#[derive(Debug)]
pub struct Pinned {
    id: Id,
    /// Always there, but at the end.
    what: Option<What>,
    inner: Arc<Inner>,
}

impl Store {
    /// Opens an object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pin(&self, id: Id) -> Result<Pinned> {
        Ok(Pinned::new(id, self.inner.find(id)?, &self.inner))
    }

    /// Opens an object and reads bytes of it. See [`Pinned::read_at`].
    ///
    /// # Errors
    /// As the two.
    pub fn read_at(&self, id: Id, position: u64, into: &mut [u8]) -> Result<usize> {
        self.pin(id)?.read_at(position, into)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        drop(self.what.take());
        let mut state = self.inner.lock();
        if state.n_waiting > 0 {
            // It may have been the last one who read there.
            self.inner.settle(&mut state);
        }
    }
}

impl Pinned {
    pub(super) fn new(id: Id, what: What, inner: &Arc<Inner>) -> Self {
        Self {
            id,
            what: Some(what),
            inner: Arc::clone(inner),
        }
    }

    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// In bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.what().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The CRC32C of each 64 KiB.
    #[must_use]
    pub fn sums(&self) -> &[u32] {
        match self.what() {
            What::Staged(staged) => &staged.sums,
            What::Lying(lying) => &lying.sums,
        }
    }

    /// Not only in the log and in memory.
    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self.what(), What::Lying(_))
    }

    fn what(&self) -> &What {
        self.what.as_ref().expect("it is taken at the end only")
    }

    /// Copies bytes from `position` on; gives their number, which is less than there is room for only at the end. Whole blocks of 64 KiB are read
    /// and compared with their checksums; those that have all of their room in `into`, on whole pages of memory, are read to there.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unreadable`]. What is in `into` then is nothing to rely on.
    pub fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize> {
        let left = self.len().saturating_sub(position);
        let n = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let into = &mut into[..n];
        match self.what() {
            _ if n == 0 => {}
            What::Staged(staged) => {
                let start = usize::try_from(position).expect("it is in memory");
                into.copy_from_slice(&staged.bytes[start..start + n]);
            }
            What::Lying(lying) => {
                let result = self.read_blocks(lying, position, into);
                if let Err(Error::Corrupt { .. }) = result {
                    lying.note_damage();
                }
                result?;
            }
        }
        Ok(n)
    }

    fn read_blocks(&self, lying: &Lying, mut position: u64, mut into: &mut [u8]) -> Result<()> {
        let mut buffer = self.inner.segments.buffer();
        let buffer_bytes = buffer.len() as u64;
        while !into.is_empty() {
            let block = position / BLOCK_BYTES;
            let skipped = position % BLOCK_BYTES;
            let n_whole = into.len() - into.len() % usize::try_from(BLOCK_BYTES).expect("short");
            if skipped == 0 && n_whole > 0 && is_aligned(into) {
                let (now, later) = into.split_at_mut(n_whole);
                self.read_checked(lying, block, now, n_whole as u64)?;
                position += n_whole as u64;
                into = later;
                continue;
            }
            // Through the buffer, as many blocks as are needed and fit.
            let end = (position + into.len() as u64).next_multiple_of(BLOCK_BYTES);
            let start = block * BLOCK_BYTES;
            let n_bytes = (end.min(lying.len) - start).min(buffer_bytes);
            let n_pages = usize::try_from(pages_of(n_bytes)).expect("it fits in the buffer");
            let pages = &mut buffer[..n_pages * PAGE];
            self.read_checked(lying, block, pages, n_bytes)?;
            let skipped = usize::try_from(skipped).expect("less than a block");
            let found = &pages[skipped..];
            let n = usize::try_from(n_bytes).expect("it fits in the buffer") - skipped;
            let (now, later) = into.split_at_mut(n.min(into.len()));
            now.copy_from_slice(&found[..now.len()]);
            position += now.len() as u64;
            into = later;
        }
        self.inner.segments.keep(buffer);
        Ok(())
    }

    /// Reads blocks from that one on: `n_bytes` of the object, on whole pages.
    fn read_checked(
        &self,
        lying: &Lying,
        block: u64,
        pages: &mut [u8],
        n_bytes: u64,
    ) -> Result<()> {
        let offset = block * BLOCK_BYTES;
        self.read_pages(lying, offset, pages)?;
        let n_bytes = usize::try_from(n_bytes).expect("it is in memory");
        let blocks = pages[..n_bytes].chunks(usize::try_from(BLOCK_BYTES).expect("short"));
        for (block, bytes) in (block..).zip(blocks) {
            let idx = usize::try_from(block).expect("its sums are in memory");
            if crc32c::crc32c(bytes) != lying.sums[idx] {
                return Err(Error::Corrupt { id: self.id, block });
            }
        }
        Ok(())
    }

    fn read_pages(&self, lying: &Lying, offset: u64, pages: &mut [u8]) -> Result<()> {
        let read = |offset, pages: &mut [u8]| {
            let places = lying.extents.iter().map(Place::of);
            self.inner.segments.read(places, offset, pages)
        };
        if read(offset, pages).is_ok() {
            return Ok(());
        }
        // Which block is it?
        let id = self.id;
        for (n, bytes) in (0..).zip(pages.chunks_mut(usize::try_from(BLOCK_BYTES).expect("short")))
        {
            let block = offset / BLOCK_BYTES + n;
            match read(block * BLOCK_BYTES, bytes) {
                Ok(()) => {}
                // The file is gone, or shorter than it was.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    return Err(Error::Corrupt { id, block });
                }
                Err(error) => {
                    let source = Arc::new(error);
                    return Err(Error::Unreadable { id, block, source });
                }
            }
        }
        Ok(())
    }
}

const _: () = assert!(PAGE as u64 == PAGE_BYTES);
