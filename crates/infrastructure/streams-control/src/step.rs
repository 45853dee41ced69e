//! What is asked, what is to be done about it, and what is answered.

use crate::config::{Config, Rate};
use crate::cuts::Cut;
use crate::epochs::Segment;
use crate::error::Refusal;
use crate::groups::Group;
use crate::names::{Epoch, Name, SegmentId, StreamName, TxnId, Unique};
use crate::ranges::Range;

/// A change that is asked for. Questions are methods of [`crate::Control`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A new one.
    CreateScope(Name),
    /// Only an empty one.
    DeleteScope(Name),
    /// With all that is in it.
    DeleteScopeRecursive(Name),
    /// A new one, with its first segments, and the stream of its watermarks.
    CreateStream(StreamName, Config),
    /// It is to be like this.
    UpdateStream(StreamName, Config),
    /// Nothing before the cut is read any more.
    TruncateStream(StreamName, Cut),
    /// It is not written any more. Open transactions are aborted.
    SealStream(StreamName),
    /// Only a sealed one.
    DeleteStream(StreamName),
    /// Segments are replaced by others for the same keys.
    Scale {
        /// Whose.
        stream: StreamName,
        /// They are all written now.
        sealed: Vec<SegmentId>,
        /// The new ones have these keys.
        ranges: Vec<Range>,
    },
    /// A new one, which ends itself if it is not pinged.
    CreateTxn {
        /// Where.
        stream: StreamName,
        /// It lives that long.
        lease_ms: u64,
        /// A part of its id.
        unique: Unique,
    },
    /// It lives on for that long.
    PingTxn {
        /// Where.
        stream: StreamName,
        /// Which.
        txn: TxnId,
        /// From now on.
        lease_ms: u64,
    },
    /// What was written in it becomes part of the stream, soon.
    CommitTxn {
        /// Where.
        stream: StreamName,
        /// Which.
        txn: TxnId,
        /// Who has written it, if they say so.
        writer: String,
        /// The time of its events, if they have one.
        timestamp: Option<i64>,
    },
    /// What was written in it never becomes part of the stream.
    AbortTxn(StreamName, TxnId),
    /// A new reader group, with this stream. One that is there stays as it is.
    CreateGroup(StreamName, Box<Group>),
    /// It is to be like this, if it has that id and generation.
    UpdateGroup(StreamName, Box<Group>),
    /// With its stream, if it has that id.
    DeleteGroup(StreamName, u128),
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// All of it. Of a transaction that is committed or aborted: it is certain to be.
    Done,
    /// It is certain to happen, see [`crate::Control::scale_status`].
    Scaling {
        /// The one that ends, by which it is asked for.
        epoch: Epoch,
        /// The new ones.
        segments: Vec<Segment>,
    },
    /// It can be written.
    TxnCreated {
        /// It.
        txn: TxnId,
        /// Under these ids.
        segments: Vec<Segment>,
    },
    /// Of [`Request::PingTxn`].
    Ping(Ping),
    /// As it is now.
    Group(Box<Group>),
}

/// What becomes of a transaction that is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// It lives on.
    Ok,
    /// Ask for less.
    LeaseTooLarge,
    /// It will not be let live that long.
    ExecutionTimeExceeded,
    /// It is, or is certain to be.
    Committed,
    /// It is, or is certain to be.
    Aborted,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// A plan that is not carried out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub(crate) u64);

/// What comes of a request, of the end of a plan, or of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Of requests that were begun.
    pub answers: Vec<(Ticket, Result<Response, Refusal>)>,
    /// To be carried out, in any order, also at once.
    pub plans: Vec<Plan>,
}

/// To be carried out, and then told to [`crate::Control::done`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which one it is.
    pub token: Token,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// All of it or nothing, and only if each row is as expected.
    Write(Vec<Change>),
    /// In any order, and never more than [`crate::Limits::plan_max`]. One that fails need not keep the others from being made, and all are made
    /// again then.
    Call(Vec<Call>),
}

/// What a row says of itself when it was written; another each time.
pub type Version = i64;

/// A row as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub key: Vec<u8>,
    /// As it is now. `None`: it is not there.
    pub expected: Option<Version>,
    /// `None`: it goes.
    pub value: Option<Vec<u8>>,
}

/// What a store of segments is told. To say it twice is the same as to say it once, and what is not there has nothing left to be done to it. So
/// only these can be refused for good, which is told as [`Outcome::Refused`]: to create what the store has no room for, to merge into what is
/// sealed or not there, and to truncate behind the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// It is there, empty if it was not.
    Create {
        /// It.
        segment: String,
        /// What it is to report.
        rate: Rate,
        /// The size of its chunks; 0: as the store has them.
        rollover_size_bytes: u64,
    },
    /// It is to report this from now on. Nothing if it is not there, or sealed.
    SetPolicy {
        /// It.
        segment: String,
        /// What it is to report.
        rate: Rate,
    },
    /// Nothing is written to it any more; nor is to what is not there.
    Seal(String),
    /// What is before the offset goes. Nothing if the segment is not there, or if it begins behind that already.
    Truncate {
        /// It.
        segment: String,
        /// It begins there.
        offset: u64,
    },
    /// All of these that are there, in this order, are appended to the other and are gone, or nothing is. If none of them is there, that was done
    /// before, even if the other is sealed since, or gone.
    Merge {
        /// It.
        target: String,
        /// These.
        sources: Vec<String>,
    },
    /// It is not there.
    Delete(String),
    /// How long it is: the offset behind its last byte; 0 if it is not there.
    Length(String),
}

/// What has become of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All rows are as they are to be, each with this version, in the order of the changes. What stands for one that went does not matter.
    Written(Vec<Version>),
    /// All calls were made: how long the segment is for each [`Call::Length`], 0 for others, in the order of the calls.
    Called(Vec<u64>),
    /// Nothing was written, or not all calls were made. It may get better: what was begun is tried again at a tick, ever more rarely.
    Failed,
    /// Nothing was written, or not all calls were made, and that will not change, for this reason. What was asked for is undone or done in another
    /// way; what cannot be is tried again, like what has failed.
    Refused(String),
    /// A row was not as expected, or it is not known whether all was written: these rows are not ours any more, until they are loaded again.
    Lost,
}

/// How far a scale is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleStatus {
    /// Not yet.
    InProgress,
    /// It is done.
    Success,
    /// There is no such epoch.
    InvalidInput,
}

/// What has become of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnStatus {
    /// It never was, or it ended long ago.
    Unknown,
    /// It can be written.
    Open,
    /// It is certain to be committed.
    Committing,
    /// Its events are in the stream.
    Committed,
    /// It is certain to be aborted.
    Aborting,
    /// It is gone.
    Aborted,
}
