//! Single transactions: how they begin, how long they live, and what is to become of them.

use crate::epochs::Segment;
use crate::error::Refusal;
use crate::lanes::LaneKey;
use crate::names::{SegmentId, StreamName, TxnId, Unique};
use crate::rows::{Committed, Key, Row, TxnRow, TxnState};
use crate::state::{Control, Stream, Txn};
use crate::step::{Call, Ping, Response};

use super::{Next, stream_row};

impl Control {
    /// `None`: it is to be written down.
    pub(crate) fn ping(
        &mut self,
        name: &StreamName,
        id: TxnId,
        lease_ms: u64,
    ) -> Option<Result<Response, Refusal>> {
        let now_ms = self.clock.counted_ms();
        let ping = match self.visible(name) {
            Ok(stream) => stream.ping_of(id),
            Err(refusal) => return Some(Err(refusal)),
        };
        let txn = match ping {
            Ok(Ok(txn)) => txn,
            Ok(Err(ping)) => return Some(Ok(Response::Ping(ping))),
            Err(refusal) => return Some(Err(refusal)),
        };
        let executed_ms = txn.executed_ms(now_ms);
        if lease_ms > self.limits.lease_ms_max {
            return Some(Ok(Response::Ping(Ping::LeaseTooLarge)));
        }
        if executed_ms.saturating_add(lease_ms) > txn.row.execution_ms_max {
            return Some(Ok(Response::Ping(Ping::ExecutionTimeExceeded)));
        }
        let lane = LaneKey::Stream(name.base());
        if self.is_planned(&lane, &Key::Txn(name.clone(), id)) {
            // What its row says then is answered.
            return None;
        }
        // After a crash it lives for the lease in its row, so that may be longer than promised but not shorter. How long it has lived is
        // written now and then.
        let is_noted = txn.row.lease_ms >= lease_ms
            && executed_ms - txn.row.executed_ms < txn.row.execution_ms_max / 8;
        self.extend_lease(name, id, now_ms.saturating_add(lease_ms));
        is_noted.then_some(Ok(Response::Ping(Ping::Ok)))
    }

    pub(super) fn extend_txn(
        &self,
        name: &StreamName,
        id: TxnId,
        lease_ms: u64,
        step: u32,
    ) -> Result<Next, Refusal> {
        if step > 0 {
            return Ok(Next::Done(Response::Ping(Ping::Ok)));
        }
        Ok(match self.visible(name)?.ping_of(id)? {
            Ok(txn) => {
                let row = TxnRow {
                    lease_ms,
                    executed_ms: txn.executed_ms(self.clock.counted_ms()),
                    ..txn.row.clone()
                };
                Next::Write(vec![txn_row(name, id, row)])
            }
            Err(ping) => Next::Done(Response::Ping(ping)),
        })
    }

    pub(super) fn create_txn(
        &self,
        name: &StreamName,
        lease_ms: u64,
        unique: Unique,
        step: u32,
    ) -> Result<Next, Refusal> {
        let stream = self.writable(name)?;
        // In an epoch that repeats another, it is one of that: so it need not be rolled.
        let id = TxnId::new(stream.active().reference, unique);
        Ok(match step {
            0 => {
                let limits = &self.limits;
                if !(limits.lease_ms_min..=limits.lease_ms_max).contains(&lease_ms) {
                    return Err(Refusal::Invalid("the lease is too short or too long"));
                }
                if stream.txns.contains_key(&id) || stream.ended.contains_key(&id) {
                    return Err(Refusal::Precondition("there was such a transaction"));
                }
                self.check_ended(stream)?;
                let n_txns = stream.txns.len() + 1;
                limits.check("open transactions of a stream", n_txns, limits.txns_max)?;
                let execution_ms = lease_ms.saturating_mul(limits.execution_leases_max);
                let row = TxnRow {
                    state: TxnState::Open,
                    lease_ms,
                    execution_ms_max: execution_ms.min(limits.execution_ms_max),
                    executed_ms: 0,
                };
                Next::Write(vec![txn_row(name, id, row)])
            }
            // If it ends here, nobody knows of it, and it ends with its lease.
            1 => {
                let config = &stream.row.config;
                let numbers = stream.active().ids().map(|id| id.number);
                let create = numbers.map(|number| Call::Create {
                    segment: name.transaction_segment(number, id),
                    rate: crate::config::Rate::Fixed,
                    rollover_size_bytes: config.rollover_size_bytes,
                });
                Next::Call(create.collect())
            }
            _ => {
                let epoch = id.epoch();
                let segments = stream.active().segments().iter().map(|it| Segment {
                    id: SegmentId { epoch, ..it.id },
                    range: it.range,
                });
                Next::Done(Response::TxnCreated {
                    txn: id,
                    segments: segments.collect(),
                })
            }
        })
    }

    pub(super) fn commit_txn(
        &self,
        name: &StreamName,
        id: TxnId,
        with: &Committed,
        step: u32,
    ) -> Result<Next, Refusal> {
        if step > 0 {
            return Ok(Next::Done(Response::Done));
        }
        let max = self.limits.writer_bytes_max;
        self.limits
            .check("bytes of the name of a writer", with.writer.len(), max)?;
        let stream = self.visible(name)?;
        let is_open = |txn: &Txn| txn.row.state == TxnState::Open;
        if id.epoch() != stream.active().reference && stream.txns.get(&id).is_some_and(is_open) {
            // It is rolled, and so may be those before it.
            let n_epochs = stream.epochs.n_epochs() + 2 * (stream.committing.len() + 1);
            let max = self.limits.epochs_max;
            self.limits.check("epochs of a stream", n_epochs, max)?;
        }
        let order = stream.next_order;
        let committed = Committed {
            order,
            ..with.clone()
        };
        let mut next = stream.end_txn(name, id, TxnState::Committing(committed))?;
        if let Next::Write(rows) = &mut next
            && !self.has_queue(&LaneKey::Stream(name.base()))
        {
            // Nobody else would be in its batch, so that begins with it.
            let batch = stream.next_commit(self.limits.txn_batch(stream), Some((order, id)));
            rows.extend(batch.map(|row| stream_row(name, row)));
        }
        Ok(next)
    }

    pub(super) fn abort_txn(
        &self,
        name: &StreamName,
        id: TxnId,
        step: u32,
    ) -> Result<Next, Refusal> {
        if step > 0 {
            return Ok(Next::Done(Response::Done));
        }
        self.visible(name)?.end_txn(name, id, TxnState::Aborting)
    }

    /// They may have been pinged since.
    pub(super) fn expire(&self, name: &StreamName, step: u32) -> Next {
        let now_ms = self.clock.counted_ms();
        let Some(stream) = self.stream(name).filter(|_| step == 0) else {
            return match step {
                0 => Next::Done(Response::Done),
                _ => Next::Again(0),
            };
        };
        let is_over = |txn: &Txn| txn.row.state == TxnState::Open && txn.lease_until_ms <= now_ms;
        let expired = stream.txns.iter().filter(|(_, txn)| is_over(txn));
        let expired = expired.take(self.limits.plan_max.max(1));
        let rows: Vec<_> = expired.map(|(id, txn)| txn.aborting(name, *id)).collect();
        if rows.is_empty() {
            return Next::Done(Response::Done);
        }
        Next::Write(rows)
    }

    /// None that has just ended is forgotten, so it may be that no more can end.
    fn check_ended(&self, stream: &Stream) -> Result<(), Refusal> {
        let Some((oldest, _)) = stream.ended_in_order.first() else {
            return Ok(());
        };
        let age_ms = self.clock.counted_ms().saturating_sub(oldest.counted_ms);
        if age_ms >= self.limits.ended_ms_min {
            return Ok(());
        }
        let n_ended = stream.ended.len() + 1;
        let what = "transactions of a stream that have just ended";
        self.limits.check(what, n_ended, self.limits.ended_max)
    }
}

impl Txn {
    /// Its row, once it is to be.
    pub(super) fn aborting(&self, name: &StreamName, id: TxnId) -> (Key, Option<Row>) {
        let row = TxnRow {
            state: TxnState::Aborting,
            ..self.row.clone()
        };
        txn_row(name, id, row)
    }
}

pub(super) fn txn_row(name: &StreamName, id: TxnId, row: TxnRow) -> (Key, Option<Row>) {
    (Key::Txn(name.clone(), id), Some(Row::Txn(row)))
}

impl Stream {
    /// An open one, or else what a ping is told.
    fn ping_of(&self, id: TxnId) -> Result<Result<&Txn, Ping>, Refusal> {
        if let Some(ended) = self.ended.get(&id) {
            let ping = if ended.row.is_committed {
                Ping::Committed
            } else {
                Ping::Aborted
            };
            return Ok(Err(ping));
        }
        let txn = self.txns.get(&id).ok_or(Refusal::NoTransaction)?;
        Ok(match &txn.row.state {
            TxnState::Open => Ok(txn),
            TxnState::Committing(_) => Err(Ping::Committed),
            TxnState::Aborting => Err(Ping::Aborted),
        })
    }

    fn end_txn(&self, name: &StreamName, id: TxnId, state: TxnState) -> Result<Next, Refusal> {
        let is_commit = matches!(state, TxnState::Committing(_));
        let is_committed = match (self.ended.get(&id), self.txns.get(&id)) {
            (Some(ended), _) => ended.row.is_committed,
            (None, None) => return Err(Refusal::NoTransaction),
            (None, Some(txn)) => match &txn.row.state {
                TxnState::Open => {
                    let row = TxnRow {
                        state,
                        ..txn.row.clone()
                    };
                    return Ok(Next::Write(vec![txn_row(name, id, row)]));
                }
                TxnState::Committing(_) => true,
                TxnState::Aborting => false,
            },
        };
        if is_commit == is_committed {
            Ok(Next::Done(Response::Done))
        } else {
            Err(Refusal::TransactionEnded)
        }
    }
}
