//! Writing, with patience: when memory is full, others are moved out of it first. What is too long for memory goes to the disk as it comes.
//!
//! ```text
//!  bytes ──▶ tail: memory ──▶ sealed there
//!              │ the object is longer than its part of memory, or memory is full of what is being written
//!              ▼
//!            head: whole blocks on the disk, a piece at a time ──▶ sealed there, with the last piece
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::objects::Unnamed;
use super::tenants::{Share, Unsealed};
use super::{Class, Store};
use crate::arena;
use crate::core::sums::CHUNK_BYTES;
use crate::core::to_usize;
use crate::error::{Error, Kind, Result};
use crate::tier1;

/// A longer object than this part of its tenant's memory goes to the disk as it comes. In memory it would take the place of nearly all that others
/// read there, for one that is not brought back to memory once it has left it.
const PART: u64 = 4;
/// When more than this part of a tenant's memory is being written, who writes goes on on the disk: who begins finds something that can leave memory.
const UNSEALED_PART: u64 = 2;
/// So much of what goes to the disk is in memory until then. Longer pieces are not written faster.
const PIECE_BYTES: u64 = 4 << 20;

/// Writes an object of a tenant. What it has written is seen by nobody, and gone when it is dropped before it is sealed.
#[derive(Debug)]
pub struct Writer {
    /// What comes before `tail`, if the object is long.
    head: Option<tier1::Writer>,
    tail: arena::Writer,
    unsealed: Unsealed,
    pub(super) share: Arc<Share>,
    store: Store,
}

impl Writer {
    pub(super) fn new(store: Store, share: Arc<Share>) -> Self {
        Self {
            head: None,
            tail: share.domain.writer(),
            unsealed: Unsealed::new(Arc::clone(&share)),
            share,
            store,
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.head_len() + self.tail.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Does it go to the disk as it comes?
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.head.is_some()
    }

    /// Says that the object is as long as that, or longer: if it is too long for memory, it goes to the disk from now on.
    ///
    /// # Errors
    /// `Exhausted`: it has no room on the disk at all.
    pub fn expect(&mut self, len: u64) -> Result<()> {
        let memory = self.memory_bytes_max();
        if len <= memory {
            return Ok(());
        }
        let disk = self.store.0.disk.limit_bytes();
        if len > disk {
            let what = format!(
                "an object of {len} bytes, and at most {memory} in memory and {disk} on the disk"
            );
            return Err(Error::new(Kind::Exhausted, what));
        }
        let head = || self.store.0.disk.writer();
        self.head.get_or_insert_with(head);
        Ok(())
    }

    /// Makes room for an object of `len` bytes as far as it is to be in memory, in one piece if there is one. Waits for it, as all of these do, while
    /// others are moved to the disk.
    ///
    /// # Errors
    /// `Exhausted`: there is no room, or was none in time ([`Config::room_wait`](super::Config::room_wait)).
    pub fn reserve(&mut self, len: u64) -> Result<()> {
        self.expect(len)?;
        let most = self.tail_bytes_max();
        self.with_room(|head_len, piece, tail| {
            let room = len.saturating_sub(head_len);
            tail.reserve(room.min(piece.unwrap_or(most)))
        })
    }

    /// # Errors
    /// As [`reserve`](Self::reserve). Then some of `bytes` may be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.len(), bytes)
    }

    /// As [`reserve`](Self::reserve), without waiting.
    ///
    /// # Errors
    /// `Exhausted`: there is no room now.
    pub fn try_reserve(&mut self, len: u64) -> Result<()> {
        let room = len.saturating_sub(self.head_len());
        let reserved = self.tail.reserve(room.min(self.tail_bytes_max()));
        self.unsealed.set(self.tail.room());
        Ok(reserved?)
    }

    /// As [`append`](Self::append), without waiting.
    ///
    /// # Errors
    /// `Exhausted`: there is no room now, or something has to go to the disk. Then nothing of `bytes` is written.
    pub fn try_append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.tail.len() + bytes.len() as u64;
        if end > self.tail_bytes_max() || self.is_crowded() {
            let what = "what is written has to go to the disk first";
            return Err(Error::new(Kind::Exhausted, what));
        }
        let appended = self.tail.append(bytes);
        self.unsealed.set(self.tail.room());
        Ok(appended?)
    }

    /// Writes over what is there, and lengthens the object if `bytes` end behind its end. What lies between is zero.
    ///
    /// # Errors
    /// As [`append`](Self::append), and what the disk says.
    pub fn write_at(&mut self, mut position: u64, mut bytes: &[u8]) -> Result<()> {
        let end = position.checked_add(bytes.len() as u64);
        self.expect(end.ok_or_else(too_long)?)?;
        while !bytes.is_empty() {
            // It may have come to be on the disk meanwhile.
            if self.head.is_some() {
                self.lengthen(position)?;
            }
            if let Some(head) = self.head.as_mut().filter(|head| position < head.len()) {
                let n = to_usize(head.len() - position).min(bytes.len());
                head.write_at(position, &bytes[..n])?;
                (position, bytes) = (position + n as u64, &bytes[n..]);
                continue;
            }
            let mut n = 0;
            self.with_room(|head_len, piece, tail| {
                n = 0;
                // What was in memory has gone to the disk to make room: it is written over there, or lengthened first.
                let Some(at) = position.checked_sub(head_len) else {
                    return Ok(());
                };
                if piece.is_some() && at > tail.len() {
                    return Ok(());
                }
                let room = piece.map_or(usize::MAX, |piece| to_usize(piece.saturating_sub(at)));
                n = room.min(bytes.len());
                tail.write_at(at, &bytes[..n])
            })?;
            (position, bytes) = (position + n as u64, &bytes[n..]);
            self.move_pieces()?;
        }
        Ok(())
    }

    /// Gives the object another length. What is added is zero.
    ///
    /// # Errors
    /// As [`append`](Self::append), and what the disk says.
    pub fn truncate(&mut self, len: u64) -> Result<()> {
        self.expect(len)?;
        if self.head.as_ref().is_some_and(|head| len < head.len()) {
            // What is left of a block comes back to memory: it is to have room there before it is gone.
            self.with_room(|_, _, tail| tail.reserve(CHUNK_BYTES))?;
        }
        if let Some(head) = self.head.as_mut().filter(|head| len < head.len()) {
            let rest = head.truncate(len)?;
            self.tail.truncate(0)?;
            return self.with_room(|_, _, tail| tail.append(&rest));
        }
        if len < self.len() {
            let len = len - self.head_len();
            return Ok(self.tail.truncate(len)?);
        }
        self.lengthen(len)
    }

    fn lengthen(&mut self, len: u64) -> Result<()> {
        while self.len() < len {
            self.with_room(|head_len, piece, tail| {
                let all = len - head_len;
                tail.truncate(piece.map_or(all, |piece| all.min(piece)).max(tail.len()))
            })?;
            self.move_pieces()?;
        }
        Ok(())
    }

    /// Ends it. What is on the disk is there for good then, of whatever class it was to be.
    pub(super) fn finish(self, store: &Store, class: Class) -> Result<Unnamed> {
        let Self {
            head, tail, share, ..
        } = self;
        let len = tail.len();
        if let Some(mut head) = head.filter(|head| !head.is_empty()) {
            make_disk_room(store, len);
            let pieces: Vec<_> = tail.slices(0..len).collect();
            head.append(&pieces, &tail.sums(), store.room_by())?;
            let len = head.len();
            let prepared = Some(head.finish()?);
            let object = None;
            return Ok(Unnamed {
                object,
                len,
                share,
                prepared,
            });
        }
        let domain = &share.domain;
        let charges = store.with_room(&share, |_| Ok(domain.admission(&tail)?))?;
        let object = domain.seal_admitted(tail, charges)?;
        let prepared = match class {
            Class::Ephemeral => None,
            Class::Durable => Some(store.prepare(&object, store.room_by())?),
        };
        Ok(Unnamed {
            object: Some(object),
            len,
            share,
            prepared,
        })
    }

    /// Does what needs memory. It is told where the tail begins, and how long that may be if the object is long.
    fn with_room(
        &mut self,
        mut act: impl FnMut(u64, Option<u64>, &mut arena::Writer) -> arena::Result<()>,
    ) -> Result<()> {
        let (store, share) = (self.store.clone(), Arc::clone(&self.share));
        let done = store.with_room(&share, |stuck_by| {
            if let Some(by) = stuck_by
                && self.tail.len() >= CHUNK_BYTES
            {
                self.move_to_disk(0, by)?;
            }
            let piece = self.head.as_ref().map(|_| self.piece_bytes());
            Ok(act(self.head_len(), piece, &mut self.tail)?)
        });
        self.unsealed.set(self.tail.room());
        done
    }

    fn move_pieces(&mut self) -> Result<()> {
        let (len, piece) = (self.tail.len(), self.piece_bytes());
        let by = self.store.room_by();
        if self.is_crowded() && len >= CHUNK_BYTES {
            self.move_to_disk(0, by)?;
        } else if self.head.is_some() && len >= piece {
            self.move_to_disk(piece, by)?;
        }
        self.unsealed.set(self.tail.room());
        Ok(())
    }

    /// Is so much being written that others may find no memory?
    fn is_crowded(&self) -> bool {
        let most = self.share.domain.limit_bytes() / UNSEALED_PART;
        self.has_large_disk() && self.share.unsealed_bytes() > most
    }

    /// Else what is long has its place in memory sooner than there.
    fn has_large_disk(&self) -> bool {
        self.store.0.disk.limit_bytes() >= self.share.domain.limit_bytes()
    }

    /// Moves what is in memory, as far as it has whole blocks, and keeps so much of its room.
    fn move_to_disk(&mut self, room: u64, by: Instant) -> Result<()> {
        let len = self.tail.len();
        let moved = len - len % CHUNK_BYTES;
        make_disk_room(&self.store, moved);
        let sums = self.tail.sums();
        let pieces: Vec<_> = self.tail.slices(0..moved).collect();
        let head = || self.store.0.disk.writer();
        let head = self.head.get_or_insert_with(head);
        head.append(&pieces, &sums[..to_usize(moved / CHUNK_BYTES)], by)?;
        let rest: Vec<_> = self.tail.slices(moved..len).collect();
        let rest = rest.concat();
        self.tail.restart(room.max(rest.len() as u64));
        // It has the room.
        Ok(self.tail.append(&rest)?)
    }

    fn head_len(&self) -> u64 {
        self.head.as_ref().map_or(0, tier1::Writer::len)
    }

    fn memory_bytes_max(&self) -> u64 {
        let all = self.share.domain.limit_bytes();
        match self.has_large_disk() {
            true => all / PART,
            false => all,
        }
    }

    fn tail_bytes_max(&self) -> u64 {
        match self.head {
            None if !self.is_crowded() => self.memory_bytes_max(),
            _ => self.piece_bytes(),
        }
    }

    fn piece_bytes(&self) -> u64 {
        let most = PIECE_BYTES.min(self.memory_bytes_max());
        (most - most % CHUNK_BYTES).max(CHUNK_BYTES)
    }
}

fn make_disk_room(store: &Store, bytes: u64) {
    if let Err(error) = store.make_disk_room(bytes) {
        tracing::warn!(%error, "make room on the disk");
    }
}

fn too_long() -> Error {
    Error::new(Kind::Invalid, "an object is not as long as that")
}

#[cfg(test)]
mod tests;
