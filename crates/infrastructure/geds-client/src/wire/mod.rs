//! The node protocol: what processes and nodes say to a node to use all of its store. Only the bytes: no sockets here.
//!
//! ```text
//!  frame = header (32 bytes, little-endian), body (postcard of what the operation says), data (bytes of objects)
//!
//!  magic "GEDS" | version u8 | op u8 | flags u16 | request u64 | status u16 | 0 u16 | body bytes u32 | data bytes u64
//! ```
//!
//! - Each request has a number that its answers carry. Many may be under way; only those about the same writer or the same open object are
//!   carried out in their order.
//! - An answer has the operation of its request, the flag 1, and a status: 0, or the kind of an error, whose text is the body then.
//! - Who reads asks for no more than it has room for, piece by piece: so nobody has to hold back what another one waits for.
//! - Writers and open objects have numbers that the client chooses: it need not wait for the node to go on.
//! - Before all, both sides prove that they know the secret of a user ([`proof`]).
//!
//! All of it is hostile until it is parsed, here and once. Lengths are bounded before anything is taken from memory for them. A variant or field
//! is never changed or removed within a version, and a new variant goes last; anything else is a new version.
//!
//! An operation is added within a version too, behind the last one. A node that does not know it answers `Invalid`, and goes on. Those of version 1
//! are at first 1 to 25; added are 26 `Relocate` and 27 `Persist`: the body is a name, and the answer has none; and 28 `Attach`, which has
//! no body: the answer says how a process of the same machine comes to the node's memory ([`local`]); and 29 `MakeRoom`: the body is a number of
//! bytes, and the answer has none; and 30 `Scrub`: the body is a name, and the answer a [`Condition`](crate::Condition).
//! 31 to 37 are spoken among the nodes of a site only ([`site`]): `Join`, `Names`, `Follow`, `Commit`, `Confirm`, `Leave`, and `Hold`, which opens an
//! object by its number. 38 `Detach` and 39 `AttachWriter` are about a [`WriterToken`](crate::WriterToken).

mod change;
mod header;
mod hello;
mod local;
mod look;
mod moves;
pub mod proof;
mod read;
mod shapes;
pub mod site;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use geds_core::{Error, Kind, Result, index};
use serde::{Deserialize, Serialize};

pub use self::change::Change;
pub use self::header::{HEADER_BYTES, Header, Op};
pub use self::hello::{Challenge, HELLO_BODY_BYTES_MAX, Hello, Prove, Welcome};
pub use self::local::{Attached, Token, local_name, name_of};
pub use self::look::{Buckets, Listed, Look, PAGE_BYTES, Statistics};
pub use self::moves::Move;
pub use self::read::{Found, Read};
pub use self::site::Site;
pub use self::watch::{EVENTS_MAX, Watch};
pub use self::watch::{Event, Position, Watched};
pub use self::write::{Seal, SealedAs, Write, Written};

/// Of the body of a frame: what is said beside the bytes of objects.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// Of the data of a frame.
pub const DATA_BYTES_MAX: usize = 4 << 20;
/// Of the metadata of an object.
pub const METADATA_BYTES_MAX: usize = 1 << 20;
/// Of the text of an error. More is cut off.
pub const ERROR_BYTES_MAX: usize = 4 << 10;

/// What a client may ask once it is known.
#[derive(Clone, Debug)]
pub enum Request {
    /// Answered from the index.
    Look(Look),
    /// Changes the index.
    Change(Change),
    Read(Read),
    Write(Write),
    Watch(Watch),
    /// Brings an object to where it is not yet.
    Move(Move),
    /// Of a member of the site.
    Site(Site),
    /// The request of that number need not be answered any more. It is answered itself.
    Cancel(u64),
}

impl Request {
    pub fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Look(look) => look.encode(),
            Self::Change(change) => change.encode(),
            Self::Read(read) => read.encode(),
            Self::Write(write) => write.encode(),
            Self::Watch(watch) => (Op::Watch, watch.encode()),
            Self::Move(what) => what.encode(),
            Self::Site(site) => site.encode(),
            Self::Cancel(request) => (Op::Cancel, encode(request)),
        }
    }

    /// # Errors
    /// `Invalid`. The frames that follow can be understood nevertheless.
    pub fn parse(op: u8, body: &[u8]) -> Result<Self> {
        let op = Op::parse(op)?;
        Ok(match op {
            Op::Hello | Op::Prove => {
                return Err(Error::new(Kind::Invalid, "who asks is known already"));
            }
            Op::Buckets | Op::Status | Op::List | Op::Statistics | Op::Attach => {
                Self::Look(Look::parse(op, body)?)
            }
            Op::Open | Op::Read | Op::Close | Op::Hold => Self::Read(Read::parse(op, body)?),
            Op::Begin
            | Op::Write
            | Op::Truncate
            | Op::Seal
            | Op::Abort
            | Op::Detach
            | Op::AttachWriter => Self::Write(Write::parse(op, body)?),
            Op::Watch => Self::Watch(Watch::parse(body)?),
            Op::Relocate | Op::Persist | Op::MakeRoom | Op::Scrub => {
                Self::Move(Move::parse(op, body)?)
            }
            Op::Join | Op::Names | Op::Follow | Op::Commit | Op::Confirm | Op::Leave => {
                Self::Site(Site::parse(op, body)?)
            }
            Op::Cancel => Self::Cancel(decode(body)?),
            _ => Self::Change(Change::parse(op, body)?),
        })
    }
}

/// What an answer without an error says, beside the bytes of objects; and what else is a whole message.
pub trait Reply: Sized {
    fn encode(&self) -> Vec<u8>;
    /// # Errors
    /// `Invalid`.
    fn parse(body: &[u8]) -> Result<Self>;
}

/// It is done.
impl Reply for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn parse(body: &[u8]) -> Result<Self> {
        decode(body)
    }
}

/// What went wrong, with its causes, as the body of an answer.
pub(crate) fn describe(error: &Error) -> Vec<u8> {
    told(error).into_bytes()
}

/// The same in words.
#[must_use]
pub fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

/// What went wrong elsewhere.
pub fn error(kind: Kind, body: &[u8]) -> Error {
    let body = body.get(..ERROR_BYTES_MAX).unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    let is_odd = |c: char| c.is_control();
    Error::new(kind, text.replace(is_odd, " "))
}

fn encode(shape: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(shape).expect("memory takes all that has a length")
}

/// The shape that is all of a body.
fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    match postcard::take_from_bytes(body) {
        Ok((shape, [])) => Ok(shape),
        _ => Err(Error::new(
            Kind::Invalid,
            "the body of a frame is not understood",
        )),
    }
}

fn check_metadata(metadata: &[u8]) -> Result<()> {
    if metadata.len() <= METADATA_BYTES_MAX {
        Ok(())
    } else {
        let max = METADATA_BYTES_MAX;
        Err(index::Error::Limit {
            what: "bytes of metadata",
            max,
        }
        .into())
    }
}
