//! What a container is asked to do, and what comes of it.

use bytes::Bytes;

use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::names::{SegmentId, SegmentName, Seq};
use crate::segment::Kind;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create {
        segment: SegmentName,
        kind: Kind,
        attributes: Vec<AttributeUpdate>,
    },
    Append(Append),
    Seal(SegmentName),
    /// Gives up what is before the offset, which stays where it is when it is there already.
    Truncate {
        segment: SegmentName,
        offset: u64,
    },
    /// Appends a segment, as one that is sealed, to another one, and takes away its name. The events of the source count for the target.
    Merge {
        target: SegmentName,
        source: SegmentName,
        /// Of the target.
        attributes: Vec<AttributeUpdate>,
    },
    /// The same for several at once, all or none. A source that is not there has been merged before.
    MergeBatch {
        target: SegmentName,
        sources: Vec<SegmentName>,
    },
    UpdateAttributes {
        segment: SegmentName,
        updates: Vec<AttributeUpdate>,
    },
    Delete(SegmentName),
    /// A table that has no entries.
    DeleteEmptyTable(SegmentName),
    /// Sets entries of a table: all or none.
    PutEntries {
        table: SegmentName,
        entries: Vec<Put>,
        /// If this is where the table ends.
        expected_length: Option<u64>,
    },
    /// Removes entries of a table: all or none. One that is not there is removed too, unless there is a condition.
    RemoveEntries {
        table: SegmentName,
        keys: Vec<Remove>,
        /// If this is where the table ends.
        expected_length: Option<u64>,
    },
    /// What is before the offset is in long-term storage, under this number. Tables are not stored.
    Store {
        segment: SegmentId,
        to: u64,
    },
}

/// Bytes for the end of a segment, and what changes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub segment: SegmentName,
    pub data: Bytes,
    pub attributes: Vec<AttributeUpdate>,
    /// If this is where the segment ends.
    pub expected_offset: Option<u64>,
}

impl Append {
    /// Events of a writer. They are appended once: the number of the writer's last event changes with them, from what it has to be.
    #[must_use]
    pub fn events(segment: SegmentName, data: Bytes, numbers: EventNumbers) -> Self {
        let EventNumbers {
            writer,
            previous,
            last,
            n_events,
        } = numbers;
        let number = AttributeUpdate {
            id: writer,
            value: last,
            kind: UpdateKind::ReplaceIfEquals(previous),
        };
        let count = AttributeUpdate {
            id: AttributeId::EVENT_COUNT,
            value: n_events,
            kind: UpdateKind::Accumulate,
        };
        Self {
            segment,
            data,
            attributes: vec![number, count],
            expected_offset: None,
        }
    }

    /// If this is where the segment ends.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.expected_offset = Some(offset);
        self
    }
}

/// What a writer says of the events that it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventNumbers {
    pub writer: AttributeId,
    /// Of the event before the first one of these; [`NO_EVENT`](Self::NO_EVENT) if there was none.
    pub previous: i64,
    pub last: i64,
    pub n_events: i64,
}

impl EventNumbers {
    /// Of a writer that has written nothing.
    pub const NO_EVENT: i64 = NO_VALUE;
}

/// An entry that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub when: Version,
}

/// An entry that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub key: Bytes,
    pub when: Version,
}

/// On which condition an entry may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Any,
    /// There is no such entry.
    Absent,
    /// It is the one that has this version.
    Is(i64),
}

impl Version {
    /// As clients say [`Version::Any`].
    pub const ANY: i64 = i64::MIN;
    /// As clients say [`Version::Absent`].
    pub const ABSENT: i64 = -1;
}

impl From<i64> for Version {
    fn from(number: i64) -> Self {
        match number {
            Self::ANY => Self::Any,
            Self::ABSENT => Self::Absent,
            version => Self::Is(version),
        }
    }
}

/// What is to be answered when the record is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Created(SegmentId),
    /// The segment ends there.
    Appended {
        length: u64,
    },
    /// Behind each source, where the target ended; also behind one that was merged before.
    Merged {
        lengths: Vec<u64>,
    },
    /// The versions of the entries, in the order in which they were asked for.
    Put {
        versions: Vec<i64>,
    },
}

/// Why something is not done, or not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no segment {0}")]
    NoSuchSegment(SegmentName),
    #[error("there is a segment {0}")]
    Exists(SegmentName),
    #[error("the segment {0} is sealed")]
    Sealed(SegmentName),
    /// A condition, a truncation or a read that does not fit to where the segment begins or ends.
    #[error("the offset would have to be {expected}")]
    BadOffset { expected: u64 },
    #[error("the attribute is {found}")]
    BadAttribute { id: AttributeId, found: i64 },
    #[error("the segment {0} has been truncated")]
    Truncated(SegmentName),
    #[error("the table {0} has entries")]
    NotEmpty(SegmentName),
    #[error("there is no such key")]
    KeyDoesNotExist,
    #[error("the key has another version")]
    KeyBadVersion,
    #[error("there is no segment with the number {}", .0.0)]
    Gone(SegmentId),
    /// A table where it should be none, or the other way round.
    #[error("the segment {0} is of another kind")]
    WrongKind(SegmentName),
    #[error("{0}")]
    Invalid(&'static str),
    /// There are too many of these already, or it is too large for any.
    #[error("too many {what}")]
    Limit { what: &'static str },
    /// Too much is not durable yet. It is to be tried again after something has become durable, before anything else of the same caller; it is
    /// not an answer.
    #[error("too much is under way")]
    Busy,
}

/// A refusal, and when it may be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    pub why: Refusal,
    /// When this is durable: what was proposed before may be the reason, and may be lost.
    pub as_of: Seq,
}

/// An answer, and when it may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// When this is durable: what it says may be lost before.
    pub as_of: Seq,
}
