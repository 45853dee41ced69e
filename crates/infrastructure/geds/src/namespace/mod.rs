//! The index of a site and its owner: every change is in a log before it is seen, and durable when its ticket says so.
//!
//! ```text
//!  commit ──▶ decide ──▶ append to RECORDS ──▶ apply ──▶ Committed: what has changed, and a ticket
//!                             │ when that has grown
//!  snapshot: load as a restart would ──▶ its pieces to SNAPSHOTS ──▶ truncate both
//! ```
//!
//! - A change is seen by readers when [`Namespace::commit`] returns. It survives the end of the machine when its ticket is kept. What was
//!   seen in between may be gone after a crash, but only with everything that came after it.
//! - A snapshot is made of the last one and of the records since, beside the index and without stopping it: each is a rehearsal of a restart. For
//!   that time there are two indexes in memory.
//! - While the disk is full nothing is committed. What was committed and could not be written is kept, and written first when there
//!   is room ([`Namespace::resume`]).

mod load;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use geds_core::disk::snapshot::Part;
use tokio::sync::watch;
use wal::{DurableLog, LogId, Position, Ticket};

use crate::core::index::{Change, Command, Commit, Index, Limits, Record, Revision};
use crate::error::{Error, Kind, Result};

/// The two logs in the directory of their owner.
pub const RECORDS: LogId = LogId(1);
pub const SNAPSHOTS: LogId = LogId(2);

#[derive(Clone, Debug)]
pub struct Config {
    pub limits: Limits,
    /// A snapshot is due when there are so many bytes of records since the last one, and more than it has.
    pub snapshot_after_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            snapshot_after_bytes: 64 << 20,
        }
    }
}

/// Is told what has changed, with the index as it is then, before anybody else can see it.
pub type Observer = Box<dyn Fn(&Index, &[Change]) + Send + Sync>;

pub struct Namespace {
    config: Config,
    observer: Observer,
    records: Box<dyn DurableLog>,
    snapshots: Box<dyn DurableLog>,
    index: RwLock<Index>,
    writer: Mutex<Writer>,
    revision: watch::Sender<Revision>,
    /// Held while one is made.
    snapshotter: Mutex<()>,
}

/// Who commits has it.
#[derive(Debug)]
struct Writer {
    /// Applied, and as far as was known last not durable, oldest first. Without a position are those that the log has refused.
    pending: VecDeque<(Option<Position>, Vec<u8>)>,
    bytes_since_snapshot: u64,
    snapshot_bytes: u64,
}

/// What a command has done, if there was something to do.
#[derive(Debug)]
pub struct Committed {
    pub commit: Option<Commit>,
    /// When it is kept, the command's effect is durable, also if it was there before.
    pub ticket: Ticket,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Namespace");
        debug.field("revision", &*self.revision.borrow());
        debug.finish_non_exhaustive()
    }
}

impl Namespace {
    /// Reads the index back. The logs are those of [`RECORDS`] and [`SNAPSHOTS`], and nobody else appends to them.
    ///
    /// # Errors
    /// `Corrupt`, or what the logs say.
    pub fn open(
        config: Config,
        records: Box<dyn DurableLog>,
        snapshots: Box<dyn DurableLog>,
        observer: Observer,
    ) -> Result<Self> {
        let loaded = load::load(&config.limits, &*records, &*snapshots)?;
        let (revision, _) = watch::channel(loaded.index.revision());
        Ok(Self {
            config,
            observer,
            records,
            snapshots,
            index: RwLock::new(loaded.index),
            writer: Mutex::new(Writer {
                pending: VecDeque::new(),
                bytes_since_snapshot: loaded.n_record_bytes,
                snapshot_bytes: loaded.n_snapshot_bytes,
            }),
            revision,
            snapshotter: Mutex::new(()),
        })
    }

    /// What is now. Nothing is committed meanwhile, so `look` is to be short.
    pub fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last revision, for who waits for the next.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Does what a command says. May wait for room in the queue of the log.
    ///
    /// # Errors
    /// Why the index refuses, or what the log says: nothing is changed.
    pub fn commit(&self, command: Command) -> Result<Committed> {
        self.commit_with(|index| Ok(index.decide(command)?))
    }

    /// The same for a command that depends on what there is: carries out what the index has just [decided](Index::decide), if there is something
    /// to do. Nothing is committed between the two.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit) and of `decide`.
    pub(crate) fn commit_with<E: From<Error>>(
        &self,
        decide: impl FnOnce(&Index) -> std::result::Result<Option<Record>, E>,
    ) -> std::result::Result<Committed, E> {
        let mut writer = lock(&self.writer);
        writer.check()?;
        let decided = self.read(decide)?;
        let Some(record) = decided else {
            let ticket = self.records.barrier();
            return Ok(Committed {
                commit: None,
                ticket,
            });
        };
        let ticket = writer.append(&*self.records, &record)?;
        let commit = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let commit = index.apply(record).map_err(Error::from)?;
            (self.observer)(&index, &commit.changes);
            commit
        };
        self.revision.send_replace(commit.revision);
        Ok(Committed {
            commit: Some(commit),
            ticket,
        })
    }

    /// When it is kept, everything that was committed before is durable.
    ///
    /// # Errors
    /// `Exhausted`: the disk was full, and something of that could not be written yet.
    pub fn barrier(&self) -> Result<Ticket> {
        let writer = lock(&self.writer);
        writer.check()?;
        Ok(self.records.barrier())
    }

    /// Whether something waits for [`resume`](Self::resume) since the disk was full.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        lock(&self.writer).has_refused()
    }

    /// Goes on after the disk was full, if it was. `resume` is [`wal::Wal::resume`], and brings to other logs what the records tell of: it is
    /// durable before they are. Nothing is committed meanwhile.
    ///
    /// # Errors
    /// Those of `resume`, and what the log says; `Exhausted` if it is still full. Then nothing is committed until it was called again.
    pub fn resume(
        &self,
        is_full: impl FnOnce() -> bool,
        resume: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut writer = lock(&self.writer);
        let is_full = is_full();
        if !is_full && !writer.has_refused() {
            return Ok(());
        }
        match self.records.barrier().wait() {
            Ok(_) | Err(wal::Error::Full) => {}
            Err(error) => return Err(error.into()),
        }
        // Nothing is on its way, and while the log is full nobody appends to any other: so what is not durable was refused.
        writer.forget_durable(self.records.end());
        for (at, _) in &mut writer.pending {
            *at = None;
        }
        resume()?;
        writer.append_again(&*self.records)
    }

    /// Whether there are so many records that a snapshot pays.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let writer = lock(&self.writer);
        let enough = self.config.snapshot_after_bytes.max(writer.snapshot_bytes);
        writer.bytes_since_snapshot >= enough
    }

    /// Makes a snapshot of what is durable, and gives up the records before it. Takes as long as a restart, and lets others go on.
    ///
    /// # Errors
    /// `Corrupt` when a restart would fail, and what the logs say. What is there stays.
    pub fn snapshot(&self) -> Result<()> {
        let _alone = lock(&self.snapshotter);
        let limits = Limits {
            history_bytes_max: 0,
            ..self.config.limits.clone()
        };
        let loaded = load::load(&limits, &*self.records, &*self.snapshots)?;
        let covered = loaded.n_record_bytes;
        let begin = Part::Begin {
            records_from: loaded.next.0,
        };
        let first = self.put(&begin)?;
        let (mut n_bytes, mut n_pieces) = (0, 0);
        for piece in loaded.index.pieces() {
            let piece = piece.encode();
            n_bytes += piece.len() as u64;
            n_pieces += 1;
            // One at a time, so that others find room in the queue.
            self.put(&Part::Piece(&piece))?;
        }
        self.put(&Part::End { n_pieces })?;
        self.snapshots.truncate(first)?;
        self.records.truncate(loaded.next)?;
        let mut writer = lock(&self.writer);
        writer.bytes_since_snapshot = writer.bytes_since_snapshot.saturating_sub(covered);
        writer.snapshot_bytes = n_bytes;
        Ok(())
    }

    /// Durably.
    fn put(&self, part: &Part<'_>) -> Result<Position> {
        Ok(self.snapshots.append(&[&part.encode()])?.wait()?)
    }
}

impl Writer {
    fn append(&mut self, log: &dyn DurableLog, record: &Record) -> Result<Ticket> {
        let bytes = record.encode();
        let ticket = log.append(&[&bytes])?;
        self.forget_durable(log.end());
        self.bytes_since_snapshot += bytes.len() as u64;
        self.pending.push_back((Some(ticket.position()), bytes));
        Ok(ticket)
    }

    fn has_refused(&self) -> bool {
        self.pending.iter().any(|(at, _)| at.is_none())
    }

    /// Records are in the order in which they were decided.
    fn check(&self) -> Result<()> {
        if self.pending.back().is_some_and(|(at, _)| at.is_none()) {
            let what = "the disk was full, and what it has refused is not written yet";
            return Err(Error::new(Kind::Exhausted, what));
        }
        Ok(())
    }

    fn forget_durable(&mut self, end: Position) {
        let is_durable = |(at, _): &(Option<Position>, _)| at.is_some_and(|at| at < end);
        while self.pending.front().is_some_and(is_durable) {
            self.pending.pop_front();
        }
    }

    fn append_again(&mut self, log: &dyn DurableLog) -> Result<()> {
        for (at, bytes) in &mut self.pending {
            *at = Some(log.append(&[bytes])?.position());
        }
        log.barrier().wait()?;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
