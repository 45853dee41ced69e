//! What a node has and does, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use ids::{Epoch, Name as Tenant};

use super::cached::Cache;
use super::{InCache, InRemote, Moved, Store};
use crate::core::index::NodeId;
use crate::error::Result;
use crate::tier1;

/// What happened since the store was opened. Counts order nothing else.
#[derive(Debug, Default)]
pub(super) struct Counts {
    opened: AtomicU64,
    sealed: AtomicU64,
    sealed_bytes: AtomicU64,
}

impl Counts {
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sealed(&self, bytes: u64) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        self.sealed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

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
    /// Times that an object was opened since the node began.
    pub n_opened: u64,
    /// Objects that were given a name since then.
    pub n_sealed: u64,
    pub sealed_bytes: u64,
    pub moved: Moved,
    /// All zero if nothing is in S3.
    pub in_remote: InRemote,
    /// All zero if S3 is the authority of no bucket.
    pub in_cache: InCache,
    pub log: wal::Stats,
    pub disk: tier1::Stats,
}

impl Store {
    /// Which node this is, and which incarnation of it.
    #[must_use]
    pub fn identity(&self) -> (NodeId, Epoch) {
        (self.0.node, self.0.epoch)
    }

    /// How much memory a tenant uses, and may use.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn memory_of(&self, tenant: &Tenant) -> Result<[u64; 2]> {
        let share = self.share(tenant)?;
        Ok([share.domain.used_bytes(), share.domain.limit_bytes()])
    }

    /// Takes as long as there are buckets; nothing is committed for most of that time.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Not while the index is held: who has one of these may wait for the disk.
        let (log, disk, moved) = (inner.wal.stats(), inner.disk.stats(), self.moved());
        let in_remote = self.in_remote().unwrap_or_default();
        let in_cache = inner.cache.as_ref().map(Cache::stats).unwrap_or_default();
        inner.namespace.read(|index| Stats {
            memory_used_bytes: inner.arena.used_bytes(),
            memory_limit_bytes: inner.arena.limit_bytes(),
            copied_bytes: inner.arena.copied_bytes(),
            n_buckets: index.buckets().count() as u64,
            n_names: (index.buckets())
                .map(|(_, bucket)| bucket.n_names() as u64)
                .sum(),
            n_objects: index.n_objects() as u64,
            names_bytes: index.names_bytes() as u64,
            names_bytes_max: index.limits().names_bytes_max as u64,
            n_opened: count(&inner.counts.opened),
            n_sealed: count(&inner.counts.sealed),
            sealed_bytes: count(&inner.counts.sealed_bytes),
            moved,
            in_remote,
            in_cache,
            log,
            disk,
        })
    }
}
