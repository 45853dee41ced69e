//! What is done, step by step. [`Control::next`] decides from the rows; nothing is kept but how far a job is, and what the last calls said.
//!
//! | work | rows: the intent | calls | rows: the end |
//! |---|---|---|---|
//! | create | `Creating`, epoch 0, for both | create | `Active` |
//! | update | `Updating` | set policy | the configuration, `Active` |
//! | scale | `Scaling` | create successors; *rows: their epoch, and the answer*; seal predecessors, lengths | lengths, active epoch, `Active` |
//! | truncate | (lengths) the head, `Truncating` from the old one | truncate, delete | `Active` |
//! | seal | `Sealing` | (transactions end) seal | `Sealed` |
//! | delete | `Deleting`, grave | delete | rows go, the stream's last |
//! | commit | `Committing` | merge | `Active`, transactions ended |
//! | … rolling | `Committing` | create, merge, seal, create, lengths; *rows: both epochs*; seal, lengths | the same, active epoch |
//! | abort | `Aborting` | delete | transactions ended |
//! | create a group | as create, and the group | create | `Active` |
//! | update a group | | | the group |
//! | delete a group | as delete | delete | and the group |
//! | fold graves | | | the floor, graves go |
//!
//! Many calls of one step are several plans. What is refused for good has a table of its own, in `undo`.

mod create;
mod delete;
mod group;
mod resize;
mod scope;
mod seal;
mod trim;
mod txn;
mod undo;

mod commit;

use std::collections::VecDeque;

use crate::config::Config;
use crate::cuts::Cut;
use crate::error::Refusal;
use crate::groups::Group;
use crate::lanes::LaneKey;
use crate::names::{Name, SegmentId, StreamName, TxnId, Unique};
use crate::ranges::Range;
use crate::rows::{Committed, Key, Row, State, StreamRow};
use crate::state::{Control, Stream};
use crate::step::{Call, Request, Response, Ticket};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    CreateScope(Name),
    DeleteScope(Name),
    DeleteScopeRecursive(Name),
    Create(StreamName, Config),
    Update(StreamName, Config),
    Scale(StreamName, Vec<SegmentId>, Vec<Range>),
    Truncate(StreamName, Cut),
    Seal(StreamName),
    Delete(StreamName),
    /// Whatever it takes.
    Destroy(StreamName),
    CreateGroup(StreamName, Box<Group>),
    UpdateGroup(StreamName, Box<Group>),
    DeleteGroup(StreamName, u128),
    /// Notes where it ends, and what may go.
    Retain(StreamName),
    CreateTxn(StreamName, u64, Unique),
    ExtendTxn(StreamName, TxnId, u64),
    CommitTxn(StreamName, TxnId, Committed),
    AbortTxn(StreamName, TxnId),
    /// Those whose leases are over.
    Expire(StreamName),
    /// Of those that are to be.
    Commit(StreamName),
    /// Its segments do not take the transactions that are being committed: others will.
    Roll(StreamName),
    Abort(StreamName),
    /// Graves into one number.
    Fold,
    /// What a stream is in the middle of, for this reason.
    Undo(StreamName, String),
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) step: u32,
    /// Of this step, those that are not made yet.
    pub(crate) calls: VecDeque<Call>,
    /// Of the last calls.
    pub(crate) replies: Vec<u64>,
    pub(crate) waiting: Option<Ticket>,
}

/// What a job does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// `None`: the row goes. Rows that others depend on come first.
    Write(Vec<(Key, Option<Row>)>),
    Call(Vec<Call>),
    /// And goes on.
    Answer(Response),
    /// From that step.
    Again(u32),
    /// From this step, after that.
    First(Work),
    /// And has become that.
    Become(Work),
    /// Who waits is told that, and it has become this, for which nobody waits.
    Abandon(Refusal, Work),
    /// In other lanes, before all that waits there.
    Enqueue(Vec<Work>),
    /// Until it is woken.
    Park,
    Done(Response),
    Refuse(Refusal),
}

impl Job {
    pub(crate) fn new(work: Work, waiting: Option<Ticket>) -> Self {
        Self {
            work,
            step: 0,
            calls: VecDeque::new(),
            replies: Vec::new(),
            waiting,
        }
    }

    /// From the beginning of a step.
    pub(crate) fn go_to(&mut self, step: u32) {
        self.step = step;
        self.calls.clear();
        self.replies.clear();
    }

    /// It can be let be: nothing says that it will be done, or else it would be begun again.
    pub(crate) fn is_undecided(&self) -> bool {
        match self.work {
            Work::Truncate(..) => self.step <= 1,
            Work::Retain(_) => true,
            Work::Undo(..) => false,
            _ => self.step == 0,
        }
    }

    pub(crate) fn at(work: Work, step: u32) -> Self {
        Self {
            step,
            ..Self::new(work, None)
        }
    }

    /// Its intent is written.
    pub(crate) fn resumed(work: Work) -> Self {
        Self::at(work, 1)
    }
}

impl From<Request> for Work {
    fn from(request: Request) -> Self {
        match request {
            Request::CreateScope(scope) => Self::CreateScope(scope),
            Request::DeleteScope(scope) => Self::DeleteScope(scope),
            Request::DeleteScopeRecursive(scope) => Self::DeleteScopeRecursive(scope),
            Request::CreateStream(stream, config) => Self::Create(stream, config),
            Request::UpdateStream(stream, config) => Self::Update(stream, config),
            Request::TruncateStream(stream, cut) => Self::Truncate(stream, cut),
            Request::SealStream(stream) => Self::Seal(stream),
            Request::DeleteStream(stream) => Self::Delete(stream),
            Request::Scale {
                stream,
                sealed,
                ranges,
            } => Self::Scale(stream, sealed, ranges),
            Request::CreateTxn {
                stream,
                lease_ms,
                unique,
            } => Self::CreateTxn(stream, lease_ms, unique),
            Request::PingTxn {
                stream,
                txn,
                lease_ms,
            } => Self::ExtendTxn(stream, txn, lease_ms),
            Request::CommitTxn {
                stream,
                txn,
                writer,
                timestamp,
            } => {
                let committed = Committed {
                    order: 0,
                    writer,
                    timestamp,
                };
                Self::CommitTxn(stream, txn, committed)
            }
            Request::AbortTxn(stream, txn) => Self::AbortTxn(stream, txn),
            Request::CreateGroup(stream, group) => Self::CreateGroup(stream, group),
            Request::UpdateGroup(stream, group) => Self::UpdateGroup(stream, group),
            Request::DeleteGroup(stream, id) => Self::DeleteGroup(stream, id),
        }
    }
}

impl Work {
    pub(crate) fn lane(&self) -> LaneKey {
        match self {
            Self::CreateScope(scope)
            | Self::DeleteScope(scope)
            | Self::DeleteScopeRecursive(scope) => LaneKey::Scope(scope.clone()),
            Self::Fold => LaneKey::Graves,
            Self::Create(stream, _)
            | Self::Update(stream, _)
            | Self::Scale(stream, ..)
            | Self::Truncate(stream, _)
            | Self::Seal(stream)
            | Self::Delete(stream)
            | Self::Destroy(stream)
            | Self::CreateGroup(stream, _)
            | Self::UpdateGroup(stream, _)
            | Self::DeleteGroup(stream, _)
            | Self::Retain(stream)
            | Self::CreateTxn(stream, ..)
            | Self::ExtendTxn(stream, ..)
            | Self::CommitTxn(stream, ..)
            | Self::AbortTxn(stream, _)
            | Self::Expire(stream)
            | Self::Commit(stream)
            | Self::Roll(stream)
            | Self::Abort(stream)
            | Self::Undo(stream, _) => LaneKey::Stream(stream.base()),
        }
    }

    /// It is about transactions that have not ended.
    pub(crate) fn is_of_txn(&self) -> bool {
        matches!(
            self,
            Self::CreateTxn(..)
                | Self::ExtendTxn(..)
                | Self::CommitTxn(..)
                | Self::AbortTxn(..)
                | Self::Expire(_)
        )
    }
}

impl Control {
    pub(crate) fn next(&self, job: &Job) -> Next {
        let step = job.step;
        let next = match &job.work {
            Work::CreateScope(scope) => self.create_scope(scope, step),
            Work::DeleteScope(scope) => self.delete_scope(scope, step),
            Work::DeleteScopeRecursive(scope) => self.delete_scope_recursive(scope, step),
            Work::Create(stream, config) => self.create(stream, config, step),
            Work::Update(stream, config) => self.update(stream, config, step),
            Work::Scale(stream, sealed, ranges) if step == 0 => {
                self.begin_scale(stream, sealed, ranges)
            }
            Work::Scale(stream, ..) => self.scale(stream, step, &job.replies),
            Work::Truncate(stream, cut) => self.truncate(stream, cut, step, &job.replies),
            Work::Seal(stream) => self.seal(stream, step),
            Work::Delete(stream) => self.delete(stream, step),
            Work::Destroy(stream) => self.destroy(stream, step),
            Work::CreateGroup(stream, group) => self.create_group(stream, group, step),
            Work::UpdateGroup(stream, group) => self.update_group(stream, group, step),
            Work::DeleteGroup(stream, id) => self.delete_group(stream, *id, step),
            Work::Retain(stream) => self.retain(stream, step, &job.replies),
            Work::CreateTxn(stream, lease_ms, unique) => {
                self.create_txn(stream, *lease_ms, *unique, step)
            }
            Work::ExtendTxn(stream, txn, lease_ms) => {
                self.extend_txn(stream, *txn, *lease_ms, step)
            }
            Work::CommitTxn(stream, txn, with) => self.commit_txn(stream, *txn, with, step),
            Work::AbortTxn(stream, txn) => self.abort_txn(stream, *txn, step),
            Work::Expire(stream) => Ok(self.expire(stream, step)),
            Work::Commit(stream) => self.commit(stream, step, &job.replies),
            Work::Roll(stream) => self.roll(stream, step),
            Work::Abort(stream) => self.abort(stream, step),
            Work::Undo(stream, why) => self.undo(stream, why, step),
            Work::Fold => Ok(self.fold(step)),
        };
        next.unwrap_or_else(Next::Refuse)
    }

    /// One that can be asked about.
    pub(crate) fn visible(&self, name: &StreamName) -> Result<&Stream, Refusal> {
        let stream = self.stream(name).filter(|stream| stream.is_visible());
        stream.ok_or(Refusal::NoStream)
    }

    /// One that can be changed.
    pub(crate) fn writable(&self, name: &StreamName) -> Result<&Stream, Refusal> {
        let stream = self.visible(name)?;
        if stream.is_sealed() {
            return Err(Refusal::StreamSealed);
        }
        Ok(stream)
    }
}

impl Stream {
    /// Its row, but in this state.
    pub(crate) fn in_state(&self, state: State) -> StreamRow {
        StreamRow {
            state,
            ..self.row.clone()
        }
    }
}

pub(crate) fn stream_row(name: &StreamName, row: StreamRow) -> (Key, Option<Row>) {
    (Key::Stream(name.clone()), Some(Row::Stream(Box::new(row))))
}
