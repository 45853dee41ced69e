//! The objects by their numbers.

use std::collections::BTreeMap;

use ids::Epoch;

use super::names::{NodeId, ObjectId};
use super::object::Object;

/// A map from [`ObjectId`], in order. Those of one incarnation of a node have a map of their own: nodes count, so nearly all are there, and two
/// thirds of the number are kept once.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// None is empty.
    by_incarnation: BTreeMap<(NodeId, Epoch), BTreeMap<u64, Object>>,
}

impl Objects {
    pub(crate) fn len(&self) -> usize {
        self.by_incarnation.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<&Object> {
        self.by_incarnation
            .get(&(id.node, id.epoch))?
            .get(&id.serial)
    }

    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        let objects = self.by_incarnation.get_mut(&(id.node, id.epoch))?;
        objects.get_mut(&id.serial)
    }

    pub(crate) fn insert(&mut self, id: ObjectId, object: Object) {
        let objects = self.by_incarnation.entry((id.node, id.epoch)).or_default();
        objects.insert(id.serial, object);
    }

    pub(crate) fn remove(&mut self, id: ObjectId) -> Option<Object> {
        let objects = self.by_incarnation.get_mut(&(id.node, id.epoch))?;
        let object = objects.remove(&id.serial);
        if objects.is_empty() {
            self.by_incarnation.remove(&(id.node, id.epoch));
        }
        object
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ObjectId, &Object)> {
        self.by_incarnation
            .iter()
            .flat_map(|(&incarnation, objects)| {
                objects
                    .iter()
                    .map(move |(serial, object)| (id(incarnation, *serial), object))
            })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ObjectId, &mut Object)> {
        self.by_incarnation
            .iter_mut()
            .flat_map(|(&incarnation, objects)| {
                objects
                    .iter_mut()
                    .map(move |(serial, object)| (id(incarnation, *serial), object))
            })
    }

    /// They are in order, each once. Made like that, the maps have full leaves.
    pub(crate) fn from_sorted(objects: impl IntoIterator<Item = (ObjectId, Object)>) -> Self {
        let mut by_incarnation = BTreeMap::new();
        let mut objects = objects.into_iter().peekable();
        while let Some((first, _)) = objects.peek() {
            let (node, epoch) = (first.node, first.epoch);
            let same = |(id, _): &(ObjectId, _)| (id.node, id.epoch) == (node, epoch);
            let some = std::iter::from_fn(|| objects.next_if(same));
            let some = some.map(|(id, object)| (id.serial, object)).collect();
            by_incarnation.insert((node, epoch), some);
        }
        Self { by_incarnation }
    }
}

fn id((node, epoch): (NodeId, Epoch), serial: u64) -> ObjectId {
    ObjectId {
        node,
        epoch,
        serial,
    }
}
