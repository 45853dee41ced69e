//! Objects that come piece by piece: each piece goes to the disk when it comes, and nobody sees any until all are there.
//!
//! No record tells of them before that. So what a crash leaves of them is free.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use geds_core::extents::PAGE_BYTES;

use super::aligned::Aligned;
use super::error::{Error, Result, during};
use super::putting::{Prepared, check_sums};
use super::store::{Inner, Store};
use crate::core::catalogue::{BLOCK_BYTES, Id, Place, pages_of};
use crate::core::growing::Growing;

/// Writes an object. What it has written is gone when it is dropped.
#[derive(Debug)]
pub struct Writer {
    growing: Growing,
    /// Writing over something has failed.
    is_damaged: bool,
    inner: Arc<Inner>,
}

impl Store {
    /// Begins an object that comes piece by piece.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer {
            growing: Growing::default(),
            is_damaged: false,
            inner: Arc::clone(&self.inner),
        }
    }
}

impl Writer {
    #[must_use]
    pub fn len(&self) -> u64 {
        self.growing.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `pieces` behind what there is: whole blocks of 64 KiB, of which `sums` has the CRC32C of each; only the last time it may be something
    /// else. When there is no room, waits for some until `room_by`.
    ///
    /// # Errors
    /// As [`prepare`](Store::prepare). Then the writer has what it had.
    pub fn append(&mut self, pieces: &[&[u8]], sums: &[u32], room_by: Instant) -> Result<()> {
        let len = check_sums(pieces, sums)?;
        if !self.growing.ends_with_a_block() {
            return Err(Error::Invalid("only the last piece ends within a block"));
        }
        let pages = pages_of(self.len()) + pages_of(len);
        if pages > self.inner.config.limit_bytes / PAGE_BYTES {
            return Err(Error::Exhausted("for that much at all"));
        }
        let weight = self.growing.weight();
        let extents = self
            .inner
            .write_piece(pieces, weight, room_by, |_| Ok(()))?;
        self.growing.add(len, extents, sums);
        Ok(())
    }

    /// Writes over what is there.
    ///
    /// # Errors
    /// `Invalid`: it is not as long as that; `Corrupt`, `Unavailable`.
    pub fn write_at(&mut self, mut position: u64, mut bytes: &[u8]) -> Result<()> {
        if position.saturating_add(bytes.len() as u64) > self.len() {
            return Err(Error::Invalid("it is not as long as that"));
        }
        let mut buffer = block_buffer();
        while !bytes.is_empty() {
            let block = position / BLOCK_BYTES;
            let start = short(position % BLOCK_BYTES);
            let (places, len) = self.growing.block(block);
            let (now, later) = bytes.split_at(bytes.len().min(short(len) - start));
            if now.len() < short(len) {
                self.read_block(block, &mut buffer)?;
            }
            buffer[start..start + now.len()].copy_from_slice(now);
            let whole = &buffer[..short(len)];
            let written = self.inner.segments.write(places, &[whole]);
            self.is_damaged |= written.is_err();
            during("write over what is there", written)?;
            self.growing.set_sum(block, crc32c::crc32c(whole));
            position += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Takes away what begins at `len`, and with it the block that has that place, of which it gives what was before.
    ///
    /// # Errors
    /// `Invalid`: it is not as long as that; `Corrupt`, `Unavailable`.
    pub fn truncate(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > self.len() {
            return Err(Error::Invalid("it is not as long as that"));
        }
        let (block, left) = (len / BLOCK_BYTES, short(len % BLOCK_BYTES));
        let mut rest = Vec::new();
        if left > 0 {
            let mut buffer = block_buffer();
            self.read_block(block, &mut buffer)?;
            rest.extend_from_slice(&buffer[..left]);
        }
        let cut = self.growing.cut(block);
        self.inner.lock().catalogue.room_mut().give(cut);
        self.inner.room.notify_all();
        Ok(rest)
    }

    /// Ends it: what was written is on the disk for good, and wants nothing but a name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn finish(mut self) -> Result<Prepared> {
        if self.is_damaged {
            let source = Arc::new(io::Error::other("writing over some of it has failed"));
            let context = "end an object";
            return Err(Error::Failed { context, source });
        }
        self.inner.sync(self.growing.places())?;
        let lying = std::mem::take(&mut self.growing).finish();
        Ok(Prepared::lying(Arc::new(lying), &self.inner))
    }

    fn read_block(&self, block: u64, buffer: &mut [u8]) -> Result<()> {
        let (places, len) = self.growing.block(block);
        let pages: u64 = places.iter().map(|place| u64::from(place.pages)).sum();
        let buffer = &mut buffer[..short(pages * PAGE_BYTES)];
        let read = self.inner.segments.read(places.into_iter(), 0, buffer);
        during("read what was written", read)?;
        if crc32c::crc32c(&buffer[..short(len)]) != self.growing.sum(block) {
            let id = Id::NONE;
            return Err(Error::Corrupt { id, block });
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let extents = std::mem::take(&mut self.growing).into_extents();
        if extents.is_empty() {
            return;
        }
        let mut state = self.inner.lock();
        let room = state.catalogue.room_mut();
        match self.is_damaged {
            // Whoever came next would get the same pages, and fail too.
            true => room.set_apart(extents),
            false => room.give(extents),
        }
        drop(state);
        self.inner.room.notify_all();
    }
}

impl Inner {
    pub(super) fn sync(&self, places: impl Iterator<Item = Place>) -> Result<()> {
        let synced = self.segments.sync(places);
        during("sync an object", synced).map_err(|error| self.fail(error))
    }
}

fn block_buffer() -> Aligned {
    Aligned::zeroed(short(BLOCK_BYTES))
}

fn short(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a block at most")
}
