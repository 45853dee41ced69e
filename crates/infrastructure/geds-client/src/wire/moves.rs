//! What is to be somewhere else. Each is answered when it is there.

use geds_core::Result;
use geds_core::index::Name;
use serde::{Deserialize, Serialize};

use super::shapes::TextsV1;
use super::{Op, Reply, decode, encode};
use crate::Condition;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// On the disk of the node.
    Relocate(Name),
    /// In S3, under its name.
    Persist(Name),
    /// Whatever may leave memory, so that a process can write and seal an object of so many bytes.
    MakeRoom(u64),
    /// Nothing, unless it is damaged on the disk.
    Scrub(Name),
}

impl Move {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::Relocate(name) => (Op::Relocate, encode(&TextsV1::from(name))),
            Self::Persist(name) => (Op::Persist, encode(&TextsV1::from(name))),
            Self::Scrub(name) => (Op::Scrub, encode(&TextsV1::from(name))),
            Self::MakeRoom(bytes) => (Op::MakeRoom, encode(bytes)),
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        let name = || decode::<TextsV1<'_>>(body)?.name();
        Ok(match op {
            Op::Relocate => Self::Relocate(name()?),
            Op::Persist => Self::Persist(name()?),
            Op::Scrub => Self::Scrub(name()?),
            _ => Self::MakeRoom(decode(body)?),
        })
    }
}

#[derive(Serialize, Deserialize)]
enum ConditionV1 {
    Whole,
    Repaired,
    Lost,
    Unreadable,
}

/// To a scrub.
impl Reply for Condition {
    fn encode(&self) -> Vec<u8> {
        encode(&match self {
            Self::Whole => ConditionV1::Whole,
            Self::Repaired => ConditionV1::Repaired,
            Self::Lost => ConditionV1::Lost,
            Self::Unreadable => ConditionV1::Unreadable,
        })
    }

    fn parse(body: &[u8]) -> Result<Self> {
        Ok(match decode(body)? {
            ConditionV1::Whole => Self::Whole,
            ConditionV1::Repaired => Self::Repaired,
            ConditionV1::Lost => Self::Lost,
            ConditionV1::Unreadable => Self::Unreadable,
        })
    }
}
