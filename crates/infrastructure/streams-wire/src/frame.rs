//! Frames out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::{HEADER_BYTES, PAYLOAD_BYTES_MAX};

/// One command, not understood yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub type_id: i32,
    /// A part of the buffer it came in.
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    Frame(Frame),
    /// At least so many bytes have to come first. More than a header only after a header that may be believed; who reserves memory for them
    /// nevertheless bounds how much that is for peers that send nothing.
    Missing(usize),
}

/// What comes is not this protocol, and there is nothing to be understood any more on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of type {type_id} says that it has {length} bytes")]
    Negative { type_id: i32, length: i32 },
    #[error("a frame of type {type_id} has {length} bytes, but it may have {PAYLOAD_BYTES_MAX}")]
    TooLong { type_id: i32, length: i32 },
}

/// Takes one frame from the front of what was received, if it is there as a whole. If not, nothing changes.
///
/// # Errors
/// See [`FrameError`].
pub fn split(received: &mut BytesMut) -> Result<Split, FrameError> {
    let Some(mut header) = received.get(..HEADER_BYTES) else {
        return Ok(Split::Missing(HEADER_BYTES - received.len()));
    };
    let type_id = header.get_i32();
    let length = header.get_i32();
    let Ok(payload_bytes) = usize::try_from(length) else {
        return Err(FrameError::Negative { type_id, length });
    };
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLong { type_id, length });
    }
    let here = received.len() - HEADER_BYTES;
    if here < payload_bytes {
        return Ok(Split::Missing(payload_bytes - here));
    }
    received.advance(HEADER_BYTES);
    let payload = received.split_to(payload_bytes).freeze();
    Ok(Split::Frame(Frame { type_id, payload }))
}
