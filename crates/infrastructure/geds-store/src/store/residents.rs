//! The objects that are in this node's memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::tenants::Share;
use crate::arena::{Object, Opened};
use crate::core::index::ObjectId;
use crate::core::victims::{Backing, Heat};
use crate::error::Result;

/// An object in memory. Who reads it has it, also when it is not to be found any more.
#[derive(Debug)]
pub(super) struct Resident {
    pub object: Object,
    pub opened: Opened,
    pub share: Arc<Share>,
    pub heat: Heat,
    is_out: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Residents(RwLock<HashMap<ObjectId, Arc<Resident>>>);

impl Resident {
    /// It is not to be found any more.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::SeqCst)
    }
}

impl Residents {
    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<Resident>> {
        self.read().get(&id).cloned()
    }

    pub(super) fn ids(&self) -> Vec<ObjectId> {
        self.read().keys().copied().collect()
    }

    /// # Errors
    /// When it is not what its writer has written.
    pub(super) fn insert(
        &self,
        id: ObjectId,
        object: Object,
        share: &Arc<Share>,
        backing: Backing,
    ) -> Result<()> {
        let opened = object.open()?;
        // Whoever is to move it finds it.
        let mut residents = self.write();
        let heat = share.victims().insert(id, object.memory_bytes(), backing);
        let resident = Resident {
            object,
            opened,
            share: Arc::clone(share),
            heat,
            is_out: AtomicBool::new(false),
        };
        residents.insert(id, Arc::new(resident));
        Ok(())
    }

    /// Who drops it frees it, outside of the lock. From other processes it is taken back.
    pub(super) fn remove(&self, id: ObjectId) -> Option<Arc<Resident>> {
        let resident = self.write().remove(&id)?;
        resident.is_out.store(true, Ordering::SeqCst);
        resident.share.victims().remove(&id);
        resident.object.revoke();
        Some(resident)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ObjectId, Arc<Resident>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ObjectId, Arc<Resident>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Residents {
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }
}
