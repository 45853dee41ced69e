//! Where else an object is to be. Each is answered when it is durable there.

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
}

impl Move {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Relocate(name) => (Op::Relocate, encode(&TextsV1::from(name))),
            Self::Persist(name) => (Op::Persist, encode(&TextsV1::from(name))),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        let name = decode::<TextsV1<'_>>(body)?.name()?;
        Ok(match op {
            Op::Relocate => Self::Relocate(name),
            _ => Self::Persist(name),
        })
    }
}
