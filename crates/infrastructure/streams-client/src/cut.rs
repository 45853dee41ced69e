use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::names::{SegmentNumber, StreamName};

/// A position in a stream: an offset in each of some segments, which have all keys between them. As text `scope/stream:count.epoch=offset,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCut {
    pub stream: StreamName,
    pub offsets: BTreeMap<SegmentNumber, i64>,
}

impl FromStr for StreamCut {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Refused(format!("{text:?} is not scope/stream:segment=offset,…"));
        let (stream, list) = text.split_once(':').ok_or_else(wrong)?;
        let mut offsets = BTreeMap::new();
        for part in list.split(',') {
            let (number, offset) = part.split_once('=').ok_or_else(wrong)?;
            let offset = offset.parse().ok().filter(|offset| *offset >= 0);
            let offset = offset.ok_or_else(wrong)?;
            if offsets.insert(number.parse()?, offset).is_some() {
                return Err(wrong());
            }
        }
        Ok(Self {
            stream: stream.parse()?,
            offsets,
        })
    }
}

impl fmt::Display for StreamCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.stream)?;
        for (idx, (number, offset)) in self.offsets.iter().enumerate() {
            let comma = if idx > 0 { "," } else { "" };
            write!(f, "{comma}{number}={offset}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_a_text_and_back() {
        for text in ["a/b:0.0=0", "a/b:1.0=17,0.1=0,2.3=9223372036854775807"] {
            let cut: StreamCut = text.parse().expect(text);
            assert_eq!(cut.to_string(), text);
        }
        for text in [
            "",
            "a/b",
            "a/b:",
            "a/b:0.0",
            "a/b:0.0=-1",
            "a/b:0.0=1,0.0=2",
            "a:0.0=1",
        ] {
            assert!(text.parse::<StreamCut>().is_err(), "{text:?}");
        }
    }
}
