//! Putting objects: room first, then bytes, then the record that makes it an object.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use geds_core::extents::{Extent, PAGE_BYTES};
use wal::{Position, Ticket};

use super::error::{Error, Result, during};
use super::format::{self, Said};
use super::keeping::FLUSH_BYTES;
use super::reading::Pinned;
use super::store::{Inner, State, Store};
use crate::core::catalogue::{
    BLOCK_BYTES, Catalogue, Few, Id, Lying, Place, Weight, What, blocks_of, pages_of,
};

/// An object that wants nothing but a name: a small one has room and is in memory, another is on the disk. It is given up when it is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// Always there, but at the end.
    what: Option<New>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum New {
    /// Pages are promised to it.
    Small(Bytes, Few<u32>),
    Large(Arc<Lying>),
}

const UNTIL_THE_END: &str = "it is taken at the end only";

/// What a new object needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    pages: u64,
    staged_bytes: u64,
    weight: Weight,
}

/// What it has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Snapshot(Weight),
    Log,
    Staging,
    Pages,
}

impl Store {
    /// Puts an object: `pieces` one after the other, of which `sums` has the CRC32C of each 64 KiB. It is here for good when the ticket is kept;
    /// of a small one nothing has been synced before. When there is no room, waits for some until `room_by`.
    ///
    /// What is appended to another log of the same [`wal::Wal`] right after this, and before the ticket is waited for, goes with the same sync.
    ///
    /// # Errors
    /// `Conflict`; `Exhausted`: there was no room in time; `Corrupt`: the sums are of other bytes; `Invalid`; `Fenced`, `Unavailable`.
    pub fn put(&self, id: Id, pieces: &[&[u8]], sums: &[u32], room_by: Instant) -> Result<Ticket> {
        absent(&self.inner.lock().catalogue, id)?;
        self.put_prepared(id, self.prepare(pieces, sums, room_by)?)
    }

    /// The first half of [`put`](Self::put), in which all the time goes, for who does not know the name yet.
    ///
    /// # Errors
    /// As `put`, without `Conflict`.
    pub fn prepare(&self, pieces: &[&[u8]], sums: &[u32], room_by: Instant) -> Result<Prepared> {
        let len = check_sums(pieces, sums)?;
        let what = if len <= self.inner.config.small_bytes_max {
            self.inner.hold_small(len, pieces, sums, room_by)?
        } else {
            let lying = self.inner.write(pieces, sums, room_by, |_| Ok(()))?;
            New::Large(lying)
        };
        Ok(Prepared::new(what, &self.inner))
    }

    /// The second half: waits at most for room in the queue of the log.
    ///
    /// # Errors
    /// `Conflict`, `Exhausted`, `Fenced`, `Unavailable`.
    pub fn put_prepared(&self, id: Id, mut prepared: Prepared) -> Result<Ticket> {
        self.try_put_prepared(id, &mut prepared)
    }

    /// The same for who tries it again if it fails: then nothing was changed.
    ///
    /// # Errors
    /// As [`put_prepared`](Self::put_prepared).
    pub fn try_put_prepared(&self, id: Id, prepared: &mut Prepared) -> Result<Ticket> {
        let inner = &self.inner;
        let state = inner.lock_alive()?;
        let absent = |catalogue: &Catalogue| absent(catalogue, id);
        let result = match prepared.what.as_ref().expect(UNTIL_THE_END) {
            New::Small(bytes, sums) => {
                let said = Said::small(id, sums.first().copied().unwrap_or(0));
                let stage = |catalogue: &mut Catalogue, position| {
                    catalogue.stage(id, bytes.clone(), sums.iter().copied().collect(), position);
                };
                inner.commit(state, (&said, &[&bytes[..]]), absent, stage)
            }
            New::Large(lying) => {
                let said = Said::entries([&lying.entry(id)]);
                let lay = |catalogue: &mut Catalogue, position| {
                    catalogue.lay(id, Arc::clone(lying), position);
                };
                inner.commit(state, (&said, &[]), absent, lay)
            }
        };
        if result.is_ok() {
            prepared.what = None;
        }
        result
    }

    /// Makes one object of others, one after the other, of their bytes where they lie: nothing is written but its record. They may go, and it stays; their
    /// records are in the log before its own. `None`: one of them is a small one, or ends within a block of 64 KiB and is not the last, or they lie in
    /// too many pieces.
    ///
    /// # Errors
    /// `NotFound`: one is not there; `Exhausted`, `Fenced`, `Unavailable`.
    pub fn join(&self, ids: &[Id], room_by: Instant) -> Result<Option<Prepared>> {
        let inner = &self.inner;
        let mut state = inner.lock_alive()?;
        // What was repaired lies elsewhere now.
        inner.settle(&mut state);
        let Some(parts) = lying(&state.catalogue, ids)? else {
            return Ok(None);
        };
        drop(state);
        let mut weight = Weight {
            entries: 1,
            ..Weight::default()
        };
        for part in &parts {
            weight.places += part.extents.len() as u64;
            weight.sums += part.sums.len() as u64;
        }
        if format::record_bytes(weight) > inner.log.record_bytes_max() {
            return Ok(None);
        }
        let need = Need {
            pages: 0,
            staged_bytes: 0,
            weight,
        };
        let mut state = inner.make_room(need, room_by, |_| Ok(()))?;
        // As long as somebody has them, their pages are nobody else's.
        let joined = Lying::join(&parts, state.catalogue.room_mut());
        drop(state);
        Ok(joined.map(|joined| Prepared::lying(Arc::new(joined), inner)))
    }

    /// Puts an object's bytes to another place, because they are damaged where they are.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`: these are not its bytes; else as [`put`](Self::put).
    pub fn repair(&self, id: Id, pieces: &[&[u8]], room_by: Instant) -> Result<Ticket> {
        let inner = &self.inner;
        let sums = match inner.find(id)? {
            What::Lying(lying) => {
                if check_sums(pieces, &lying.sums)? != lying.len {
                    return Err(Error::Invalid("it has another length"));
                }
                lying.sums.iter().copied().collect::<Few<_>>()
            }
            // It is in memory, and will be written to its place from there.
            What::Staged(_) => return Ok(inner.log.barrier()),
        };
        let present = |catalogue: &Catalogue| present(catalogue, id);
        let lying = inner.write(pieces, &sums, room_by, present)?;
        let mut prepared = Prepared::lying(lying, inner);
        let Some(New::Large(lying)) = &prepared.what else {
            unreachable!("it was made so")
        };
        let said = Said::entries([&lying.entry(id)]);
        let place = |catalogue: &mut Catalogue, position| {
            catalogue.place(id, Arc::clone(lying), position);
        };
        let result = inner.commit(inner.lock_alive()?, (&said, &[]), present, place);
        if result.is_ok() {
            prepared.what = None;
        }
        result
    }
}

impl Prepared {
    fn new(what: New, inner: &Arc<Inner>) -> Self {
        Self {
            what: Some(what),
            inner: Arc::clone(inner),
        }
    }

    pub(super) fn lying(lying: Arc<Lying>, inner: &Arc<Inner>) -> Self {
        Self::new(New::Large(lying), inner)
    }

    /// In bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self.what.as_ref().expect(UNTIL_THE_END) {
            New::Small(bytes, _) => bytes.len() as u64,
            New::Large(lying) => lying.len,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens what has no name yet. `None`: it is a small one.
    #[must_use]
    pub fn pin(&self) -> Option<Pinned> {
        match self.what.as_ref().expect(UNTIL_THE_END) {
            New::Small(..) => None,
            New::Large(lying) => {
                let what = What::Lying(Arc::clone(lying));
                Some(Pinned::new(Id::NONE, what, &self.inner))
            }
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        match self.what.take() {
            Some(New::Small(bytes, _)) => {
                let pages = pages_of(bytes.len() as u64);
                state.catalogue.room_mut().release(pages);
            }
            Some(New::Large(lying)) => state.catalogue.bury(lying),
            None => return,
        }
        drop(state);
        self.inner.room.notify_all();
    }
}

impl Inner {
    fn hold_small(
        &self,
        len: u64,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
    ) -> Result<New> {
        let need = Need {
            pages: pages_of(len),
            staged_bytes: len,
            weight: Weight {
                entries: 1,
                places: pages_of(len),
                sums: sums.len() as u64,
            },
        };
        drop(self.make_room(need, room_by, |_| Ok(()))?);
        let sums = sums.iter().copied().collect();
        Ok(New::Small(pieces.concat().into(), sums))
    }

    /// Writes an object to a place of its own, and syncs it. No record tells of it yet.
    fn write(
        &self,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
        check: impl Fn(&Catalogue) -> Result<()>,
    ) -> Result<Arc<Lying>> {
        let extents = self.write_piece(pieces, Weight::default(), room_by, check)?;
        self.sync(extents.iter().map(Place::of))?;
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        let sums = sums.iter().copied().collect::<Few<_>>();
        Ok(Arc::new(Lying::new(len, extents.into(), sums)))
    }

    /// Writes bytes to a place of their own, of an object that weighs so much without them.
    pub(super) fn write_piece(
        &self,
        pieces: &[&[u8]],
        before: Weight,
        room_by: Instant,
        check: impl Fn(&Catalogue) -> Result<()>,
    ) -> Result<Vec<Extent>> {
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        let need = Need {
            pages: pages_of(len),
            staged_bytes: 0,
            weight: Weight {
                entries: 1,
                places: before.places + 1,
                sums: before.sums + blocks_of(len),
            },
        };
        if format::record_bytes(need.weight) > self.log.record_bytes_max() {
            return Err(Error::Invalid("it is longer than a record can tell of"));
        }
        let mut state = self.make_room(need, room_by, check)?;
        let extents = state.catalogue.room_mut().take(need.pages);
        drop(state);
        let extents = extents.ok_or(Error::Exhausted("on what is left of the disk"))?;
        let weight = Weight {
            places: before.places + extents.len() as u64,
            ..need.weight
        };
        if format::record_bytes(weight) > self.log.record_bytes_max() {
            self.lock().catalogue.room_mut().give(extents);
            return Err(Error::Exhausted("in one piece, nor in a few"));
        }
        let written = self
            .segments
            .write(extents.iter().map(Place::of).collect(), pieces);
        if let Err(error) = during("write an object", written) {
            // Whoever came next would get the same pages, and fail too.
            self.lock().catalogue.room_mut().set_apart(extents);
            return Err(error);
        }
        Ok(extents)
    }

    /// Promises a new object what it needs, as soon as it is there.
    fn make_room(
        &self,
        need: Need,
        by: Instant,
        check: impl Fn(&Catalogue) -> Result<()>,
    ) -> Result<MutexGuard<'_, State>> {
        if need.pages > self.config.limit_bytes / PAGE_BYTES {
            return Err(Error::Exhausted("for that much at all"));
        }
        let (mut may_grow, mut may_flush, mut may_free) = (true, true, true);
        loop {
            let mut state = self.lock_alive()?;
            self.settle(&mut state);
            check(&state.catalogue)?;
            match self.lack(&mut state, need) {
                None => return Ok(state),
                Some(Lack::Snapshot(weight)) => {
                    drop(state);
                    self.grow_snapshots(weight)?;
                }
                Some(Lack::Log) => {
                    drop(state);
                    self.checkpoint_if_long(2 * self.config.log_bytes)?;
                }
                Some(Lack::Staging) if may_flush => {
                    drop(state);
                    may_flush = self.flush(Position(u64::MAX), FLUSH_BYTES)? > 0;
                }
                Some(Lack::Pages) if may_grow && self.can_grow(&state) => {
                    drop(state);
                    may_grow = self.grow(need.pages)?;
                }
                Some(Lack::Staging | Lack::Pages) if may_free && state.may_free() => {
                    self.say_freed(state)?;
                    self.log.barrier().wait()?;
                    // Others may be freeing all the time.
                    may_free = rt::now() < by;
                }
                Some(Lack::Staging | Lack::Pages) => self.wait(state, by)?,
            }
        }
    }

    /// `None`: it has been promised.
    fn lack(&self, state: &mut State, need: Need) -> Option<Lack> {
        let catalogue = &state.catalogue;
        let mut weight = catalogue.weight();
        weight.entries += need.weight.entries;
        weight.places += need.weight.places;
        weight.sums += need.weight.sums;
        let staged_bytes = catalogue.staged_bytes() + need.staged_bytes;
        if !self.snapshots.has_room(weight) {
            return Some(Lack::Snapshot(weight));
        }
        if self.log_bytes(state) > 2 * self.config.log_bytes {
            return Some(Lack::Log);
        }
        if need.staged_bytes > 0 && staged_bytes > self.config.staged_bytes_max {
            return Some(Lack::Staging);
        }
        let is_promised = state.catalogue.room_mut().promise(need.pages);
        (!is_promised).then_some(Lack::Pages)
    }

    /// Waits until there may be more room.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, by: Instant) -> Result<()> {
        let now = rt::now();
        if now >= by {
            return Err(Error::Exhausted("on the disk"));
        }
        state.n_waiting += 1;
        let waited = self.room.wait_timeout(state, by - now);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.n_waiting -= 1;
        Ok(())
    }
}

/// `None`: one of them is in memory and in the log.
fn lying(catalogue: &Catalogue, ids: &[Id]) -> Result<Option<Vec<Arc<Lying>>>> {
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        match catalogue.find(*id) {
            Some(What::Lying(lying)) => all.push(Arc::clone(lying)),
            Some(What::Staged(_)) => return Ok(None),
            None => return Err(Error::NotFound(*id)),
        }
    }
    Ok(Some(all))
}

fn absent(catalogue: &Catalogue, id: Id) -> Result<()> {
    if catalogue.knows(id) {
        Err(Error::Conflict(id))
    } else {
        Ok(())
    }
}

fn present(catalogue: &Catalogue, id: Id) -> Result<()> {
    match catalogue.find(id) {
        Some(What::Lying(_)) => Ok(()),
        _ => Err(Error::NotFound(id)),
    }
}

/// Gives the length of the pieces together, if the sums are theirs.
pub(super) fn check_sums(pieces: &[&[u8]], sums: &[u32]) -> Result<u64> {
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if blocks_of(len) != sums.len() as u64 {
        return Err(Error::Invalid("there is a checksum of each 64 KiB"));
    }
    let (mut block, mut crc, mut left) = (0, 0, BLOCK_BYTES);
    for mut bytes in pieces.iter().copied() {
        while !bytes.is_empty() {
            let n = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(n);
            crc = crc32c::crc32c_append(crc, now);
            left -= n as u64;
            bytes = later;
            if left == 0 {
                if crc != sums[block] {
                    let block = block as u64;
                    return Err(Error::Mismatch { block });
                }
                (block, crc, left) = (block + 1, 0, BLOCK_BYTES);
            }
        }
    }
    match sums.get(block) {
        Some(sum) if *sum != crc => Err(Error::Mismatch {
            block: block as u64,
        }),
        _ => Ok(len),
    }
}
