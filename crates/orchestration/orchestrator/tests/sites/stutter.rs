//! A store whose commits sometimes fail, before or after they were done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use meta::{Change, Condition, Entry, Error, Memory, MetaStore, Revision, Write};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Stutter {
    store: Memory,
    is_on: AtomicBool,
    n_commits: AtomicU64,
    n_failed: AtomicU64,
}

impl Stutter {
    pub(crate) fn begin(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn n_failed(&self) -> u64 {
        self.n_failed.load(Ordering::Relaxed)
    }
}

impl MetaStore for Stutter {
    fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.store.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.store.list(prefix, after, limit)
    }

    fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Revision, Error> {
        let n = self.n_commits.fetch_add(1, Ordering::Relaxed);
        if !self.is_on.load(Ordering::Relaxed) || n.is_multiple_of(3) {
            return self.store.commit(conditions, writes);
        }
        self.n_failed.fetch_add(1, Ordering::Relaxed);
        if n % 3 == 1 {
            self.store.commit(conditions, writes)?;
        }
        Err(Error::Failed {
            context: "commit to a store that stutters",
            source: None,
        })
    }

    fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Vec<Change>, Error> {
        self.store.changes(prefix, after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.store.revision()
    }
}
