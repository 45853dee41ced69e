//! Names that were opened lately, with what they stand for: what is asked for again is found by one look.
//!
//! A name is here only as long as it stands for the same data. So it comes in while the index cannot change, and goes before a change of it can
//! be seen.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ids::Name as Tenant;

use super::Reader;
use super::tenants::Share;
use crate::core::index::{Change, Name};

const SHARDS: u64 = 64;
/// A shard that would have more is emptied: what is in use comes back at once.
const NAMES_MAX: usize = 1 << 12;

type Shard = HashMap<Name, (Arc<Share>, Reader)>;

#[derive(Debug)]
pub(super) struct Warm {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
}

impl Default for Warm {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default());
        Self {
            hasher: RandomState::new(),
            shards: shards.collect(),
        }
    }
}

impl Warm {
    pub(super) fn get(&self, tenant: &Tenant, name: &Name) -> Option<Reader> {
        let shard = read(self.shard(name));
        let (share, reader) = shard.get(name)?;
        (share.tenant == *tenant).then(|| reader.clone())
    }

    /// To be called while the index cannot change. What has left memory is not kept: whoever moves it out [removes](Self::remove) its names
    /// afterwards.
    pub(super) fn insert(&self, share: &Arc<Share>, name: &Name, reader: Reader) {
        let mut shard = write(self.shard(name));
        if reader.is_out() {
            return;
        }
        if shard.len() >= NAMES_MAX {
            shard.clear();
        }
        shard.insert(name.clone(), (Arc::clone(share), reader));
    }

    pub(super) fn remove(&self, name: &Name) {
        let removed = write(self.shard(name)).remove(name);
        drop(removed);
    }

    /// To be called before the changes can be seen.
    pub(super) fn forget(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Named { name, .. } | Change::Placed { name, .. } = change {
                self.remove(name);
            }
        }
    }

    fn shard(&self, name: &Name) -> &RwLock<Shard> {
        let hash = self.hasher.hash_one(name.key.as_str());
        let idx = usize::try_from(hash % SHARDS).expect("few");
        &self.shards[idx]
    }
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
