//! Which chunks a container has: its table of chunks, in memory.
//!
//! The table is the truth, and a list of a store's objects is not. So this is filled from the table when the container is opened, and changed when the
//! table is: [`insert`](ChunkList::insert) when an entry is durable, `free_before` and `free_all` when nothing will ask for the bytes again.

use std::collections::{BTreeMap, btree_map};

use streams_core::SegmentId;

use crate::chunk::{CHUNK_BYTES_LIMIT, Chunk};
use crate::names::ChunkName;

/// The chunks of all segments of a container.
#[derive(Clone, Debug, Default)]
pub struct ChunkList {
    /// By where they begin. None is empty.
    segments: BTreeMap<SegmentId, BTreeMap<u64, Chunk>>,
    n_chunks: usize,
}

impl FromIterator<Chunk> for ChunkList {
    fn from_iter<T: IntoIterator<Item = Chunk>>(chunks: T) -> Self {
        let mut list = Self::default();
        for chunk in chunks {
            list.insert(chunk);
        }
        list
    }
}

impl ChunkList {
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_chunks
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_chunks == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.segments.values().flat_map(BTreeMap::values)
    }

    /// Its entry is durable. One that began there is no more: its entry was replaced, and its object is to be deleted.
    pub fn insert(&mut self, chunk: Chunk) -> Option<Chunk> {
        let chunks = self.segments.entry(chunk.segment()).or_default();
        let replaced = chunks.insert(chunk.range().start, chunk);
        self.n_chunks += usize::from(replaced.is_none());
        replaced
    }

    /// Which chunk has this byte of a segment. Of several, the one that begins last: all have the same bytes.
    #[must_use]
    pub fn find(&self, segment: SegmentId, offset: u64) -> Option<&Chunk> {
        let chunks = self.segments.get(&segment)?;
        // A longer chunk may reach over one that begins later.
        let behind = offset.saturating_sub(CHUNK_BYTES_LIMIT - 1);
        let mut before = chunks.range(behind..=offset).rev();
        before
            .find(|(_, chunk)| chunk.range().contains(&offset))
            .map(|(_, chunk)| chunk)
    }

    /// How far a segment is in chunks, from an offset on and without a gap. An owner that finds more than the container knows of has crashed between
    /// an entry and `Op::Store`: it proposes that, and need not put the bytes again.
    #[must_use]
    pub fn stored_to(&self, segment: SegmentId, from: u64) -> u64 {
        let mut to = from;
        while let Some(chunk) = self.find(segment, to) {
            to = chunk.range().end;
        }
        to
    }

    /// Whether the object is needed.
    #[must_use]
    pub fn has(&self, name: &ChunkName) -> bool {
        let chunks = self.segments.get(&name.segment);
        let chunk = chunks.and_then(|chunks| chunks.get(&name.offset));
        chunk.is_some_and(|chunk| chunk.name() == name)
    }

    /// The segment was truncated there, which is durable, and no other one has its bytes: chunks with nothing behind it are no more. Their entries
    /// are to be removed, and then their objects be deleted.
    pub fn free_before(&mut self, segment: SegmentId, offset: u64) -> Vec<Chunk> {
        let btree_map::Entry::Occupied(mut chunks) = self.segments.entry(segment) else {
            return Vec::new();
        };
        let is_free = |_: &u64, chunk: &mut Chunk| chunk.range().end <= offset;
        let freed = chunks.get_mut().extract_if(..offset, is_free);
        let freed: Vec<_> = freed.map(|(_, chunk)| chunk).collect();
        if chunks.get().is_empty() {
            chunks.remove();
        }
        self.n_chunks -= freed.len();
        freed
    }

    /// Nobody has the segment's bytes any more (`Effects::unreferenced`): none of its chunks are. Their entries are to be removed, and then their
    /// objects be deleted.
    pub fn free_all(&mut self, segment: SegmentId) -> Vec<Chunk> {
        let chunks = self.segments.remove(&segment).unwrap_or_default();
        self.n_chunks -= chunks.len();
        chunks.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use ids::Epoch;
    use proptest::prelude::*;

    use super::*;

    fn chunk(segment: u64, offset: u64, length: u64, random: u64) -> Chunk {
        let name = ChunkName {
            segment: SegmentId(segment),
            offset,
            epoch: Epoch(1),
            random,
        };
        Chunk::new(name, length, vec![0], None).expect("a chunk")
    }

    #[test]
    fn a_chunk_that_is_put_again_replaces_the_one_before() {
        let mut list = ChunkList::default();
        let [first, second] = [chunk(1, 0, 10, 1), chunk(1, 0, 20, 2)];
        assert_eq!(list.insert(first.clone()), None);
        assert_eq!(list.insert(second.clone()), Some(first.clone()));
        assert!(list.has(second.name()) && !list.has(first.name()));
        assert_eq!((list.len(), list.stored_to(SegmentId(1), 5)), (1, 20));
        assert_eq!(list.free_before(SegmentId(1), 19), []);
        assert_eq!(list.free_before(SegmentId(1), 20), [second]);
        assert!(list.is_empty() && list.segments.is_empty());
    }

    proptest! {
        #[test]
        fn it_finds_what_there_is(
            chunks in prop::collection::vec((0u64..3, 0u64..40, 1u64..10), 0..30),
            freed in prop::collection::vec((0u64..3, 0u64..50), 0..4),
        ) {
            let mut list = ChunkList::default();
            let mut model: Vec<Chunk> = Vec::new();
            for (random, (segment, offset, length)) in chunks.into_iter().enumerate() {
                let chunk = chunk(segment, offset, length, random as u64);
                model.retain(|other| other.key() != chunk.key());
                model.push(chunk.clone());
                list.insert(chunk);
            }
            for (segment, offset) in freed {
                let id = SegmentId(segment);
                let is_free = |chunk: &Chunk| chunk.segment() == id && (offset == 49 || chunk.range().end <= offset);
                let freed = if offset == 49 { list.free_all(id) } else { list.free_before(id, offset) };
                prop_assert!(freed.iter().all(is_free));
                let n_before = model.len();
                model.retain(|chunk| !is_free(chunk));
                prop_assert_eq!(n_before - model.len(), freed.len());
            }
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(list.iter().count(), model.len());
            prop_assert!(model.iter().all(|chunk| list.has(chunk.name())));
            for (segment, offset) in (0..3).flat_map(|id| (0..55).map(move |at| (SegmentId(id), at))) {
                let has = |chunk: &&Chunk| chunk.segment() == segment && chunk.range().contains(&offset);
                let found = list.find(segment, offset);
                prop_assert_eq!(found.is_some(), model.iter().any(|chunk| has(&chunk)));
                prop_assert!(found.is_none_or(|chunk| has(&chunk)));
            }
        }
    }
}
