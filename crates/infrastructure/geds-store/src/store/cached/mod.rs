//! Buckets whose one authority is S3: it says what their names stand for, and has all of their data. What is read comes to memory in blocks.
//!
//! ```text
//!  open ──▶ asked lately enough? ──no──▶ HEAD ──▶ its etag ──▶ block after block: in memory │ under way │ GET If-Match ──▶ pieces, as they come
//!  seal, copy, delete ──▶ S3, with its conditions ──▶ its answer ──▶ what was known of the name is forgotten
//! ```
//!
//! - A block is of one version: bucket, key, etag and number are what it is called. Who reads a version never gets bytes of another.
//! - Blocks are clean objects of their tenant's memory, first to leave it. Where there is no room for one, its bytes pass by.
//! - Nothing is asked for twice at a time, and how much is asked for at a time is bounded.
//! - A write is done when S3 has said so. While S3 does not answer, reading goes on as long as the bucket's policy allows it.
//!
//! The index has these buckets, and none of their names.

mod blocks;
mod listing;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ids::{Epoch, Name as Tenant};
use object_store::Attributes;
use tokio::sync::Semaphore;

pub(super) use self::blocks::Open;
use self::blocks::{Flight, id_of, is_block};
pub use self::writing::Writing;
use super::reader::Content;
use super::{Reader, Status, Store, check};
use crate::core::flights::Flights;
use crate::core::index::{
    BucketName, Class, Entry, Etag, Hints, InS3, Name, NodeId, ObjectId, Placement, Residency,
    Revision, Sealed,
};
use crate::core::known::Known;
use crate::error::{Error, Kind, Result};
use crate::tier2::Tier2;

/// What a block may have. A small one costs more requests, a large one more bytes that nobody wants.
pub const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=8 << 20;
/// So many blocks are on their way at once, and so many are waited for at most.
const FETCHED_AT_ONCE: usize = 16;
const FLIGHTS_MAX: usize = 1 << 10;
/// So many may be under way when one is fetched ahead.
const FLIGHTS_AHEAD_MAX: usize = FETCHED_AT_ONCE / 2;
/// S3 is asked for so many names at once.
const ASKED_AT_ONCE: usize = 64;
/// So often an object is opened anew that is overwritten before anything of it has come.
const OPENED_MAX: usize = 8;
/// So many names are remembered, with what S3 has said of them.
const NAMES_MAX: usize = 1 << 15;

/// No node has this number: what is called so is a block.
const BLOCKS: NodeId = NodeId(u32::MAX);

/// S3 as the authority of buckets.
#[derive(Clone, Debug)]
pub struct Cached {
    pub tier2: Tier2,
    pub buckets: BTreeMap<BucketName, Policy>,
    /// Within [`BLOCK_BYTES`].
    pub block_bytes: u64,
    /// What other tools are to know of an object, and back: the metadata of its entry.
    pub attributes: fn(&Entry) -> Attributes,
    pub metadata: fn(&Attributes) -> Box<[u8]>,
    /// Where requests are made. Not a runtime of one thread.
    pub runtime: tokio::runtime::Handle,
}

/// Of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub owner: Tenant,
    /// What S3 has said of a name is taken for so long. Zero: S3 is asked each time.
    pub revalidate: Duration,
}

/// Counted since the store was opened, but for what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InCache {
    /// Blocks that were read and were in memory.
    pub hits: u64,
    /// Blocks that were read and were not.
    pub misses: u64,
    /// Blocks that came to memory, and their bytes.
    pub fetched_blocks: u64,
    pub fetched_bytes: u64,
    /// Blocks that were not kept, for want of room.
    pub passed_blocks: u64,
    /// Questions of what a name stands for.
    pub revalidations: u64,
    /// Objects that were changed while they were read.
    pub changes: u64,
    /// Requests for names or blocks that have failed, after all attempts.
    pub failures: u64,
    /// Blocks that are waited for.
    pub under_way: u64,
}

#[derive(Debug)]
pub(super) struct Cache {
    config: Cached,
    known: Mutex<Known<Name, Arc<Entry>>>,
    flights: Mutex<Flights<ObjectId, Flight>>,
    fetching: Arc<Semaphore>,
    asking: Semaphore,
    /// Buckets of which S3 is known to mind conditions.
    checked: Mutex<BTreeSet<BucketName>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    fetched_blocks: AtomicU64,
    fetched_bytes: AtomicU64,
    passed_blocks: AtomicU64,
    revalidations: AtomicU64,
    changes: AtomicU64,
    failures: AtomicU64,
}

/// They order nothing else.
fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Cache {
    pub(super) fn new(config: Cached) -> Self {
        Self {
            config,
            known: Mutex::new(Known::new(NAMES_MAX)),
            flights: Mutex::new(Flights::new(FLIGHTS_MAX, FLIGHTS_AHEAD_MAX)),
            fetching: Arc::new(Semaphore::new(FETCHED_AT_ONCE)),
            asking: Semaphore::new(ASKED_AT_ONCE),
            checked: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn stats(&self) -> InCache {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // First, so that what is not under way any more is counted.
        let under_way = lock(&self.flights).n_under_way() as u64;
        InCache {
            hits: count(&self.counts.hits),
            misses: count(&self.counts.misses),
            fetched_blocks: count(&self.counts.fetched_blocks),
            fetched_bytes: count(&self.counts.fetched_bytes),
            passed_blocks: count(&self.counts.passed_blocks),
            revalidations: count(&self.counts.revalidations),
            changes: count(&self.counts.changes),
            failures: count(&self.counts.failures),
            under_way,
        }
    }

    /// What was known of a name is not so any more.
    fn forget(&self, name: &Name) {
        lock(&self.known).changed(name.clone(), rt::now());
    }

    fn entry(&self, name: &Name, etag: Etag, size: u64) -> Entry {
        let at = InS3 {
            name: name.clone(),
            etag: etag.clone(),
        };
        Entry {
            // S3 does not count.
            generation: Revision(0),
            modified_at_ms: 0,
            sealed: Sealed {
                id: id_of(&at, u64::MAX),
                size,
                etag,
                class: Class::Durable,
            },
            metadata: Box::default(),
            hints: Hints::default(),
        }
    }
}

/// A bucket of S3, for who speaks to the store.
#[derive(Clone, Copy, Debug)]
pub struct Through<'a> {
    store: &'a Store,
    cache: &'a Cache,
    policy: &'a Policy,
}

impl Store {
    /// The authority of a bucket, if it is S3. `None`: it is the index.
    #[must_use]
    pub fn through(&self, bucket: &BucketName) -> Option<Through<'_>> {
        let cache = self.0.cache.as_ref()?;
        Some(Through {
            store: self,
            cache,
            policy: cache.config.buckets.get(bucket)?,
        })
    }

    /// Is the index the authority of a bucket?
    ///
    /// # Errors
    /// `Invalid`: S3 is asked for what is in this bucket.
    pub fn check_index(&self, bucket: &BucketName) -> Result<()> {
        if self.through(bucket).is_none() {
            return Ok(());
        }
        let what = format!("the authority of bucket `{bucket}` is S3, which cannot do this");
        Err(Error::new(Kind::Invalid, what))
    }

    /// The nearest copy of what a name stands for, whoever says that.
    ///
    /// # Errors
    /// `NotFound`; `Lost`; what S3 says.
    pub async fn open_anywhere(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        match self.through(&name.bucket) {
            Some(through) => through.open(tenant, name).await,
            None => self.open_at_a_node(tenant, name).await,
        }
    }

    async fn open_at_a_node(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        let reader = self.open_object(tenant, name)?;
        if !reader.is_elsewhere() {
            return Ok(reader);
        }
        let (store, tenant, name) = (self.clone(), tenant.clone(), name.clone());
        let held = rt::blocking(move || store.open_and_hold(&tenant, &name)).await;
        held.map_err(|error| Error::caused(Kind::Unavailable, "ask another node", error))?
    }

    /// Has the buckets that are S3's, and nothing in them. To be called before anybody else calls the store.
    pub(super) fn adopt_buckets(&self) -> Result<()> {
        let Some(cache) = &self.0.cache else {
            return Ok(());
        };
        for (bucket, Policy { owner, .. }) in &cache.config.buckets {
            let found = self.0.namespace.read(|index| {
                let names = index.names(bucket).ok()?;
                let of = index.bucket(bucket).ok()?;
                Some((of.owner == *owner, names.is_empty()))
            });
            let what = match found {
                Some((true, true)) => continue,
                Some((false, _)) => "belongs to another tenant here",
                Some((_, false)) => "has objects here, whose authority is the index",
                None => {
                    self.create_bucket(owner, bucket)?.wait()?;
                    continue;
                }
            };
            let what = format!("S3 cannot be the authority of bucket `{bucket}`: it {what}");
            return Err(Error::new(Kind::Invalid, what));
        }
        Ok(())
    }

    /// Is it a block, and so in S3 too?
    pub(super) fn is_block(id: ObjectId) -> bool {
        is_block(id)
    }
}

impl Through<'_> {
    /// What a name stands for, and where of that is a copy.
    ///
    /// # Errors
    /// `NotFound`; what S3 says.
    pub async fn status(&self, tenant: &Tenant, name: &Name) -> Result<Status> {
        self.check(tenant, &name.bucket)?;
        let entry = self.entry(name).await?;
        let at = InS3 {
            name: name.clone(),
            etag: entry.sealed.etag.clone(),
        };
        let copies = [Residency::S3(Arc::new(at))];
        Ok(Status {
            entry,
            placement: Placement::At(copies.into_iter().collect()),
        })
    }

    /// What is read from it is of the version that there is now, or was lately.
    ///
    /// # Errors
    /// `NotFound`; what S3 says.
    pub async fn open(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        self.check(tenant, &name.bucket)?;
        self.store.0.counts.opened();
        for n_left in (0..OPENED_MAX).rev() {
            let entry = self.entry(name).await?;
            let at = InS3 {
                name: name.clone(),
                etag: entry.sealed.etag.clone(),
            };
            let share = self.store.share(tenant)?;
            let open = Open::new(self.store, share, at, entry.sealed.size);
            match open.begin().await {
                // Nobody has heard of that version.
                Err(error) if error.kind == Kind::Conflict && n_left > 0 => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Reader::new(entry, Content::Cached(Arc::new(open)))),
            }
        }
        unreachable!("the last one returns")
    }

    fn check(&self, tenant: &Tenant, bucket: &BucketName) -> Result<()> {
        let namespace = &self.store.0.namespace;
        namespace.read(|index| check(tenant, bucket, index.bucket(bucket)?))
    }

    /// What a name stands for, as S3 says now or has said lately.
    async fn entry(&self, name: &Name) -> Result<Arc<Entry>> {
        let within = self.policy.revalidate;
        let known = || lock(&self.cache.known).get(name, rt::now(), within);
        if let Some(entry) = known() {
            return Ok(entry);
        }
        let turn = self.cache.asking.acquire().await;
        let _turn =
            turn.map_err(|error| Error::caused(Kind::Internal, "wait for others", error))?;
        // Somebody else may have asked meanwhile.
        if let Some(entry) = known() {
            return Ok(entry);
        }
        self.ask(name).await
    }

    async fn ask(&self, name: &Name) -> Result<Arc<Entry>> {
        let Cache { config, counts, .. } = self.cache;
        let asked = rt::now();
        count(&counts.revalidations, 1);
        let found = config.tier2.look(name).await;
        let seen = found.inspect_err(|_| count(&counts.failures, 1))?;
        let Some(seen) = seen else {
            self.cache.forget(name);
            let what = format!("there is no `{}` in `{}`", name.key, name.bucket);
            return Err(Error::new(Kind::NotFound, what));
        };
        let entry = Arc::new(Entry {
            modified_at_ms: seen.modified_at_ms,
            metadata: (config.metadata)(&seen.attributes),
            ..self.cache.entry(name, seen.etag, seen.size)
        });
        if !self.policy.revalidate.is_zero() {
            lock(&self.cache.known).note(name.clone(), asked, Arc::clone(&entry));
        }
        Ok(entry)
    }
}

fn block_id(digest: &blake3::Hash) -> ObjectId {
    let (halves, _) = digest.as_bytes().as_chunks::<8>();
    ObjectId {
        node: BLOCKS,
        epoch: Epoch(u64::from_le_bytes(halves[0])),
        serial: u64::from_le_bytes(halves[1]),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
