//! Writing objects: begun, written in pieces, and sealed.

use std::sync::Arc;

use geds_core::Result;
use geds_core::index::{Class, Entry, Name, NodeId};
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::shapes::{ClassV1, EntryV1, EtagV1, TextsV1, WhenV1};
use super::{Op, Reply, check_metadata, decode, encode};
use crate::{Terms, WriterToken};

/// What is said of one writer is done in the order in which it is said. After one thing has failed, so does all but its end.
#[derive(Clone, Debug)]
pub enum Write {
    /// `reserve`: how long the object will be, if that is known.
    Begin {
        writer: u32,
        reserve: u64,
    },
    /// The bytes are the frame's data. `None`: behind all that there is.
    Put {
        writer: u32,
        position: Option<u64>,
    },
    Truncate {
        writer: u32,
        len: u64,
    },
    Seal(Box<Seal>),
    /// Gives it up, or lets go of it if it was detached.
    Abort {
        writer: u32,
    },
    /// From now on it outlives its writer. Answered with a [`WriterToken`].
    Detach {
        writer: u32,
    },
    /// Goes on with what was detached. Answered with [`Written`].
    Attach {
        writer: u32,
        token: WriterToken,
        epoch: Epoch,
    },
}

#[derive(Clone, Debug)]
pub struct Seal {
    pub writer: u32,
    pub name: Name,
    pub class: Class,
    pub terms: Terms,
}

impl Write {
    pub fn writer(&self) -> u32 {
        match self {
            Self::Begin { writer, .. }
            | Self::Put { writer, .. }
            | Self::Truncate { writer, .. }
            | Self::Abort { writer }
            | Self::Detach { writer }
            | Self::Attach { writer, .. } => *writer,
            Self::Seal(seal) => seal.writer,
        }
    }

    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Begin { writer, reserve } => (Op::Begin, encode(&(writer, reserve))),
            Self::Put { writer, position } => (Op::Write, encode(&(writer, position))),
            Self::Truncate { writer, len } => (Op::Truncate, encode(&(writer, len))),
            Self::Seal(seal) => (Op::Seal, encode(&SealV1::from(&**seal))),
            Self::Abort { writer } => (Op::Abort, encode(writer)),
            Self::Detach { writer } => (Op::Detach, encode(writer)),
            Self::Attach {
                writer,
                token,
                epoch,
            } => (Op::AttachWriter, encode(&(writer, token.0, epoch.0))),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        Ok(match op {
            Op::Begin => {
                let (writer, reserve) = decode(body)?;
                Self::Begin { writer, reserve }
            }
            Op::Write => {
                let (writer, position) = decode(body)?;
                Self::Put { writer, position }
            }
            Op::Truncate => {
                let (writer, len) = decode(body)?;
                Self::Truncate { writer, len }
            }
            Op::Seal => Self::Seal(Box::new(decode::<SealV1<'_>>(body)?.parse()?)),
            Op::Detach => Self::Detach {
                writer: decode(body)?,
            },
            Op::AttachWriter => {
                let (writer, token, epoch) = decode(body)?;
                Self::Attach {
                    writer,
                    token: WriterToken(token),
                    epoch: Epoch(epoch),
                }
            }
            _ => Self::Abort {
                writer: decode(body)?,
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct SealV1<'a> {
    writer: u32,
    #[serde(borrow)]
    name: TextsV1<'a>,
    class: ClassV1,
    terms: TermsV1<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TermsV1<'a> {
    #[serde(borrow)]
    when: WhenV1<'a>,
    metadata: &'a [u8],
    expires_at_ms: Option<u64>,
    readers: u32,
    etag: Option<EtagV1<'a>>,
}

impl<'a> From<&'a Terms> for TermsV1<'a> {
    fn from(terms: &'a Terms) -> Self {
        Self {
            when: (&terms.when).into(),
            metadata: &terms.metadata,
            expires_at_ms: terms.expires_at_ms,
            readers: terms.readers,
            etag: terms.etag.as_ref().map(EtagV1::from),
        }
    }
}

impl TermsV1<'_> {
    pub(super) fn parse(self) -> Result<Terms> {
        check_metadata(self.metadata)?;
        Ok(Terms {
            when: self.when.parse()?,
            metadata: self.metadata.into(),
            expires_at_ms: self.expires_at_ms,
            readers: self.readers,
            etag: self.etag.map(|etag| etag.parse()).transpose()?,
        })
    }
}

impl<'a> From<&'a Seal> for SealV1<'a> {
    fn from(seal: &'a Seal) -> Self {
        Self {
            writer: seal.writer,
            name: (&seal.name).into(),
            class: seal.class.into(),
            terms: (&seal.terms).into(),
        }
    }
}

impl SealV1<'_> {
    fn parse(self) -> Result<Seal> {
        Ok(Seal {
            writer: self.writer,
            name: self.name.name()?,
            class: self.class.into(),
            terms: self.terms.parse()?,
        })
    }
}

/// What a name stands for from now on, and what would lose that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedAs {
    pub entry: Arc<Entry>,
    /// The end of this incarnation of a node does. `None`: no end of a node does, it is durable.
    pub lost_with: Option<(NodeId, Epoch)>,
}

impl Reply for SealedAs {
    fn encode(&self) -> Vec<u8> {
        let lost_with = self.lost_with.map(|(node, epoch)| (node.0, epoch.0));
        encode(&(EntryV1::from(&*self.entry), lost_with))
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let (entry, lost_with): (EntryV1<'_>, Option<(u32, u64)>) = decode(body)?;
        Ok(Self {
            entry: entry.parse()?,
            lost_with: lost_with.map(|(node, epoch)| (NodeId(node), Epoch(epoch))),
        })
    }
}

impl Reply for WriterToken {
    fn encode(&self) -> Vec<u8> {
        encode(&self.0)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        decode(body).map(Self)
    }
}

/// What there is of an object that is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// In bytes.
    pub len: u64,
}

impl Reply for Written {
    fn encode(&self) -> Vec<u8> {
        encode(&self.len)
    }

    fn parse(body: &[u8]) -> Result<Self> {
        let len = decode(body)?;
        Ok(Self { len })
    }
}
