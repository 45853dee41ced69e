//! The queue of events for the coordinator.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::wire::messages::Event;
use crate::wire::{self, Stream};

/// Events that wait. A rank that writes faster than anybody reads waits with them.
const EVENTS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Uplink(SyncSender<Queued>);

#[derive(Debug)]
enum Queued {
    Event(Event),
    /// To be answered when all before it has left this process.
    Barrier(SyncSender<()>),
}

/// The other end of the queue.
#[derive(Debug)]
pub(crate) struct Outbox(Receiver<Queued>);

impl Uplink {
    pub(crate) fn new() -> (Self, Outbox) {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        (Self(sender), Outbox(receiver))
    }

    /// Queues an event. Without a coordinator this process ends, so nothing is lost by what comes after.
    pub(crate) fn send(&self, event: Event) {
        if self.0.send(Queued::Event(event)).is_err() {
            tracing::debug!("an event has nobody to go to");
        }
    }

    /// What it returns hears when everything queued so far has left this process, so that a later
    /// death of the process does not lose it.
    pub(crate) fn barrier(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        // With the queue gone the receiver hears that, too.
        self.0.send(Queued::Barrier(sender)).ok();
        receiver
    }
}

impl Outbox {
    /// Sends what is queued, until the queue or the connection ends.
    pub(crate) fn carry(&self, stream: &mut Stream) -> io::Result<()> {
        while let Ok(queued) = self.0.recv() {
            match queued {
                Queued::Event(event) => wire::send(stream, &event)?,
                // Who asked may have given up.
                Queued::Barrier(answer) => drop(answer.send(())),
            }
        }
        Ok(())
    }
}
