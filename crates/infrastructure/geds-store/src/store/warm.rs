//! Names that were opened lately, with what they stand for: what is asked for again is found by one look.
//!
//! A name is here only as long as it stands for the same data. So it comes in while the index cannot change, and goes before a change of it can
//! be seen.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::hint::black_box;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
use ids::Name as Tenant;

use super::Reader;
use super::tenants::Share;
use crate::arena::View;
use crate::core::index::{Change, Name};

const SHARDS: u64 = 64;
/// A shard that would have more is emptied: what is in use comes back at once.
const NAMES_MAX: usize = 1 << 12;

type Shard = HashTable<Known>;

#[derive(Debug)]
struct Known {
    hash: u64,
    name: Name,
    share: Arc<Share>,
    reader: Reader,
    /// That of the reader, to be found without it.
    view: Option<View>,
}

impl Known {
    /// Has memory bring the first bytes, for who is about to find out whether they are the ones: that takes less time than memory does.
    fn look_ahead(&self) {
        black_box(self.view.as_ref().and_then(|view| view.first().copied()));
    }
}

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
        let (hash, shard) = self.shard(name);
        let shard = read(shard);
        let known = shard.find(hash, |known| {
            known.hash == hash && {
                known.look_ahead();
                known.name == *name
            }
        })?;
        (known.share.tenant == *tenant).then(|| known.reader.clone())
    }

    /// To be called while the index cannot change. What has left memory is not kept: whoever moves it out [removes](Self::remove) its names
    /// afterwards.
    pub(super) fn insert(&self, share: &Arc<Share>, name: &Name, reader: Reader) {
        let (hash, shard) = self.shard(name);
        let mut shard = write(shard);
        if reader.is_out() {
            return;
        }
        if shard.len() >= NAMES_MAX {
            shard.clear();
        }
        let known = Known {
            hash,
            name: name.clone(),
            share: Arc::clone(share),
            view: reader.view().cloned(),
            reader,
        };
        let place = shard.entry(hash, |other| other.name == *name, |other| other.hash);
        place.insert(known);
    }

    pub(super) fn remove(&self, name: &Name) {
        let (hash, shard) = self.shard(name);
        let mut shard = write(shard);
        let found = shard.find_entry(hash, |known| known.name == *name);
        let removed = found.ok().map(|found| found.remove().0);
        drop(shard);
        drop(removed);
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let cleared = std::mem::take(&mut *write(shard));
            drop(cleared);
        }
    }

    /// To be called before the changes can be seen.
    pub(super) fn forget(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Named { name, .. } | Change::Placed { name, .. } = change {
                self.remove(name);
            }
        }
    }

    /// Where a name is, and its hash there.
    fn shard(&self, name: &Name) -> (u64, &RwLock<Shard>) {
        let hash = self.hasher.hash_one(name);
        // The table goes by its ends.
        let idx = usize::try_from((hash >> 32) % SHARDS).expect("few");
        (hash, &self.shards[idx])
    }
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
