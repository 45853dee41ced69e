//! The store of one node: names and what they stand for from the [`Namespace`], bytes from the arena.
//!
//! ```text
//!  writer ──▶ arena extents          seal ──▶ resident under a new ObjectId ──▶ Namespace::commit ──▶ Sealed, with an Ack
//!  open ──▶ the name's entry ──▶ the resident object ──▶ Reader: views without a copy
//! ```
//!
//! - What is written is private until it is sealed, and immutable from then on. Writing a name again gives it other data; who reads the old goes
//!   on reading it.
//! - A reader never gets an older generation than the one that was sealed before it opened the name.
//! - Every change is answered with an [`Ack`]: seen by all, and kept as long as the node lives. When it is awaited, it is durable.
//! - Memory is that of tenants: each has a domain of the arena, and buckets that nobody else can open.

mod ack;
mod residents;
mod stats;
mod steps;
mod tenants;
#[cfg(test)]
mod tests;
mod warm;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ids::{Epoch, Name as Tenant};
use wal::{Disk, Wal};

pub use self::ack::Ack;
use self::residents::Residents;
pub use self::stats::Stats;
pub(crate) use self::tenants::OWN;
pub use self::tenants::tenant;
use self::warm::Warm;
use crate::arena::{self, Arena, Domain, Opened, View, Writer};
use crate::core::index::{
    Bucket, BucketName, By, Change, Command, ConsumerId, Cursor, Entry, Etag, Folder, Index, Name,
    NodeId, Op, Page, Placement, Precondition, Query, Revision, Scope,
};
use crate::error::{Error, Kind, Result};
use crate::namespace::{self, Committed, Namespace, RECORDS, SNAPSHOTS};

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub arena: arena::Config,
    pub namespace: namespace::Config,
    pub log: wal::Config,
    /// How much of the arena's memory a tenant may use at most. 0: all of it.
    pub tenant_bytes: u64,
}

/// Shared by its clones.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    epoch: Epoch,
    tenant_bytes: u64,
    arena: Arena,
    domains: Mutex<BTreeMap<Arc<Tenant>, Domain>>,
    residents: Residents,
    warm: Arc<Warm>,
    // Before the log, which it uses to its end.
    namespace: Namespace,
    wal: Wal,
}

/// How an object is sealed.
#[derive(Clone, Debug)]
pub struct Terms {
    pub when: Precondition,
    /// For users only.
    pub metadata: Box<[u8]>,
    /// Since 1970. From then on it is a first victim when room is needed.
    pub expires_at_ms: Option<u64>,
    /// So many consumers are expected; 0: unknown.
    pub readers: u32,
    /// Says what the content is. `None`: one that no other object has.
    pub etag: Option<Etag>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            when: Precondition::None,
            metadata: Box::default(),
            expires_at_ms: None,
            readers: 0,
            etag: None,
        }
    }
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub struct Status {
    pub entry: Arc<Entry>,
    pub placement: Placement,
}

/// An object that is open. Its bytes stay, whatever its name stands for meanwhile.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Read>);

#[derive(Debug)]
struct Read {
    entry: Arc<Entry>,
    opened: Opened,
}

impl Store {
    /// The store whose log is on `disk`. What was in memory when it ended before is lost.
    ///
    /// # Errors
    /// When the log cannot be read, or there is no memory.
    pub fn open(config: &Config, node: NodeId, disk: Arc<dyn Disk>) -> Result<Self> {
        let wal = Wal::open(disk, config.log)?;
        let [records, snapshots] = [wal.log(RECORDS)?, wal.log(SNAPSHOTS)?];
        let names = config.namespace.clone();
        let warm = Arc::new(Warm::default());
        let observer = {
            let warm = Arc::clone(&warm);
            Box::new(move |changes: &[Change]| warm.forget(changes))
        };
        let namespace = Namespace::open(names, Box::new(records), Box::new(snapshots), observer)?;
        let epoch = wal.epoch();
        let store = Self(Arc::new(Inner {
            node,
            epoch,
            tenant_bytes: config.tenant_bytes,
            arena: Arena::start(&config.arena)?,
            domains: Mutex::default(),
            residents: Residents::default(),
            warm,
            namespace,
            wal,
        }));
        store.commit(Precondition::None, Op::NodeJoined(node, epoch))?;
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
        Ok(self.domain(tenant)?.1.writer())
    }

    /// Gives a name to what was written. It is in memory only: the end of the node loses it.
    ///
    /// # Errors
    /// `Conflict` when it is not as the terms say; nothing was changed then, and what was written is gone.
    pub fn seal(
        &self,
        tenant: &Tenant,
        name: &Name,
        writer: Writer,
        terms: Terms,
    ) -> Result<(Arc<Entry>, Ack)> {
        self.seal_with(tenant, name, writer, |index| {
            check(tenant, &name.bucket, index.bucket(&name.bucket)?)?;
            Ok(terms)
        })
    }

    /// # Errors
    /// `NotFound`; `Lost` when all copies are gone.
    pub fn open_object(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        if let Some(reader) = self.0.warm.get(tenant, name) {
            return Ok(reader);
        }
        let owner = self.domain(tenant)?.0;
        self.0.namespace.read(|index| {
            let Status { entry, placement } = status(index, tenant, name)?;
            if let Placement::Lost(loss) = placement {
                let what = format!("`{}` in `{}` is lost: {loss:?}", name.key, name.bucket);
                return Err(Error::new(Kind::Lost, what));
            }
            let missing = || Error::new(Kind::Internal, "a copy that is here is not");
            let object = self.0.residents.get(entry.sealed.id).ok_or_else(missing)?;
            let opened = object.open()?;
            let reader = Reader(Arc::new(Read { entry, opened }));
            self.0.warm.insert(&owner, name, reader.clone());
            Ok(reader)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn status(&self, tenant: &Tenant, name: &Name) -> Result<Status> {
        self.0.namespace.read(|index| status(index, tenant, name))
    }

    /// A page of names; `from` is where the one before said that the next begins.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, or what was at the revision of `from` is not known any more.
    pub fn list(&self, tenant: &Tenant, query: &Query<'_>, from: Option<&Cursor>) -> Result<Page> {
        self.0.namespace.read(|index| {
            let bucket = &query.folder.bucket;
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

    /// What is to be done from time to time: goes on after the disk was full, and makes a snapshot of the index if one pays.
    ///
    /// # Errors
    /// `Exhausted` while the disk is full; `Corrupt` when a restart would fail; what the log says.
    pub fn maintain(&self) -> Result<()> {
        let Inner { namespace, wal, .. } = &*self.0;
        if wal.stats().is_full {
            namespace.resume(|| wal.resume())?;
        }
        if namespace.wants_snapshot() {
            namespace.snapshot()?;
        }
        Ok(())
    }

    fn commit(&self, when: Precondition, op: Op) -> Result<Ack> {
        let by = By::Owner;
        let committed = self.0.namespace.commit(Command { by, when, op })?;
        Ok(self.settle(committed))
    }

    /// Lets go what nobody names any more.
    fn settle(&self, committed: Committed) -> Ack {
        let changes = committed.commit.iter().flat_map(|commit| &*commit.changes);
        for change in changes {
            if let Change::Released { id, .. } = change {
                self.0.residents.remove(*id);
            }
        }
        Ack::new(committed.ticket)
    }

    fn domain(&self, tenant: &Tenant) -> Result<(Arc<Tenant>, Domain)> {
        let mut domains = self
            .0
            .domains
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((tenant, domain)) = domains.get_key_value(tenant) {
            return Ok((Arc::clone(tenant), domain.clone()));
        }
        let limit = match self.0.tenant_bytes {
            0 => self.0.arena.limit_bytes(),
            bytes => bytes,
        };
        let domain = self.0.arena.domain(limit)?;
        let tenant = Arc::new(tenant.clone());
        domains.insert(Arc::clone(&tenant), domain.clone());
        Ok((tenant, domain))
    }

    fn check(&self, tenant: &Tenant, bucket: &BucketName) -> Result<()> {
        self.0
            .namespace
            .read(|index| check(tenant, bucket, index.bucket(bucket)?))
    }
}

impl Reader {
    /// What its name said when it was opened.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.0.entry
    }

    /// All of it, if it lies in one piece.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.0.opened.view()
    }

    /// Its pieces, in order.
    pub fn views(&self) -> impl Iterator<Item = View> + '_ {
        self.0.opened.views()
    }

    /// Copies bytes from `position` on; gives their number.
    pub fn read_at(&self, position: u64, into: &mut [u8]) -> usize {
        self.0.opened.read_at(position, into)
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.opened.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.opened.is_empty()
    }
}

/// What a name has been given.
pub(crate) fn entry_of<'a>(
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

pub(crate) fn now_ms() -> u64 {
    let since = rt::wall().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
