//! Requests to a rank to stand still, and when it does.

use crate::wire::Stream;
use crate::wire::messages::{Epoch, HostId, StopPoint};

/// Somebody wants the rank to stop.
#[derive(Debug)]
pub(crate) struct StopRequest {
    pub at: StopPoint,
    pub purpose: Purpose,
}

/// What happens once it has stopped.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Its state goes over this connection.
    Move {
        stream: Box<Stream>,
        to: HostId,
        epoch: Epoch,
    },
    /// Its state goes to the coordinator, and it waits for this checkpoint to be over.
    Checkpoint { id: u32 },
}

/// A rank that never waits stops after so many more control points anyway.
const PATIENCE_CALLS: u64 = 1000;

/// A request that the rank has taken notice of.
#[derive(Debug)]
pub(crate) struct Stop {
    /// The control point, counted since the rank began here, from which on it stops.
    at_call: u64,
    when_blocked: bool,
    pub purpose: Purpose,
}

impl Stop {
    pub(crate) fn new(request: StopRequest, n_calls: u64) -> Self {
        Self {
            at_call: n_calls + u64::from(request.at.calls),
            when_blocked: request.at.blocked,
            purpose: request.purpose,
        }
    }

    /// Whether the rank stops, on the entry of control point number `n_calls` or while it waits there.
    pub(crate) fn is_due(&self, n_calls: u64, is_blocked: bool) -> bool {
        let is_overdue = n_calls >= self.at_call + PATIENCE_CALLS;
        n_calls >= self.at_call && (is_blocked || !self.when_blocked || is_overdue)
    }
}
