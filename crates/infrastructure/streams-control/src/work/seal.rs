//! The end of a stream, once its transactions have ended.

use crate::error::Refusal;
use crate::names::StreamName;
use crate::rows::{Key, Row, State, TxnRow, TxnState};
use crate::state::Control;
use crate::step::{Call, Response};

use super::{Next, Work, stream_row};

impl Control {
    pub(super) fn seal(&self, name: &StreamName, step: u32) -> Result<Next, Refusal> {
        let stream = self.visible(name)?;
        if stream.row.state == State::Sealed {
            return Ok(Next::Done(Response::Done));
        }
        Ok(match step {
            0 => Next::Write(vec![stream_row(name, stream.in_state(State::Sealing))]),
            1 => {
                let is_any = |is_it: fn(&TxnState) -> bool| {
                    stream.txns.values().any(|txn| is_it(&txn.row.state))
                };
                if stream.row.commit.is_some() || is_any(|it| matches!(it, TxnState::Committing(_)))
                {
                    return Ok(Next::First(Work::Commit(name.clone())));
                }
                if is_any(|state| *state == TxnState::Aborting) {
                    return Ok(Next::First(Work::Abort(name.clone())));
                }
                let batch = stream.txns.iter().take(self.limits.txn_batch_max);
                let aborting = batch.map(|(id, txn)| {
                    let row = TxnRow {
                        state: TxnState::Aborting,
                        ..txn.row.clone()
                    };
                    (Key::Txn(name.clone(), *id), Some(Row::Txn(row)))
                });
                Next::Write(aborting.collect())
            }
            2 if stream.txns.is_empty() => Next::Again(3),
            2 => Next::Again(1),
            3 => {
                let ids = stream.active().ids();
                Next::Call(ids.map(|id| Call::Seal(name.segment(id))).collect())
            }
            _ => Next::Write(vec![stream_row(name, stream.in_state(State::Sealed))]),
        })
    }
}
