//! What was decided: a change that only has to be done. Its bytes are in `disk/record.rs`.

use bytes::Bytes;
use ids::Epoch;

use crate::attributes::Values;
use crate::names::{SegmentId, SegmentName, Seq};
use crate::segment::Kind;

/// A record as it is written: the parts, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub header: Bytes,
    pub payload: Bytes,
}

impl Encoded {
    /// For `DurableLog::append`.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.header, &self.payload]
    }

    /// Of both parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.header.len() + self.payload.len()) as u64
    }

    /// Where in the record its payload begins.
    pub(crate) fn payload_at(&self) -> u64 {
        self.header.len() as u64
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: Seq,
    /// When it was proposed, since 1970.
    pub(crate) at_ms: u64,
    pub(crate) body: Body,
}

/// What changes. Conditions have been looked at, and sums have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A new owner begins. Nobody has transient segments any more.
    Opened(Epoch),
    Created {
        id: SegmentId,
        name: SegmentName,
        kind: Kind,
        attributes: Values,
    },
    Appended {
        id: SegmentId,
        offset: u64,
        attributes: Values,
        data: Bytes,
    },
    Sealed(SegmentId),
    Truncated {
        id: SegmentId,
        start: u64,
    },
    Merged {
        target: SegmentId,
        offset: u64,
        /// In this order, each without a gap behind the one before.
        sources: Vec<SegmentId>,
        attributes: Values,
    },
    AttributesSet {
        id: SegmentId,
        attributes: Values,
    },
    Deleted(SegmentId),
    TableChanged {
        id: SegmentId,
        offset: u64,
        entries: Bytes,
    },
    Stored {
        id: SegmentId,
        to: u64,
    },
}

impl Body {
    /// Which segment it is about, and lives on.
    pub(crate) fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::Opened(_) | Self::Deleted(_) => None,
            Self::Created { id, .. }
            | Self::Appended { id, .. }
            | Self::Sealed(id)
            | Self::Truncated { id, .. }
            | Self::Merged { target: id, .. }
            | Self::AttributesSet { id, .. }
            | Self::TableChanged { id, .. }
            | Self::Stored { id, .. } => Some(*id),
        }
    }

    /// What lies behind the fields.
    pub(crate) fn payload(&self) -> Bytes {
        match self {
            Self::Appended { data, .. } => data.clone(),
            Self::TableChanged { entries, .. } => entries.clone(),
            _ => Bytes::new(),
        }
    }

    /// Whether bytes of a segment lie in it. Those of a table are looked at when they are applied, and never again.
    pub(crate) fn has_content(&self) -> bool {
        matches!(self, Self::Appended { data, .. } if !data.is_empty())
    }
}
