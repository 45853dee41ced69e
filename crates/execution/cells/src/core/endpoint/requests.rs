//! The requests of a rank: their numbers and what each waits for.
//!
//! ```text
//!  send, on credit ─────────────────────────────────────▶ Sent ──▶ consumed
//!  send, otherwise ──▶ Offered ──Cts──▶ Granted ──progress──▲
//!
//!                       ┌──eager message──────▶ Eager ───────────▶ consumed
//!  recv ──▶ Posted ─────┤
//!              │        └──announced message──▶ Bulk ──all Data──▶ consumed
//!              ▼
//!          cancelled
//! ```
//! A receive that finds a waiting message skips `Posted`. A number is given out by the rank's own
//! calls and becomes free in them alone, so numbers follow from the program and not from timing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use super::Span;
use super::matching::{Pattern, Stamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// The message has left the guest's memory.
    Sent,
    /// Announced; the guest's memory holds the message.
    Offered { to: u32, span: Span },
    /// The receiver wants all of `span`, of which `shipped` bytes have left the guest's memory.
    Granted {
        to: u32,
        span: Span,
        recv_req: u32,
        shipped: u32,
    },
    Posted {
        pattern: Pattern,
        at: Stamp,
        receive: Receive,
    },
    Eager {
        origin: Origin,
        receive: Receive,
        data: Bytes,
    },
    /// Takes the first bytes of a message of `len` bytes, as many as the buffer holds.
    Bulk {
        origin: Origin,
        receive: Receive,
        len: u32,
        got: u64,
        chunks: Vec<Bytes>,
    },
}

/// What a receive was called with and keeps until it is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Receive {
    pub(super) span: Span,
    pub(super) wildcard: Option<u64>,
}

/// Where a matched message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Origin {
    pub(super) source: u32,
    pub(super) tag: i32,
}

impl Op {
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Op::Sent | Op::Eager { .. } => true,
            Op::Offered { .. } | Op::Granted { .. } | Op::Posted { .. } => false,
            Op::Bulk {
                receive, len, got, ..
            } => *got == u64::from(receive.wanted(*len)),
        }
    }

    /// Takes the next data of a message in chunks. True: that was the last.
    pub(super) fn fill(&mut self, data: Bytes) -> bool {
        let Op::Bulk {
            receive,
            len,
            got,
            chunks,
            ..
        } = self
        else {
            return false;
        };
        *got += data.len() as u64;
        chunks.push(data);
        *got == u64::from(receive.wanted(*len))
    }
}

impl Receive {
    /// How much of a message of `len` bytes the buffer holds.
    pub(super) fn wanted(&self, len: u32) -> u32 {
        len.min(self.span.len)
    }
}

/// Requests by number; a new one gets the lowest that is free.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Option<Op>>,
    free: BinaryHeap<Reverse<u32>>,
}

impl Requests {
    pub(super) fn from_slots(slots: Vec<Option<Op>>) -> Self {
        let free = (0..)
            .zip(&slots)
            .filter(|(_, op)| op.is_none())
            .map(|(n, _)| Reverse(n));
        Requests {
            free: free.collect(),
            slots,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The number that the next request gets, if there may be one more than now.
    pub(super) fn vacant(&self, limit: u32) -> Option<u32> {
        match self.free.peek() {
            Some(Reverse(number)) => Some(*number),
            None => u32::try_from(self.slots.len())
                .ok()
                .filter(|number| *number < limit),
        }
    }

    /// Fills `number`, which [`Self::vacant`] has just named.
    pub(super) fn insert(&mut self, number: u32, op: Op) {
        match self.free.pop() {
            None => self.slots.push(Some(op)),
            Some(Reverse(lowest)) => {
                assert_eq!(lowest, number, "numbers are given out lowest first");
                self.slots[number as usize] = Some(op);
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Op> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Op> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Op> {
        let op = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(Reverse(number));
        Some(op)
    }

    /// All numbers up to the highest in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = Option<&Op>> {
        self.slots.iter().map(Option::as_ref)
    }
}
