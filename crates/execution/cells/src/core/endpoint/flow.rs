//! Order, acknowledgement and credit between this rank and one other.
//!
//! Towards the peer, every frame has a number and is kept until the peer has accepted it. From the
//! peer, frames take effect in the order of their numbers, each once. Below this, frames may be
//! lost, doubled, reordered and sent again at any time, and the two ends may move.

use std::collections::{BTreeMap, VecDeque};

use super::Limits;
use super::frame::{Body, Violation};

/// An amount of eager messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Volume {
    pub(super) bytes: u64,
    pub(super) messages: u32,
}

impl Volume {
    pub(super) fn of(data: &[u8]) -> Self {
        Volume {
            bytes: data.len() as u64,
            messages: 1,
        }
    }

    /// Both terms are within the credit of a pair, or one frame, and so far from overflow.
    pub(super) fn plus(self, more: Volume) -> Self {
        Volume {
            bytes: self.bytes + more.bytes,
            messages: self.messages + more.messages,
        }
    }

    pub(super) fn minus(self, less: Volume) -> Option<Self> {
        Some(Volume {
            bytes: self.bytes.checked_sub(less.bytes)?,
            messages: self.messages.checked_sub(less.messages)?,
        })
    }

    /// Whether this is within the credit of a pair.
    pub(super) fn fits(self, limits: &Limits) -> bool {
        self.bytes <= limits.credit_bytes && self.messages <= limits.credit_messages
    }
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Frames that the peer has not acknowledged; the first has the number `acked`.
    pub(super) unacked: VecDeque<Body>,
    pub(super) acked: u64,
    /// Payload in `unacked`.
    pub(super) in_flight: u64,
    /// Eager messages that the peer has not given back as consumed.
    pub(super) used: Volume,
    /// Granted sends in the order in which their data goes out.
    pub(super) shipping: VecDeque<u32>,

    /// The number of the next frame that may take effect.
    pub(super) expected: u64,
    /// Frames ahead of a gap. Several threads carry frames of one rank, so a later one may win
    /// the race; a lost one comes again when the peer retransmits.
    held: BTreeMap<u64, Body>,
    held_bytes: u64,
    /// Eager messages that this rank has not consumed.
    pub(super) kept: Volume,
    /// Eager messages that it has consumed and not yet given back.
    pub(super) owed: Volume,
    /// Announced messages from the peer that wait for a receive.
    pub(super) n_announced: u32,
}

/// What to do with a frame by its number.
pub(super) enum Turn {
    Now(Body),
    Later,
    Past,
}

impl Peer {
    /// After `acked` frames to the peer and `expected` from it.
    pub(super) fn resume(acked: u64, expected: u64, used: Volume, owed: Volume) -> Self {
        Peer {
            acked,
            expected,
            used,
            owed,
            ..Peer::default()
        }
    }

    /// Numbers a frame and keeps it for retransmission.
    pub(super) fn push(&mut self, body: Body) -> u64 {
        self.in_flight += body.payload() as u64;
        self.unacked.push_back(body);
        self.acked + self.unacked.len() as u64 - 1
    }

    /// Forgets what the peer has accepted. Acknowledgements overtake each other, so an old one
    /// means nothing.
    pub(super) fn acked(&mut self, upto: u64) -> Result<(), Violation> {
        if upto > self.acked + self.unacked.len() as u64 {
            return Err(Violation::Ack);
        }
        while self.acked < upto {
            let body = self
                .unacked
                .pop_front()
                .expect("bounded by the check above");
            self.in_flight -= body.payload() as u64;
            self.acked += 1;
        }
        Ok(())
    }

    /// Whether more waits for acknowledgement than can between honest ends, where whatever makes
    /// this rank send more also acknowledges what it sent before.
    pub(super) fn is_starved_of_acks(&self, limits: &Limits) -> bool {
        self.unacked.len() as u64 > limits.frames_ahead() || self.in_flight > limits.bytes_ahead()
    }

    /// Sorts an arriving frame by its number. What is ahead of the gap is kept within bounds that
    /// an honest sender cannot exceed.
    pub(super) fn offer(
        &mut self,
        seq: u64,
        body: Body,
        limits: &Limits,
    ) -> Result<Turn, Violation> {
        if seq < self.expected || self.held.contains_key(&seq) {
            return Ok(Turn::Past);
        }
        if seq == self.expected {
            return Ok(Turn::Now(body));
        }
        let held_bytes = self.held_bytes + body.payload() as u64;
        if seq - self.expected >= limits.frames_ahead() || held_bytes > limits.bytes_ahead() {
            return Err(Violation::Ahead);
        }
        self.held_bytes = held_bytes;
        self.held.insert(seq, body);
        Ok(Turn::Later)
    }

    /// The frame that is due, if it was held.
    pub(super) fn due(&mut self) -> Option<Body> {
        let body = self.held.remove(&self.expected)?;
        self.held_bytes -= body.payload() as u64;
        Some(body)
    }

    /// How many of `remaining` bytes may go out as one chunk; none while the window is full. A
    /// chunk above the window goes alone.
    pub(super) fn chunk(&self, remaining: u32, limits: &Limits) -> Option<u32> {
        let chunk = remaining.min(limits.chunk_bytes);
        let open = self.in_flight + u64::from(chunk) <= limits.window_bytes || self.in_flight == 0;
        open.then_some(chunk)
    }

    /// What to give back. A quarter of the credit is saved up first: the sender has the rest to go
    /// on with, and a frame for each message would double the traffic.
    pub(super) fn repay(&mut self, limits: &Limits) -> Option<Body> {
        let due = self.owed.bytes > limits.credit_bytes / 4
            || self.owed.messages > limits.credit_messages / 4;
        due.then(|| {
            let Volume { bytes, messages } = std::mem::take(&mut self.owed);
            Body::Credit { bytes, messages }
        })
    }
}
