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
//! - A [replica](Namespace::replica) has no log: it is told what its owner has committed, in order, and commits nothing itself. What an owner
//!   has committed lately is kept for replicas once there is one ([`Namespace::join`], [`Namespace::records_after`]).
//! - While the disk is full nothing is committed. What was committed and could not be written is kept, and written first when there
//!   is room ([`Namespace::resume`]).

mod feed;
mod load;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use geds_core::disk::snapshot::Part;
use tokio::sync::watch;
use wal::{DurableLog, LogId, Position, Ticket};

use self::feed::Feed;
use crate::core::index::{
    By, Change, Command, Commit, Index, Limits, NodeId, Op, Piece, Precondition, Record, Revision,
};
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
    /// `None`: it is a replica.
    home: Option<Home>,
    index: RwLock<Index>,
    revision: watch::Sender<Revision>,
}

/// What an owner has.
struct Home {
    records: Box<dyn DurableLog>,
    snapshots: Box<dyn DurableLog>,
    writer: Mutex<Writer>,
    /// Held while one is made.
    snapshotter: Mutex<()>,
    feed: Feed,
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

impl Committed {
    pub(crate) fn changes(&self) -> &[Change] {
        self.commit.as_ref().map_or(&[], |commit| &commit.changes)
    }
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
            home: Some(Home {
                records,
                snapshots,
                writer: Mutex::new(Writer {
                    pending: VecDeque::new(),
                    bytes_since_snapshot: loaded.n_record_bytes,
                    snapshot_bytes: loaded.n_snapshot_bytes,
                }),
                snapshotter: Mutex::new(()),
                feed: Feed::default(),
            }),
            index: RwLock::new(loaded.index),
            revision,
        })
    }

    /// The index of another node, of which nothing is known yet.
    pub(crate) fn replica(config: Config, observer: Observer) -> Self {
        let (revision, _) = watch::channel(Revision(0));
        Self {
            index: RwLock::new(Index::new(config.limits.clone())),
            config,
            observer,
            home: None,
            revision,
        }
    }

    fn home(&self) -> Result<&Home> {
        let what = "a replica commits nothing: its owner does";
        self.home
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, what))
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

    /// The last revision as it is now.
    pub(crate) fn last(&self) -> Revision {
        *self.revision.borrow()
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
        let home = self.home()?;
        self.commit_on(home, &mut lock(&home.writer), decide)
    }

    fn commit_on<E: From<Error>>(
        &self,
        home: &Home,
        writer: &mut Writer,
        decide: impl FnOnce(&Index) -> std::result::Result<Option<Record>, E>,
    ) -> std::result::Result<Committed, E> {
        writer.check()?;
        let decided = self.read(decide)?;
        let Some(record) = decided else {
            let ticket = home.records.barrier();
            return Ok(Committed {
                commit: None,
                ticket,
            });
        };
        let ticket = writer.append(&*home.records, &record)?;
        let commit = self.carry_out(record)?;
        if let Some((_, bytes)) = writer.pending.back() {
            home.feed.push(commit.revision, bytes);
        }
        self.revision.send_replace(commit.revision);
        Ok(Committed {
            commit: Some(commit),
            ticket,
        })
    }

    fn carry_out(&self, record: Record) -> Result<Commit> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let commit = index.apply(record)?;
        (self.observer)(&index, &commit.changes);
        Ok(commit)
    }

    /// Has a node join under a new epoch, and gives the index as it is then. All that is committed later is to be had from
    /// [`records_after`](Self::records_after). Nothing is committed meanwhile.
    ///
    /// # Errors
    /// What the index and the log say.
    pub(crate) fn join(&self, node: NodeId) -> Result<(Committed, Vec<Piece>)> {
        let home = self.home()?;
        let mut writer = lock(&home.writer);
        let committed = self.commit_on(home, &mut writer, |index| {
            let epoch = index.last_epoch().next();
            // Whoever was there under that number is not any more.
            let op = Op::NodeJoined(node, epoch);
            Ok::<_, Error>(index.decide(Command {
                by: By::Owner,
                when: Precondition::None,
                op,
            })?)
        })?;
        let (pieces, revision) =
            self.read(|index| (index.pieces().collect::<Vec<_>>(), index.revision()));
        home.feed.start(revision);
        Ok((committed, pieces))
    }

    /// What was committed after a revision, as far as it has about so many bytes.
    ///
    /// # Errors
    /// `NotFound`: that is not kept any more. The node is to join again.
    pub(crate) fn records_after(
        &self,
        revision: Revision,
        bytes_max: usize,
    ) -> Result<Vec<Vec<u8>>> {
        self.home()?.feed.after(revision, bytes_max)
    }

    /// Of a replica: takes the index of its owner in place of what there is.
    pub(crate) fn replace(&self, with: Index) {
        let revision = with.revision();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *index, with);
        drop(index);
        self.revision.send_replace(revision);
        drop(before);
    }

    /// Of a replica: carries out what its owner has committed next.
    ///
    /// # Errors
    /// `Corrupt`: it is not the next.
    pub(crate) fn follow(&self, records: Vec<Record>) -> Result<Vec<Commit>> {
        let commits = records.into_iter().map(|record| self.carry_out(record));
        let commits = commits.collect::<Result<Vec<_>>>()?;
        if let Some(last) = commits.last() {
            self.revision.send_replace(last.revision);
        }
        Ok(commits)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// When it is kept, everything that was committed before is durable.
    ///
    /// # Errors
    /// `Exhausted`: the disk was full, and something of that could not be written yet.
    pub fn barrier(&self) -> Result<Ticket> {
        let home = self.home()?;
        let writer = lock(&home.writer);
        writer.check()?;
        Ok(home.records.barrier())
    }

    /// Whether something waits for [`resume`](Self::resume) since the disk was full.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        let home = self.home.as_ref();
        home.is_some_and(|home| lock(&home.writer).has_refused())
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
        let Some(home) = &self.home else {
            return if is_full() { resume() } else { Ok(()) };
        };
        let mut writer = lock(&home.writer);
        let is_full = is_full();
        if !is_full && !writer.has_refused() {
            return Ok(());
        }
        match home.records.barrier().wait() {
            Ok(_) | Err(wal::Error::Full) => {}
            Err(error) => return Err(error.into()),
        }
        // Nothing is on its way, and while the log is full nobody appends to any other: so what is not durable was refused.
        writer.forget_durable(home.records.end());
        for (at, _) in &mut writer.pending {
            *at = None;
        }
        resume()?;
        writer.append_again(&*home.records)
    }

    /// Whether there are so many records that a snapshot pays.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let Some(home) = &self.home else {
            return false;
        };
        let writer = lock(&home.writer);
        let enough = self.config.snapshot_after_bytes.max(writer.snapshot_bytes);
        writer.bytes_since_snapshot >= enough
    }

    /// Makes a snapshot of what is durable, and gives up the records before it. Takes as long as a restart, and lets others go on.
    ///
    /// # Errors
    /// `Corrupt` when a restart would fail, and what the logs say. What is there stays.
    pub fn snapshot(&self) -> Result<()> {
        let home = self.home()?;
        let _alone = lock(&home.snapshotter);
        let limits = Limits {
            history_bytes_max: 0,
            ..self.config.limits.clone()
        };
        let loaded = load::load(&limits, &*home.records, &*home.snapshots)?;
        let covered = loaded.n_record_bytes;
        let begin = Part::Begin {
            records_from: loaded.next.0,
        };
        let first = home.put(&begin)?;
        let (mut n_bytes, mut n_pieces) = (0, 0);
        for piece in loaded.index.pieces() {
            let piece = piece.encode();
            n_bytes += piece.len() as u64;
            n_pieces += 1;
            // One at a time, so that others find room in the queue.
            home.put(&Part::Piece(&piece))?;
        }
        home.put(&Part::End { n_pieces })?;
        home.snapshots.truncate(first)?;
        home.records.truncate(loaded.next)?;
        let mut writer = lock(&home.writer);
        writer.bytes_since_snapshot = writer.bytes_since_snapshot.saturating_sub(covered);
        writer.snapshot_bytes = n_bytes;
        Ok(())
    }
}

impl Home {
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
