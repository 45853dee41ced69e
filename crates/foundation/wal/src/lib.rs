//! The durable log: what is acknowledged survives, or the log says that it does not.
//!
//! A [`Wal`] owns a directory and holds many logical logs, each a [`DurableLog`]: records in order, appended at the end, read from anywhere,
//! truncated from the front. They share one file and one sync, so many busy logs of a disk cost one.
//!
//! ```text
//!  Log 1 ─┐  append: one copy        who waits, or wal-sync: write,    Ticket: durable,
//!  Log 2 ─┼─▶ bounded queue ────────▶ sync, is the claim there? mark ─▶ at this position
//!  Log 3 ─┘                          segments: zeroed, recycled
//! ```
//!
//! What it guarantees:
//!
//! - A ticket is kept after the sync of its bytes, and of the directory if the file's name is new; in order within each log.
//! - After a crash, each log is a prefix of what was appended, with all that was acknowledged in it, whatever sectors and directory
//!   entries of what was not synced the disk has kept. It may begin earlier than it was truncated to, never later.
//! - Bytes that change after they were synced are found when they are read, and refused by name and offset. A torn tail is cut. How one
//!   is told from the other is in `scan.rs`.
//! - There is one owner. Who opens the directory fences the one before, even one that is stopped and does not know: it may still write, to
//!   where nobody reads, and can acknowledge nothing.
//! - A failed write or sync ends the owner with its cause. A sync is never tried twice. Open anew to go on.
//! - A full disk refuses records ([`Error::Full`]) before it has written a byte of them, and until [`Wal::resume`]: so a record cannot slip
//!   in behind one that was refused. There is no state in which part of a record would have to be cut back: the room of a segment is taken
//!   before it is used, and a write that fails into room that was taken ends the owner like any other.
//! - Memory is bounded: two queues' worth of bytes ([`Config::queue_bytes`]) and a segment while opening.
//!
//! Who keeps a state on it takes a [`barrier`](DurableLog::barrier) and a copy of the state between the same two appends, waits, stores the
//! copy with the barrier's position where it is durable, and truncates the log up to there. A start loads the last copy and reads on from its
//! position, which stays good whatever other logs do.
//!
//! What it is not: replicated, encrypted, an index. Records are opaque, and positions mean only an order.
//!
//! Reading order: `format.rs` (bytes), `scan.rs` (where the log ends), `engine.rs` (one owner, one call after the other), `recover.rs`
//! (what a new owner finds), `wal.rs` (queue and threads). [`inspect`] reads what it does not own. [`testing`] has the contract of every implementation and a disk that crashes.
#![forbid(unsafe_code)]

mod wal;

mod engine;
mod format;
mod read;
mod recover;
mod scan;
mod spares;
mod ticket;

mod disk;
mod error;
pub mod inspect;
pub mod testing;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ids::Epoch;

pub use self::disk::{Directory, Disk, DiskFile};
pub use self::error::Error;
pub use self::ticket::Ticket;
pub use self::wal::{Log, Wal};

/// So many logs may ever have been in a directory: where a log has been truncated is not forgotten.
pub const LOGS_MAX: usize = 128;

/// Where a record is. Later records of any log of a [`Wal`] have higher ones. The number means nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which log of a [`Wal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

impl LogId {
    /// Of no log.
    pub const RESERVED: Self = Self(u32::MAX);
}

/// Takes a record, and says whether to go on.
pub type Visit<'a> = dyn FnMut(Position, &[u8]) -> ControlFlow<()> + 'a;

/// The same for the records of several logs.
pub type VisitAll<'a> = dyn FnMut(LogId, Position, &[u8]) -> ControlFlow<()> + 'a;

/// Values outside of what is possible are taken as the nearest that is.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The size of a segment file. The log takes and gives back room in such pieces.
    pub segment_bytes: u64,
    /// How much may be queued while as much is being written. Appending waits when there is more.
    pub queue_bytes: usize,
}

impl Config {
    pub const SEGMENT_BYTES_MIN: u64 = 12 << 10;
    pub const QUEUE_BYTES_MIN: usize = 4 << 10;
    pub const QUEUE_BYTES_MAX: usize = 1 << 30;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            queue_bytes: 8 << 20,
        }
    }
}

/// For metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Appended and not yet durable.
    pub queued_bytes: u64,
    pub queue_bytes_max: u64,
    pub n_syncs: u64,
    pub n_segments: usize,
    /// From where the oldest of them begins to what is queued.
    pub kept_bytes: u64,
    /// See [`Error::Full`].
    pub is_full: bool,
    /// Its owner has ended, and nothing will be appended any more: only who opens the log anew goes on.
    pub has_ended: bool,
}

/// A log with one owner. [`testing::contract`] is what every implementation does.
///
/// After an error that is [`Error::Fenced`] or [`Error::Failed`], the owner has ended: every later call that would change the log fails with
/// that first cause. After [`Error::Full`] every append fails until somebody resumes it.
pub trait DurableLog: Send + Sync + fmt::Debug {
    /// Of this owner, to be carried by what it writes elsewhere.
    fn epoch(&self) -> Epoch;

    /// Appends one record, the parts one after the other; it may be empty. Waits only for room in the queue. The record is durable when
    /// its ticket says so; it may not be written before somebody waits for it, awaits it, or drops it. Records of one caller, and of callers that wait for each other, are in order.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Full`], [`Error::Fenced`], [`Error::Failed`], [`Error::Closed`]: it will not be appended.
    fn append(&self, parts: &[&[u8]]) -> Result<Ticket, Error>;

    /// The same without waiting.
    ///
    /// # Errors
    /// [`Error::Busy`]: try again after a [`barrier`](Self::barrier). Else as [`append`](Self::append).
    fn try_append(&self, parts: &[&[u8]]) -> Result<Ticket, Error>;

    /// A ticket for everything that was appended before. Its position is behind that, and not behind what is appended after: where to go
    /// on reading from for who has all that was before.
    fn barrier(&self) -> Ticket;

    /// Visits the durable records from `from` on, which is [`start`](Self::start), [`end`](Self::end), the position of a record, or what
    /// this has returned: where to go on.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Beyond`], [`Error::Corrupt`] (also when `from` is none of these), [`Error::Failed`].
    fn read(&self, from: Position, visit: &mut Visit<'_>) -> Result<Position, Error>;

    /// Gives up the records before that position, or all there are if it is beyond the end. It is durable with the next record, or
    /// when the log is closed: after a crash they may be there again.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::Failed`], [`Error::Closed`].
    fn truncate(&self, before: Position) -> Result<(), Error>;

    /// Where the log begins: what was before has been truncated.
    fn start(&self) -> Position;

    /// Where it ends: behind all that is durable.
    fn end(&self) -> Position;

    /// The size of the largest record, in bytes.
    fn record_bytes_max(&self) -> u64;
}

/// Nothing here panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
