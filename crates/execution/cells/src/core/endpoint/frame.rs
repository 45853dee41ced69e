//! What endpoints say to each other, and what the receiver of a frame reports.

use bytes::Bytes;

/// One step of the conversation between an ordered pair of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub from: u32,
    pub to: u32,
    /// The place of this frame among all from `from` to `to`, from 0.
    pub seq: u64,
    /// How many frames of the way back `from` had accepted. An endpoint that reads "credit" or
    /// "granted" thereby also reads that what led to it has arrived, so the frames it keeps for
    /// retransmission stay bounded even when every separate acknowledgement is lost.
    pub ack: u64,
    pub body: Body,
}

/// Lengths are `u32`: no message is longer than the memory of a 32-bit guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// A whole message, sent on credit.
    Eager { ctx: u32, tag: i32, data: Bytes },
    /// A message of `len` bytes waits in the sender's memory, as its request `send_req`.
    Rts {
        ctx: u32,
        tag: i32,
        len: u32,
        send_req: u32,
    },
    /// The receiver matched it with its request `recv_req` and wants the first `len` bytes.
    Cts {
        send_req: u32,
        recv_req: u32,
        len: u32,
    },
    /// The next bytes for `recv_req`: `Limits::chunk_bytes` of them, or all that remain.
    Data { recv_req: u32, data: Bytes },
    /// The receiver consumed this much of what came eagerly.
    Credit { bytes: u64, messages: u32 },
}

impl Body {
    /// The bytes of message content in this frame.
    pub(crate) fn payload(&self) -> usize {
        match self {
            Body::Eager { data, .. } | Body::Data { data, .. } => data.len(),
            Body::Rts { .. } | Body::Cts { .. } | Body::Credit { .. } => 0,
        }
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub outcome: Outcome,
    /// How many frames from this sender are accepted: to be told to `Endpoint::acked` over there.
    pub ack: u64,
    /// The rank may find a change worth looking at: a completed request, a message to probe, or
    /// data that `Endpoint::progress` can ship.
    pub wake: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was the next, and took effect, as did the held frames right behind it.
    Accepted,
    /// It is ahead of a gap. It waits in memory only, and must stay unacknowledged.
    Held,
    /// It had been accepted (or held) before.
    Duplicate,
}

/// Why a frame or an acknowledgement cannot come from an honest endpoint. Nothing of it took
/// effect; the one who passed it on is not to be trusted with this world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("frame is from or for a rank that cannot be")]
    Address,
    #[error("more frames are acknowledged than were sent")]
    Ack,
    #[error("frame is further ahead than its sender may run")]
    Ahead,
    #[error("frame is longer than the agreed limit")]
    Oversize,
    #[error("sender exceeds its credit, or returns more than was used")]
    Credit,
    #[error("sender has more messages waiting than it has requests")]
    Requests,
    #[error("clear-to-send does not answer a message that waits for it")]
    Cts,
    #[error("data does not continue a granted message")]
    Data,
}
