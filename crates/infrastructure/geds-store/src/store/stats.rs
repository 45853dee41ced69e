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
    /// Not a count: who opens something counts it, and finds here, in the same line of the cache, whether a lease is to be looked at.
    pub is_member: bool,
}

impl Counts {
    pub(super) fn new(is_member: bool) -> Self {
        Self {
            is_member,
            ..Self::default()
        }
    }

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
    pub site: OfSite,
    pub log: wal::Stats,
    pub disk: tier1::Stats,
}

/// What a node has to do with others. All zero if there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfSite {
    /// Of an owner: those that have a lease.
    pub members: u64,
    /// Records that this member has not applied, or the one of all that is furthest behind.
    pub behind_records: u64,
    /// What is left of the lease of this member, or of the one that has least of all.
    pub lease_left_seconds: u64,
    /// What was asked of other nodes, and what has come.
    pub requests: u64,
    pub received_bytes: u64,
}

impl Store {
    fn of_site(&self) -> OfSite {
        let last = self.0.namespace.last();
        let [requests, received_bytes] = self.peers().map_or([0; 2], |peers| peers.counts());
        let others = OfSite {
            requests,
            received_bytes,
            ..OfSite::default()
        };
        if let Some(member) = self.member() {
            let numbers = member.numbers(last);
            return OfSite {
                behind_records: numbers.behind_records,
                lease_left_seconds: numbers.lease_left.as_secs(),
                ..others
            };
        }
        let numbers = self.owner().map(|owner| owner.numbers(last));
        let numbers = numbers.unwrap_or_default();
        OfSite {
            members: numbers.members,
            behind_records: numbers.behind_records,
            lease_left_seconds: numbers.lease_left.as_secs(),
            ..others
        }
    }

    /// Which node this is, and which incarnation of it.
    #[must_use]
    pub fn identity(&self) -> (NodeId, Epoch) {
        (self.0.node, Epoch(self.0.epoch.load(Ordering::SeqCst)))
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
        let site = self.of_site();
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
            site,
            log,
            disk,
        })
    }
}
