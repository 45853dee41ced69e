//! What a run has recorded for a replay.
//!
//! ```text
//! recording = magic "CSKNTRC1" · postcard of Recording · crc32c of the postcard u32
//! ```

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"CSKNTRC1";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// SHA-256 of the module, hexadecimal.
    pub module: String,
    pub args: Vec<String>,
    /// By rank, as [`Trace`](crate::core::trace::Trace) encodes.
    pub traces: Vec<Vec<u8>>,
}

impl Recording {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("strings and bytes encode");
        let crc = crc32c::crc32c(&body).to_le_bytes();
        [MAGIC.as_slice(), &body, &crc].concat()
    }

    /// `None`: this is not a whole recording.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.strip_prefix(MAGIC)?.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        postcard::from_bytes(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_comes_back_and_none_of_its_prefixes() {
        let recording = Recording {
            module: "ab".into(),
            args: vec!["prog".into(), "1".into()],
            traces: vec![vec![1, 2], Vec::new()],
        };
        let bytes = recording.encode();
        assert_eq!(Recording::decode(&bytes), Some(recording));
        for cut in 0..bytes.len() {
            assert_eq!(Recording::decode(&bytes[..cut]), None);
        }
    }
}
