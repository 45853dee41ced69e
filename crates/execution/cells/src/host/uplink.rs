//! The queue of events for the coordinator.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::wire::messages::Event;

/// Events that wait. A rank that writes faster than anybody reads waits with them.
const EVENTS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Uplink(SyncSender<Event>);

impl Uplink {
    pub(crate) fn new() -> (Self, Receiver<Event>) {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        (Self(sender), receiver)
    }

    /// Queues an event. Without a coordinator this process ends, so nothing is lost by what comes after.
    pub(crate) fn send(&self, event: Event) {
        if self.0.send(event).is_err() {
            tracing::debug!("an event has nobody to go to");
        }
    }
}
