//! An entry of the table of chunks: what a reader needs, so that it asks for no footer.

use ids::Epoch;
use serde::{Deserialize, Serialize};
use streams_core::SegmentId;

use super::{decode as decode_version, encode as encode_version};
use crate::chunk::Chunk;
use crate::names::ChunkName;

/// What the key does not say.
#[derive(Serialize, Deserialize)]
struct ChunkV1 {
    epoch: u64,
    random: u64,
    length: u64,
    blocks: Vec<u32>,
    next_event_at: Option<u64>,
}

pub(crate) fn encode(chunk: &Chunk) -> Vec<u8> {
    let range = chunk.range();
    encode_version(&ChunkV1 {
        epoch: chunk.name().epoch.0,
        random: chunk.name().random,
        length: range.end - range.start,
        blocks: chunk.checksums().to_vec(),
        next_event_at: chunk.next_event_at(),
    })
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Chunk, &'static str> {
    let key: [u8; 16] = key.try_into().map_err(|_| "a key has 16 bytes")?;
    let key = u128::from_be_bytes(key);
    let chunk: ChunkV1 = decode_version(value)?;
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("it is masked");
    let name = ChunkName {
        segment: SegmentId(half(key >> 64)),
        offset: half(key),
        epoch: Epoch(chunk.epoch),
        random: chunk.random,
    };
    Chunk::new(name, chunk.length, chunk.blocks, chunk.next_event_at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{BLOCK_BYTES, CHUNK_BYTES_LIMIT, OFFSET_MAX};
    use crate::disk::hex;

    fn chunk(offset: u64, length: u64, n_blocks: usize) -> Result<Chunk, &'static str> {
        let name = ChunkName {
            segment: SegmentId(5),
            offset,
            epoch: Epoch(3),
            random: 0xAB,
        };
        Chunk::new(name, length, vec![0xDEAD; n_blocks], None)
    }

    #[test]
    fn an_entry_is_what_it_was_in_version_1() {
        let whole = chunk(7, BLOCK_BYTES + 1, 2).expect("a chunk");
        assert_eq!(hex(&whole.key()), "00000000000000050000000000000007");
        assert_eq!(hex(&whole.value()), "0103ab0181804002adbd03adbd0300");
        let read = Chunk::from_entry(&whole.key(), &whole.value());
        assert_eq!(read.expect("an entry"), whole);
    }

    #[test]
    fn a_part_of_an_entry_is_none() {
        let whole = chunk(7, 1, 1).expect("a chunk");
        let (key, mut value) = (whole.key(), whole.value());
        for end in 0..value.len() {
            Chunk::from_entry(&key, &value[..end]).expect_err("a part");
        }
        for end in 0..key.len() {
            Chunk::from_entry(&key[..end], &value).expect_err("a part");
        }
        value.push(0);
        Chunk::from_entry(&key, &value).expect_err("more");
        value.pop();
        value[0] = 2;
        Chunk::from_entry(&key, &value).expect_err("another version");
    }

    #[test]
    fn a_chunk_has_a_length_and_a_checksum_for_each_block() {
        let most = usize::try_from(CHUNK_BYTES_LIMIT / BLOCK_BYTES).expect("few");
        chunk(0, CHUNK_BYTES_LIMIT, most).expect("the largest");
        chunk(OFFSET_MAX - 1, 1, 1).expect("the last");
        for (offset, length, n_blocks) in [
            (0, 0, 0),
            (0, CHUNK_BYTES_LIMIT + 1, most + 1),
            (0, 1, 2),
            (0, BLOCK_BYTES + 1, 1),
            (OFFSET_MAX, 1, 1),
            (u64::MAX, 1, 1),
            (0, u64::MAX, 1),
        ] {
            chunk(offset, length, n_blocks).expect_err("none");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_refused(key: [u8; 16], value: Vec<u8>) {
            let value: Vec<u8> = [1].into_iter().chain(value).collect();
            if let Ok(chunk) = Chunk::from_entry(&key, &value) {
                prop_assert_eq!(chunk.key(), key);
                prop_assert!(chunk.n_blocks() > 0);
            }
        }
    }
}
