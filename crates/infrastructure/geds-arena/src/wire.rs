//! What clients and the agent say to each other.
//!
//! Packets are parsed here, once; what a client says is a wish until the agent has checked it against what it knows. `Hello` and `Refused`
//! are understood by every version; all else may change with it.

use geds_core::extents::{Extent, PAGE_BYTES};
use geds_core::sums::CHUNK_BYTES;
use geds_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::socket::FDS_MAX;

pub(crate) const VERSION: u16 = 1;

pub(crate) const NAME_BYTES_MAX: usize = 4 << 10;
/// Of what is said with a seal, or of what was found.
pub const META_BYTES_MAX: usize = 8 << 10;
/// No more than descriptors can come with a packet.
pub(crate) const PLACES_MAX: usize = FDS_MAX;
/// So a client's object has at most 512 MiB.
pub(crate) const SUMS_MAX: usize = 8 << 10;
/// How much of an object is copied through the socket at a time.
pub(crate) const COPY_BYTES_MAX: usize = 32 << 10;

/// On the socket for requests: each is answered, before there is another one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request<'a> {
    Hello {
        version: u16,
        token: &'a [u8],
    },
    /// Pages to write to: at least `least` in one piece, if possible, and at most `most`.
    Lease {
        least: u32,
        most: u32,
    },
    Open {
        name: &'a [u8],
    },
    /// Bytes of an object that is not lent.
    Copy {
        name: &'a [u8],
        position: u64,
    },
    #[serde(borrow)]
    Seal(Seal<'a>),
    /// For who is above the arena.
    Ask {
        question: &'a [u8],
    },
    /// Answered when all that was told before is done.
    CatchUp,
    /// The client does not have these segments mapped any more.
    Unmapped {
        segments: Vec<u64>,
    },
}

/// On the other socket: none is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tell<'a> {
    #[serde(borrow)]
    Seal(Seal<'a>),
    /// What was lent as this is not needed any more.
    Done { slot: u32, generation: u32 },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal<'a> {
    pub name: &'a [u8],
    pub meta: &'a [u8],
    pub len: u64,
    pub places: Vec<Place>,
    /// CRC32C of each 64 KiB.
    pub sums: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub segment: u64,
    pub first: u32,
    pub pages: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply<'a> {
    Refused {
        kind: u8,
        what: &'a str,
    },
    /// With three descriptors: the other socket, the words of this client, the board of its domain.
    Welcome {
        version: u16,
        segment_bytes: u64,
        n_slots: u32,
        /// So much can be lent at a time.
        quota_bytes: u64,
    },
    /// With a descriptor of the segment, if the client has not had it.
    Leased(Place),
    Opened {
        slot: u32,
        generation: u32,
        len: u64,
        meta: &'a [u8],
        places: Vec<Place>,
        /// The segments whose descriptors come with this, in their order.
        segments: Vec<u64>,
    },
    /// It is to be copied.
    NotLent {
        is_over_quota: bool,
        object: u64,
        len: u64,
        meta: &'a [u8],
    },
    /// The rest of the packet is bytes of this object.
    Copied {
        object: u64,
    },
    Answer {
        answer: &'a [u8],
    },
}

/// The message that is all of a packet.
pub(crate) fn parse<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Result<T> {
    match parse_first(packet)? {
        (message, []) => Ok(message),
        _ => Err(Error::new(
            Kind::Invalid,
            "a packet is longer than its message",
        )),
    }
}

/// The message at the beginning of a packet, and the rest.
pub(crate) fn parse_first<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Result<(T, &'a [u8])> {
    let parsed = postcard::take_from_bytes(packet);
    parsed.map_err(|_| Error::new(Kind::Invalid, "a packet is not understood"))
}

pub(crate) fn packet(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages have known lengths")
}

impl Seal<'_> {
    /// Does it say one thing, and no more than is allowed? Whether it is true is another question.
    pub(crate) fn check(&self) -> Result<()> {
        let n_pages: u64 = self.places.iter().map(|place| u64::from(place.pages)).sum();
        let is_short = self.name.len() <= NAME_BYTES_MAX
            && self.meta.len() <= META_BYTES_MAX
            && self.places.len() <= PLACES_MAX
            && self.sums.len() <= SUMS_MAX;
        let is_consistent = n_pages == self.len.div_ceil(PAGE_BYTES)
            && self.sums.len() as u64 == self.len.div_ceil(CHUNK_BYTES);
        if is_short && is_consistent {
            Ok(())
        } else {
            Err(Error::new(
                Kind::Invalid,
                "no object can be sealed like this",
            ))
        }
    }
}

impl From<&Extent> for Place {
    fn from(extent: &Extent) -> Self {
        Self {
            segment: extent.segment.0,
            first: extent.first,
            pages: extent.pages,
        }
    }
}

impl Reply<'_> {
    pub(crate) fn refused<'a>(kind: Kind, what: &'a str) -> Reply<'a> {
        Reply::Refused {
            kind: code_of(kind),
            what,
        }
    }
}

fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 1,
        Kind::NotFound => 2,
        Kind::Conflict => 3,
        Kind::Exhausted => 4,
        Kind::Unavailable => 5,
        Kind::Corrupt => 6,
        Kind::Internal => 7,
        Kind::Denied => 8,
        Kind::Fenced => 9,
        Kind::Lost => 10,
    }
}

pub(crate) fn kind_of(code: u8) -> Kind {
    match code {
        1 => Kind::Invalid,
        2 => Kind::NotFound,
        3 => Kind::Conflict,
        4 => Kind::Exhausted,
        5 => Kind::Unavailable,
        6 => Kind::Corrupt,
        8 => Kind::Denied,
        9 => Kind::Fenced,
        10 => Kind::Lost,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests;
