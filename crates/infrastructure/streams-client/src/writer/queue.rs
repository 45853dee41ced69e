//! The events of one writer that one segment has not acknowledged yet, and their numbers. Pure.
//!
//! ```text
//!  acknowledged │ sent │ not sent     push: at the end     take: of what is not sent, the first     acknowledge: up to a number
//!           … 6 │ 7 8  │ 9 10 11      resume: up to a number all is acknowledged, of the rest nothing is sent
//! ```
//!
//! The first event has the number 1, as upstream's clients count.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use streams_wire::limits::{HEADER_BYTES, NO_ATTRIBUTE};
use tokio::sync::oneshot;

use crate::Error;

/// An event that is not acknowledged.
#[derive(Debug)]
pub struct Pending {
    /// Where its key lies.
    pub(super) place: f64,
    pub(super) data: Bytes,
    pub(super) told: oneshot::Sender<Result<(), Error>>,
}

impl Pending {
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.data.len()
    }

    /// Whoever does not wait for it need not be told.
    pub(super) fn settle(self, how: Result<(), Error>) {
        drop(self.told.send(how));
    }
}

/// Events that are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// As they lie in a segment.
    pub(super) data: Bytes,
    pub(super) n_events: i32,
    pub(super) last: i64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Pending>,
    /// Of them.
    bytes: usize,
    n_sent: usize,
    acknowledged: i64,
}

impl Queue {
    /// An empty one, behind an event.
    pub(super) fn after(acknowledged: i64) -> Self {
        Self {
            acknowledged,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, event: Pending) {
        self.bytes += event.bytes();
        self.events.push_back(event);
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> i64 {
        self.number_of(self.events.len())
    }

    /// Of the event with so many before it and itself.
    fn number_of(&self, n_events: usize) -> i64 {
        let n_events = i64::try_from(n_events).expect("they are in memory");
        self.acknowledged + n_events
    }

    /// How many events there are up to a number, if it is one of these.
    fn up_to(&self, number: i64, n_max: usize) -> Option<usize> {
        let n_events = usize::try_from(number.checked_sub(self.acknowledged)?).ok()?;
        (n_events <= n_max).then_some(n_events)
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.n_sent < self.events.len()
    }

    /// At least one event, if there is one that is not sent, and no more than so many bytes if there are several.
    pub(super) fn take(&mut self, bytes_max: usize) -> Option<Batch> {
        let (mut n_events, mut bytes) = (0, 0);
        for event in self.events.range(self.n_sent..) {
            if n_events > 0 && bytes + event.bytes() > bytes_max {
                break;
            }
            n_events += 1;
            bytes += event.bytes();
        }
        if n_events == 0 {
            return None;
        }
        let mut data = BytesMut::with_capacity(bytes);
        for event in self.events.range(self.n_sent..self.n_sent + n_events) {
            data.put_i32(0);
            data.put_i32(i32::try_from(event.data.len()).expect("it was looked at"));
            data.put_slice(&event.data);
        }
        self.n_sent += n_events;
        Some(Batch {
            data: data.freeze(),
            n_events: i32::try_from(n_events).expect("a frame has no more"),
            last: self.number_of(self.n_sent),
        })
    }

    /// The store has all up to that one, and says so of what was sent.
    pub(super) fn acknowledge(&mut self, number: i64) -> Result<(), Error> {
        let Some(n_events) = self.up_to(number, self.n_sent) else {
            let sent = self.number_of(self.n_sent);
            let why = format!("event {number} is acknowledged, of {sent} that were sent");
            return Err(Error::Protocol(why));
        };
        for event in self.events.drain(..n_events) {
            self.bytes -= event.bytes();
            event.settle(Ok(()));
        }
        self.acknowledged = number;
        self.n_sent -= n_events;
        Ok(())
    }

    /// The store has been asked which one was the last. The rest is to be sent again.
    pub(super) fn resume(&mut self, last: i64) -> Result<(), Error> {
        let last = if last == NO_ATTRIBUTE { 0 } else { last };
        if self.up_to(last, self.events.len()).is_none() {
            let known = self.acknowledged;
            let why = format!("the store knows event {last}, of which {known} was acknowledged");
            return Err(Error::Protocol(why));
        }
        self.n_sent = self.events.len();
        self.acknowledge(last)?;
        self.n_sent = 0;
        Ok(())
    }

    pub(super) fn into_events(self) -> VecDeque<Pending> {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::Receiver;

    use super::*;

    type Told = Receiver<Result<(), Error>>;

    fn queue(n_events: u8) -> (Queue, Vec<Told>) {
        let mut queue = Queue::default();
        let mut all_told = Vec::new();
        for number in 1..=n_events {
            let (told, is_told) = oneshot::channel();
            queue.push(Pending {
                place: 0.0,
                data: Bytes::from(vec![number; 2]),
                told,
            });
            all_told.push(is_told);
        }
        (queue, all_told)
    }

    fn n_told(all_told: &mut [Told]) -> usize {
        let is_told = |told: &mut Told| told.try_recv() == Ok(Ok(()));
        all_told
            .iter_mut()
            .filter_map(|told| is_told(told).then_some(()))
            .count()
    }

    #[test]
    fn events_are_numbered_from_1_and_taken_together() {
        let (mut queue, mut told) = queue(5);
        let batch = queue.take(25).expect("there are some");
        assert_eq!((batch.n_events, batch.last), (2, 2));
        assert_eq!(&batch.data[..10], [0, 0, 0, 0, 0, 0, 0, 2, 1, 1]);
        let batch = queue.take(1).expect("there are some");
        assert_eq!((batch.n_events, batch.last), (1, 3));
        assert_eq!(queue.acknowledge(2), Ok(()));
        assert_eq!((queue.bytes(), n_told(&mut told)), (30, 2));
        let batch = queue.take(100).expect("there are some");
        assert_eq!((batch.n_events, batch.last), (2, 5));
        assert_eq!(queue.take(100), None);
        assert_eq!(queue.acknowledge(5), Ok(()));
        assert_eq!((queue.bytes(), queue.len(), queue.last()), (0, 0, 5));
    }

    #[test]
    fn after_a_break_only_what_the_store_does_not_have_is_sent_again() {
        let (mut queue, mut told) = queue(5);
        assert_eq!(queue.resume(NO_ATTRIBUTE), Ok(()));
        assert_eq!(queue.take(45).map(|batch| batch.last), Some(4));
        assert_eq!(queue.resume(3), Ok(()));
        assert_eq!(n_told(&mut told), 3);
        let batch = queue.take(100).expect("there are some");
        assert_eq!((batch.n_events, batch.last), (2, 5));
    }

    #[test]
    fn what_a_store_cannot_know_is_no_acknowledgement() {
        let (mut queue, _told) = queue(3);
        queue.take(15);
        assert!(queue.acknowledge(2).is_err() && queue.acknowledge(-1).is_err());
        assert_eq!(queue.acknowledge(1), Ok(()));
        assert!(queue.acknowledge(0).is_err());
        assert!(queue.resume(NO_ATTRIBUTE).is_err() && queue.resume(4).is_err());
        assert!(queue.resume(i64::MIN + 1).is_err() && queue.resume(i64::MAX).is_err());
        assert_eq!(queue.resume(3), Ok(()));
    }
}
