//! The objects of a disk: finding and freeing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};

use geds_core::extents::PAGE_BYTES;
use serde::Deserialize;
use wal::{DurableLog, Position, Ticket};

use super::error::{Error, Result, during};
use super::format::{FREED_MAX, Said};
use super::keeping::{self, Keeping};
use super::putting::Prepared;
use super::segments::Segments;
use super::snapshots::Snapshots;
use crate::core::catalogue::{BLOCK_BYTES, Catalogue, Id, Weight, What};

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

/// What the log has refused: an object that is not there therefore, and what is on the disk of it, if it is not a small one.
pub type Refused = (Id, Option<Prepared>);

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
    /// The log is not told what is freed.
    pub holds_freed: bool,
    pub n_waiting: u64,
    pub n_checkpoints: u64,
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
        if state.unsaid(FREED_MAX).len() == FREED_MAX {
            self.inner.say_freed(state)?;
        }
        Ok(())
    }

    /// What objects may have in all.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.inner.config.limit_bytes
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

    /// Undoes what the log has refused, and gives which objects are not here therefore: they may be put again. To be called by who has seen
    /// [`wal::Error::Full`], and before [`wal::Wal::resume`]. Nothing is freed for good until [`free_again`](Self::free_again).
    pub fn forget_refused(&self) -> Vec<Refused> {
        let mut state = self.inner.lock();
        self.inner.settle(&mut state);
        let refused = state.catalogue.refuse();
        state.holds_freed = true;
        state.log_tail = self.inner.log.end();
        drop(state);
        self.inner.room.notify_all();
        let refused = refused.into_iter();
        let prepared = |lying| Prepared::lying(lying, &self.inner);
        refused
            .map(|(id, lying)| (id, lying.map(prepared)))
            .collect()
    }

    /// What is freed may be used again: why it was freed is in the log.
    pub fn free_again(&self) {
        self.inner.lock().holds_freed = false;
        self.inner.room.notify_all();
    }

    /// Whether the record of an object is on its way to the log, also if it was freed since.
    #[must_use]
    pub fn is_undecided(&self, id: Id) -> bool {
        let mut state = self.inner.lock();
        self.inner.settle(&mut state);
        state.catalogue.is_undecided(id)
    }

    /// Whether there is an object of that name, and its record is durable.
    #[must_use]
    pub fn is_durable(&self, id: Id) -> bool {
        let mut state = self.inner.lock();
        self.inner.settle(&mut state);
        state.catalogue.is_durable(id)
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

impl State {
    /// Is there room as soon as the log knows what is freed?
    pub(super) fn may_free(&self) -> bool {
        self.catalogue.is_freeing() && !self.holds_freed
    }

    /// Of which the log may be told now that they are freed.
    fn unsaid(&self, n_max: usize) -> Vec<Id> {
        if self.holds_freed {
            return Vec::new();
        }
        self.catalogue.unsaid(n_max)
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
        let freed = state.unsaid(FREED_MAX);
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
        while !state.unsaid(1).is_empty() {
            let nothing = (&Said::nothing(), &[][..]);
            // Nobody waits for it: their pages are used again when it is durable.
            drop(self.commit(state, nothing, |_| Ok(()), |_, _| ())?);
            state = self.lock_alive()?;
        }
        Ok(())
    }

    pub(super) fn grow_snapshots(&self, weight: Weight) -> Result<()> {
        match self.snapshots.grow(weight) {
            Err(error) if durable::is_full(&error) => Err(Error::Exhausted("for the catalogue")),
            result => during("make room for the catalogue", result),
        }
    }
}
