//! The last changes: for those who watch, and to tell what names said before.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use super::command::{Change, Error};
use super::names::{BucketName, Key, Name, Revision};
use super::object::Entry;

/// What the names of a bucket said before.
pub(crate) type Past = BTreeMap<Key, Versions>;

/// What a name said until a revision changed it, oldest first. That it said nothing is not kept, because the generation of what it says since tells
/// it: a new name, the most frequent change of all, costs nothing here.
pub(crate) type Versions = VecDeque<(Revision, Arc<Entry>)>;

#[derive(Debug)]
pub(crate) struct History {
    bytes_max: usize,
    n_bytes: usize,
    /// All changes after this revision are here.
    oldest: Revision,
    commits: VecDeque<Arc<[Change]>>,
    /// The same once more by name: what was before.
    past: BTreeMap<BucketName, Past>,
    /// Buckets that were made lately, and when. What was under their names before is of others, perhaps of somebody else.
    made: BTreeMap<BucketName, Revision>,
}

impl History {
    pub(crate) fn new(revision: Revision, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            n_bytes: 0,
            oldest: revision,
            commits: VecDeque::new(),
            past: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.n_bytes == 0 && self.commits.is_empty() && self.past.is_empty() && self.made.is_empty()
    }

    fn last(&self) -> Revision {
        Revision(self.oldest.0 + self.commits.len() as u64)
    }

    pub(crate) fn push(&mut self, changes: Arc<[Change]>) {
        let revision = self.last().next();
        self.n_bytes += bytes(&changes);
        for change in &*changes {
            if let Some((name, before)) = before(change) {
                let past = self.past.entry(name.bucket.clone()).or_default();
                let versions = past.entry(name.key.clone()).or_default();
                versions.push_back((revision, Arc::clone(before)));
            }
            if let Change::BucketCreated { bucket, .. } = change {
                self.made.insert(bucket.clone(), revision);
            }
        }
        self.commits.push_back(changes);
        while self.n_bytes > self.bytes_max
            && let Some(changes) = self.commits.pop_front()
        {
            self.oldest = self.oldest.next();
            self.n_bytes -= bytes(&changes);
            for change in &*changes {
                if let Some((name, _)) = before(change) {
                    self.forget(name);
                }
                if let Change::BucketCreated { bucket, .. } = change
                    && self.made.get(bucket) == Some(&self.oldest)
                {
                    self.made.remove(bucket);
                }
            }
        }
    }

    /// The oldest version of a name.
    fn forget(&mut self, name: &Name) {
        let past = self.past.get_mut(&name.bucket).expect("it was changed");
        let versions = past.get_mut(&name.key).expect("it was changed");
        versions.pop_front();
        if versions.is_empty() {
            past.remove(&name.key);
        }
        if past.is_empty() {
            self.past.remove(&name.bucket);
        }
    }

    /// What has to be known beside the present names to tell those of a revision.
    pub(crate) fn past(&self, bucket: &BucketName, at: Revision) -> Result<Option<&Past>, Error> {
        self.reach(at, Some(bucket))?;
        Ok(self.past.get(bucket).filter(|_| at < self.last()))
    }

    /// All changes, or those of one bucket and more.
    pub(crate) fn since(
        &self,
        revision: Revision,
        bucket: Option<&BucketName>,
    ) -> Result<impl Iterator<Item = (Revision, &Change)> + use<'_>, Error> {
        self.reach(revision, bucket)?;
        let n_skipped = usize::try_from(revision.0 - self.oldest.0).expect("there are so many");
        let commits = (revision.0 + 1..).zip(self.commits.iter().skip(n_skipped));
        Ok(commits.flat_map(|(n, changes)| {
            let revision = Revision(n);
            changes.iter().map(move |change| (revision, change))
        }))
    }

    /// A revision of the future belongs to an index that has lost its last records: what was seen of it is not true. One from before a bucket
    /// was made belongs to another bucket of that name.
    fn reach(&self, revision: Revision, bucket: Option<&BucketName>) -> Result<(), Error> {
        let made = bucket.and_then(|bucket| self.made.get(bucket));
        let oldest = made.map_or(self.oldest, |made| self.oldest.max(*made));
        if (oldest..=self.last()).contains(&revision) {
            Ok(())
        } else {
            Err(Error::Compacted { oldest })
        }
    }
}

fn before(change: &Change) -> Option<(&Name, &Arc<Entry>)> {
    match change {
        Change::Named {
            name,
            before: Some(before),
            ..
        } => Some((name, before)),
        _ => None,
    }
}

/// How much memory the changes keep from being freed, roughly. What a name says afterwards is kept by the index, or counted as what was before another
/// change.
fn bytes(changes: &[Change]) -> usize {
    /// With what refers to it in `past`.
    const ENTRY_BYTES: usize = 300;
    const CHANGE_BYTES: usize = 64 + mem::size_of::<Change>();
    /// Also of one without changes: a node that comes and goes may hold nothing.
    const COMMIT_BYTES: usize = 48;
    let more = |change: &Change| match change {
        Change::Named { name, before, .. } => {
            let before = before.as_ref().map_or(0, |before| {
                let consumers = mem::size_of_val(&*before.hints.consumers);
                ENTRY_BYTES + before.metadata.len() + consumers
            });
            name.key.as_str().len() + before
        }
        Change::Placed {
            name, placement, ..
        } => name.key.as_str().len() + mem::size_of_val(placement.copies()),
        Change::Released { copies, .. } => mem::size_of_val(&**copies),
        Change::BucketCreated { .. } | Change::BucketDeleted(_) => 0,
    };
    let changes = changes.iter().map(|change| CHANGE_BYTES + more(change));
    COMMIT_BYTES + changes.sum::<usize>()
}
