//! Transactions that end, by the batch. That of one which comes alone is written with its own intent.
//!
//! Those that began in the active epoch, or in one that it repeats, are merged into its segments. Others have keys that no segment has any more,
//! so both epochs are repeated: the transactions are the whole of the first, and the stream goes on with the second.
//!
//! ```text
//!    active ──▶ active + 1: the segments of the transactions' epoch ──▶ active + 2: the segments of active
//!               created, merged into, and sealed at once                created, then active is sealed
//! ```

use crate::epochs::EpochSegments;
use crate::error::Refusal;
use crate::lanes::lengths;
use crate::names::{Epoch, SegmentId, StreamName, TxnId};
use crate::rows::{Commit, EndedRow, Key, Row, State, StreamRow};
use crate::state::{Control, Stream};
use crate::step::{Call, Response};

use super::{Next, stream_row};

type Rows = Vec<(Key, Option<Row>)>;

impl Control {
    pub(super) fn commit(
        &self,
        name: &StreamName,
        step: u32,
        replies: &[u64],
    ) -> Result<Next, Refusal> {
        let stream = self.stream(name).ok_or(Refusal::NoStream)?;
        let Some(commit) = &stream.row.commit else {
            let batch = stream.next_commit(self.limits.txn_batch(stream), None);
            return Ok(match batch {
                Some(row) if step == 0 => Next::Write(vec![stream_row(name, row)]),
                _ => Next::Done(Response::Done),
            });
        };
        if !commit.is_rolling {
            let targets = || stream.active().ids();
            return Ok(match step {
                0 => Next::Again(1),
                1 => Next::Call(merges(name, targets(), &commit.txns)),
                _ => Next::Write(self.committed(name, stream, commit, &[])),
            });
        }
        let (of_txns, again) = stream.rolled(commit).expect("it was checked");
        let seal = |ids: &EpochSegments| ids.ids().map(|id| Call::Seal(name.segment(id))).collect();
        let create = |ids: &EpochSegments| {
            let ids = ids.ids();
            ids.map(|id| stream.create_call(name, id)).collect()
        };
        let lengths = |ids: &EpochSegments| lengths(ids.ids().map(|id| name.segment(id)));
        Ok(match step {
            0 => Next::Again(1),
            1 => Next::Call(create(&of_txns)),
            2 => Next::Call(merges(name, of_txns.ids(), &commit.txns)),
            3 => Next::Call(seal(&of_txns)),
            4 => Next::Call(create(&again)),
            5 => lengths(&of_txns),
            // Who finds the active segments sealed asks for their successors at once.
            6 => {
                let mut again = again;
                again.sealed = of_txns.ids().zip(replies.iter().copied()).collect();
                let first = stream.row.active.next();
                let row = |epoch, mut segments: EpochSegments| {
                    segments.created_at_ms = self.created_at_ms(stream, epoch);
                    (Key::Epoch(name.clone(), epoch), Some(Row::Epoch(segments)))
                };
                Next::Write(vec![row(first, of_txns), row(first.next(), again)])
            }
            7 => Next::Call(seal(stream.active())),
            8 => lengths(stream.active()),
            _ => Next::Write(self.committed(name, stream, commit, replies)),
        })
    }

    fn committed(
        &self,
        name: &StreamName,
        stream: &Stream,
        commit: &Commit,
        lengths: &[u64],
    ) -> Rows {
        let state = match stream.row.state {
            State::Committing => State::Active,
            _ => stream.row.state.clone(),
        };
        let mut row = StreamRow {
            commit: None,
            ..stream.in_state(state)
        };
        let mut rows = Vec::new();
        if commit.is_rolling {
            let first = row.active.next();
            row.active = first.next();
            let (mut of_txns, _) = stream.rolled(commit).expect("it was checked");
            of_txns.sealed = stream.active().ids().zip(lengths.iter().copied()).collect();
            of_txns.created_at_ms = self.created_at_ms(stream, first);
            rows.push((Key::Epoch(name.clone(), first), Some(Row::Epoch(of_txns))));
        }
        rows.insert(0, stream_row(name, row));
        rows.extend(self.ended(name, stream, commit.txns.iter().copied(), true));
        rows
    }

    /// Of those that are to be.
    pub(super) fn abort(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let stream = self.stream(name).ok_or(Refusal::NoStream)?;
        let n_txns = self.limits.txn_batch(stream);
        let aborting = stream.aborting.iter().copied().take(n_txns);
        Ok(match step {
            0 => {
                let parts = aborting.flat_map(|txn| {
                    let epoch = stream.epochs.get(txn.epoch()).expect("it was checked");
                    epoch
                        .ids()
                        .map(move |id| name.transaction_segment(id.number, txn))
                });
                Next::Call(parts.map(Call::Delete).collect())
            }
            // They are the same: nothing else has happened in this lane.
            1 => Next::Write(self.ended(name, stream, aborting, false)),
            _ => Next::Done(Response::Done),
        })
    }

    fn ended(
        &self,
        name: &StreamName,
        stream: &Stream,
        txns: impl Iterator<Item = TxnId>,
        is_committed: bool,
    ) -> Rows {
        let at = self.clock.stamp();
        let ended = EndedRow { is_committed, at };
        let mut rows = Vec::new();
        for txn in txns {
            rows.push((Key::Txn(name.clone(), txn), None));
            rows.push((Key::Ended(name.clone(), txn), Some(Row::Ended(ended))));
        }
        let n_ended = stream.ended.len() + rows.len() / 2;
        let n_too_many = n_ended.saturating_sub(self.limits.ended_max);
        let forgotten = stream.ended_in_order.iter().enumerate();
        let forgotten = forgotten.take_while(|(idx, (then, _))| {
            let age_ms = at.counted_ms.saturating_sub(then.counted_ms);
            let is_old_enough = age_ms >= self.limits.ended_ms_min;
            age_ms > self.limits.ended_ms_max || (*idx < n_too_many && is_old_enough)
        });
        let n_forgotten = self.limits.plan_max.saturating_sub(rows.len());
        let forgotten = forgotten.take(n_forgotten.max(1));
        rows.extend(forgotten.map(|(_, (_, txn))| (Key::Ended(name.clone(), *txn), None)));
        rows
    }
}

/// For each segment, all of its parts in the order of the transactions.
fn merges(
    name: &StreamName,
    targets: impl Iterator<Item = SegmentId>,
    txns: &[TxnId],
) -> Vec<Call> {
    let merge = |id: SegmentId| Call::Merge {
        target: name.segment(id),
        sources: txns
            .iter()
            .map(|txn| name.transaction_segment(id.number, *txn))
            .collect(),
    };
    targets.map(merge).collect()
}

impl Stream {
    /// The next of them, with one more that is to be committed at that place: those of the first epoch that has some, in the order in which they were
    /// committed, and no more than that.
    pub(super) fn next_commit(
        &self,
        max: usize,
        one_more: Option<(u64, TxnId)>,
    ) -> Option<StreamRow> {
        let one_more = one_more.map(|(order, id)| (id.epoch(), order, id));
        let first = self.committing.first().into_iter().chain(&one_more);
        let (epoch, ..) = *first.min()?;
        let is_of_it = |it: &&(Epoch, u64, TxnId)| it.0 == epoch;
        let txns = self.committing.iter().take_while(is_of_it);
        let txns = txns.chain(one_more.iter().filter(is_of_it));
        let commit = Commit {
            epoch,
            txns: txns.map(|(.., id)| *id).take(max).collect(),
            is_rolling: self.active().reference != epoch,
        };
        let state = match self.row.state {
            State::Sealing => State::Sealing,
            _ => State::Committing,
        };
        Some(StreamRow {
            commit: Some(commit),
            ..self.in_state(state)
        })
    }
}
