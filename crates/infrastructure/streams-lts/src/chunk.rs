//! A chunk: bytes of a segment that are in one object.

use std::ops::Range;
use std::sync::Arc;

use streams_core::SegmentId;

use crate::names::ChunkName;
use crate::{Error, Result, disk};

/// A chunk is read and checked by blocks of so many bytes; its last one may be shorter.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// No chunk is larger, whatever the configuration says.
pub const CHUNK_BYTES_LIMIT: u64 = 256 << 20;
/// No segment is longer: protocols have its length in an `i64`.
pub(crate) const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// What a reader has to know of one: an entry of the table of chunks, which the container keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    name: ChunkName,
    length: u64,
    blocks: Arc<[u32]>,
    next_event_at: Option<u64>,
}

impl Chunk {
    /// `blocks`: the CRC-32C of each.
    pub(crate) fn new(
        name: ChunkName,
        length: u64,
        blocks: Vec<u32>,
        next_event_at: Option<u64>,
    ) -> Result<Self, &'static str> {
        if length == 0 || length > CHUNK_BYTES_LIMIT {
            return Err("no chunk has that length");
        }
        if name.offset > OFFSET_MAX - length {
            return Err("no segment is so long");
        }
        if blocks.len() as u64 != length.div_ceil(BLOCK_BYTES) {
            return Err("there are not as many checksums as blocks");
        }
        let end = name.offset + length;
        if next_event_at.is_some_and(|at| at > OFFSET_MAX || at + 8 <= end) {
            return Err("no event can be the next there");
        }
        Ok(Self {
            name,
            length,
            blocks: blocks.into(),
            next_event_at,
        })
    }

    #[must_use]
    pub fn name(&self) -> &ChunkName {
        &self.name
    }

    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.name.segment
    }

    /// Which bytes of the segment it has.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.name.offset..self.name.offset + self.length
    }

    #[must_use]
    pub fn n_blocks(&self) -> u32 {
        u32::try_from(self.blocks.len()).expect("a chunk has at most 256 blocks")
    }

    /// In which block an offset of the segment is, if it is in the chunk.
    #[must_use]
    pub fn block_of(&self, offset: u64) -> Option<u32> {
        let is_here = self.range().contains(&offset);
        let block = is_here.then(|| (offset - self.name.offset) / BLOCK_BYTES)?;
        u32::try_from(block).ok()
    }

    /// Which bytes of the segment a block has.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn block_range(&self, block: u32) -> Range<u64> {
        assert!(block < self.n_blocks(), "there is no such block");
        let range = self.range();
        let start = range.start + u64::from(block) * BLOCK_BYTES;
        start..range.end.min(start + BLOCK_BYTES)
    }

    pub(crate) fn checksums(&self) -> &[u32] {
        &self.blocks
    }

    /// See [`Index::next`](crate::events::Index::next).
    #[must_use]
    pub fn next_event_at(&self) -> Option<u64> {
        self.next_event_at
    }

    /// Of its entry. Keys are in the order of the segments' bytes, and a chunk that is put again replaces the one before it.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        let key = (u128::from(self.name.segment.0) << 64) | u128::from(self.name.offset);
        key.to_be_bytes()
    }

    /// Of its entry.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        disk::chunk::encode(self)
    }

    /// From an entry.
    ///
    /// # Errors
    /// `Corrupt`: this is none.
    pub fn from_entry(key: &[u8], value: &[u8]) -> Result<Self> {
        disk::chunk::decode(key, value)
            .map_err(|what| Error::corrupt("an entry of the table of chunks", what))
    }
}
