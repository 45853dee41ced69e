//! Control metadata: a small, strongly consistent map from keys to bytes, with compare-and-set over several keys and a watch without gaps.
//!
//! It holds what a controller must not lose or decide twice: specs, blueprints, operations, tokens. It is not for data, logs or
//! measurements: values are small, and each commit is synced.
//!
//! - Every commit has a [`Revision`], one higher than the one before. An [`Entry`] carries the revision of the commit that last wrote it.
//! - [`MetaStore::commit`] checks all its conditions and does all its writes, or does nothing. When it returns, it is durable (if the store
//!   is), and every later call sees it.
//! - A watch is [`MetaStore::changes`] after a revision, again whenever [`MetaStore::revision`] says that there are more. Nothing is
//!   skipped: who asks too late is told [`Error::Compacted`], lists everything again and goes on from the revision it had read *before*.
//! - A commit that could not be synced ends the store: nothing more is written until it is opened anew.
//!
//! Implementations: [`Redb`] (one file, one process) and [`Memory`]. [`contract`] is what each must do.
#![forbid(unsafe_code)]

mod contract;
mod history;
mod memory;
mod redb;

use std::fmt;

use tokio::sync::watch;

pub use self::contract::contract;
pub use self::memory::Memory;
pub use self::redb::Redb;

pub const KEY_BYTES_MAX: usize = 512;
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Of one commit: how many writes, and how many bytes in keys and values.
pub const WRITES_MAX: usize = 1 << 16;
pub const COMMIT_BYTES_MAX: usize = 64 << 20;

/// Counts commits. 0: before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// Of the commit that last wrote it.
    pub revision: Revision,
    pub value: Vec<u8>,
}

/// What must hold for a commit to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub key: String,
    /// The revision that the entry must have; `None`: there must be none.
    pub revision: Option<Revision>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub key: String,
    /// `None` deletes; deleting what is not there is no error, and no change.
    pub value: Option<Vec<u8>>,
}

/// One write of a commit, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A condition did not hold. Read again, decide again.
    #[error("`{key}` was changed by somebody else")]
    Conflict { key: String },
    /// The changes after that revision are not kept any more. List again.
    #[error("changes are kept after revision {oldest} only")]
    Compacted { oldest: Revision },
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes")]
    Key,
    #[error("the value of `{key}` has more than {VALUE_BYTES_MAX} bytes")]
    Value { key: String },
    #[error("one commit has at most {WRITES_MAX} writes and {COMMIT_BYTES_MAX} bytes")]
    Commit,
    /// The store cannot be used any more; open it anew.
    #[error("{context}")]
    Failed {
        context: &'static str,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// See the crate's documentation. Calls block, commits for as long as a sync takes; no other call waits for a commit.
pub trait MetaStore: Send + Sync + fmt::Debug {
    /// # Errors
    /// When the store has failed.
    fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Entries whose keys begin with `prefix` and come after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// When the store has failed.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error>;

    /// All or nothing. One key is written at most once in a commit; the last write counts.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a condition does not hold; when something is too large; when the store has failed.
    fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Revision, Error>;

    /// What was written after `after` to keys that begin with `prefix`, in order. Commits are never torn: at least one whole one if there is
    /// any, and no more once `limit` is reached.
    ///
    /// # Errors
    /// [`Error::Compacted`] when that is too long ago.
    fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Vec<Change>, Error>;

    /// The revision of the last commit, now and whenever it changes.
    fn revision(&self) -> watch::Receiver<Revision>;

    /// Whether a commit could not be synced, so that nothing will be written any more. Whoever owns the store ends, and opens it anew.
    fn has_failed(&self) -> bool {
        false
    }

    /// Writes one key if its entry has this revision (`None`: if there is none).
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn cas(
        &self,
        key: &str,
        revision: Option<Revision>,
        value: Vec<u8>,
    ) -> Result<Revision, Error> {
        self.commit(&[Condition::new(key, revision)], &[Write::put(key, value)])
    }

    /// Deletes one key if its entry has this revision.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn delete(&self, key: &str, revision: Revision) -> Result<Revision, Error> {
        let condition = Condition::new(key, Some(revision));
        self.commit(&[condition], &[Write::delete(key)])
    }
}

impl Condition {
    pub fn new(key: impl Into<String>, revision: Option<Revision>) -> Self {
        let key = key.into();
        Self { key, revision }
    }
}

impl Write {
    pub fn put(key: impl Into<String>, value: Vec<u8>) -> Self {
        Self {
            key: key.into(),
            value: Some(value),
        }
    }

    pub fn delete(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: None,
        }
    }
}

fn check(writes: &[Write]) -> Result<(), Error> {
    let mut n_bytes = 0;
    for Write { key, value } in writes {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::Key);
        }
        let value_len = value.as_ref().map_or(0, Vec::len);
        if value_len > VALUE_BYTES_MAX {
            return Err(Error::Value { key: key.clone() });
        }
        n_bytes += key.len() + value_len;
    }
    if writes.len() > WRITES_MAX || n_bytes > COMMIT_BYTES_MAX {
        return Err(Error::Commit);
    }
    Ok(())
}
