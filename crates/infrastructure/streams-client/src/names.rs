//! What streams and segments are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;

/// A stream: `scope/stream`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    scope: Arc<str>,
    stream: Arc<str>,
}

impl StreamName {
    /// # Errors
    /// `Refused`: a part is empty, or has a slash.
    pub fn new(scope: &str, stream: &str) -> Result<Self, Error> {
        for part in [scope, stream] {
            if part.is_empty() || part.contains('/') {
                return Err(Error::Refused(format!("{part:?} is no name")));
            }
        }
        Ok(Self {
            scope: scope.into(),
            stream: stream.into(),
        })
    }

    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    #[must_use]
    pub fn segment(&self, number: SegmentNumber) -> SegmentName {
        SegmentName {
            stream: self.clone(),
            number,
            transaction: None,
        }
    }
}

impl FromStr for StreamName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((scope, stream)) = text.split_once('/') else {
            return Err(Error::Refused(format!("{text:?} is not scope/stream")));
        };
        Self::new(scope, stream)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.stream)
    }
}

/// A segment within its stream. Its upper half is the epoch that made it, its lower one counts. In texts `count.epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub i64);

impl SegmentNumber {
    #[must_use]
    pub fn new(count: i32, epoch: i32) -> Self {
        Self(i64::from(epoch) << 32 | i64::from(count.cast_unsigned()))
    }

    /// The same count in another epoch.
    pub(crate) fn in_epoch(self, epoch: i32) -> Self {
        Self(i64::from(epoch) << 32 | self.halves().0)
    }

    /// Two numbers that fit into halves.
    fn halves(self) -> (i64, i64) {
        (self.0 & 0xFFFF_FFFF, self.0 >> 32)
    }
}

impl FromStr for SegmentNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = |part: &str| part.parse().ok().filter(|number| *number >= 0);
        let halves = text
            .split_once('.')
            .and_then(|(count, epoch)| Some((parse(count)?, parse(epoch)?)));
        let (count, epoch) =
            halves.ok_or_else(|| Error::Refused(format!("{text:?} is not count.epoch")))?;
        Ok(Self::new(count, epoch))
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, epoch) = self.halves();
        write!(f, "{count}.{epoch}")
    }
}

/// A segment, as stores call it: `scope/stream/count.#epoch.epoch`, and what a transaction has of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub stream: StreamName,
    pub number: SegmentNumber,
    pub transaction: Option<u128>,
}

impl SegmentName {
    #[must_use]
    pub fn within(mut self, transaction: u128) -> Self {
        self.transaction = Some(transaction);
        self
    }
}

impl FromStr for SegmentName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Refused(format!("{text:?} is not the name of a segment"));
        let (segment, transaction) = match text.split_once("#transaction.") {
            None => (text, None),
            Some((segment, id)) => {
                let id = u128::from_str_radix(id, 16).map_err(|_| wrong())?;
                (segment, Some(id))
            }
        };
        let (stream, number) = segment.rsplit_once('/').ok_or_else(wrong)?;
        let number = number.replacen(".#epoch.", ".", 1);
        Ok(Self {
            stream: stream.parse()?,
            number: number.parse()?,
            transaction,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, epoch) = self.number.halves();
        write!(f, "{}/{count}.#epoch.{epoch}", self.stream)?;
        match self.transaction {
            None => Ok(()),
            Some(id) => write!(f, "#transaction.{id:032x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr + fmt::Display + PartialEq + fmt::Debug>(text: &str, value: T)
    where
        T::Err: fmt::Debug,
    {
        assert_eq!(value.to_string(), text);
        assert_eq!(text.parse::<T>().expect(text), value);
    }

    #[test]
    fn names_are_as_stores_know_them() {
        let stream = StreamName::new("scope", "stream").expect("it is one");
        check("scope/stream", stream.clone());
        check("7.0", SegmentNumber(7));
        check("7.3", SegmentNumber(3 << 32 | 7));
        let segment = stream.segment(SegmentNumber::new(7, 3));
        check("scope/stream/7.#epoch.3", segment.clone());
        check(
            "scope/stream/7.#epoch.3#transaction.0000000300000000000000000000002a",
            segment.within(3 << 96 | 42),
        );
    }

    #[test]
    fn what_are_no_names_is_refused() {
        for text in ["", "a", "/", "a/", "a/b/c"] {
            assert!(text.parse::<StreamName>().is_err(), "{text:?}");
        }
        for text in ["", "1", "1.", "-1.0", "1.2.3", "1.4294967296"] {
            assert!(text.parse::<SegmentNumber>().is_err(), "{text:?}");
        }
        for text in [
            "a/b",
            "a/b/1",
            "a/b/c/1.#epoch.0",
            "a/b/1.#epoch.0#transaction.x",
        ] {
            assert!(text.parse::<SegmentName>().is_err(), "{text:?}");
        }
    }
}
