//! The objects that are in this node's memory.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::arena::Object;
use crate::core::index::ObjectId;

#[derive(Debug, Default)]
pub(super) struct Residents(RwLock<HashMap<ObjectId, Object>>);

impl Residents {
    pub(super) fn get(&self, id: ObjectId) -> Option<Object> {
        self.read().get(&id).cloned()
    }

    pub(super) fn insert(&self, id: ObjectId, object: Object) {
        self.write().insert(id, object);
    }

    pub(super) fn remove(&self, id: ObjectId) {
        // What it frees is freed outside of the lock.
        let object = self.write().remove(&id);
        drop(object);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ObjectId, Object>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ObjectId, Object>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Residents {
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }
}
