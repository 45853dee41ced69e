//! Carrying records out.

use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use ids::Epoch;

use super::command::{Cause, Change, Commit, Error, Op, Record, Seal};
use super::few::Few;
use super::names::{Folder, Key, Name, NodeId, ObjectId};
use super::object::{Entry, Hints, Loss, Object, Placement, Residency};
use super::state::{Bucket, Index, Node, renamed};

/// What a name takes with its object, beside texts, metadata and consumers: measured, and rounded up.
const NAME_BYTES: usize = 400;

/// The same of a copy in S3 that is to be deleted.
const DOOMED_BYTES: usize = 200;

const CHECKED: &str = "it was checked";

/// What a record has done so far.
#[derive(Default)]
struct Effects {
    changes: Vec<Change>,
    /// These lost a name, perhaps their last.
    unnamed: Vec<ObjectId>,
}

impl Index {
    /// Carries out what was decided, for the first time or again from a log.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not the next record of this index, which is then as it was.
    pub fn apply(&mut self, record: Record) -> Result<Commit, Error> {
        let Record { revision, op } = record;
        if revision != self.revision.next() {
            return Err(Error::Corrupt("a record is missing, or comes twice"));
        }
        if self.check(&op) != Ok(true) {
            return Err(Error::Corrupt("a record does not fit what was before it"));
        }
        self.revision = revision;
        let mut effects = Effects::default();
        self.execute(op, &mut effects);
        for id in effects.unnamed {
            let object = self.objects.get(id);
            if object.is_some_and(|object| object.names.is_empty())
                && let Some(object) = self.objects.remove(id)
            {
                let copies = match object.placement {
                    Placement::At(copies) => copies,
                    Placement::Lost(_) => Few::default(),
                };
                for copy in copies.iter() {
                    self.doom(id, copy);
                }
                effects.changes.push(Change::Released { id, copies });
            }
        }
        let changes: Arc<[Change]> = effects.changes.into();
        self.history.push(Arc::clone(&changes));
        Ok(Commit { revision, changes })
    }

    fn execute(&mut self, op: Op, effects: &mut Effects) {
        match op {
            Op::CreateBucket {
                bucket,
                owner,
                created_at_ms,
            } => {
                let empty = Bucket::new(owner.clone(), created_at_ms);
                self.buckets.insert(bucket.clone(), empty);
                effects.changes.push(Change::BucketCreated {
                    bucket,
                    owner,
                    created_at_ms,
                });
            }
            Op::DeleteBucket(bucket) => {
                self.buckets.remove(&bucket);
                effects.changes.push(Change::BucketDeleted(bucket));
            }
            Op::Seal(seal) => self.seal(*seal, effects),
            Op::SetMetadata(name, metadata) => {
                self.edit(name, effects, |entry| entry.metadata = metadata);
            }
            Op::Consume(name, consumer) => self.edit(name, effects, |entry| {
                let consumers = &mut entry.hints.consumers;
                *consumers = consumers.iter().copied().chain([consumer]).collect();
                consumers.sort_unstable();
            }),
            Op::Delete(name) => {
                self.set(name, None, effects);
            }
            Op::DeletePrefix(folder) => {
                self.take(&folder, effects);
            }
            Op::Rename { from, to } => {
                let entry = self.set(from, None, effects).expect(CHECKED);
                self.set(to, Some(self.anew(&entry)), effects);
            }
            Op::RenamePrefix { from, to } => self.rename_prefix(&from, &to, effects),
            Op::Copy {
                from,
                to,
                modified_at_ms,
                metadata,
            } => {
                let mut entry = self.anew(self.entry(&from).expect(CHECKED));
                entry.modified_at_ms = modified_at_ms;
                entry.hints.consumers = Box::default();
                entry.metadata = metadata.unwrap_or(entry.metadata);
                self.set(to, Some(entry), effects);
            }
            Op::AddCopy(id, copy) => {
                self.put_in_s3(&copy);
                let object = self.objects.get_mut(id).expect(CHECKED);
                object.placement.add(copy);
                tell_placed(id, object, effects);
            }
            Op::DropCopy(id, copy, cause) => self.drop_copy(id, &copy, cause, effects),
            Op::NodeJoined(node, epoch) => self.join(node, epoch, effects),
            Op::NodeLost(node, epoch) => self.lose_node(node, epoch, effects),
            Op::ForgetNode(node) => {
                self.nodes.remove(&node);
            }
            Op::DeletedInS3(name, id) => self.spare(&(name, id)),
        }
    }

    fn drop_copy(&mut self, id: ObjectId, copy: &Residency, cause: Cause, effects: &mut Effects) {
        // What is damaged in S3 is somebody else's.
        if cause == Cause::Moved {
            self.doom(id, copy);
        }
        let object = self.objects.get_mut(id).expect(CHECKED);
        object.placement.lose(|other| other == copy, Loss::Corrupt);
        tell_placed(id, object, effects);
    }

    /// Nobody needs a copy any more: if it is in S3, somebody is to delete it there.
    fn doom(&mut self, id: ObjectId, copy: &Residency) {
        if let Residency::S3(at) = copy {
            self.add_doomed((at.name.clone(), id));
        }
    }

    pub(crate) fn add_doomed(&mut self, doomed: (Name, ObjectId)) {
        let n_bytes = doomed_bytes(&doomed);
        if self.doomed.insert(doomed) {
            self.names_bytes += n_bytes;
        }
    }

    /// What was there before is replaced.
    fn put_in_s3(&mut self, copy: &Residency) {
        let Residency::S3(at) = copy else {
            return;
        };
        let first = ObjectId {
            node: NodeId(0),
            epoch: Epoch(0),
            serial: 0,
        };
        let from = self.doomed.range((at.name.clone(), first)..);
        let there = from.take_while(|(name, _)| *name == at.name);
        let there: Vec<_> = there.cloned().collect();
        for doomed in there {
            self.spare(&doomed);
        }
    }

    fn spare(&mut self, doomed: &(Name, ObjectId)) {
        if self.doomed.remove(doomed) {
            self.names_bytes -= doomed_bytes(doomed);
        }
    }

    fn join(&mut self, node: NodeId, epoch: Epoch, effects: &mut Effects) {
        self.last_epoch = epoch;
        let joined = Node {
            epoch,
            is_heard: true,
            last_serial: 0,
        };
        if let Some(before) = self.nodes.insert(node, joined) {
            let epoch = before.epoch;
            let lost = Residency::Dram(node);
            self.lose(|copy| *copy == lost, Loss::Node { node, epoch }, effects);
        }
    }

    fn lose_node(&mut self, node: NodeId, epoch: Epoch, effects: &mut Effects) {
        let known = self.nodes.get_mut(&node).expect(CHECKED);
        known.is_heard = false;
        let is_lost = |copy: &Residency| copy.node() == Some(node);
        self.lose(is_lost, Loss::Node { node, epoch }, effects);
    }

    fn seal(&mut self, seal: Seal, effects: &mut Effects) {
        let object = Object {
            names: Few::default(),
            placement: Placement::At(seal.copies),
        };
        let id = seal.sealed.id;
        let node = self.nodes.get_mut(&id.node).expect(CHECKED);
        node.last_serial = id.serial;
        for copy in object.placement.copies() {
            self.put_in_s3(copy);
        }
        self.objects.insert(id, object);
        let entry = Entry {
            generation: self.revision,
            modified_at_ms: seal.modified_at_ms,
            sealed: seal.sealed,
            metadata: seal.metadata,
            hints: Hints {
                expires_at_ms: seal.expires_at_ms,
                readers: seal.readers,
                consumers: Box::default(),
            },
        };
        self.set(seal.name, Some(entry), effects);
    }

    fn rename_prefix(&mut self, from: &Folder, to: &Folder, effects: &mut Effects) {
        // All go before the first comes: a new name may be the old one of another.
        for (key, entry) in self.take(from, effects) {
            let name = Name {
                bucket: to.bucket.clone(),
                key: renamed(&key, from, to),
            };
            self.set(name, Some(self.anew(&entry)), effects);
        }
    }

    fn edit(&mut self, name: Name, effects: &mut Effects, edit: impl FnOnce(&mut Entry)) {
        let mut entry = Entry::clone(self.entry(&name).expect(CHECKED));
        edit(&mut entry);
        self.set(name, Some(entry), effects);
    }

    /// For another name, or the same once more.
    fn anew(&self, entry: &Entry) -> Entry {
        let generation = self.revision;
        Entry {
            generation,
            ..entry.clone()
        }
    }

    /// Deletes all names of a folder.
    fn take(&mut self, folder: &Folder, effects: &mut Effects) -> Vec<(Key, Arc<Entry>)> {
        let names = self.folder(folder).expect(CHECKED);
        let names: Vec<_> = names
            .map(|(key, entry)| (key.clone(), Arc::clone(entry)))
            .collect();
        for (key, _) in &names {
            let bucket = folder.bucket.clone();
            let key = key.clone();
            self.set(Name { bucket, key }, None, effects);
        }
        names
    }

    /// Lets a name say something else, or nothing. Returns what it said.
    fn set(
        &mut self,
        name: Name,
        after: Option<Entry>,
        effects: &mut Effects,
    ) -> Option<Arc<Entry>> {
        let after = after.map(Arc::new);
        // One allocation for each text, whoever keeps it.
        let (bucket, of) = self.buckets.get_key_value(&name.bucket).expect(CHECKED);
        let (bucket, owner) = (bucket.clone(), of.owner.clone());
        let names = &mut self.buckets.get_mut(&bucket).expect(CHECKED).names;
        let (key, before) = match (names.entry(name.key), after.clone()) {
            (Slot::Vacant(slot), Some(after)) => {
                let key = slot.key().clone();
                slot.insert(after);
                (key, None)
            }
            (Slot::Occupied(mut slot), Some(after)) => {
                (slot.key().clone(), Some(slot.insert(after)))
            }
            (Slot::Occupied(slot), None) => {
                let (key, before) = slot.remove_entry();
                (key, Some(before))
            }
            (Slot::Vacant(_), None) => return None,
        };
        let name = Name { bucket, key };
        if let Some(after) = &after {
            self.names_bytes += name_bytes(&name, after);
            let object = self.objects.get_mut(after.sealed.id);
            let object = object.expect("it was sealed");
            object.names.insert(name.clone());
        }
        let [less, more] = [&before, &after].map(|entry| {
            let size = entry.as_ref().map_or(0, |entry| entry.sealed.size);
            u128::from(size)
        });
        self.own(&owner, less, more);
        if let Some(before) = &before {
            self.names_bytes -= name_bytes(&name, before);
            let id = before.sealed.id;
            if after.as_ref().is_none_or(|after| after.sealed.id != id) {
                let object = self.objects.get_mut(id).expect("it has this name");
                object.names.remove(&name);
                effects.unnamed.push(id);
            }
        }
        effects.changes.push(Change::Named {
            name,
            before: before.clone(),
            after,
        });
        before
    }

    /// What an owner's names stand for has become other bytes.
    pub(crate) fn own(&mut self, owner: &ids::Name, less: u128, more: u128) {
        match self.owned_bytes.get_mut(owner) {
            Some(bytes) => {
                *bytes = *bytes - less + more;
                if *bytes == 0 {
                    self.owned_bytes.remove(owner);
                }
            }
            None if more > 0 => {
                self.owned_bytes.insert(owner.clone(), more);
            }
            None => {}
        }
    }

    fn lose(&mut self, is_lost: impl Fn(&Residency) -> bool, loss: Loss, effects: &mut Effects) {
        for (id, object) in self.objects.iter_mut() {
            if object.placement.lose(&is_lost, loss) {
                tell_placed(id, object, effects);
            }
        }
    }
}

fn tell_placed(id: ObjectId, object: &Object, effects: &mut Effects) {
    let placed = |name: &Name| Change::Placed {
        name: name.clone(),
        id,
        placement: object.placement.clone(),
    };
    effects.changes.extend(object.names.iter().map(placed));
}

pub(crate) fn name_bytes(name: &Name, entry: &Entry) -> usize {
    let consumers = size_of_val(&*entry.hints.consumers);
    NAME_BYTES + name.key.as_str().len() + entry.metadata.len() + consumers
}

fn doomed_bytes((name, _): &(Name, ObjectId)) -> usize {
    DOOMED_BYTES + name.key.as_str().len()
}
