//! The index, what it answers, and what it allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ids::Epoch;

use super::command::{By, Cause, Change, Command, Error, Op, Precondition, Record, Scope, Seal};
use super::history::History;
use super::list::{Cursor, Page, Query, View, not_less};
use super::names::{BucketName, Folder, KEY_BYTES_MAX, Key, Name, NodeId, ObjectId, Revision};
use super::object::{Class, Entry, Object, Residency};
use super::objects::Objects;

/// The names of a bucket.
pub type Names = BTreeMap<Key, Arc<Entry>>;

/// Its maps are those of the standard library, not persistent ones: older views are wanted for pages only, and the changes that are kept for watchers
/// give any of them for at most 0.5 kB a change, where a persistent tree keeps 3 kB of copied nodes for each revision.
#[derive(Debug)]
pub struct Index {
    pub(crate) limits: Limits,
    pub(crate) revision: Revision,
    pub(crate) buckets: BTreeMap<BucketName, Bucket>,
    pub(crate) objects: Objects,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// The highest of any node, also of those that were forgotten.
    pub(crate) last_epoch: Epoch,
    /// See [`Self::doomed`].
    pub(crate) doomed: BTreeSet<(Name, ObjectId)>,
    /// See [`Limits::names_bytes_max`].
    pub(crate) names_bytes: usize,
    /// See [`Self::owned_bytes`]. Who owns nothing is not in it.
    pub(crate) owned_bytes: BTreeMap<ids::Name, u128>,
    pub(crate) history: History,
}

/// What is allowed from now on. What is there, or in the log, may exceed it.
#[derive(Clone, Debug)]
pub struct Limits {
    pub buckets_max: usize,
    /// Those that are not heard any more count too, until they are forgotten.
    pub nodes_max: usize,
    /// The memory of all names and their objects, and of what is to be deleted in S3, roughly. Renaming is not refused for longer names.
    pub names_bytes_max: usize,
    pub metadata_bytes_max: usize,
    /// Of one object.
    pub names_max: usize,
    pub copies_max: usize,
    /// Of one name.
    pub consumers_max: usize,
    /// How many names one command may rename or delete.
    pub transaction_names_max: usize,
    /// What the names of one owner may stand for.
    pub owned_bytes_max: u64,
    /// An owner without that limit.
    pub unlimited_owner: Option<ids::Name>,
    /// The memory of the changes that are kept, roughly. It has room for the largest rename, unless keys or metadata are long.
    pub history_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buckets_max: 10_000,
            nodes_max: 4_096,
            names_bytes_max: 8 << 30,
            metadata_bytes_max: 16 << 10,
            names_max: 100,
            copies_max: 32,
            consumers_max: 1_000,
            transaction_names_max: 100_000,
            owned_bytes_max: u64::MAX,
            unlimited_owner: None,
            history_bytes_max: 128 << 20,
        }
    }
}

/// What the index knows of a bucket, beside what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Whose it is. The index asks nobody who they are: whoever stands before it decides by this.
    pub owner: ids::Name,
    /// Since 1970.
    pub created_at_ms: u64,
    pub(crate) names: Names,
}

/// The last incarnation of a node that was spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub epoch: Epoch,
    /// It has joined and is not lost.
    pub is_heard: bool,
    /// The highest that this incarnation has sealed, or 0. No lower one is sealed any more: one number tells what is new, and of what is gone
    /// nothing has to be remembered.
    pub last_serial: u64,
}

impl Bucket {
    pub(crate) fn new(owner: ids::Name, created_at_ms: u64) -> Self {
        Self {
            owner,
            created_at_ms,
            names: Names::new(),
        }
    }

    #[must_use]
    pub fn n_names(&self) -> usize {
        self.names.len()
    }
}

impl Index {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            history: History::new(Revision(0), limits.history_bytes_max),
            limits,
            revision: Revision(0),
            buckets: BTreeMap::new(),
            objects: Objects::default(),
            nodes: BTreeMap::new(),
            last_epoch: Epoch(0),
            doomed: BTreeSet::new(),
            names_bytes: 0,
            owned_bytes: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Objects that have a name.
    #[must_use]
    pub fn n_objects(&self) -> usize {
        self.objects.len()
    }

    /// See [`Limits::names_bytes_max`].
    #[must_use]
    pub fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// What the names in all buckets of an owner stand for, in bytes. What has several names counts as often.
    #[must_use]
    pub fn owned_bytes(&self, owner: &ids::Name) -> u64 {
        let bytes = self.owned_bytes.get(owner).copied().unwrap_or(0);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Of the last record.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn buckets(&self) -> impl Iterator<Item = (&BucketName, &Bucket)> {
        self.buckets.iter()
    }

    /// # Errors
    /// [`Error::NoBucket`].
    pub fn bucket(&self, bucket: &BucketName) -> Result<&Bucket, Error> {
        let found = self.buckets.get(bucket);
        found.ok_or_else(|| Error::NoBucket(bucket.clone()))
    }

    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<Node> {
        self.nodes.get(&node).copied()
    }

    /// Those that are known, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Node)> {
        self.nodes.iter().map(|(id, node)| (*id, *node))
    }

    /// The next incarnation of any node has a higher one. Were that so for each node alone, the index would have to remember every node for
    /// ever, or take one that it has forgotten for new, with the epoch and the [`ObjectId`]s of a former incarnation.
    #[must_use]
    pub fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    /// # Errors
    /// [`Error::NoBucket`] or [`Error::NoName`].
    pub fn entry(&self, name: &Name) -> Result<&Arc<Entry>, Error> {
        let found = self.names(&name.bucket)?.get(&name.key);
        found.ok_or_else(|| Error::NoName(name.clone()))
    }

    /// # Errors
    /// [`Error::NoObject`].
    pub fn object(&self, id: ObjectId) -> Result<&Object, Error> {
        self.objects.get(id).ok_or(Error::NoObject(id))
    }

    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, &Object)> {
        self.objects.iter()
    }

    /// Copies in S3 that nobody names any more, in order, and of which it is not known that they are gone: under which name, and of which object.
    pub fn doomed(&self) -> impl Iterator<Item = &(Name, ObjectId)> {
        self.doomed.iter()
    }

    /// The start of a list of the present names that are not less than `from`.
    #[must_use]
    pub fn cursor(&self, from: &str) -> Cursor {
        Cursor {
            revision: self.revision,
            from: from.to_owned(),
        }
    }

    /// # Errors
    /// [`Error::NoBucket`], also when it is gone since, and [`Error::Compacted`], also when it was made since.
    pub fn list(&self, query: &Query<'_>, from: &Cursor) -> Result<Page, Error> {
        let bucket = &query.folder.bucket;
        let names = self.names(bucket)?;
        let past = self.history.past(bucket, from.revision)?;
        Ok(View { names, past }.list(query, from))
    }

    /// What happened after a revision, oldest first. Whoever stops early stops after a whole revision and asks again from there.
    ///
    /// # Errors
    /// [`Error::Compacted`], also when the bucket of the scope was made since: what was before is of another one.
    pub fn changes_since<'a>(
        &'a self,
        revision: Revision,
        scope: &'a Scope,
    ) -> Result<impl Iterator<Item = (Revision, &'a Change)>, Error> {
        let changes = self.history.since(revision, scope.bucket())?;
        Ok(changes.filter(|(_, change)| scope.holds(change)))
    }

    /// The record of a command, or `None` if it is true already and there is nothing to do.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn decide(&self, command: Command) -> Result<Option<Record>, Error> {
        let Command { by, when, op } = command;
        self.hear(by, &op)?;
        let changes_something = self.check(&op)?;
        self.compare(&when, &op)?;
        if changes_something {
            self.limit(&op)?;
        }
        let revision = self.revision.next();
        Ok(changes_something.then_some(Record { revision, op }))
    }

    /// Whether who asks may ask that.
    fn hear(&self, by: By, op: &Op) -> Result<(), Error> {
        let By::Node(node, epoch) = by else {
            return Ok(());
        };
        if !self.is_heard(node, epoch) {
            return Err(Error::Fenced { node, epoch });
        }
        let is_own = |copy: &Residency| copy.node().is_none_or(|at| at == node);
        let refused = match op {
            Op::NodeJoined(..) | Op::NodeLost(..) | Op::ForgetNode(_) => {
                "nodes do not say which nodes there are"
            }
            Op::Seal(seal) if (seal.sealed.id.node, seal.sealed.id.epoch) != (node, epoch) => {
                "a node seals under its own number and epoch"
            }
            Op::Seal(seal) if !seal.copies.iter().all(is_own) => "a node speaks of its own copies",
            Op::AddCopy(_, copy) | Op::DropCopy(_, copy, _) if !is_own(copy) => {
                "a node speaks of its own copies"
            }
            _ => return Ok(()),
        };
        Err(Error::Invalid(refused))
    }

    fn limit(&self, op: &Op) -> Result<(), Error> {
        let limits = &self.limits;
        let metadata = |bytes: &[u8]| {
            within(bytes.len(), limits.metadata_bytes_max, "bytes of metadata")?;
            within(self.names_bytes, limits.names_bytes_max, "bytes of names")
        };
        match op {
            Op::CreateBucket { .. } => {
                within(self.buckets.len() + 1, limits.buckets_max, "buckets")
            }
            Op::Seal(seal) => {
                within(seal.copies.len(), limits.copies_max, "copies")?;
                self.limit_owner(&seal.name, seal.sealed.size)?;
                metadata(&seal.metadata)
            }
            Op::SetMetadata(_, bytes) => metadata(bytes),
            Op::Consume(name, _) => {
                let n_consumers = self.entry(name)?.hints.consumers.len();
                within(n_consumers + 1, limits.consumers_max, "consumers")
            }
            Op::RenamePrefix { from, to } if !self.is_of_one([&from.bucket, &to.bucket])? => {
                Err(Error::Invalid("the buckets belong to two owners"))
            }
            Op::DeletePrefix(folder) | Op::RenamePrefix { from: folder, .. } => {
                let max = limits.transaction_names_max;
                let n_names = self.folder(folder)?.take(max + 1).count();
                within(n_names, max, "names at once")
            }
            Op::Copy {
                from,
                to,
                metadata: own,
                ..
            } => {
                let sealed = &self.entry(from)?.sealed;
                self.limit_owner(to, sealed.size)?;
                let names = &self.object(sealed.id)?.names;
                let n_names = names.len() + usize::from(!names.contains(to));
                within(n_names, limits.names_max, "names of one object")?;
                metadata(own.as_deref().unwrap_or_default())
            }
            // Else what it is would count for somebody who has not asked for it.
            Op::Rename { from, to } if !self.is_of_one([&from.bucket, &to.bucket])? => {
                Err(Error::Invalid("the buckets belong to two owners"))
            }
            Op::AddCopy(id, _) => {
                let n_copies = self.object(*id)?.placement.copies().len();
                within(n_copies + 1, limits.copies_max, "copies")
            }
            Op::NodeJoined(node, _) if self.node(*node).is_none() => {
                within(self.nodes.len() + 1, limits.nodes_max, "nodes")
            }
            _ => Ok(()),
        }
    }

    fn is_of_one(&self, [one, other]: [&BucketName; 2]) -> Result<bool, Error> {
        Ok(self.bucket(one)?.owner == self.bucket(other)?.owner)
    }

    /// May a name stand for so many bytes?
    fn limit_owner(&self, name: &Name, bytes: u64) -> Result<(), Error> {
        let owner = &self.bucket(&name.bucket)?.owner;
        let limits = &self.limits;
        let before = self.entry(name).map_or(0, |entry| entry.sealed.size);
        let others = self.owned_bytes(owner).saturating_sub(before);
        let max = limits.owned_bytes_max;
        // Less than before is always allowed, or nobody could come below a limit that is lower than it was.
        if limits.unlimited_owner.as_ref() == Some(owner)
            || bytes <= before
            || others.saturating_add(bytes) <= max
        {
            return Ok(());
        }
        let owner = owner.clone();
        Err(Error::OwnerFull { owner, max })
    }

    /// Whether it can be done, and if so, whether it changes anything.
    pub(crate) fn check(&self, op: &Op) -> Result<bool, Error> {
        match op {
            Op::CreateBucket { bucket, .. } => match self.bucket(bucket) {
                Ok(_) => Err(Error::BucketExists(bucket.clone())),
                Err(_) => Ok(true),
            },
            Op::DeleteBucket(bucket) if self.names(bucket)?.is_empty() => Ok(true),
            Op::DeleteBucket(bucket) => Err(Error::NotEmpty(bucket.clone())),
            Op::Seal(seal) => self.check_seal(seal).map(|()| true),
            Op::SetMetadata(name, bytes) => Ok(self.entry(name)?.metadata != *bytes),
            Op::Delete(name) => self.entry(name).map(|_| true),
            Op::Consume(name, consumer) => {
                let consumers = &self.entry(name)?.hints.consumers;
                Ok(consumers.binary_search(consumer).is_err())
            }
            Op::DeletePrefix(folder) => Ok(self.folder(folder)?.next().is_some()),
            Op::Rename { from, to } | Op::Copy { from, to, .. } => {
                self.entry(from)?;
                self.names(&to.bucket)?;
                Ok(from != to || matches!(op, Op::Copy { .. }))
            }
            Op::RenamePrefix { from, to } => {
                self.names(&to.bucket)?;
                let [less, more] = [from, to].map(|folder| folder.prefix.as_str().len());
                let is_key = |(key, _): (&Key, _)| {
                    (1..=KEY_BYTES_MAX).contains(&(key.as_str().len() - less + more))
                };
                if self.folder(from)?.all(is_key) {
                    Ok(from != to && self.folder(from)?.next().is_some())
                } else {
                    Err(Error::Invalid("a key would have 0 or more than 1024 bytes"))
                }
            }
            Op::AddCopy(id, copy) => {
                let object = self.object(*id)?;
                self.check_heard(copy)?;
                Ok(!object.placement.copies().contains(copy))
            }
            Op::DropCopy(id, copy, cause) => {
                let copies = self.object(*id)?.placement.copies();
                match (copies.contains(copy), cause) {
                    (true, Cause::Moved) if copies.len() == 1 => Err(Error::LastCopy),
                    (is_there, _) => Ok(is_there),
                }
            }
            &Op::NodeJoined(node, epoch) if !self.is_heard(node, epoch) => {
                if epoch > self.last_epoch {
                    Ok(true)
                } else {
                    Err(Error::Fenced { node, epoch })
                }
            }
            Op::NodeJoined(..) => Ok(false),
            // One that has not joined holds nothing.
            Op::NodeLost(node, epoch) => Ok(self.is_heard(*node, *epoch)),
            Op::ForgetNode(node) => match self.node(*node) {
                Some(known) if known.is_heard => Err(Error::Invalid("the node is heard")),
                known => Ok(known.is_some()),
            },
            Op::DeletedInS3(name, id) => Ok(self.doomed.contains(&(name.clone(), *id))),
        }
    }

    fn is_heard(&self, node: NodeId, epoch: Epoch) -> bool {
        let known = self.node(node);
        known.is_some_and(|known| known.is_heard && known.epoch == epoch)
    }

    fn check_seal(&self, seal: &Seal) -> Result<(), Error> {
        self.names(&seal.name.bucket)?;
        let id = seal.sealed.id;
        let (node, epoch) = (id.node, id.epoch);
        if !self.is_heard(node, epoch) {
            return Err(Error::Fenced { node, epoch });
        }
        if self.may_be_sealed(id) {
            return Err(Error::Sealed(id));
        }
        let is_kept = match seal.sealed.class {
            Class::Ephemeral => !seal.copies.is_empty(),
            Class::Durable => seal.copies.iter().any(Residency::is_durable),
        };
        if !is_kept {
            return Err(Error::Invalid("no copy keeps what the class promises"));
        }
        seal.copies
            .iter()
            .try_for_each(|copy| self.check_heard(copy))
    }

    /// Now, or before it was released; `false`: it never was.
    pub(crate) fn may_be_sealed(&self, id: ObjectId) -> bool {
        match self.node(id.node) {
            Some(node) if node.epoch == id.epoch => id.serial <= node.last_serial,
            Some(node) => id.epoch < node.epoch,
            None => id.epoch <= self.last_epoch,
        }
    }

    pub(crate) fn check_heard(&self, copy: &Residency) -> Result<(), Error> {
        let is_heard = |node| self.node(node).is_some_and(|node| node.is_heard);
        match copy.node() {
            Some(node) if !is_heard(node) => {
                Err(Error::Invalid("the copy is at no node that is heard"))
            }
            _ => Ok(()),
        }
    }

    fn compare(&self, when: &Precondition, op: &Op) -> Result<(), Error> {
        let name = match op {
            Op::Seal(seal) => &seal.name,
            Op::SetMetadata(name, _) | Op::Consume(name, _) | Op::Delete(name) => name,
            Op::Rename { to, .. } | Op::Copy { to, .. } => to,
            Op::RenamePrefix { from, to } if *when == Precondition::Absent => {
                return self.check_replaces_nothing(from, to);
            }
            _ if *when == Precondition::None => return Ok(()),
            _ => return Err(Error::Invalid("that has no such precondition")),
        };
        let entry = self.entry(name).ok();
        let holds = match when {
            Precondition::None => true,
            Precondition::Absent => entry.is_none(),
            Precondition::Etag(etag) => entry.is_some_and(|entry| entry.sealed.etag == *etag),
            Precondition::Generation(generation) => {
                entry.is_some_and(|entry| entry.generation == *generation)
            }
        };
        if holds {
            Ok(())
        } else {
            Err(Error::Precondition(name.clone()))
        }
    }

    /// Nothing but what is renamed itself.
    fn check_replaces_nothing(&self, from: &Folder, to: &Folder) -> Result<(), Error> {
        for (key, _) in self.folder(from)? {
            let key = renamed(key, from, to);
            let is_renamed =
                from.bucket == to.bucket && key.as_str().starts_with(from.prefix.as_str());
            if !is_renamed && self.names(&to.bucket)?.contains_key(&key) {
                let bucket = to.bucket.clone();
                return Err(Error::Precondition(Name { bucket, key }));
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::NoBucket`].
    pub fn names(&self, bucket: &BucketName) -> Result<&Names, Error> {
        self.bucket(bucket).map(|bucket| &bucket.names)
    }

    /// What a folder has, in order, at any depth.
    ///
    /// # Errors
    /// [`Error::NoBucket`].
    pub fn folder<'a>(
        &'a self,
        folder: &'a Folder,
    ) -> Result<impl Iterator<Item = (&'a Key, &'a Arc<Entry>)>, Error> {
        let prefix = folder.prefix.as_str();
        let names = not_less(self.names(&folder.bucket)?, prefix);
        Ok(names.take_while(move |(key, _)| key.as_str().starts_with(prefix)))
    }
}

/// What a key is called after the renaming of its prefix.
pub(crate) fn renamed(key: &Key, from: &Folder, to: &Folder) -> Key {
    let rest = &key.as_str()[from.prefix.as_str().len()..];
    Key::new(&format!("{}{rest}", to.prefix)).expect("its length was checked")
}

fn within(n: usize, max: usize, what: &'static str) -> Result<(), Error> {
    if n <= max {
        Ok(())
    } else {
        Err(Error::Limit { what, max })
    }
}
