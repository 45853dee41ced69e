//! What a node has and does, in numbers.

use super::Store;
use crate::tier1;

#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// All memory of the arena that is in use or kept for it.
    pub memory_used_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Bytes of objects that the arena has copied.
    pub copied_bytes: u64,
    pub n_buckets: u64,
    pub n_names: u64,
    pub n_objects: u64,
    /// What the index takes for names and objects, roughly.
    pub names_bytes: u64,
    pub names_bytes_max: u64,
    /// Objects that were sealed since the node began.
    pub n_sealed: u64,
    pub log: wal::Stats,
    pub disk: tier1::Stats,
}

impl Store {
    /// Nothing is committed meanwhile; it takes as long as there are buckets.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        inner.namespace.read(|index| Stats {
            memory_used_bytes: inner.arena.used_bytes(),
            memory_limit_bytes: inner.arena.limit_bytes(),
            copied_bytes: inner.arena.copied_bytes(),
            n_buckets: index.buckets.len() as u64,
            n_names: (index.buckets.values())
                .map(|bucket| bucket.names.len() as u64)
                .sum(),
            n_objects: index.objects.len() as u64,
            names_bytes: index.names_bytes as u64,
            names_bytes_max: index.limits.names_bytes_max as u64,
            n_sealed: index.node(inner.node).map_or(0, |node| node.last_serial),
            log: inner.wal.stats(),
            disk: inner.disk.stats(),
        })
    }
}
