//! What the index knows of a name, and of the data behind it.

use std::sync::Arc;

use ids::Epoch;

use super::few::Few;
use super::names::{ConsumerId, Etag, Name, NodeId, ObjectId, Revision};

/// Facts of sealed data. They never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub id: ObjectId,
    pub size: u64,
    pub etag: Etag,
    pub class: Class,
}

/// What the acknowledgement of the seal has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The end of a node loses it, the end of a process does not.
    Ephemeral,
    /// A copy was synced to a disk, or in S3.
    Durable,
}

/// What a name says. Names that were made by copying share the data, and nothing else; the facts are few enough to be told by each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When this name was given this data: it only grows, also over deletion.
    pub generation: Revision,
    /// Since 1970: when this data was sealed or copied to a name, as whoever did it says. Renaming keeps it, as file systems do.
    pub modified_at_ms: u64,
    pub sealed: Sealed,
    /// For users only.
    pub metadata: Box<[u8]>,
    pub hints: Hints,
}

/// What its users have said about its future.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Since 1970.
    pub expires_at_ms: Option<u64>,
    /// So many consumers are expected; 0: unknown.
    pub readers: u32,
    /// Those that have read it to its end, in order.
    pub consumers: Box<[ConsumerId]>,
}

impl Hints {
    /// Nobody needs it any more, as far as is known: it is a first victim when room is needed, and not before.
    #[must_use]
    pub fn is_spent(&self, now_ms: u64) -> bool {
        let is_consumed = self.readers > 0 && self.consumers.len() >= self.readers as usize;
        is_consumed || self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

/// A place that holds all of an object's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Residency {
    Dram(NodeId),
    Disk(NodeId),
    /// Under the name that the object had when it was persisted: renaming does not touch S3.
    S3(Arc<InS3>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InS3 {
    pub name: Name,
    pub etag: Etag,
}

impl Residency {
    /// `None`: S3.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Dram(node) | Self::Disk(node) => Some(*node),
            Self::S3(_) => None,
        }
    }

    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Dram(_))
    }
}

/// Data that at least one name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// At least one, but while a record is carried out.
    pub(crate) names: Few<Name>,
    pub(crate) placement: Placement,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// There is a copy at each of these places.
    At(Few<Residency>),
    /// No copy is known any more. A copy that turns up later makes it live again.
    Lost(Loss),
}

/// Why the last copy is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It was there, and that incarnation of the node has ended.
    Node { node: NodeId, epoch: Epoch },
    /// It was damaged.
    Corrupt,
}

impl Object {
    /// At least one.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }
}

impl Placement {
    /// None when it is lost.
    #[must_use]
    pub fn copies(&self) -> &[Residency] {
        match self {
            Self::At(copies) => copies,
            Self::Lost(_) => &[],
        }
    }

    pub(crate) fn add(&mut self, copy: Residency) {
        match self {
            Self::At(copies) => copies.insert(copy),
            Self::Lost(_) => *self = Self::At([copy].into_iter().collect()),
        }
    }

    /// `false`: none of its copies is lost.
    pub(crate) fn lose(&mut self, is_lost: impl Fn(&Residency) -> bool, loss: Loss) -> bool {
        if !self.copies().iter().any(&is_lost) {
            return false;
        }
        let kept: Few<_> = self
            .copies()
            .iter()
            .filter(|copy| !is_lost(copy))
            .cloned()
            .collect();
        *self = if kept.is_empty() {
            Self::Lost(loss)
        } else {
            Self::At(kept)
        };
        true
    }

    /// S3 does not have it.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.copies().iter().any(|copy| copy.node().is_none())
    }
}
