//! What is to be somewhere else. Each is answered when it is there.

use super::shapes::TextsV1;
use super::{Op, decode, encode};
use crate::core::index::Name;
use crate::error::Result;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// On the disk of the node.
    Relocate(Name),
    /// In S3, under its name.
    Persist(Name),
    /// Whatever may leave memory, so that an object of so many bytes has room.
    MakeRoom(u64),
}

impl Move {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Relocate(name) => (Op::Relocate, encode(&TextsV1::from(name))),
            Self::Persist(name) => (Op::Persist, encode(&TextsV1::from(name))),
            Self::MakeRoom(bytes) => (Op::MakeRoom, encode(bytes)),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        let name = || decode::<TextsV1<'_>>(body)?.name();
        Ok(match op {
            Op::Relocate => Self::Relocate(name()?),
            Op::Persist => Self::Persist(name()?),
            _ => Self::MakeRoom(decode(body)?),
        })
    }
}
