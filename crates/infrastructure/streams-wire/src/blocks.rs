//! Appends, most of which come in two frames.
//!
//! A client does not know how much it is going to append when it begins: it announces a block of some length, writes into it, and says behind it
//! what it was. Where its events end before the block does, zeros follow; where the last one does not fit, its rest comes with the end:
//!
//! ```text
//!  AppendBlock(writer):  whole events                                    AppendBlockEnd(writer, length of whole events, "")
//!  AppendBlock(writer):  whole events | Padding: zeros                   AppendBlockEnd(writer, length of whole events, "")
//!  AppendBlock(writer):  whole events | PartialEvent: how it begins      AppendBlockEnd(writer, length of whole events, how it goes on)
//!                                                                        AppendBlockEnd(writer, length of data, data)
//! ```
//!
//! One without a block is how the client in Rust appends. Between a block and its end nothing comes that is about appends, of any writer; what
//! is not about appends may.
//!
//! "Events" is the word of the protocol. The bytes need not be events, and their number need not be one of events: a byte stream is appended
//! in the same way, and an append may even be empty. Where a segment is known to hold events, ask [`events`](crate::events).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::field::{Field, Input, to_i32};
use crate::limits::{FRAME_BYTES_MAX, HEADER_BYTES};
use crate::requests::{AppendBlockEnd, ConditionalAppend, ConditionalBlockEnd, Request};
use crate::{EncodeError, Flaw, Outgoing};

/// Begins an append; its end follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendBlock {
    pub writer_id: u128,
    /// To the end of the frame.
    pub data: Bytes,
}

/// So many zeros. Between other requests it means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding {
    pub n_bytes: usize,
}

/// What a block has behind its whole events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    Nothing,
    /// So many zeros, and the header of a frame before them.
    Padding(usize),
    /// How an event begins, header and all.
    PartialEvent(Bytes),
}

/// What a writer appends, of whatever frames it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub writer_id: u128,
    pub request_id: i64,
    pub data: Pieces,
    /// At least one: so many are counted, and acknowledged by the last one's number.
    pub n_events: u32,
    pub last_event_number: i64,
    /// The length that the segment must have.
    pub expected_offset: Option<i64>,
}

/// Bytes in up to three pieces, as they were received.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pieces([Bytes; 3]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    Append(Append),
    /// It is not about appends.
    Other(Request),
    /// The rest comes with the next request, or there is nothing to do.
    Nothing,
}

/// What was sent are no appends. Where the next one would begin is not known: the connection has to end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    #[error("{command} comes between a block and its end")]
    WithinBlock { command: &'static str },
    #[error("the block of writer {began:032x} is ended by writer {ended:032x}")]
    OtherWriter { began: u128, ended: u128 },
    #[error("an append of {0} events")]
    NoEvents(i32),
    #[error("{claimed} bytes of whole events, where {there} bytes are")]
    Size { claimed: i32, there: usize },
    #[error("{bytes} bytes follow the end of a block, although no event began in it")]
    Superfluous { bytes: usize },
    #[error(
        "behind its events a block has something other than one padding, or the beginning of one event"
    )]
    Tail,
}

/// Joins what came in several frames. It keeps at most one frame, that of a block that has not ended.
///
/// | state    | request                                | next     | effect |
/// |----------|----------------------------------------|----------|--------|
/// | outside  | `AppendBlock`                          | in block | |
/// | outside  | `AppendBlockEnd`, `Conditional…`       | outside  | an append |
/// | in block | `AppendBlockEnd` of the same writer    | outside  | an append |
/// | in block | another one about appends, `Padding`   | outside  | an error |
/// | any      | another one                            | the same | passed on |
#[derive(Debug, Default)]
pub struct Joiner {
    block: Option<AppendBlock>,
}

impl Joiner {
    /// A block has not ended.
    #[must_use]
    pub fn is_in_block(&self) -> bool {
        self.block.is_some()
    }

    /// # Errors
    /// See [`JoinError`].
    pub fn join(&mut self, request: Request) -> Result<Joined, JoinError> {
        match (self.block.take(), request) {
            (block, Request::AppendBlockEnd(end)) => Append::ended(block, end).map(Joined::Append),
            (None, Request::AppendBlock(block)) => {
                self.block = Some(block);
                Ok(Joined::Nothing)
            }
            (None, Request::ConditionalAppend(append)) => Ok(Joined::Append(append.into())),
            (None, Request::ConditionalBlockEnd(append)) => Ok(Joined::Append(append.into())),
            (None, Request::Padding(_)) => Ok(Joined::Nothing),
            (
                Some(_),
                request @ (Request::SetupAppend(_)
                | Request::AppendBlock(_)
                | Request::ConditionalAppend(_)
                | Request::ConditionalBlockEnd(_)
                | Request::Padding(_)),
            ) => {
                let command = request.name();
                Err(JoinError::WithinBlock { command })
            }
            (block, other) => {
                self.block = block;
                Ok(Joined::Other(other))
            }
        }
    }
}

impl Append {
    fn ended(block: Option<AppendBlock>, end: AppendBlockEnd) -> Result<Self, JoinError> {
        let n_events = match u32::try_from(end.num_events) {
            Ok(0) | Err(_) => return Err(JoinError::NoEvents(end.num_events)),
            Ok(n_events) => n_events,
        };
        let there = block
            .as_ref()
            .map_or(end.data.len(), |block| block.data.len());
        let claimed = end.size_of_whole_events;
        let size = match usize::try_from(claimed) {
            Ok(size) if size <= there => size,
            _ => return Err(JoinError::Size { claimed, there }),
        };
        let data = match block {
            None if size < there => return Err(JoinError::Size { claimed, there }),
            None => Pieces::from(end.data),
            Some(block) if block.writer_id != end.writer_id => {
                return Err(JoinError::OtherWriter {
                    began: block.writer_id,
                    ended: end.writer_id,
                });
            }
            Some(block) => Pieces::of_block(block.data, size, end.data)?,
        };
        Ok(Self {
            writer_id: end.writer_id,
            request_id: end.request_id,
            data,
            n_events,
            last_event_number: end.last_event_number,
            expected_offset: None,
        })
    }
}

impl From<ConditionalAppend> for Append {
    fn from(append: ConditionalAppend) -> Self {
        Self {
            writer_id: append.writer_id,
            request_id: append.request_id,
            data: append.event.framed().clone().into(),
            n_events: 1,
            last_event_number: append.event_number,
            expected_offset: Some(append.expected_offset),
        }
    }
}

/// It counts as one event, however many it has.
impl From<ConditionalBlockEnd> for Append {
    fn from(append: ConditionalBlockEnd) -> Self {
        Self {
            writer_id: append.writer_id,
            request_id: append.request_id,
            data: append.data.into(),
            n_events: 1,
            last_event_number: append.event_number,
            expected_offset: Some(append.expected_offset),
        }
    }
}

impl Pieces {
    /// `size` is at most the length of the block.
    fn of_block(mut block: Bytes, size: usize, end: Bytes) -> Result<Self, JoinError> {
        let whole = block.split_to(size);
        match Tail::parse(block)? {
            Tail::PartialEvent(begun) => Ok(Self([whole, begun, end])),
            Tail::Nothing | Tail::Padding(_) if end.is_empty() => Ok(whole.into()),
            // Without a padding upstream drops these bytes, and acknowledges them.
            Tail::Nothing | Tail::Padding(_) => Err(JoinError::Superfluous { bytes: end.len() }),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// In order, those that have bytes.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().filter(|piece| !piece.is_empty())
    }

    /// To be read in order.
    #[must_use]
    pub fn buf(&self) -> impl Buf {
        let [first, second, third] = self.0.each_ref().map(|piece| &piece[..]);
        first.chain(second).chain(third)
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self([bytes, Bytes::new(), Bytes::new()])
    }
}

impl Tail {
    /// One frame to the end of the block, no more and no less. Upstream passes over bytes behind it; but nobody sends any, and what is passed over
    /// is lost.
    fn parse(tail: Bytes) -> Result<Self, JoinError> {
        if tail.is_empty() {
            return Ok(Self::Nothing);
        }
        let mut input = Input(tail);
        let type_id = i32::take(&mut input);
        let length = input.length();
        match (type_id, length) {
            (Ok(PADDING_TYPE_ID), Ok(length)) if length == input.0.len() => {
                Ok(Self::Padding(length))
            }
            (Ok(PARTIAL_EVENT_TYPE_ID), Ok(length)) if length == input.0.len() => {
                Ok(Self::PartialEvent(input.0))
            }
            _ => Err(JoinError::Tail),
        }
    }

    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Nothing => {}
            Self::Padding(n_bytes) => {
                out.put_i32(PADDING_TYPE_ID);
                out.put_i32(to_i32(*n_bytes));
                out.put_bytes(0, *n_bytes);
            }
            Self::PartialEvent(begun) => {
                out.put_i32(PARTIAL_EVENT_TYPE_ID);
                out.put_i32(to_i32(begun.len()));
                out.put_slice(begun);
            }
        }
    }
}

impl AppendBlock {
    /// # Errors
    /// `Frame`: no frame can carry so many bytes.
    pub fn new(writer_id: u128, whole_events: &[u8], tail: &Tail) -> Result<Self, EncodeError> {
        let tail_bytes = match tail {
            Tail::Nothing => 0,
            Tail::Padding(n_bytes) => HEADER_BYTES + n_bytes,
            Tail::PartialEvent(begun) => HEADER_BYTES + begun.len(),
        };
        let bytes = HEADER_BYTES + Self::BYTES_MIN + whole_events.len() + tail_bytes;
        if bytes > FRAME_BYTES_MAX {
            let command = "AppendBlock";
            return Err(EncodeError::Frame { command, bytes });
        }
        let mut data = BytesMut::with_capacity(whole_events.len() + tail_bytes);
        data.put_slice(whole_events);
        tail.put(&mut data);
        let data = data.freeze();
        Ok(Self { writer_id, data })
    }
}

impl Field for AppendBlock {
    const BYTES_MIN: usize = u128::BYTES_MIN;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(Self::BYTES_MIN + self.data.len())
    }

    fn put(&self, out: &mut Outgoing) {
        self.writer_id.put(out);
        out.put_shared(&self.data);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let writer_id = u128::take(input)?;
        let data = input.0.split_off(0);
        Ok(Self { writer_id, data })
    }
}

impl Field for Padding {
    const BYTES_MIN: usize = 0;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(self.n_bytes)
    }

    fn put(&self, out: &mut Outgoing) {
        out.put_zeros(self.n_bytes);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let n_bytes = input.0.len();
        input.0.clear();
        Ok(Self { n_bytes })
    }
}

const PADDING_TYPE_ID: i32 = -1;
const PARTIAL_EVENT_TYPE_ID: i32 = -2;

/// Of what stands in blocks only.
pub(crate) fn name_of(type_id: i32) -> Option<&'static str> {
    match type_id {
        PARTIAL_EVENT_TYPE_ID => Some("PartialEvent"),
        crate::shapes::EVENT_TYPE_ID => Some("Event"),
        _ => None,
    }
}

#[cfg(test)]
mod any {
    use super::*;
    use crate::any::{Any, Source};

    impl Any for AppendBlock {
        fn any(source: &mut Source) -> Self {
            Self {
                writer_id: Any::any(source),
                data: Any::any(source),
            }
        }
    }

    impl Any for Padding {
        fn any(source: &mut Source) -> Self {
            let n_bytes = source.below(20);
            Self { n_bytes }
        }
    }
}

#[cfg(test)]
mod tests;
