//! The index once more, as plainly as it can be said: nothing is fast, and why something is refused is left out.

use std::collections::{BTreeMap, BTreeSet};

use ids::Epoch;

use super::*;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub buckets: BTreeMap<BucketName, Bucket>,
    pub names: BTreeMap<Name, Entry>,
    pub data: BTreeMap<ObjectId, Placement>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// All there ever were.
    pub epochs: BTreeSet<Epoch>,
    pub sealed: BTreeSet<ObjectId>,
    pub doomed: BTreeSet<(Name, ObjectId)>,
}

impl Model {
    /// What is true after a command of the owner, if it is allowed.
    pub(super) fn step(&self, revision: Revision, when: &Precondition, op: &Op) -> Option<Self> {
        let mut after = self.clone();
        let target = match op {
            Op::AddCopy(..)
            | Op::DropCopy(..)
            | Op::NodeJoined(..)
            | Op::NodeLost(..)
            | Op::ForgetNode(_)
            | Op::DeletedInS3(..) => after.place(op).map(|()| None)?,
            _ => after.name(revision, op)?,
        };
        let is_named = |id: &ObjectId| after.names.values().any(|entry| entry.sealed.id == *id);
        let released = after.data.extract_if(.., |id, _| !is_named(id));
        for (id, placement) in released {
            let gone = placement.copies().iter().filter_map(in_s3);
            after.doomed.extend(gone.map(|name| (name, id)));
        }
        let entry = target.as_ref().and_then(|name| self.names.get(name));
        let holds = match (when, op) {
            (Precondition::None, _) => true,
            // What was not renamed itself says the same.
            (Precondition::Absent, Op::RenamePrefix { from, .. }) => {
                let mut others = self.names.iter().filter(|(name, _)| !in_folder(name, from));
                others.all(|(name, entry)| after.names.get(name) == Some(entry))
            }
            (Precondition::Absent, _) => target.is_some() && entry.is_none(),
            (Precondition::Etag(etag), _) => entry.is_some_and(|e| e.sealed.etag == *etag),
            (Precondition::Generation(n), _) => entry.is_some_and(|e| e.generation == *n),
        };
        holds.then_some(after)
    }

    /// Returns the name that a precondition is about.
    fn name(&mut self, generation: Revision, op: &Op) -> Option<Option<Name>> {
        match op {
            Op::CreateBucket {
                bucket,
                owner,
                created_at_ms,
            } => {
                let created = Bucket::new(owner.clone(), *created_at_ms);
                let known = self.buckets.insert(bucket.clone(), created);
                known.is_none().then_some(None)
            }
            Op::DeleteBucket(bucket) => {
                let is_empty = self.names.keys().all(|name| name.bucket != *bucket);
                let known = self.buckets.remove(bucket);
                (known.is_some() && is_empty).then_some(None)
            }
            Op::Seal(seal) => self.seal(generation, seal),
            Op::SetMetadata(name, metadata) => {
                self.names.get_mut(name)?.metadata = metadata.clone();
                Some(Some(name.clone()))
            }
            Op::Consume(name, consumer) => {
                let consumers = &mut self.names.get_mut(name)?.hints.consumers;
                let all: BTreeSet<_> = consumers.iter().chain([consumer]).copied().collect();
                *consumers = all.into_iter().collect();
                Some(Some(name.clone()))
            }
            Op::Delete(name) => self.names.remove(name).map(|_| Some(name.clone())),
            Op::DeletePrefix(folder) => {
                self.names.retain(|name, _| !in_folder(name, folder));
                self.buckets.contains_key(&folder.bucket).then_some(None)
            }
            Op::Rename { from, to } if from == to => self.names.get(to).map(|_| Some(to.clone())),
            Op::Rename { from, to } => {
                let entry = self.names.remove(from)?;
                self.check_owners(&from.bucket, &to.bucket)?;
                self.give(
                    to,
                    Entry {
                        generation,
                        ..entry
                    },
                )
            }
            Op::RenamePrefix { from, to } if from == to => {
                self.buckets.contains_key(&to.bucket).then_some(None)
            }
            Op::RenamePrefix { from, to } => self.rename_prefix(generation, from, to),
            Op::Copy {
                from,
                to,
                modified_at_ms,
                metadata,
            } => {
                let mut entry = self.names.get(from)?.clone();
                entry.modified_at_ms = *modified_at_ms;
                entry.hints.consumers = Box::default();
                entry.metadata = metadata.clone().unwrap_or(entry.metadata);
                self.give(
                    to,
                    Entry {
                        generation,
                        ..entry
                    },
                )
            }
            _ => None,
        }
    }

    fn check_owners(&self, one: &BucketName, other: &BucketName) -> Option<()> {
        let [one, other] = [one, other].map(|name| self.buckets.get(name));
        (one?.owner == other?.owner).then_some(())
    }

    fn rename_prefix(
        &mut self,
        generation: Revision,
        from: &Folder,
        to: &Folder,
    ) -> Option<Option<Name>> {
        let all = self.names.clone();
        if all.keys().any(|name| in_folder(name, from)) {
            self.check_owners(&from.bucket, &to.bucket)?;
        }
        self.names.retain(|name, _| !in_folder(name, from));
        for (name, entry) in all.into_iter().filter(|(name, _)| in_folder(name, from)) {
            let rest = &name.key.as_str()[from.prefix.as_str().len()..];
            let key = Key::new(&format!("{}{rest}", to.prefix)).ok()?;
            let bucket = to.bucket.clone();
            self.give(
                &Name { bucket, key },
                Entry {
                    generation,
                    ..entry
                },
            );
        }
        let is_there = |folder: &Folder| self.buckets.contains_key(&folder.bucket);
        (is_there(from) && is_there(to)).then_some(None)
    }

    fn seal(&mut self, generation: Revision, seal: &Seal) -> Option<Option<Name>> {
        let is_ephemeral = seal.sealed.class == Class::Ephemeral;
        let keeps = |copy: &Residency| is_ephemeral || !matches!(copy, Residency::Dram(_));
        let is_kept = seal.copies.iter().any(keeps);
        let is_known = seal.copies.iter().all(|copy| self.hears(copy));
        let id = seal.sealed.id;
        let node = self.nodes.get_mut(&id.node)?;
        let is_next = node.is_heard && node.epoch == id.epoch && node.last_serial < id.serial;
        node.last_serial = id.serial;
        let is_new = self.sealed.insert(id);
        assert!(is_new || !is_next, "{id:?} would be sealed twice");
        seal.copies.iter().for_each(|copy| self.put(copy));
        let copies = Placement::At(seal.copies.clone());
        self.data.insert(id, copies);
        let hints = Hints {
            expires_at_ms: seal.expires_at_ms,
            readers: seal.readers,
            consumers: Box::default(),
        };
        let (sealed, metadata) = (seal.sealed.clone(), seal.metadata.clone());
        let entry = Entry {
            generation,
            modified_at_ms: seal.modified_at_ms,
            sealed,
            metadata,
            hints,
        };
        let given = self.give(&seal.name, entry);
        given.filter(|_| is_kept && is_known && is_next)
    }

    fn give(&mut self, to: &Name, entry: Entry) -> Option<Option<Name>> {
        self.names.insert(to.clone(), entry);
        self.buckets
            .contains_key(&to.bucket)
            .then_some(Some(to.clone()))
    }

    fn place(&mut self, op: &Op) -> Option<()> {
        match op {
            Op::AddCopy(id, copy) => {
                if !self.data.get(id)?.copies().contains(copy) {
                    self.put(copy);
                }
                let copies = self
                    .data
                    .get(id)?
                    .copies()
                    .iter()
                    .chain([copy])
                    .cloned()
                    .collect();
                self.data.insert(*id, Placement::At(copies));
                self.hears(copy).then_some(())
            }
            Op::DropCopy(id, copy, cause) => {
                let copies = self.data.get(id)?.copies();
                let (is_there, is_last) = (copies.contains(copy), copies == [copy.clone()]);
                if is_there && *cause == Cause::Moved {
                    self.doomed.extend(in_s3(copy).map(|name| (name, *id)));
                }
                self.lose(|of, other| of == id && other == copy, Loss::Corrupt);
                (!is_last || *cause == Cause::Corrupt).then_some(())
            }
            Op::NodeJoined(node, epoch) => {
                let before = self.nodes.get(node).copied();
                if before.is_some_and(|before| before.is_heard && before.epoch == *epoch) {
                    return Some(());
                }
                let joined = Node {
                    epoch: *epoch,
                    is_heard: true,
                    last_serial: 0,
                };
                self.nodes.insert(*node, joined);
                if let Some(Node { epoch, .. }) = before {
                    let node = *node;
                    let lost = Residency::Dram(node);
                    self.lose(|_, copy| *copy == lost, Loss::Node { node, epoch });
                }
                let is_new = self.epochs.range(epoch..).next().is_none();
                self.epochs.insert(*epoch);
                is_new.then_some(())
            }
            Op::NodeLost(node, epoch) => {
                if let Some(known) = self.nodes.get_mut(node)
                    && known.epoch == *epoch
                {
                    known.is_heard = false;
                    let (node, epoch) = (*node, *epoch);
                    let loss = Loss::Node { node, epoch };
                    self.lose(|_, copy| copy.node() == Some(node), loss);
                }
                Some(())
            }
            Op::ForgetNode(node) => {
                let known = self.nodes.remove(node);
                known.is_none_or(|known| !known.is_heard).then_some(())
            }
            Op::DeletedInS3(name, id) => {
                self.doomed.remove(&(name.clone(), *id));
                Some(())
            }
            _ => None,
        }
    }

    fn put(&mut self, copy: &Residency) {
        let at = in_s3(copy);
        self.doomed.retain(|(name, _)| Some(name) != at.as_ref());
    }

    fn lose(&mut self, is_lost: impl Fn(&ObjectId, &Residency) -> bool, loss: Loss) {
        for (id, placement) in &mut self.data {
            let kept = placement.copies().iter().filter(|copy| !is_lost(id, copy));
            let kept: Few<_> = kept.cloned().collect();
            if kept.is_empty() && !placement.copies().is_empty() {
                *placement = Placement::Lost(loss);
            } else if !kept.is_empty() {
                *placement = Placement::At(kept);
            }
        }
    }

    fn hears(&self, copy: &Residency) -> bool {
        let node = copy.node().map(|node| self.nodes.get(&node));
        node.is_none_or(|node| node.is_some_and(|node| node.is_heard))
    }

    /// All items at once.
    pub(super) fn list(&self, query: &Query<'_>, from: &str) -> Vec<Item> {
        let names = self
            .names
            .iter()
            .filter(|(name, _)| in_folder(name, query.folder));
        let items = names
            .filter(|(name, _)| name.key.as_str() >= from)
            .map(|(name, entry)| {
                let prefix = query.folder.prefix.as_str();
                match name.key.as_str()[prefix.len()..].split_once(query.delimiter) {
                    Some((first, _)) if !query.delimiter.is_empty() => {
                        let folder = format!("{prefix}{first}{}", query.delimiter);
                        Item::Folder(Prefix::new(&folder).expect("short"))
                    }
                    _ => Item::Object(name.key.clone(), entry.clone().into()),
                }
            });
        let mut items: Vec<_> = items.collect();
        items.dedup();
        items
    }
}

pub(super) fn in_folder(name: &Name, folder: &Folder) -> bool {
    name.bucket == folder.bucket && name.key.as_str().starts_with(folder.prefix.as_str())
}

fn in_s3(copy: &Residency) -> Option<Name> {
    match copy {
        Residency::S3(at) => Some(at.name.clone()),
        _ => None,
    }
}
