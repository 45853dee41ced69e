//! What is kept, as bytes: records in the log, and pieces in a checkpoint.
//!
//! Both are a version, and what postcard makes of the types in these files. They are sealed against bit rot by whoever frames them. A variant or
//! field that was in a release is never changed or removed, and a new variant goes last; anything else is a new version.

pub(crate) mod piece;
pub(crate) mod record;

use serde::{Deserialize, Serialize};

use crate::Corrupt;

#[cfg(test)]
mod tests;

const VERSION: u8 = 1;

fn encode(what: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(&(VERSION, what)).expect("memory takes all that has a length")
}

/// And what is left.
fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Corrupt> {
    match bytes.split_first() {
        Some((&VERSION, bytes)) => {
            postcard::take_from_bytes(bytes).map_err(|_| Corrupt("these bytes are something else"))
        }
        _ => Err(Corrupt("written by another version")),
    }
}
