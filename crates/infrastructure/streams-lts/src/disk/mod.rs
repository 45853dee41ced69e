//! What is kept, as bytes: entries of the table of chunks, footers of chunks, and manifests.
//!
//! Each is a version, and what postcard makes of the type in its file. A field is never changed or removed: anything else is a new version. Who
//! reads one does not trust it.

pub(crate) mod chunk;
pub(crate) mod footer;
pub(crate) mod manifest;

use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

fn encode(what: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(&(VERSION, what)).expect("memory takes all that has a length")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, &'static str> {
    let Some((&VERSION, bytes)) = bytes.split_first() else {
        return Err("it is of another version");
    };
    match postcard::take_from_bytes(bytes) {
        Ok((what, [])) => Ok(what),
        _ => Err("these bytes are something else"),
    }
}

/// Bytes, and their CRC-32C behind them.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Result<&[u8], &'static str> {
    match bytes.split_last_chunk() {
        Some((bytes, seal)) if crc32c::crc32c(bytes).to_be_bytes() == *seal => Ok(bytes),
        _ => Err("its checksum is another one"),
    }
}

#[cfg(test)]
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory takes it");
        text
    })
}
