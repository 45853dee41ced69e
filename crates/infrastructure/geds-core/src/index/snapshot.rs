//! The index in pieces, and made of them again.
//!
//! Taking it to pieces needs it to stand still. An owner that cannot wait for that makes the next snapshot beside the index, of the last one and
//! the records since.

use std::collections::BTreeMap;
use std::sync::Arc;

use ids::Epoch;

use super::apply::name_bytes;
use super::command::Error;
use super::few::Few;
use super::history::History;
use super::names::{BucketName, Key, Name, NodeId, ObjectId, Revision};
use super::object::{Entry, Object, Placement, Residency};
use super::objects::Objects;
use super::state::{Bucket, Index, Limits, Node};

/// How many names or objects are in one piece at most.
pub const PIECE_ITEMS_MAX: usize = 4096;

/// They come in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Head {
        revision: Revision,
        /// Their names come later.
        buckets: Vec<(BucketName, Bucket)>,
        nodes: Vec<(NodeId, Node)>,
        last_epoch: Epoch,
        n_names: u64,
        n_objects: u64,
    },
    Objects(Vec<(ObjectId, Placement)>),
    Names {
        bucket: BucketName,
        rows: Vec<(Key, Arc<Entry>)>,
    },
    /// See [`Index::doomed`].
    Doomed(Vec<(Name, ObjectId)>),
}

impl Index {
    /// At least one. The changes that are kept for watchers are not in it.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let bucket = |(name, bucket): (&BucketName, &Bucket)| {
            let empty = Bucket::new(bucket.owner.clone(), bucket.created_at_ms);
            (name.clone(), empty)
        };
        let head = Piece::Head {
            revision: self.revision,
            buckets: self.buckets.iter().map(bucket).collect(),
            nodes: self.nodes.iter().map(|(id, node)| (*id, *node)).collect(),
            last_epoch: self.last_epoch,
            n_names: self.n_names(),
            n_objects: self.objects.len() as u64,
        };
        let objects = self
            .objects
            .iter()
            .map(|(id, object)| (id, object.placement.clone()));
        let names = self.buckets.iter().flat_map(|(name, bucket)| {
            let rows = bucket
                .names
                .iter()
                .map(|(key, entry)| (key.clone(), Arc::clone(entry)));
            chunks(rows).map(|rows| Piece::Names {
                bucket: name.clone(),
                rows,
            })
        });
        std::iter::once(head)
            .chain(chunks(objects).map(Piece::Objects))
            .chain(names)
            .chain(chunks(self.doomed.iter().cloned()).map(Piece::Doomed))
    }

    fn n_names(&self) -> u64 {
        let names = self.buckets.values().map(|bucket| bucket.names.len());
        names.sum::<usize>() as u64
    }
}

impl Index {
    /// # Errors
    /// [`Error::Corrupt`] if they are not all pieces of one index, and the errors of the pieces.
    pub fn from_pieces(
        limits: Limits,
        pieces: impl IntoIterator<Item = Result<Piece, Error>>,
    ) -> Result<Self, Error> {
        let mut pieces = pieces.into_iter();
        let Some(Piece::Head {
            revision,
            buckets,
            nodes,
            last_epoch,
            n_names,
            n_objects,
        }) = pieces.next().transpose()?
        else {
            return Err(Error::Corrupt("a snapshot begins with its head"));
        };
        if nodes.iter().any(|(_, node)| node.epoch > last_epoch) {
            return Err(Error::Corrupt("a node that has not joined"));
        }
        let mut index = Self::new(limits);
        index.revision = revision;
        index.history = History::new(revision, index.limits.history_bytes_max);
        index.nodes = nodes.into_iter().collect();
        index.last_epoch = last_epoch;
        index.buckets = buckets.into_iter().collect();
        let (mut objects, mut doomed) = (Vec::new(), Vec::new());
        let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for piece in pieces {
            match piece? {
                Piece::Head { .. } => return Err(Error::Corrupt("a snapshot has one head")),
                Piece::Objects(some) => objects.extend(some),
                Piece::Names { bucket, rows } => names.entry(bucket).or_default().extend(rows),
                Piece::Doomed(some) => doomed.extend(some),
            }
        }
        index.add_objects(objects)?;
        for (bucket, rows) in names {
            index.add_names(bucket, rows)?;
        }
        if !doomed.iter().all(|(_, id)| index.may_be_sealed(*id)) {
            return Err(Error::Corrupt("copies that cannot be"));
        }
        for doomed in doomed {
            index.add_doomed(doomed);
        }
        let is_whole = (index.n_names(), index.objects.len() as u64) == (n_names, n_objects)
            && index
                .objects
                .iter()
                .all(|(_, object)| !object.names.is_empty());
        if is_whole {
            Ok(index)
        } else {
            Err(Error::Corrupt("a snapshot is not whole"))
        }
    }

    fn add_objects(&mut self, objects: Vec<(ObjectId, Placement)>) -> Result<(), Error> {
        let is_known = |copy: &Residency| self.check_heard(copy).is_ok();
        let is_possible = |(id, placement): &(ObjectId, Placement)| {
            self.may_be_sealed(*id)
                && matches!(placement, Placement::Lost(_)) == placement.copies().is_empty()
                && placement.copies().iter().all(is_known)
        };
        if !objects.is_sorted_by(|a, b| a.0 < b.0) || !objects.iter().all(is_possible) {
            return Err(Error::Corrupt("objects that cannot be"));
        }
        let object = |(id, placement)| {
            let names = Few::default();
            (id, Object { names, placement })
        };
        self.objects = Objects::from_sorted(objects.into_iter().map(object));
        Ok(())
    }

    fn add_names(&mut self, bucket: BucketName, rows: Vec<(Key, Arc<Entry>)>) -> Result<(), Error> {
        if !rows.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::Corrupt("names that are not in order"));
        }
        let mut bytes = 0;
        for (key, entry) in &rows {
            let object = self.objects.get_mut(entry.sealed.id);
            let object = object.ok_or(Error::Corrupt("a name of no object"))?;
            let name = Name {
                bucket: bucket.clone(),
                key: key.clone(),
            };
            self.names_bytes += name_bytes(&name, entry);
            object.names.insert(name);
            bytes += u128::from(entry.sealed.size);
        }
        let found = self.buckets.get_mut(&bucket);
        let bucket = found.ok_or(Error::Corrupt("names of no bucket"))?;
        let owner = bucket.owner.clone();
        // Made like that, the map has full leaves.
        bucket.names = rows.into_iter().collect();
        self.own(&owner, 0, bytes);
        Ok(())
    }
}

fn chunks<T>(mut items: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let chunk: Vec<_> = items.by_ref().take(PIECE_ITEMS_MAX).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
