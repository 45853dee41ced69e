//! What scopes, streams, segments and transactions are called.

use std::borrow::Borrow;
use std::fmt;

use crate::error::Refusal;

/// What a name begins with if clients did not choose it.
pub(crate) const INTERNAL_PREFIX: &str = "_";

/// Of the stream that has the watermarks of another.
pub(crate) const MARK_PREFIX: &str = "_MARK";

/// The scope of what is the system's own. It is always there.
pub const SYSTEM_SCOPE: &str = "_system";

/// Of a name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// A scope, or a stream in one: letters, digits, dots and dashes, perhaps behind one underscore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// # Errors
    /// [`Refusal::Invalid`]: it is none.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let rest = text.strip_prefix(INTERNAL_PREFIX).unwrap_or(text);
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
        if rest.is_empty() || text.len() > NAME_BYTES_MAX || !rest.bytes().all(is_inner) {
            return Err(Refusal::Invalid(
                "a name is at most 255 letters, digits, dots and dashes, perhaps behind an underscore",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Clients did not choose it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL_PREFIX)
    }
}

/// It is in the order of its text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream, with its scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// Where it is.
    pub scope: Name,
    /// What it is called there.
    pub stream: Name,
}

impl StreamName {
    /// # Errors
    /// [`Refusal::Invalid`]: one of them is no name.
    pub fn new(scope: &str, stream: &str) -> Result<Self, Refusal> {
        Ok(Self {
            scope: Name::new(scope)?,
            stream: Name::new(stream)?,
        })
    }

    /// The stream of its watermarks. `None`: it has none, being internal, or too long a name.
    #[must_use]
    pub fn mark(&self) -> Option<Self> {
        if self.stream.is_internal() {
            return None;
        }
        let stream = Name::new(&format!("{MARK_PREFIX}{}", self.stream)).ok()?;
        Some(Self {
            scope: self.scope.clone(),
            stream,
        })
    }

    /// The stream whose watermarks it has, or else itself: who changes one of them takes turns with who changes the other.
    #[must_use]
    pub fn base(&self) -> Self {
        let base = self.stream.as_str().strip_prefix(MARK_PREFIX);
        let base = base.and_then(|base| Name::new(base).ok());
        match base {
            Some(stream) if !stream.is_internal() => Self {
                scope: self.scope.clone(),
                stream,
            },
            _ => self.clone(),
        }
    }

    /// What the store calls a segment of it.
    #[must_use]
    pub fn segment(&self, id: SegmentId) -> String {
        let SegmentId { epoch, number } = id;
        format!("{self}/{number}.#epoch.{epoch}")
    }

    /// What the store calls the part of a transaction that will be merged into a segment with that number. Its name has the epoch of the
    /// transaction, in whatever epoch it is merged.
    #[must_use]
    pub fn transaction_segment(&self, number: u32, txn: TxnId) -> String {
        let epoch = txn.epoch();
        let parent = self.segment(SegmentId { epoch, number });
        format!("{parent}#transaction.{:016x}{:016x}", txn.high, txn.low)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.stream)
    }
}

/// Counts the sets of segments that a stream was written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// As far as it can be said on the wire, where numbers have a sign.
pub(crate) const NUMBER_MAX: u32 = i32::MAX.unsigned_abs();

impl Epoch {
    /// It is one of the lower half: a stream has fewer than the limits allow.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A segment in its stream. Of two that have keys in common, the greater one comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The one that made it.
    pub epoch: Epoch,
    /// Unique in each epoch. What replaces a segment when a transaction is rolled has the same.
    pub number: u32,
}

impl SegmentId {
    /// From the wire. `None`: there is no such segment.
    #[must_use]
    pub fn from_wire(id: i64) -> Option<Self> {
        let id = u64::try_from(id).ok()?;
        let epoch = Epoch(u32::try_from(id >> 32).ok()?);
        let number = u32::try_from(id & u64::from(u32::MAX)).ok()?;
        (number <= NUMBER_MAX).then_some(Self { epoch, number })
    }

    /// As it is said on the wire.
    #[must_use]
    pub fn to_wire(self) -> i64 {
        (i64::from(self.epoch.0) << 32) | i64::from(self.number)
    }
}

/// A transaction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId {
    /// Its upper half is the epoch.
    pub high: u64,
    /// The rest.
    pub low: u64,
}

impl TxnId {
    /// 96 bits that no other transaction has.
    #[must_use]
    pub fn new(epoch: Epoch, unique: Unique) -> Self {
        Self {
            high: (u64::from(epoch.0) << 32) | u64::from(unique.high),
            low: unique.low,
        }
    }

    /// In which it began. Epochs that repeat that one take it for theirs.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        Epoch(u32::try_from(self.high >> 32).expect("half of it is left"))
    }
}

/// What makes a transaction unlike all others: random, or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The upper third.
    pub high: u32,
    /// The rest.
    pub low: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamName {
        StreamName::new("lab", "video").expect("names")
    }

    #[test]
    fn names_are_those_of_the_wire() {
        for good in ["a", "_a", "A.b-1", "_MARKx", "..", &"x".repeat(255)] {
            Name::new(good).expect(good);
        }
        for bad in ["", "_", "__a", "a_b", "a/b", "ä", "a b", &"x".repeat(256)] {
            Name::new(bad).expect_err(bad);
        }
    }

    #[test]
    fn segments_and_transactions_are_called_as_clients_expect() {
        let id = SegmentId {
            epoch: Epoch(2),
            number: 7,
        };
        assert_eq!(stream().segment(id), "lab/video/7.#epoch.2");
        assert_eq!(id.to_wire(), (2 << 32) | 7);
        assert_eq!(SegmentId::from_wire(id.to_wire()), Some(id));
        for bad in [-1, i64::MIN, 1 << 31, (1 << 32) | (1 << 31)] {
            assert_eq!(SegmentId::from_wire(bad), None, "{bad}");
        }
        let unique = Unique {
            high: 0xabc,
            low: 0xdef,
        };
        let txn = TxnId::new(Epoch(2), unique);
        assert_eq!(txn.epoch(), Epoch(2));
        assert_eq!(
            stream().transaction_segment(7, txn),
            "lab/video/7.#epoch.2#transaction.0000000200000abc0000000000000def"
        );
    }

    #[test]
    fn a_stream_and_its_marks_know_each_other() {
        let mark = stream().mark().expect("it has one");
        assert_eq!(mark.stream.as_str(), "_MARKvideo");
        assert_eq!(mark.mark(), None);
        assert_eq!(mark.base(), stream());
        assert_eq!(stream().base(), stream());
    }
}
