//! The records of the log of snapshots: a beginning, the pieces of an index, and an end. One without an end is none.

use serde::{Deserialize, Serialize};

use super::index::{decode, encode};
use crate::index::Error;

/// A variant is never changed or removed, and a new one goes last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part<'a> {
    /// Ends whatever was begun before.
    Begin {
        /// The position in the log of records of the first that is not in it.
        records_from: u64,
    },
    /// See `Piece::encode`.
    Piece(&'a [u8]),
    End {
        n_pieces: u64,
    },
}

impl<'a> Part<'a> {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let golden: [(Part<'_>, &[u8]); 3] = [
            (Part::Begin { records_from: 300 }, &[1, 0, 0xac, 2]),
            (Part::Piece(&[7, 8]), &[1, 1, 2, 7, 8]),
            (Part::End { n_pieces: 1 }, &[1, 2, 1]),
        ];
        for (part, bytes) in golden {
            assert_eq!(part.encode(), bytes);
            assert_eq!(Part::decode(bytes), Ok(part));
            for end in 0..bytes.len() {
                assert!(
                    Part::decode(&bytes[..end]).is_err(),
                    "{bytes:?} until {end}"
                );
            }
        }
        assert!(Part::decode(&[1, 3]).is_err());
        assert!(Part::decode(&[2, 2, 1]).is_err());
    }
}
