//! What is remembered, row by row. `disk` has the bytes.

use std::collections::BTreeMap;

use crate::clock::Stamp;
use crate::config::Config;
use crate::cuts::Cut;
use crate::epochs::{EpochSegments, Segment};
use crate::groups::Group;
use crate::names::{Epoch, Name, SegmentId, StreamName, TxnId};

/// Which row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A scope.
    Scope(Name),
    /// A stream.
    Stream(StreamName),
    /// What a stream is, was, or will be written to.
    Epoch(StreamName, Epoch),
    /// A transaction that has not ended.
    Txn(StreamName, TxnId),
    /// One that has.
    Ended(StreamName, TxnId),
    /// What may be truncated of a stream later.
    Retention(StreamName),
    /// That there was a stream of this name.
    Grave(StreamName),
    /// That there were others.
    Floor,
    /// What the readers of a stream of theirs have agreed on.
    Group(StreamName),
}

/// What it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    /// Of [`Key::Scope`].
    Scope(ScopeRow),
    /// Of [`Key::Stream`].
    Stream(Box<StreamRow>),
    /// Of [`Key::Epoch`].
    Epoch(EpochSegments),
    /// Of [`Key::Txn`].
    Txn(TxnRow),
    /// Of [`Key::Ended`].
    Ended(EndedRow),
    /// Of [`Key::Retention`].
    Retention(RetentionRow),
    /// Of [`Key::Grave`]: the lowest number that no segment of it had.
    Grave(u32),
    /// Of [`Key::Floor`]: the lowest number that no segment had of any stream that is deleted and has no grave.
    Floor(u32),
    /// Of [`Key::Group`].
    Group(Box<Group>),
}

/// A scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeRow {
    /// With all that is in it.
    pub is_deleted: bool,
}

/// A stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamRow {
    /// What its owner says.
    pub config: Config,
    /// On the wall, since 1970.
    pub created_at_ms: u64,
    /// What is done to it.
    pub state: State,
    /// What it is written to.
    pub active: Epoch,
    /// Transactions that are being committed, in [`State::Committing`] or [`State::Sealing`].
    pub commit: Option<Commit>,
    /// Where it begins. `None`: with its first epoch.
    pub head: Option<Head>,
}

/// What is done to a stream. All but `Active` and `Sealed` say how to go on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// Its first segments are created.
    Creating,
    /// It is written.
    Active,
    /// Its segments are told that it will be like this.
    Updating(Config),
    /// Some of its segments are replaced by others.
    Scaling(Replacement),
    /// What is between this, which was its head, and what is its head now is deleted.
    Truncating(Cut),
    /// Transactions are merged.
    Committing,
    /// Its transactions end, then its segments.
    Sealing,
    /// It is not written any more.
    Sealed,
    /// Its segments are deleted, then its rows.
    Deleting,
}

/// Segments in the place of others, in the epoch after the active one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replacement {
    /// They go.
    pub sealed: Vec<SegmentId>,
    /// They come.
    pub created: Vec<Segment>,
}

/// Transactions of one epoch, in the order in which they were committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Where they began.
    pub epoch: Epoch,
    /// Which.
    pub txns: Vec<TxnId>,
    /// The active epoch has other segments. The next one has those of the transactions, and the one behind it these again.
    pub is_rolling: bool,
}

/// Where a stream begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// There.
    pub cut: Cut,
    /// What was before it.
    pub size: u64,
}

/// A transaction that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TxnRow {
    /// How it will end.
    pub state: TxnState,
    /// For how long it was last promised to live on.
    pub lease_ms: u64,
    /// How long it may last.
    pub execution_ms_max: u64,
    /// How long it lasted when this was written.
    pub executed_ms: u64,
}

/// How a transaction will end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxnState {
    /// Not yet known.
    Open,
    /// It is merged.
    Committing(Committed),
    /// It is deleted.
    Aborting,
}

/// Which the writer of a transaction commits it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// After all of its stream that have lower ones.
    pub order: u64,
    /// Who has written it, if they say so.
    pub writer: String,
    /// The time of its events, if they have one.
    pub timestamp: Option<i64>,
}

/// A transaction that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedRow {
    /// Or aborted.
    pub is_committed: bool,
    /// When.
    pub at: Stamp,
}

/// Where the stream ended at some times, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetentionRow {
    /// Each with a time and size that is not less than those before.
    pub tails: Vec<Tail>,
}

/// Where the stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// At that time.
    pub at: Stamp,
    /// So much was before it.
    pub size: u64,
    /// There.
    pub cut: BTreeMap<SegmentId, i64>,
}
