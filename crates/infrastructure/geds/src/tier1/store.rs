//! The objects of a disk: putting, finding, freeing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use serde::Deserialize;
use wal::{DurableLog, Position, Ticket};

use super::error::{Error, Result, during};
use super::format::{self, FREED_MAX, Said};
use super::keeping::{self, FLUSH_BYTES, Keeping};
use super::segments::Segments;
use super::snapshots::Snapshots;
use crate::core::catalogue::{
    BLOCK_BYTES, Catalogue, Few, Id, Lying, Place, Weight, What, blocks_of, pages_of,
};
use crate::core::extents::PAGE_BYTES;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The hard limit: what the segment files take at most.
    pub limit_bytes: u64,
    /// A segment file. The store takes room in such pieces, and keeps it.
    pub segment_bytes: u64,
    /// Objects that are not longer are written whole into the log: one sync instead of two, but their bytes are written twice. At most 64 KiB.
    pub small_bytes_max: u64,
    /// So many bytes of such objects are in memory, until they have been moved to their places.
    pub staged_bytes_max: u64,
    /// When the log is longer, the catalogue is written anew, so that the log can be shortened. Writers wait when it is twice as long.
    pub log_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit_bytes: 64 << 30,
            segment_bytes: 256 << 20,
            small_bytes_max: BLOCK_BYTES,
            staged_bytes_max: 32 << 20,
            log_bytes: 256 << 20,
        }
    }
}

/// For metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    pub limit_bytes: u64,
    /// Of all segment files.
    pub segments_bytes: u64,
    /// What objects take of that, or are promised.
    pub used_bytes: u64,
    /// What is not used any more because the disk has failed there.
    pub apart_bytes: u64,
    pub staged_bytes: u64,
    pub objects: u64,
    /// What a restart would read.
    pub log_bytes: u64,
    pub checkpoints: u64,
    /// Who waits for room.
    pub waiting: u64,
    /// Nothing is changed any more.
    pub has_failed: bool,
}

/// The objects of a disk. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
    is_closing: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

pub(super) struct Inner {
    pub config: Config,
    pub log: Arc<dyn DurableLog>,
    pub segments: Segments,
    pub snapshots: Snapshots,
    pub state: Mutex<State>,
    /// There may be room.
    pub room: Condvar,
    pub keeping: Mutex<Keeping>,
    pub growing: Mutex<()>,
    pub keeper: OnceLock<Thread>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub catalogue: Catalogue,
    /// Where the log begins, and our last record in it; before that if there is none.
    pub log_start: Position,
    pub log_tail: Position,
    /// Why nothing is changed any more.
    pub failure: Option<Error>,
    pub n_waiting: u64,
    pub n_checkpoints: u64,
}

/// What a new object needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    id: Id,
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
    pub(super) fn start(inner: Arc<Inner>) -> Result<Self> {
        let is_closing = Arc::new(AtomicBool::new(false));
        let keeper = {
            let (inner, is_closing) = (Arc::clone(&inner), Arc::clone(&is_closing));
            let body = move || keeping::keep(&inner, &is_closing);
            rt::thread("tier1-keeper".into(), keeping::STACK_BYTES, body)
        };
        let keeper = during("start a thread", keeper)?;
        inner.keeper.get_or_init(|| keeper.thread().clone());
        keeper.thread().unpark();
        Ok(Self {
            inner,
            is_closing,
            keeper: Some(keeper),
        })
    }

    #[cfg(test)]
    pub(super) fn without_keeper(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            is_closing: Arc::default(),
            keeper: None,
        }
    }

    /// Puts an object: `pieces` one after the other, of which `sums` has the CRC32C of each 64 KiB. It is here for good when the ticket is kept;
    /// of a small one nothing has been synced before. When there is no room, waits for some until `room_by`.
    ///
    /// What is appended to another log of the same [`wal::Wal`] right after this, and before the ticket is waited for, goes with the same sync.
    ///
    /// # Errors
    /// `Conflict`; `Exhausted`: there was no room in time; `Corrupt`: the sums are of other bytes; `Invalid`; `Fenced`, `Unavailable`.
    pub fn put(&self, id: Id, pieces: &[&[u8]], sums: &[u32], room_by: Instant) -> Result<Ticket> {
        let len = check_sums(id, pieces, sums)?;
        if len <= self.inner.config.small_bytes_max {
            self.inner.put_small(id, pieces, sums, room_by)
        } else {
            self.inner.put_large(id, pieces, sums, room_by)
        }
    }

    /// Puts an object's bytes to another place, because they are damaged where they are.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`: these are not its bytes; else as [`put`](Self::put).
    pub fn repair(&self, id: Id, pieces: &[&[u8]], room_by: Instant) -> Result<Ticket> {
        let what = self.inner.find(id)?;
        let lying = match what {
            What::Lying(lying) => lying,
            // It is in memory, and will be written to its place from there.
            What::Staged(_) => return Ok(self.inner.log.barrier()),
        };
        if check_sums(id, pieces, &lying.sums)? != lying.len {
            return Err(Error::Invalid("it has another length"));
        }
        let sums = &lying.sums[..];
        self.inner.put_again(id, pieces, sums, room_by)
    }

    /// Takes an object away. Who has it [open](Self::pin) keeps it. The log is told with the next record that it is told of anyway, or soon; when that
    /// is lost in a crash, the object is there again.
    ///
    /// # Errors
    /// `NotFound`, `Exhausted`, `Fenced`, `Unavailable`.
    pub fn free(&self, id: Id) -> Result<()> {
        let mut state = self.inner.lock_alive()?;
        if state.catalogue.find(id).is_none() {
            return Err(Error::NotFound(id));
        }
        state.catalogue.leave(id);
        if state.n_waiting > 0 {
            self.inner.room.notify_all();
        }
        if state.catalogue.unsaid(FREED_MAX).len() == FREED_MAX {
            self.inner.say_freed(state)?;
        }
        Ok(())
    }

    /// The length of an object in bytes, if there is one of that name.
    #[must_use]
    pub fn len_of(&self, id: Id) -> Option<u64> {
        let state = self.inner.lock();
        state.catalogue.find(id).map(What::len)
    }

    /// The next objects in the order of their names, at most so many, with their lengths in bytes. After a start, whoever knows which ones
    /// are needed frees the others.
    #[must_use]
    pub fn objects(&self, after: Option<Id>, n_max: usize) -> Vec<(Id, u64)> {
        let state = self.inner.lock();
        let next = state.catalogue.after(after).take(n_max);
        next.map(|(id, what)| (id, what.len())).collect()
    }

    /// Undoes what the log has refused. To be called by who has seen [`wal::Error::Full`], and before [`wal::Wal::resume`].
    pub fn forget_refused(&self) {
        let mut state = self.inner.lock();
        self.inner.settle(&mut state);
        state.catalogue.refuse();
        state.log_tail = self.inner.log.end();
        drop(state);
        self.inner.room.notify_all();
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let mut state = inner.lock();
        inner.settle(&mut state);
        let room = state.catalogue.room();
        Stats {
            limit_bytes: inner.config.limit_bytes,
            segments_bytes: room.pages() * PAGE_BYTES,
            used_bytes: room.used() * PAGE_BYTES,
            apart_bytes: room.apart() * PAGE_BYTES,
            staged_bytes: state.catalogue.staged_bytes(),
            objects: state.catalogue.objects(),
            log_bytes: inner.log_bytes(&state),
            checkpoints: state.n_checkpoints,
            waiting: state.n_waiting,
            has_failed: state.failure.is_some(),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            // If it has panicked, it has said so.
            keeper.join().ok();
        }
        // What cannot be said is there again, as after a crash.
        if let Ok(state) = self.inner.lock_alive()
            && self.inner.say_freed(state).is_ok()
        {
            // Whoever opens it next must find all of it.
            self.inner.log.barrier().wait().ok();
        }
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_alive(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state),
        }
    }

    /// Ends the owner, and says why it has ended first.
    pub(super) fn fail(&self, error: Error) -> Error {
        let mut state = self.lock();
        let failure = state.failure.get_or_insert(error).clone();
        drop(state);
        self.room.notify_all();
        failure
    }

    pub(super) fn settle(&self, state: &mut State) {
        if !state.catalogue.is_settled() && state.catalogue.settle(self.log.end()) {
            self.room.notify_all();
        }
    }

    /// What a restart would read.
    pub(super) fn log_bytes(&self, state: &State) -> u64 {
        if state.log_tail < state.log_start {
            // What is behind the start is all of others.
            return 0;
        }
        self.log.end().0.saturating_sub(state.log_start.0)
    }

    pub(super) fn find(&self, id: Id) -> Result<What> {
        let mut state = self.lock();
        // What was repaired is read where it is now.
        self.settle(&mut state);
        let what = state.catalogue.find(id).cloned();
        what.ok_or(Error::NotFound(id))
    }

    /// Appends a record, and tells the catalogue, with nothing in between, so that the catalogue never is behind the log. `check` says
    /// whether it still makes sense.
    pub(super) fn commit<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        (said, bytes): (&Said, &[&[u8]]),
        check: impl Fn(&Catalogue) -> Result<()>,
        apply: impl FnOnce(&mut Catalogue, Position),
    ) -> Result<Ticket> {
        loop {
            check(&state.catalogue)?;
            if let Some(ticket) = self.try_append(&mut state, said, bytes)? {
                apply(&mut state.catalogue, ticket.position());
                if state.n_waiting > 0 {
                    // There may be a sync to wait for.
                    self.room.notify_all();
                }
                if self.wants_keeping(&state) {
                    self.wake_keeper();
                }
                return Ok(ticket);
            }
            // Readers do not wait for the log.
            drop(state);
            self.log.barrier().wait()?;
            state = self.lock_alive()?;
        }
    }

    /// Appends a record, and with it that some objects are freed. `None`: the log is busy.
    pub(super) fn try_append(
        &self,
        state: &mut State,
        said: &Said,
        bytes: &[&[u8]],
    ) -> Result<Option<Ticket>> {
        let freed = state.catalogue.unsaid(FREED_MAX);
        let head = said.with_freed(&freed);
        let record = [&[&head[..]], bytes].concat();
        match self.log.try_append(&record) {
            Ok(ticket) => {
                state.log_tail = ticket.position();
                state.catalogue.free(freed.len(), ticket.position());
                Ok(Some(ticket))
            }
            Err(wal::Error::Busy) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the log which objects are freed, if there are any.
    pub(super) fn say_freed<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<()> {
        while !state.catalogue.unsaid(1).is_empty() {
            let nothing = (&Said::nothing(), &[][..]);
            // Nobody waits for it: their pages are used again when it is durable.
            drop(self.commit(state, nothing, |_| Ok(()), |_, _| ())?);
            state = self.lock_alive()?;
        }
        Ok(())
    }

    fn put_small(
        &self,
        id: Id,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
    ) -> Result<Ticket> {
        let bytes: Box<[u8]> = pieces.concat().into();
        let said = Said::small(id, sums.first().copied().unwrap_or(0));
        let (len, n_sums) = (bytes.len() as u64, sums.len() as u64);
        let need = Need {
            id,
            pages: pages_of(len),
            staged_bytes: len,
            weight: Weight {
                entries: 1,
                places: pages_of(len),
                sums: n_sums,
            },
        };
        let state = self.make_room(need, room_by, absent)?;
        let sums = sums.iter().copied().collect();
        let stage = |catalogue: &mut Catalogue, position| {
            catalogue.stage(id, bytes, sums, position);
        };
        let absent = |catalogue: &Catalogue| absent(catalogue, id);
        let result = self.commit(state, (&said, pieces), absent, stage);
        if result.is_err() {
            self.lock().catalogue.room_mut().release(need.pages);
            self.room.notify_all();
        }
        result
    }

    fn put_large(
        &self,
        id: Id,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
    ) -> Result<Ticket> {
        let lying = self.write(id, pieces, sums, room_by, absent)?;
        let said = Said::entries([&lying.entry(id)]);
        let lay = |catalogue: &mut Catalogue, position| {
            catalogue.lay(id, Arc::clone(&lying), position);
        };
        let result = self.lock_alive().and_then(|state| {
            self.commit(state, (&said, &[]), |catalogue| absent(catalogue, id), lay)
        });
        self.or_give_back(result, lying)
    }

    fn put_again(
        &self,
        id: Id,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
    ) -> Result<Ticket> {
        let lying = self.write(id, pieces, sums, room_by, present)?;
        let said = Said::entries([&lying.entry(id)]);
        let place = |catalogue: &mut Catalogue, position| {
            catalogue.place(id, Arc::clone(&lying), position);
        };
        let result = self.lock_alive().and_then(|state| {
            self.commit(
                state,
                (&said, &[]),
                |catalogue| present(catalogue, id),
                place,
            )
        });
        self.or_give_back(result, lying)
    }

    /// If nothing has come of it, its pages are free.
    fn or_give_back(&self, result: Result<Ticket>, lying: Arc<Lying>) -> Result<Ticket> {
        if result.is_err()
            && let Some(lying) = Arc::into_inner(lying)
        {
            let extents = lying.extents.into_vec();
            self.lock().catalogue.room_mut().give(extents);
            self.room.notify_all();
        }
        result
    }

    /// Writes an object to a place of its own, and syncs it. No record tells of it yet.
    fn write(
        &self,
        id: Id,
        pieces: &[&[u8]],
        sums: &[u32],
        room_by: Instant,
        check: fn(&Catalogue, Id) -> Result<()>,
    ) -> Result<Arc<Lying>> {
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        let need = Need {
            id,
            pages: pages_of(len),
            staged_bytes: 0,
            weight: Weight {
                entries: 1,
                places: 1,
                sums: blocks_of(len),
            },
        };
        if format::record_bytes(need.weight) > self.log.record_bytes_max() {
            return Err(Error::Invalid("it is longer than a record can tell of"));
        }
        let mut state = self.make_room(need, room_by, check)?;
        let extents = state.catalogue.room_mut().take(need.pages);
        drop(state);
        let extents = extents.ok_or(Error::Exhausted("on what is left of the disk"))?;
        let places = || extents.iter().map(Place::of);
        let weight = Weight {
            places: extents.len() as u64,
            ..need.weight
        };
        if format::record_bytes(weight) > self.log.record_bytes_max() {
            self.lock().catalogue.room_mut().give(extents);
            return Err(Error::Exhausted("in one piece, nor in a few"));
        }
        let written = self.segments.write(places().collect(), pieces);
        if let Err(error) = during("write an object", written) {
            // Whoever came next would get the same pages, and fail too.
            self.lock().catalogue.room_mut().set_apart(extents);
            return Err(error);
        }
        let synced = self.segments.sync(places());
        during("sync an object", synced).map_err(|error| self.fail(error))?;
        let sums = sums.iter().copied().collect::<Few<_>>();
        Ok(Arc::new(Lying::new(len, extents.into(), sums)))
    }

    /// Promises a new object what it needs, as soon as it is there.
    fn make_room(
        &self,
        need: Need,
        by: Instant,
        check: fn(&Catalogue, Id) -> Result<()>,
    ) -> Result<MutexGuard<'_, State>> {
        if need.pages > self.config.limit_bytes / PAGE_BYTES {
            return Err(Error::Exhausted("for that much at all"));
        }
        let (mut may_grow, mut may_flush) = (true, true);
        loop {
            let mut state = self.lock_alive()?;
            self.settle(&mut state);
            check(&state.catalogue, need.id)?;
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

    pub(super) fn grow_snapshots(&self, weight: Weight) -> Result<()> {
        match self.snapshots.grow(weight) {
            Err(error) if durable::is_full(&error) => Err(Error::Exhausted("for the catalogue")),
            result => during("make room for the catalogue", result),
        }
    }

    /// Waits until there may be more room.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, by: Instant) -> Result<()> {
        let now = rt::now();
        if now >= by {
            return Err(Error::Exhausted("on the disk"));
        }
        if state.catalogue.is_freeing() {
            self.say_freed(state)?;
            self.log.barrier().wait()?;
            return Ok(());
        }
        state.n_waiting += 1;
        let waited = self.room.wait_timeout(state, by - now);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.n_waiting -= 1;
        Ok(())
    }
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
fn check_sums(id: Id, pieces: &[&[u8]], sums: &[u32]) -> Result<u64> {
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
                    return Err(Error::Corrupt { id, block });
                }
                (block, crc, left) = (block + 1, 0, BLOCK_BYTES);
            }
        }
    }
    match sums.get(block) {
        Some(sum) if *sum != crc => Err(Error::Corrupt {
            id,
            block: block as u64,
        }),
        _ => Ok(len),
    }
}
