//! What is done on the side: small objects are moved to their places, the catalogue is written anew, segments are made ahead.
//!
//! Who puts something does it himself if it has not been done in time. So there is no writer who waits for a thread that does not run.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use geds_core::extents::PAGE_BYTES;
use wal::{Position, Ticket};

use super::aligned::PAGE;
use super::error::{Result, during};
use super::format::{self, Said};
use super::store::{Inner, State};
use crate::core::catalogue::{Entry, Lying, Picked, Place, Staged, Weight};

pub(super) const STACK_BYTES: usize = 256 << 10;
/// So much is moved at a time.
pub(super) const FLUSH_BYTES: u64 = 4 << 20;
/// So many entries are looked at under one lock.
const WALK_ENTRIES: usize = 256;
/// Other logs grow without telling us.
const PERIOD: Duration = Duration::from_secs(1);

/// What the one who writes the catalogue anew knows.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Of each of the two copies.
    pub editions: [u64; 2],
}

pub(super) fn keep(inner: &Inner, is_closing: &AtomicBool) {
    while !is_closing.load(Ordering::Relaxed) {
        if let Err(error) = inner.tick() {
            // Whoever needs it will try it again, and be told.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the disk tier is not kept in order");
        }
        thread::park_timeout(PERIOD);
    }
}

impl Inner {
    pub(super) fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    pub(super) fn wants_keeping(&self, state: &State) -> bool {
        self.is_staging_full(state) || self.is_log_long(state) || self.is_room_short(state)
    }

    fn is_staging_full(&self, state: &State) -> bool {
        state.catalogue.staged_bytes() > self.config.staged_bytes_max / 2
    }

    fn is_log_long(&self, state: &State) -> bool {
        self.log_bytes(state) > self.config.log_bytes
    }

    fn is_room_short(&self, state: &State) -> bool {
        let left = state.catalogue.room().available() * PAGE_BYTES;
        self.can_grow(state) && left < self.config.segment_bytes / 2
    }

    /// Does what there is to do.
    pub(super) fn tick(&self) -> Result<()> {
        self.say_freed(self.lock_alive()?)?;
        let is = |what: fn(&Self, &State) -> bool| -> Result<bool> {
            let mut state = self.lock_alive()?;
            self.settle(&mut state);
            Ok(what(self, &state))
        };
        while is(Self::is_staging_full)? && self.flush(Position(u64::MAX), FLUSH_BYTES)? > 0 {}
        if is(Self::is_log_long)? {
            self.checkpoint_if_long(self.config.log_bytes)?;
        }
        if is(Self::is_room_short)? {
            self.grow(self.config.segment_bytes / 2 / PAGE_BYTES)?;
        }
        Ok(())
    }

    pub(super) fn can_grow(&self, state: &State) -> bool {
        let bytes = state.catalogue.room().pages() * PAGE_BYTES + self.config.segment_bytes;
        bytes <= self.config.limit_bytes
    }

    /// Makes a segment, unless there are so many pages already. `false`: the disk is full.
    pub(super) fn grow(&self, pages: u64) -> Result<bool> {
        let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        let is_needed = state.catalogue.room().available() < pages && self.can_grow(&state);
        drop(state);
        if !is_needed {
            return Ok(true);
        }
        let (segment, pages) = match self.segments.make() {
            Err(error) if durable::is_full(&error) => return Ok(false),
            made => during("make a segment file", made)?,
        };
        self.lock().catalogue.room_mut().add(segment, pages);
        self.room.notify_all();
        Ok(true)
    }

    /// Moves small objects from the log to their places: the oldest that are before that position, and at most so many bytes of them.
    /// Says how many there were.
    pub(super) fn flush(&self, before: Position, bytes_max: u64) -> Result<usize> {
        let picked = self.lock_alive()?.catalogue.pick(before, bytes_max);
        let n_picked = picked.len();
        if n_picked == 0 {
            return Ok(0);
        }
        if let Err(error) = self.write_picked(&picked) {
            let mut state = self.lock();
            for one in picked {
                state.catalogue.give_up(one.id, &one.staged);
                // Whoever came next would get the same pages, and fail too.
                state.catalogue.room_mut().set_apart(one.extents);
            }
            return Err(error);
        }
        let mut moved: Vec<_> = picked.into_iter().map(Moved::new).collect();
        let mut last = None;
        let result = loop {
            match self.place_some(&mut moved) {
                Ok(Placing::Some(ticket)) => last = Some(ticket),
                Ok(Placing::Busy) => {
                    if let Err(error) = self.log.barrier().wait() {
                        break Err(error.into());
                    }
                }
                Ok(Placing::All) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        give_up(&mut self.lock(), moved);
        result?;
        if let Some(ticket) = last {
            ticket.wait()?;
        }
        let mut state = self.lock();
        self.settle(&mut state);
        Ok(n_picked)
    }

    fn write_picked(&self, picked: &[Picked]) -> Result<()> {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * picked.len());
        for one in picked {
            let bytes = &one.staged.bytes[..];
            let n_over = bytes.len() % ZEROS.len();
            let n_zeros = (ZEROS.len() - n_over) % ZEROS.len();
            pieces.extend([bytes, &ZEROS[..n_zeros]]);
        }
        let places = || {
            picked
                .iter()
                .flat_map(|one| one.extents.iter().map(Place::of))
        };
        let written = self.segments.write(places().collect(), &pieces);
        during("write small objects", written)?;
        let synced = self.segments.sync(places());
        during("sync small objects", synced).map_err(|error| self.fail(error))
    }

    /// Has the log say of some of them where they lie, as many as a record can tell of. What is not wanted any more is left out.
    fn place_some(&self, moved: &mut Vec<Moved>) -> Result<Placing> {
        let mut state = self.lock_alive()?;
        let wanted = |one: &Moved| state.catalogue.wants(one.entry.id, &one.staged);
        let (wanted, unwanted) = moved.drain(..).partition(wanted);
        *moved = wanted;
        give_up(&mut state, unwanted);
        let n = self.n_in_a_record(moved);
        if n == 0 {
            return Ok(Placing::All);
        }
        let said = Said::entries(moved[..n].iter().map(|one| &one.entry));
        let Some(ticket) = self.try_append(&mut state, &said, &[])? else {
            return Ok(Placing::Busy);
        };
        for one in moved.drain(..n) {
            let (id, position) = (one.entry.id, ticket.position());
            state.catalogue.place(id, one.lying, position);
        }
        Ok(Placing::Some(ticket))
    }

    fn n_in_a_record(&self, moved: &[Moved]) -> usize {
        let mut weight = Weight::default();
        let fits = |one: &&Moved| {
            weight.entries += 1;
            weight.places += one.entry.places.len() as u64;
            weight.sums += one.entry.sums.len() as u64;
            format::record_bytes(weight) <= self.log.record_bytes_max()
        };
        // One always does: a small object has few places.
        moved
            .iter()
            .take_while(fits)
            .count()
            .max(moved.len().min(1))
    }

    /// Writes the catalogue anew and shortens the log, if that is longer.
    pub(super) fn checkpoint_if_long(&self, log_bytes_max: u64) -> Result<()> {
        let mut keeping = self.keeping();
        let is_long = self.log_bytes(&*self.lock_alive()?) > log_bytes_max;
        if is_long {
            self.checkpoint(&mut keeping)?;
        }
        Ok(())
    }

    pub(super) fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkpoint(&self, keeping: &mut Keeping) -> Result<()> {
        // Under the lock, so that the catalogue knows of all that is before it.
        let state = self.lock_alive()?;
        let barrier = self.log.barrier();
        drop(state);
        let position = barrier.position();
        barrier.wait()?;
        while self.flush(position, FLUSH_BYTES)? > 0 {}
        self.settle(&mut self.lock());
        let [a, b] = keeping.editions;
        let edition = a.max(b) + 1;
        let older = usize::from(b < a);
        self.write_snapshot(keeping, older, (edition, position))?;
        self.shorten_log(position)?;
        if let Err(error) = self.write_snapshot(keeping, 1 - older, (edition, position)) {
            // One will do; and this one is the first to be written next time.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "there is only one copy of the catalogue");
        }
        self.lock().n_checkpoints += 1;
        Ok(())
    }

    fn write_snapshot(
        &self,
        keeping: &mut Keeping,
        copy: usize,
        (edition, position): (u64, Position),
    ) -> Result<()> {
        keeping.editions[copy] = 0;
        loop {
            match self.try_write_snapshot(copy, edition, position) {
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let mut weight = self.lock().catalogue.weight();
                    weight.entries *= 2;
                    weight.places *= 2;
                    weight.sums *= 2;
                    self.grow_snapshots(weight)?;
                }
                result => {
                    during("write the catalogue", result)?;
                    keeping.editions[copy] = edition;
                    return Ok(());
                }
            }
        }
    }

    fn try_write_snapshot(&self, copy: usize, edition: u64, position: Position) -> io::Result<()> {
        let mut writing = self.snapshots.begin(copy, edition);
        let mut after = None;
        loop {
            let state = self.lock();
            let next = state.catalogue.lying_after(after).take(WALK_ENTRIES);
            let entries: Vec<_> = next.map(|(id, lying)| lying.entry(id)).collect();
            drop(state);
            let Some(last) = entries.last() else { break };
            after = Some(last.id);
            for entry in &entries {
                writing.push(entry)?;
            }
        }
        writing.finish(position, self.log.epoch().0)?;
        Ok(())
    }

    fn shorten_log(&self, position: Position) -> Result<()> {
        let mut state = self.lock();
        self.settle(&mut state);
        let oldest = state.catalogue.oldest_staged();
        let before = oldest.map_or(position, |oldest| oldest.min(position));
        state.log_start = state.log_start.max(before);
        drop(state);
        self.log.truncate(before)?;
        Ok(())
    }
}

enum Placing {
    Some(Ticket),
    Busy,
    All,
}

/// A small object that is written to its place.
struct Moved {
    entry: Entry,
    staged: Arc<Staged>,
    lying: Arc<Lying>,
}

impl Moved {
    fn new(picked: Picked) -> Self {
        let Picked {
            id,
            staged,
            extents,
        } = picked;
        let sums = staged.sums.iter().copied().collect();
        let lying = Arc::new(Lying::new(staged.len(), extents.into(), sums));
        Self {
            entry: lying.entry(id),
            staged,
            lying,
        }
    }
}

fn give_up(state: &mut State, moved: Vec<Moved>) {
    for one in moved {
        state.catalogue.give_up(one.entry.id, &one.staged);
        let lying = Arc::into_inner(one.lying).expect("nobody has been told of it");
        state.catalogue.room_mut().give(lying.extents.into_vec());
    }
}
