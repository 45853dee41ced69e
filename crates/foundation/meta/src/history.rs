//! The last commits, for those who watch.

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::{Change, Error, Revision, Write};

/// How much is kept: commits, and bytes in their keys and values.
const COMMITS_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct History {
    revision: watch::Sender<Revision>,
    /// Everything after this revision is in `commits`.
    after: Revision,
    commits: VecDeque<Commit>,
    n_bytes: usize,
}

#[derive(Debug)]
struct Commit {
    changes: Vec<Change>,
    n_bytes: usize,
}

impl History {
    pub(crate) fn new(revision: Revision) -> Self {
        Self {
            revision: watch::Sender::new(revision),
            after: revision,
            commits: VecDeque::new(),
            n_bytes: 0,
        }
    }

    pub(crate) fn last(&self) -> Revision {
        *self.revision.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// A commit is done.
    pub(crate) fn push(&mut self, revision: Revision, writes: &[Write]) {
        let change = |Write { key, value }: &Write| Change {
            revision,
            key: key.clone(),
            value: value.clone(),
        };
        let size = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        let changes: Vec<_> = writes.iter().map(change).collect();
        let n_bytes = changes.iter().map(size).sum();
        self.n_bytes += n_bytes;
        self.commits.push_back(Commit { changes, n_bytes });
        while self.commits.len() > COMMITS_MAX || self.n_bytes > BYTES_MAX {
            let Some(oldest) = self.commits.pop_front() else {
                break;
            };
            self.n_bytes -= oldest.n_bytes;
            self.after = self.after.next();
        }
        self.revision.send_replace(revision);
    }

    pub(crate) fn changes(
        &self,
        prefix: &str,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<Change>, Error> {
        let oldest = self.after;
        let n_skipped = after.0.checked_sub(oldest.0);
        let n_skipped = n_skipped.ok_or(Error::Compacted { oldest })?;
        // A revision that was never reached belongs to another store, or to one that was restored since.
        if after > self.last() {
            return Err(Error::Compacted { oldest });
        }
        let n_skipped = usize::try_from(n_skipped).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for commit in self.commits.iter().skip(n_skipped) {
            let matching = commit.changes.iter().filter(|c| c.key.starts_with(prefix));
            found.extend(matching.cloned());
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }
}

impl Revision {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
