//! Single transactions: how they begin, how long they live, and what is to become of them.

use crate::epochs::Segment;
use crate::error::Refusal;
use crate::names::{SegmentId, StreamName, TxnId, Unique};
use crate::rows::{Committed, Key, Row, TxnRow, TxnState};
use crate::state::{Control, Stream, Txn};
use crate::step::{Call, Ping, Response};

use super::Next;

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
        if self.is_being_written(name, id) {
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
        let orders = stream.txns.values().filter_map(|txn| match &txn.row.state {
            TxnState::Committing(it) => Some(it.order),
            _ => None,
        });
        let committed = Committed {
            order: orders.max().map_or(0, |order| order + 1),
            ..with.clone()
        };
        stream.end_txn(name, id, TxnState::Committing(committed))
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

    pub(super) fn expire_txn(
        &self,
        name: &StreamName,
        id: TxnId,
        step: u32,
    ) -> Result<Next, Refusal> {
        let now_ms = self.clock.counted_ms();
        let txn = self.stream(name).and_then(|stream| stream.txns.get(&id));
        // It may have been pinged since.
        match txn {
            Some(txn) if txn.lease_until_ms <= now_ms => self.abort_txn(name, id, step),
            _ => Ok(Next::Done(Response::Done)),
        }
    }
}

pub(super) fn txn_row(name: &StreamName, id: TxnId, row: TxnRow) -> (Key, Option<Row>) {
    (Key::Txn(name.clone(), id), Some(Row::Txn(row)))
}

impl Stream {
    /// An open one, or else what a ping is told.
    fn ping_of(&self, id: TxnId) -> Result<Result<&Txn, Ping>, Refusal> {
        if let Some(ended) = self.ended.get(&id) {
            let ping = if ended.is_committed {
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
            (Some(ended), _) => ended.is_committed,
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
