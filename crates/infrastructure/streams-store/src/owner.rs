//! The owner of one container: its state under a lock, and who waits for its log.
//!
//! ```text
//!  propose ─▶ lock: decide, append to the log, note who is to be told ─▶ unlock      any thread, for a moment
//!  commit:    wait for all that is appended (one sync) ─▶ lock: durable ─▶ unlock ─▶ tell
//! ```
//!
//! One at a time commits. Who has proposed something and has nothing else to do does it on its own thread, if nobody writes to the log: to wake
//! another one takes as long as some disks take to sync. What is proposed meanwhile, and by who has more to do, is for the thread of the container.
//!
//! What is told of a record, and of answers and refusals that stand on it, is told in order.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use streams_core::container::Proposal;
use streams_core::names::{Position, Seq};
use streams_core::op::{Answer, Outcome, Refused};
use streams_core::{Container, Op, Refusal, SegmentId};
use tokio::sync::{Notify, oneshot};
use wal::{DurableLog, Log, Ticket};

use crate::behind::Behind;
use crate::error::{Error, Result};
use crate::recent::Recent;

const STACK_BYTES: usize = 1 << 20;

/// Of a record, all but what clients bring: attributes, and names of merged segments, are the most of it.
const HEADER_BYTES_MAX: u64 = 256 << 10;

/// Is told when what it stands on is durable, or never will be here. It is not to wait for anything.
pub(crate) type Tell = Box<dyn FnOnce(Result<()>) + Send>;

/// One container.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) number: u32,
    pub(crate) log: Arc<Log>,
    pub(crate) recent: Recent,
    pub(crate) behind: Arc<Behind>,
    /// What an operation may bring, so that its record is not too large for the log.
    record_bytes_max: u64,
    state: Mutex<State>,
    /// There is something to commit for the thread, or nothing will be any more.
    work: Condvar,
    /// Something has become durable, or nothing will any more.
    progress: Notify,
    /// An owner of the store has ended.
    failed: Arc<Notify>,
}

pub(crate) struct State {
    pub(crate) container: Container,
    /// Records that are not durable, or of which not all has been told. Their numbers have no gaps.
    pending: VecDeque<Pending>,
    /// Who waits for more of a segment.
    watched: HashMap<SegmentId, Arc<Notify>>,
    /// What long-term storage has under these numbers before these offsets is needed no more.
    pub(crate) free: Vec<(SegmentId, u64)>,
    /// Why nothing is taken any more.
    ended: Option<Error>,
    is_closing: bool,
    /// Somebody waits for the log, or tells what has become durable.
    is_committing: bool,
    /// The thread waits for something to do.
    is_idle: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("State");
        debug.field("usage", &self.container.usage());
        debug.field("ended", &self.ended);
        debug.finish_non_exhaustive()
    }
}

impl State {
    /// # Errors
    /// Why the owner has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// The newest record, and how many there are up to it, for who waits for the log: `None` if somebody else does, or there is nothing.
    fn begin_commit(&mut self) -> Option<(Ticket, usize)> {
        if self.is_committing {
            return None;
        }
        let tickets = self.pending.iter_mut();
        let tickets = tickets.filter_map(|pending| pending.ticket.take());
        let last = tickets.reduce(|earlier, later| {
            earlier.leave_to_later();
            later
        })?;
        self.is_committing = true;
        Some((last, self.pending.len()))
    }

    /// Rings when there is more of a segment, or it has ended, or is gone.
    pub(crate) fn watch(&mut self, segment: SegmentId) -> &Arc<Notify> {
        self.watched.entry(segment).or_default()
    }
}

struct Pending {
    seq: Seq,
    position: Position,
    /// Until somebody waits for it.
    ticket: Option<Ticket>,
    tell: Option<Tell>,
    more: Vec<Tell>,
}

/// What has become of a proposal.
#[derive(Debug)]
pub(crate) enum Proposed<T> {
    /// It will be done.
    Taken,
    /// It will not, and that is told.
    Refused,
    /// It is to be proposed again.
    Busy(T),
}

impl Owner {
    /// Goes on with a container whose first record is this one.
    ///
    /// # Errors
    /// [`Error::Ended`]: the log does not take it, or there are no threads.
    pub(crate) fn start(
        number: u32,
        log: Log,
        (container, first): (Container, Proposal),
        recent: Recent,
        behind: Arc<Behind>,
        failed: Arc<Notify>,
    ) -> Result<Arc<Self>> {
        let state = State {
            container,
            pending: VecDeque::new(),
            watched: HashMap::new(),
            free: Vec::new(),
            ended: None,
            is_closing: false,
            is_committing: false,
            is_idle: false,
        };
        let owner = Arc::new(Self {
            number,
            record_bytes_max: log.record_bytes_max().saturating_sub(HEADER_BYTES_MAX),
            log: Arc::new(log),
            recent,
            behind,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Notify::new(),
            failed,
        });
        let state = owner.lock();
        owner
            .append(state, first, |_| ())
            .map_err(|(_, error)| error)?;
        let committer = Arc::clone(&owner);
        let thread = rt::thread(format!("container-{number}"), STACK_BYTES, move || {
            committer.unless_panics(|| committer.keep_committing());
        });
        // It ends with the owner: see `close`.
        thread.map_err(|error| Error::Ended(error.to_string().into()))?;
        Ok(owner)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // What the state is, nobody knows.
            let mut state = poisoned.into_inner();
            let error = || Error::Ended("something has panicked: this is a defect".into());
            state.ended.get_or_insert_with(error);
            self.failed.notify_one();
            state
        })
    }

    /// Takes an operation behind all that were taken before, for somebody to commit. `tell` hears what has come of it.
    pub(crate) fn propose<T>(&self, op: &Op, tell: T) -> Proposed<T>
    where
        T: FnOnce(Result<Outcome>) + Send + 'static,
    {
        let mut state = self.lock();
        if let Some(error) = state.ended.clone() {
            drop(state);
            tell(Err(error));
            return Proposed::Refused;
        }
        if bytes_of(op) > self.record_bytes_max {
            drop(state);
            let what = "bytes of one change";
            tell(Err(Refusal::Limit { what }.into()));
            return Proposed::Refused;
        }
        match state.container.propose(op, now_ms()) {
            Ok(proposal) => match self.append(state, proposal, tell) {
                Ok(()) => Proposed::Taken,
                Err((tell, error)) => {
                    tell(Err(error));
                    Proposed::Refused
                }
            },
            Err(refused) if refused.why == Refusal::Busy => Proposed::Busy(tell),
            Err(Refused { why, as_of }) => {
                let tell = move |ended: Result<()>| {
                    tell(ended.and(Err(why.into())));
                };
                self.tell_at(state, as_of, Box::new(tell));
                Proposed::Refused
            }
        }
    }

    /// The same, and waits while too much is under way. Whether it will be done: then it is to be committed, or the thread is to be woken.
    pub(crate) async fn submit<T>(&self, op: &Op, tell: T) -> bool
    where
        T: FnOnce(Result<Outcome>) + Send + 'static,
    {
        let mut tell = match self.propose(op, tell) {
            Proposed::Taken => return true,
            Proposed::Refused => return false,
            Proposed::Busy(tell) => tell,
        };
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            tell = match self.propose(op, tell) {
                Proposed::Taken => return true,
                Proposed::Refused => return false,
                Proposed::Busy(tell) => tell,
            };
            self.wake();
            progress.await;
        }
    }

    /// Done, and durable.
    pub(crate) async fn execute(&self, op: &Op) -> Result<Outcome> {
        let (tell, told) = oneshot::channel();
        // Who does not wait any more is not told.
        if self.submit(op, |outcome| drop(tell.send(outcome))).await {
            self.commit();
        }
        told.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Answers a question when what the answer says is durable.
    pub(crate) fn ask_then<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Container) -> Result<Answer<T>, Refused>,
        tell: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let state = self.lock();
        let (as_of, answer) = match question(&state.container) {
            Ok(Answer { value, as_of }) => (as_of, Ok(value)),
            Err(Refused { why, as_of }) => (as_of, Err(Error::from(why))),
        };
        let tell = move |ended: Result<()>| tell(ended.and(answer));
        self.tell_at(state, as_of, Box::new(tell));
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Container) -> Result<Answer<T>, Refused>,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        self.ask_then(question, |answer| drop(tell.send(answer)));
        told.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Waits until a record is durable, and all that is told of it is told.
    pub(crate) async fn durable(&self, seq: Seq) -> Result<()> {
        let (tell, told) = oneshot::channel();
        let tell = |durable| drop(tell.send(durable));
        self.tell_at(self.lock(), seq, Box::new(tell));
        told.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Why it has ended.
    pub(crate) fn ended(&self) -> Error {
        let ended = self.lock().ended.clone();
        ended.unwrap_or_else(|| Error::Ended("it was closed".into()))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Takes no more. What was taken becomes durable first.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        state
            .ended
            .get_or_insert_with(|| Error::Ended("the server is ending".into()));
        drop(state);
        self.work.notify_all();
        self.progress.notify_waiters();
    }

    /// Another one has the container, as long-term storage says.
    pub(crate) fn fence(&self) {
        self.end(self.lock(), &Error::Fenced);
    }

    fn append<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        proposal: Proposal,
        tell: T,
    ) -> Result<(), (T, Error)>
    where
        T: FnOnce(Result<Outcome>) + Send + 'static,
    {
        let Proposal {
            seq,
            record,
            outcome,
        } = proposal;
        let ticket = match self.log.append(&record.parts()) {
            Ok(ticket) => ticket,
            Err(error) => {
                let error = Error::ended(&error);
                self.end(state, &error);
                return Err((tell, error));
            }
        };
        let position = Position(ticket.position().0);
        if !record.payload.is_empty() {
            self.recent
                .put(position, record.header.len(), &record.payload);
        }
        let tell = move |ended: Result<()>| tell(ended.map(|()| outcome));
        state.pending.push_back(Pending {
            seq,
            position,
            ticket: Some(ticket),
            tell: Some(Box::new(tell)),
            more: Vec::new(),
        });
        Ok(())
    }

    /// Tells behind what is told of a record.
    fn tell_at(&self, mut state: MutexGuard<'_, State>, as_of: Seq, tell: Tell) {
        let first = state.pending.front().map(|pending| pending.seq.0);
        if let Some(idx) = first.and_then(|first| as_of.0.checked_sub(first)) {
            let idx = usize::try_from(idx).expect("no more are under way than fit in memory");
            state.pending[idx].more.push(tell);
            return;
        }
        // Of an owner that has ended, not all that it says is durable.
        let is_durable = as_of <= state.container.durable_to();
        let ended = state.ended.clone();
        drop(state);
        tell(match ended {
            Some(error) if !is_durable => Err(error),
            _ => Ok(()),
        });
    }

    /// Lets the thread commit what is there.
    pub(crate) fn wake(&self) {
        self.wake_from(&mut self.lock());
    }

    fn wake_from(&self, state: &mut State) {
        if std::mem::take(&mut state.is_idle) {
            self.work.notify_one();
        }
    }

    /// Commits what is there on this thread, which waits for the disk, if nobody else is at it.
    pub(crate) fn commit(&self) {
        let Some((last, n_records)) = self.lock().begin_commit() else {
            return;
        };
        self.unless_panics(|| {
            let mut state = match last.try_wait() {
                Ok(synced) => self.committed(n_records, synced),
                Err(ticket) => {
                    let mut state = self.lock();
                    state.is_committing = false;
                    // It is gone if the owner has ended.
                    if let Some(last) = state.pending.get_mut(n_records - 1) {
                        last.ticket = Some(ticket);
                    }
                    state
                }
            };
            // What has come meanwhile.
            if !state.pending.is_empty() || state.is_closing {
                self.wake_from(&mut state);
            }
        });
    }

    /// Commits what others leave to it, for as long as there is a log.
    fn keep_committing(&self) {
        let mut state = self.lock();
        loop {
            if let Some((last, n_records)) = state.begin_commit() {
                drop(state);
                state = self.committed(n_records, last.wait());
            } else if state.is_closing && !state.is_committing {
                return;
            } else {
                state.is_idle = true;
                let woken = self.work.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                state.is_idle = false;
            }
        }
    }

    /// What has become of so many of the oldest records.
    fn committed(
        &self,
        n_records: usize,
        synced: std::result::Result<wal::Position, wal::Error>,
    ) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        match synced {
            Ok(_) => {
                // None, if the owner has ended meanwhile.
                let n_records = n_records.min(state.pending.len());
                state = self.tell(state, n_records);
            }
            Err(error) => {
                self.end(state, &Error::ended(&error));
                state = self.lock();
            }
        }
        state.is_committing = false;
        state
    }

    /// Nobody is left waiting, whatever happens.
    fn unless_panics(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            let mut state = self.lock();
            let error = || Error::Ended("something has panicked: this is a defect".into());
            let error = state.ended.get_or_insert_with(error).clone();
            state.is_committing = false;
            self.end(state, &error);
        }
    }

    /// So many of the oldest records are durable.
    fn tell<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        n_records: usize,
    ) -> MutexGuard<'a, State> {
        let mut awake = Vec::new();
        for idx in 0..n_records {
            let position = state.pending[idx].position;
            let effects = state.container.durable(position);
            let ids = effects.gone.iter().chain(&effects.changed);
            awake.extend(ids.filter_map(|id| state.watched.remove(id)));
            state.free.extend(effects.free);
        }
        // What comes meanwhile for one of them is told behind what is told of it already.
        loop {
            let pending = state.pending.iter_mut().take(n_records);
            let tells = pending.flat_map(|pending| {
                let more = std::mem::take(&mut pending.more);
                pending.tell.take().into_iter().chain(more)
            });
            let tells: Vec<_> = tells.collect();
            if tells.is_empty() {
                break;
            }
            drop(state);
            tells.into_iter().for_each(|tell| tell(Ok(())));
            state = self.lock();
        }
        // None are left if the owner has ended meanwhile.
        let n_told = n_records.min(state.pending.len());
        state.pending.drain(..n_told);
        drop(state);
        awake.iter().for_each(|watched| watched.notify_waiters());
        self.progress.notify_waiters();
        self.lock()
    }

    /// Nothing becomes durable any more.
    fn end(&self, mut state: MutexGuard<'_, State>, error: &Error) {
        tracing::error!(container = self.number, %error, "a container has ended");
        state.ended.get_or_insert_with(|| error.clone());
        state.is_closing = true;
        let pending = std::mem::take(&mut state.pending);
        let awake = std::mem::take(&mut state.watched);
        drop(state);
        // Whoever takes over may have found it in the log.
        let unknown = match error {
            Error::Fenced => Error::Ended("another process has taken the data over".into()),
            error => error.clone(),
        };
        for mut pending in pending {
            // Whoever leads the log writes it, or has failed to.
            if let Some(ticket) = pending.ticket.take() {
                ticket.leave_to_later();
            }
            let tells = pending.tell.into_iter().chain(pending.more);
            tells.for_each(|tell| tell(Err(unknown.clone())));
        }
        awake
            .into_values()
            .for_each(|watched| watched.notify_waiters());
        self.work.notify_all();
        self.progress.notify_waiters();
        self.failed.notify_one();
    }
}

/// Since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = rt::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What it brings that has no other limit.
pub(crate) fn bytes_of(op: &Op) -> u64 {
    /// Beside a key and its value.
    const ENTRY_BYTES: usize = 32;
    let bytes: usize = match op {
        Op::Append(append) => append.data.len(),
        Op::PutEntries { entries, .. } => {
            let entries = entries.iter();
            entries
                .map(|put| put.key.len() + put.value.len() + ENTRY_BYTES)
                .sum()
        }
        Op::RemoveEntries { keys, .. } => keys
            .iter()
            .map(|remove| remove.key.len() + ENTRY_BYTES)
            .sum(),
        _ => 0,
    };
    bytes as u64
}
