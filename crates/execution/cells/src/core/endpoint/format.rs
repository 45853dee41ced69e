//! The format of an endpoint at rest. Variants and fields, in their order, must stay as they are:
//! checkpoints outlive the code that wrote them.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::call::Span;
use super::flow::{Peer, Volume};
use super::frame::Body;
use super::matching::{Content, Message, Pattern};
use super::requests::{Op, Origin, Receive};

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct State {
    pub(super) rank: u32,
    pub(super) size: u32,
    pub(super) n_wildcards: u64,
    /// By request number; `None` is free.
    pub(super) requests: Vec<Option<RequestState>>,
    /// The posted receives, in order.
    pub(super) posted: Vec<u32>,
    /// The messages that wait for a receive, in order.
    pub(super) unexpected: Vec<MessageState>,
    /// By ascending rank.
    pub(super) peers: Vec<PeerState>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum RequestState {
    Sent,
    Offered {
        to: u32,
        span: Span,
    },
    Granted {
        to: u32,
        span: Span,
        recv_req: u32,
        shipped: u32,
    },
    Posted {
        ctx: u32,
        source: Option<u32>,
        tag: Option<i32>,
        receive: Receive,
    },
    Eager {
        origin: Origin,
        receive: Receive,
        data: Blob,
    },
    Bulk {
        origin: Origin,
        receive: Receive,
        len: u32,
        chunks: Vec<Blob>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum MessageState {
    Here {
        ctx: u32,
        source: u32,
        tag: i32,
        data: Blob,
    },
    There {
        ctx: u32,
        source: u32,
        tag: i32,
        len: u32,
        send_req: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct PeerState {
    pub(super) rank: u32,
    /// The frames for the peer that it has not acknowledged; the first has the number `acked`.
    pub(super) unacked: Vec<FrameState>,
    pub(super) acked: u64,
    /// How many frames of the peer have taken effect.
    pub(super) accepted: u64,
    pub(super) used: Volume,
    pub(super) owed: Volume,
}

/// A frame without its address and number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum FrameState {
    Eager {
        ctx: u32,
        tag: i32,
        data: Blob,
    },
    Rts {
        ctx: u32,
        tag: i32,
        len: u32,
        send_req: u32,
    },
    Cts {
        send_req: u32,
        recv_req: u32,
        len: u32,
    },
    Data {
        recv_req: u32,
        data: Blob,
    },
    Credit {
        bytes: u64,
        messages: u32,
    },
}

/// Bytes that are written as one piece and shared, not copied, with the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Bytes);

impl PeerState {
    pub(super) fn new(rank: u32, peer: &Peer) -> Self {
        PeerState {
            rank,
            unacked: peer.unacked.iter().map(FrameState::from).collect(),
            acked: peer.acked,
            accepted: peer.expected,
            used: peer.used,
            owed: peer.owed,
        }
    }
}

impl From<&Op> for RequestState {
    fn from(op: &Op) -> Self {
        match op {
            Op::Sent => RequestState::Sent,
            Op::Offered { to, span } => RequestState::Offered {
                to: *to,
                span: *span,
            },
            Op::Granted {
                to,
                span,
                recv_req,
                shipped,
            } => RequestState::Granted {
                to: *to,
                span: *span,
                recv_req: *recv_req,
                shipped: *shipped,
            },
            Op::Posted {
                pattern: Pattern { ctx, source, tag },
                receive,
                ..
            } => RequestState::Posted {
                ctx: *ctx,
                source: *source,
                tag: *tag,
                receive: *receive,
            },
            Op::Eager {
                origin,
                receive,
                data,
            } => RequestState::Eager {
                origin: *origin,
                receive: *receive,
                data: Blob(data.clone()),
            },
            Op::Bulk {
                origin,
                receive,
                len,
                chunks,
                ..
            } => RequestState::Bulk {
                origin: *origin,
                receive: *receive,
                len: *len,
                chunks: chunks.iter().cloned().map(Blob).collect(),
            },
        }
    }
}

impl From<RequestState> for Op {
    fn from(state: RequestState) -> Self {
        match state {
            RequestState::Sent => Op::Sent,
            RequestState::Offered { to, span } => Op::Offered { to, span },
            RequestState::Granted {
                to,
                span,
                recv_req,
                shipped,
            } => Op::Granted {
                to,
                span,
                recv_req,
                shipped,
            },
            RequestState::Posted {
                ctx,
                source,
                tag,
                receive,
            } => {
                // Stamps begin at 1: this one is not posted yet.
                Op::Posted {
                    pattern: Pattern { ctx, source, tag },
                    at: 0,
                    receive,
                }
            }
            RequestState::Eager {
                origin,
                receive,
                data,
            } => Op::Eager {
                origin,
                receive,
                data: data.0,
            },
            RequestState::Bulk {
                origin,
                receive,
                len,
                chunks,
            } => {
                let mut op = Op::Bulk {
                    origin,
                    receive,
                    len,
                    got: 0,
                    chunks: Vec::new(),
                };
                for Blob(chunk) in chunks {
                    op.fill(chunk);
                }
                op
            }
        }
    }
}

impl From<&Message> for MessageState {
    fn from(message: &Message) -> Self {
        let Message {
            ctx,
            source,
            tag,
            ref content,
        } = *message;
        match content {
            Content::Here(data) => MessageState::Here {
                ctx,
                source,
                tag,
                data: Blob(data.clone()),
            },
            Content::There { len, send_req } => MessageState::There {
                ctx,
                source,
                tag,
                len: *len,
                send_req: *send_req,
            },
        }
    }
}

impl From<MessageState> for Message {
    fn from(state: MessageState) -> Self {
        match state {
            MessageState::Here {
                ctx,
                source,
                tag,
                data,
            } => Message {
                ctx,
                source,
                tag,
                content: Content::Here(data.0),
            },
            MessageState::There {
                ctx,
                source,
                tag,
                len,
                send_req,
            } => Message {
                ctx,
                source,
                tag,
                content: Content::There { len, send_req },
            },
        }
    }
}

impl From<&Body> for FrameState {
    fn from(body: &Body) -> Self {
        match body.clone() {
            Body::Eager { ctx, tag, data } => FrameState::Eager {
                ctx,
                tag,
                data: Blob(data),
            },
            Body::Rts {
                ctx,
                tag,
                len,
                send_req,
            } => FrameState::Rts {
                ctx,
                tag,
                len,
                send_req,
            },
            Body::Cts {
                send_req,
                recv_req,
                len,
            } => FrameState::Cts {
                send_req,
                recv_req,
                len,
            },
            Body::Data { recv_req, data } => FrameState::Data {
                recv_req,
                data: Blob(data),
            },
            Body::Credit { bytes, messages } => FrameState::Credit { bytes, messages },
        }
    }
}

impl From<FrameState> for Body {
    fn from(state: FrameState) -> Self {
        match state {
            FrameState::Eager { ctx, tag, data } => Body::Eager {
                ctx,
                tag,
                data: data.0,
            },
            FrameState::Rts {
                ctx,
                tag,
                len,
                send_req,
            } => Body::Rts {
                ctx,
                tag,
                len,
                send_req,
            },
            FrameState::Cts {
                send_req,
                recv_req,
                len,
            } => Body::Cts {
                send_req,
                recv_req,
                len,
            },
            FrameState::Data { recv_req, data } => Body::Data {
                recv_req,
                data: data.0,
            },
            FrameState::Credit { bytes, messages } => Body::Credit { bytes, messages },
        }
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Piece;
        impl Visitor<'_> for Piece {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Piece)
    }
}
