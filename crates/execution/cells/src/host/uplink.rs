//! The queue of events for the coordinator.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::wire::messages::Event;
use crate::wire::session::{Depth, Limits, Session};

/// Events that wait until the coordinator has them. A rank that writes faster than anybody reads, or while the network is cut, waits
/// when there are so many.
const LIMITS: Limits = Limits {
    items_max: 4096,
    bytes_max: 8 << 20,
};

#[derive(Clone, Debug)]
pub(crate) struct Uplink(pub(super) Arc<Session>);

impl Uplink {
    pub(crate) fn new(depth: Depth) -> Self {
        Self(Arc::new(Session::measured(LIMITS, depth)))
    }

    /// What is sent goes nowhere.
    pub(crate) fn to_nobody() -> Self {
        let uplink = Self(Arc::new(Session::new(LIMITS)));
        uplink.0.close();
        uplink
    }

    /// Queues an event, and waits for room.
    pub(crate) fn send(&self, event: Event) {
        if let Err(error) = self.0.push(&event) {
            tracing::error!(%error, "an event cannot be sent");
        }
    }

    /// Queues an event without waiting: for whoever obeys the coordinator, and so hears that there is room again.
    pub(crate) fn send_now(&self, event: Event) {
        if let Err(error) = self.0.push_beyond(&event) {
            tracing::error!(%error, ?event, "an event cannot be sent");
        }
    }

    /// What it returns hears when the coordinator has everything queued so far, so that a later
    /// death of this process does not lose it.
    pub(crate) fn barrier(&self) -> Receiver<()> {
        self.0.barrier()
    }
}
