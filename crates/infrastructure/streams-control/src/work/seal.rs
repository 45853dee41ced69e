//! The end of a stream, once its transactions have ended.

use crate::error::Refusal;
use crate::names::StreamName;
use crate::rows::State;
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
                if stream.row.commit.is_some() || !stream.committing.is_empty() {
                    return Ok(Next::First(Work::Commit(name.clone())));
                }
                if !stream.aborting.is_empty() {
                    return Ok(Next::First(Work::Abort(name.clone())));
                }
                let batch = stream.txns.iter().take(self.limits.txn_batch(stream));
                let aborting = batch.map(|(id, txn)| txn.aborting(name, *id));
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
