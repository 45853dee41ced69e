//! What is put: typed, so that who computes on the way to storage sees streams and events, and not only bytes.

use std::sync::Arc;

use bytes::Bytes;
use streams_core::{SegmentId, SegmentName};

use crate::events::Index;

/// Bytes of a segment that are to be a chunk.
#[derive(Clone, Debug)]
pub struct Put {
    pub scope: Arc<str>,
    pub stream: Arc<str>,
    pub name: SegmentName,
    pub segment: SegmentId,
    /// Where in the segment they begin.
    pub offset: u64,
    /// In order. They are not copied, and may be of any sizes.
    pub data: Vec<Bytes>,
    /// Of these bytes: [`Cursor::index`](crate::events::Cursor::index).
    pub events: Index,
}

impl Put {
    /// 2^64 of them do not fit any memory.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.data.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// The CRC-32C of each block, however the bytes lie in pieces.
pub(crate) fn checksums(data: &[Bytes], block_bytes: usize) -> Vec<u32> {
    let (mut checksums, mut open, mut room) = (Vec::new(), 0, block_bytes);
    for piece in data {
        let mut piece = &piece[..];
        while !piece.is_empty() {
            let (block, rest) = piece.split_at(piece.len().min(room));
            open = crc32c::crc32c_append(open, block);
            room -= block.len();
            if room == 0 {
                checksums.push(std::mem::take(&mut open));
                room = block_bytes;
            }
            piece = rest;
        }
    }
    if room < block_bytes {
        checksums.push(open);
    }
    checksums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn checksums_are_those_of_the_blocks(pieces: Vec<Vec<u8>>, block_bytes in 1usize..50) {
            let whole = pieces.concat();
            let data: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let wanted: Vec<u32> = whole.chunks(block_bytes).map(crc32c::crc32c).collect();
            prop_assert_eq!(checksums(&data, block_bytes), wanted);
        }
    }
}
