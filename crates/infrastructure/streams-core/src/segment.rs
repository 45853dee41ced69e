//! One segment: what is known of it, all proposals included.

use std::ops::RangeInclusive;

use crate::attributes::Attributes;
use crate::content::Content;
use crate::names::{ConnectionId, SegmentId, SegmentName, Seq};
use crate::table::Table;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stream,
    /// Gone with its connection, and with the owner of the container.
    Transient(ConnectionId),
    Table(KeyLength),
}

/// How long the keys of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLength {
    Any,
    Bytes(u16),
}

impl KeyLength {
    /// What [`KeyLength::Bytes`] may say.
    pub const BYTES: RangeInclusive<u16> = 1..=256;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) kind: Kind,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) is_sealed: bool,
    pub(crate) attributes: Attributes,
    /// Nothing if it is a table.
    pub(crate) content: Content,
    /// It has one if it is of that kind.
    pub(crate) table: Option<Table>,
    /// Since 1970.
    pub(crate) modified_at_ms: u64,
    /// The last record that has changed it.
    pub(crate) changed: Seq,
}

/// No segment is longer: offsets stay numbers with a sign, as clients have them.
pub(crate) const LENGTH_MAX: u64 = 1 << 62;

impl Segment {
    pub(crate) fn new(name: SegmentName, kind: Kind) -> Self {
        let table = match kind {
            Kind::Table(_) => Some(Table::default()),
            Kind::Stream | Kind::Transient(_) => None,
        };
        Self {
            name,
            kind,
            start: 0,
            length: 0,
            is_sealed: false,
            attributes: Attributes::default(),
            content: Content::default(),
            table,
            modified_at_ms: 0,
            changed: Seq(0),
        }
    }

    /// Whether some of it is to be stored, or stored anew under its own number. What goes with a connection never is, nor is a table.
    pub(crate) fn is_unstored(&self, id: SegmentId) -> bool {
        self.kind == Kind::Stream && self.content.stored_to(id, self.start) < self.length
    }
}
