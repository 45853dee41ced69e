//! What is behind the bytes of a segment in a chunk's object.
//!
//! ```text
//!  bytes of the segment │ footer: version, fields │ its CRC-32C, 4 bytes │ length of both, 4 bytes │ magic, 8 bytes
//! ```
//! The first part is the bytes as they are, so that other tools can read them. Numbers of the last three are big-endian.

use ids::Epoch;
use serde::{Deserialize, Serialize};
use streams_core::{SegmentId, SegmentName};

use super::{decode as decode_version, encode as encode_version, seal, unseal};
use crate::chunk::{BLOCK_BYTES, Chunk};
use crate::footer::Footer;
use crate::names::ChunkName;

const MAGIC: [u8; 8] = *b"CSKCHUNK";
const TAIL_BYTES: usize = 4 + MAGIC.len();
/// What a footer has at most, with all that is behind it: 256 checksums of 5 bytes, 4096 events of as many, names, and some numbers.
pub(crate) const FOOTER_BYTES_MAX: usize = 64 << 10;
const NAME_BYTES_MAX: usize = SegmentName::BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct FooterV1<'a> {
    scope: &'a str,
    stream: &'a str,
    segment: &'a str,
    id: u64,
    epoch: u64,
    offset: u64,
    random: u64,
    length: u64,
    block_bytes: u64,
    blocks: Vec<u32>,
    /// Each behind the one before; the first one behind the chunk's begin.
    events: Vec<u32>,
    next_event_at: Option<u64>,
}

pub(crate) fn encode(footer: &Footer) -> Vec<u8> {
    let Footer { chunk, .. } = footer;
    let (name, range) = (chunk.name(), chunk.range());
    let mut last = range.start;
    let events = footer.events.iter().map(|&event| {
        let behind = event - std::mem::replace(&mut last, event);
        u32::try_from(behind).expect("events of a chunk are in it")
    });
    let mut bytes = seal(encode_version(&FooterV1 {
        scope: &footer.scope,
        stream: &footer.stream,
        segment: footer.segment.as_str(),
        id: name.segment.0,
        epoch: name.epoch.0,
        offset: name.offset,
        random: name.random,
        length: range.end - range.start,
        block_bytes: BLOCK_BYTES,
        blocks: chunk.checksums().to_vec(),
        events: events.collect(),
        next_event_at: chunk.next_event_at(),
    }));
    let length = u32::try_from(bytes.len()).expect("all in it is bounded");
    bytes.extend(length.to_be_bytes());
    bytes.extend(MAGIC);
    bytes
}

/// From the last bytes of an object: [`FOOTER_BYTES_MAX`], or all if there are fewer. `object_bytes`: how many it has.
pub(crate) fn decode(tail: &[u8], object_bytes: u64) -> Result<Footer, &'static str> {
    let footer = tail.strip_suffix(&MAGIC).ok_or("it ends otherwise")?;
    let (footer, length) = footer.split_last_chunk().ok_or("it is too short")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok();
    let begin = length.and_then(|length| footer.len().checked_sub(length));
    let footer = &footer[begin.ok_or("its footer has another length")?..];
    let footer_bytes = (footer.len() + TAIL_BYTES) as u64;
    let footer: FooterV1 = decode_version(unseal(footer)?)?;
    if footer.block_bytes != BLOCK_BYTES {
        return Err("its blocks have another size");
    }
    if footer.scope.len() > NAME_BYTES_MAX || footer.stream.len() > NAME_BYTES_MAX {
        return Err("its names are too long");
    }
    let name = ChunkName {
        segment: SegmentId(footer.id),
        offset: footer.offset,
        epoch: Epoch(footer.epoch),
        random: footer.random,
    };
    let chunk = Chunk::new(name, footer.length, footer.blocks, footer.next_event_at)?;
    if object_bytes != footer.length + footer_bytes {
        return Err("the object has another length");
    }
    let mut events = Vec::with_capacity(footer.events.len());
    for behind in footer.events {
        let last = events.last().copied();
        let event = last.unwrap_or(footer.offset) + u64::from(behind);
        if last == Some(event) || !chunk.range().contains(&event) {
            return Err("its events are not in it, or not in order");
        }
        events.push(event);
    }
    Ok(Footer {
        scope: footer.scope.into(),
        stream: footer.stream.into(),
        segment: SegmentName::new(footer.segment).map_err(|_| "it names no segment")?,
        chunk,
        events,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{CHUNK_BYTES_LIMIT, OFFSET_MAX};
    use crate::disk::hex;
    use crate::events::STRIDE_BYTES;

    const LENGTH: u64 = BLOCK_BYTES + 100;

    fn footer() -> Footer {
        let name = ChunkName {
            segment: SegmentId(5),
            offset: 1000,
            epoch: Epoch(3),
            random: 0xAB,
        };
        let next = Some(1000 + LENGTH);
        Footer {
            scope: "a".into(),
            stream: "b".into(),
            segment: SegmentName::new("a/b/0.#epoch.0").expect("a name"),
            chunk: Chunk::new(name, LENGTH, vec![1, 2], next).expect("a chunk"),
            events: vec![1003, 80_000],
        }
    }

    fn object_bytes(footer: &[u8]) -> u64 {
        LENGTH + footer.len() as u64
    }

    #[test]
    fn a_footer_is_what_it_was_in_version_1() {
        let bytes = encode(&footer());
        assert_eq!(
            hex(&bytes),
            "01016101620e612f622f302e2365706f63682e300503e807ab01e480408080400201020203\
             95e90401cc8840c7fb0bf30000003043534b4348554e4b"
        );
        assert_eq!(decode(&bytes, object_bytes(&bytes)), Ok(footer()));
        let behind_data = [&[0; 50][..], &bytes].concat();
        assert_eq!(decode(&behind_data, object_bytes(&bytes)), Ok(footer()));
    }

    #[test]
    fn no_byte_of_a_footer_may_change() {
        let mut bytes = encode(&footer());
        let object = object_bytes(&bytes);
        for end in 0..bytes.len() {
            decode(&bytes[..end], object).expect_err("a part");
            decode(&bytes[bytes.len() - end..], object).expect_err("a part");
        }
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            decode(&bytes, object).expect_err("a changed one");
            bytes[at] ^= 0x10;
        }
        decode(&bytes, object - 1).expect_err("a part of the object");
    }

    #[test]
    fn a_footer_fits_what_is_read_of_an_object() {
        let n_blocks = usize::try_from(CHUNK_BYTES_LIMIT / BLOCK_BYTES).expect("few");
        let blocks = vec![u32::MAX; n_blocks];
        let name = ChunkName {
            segment: SegmentId(u64::MAX),
            offset: 0,
            epoch: Epoch(u64::MAX),
            random: u64::MAX,
        };
        let chunk = Chunk::new(name, CHUNK_BYTES_LIMIT, blocks, Some(OFFSET_MAX));
        let events = (0..CHUNK_BYTES_LIMIT / STRIDE_BYTES).map(|idx| idx * STRIDE_BYTES);
        let bytes = encode(&Footer {
            scope: "s".repeat(NAME_BYTES_MAX).into(),
            stream: "s".repeat(NAME_BYTES_MAX).into(),
            segment: SegmentName::new(&"s".repeat(SegmentName::BYTES_MAX)).expect("a name"),
            chunk: chunk.expect("the largest"),
            events: events.collect(),
        });
        assert!(bytes.len() <= FOOTER_BYTES_MAX, "{}", bytes.len());
    }

    proptest! {
        /// Also those that have the right checksum.
        #[test]
        fn any_bytes_are_a_footer_or_refused(fields: Vec<u8>, object_bytes: u64) {
            let mut bytes = seal([1].into_iter().chain(fields).collect());
            let length = u32::try_from(bytes.len()).expect("short");
            bytes.extend(length.to_be_bytes());
            bytes.extend(MAGIC);
            if let Ok(footer) = decode(&bytes, object_bytes) {
                prop_assert!(footer.chunk.n_blocks() > 0);
            }
        }
    }
}
