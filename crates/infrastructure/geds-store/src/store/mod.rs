//! The store of one node: names and what they stand for from the [`Namespace`], bytes from the arena and from the disk.
//!
//! ```text
//!  writer ──▶ arena extents    seal ──▶ [durable: to the disk] ──▶ resident under a new ObjectId ──▶ Namespace::commit ──▶ Sealed, with an Ack
//!  open ──▶ the name's entry ──▶ the resident object ──▶ Reader: views without a copy
//!                          └───▶ the object on the disk ──▶ Reader: read piece by piece
//! ```
//!
//! - What is written is private until it is sealed, and immutable from then on. Writing a name again gives it other data; who reads the old goes
//!   on reading it.
//! - A reader never gets an older generation than the one that was sealed before it opened the name.
//! - Every change is answered with an [`Ack`]: seen by all, and kept as long as the node lives. When it is awaited, it is durable. An object of
//!   the class [`Durable`](Class::Durable) is so with its bytes; of an [`Ephemeral`](Class::Ephemeral) one only the name is.
//! - The index tells of the copies that count: in memory if there is no other, on the disk else. What is in memory besides is a cache.
//! - All this is so of buckets whose authority is the index. Those that are S3's are a matter of [`cached`]: here they are refused.
//! - Memory is that of tenants: each has a domain of the arena, and buckets that nobody else can open.

mod ack;
mod cached;
mod disk_reader;
mod disk_room;
mod elsewhere;
mod local;
mod member;
mod memory;
mod objects;
mod persist;
mod reader;
mod remote;
mod residents;
mod scrub;
mod stats;
mod steps;
mod tenants;
#[cfg(test)]
mod tests;
mod warm;
mod write_back;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ids::{Epoch, Name as Tenant};
use wal::{Disk, LogId, Wal};

pub use geds_client::{Condition, Status, Terms};

pub use self::ack::Ack;
use self::cached::Cache;
pub use self::cached::{BLOCK_BYTES, Cached, InCache, Policy, Through, Writing};
pub use self::memory::Moved;
pub use self::objects::Unnamed;
use self::reader::Content;
pub use self::reader::{Pieces, Reader};
use self::remote::Requests;
pub use self::remote::{InRemote, Remote};
use self::residents::{Resident, Residents};
use self::scrub::Scrubber;
pub use self::scrub::{Scrubbed, Scrubbing};
use self::stats::Counts;
pub use self::stats::{OfSite, Stats};
pub use self::tenants::{OWN, PEER, peer, tenant};
use self::tenants::{Share, Shares};
use self::warm::Warm;
pub use self::writer::Writer;
use crate::arena::{self, Arena};
use crate::core::index::{
    Bucket, BucketName, By, Change, Class, Command, ConsumerId, Cursor, Entry, Folder, Index, Name,
    NodeId, ObjectId, Op, Page, Placement, Precondition, Query, Residency, Revision, Scope,
};
use crate::core::victims::Victims;
use crate::error::{Error, Kind, Result};
use crate::namespace::{self, Committed, Namespace, RECORDS, SNAPSHOTS};
use crate::site::member::Member;
use crate::site::owner::Owner;
use crate::site::peers::Peers;
use crate::tier1::{self, Prepared};

/// The log of the objects on the disk, beside those of the index.
const OBJECTS: LogId = LogId(3);

#[derive(Clone, Debug)]
pub struct Config {
    pub arena: arena::Config,
    pub namespace: namespace::Config,
    pub log: wal::Config,
    pub tier1: tier1::Config,
    /// How much of the arena's memory a tenant may use at most. 0: all of it.
    pub tenant_bytes: u64,
    /// So long who writes waits for room in memory.
    pub room_wait: Duration,
    /// `None`: nothing of it is in S3.
    pub remote: Option<Remote>,
    /// `None`: the index is the authority of all buckets.
    pub cached: Option<Cached>,
    /// All that is on the disk is looked at so often, by [`Store::maintain`].
    pub scrub_every: Duration,
    /// `None`: the node owns its names.
    pub member: Option<Arc<Member>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            arena: arena::Config::default(),
            namespace: namespace::Config::default(),
            log: wal::Config::default(),
            tier1: tier1::Config::default(),
            tenant_bytes: 0,
            room_wait: Duration::from_secs(10),
            remote: None,
            cached: None,
            scrub_every: Duration::from_secs(24 * 60 * 60),
            member: None,
        }
    }
}

/// Where a store keeps what lasts.
#[derive(Clone, Debug)]
pub struct Disks {
    pub log: Arc<dyn Disk>,
    /// See [`tier1::Drive`].
    pub objects: Arc<dyn Disk>,
}

/// Shared by its clones.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    /// That of a member is another one whenever it joins.
    epoch: AtomicU64,
    member: Option<Arc<Member>>,
    /// What others know of what this node owns, if there may be others.
    owner: OnceLock<Arc<Owner>>,
    /// Those who may have what is not here.
    peers: OnceLock<Arc<Peers>>,
    tenant_bytes: u64,
    arena: Arena,
    room_wait: Duration,
    shares: Arc<Shares>,
    /// Of those that have asked; there was more room since. What it was is nobody's business.
    freed: (Mutex<()>, Condvar),
    /// To be brought to memory.
    wanted: Mutex<VecDeque<(ObjectId, Arc<Share>)>>,
    moved: Mutex<Moved>,
    scrubber: Mutex<Scrubber>,
    counts: Counts,
    residents: Residents,
    warm: Arc<Warm>,
    /// Of the last object that was given a name, or was to be.
    last_serial: AtomicU64,
    /// Should be on the disk, whose log has refused them when it was full. Large ones are there, but for their names.
    refused: Mutex<BTreeMap<ObjectId, Option<Prepared>>>,
    /// Nobody names them any more, and the log does not know yet that somebody has: if it is full, it is told all of it again.
    kept: Mutex<BTreeMap<ObjectId, Arc<Resident>>>,
    /// Are damaged on the disk, and whole in memory.
    damaged: Mutex<BTreeSet<ObjectId>>,
    /// Held by who moves objects out of memory because he has to wait for it.
    evicting: Mutex<()>,
    /// What is on the disk, in the order in which it leaves it.
    on_disk: Mutex<Victims<ObjectId>>,
    /// Held by who makes room on the disk.
    evicting_from_disk: Mutex<()>,
    requests: Option<Requests>,
    cache: Option<Cache>,
    // Before the log, which they use to their end.
    disk: tier1::Store,
    namespace: Namespace,
    wal: Wal,
}

impl Store {
    /// The store that is on those disks. What was in memory only when it ended before is lost.
    ///
    /// # Errors
    /// When the log or the disk cannot be read, or there is no memory.
    pub fn open(config: &Config, node: NodeId, disks: Disks) -> Result<Self> {
        let wal = Wal::open(disks.log, config.log)?;
        let [records, snapshots] = [wal.log(RECORDS)?, wal.log(SNAPSHOTS)?];
        let objects = Arc::new(wal.log(OBJECTS)?);
        let disk = tier1::Store::open(&config.tier1, disks.objects, objects)?;
        let mut names = config.namespace.clone();
        // Parts of uploads are of the store: what they become is a tenant's.
        names.limits.unlimited_owner = Some(tenants::own());
        let warm = Arc::new(Warm::default());
        let shares = Arc::new(Shares::default());
        let observer = {
            let (warm, shares) = (Arc::clone(&warm), Arc::clone(&shares));
            Box::new(move |index: &Index, changes: &[Change]| {
                warm.forget(changes);
                shares.touch(index, changes);
            })
        };
        let (namespace, epoch) = match &config.member {
            None => {
                let logs = [records, snapshots].map(Box::new);
                let [records, snapshots] = logs;
                let namespace = Namespace::open(names, records, snapshots, observer)?;
                // Others have had epochs of the index.
                let last = namespace.read(Index::last_epoch);
                let epoch = wal.epoch().max(last.next());
                (namespace, epoch)
            }
            Some(_) => {
                member::check_empty(&records)?;
                member::check_empty(&snapshots)?;
                (Namespace::replica(names, observer), Epoch(0))
            }
        };
        let store = Self(Arc::new(Inner {
            node,
            epoch: AtomicU64::new(epoch.0),
            member: config.member.clone(),
            owner: OnceLock::new(),
            peers: OnceLock::new(),
            tenant_bytes: config.tenant_bytes,
            arena: Arena::start(&config.arena)?,
            room_wait: config.room_wait,
            shares,
            freed: (Mutex::default(), Condvar::new()),
            wanted: Mutex::default(),
            moved: Mutex::default(),
            scrubber: Mutex::new(Scrubber::every(config.scrub_every)),
            counts: Counts::new(config.member.is_some()),
            residents: Residents::default(),
            warm,
            last_serial: AtomicU64::new(0),
            refused: Mutex::default(),
            kept: Mutex::default(),
            damaged: Mutex::default(),
            evicting: Mutex::default(),
            on_disk: Mutex::default(),
            evicting_from_disk: Mutex::default(),
            requests: config.remote.clone().map(Requests::new),
            cache: config.cached.clone().map(Cache::new),
            disk,
            namespace,
            wal,
        }));
        if let Some(member) = &config.member {
            store.set_peers(Arc::clone(&member.peers));
            // All else when it has joined.
            return Ok(store);
        }
        store.commit(Precondition::None, Op::NodeJoined(node, epoch))?;
        store.reconcile()?;
        store.adopt_buckets()?;
        store.find_dirty();
        Ok(store)
    }

    /// What is known of names, and what changes.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// # Errors
    /// `Conflict` when there is one of that name; `Invalid` when it is one of the store's own.
    pub fn create_bucket(&self, tenant: &Tenant, bucket: &BucketName) -> Result<Ack> {
        tenants::check_bucket(tenant, bucket)?;
        self.commit(
            Precondition::None,
            Op::CreateBucket {
                bucket: bucket.clone(),
                owner: tenant.clone(),
                created_at_ms: now_ms(),
            },
        )
    }

    /// # Errors
    /// `Conflict` when it is not empty.
    pub fn delete_bucket(&self, tenant: &Tenant, bucket: &BucketName) -> Result<Ack> {
        self.check(tenant, bucket)?;
        self.commit(Precondition::None, Op::DeleteBucket(bucket.clone()))
    }

    /// Those of a tenant, in order, and when each was created (since 1970, in ms).
    #[must_use]
    pub fn buckets(&self, tenant: &Tenant) -> Vec<(BucketName, u64)> {
        self.0.namespace.read(|index| {
            let own = index
                .buckets()
                .filter(|(_, bucket)| bucket.owner == *tenant);
            own.map(|(name, bucket)| (name.clone(), bucket.created_at_ms))
                .collect()
        })
    }

    /// Begins an object, in the memory of a tenant.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn writer(&self, tenant: &Tenant) -> Result<Writer> {
        Ok(Writer::new(self.clone(), self.share(tenant)?))
    }

    /// Ends what was written. If it is to be durable and has more than 64 KiB, it is on the disk when this returns; and so it is, and durable, if it
    /// was too long for memory.
    ///
    /// # Errors
    /// `Exhausted` when there is no room on the disk; what was written is gone then.
    pub fn finish(&self, class: Class, writer: Writer) -> Result<Unnamed> {
        writer.finish(self, class)
    }

    /// Gives a name to what was written. Of an ephemeral object the end of the node loses the bytes. Those of a durable one are on the disk when the
    /// [`Ack`] says that it is durable.
    ///
    /// # Errors
    /// As [`finish`](Self::finish); `Conflict` when it is not as the terms say: nothing was changed then, and what was written is gone.
    pub fn seal(
        &self,
        tenant: &Tenant,
        name: &Name,
        (class, writer): (Class, Writer),
        terms: Terms,
    ) -> Result<(Arc<Entry>, Ack)> {
        if writer.share.tenant != *tenant {
            return Err(Error::new(
                Kind::Invalid,
                "a tenant seals what it has written",
            ));
        }
        let unnamed = self.finish(class, writer)?;
        self.seal_with(name, unnamed, |index| {
            check(tenant, &name.bucket, index.bucket(&name.bucket)?)?;
            Ok(terms.clone())
        })
    }

    /// Opens what a name stands for, without waiting for the disk.
    ///
    /// # Errors
    /// `NotFound`; `Lost` when all copies are gone.
    pub fn open_object(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        let inner = &*self.0;
        inner.counts.opened();
        if inner.counts.is_member {
            self.live()?;
        }
        if let Some(reader) = inner.warm.get(tenant, name) {
            reader.touch();
            return Ok(reader);
        }
        self.check_index(&name.bucket)?;
        inner.namespace.read(|index| {
            let Status { entry, placement } = status(index, tenant, name)?;
            if let Placement::Lost(loss) = placement {
                let what = format!("`{}` in `{}` is lost: {loss:?}", name.key, name.bucket);
                return Err(Error::new(Kind::Lost, what));
            }
            let content = self.content(&entry, &placement, tenant)?;
            let is_warm = matches!(content, Content::Memory(_));
            let reader = Reader::new(entry, content);
            reader.touch();
            if let Ok(share) = self.share(tenant) {
                if is_warm {
                    inner.warm.insert(&share, name, reader.clone());
                } else if tenant.as_str() != OWN && memory::may_be_promoted(reader.len()) {
                    self.want(&reader, &share);
                }
            }
            Ok(reader)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn status(&self, tenant: &Tenant, name: &Name) -> Result<Status> {
        self.live()?;
        self.check_index(&name.bucket)?;
        self.0.namespace.read(|index| status(index, tenant, name))
    }

    /// A page of names; `from` is where the one before said that the next begins.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, or what was at the revision of `from` is not known any more.
    pub fn list(&self, tenant: &Tenant, query: &Query<'_>, from: Option<&Cursor>) -> Result<Page> {
        self.live()?;
        let bucket = &query.folder.bucket;
        self.check_index(bucket)?;
        self.0.namespace.read(|index| {
            check(tenant, bucket, index.bucket(bucket)?)?;
            let first = index.cursor("");
            Ok(index.list(query, from.unwrap_or(&first))?)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn set_metadata(&self, tenant: &Tenant, name: &Name, metadata: Box<[u8]>) -> Result<Ack> {
        self.check(tenant, &name.bucket)?;
        self.commit(Precondition::None, Op::SetMetadata(name.clone(), metadata))
    }

    /// Says that a consumer has read an object to its end. Said again, it changes nothing.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn consume(&self, tenant: &Tenant, name: &Name, consumer: ConsumerId) -> Result<Ack> {
        self.check(tenant, &name.bucket)?;
        self.commit(Precondition::None, Op::Consume(name.clone(), consumer))
    }

    /// One more name for the same data, with metadata of its own if there is some.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when `to` is not as `when` says.
    pub fn copy(
        &self,
        tenant: &Tenant,
        [from, to]: [&Name; 2],
        metadata: Option<Box<[u8]>>,
        when: Precondition,
    ) -> Result<Ack> {
        self.check(tenant, &from.bucket)?;
        self.check(tenant, &to.bucket)?;
        let (from, to) = (from.clone(), to.clone());
        let modified_at_ms = now_ms();
        self.commit(
            when,
            Op::Copy {
                from,
                to,
                metadata,
                modified_at_ms,
            },
        )
    }

    /// # Errors
    /// `NotFound`; `Conflict` when `to` is not as `when` says.
    pub fn rename(
        &self,
        tenant: &Tenant,
        [from, to]: [&Name; 2],
        when: Precondition,
    ) -> Result<Ack> {
        self.check(tenant, &from.bucket)?;
        self.check(tenant, &to.bucket)?;
        let (from, to) = (from.clone(), to.clone());
        self.commit(when, Op::Rename { from, to })
    }

    /// All names that begin with one prefix begin with another, at once.
    ///
    /// # Errors
    /// `Conflict` when a name would be replaced and `when` is `Absent`; `Exhausted` when there are too many.
    pub fn rename_prefix(
        &self,
        tenant: &Tenant,
        [from, to]: [&Folder; 2],
        when: Precondition,
    ) -> Result<Ack> {
        self.check(tenant, &from.bucket)?;
        self.check(tenant, &to.bucket)?;
        let (from, to) = (from.clone(), to.clone());
        self.commit(when, Op::RenamePrefix { from, to })
    }

    /// # Errors
    /// `NotFound`; `Conflict` when it is not as `when` says.
    pub fn delete(&self, tenant: &Tenant, name: &Name, when: Precondition) -> Result<Ack> {
        self.check(tenant, &name.bucket)?;
        self.commit(when, Op::Delete(name.clone()))
    }

    /// # Errors
    /// `Exhausted` when there are too many at once.
    pub fn delete_prefix(&self, tenant: &Tenant, folder: &Folder) -> Result<Ack> {
        self.check(tenant, &folder.bucket)?;
        self.commit(Precondition::None, Op::DeletePrefix(folder.clone()))
    }

    /// What happened in a tenant's folder or to a name after a revision, oldest first, up to the revision that is told with it.
    ///
    /// # Errors
    /// `NotFound` when that is not known any more: list again.
    pub fn changes_since(
        &self,
        tenant: &Tenant,
        revision: Revision,
        scope: &Scope,
    ) -> Result<(Vec<(Revision, Change)>, Revision)> {
        self.live()?;
        let bucket = match scope {
            Scope::Folder(folder) => &folder.bucket,
            Scope::Name(name) => &name.bucket,
            Scope::All => return Err(Error::new(Kind::Denied, "a tenant sees its own buckets")),
        };
        self.0.namespace.read(|index| {
            check(tenant, bucket, index.bucket(bucket)?)?;
            let changes = index.changes_since(revision, scope)?;
            let changes = changes.map(|(at, change)| (at, change.clone())).collect();
            Ok((changes, index.revision()))
        })
    }

    /// What is to be done from time to time: goes on after the disk was full, makes room in memory before somebody needs it, brings back what was
    /// read from the disk, deletes what is spent of tenants at their limit, looks for damage, and makes a snapshot of the index if one pays. To be called about once a second.
    ///
    /// # Errors
    /// `Exhausted` while the disk is full; `Corrupt` when a restart would fail; what the log says.
    pub fn maintain(&self) -> Result<()> {
        // Each of them, whatever becomes of the others; the log is to stay short first of all.
        let resumed = self.resume();
        self.drop_kept();
        let short = self.shorten_log();
        let room = self.keep_disk_room().and(self.keep_room());
        self.promote_wanted();
        let deleted = match self.0.member {
            // The owner of the names does it.
            Some(_) => Ok(()),
            None => self.delete_spent_of_full(),
        };
        let scrubbed = self.scrub_on();
        resumed.and(short).and(room).and(deleted).and(scrubbed)
    }

    /// What waits for S3, and what was done there. `None`: nothing of it is in S3.
    #[must_use]
    pub fn in_remote(&self) -> Option<InRemote> {
        self.0.requests.as_ref().map(Requests::stats)
    }

    fn shorten_log(&self) -> Result<()> {
        if self.0.namespace.wants_snapshot() {
            self.0.namespace.snapshot()?;
        }
        Ok(())
    }

    fn commit(&self, when: Precondition, op: Op) -> Result<Ack> {
        if let Some(member) = &self.0.member {
            return Ok(self.commit_there(member, when, op)?.1);
        }
        let by = By::Owner;
        let committed = self.0.namespace.commit(Command { by, when, op })?;
        Ok(self.settle(committed))
    }

    fn settle(&self, committed: Committed) -> Ack {
        self.note(committed.changes());
        self.ack(committed.ticket)
    }

    /// Lets go what nobody names any more.
    pub(crate) fn note(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Released { id, copies } => {
                    self.release(*id);
                    for copy in copies.iter() {
                        if let Residency::S3(at) = copy {
                            self.doom(*id, at);
                        }
                    }
                    self.note_released(*id);
                }
                Change::Named {
                    name,
                    after: Some(entry),
                    ..
                } => {
                    self.note_named(name, &entry.sealed);
                    if entry.hints.readers > 0 {
                        self.note_consumed(entry.sealed.id);
                    }
                }
                _ => {}
            }
        }
    }

    fn share(&self, tenant: &Tenant) -> Result<Arc<Share>> {
        self.0.shares.get_or(tenant, || {
            let limit = match self.0.tenant_bytes {
                0 => self.0.arena.limit_bytes(),
                bytes => bytes,
            };
            Ok(self.0.arena.domain(limit)?)
        })
    }

    fn shares(&self) -> Vec<Arc<Share>> {
        self.0.shares.all()
    }

    fn moved_mut(&self) -> MutexGuard<'_, Moved> {
        self.0.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May a tenant change in the index what is in a bucket?
    fn check(&self, tenant: &Tenant, bucket: &BucketName) -> Result<()> {
        self.live()?;
        self.0
            .namespace
            .read(|index| check(tenant, bucket, index.bucket(bucket)?))?;
        self.check_index(bucket)
    }
}

impl Inner {
    fn on_disk(&self) -> MutexGuard<'_, Victims<ObjectId>> {
        self.on_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a name has been given by changes.
///
/// # Errors
/// `Internal`: nothing.
pub fn entry_of<'a>(
    changes: impl IntoIterator<Item = &'a Change>,
    name: &Name,
) -> Result<Arc<Entry>> {
    let changes = changes.into_iter();
    let entries = changes.filter_map(|change| match change {
        Change::Named {
            name: of,
            after: Some(entry),
            ..
        } if of == name => Some(Arc::clone(entry)),
        _ => None,
    });
    let missing = || Error::new(Kind::Internal, "a name was not given what it was to have");
    entries.last().ok_or_else(missing)
}

fn status(index: &Index, tenant: &Tenant, name: &Name) -> Result<Status> {
    check(tenant, &name.bucket, index.bucket(&name.bucket)?)?;
    let entry = Arc::clone(index.entry(name)?);
    let placement = index.object(entry.sealed.id)?.placement().clone();
    Ok(Status { entry, placement })
}

fn check(tenant: &Tenant, name: &BucketName, bucket: &Bucket) -> Result<()> {
    if bucket.owner == *tenant {
        Ok(())
    } else {
        let what = format!("bucket `{name}` belongs to somebody else");
        Err(Error::new(Kind::Denied, what))
    }
}

/// Since 1970: so the index says when something was made.
#[must_use]
pub fn now_ms() -> u64 {
    let since = rt::wall().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
