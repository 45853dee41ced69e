//! A store in one file, for one process at a time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition,
};
use tokio::sync::watch;

use crate::history::History;
use crate::{Change, Condition, Entry, Error, MetaStore, Revision, Write, check};

/// Key to (revision, value).
const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");
/// `revision`, and `format` of all this.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const FORMAT: u64 = 1;

#[derive(Debug)]
pub struct Redb {
    database: Database,
    /// Held throughout a commit, by which they come one after the other: for as long as the disk takes. Whether one has begun and not ended;
    /// that is left behind by one that failed, or panicked.
    is_writing: Mutex<bool>,
    /// Held for moments, so that nobody who reads waits for the disk.
    history: Mutex<History>,
    /// A commit failed: what is on disk is not known.
    has_failed: AtomicBool,
}

impl Redb {
    /// Opens the file, or makes a new one. The directory must exist.
    ///
    /// # Errors
    /// When another process has it open, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let database = Database::create(path).map_err(|e| failed("open the metadata file", e))?;
        // What is committed to the file is not to be lost with its name.
        durable::sync_name(path)
            .map_err(|e| failed("sync the directory of the metadata file", e))?;
        Self::new(database)
    }

    fn new(database: Database) -> Result<Self, Error> {
        let revision = prepare(&database).map_err(|e| failed("read the metadata file", e))?;
        Ok(Self {
            database,
            is_writing: Mutex::new(false),
            history: Mutex::new(History::new(Revision(revision))),
            has_failed: AtomicBool::new(false),
        })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Nothing panics halfway through a push.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let transaction = self.database.begin_read().map_err(redb::Error::from);
        let found = transaction.and_then(|transaction| look(&transaction));
        found.map_err(|e| failed("read metadata", e))
    }

    /// The key whose condition does not hold, or `None` when all is written and synced.
    fn write(
        &self,
        next: Revision,
        conditions: &[Condition],
        writes: &[Write],
    ) -> Result<Option<String>, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            for Condition { key, revision } in conditions {
                let found = entries.get(key.as_str())?.map(|entry| entry.value().0);
                if found != revision.map(|revision| revision.0) {
                    // Dropping the transaction undoes it.
                    return Ok(Some(key.clone()));
                }
            }
            for Write { key, value } in writes {
                match value {
                    Some(value) => entries.insert(key.as_str(), (next.0, value.as_slice()))?,
                    None => entries.remove(key.as_str())?,
                };
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert("revision", next.0)?;
        }
        transaction.commit()?;
        Ok(None)
    }
}

impl MetaStore for Redb {
    fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.read(|transaction| {
            let entries = transaction.open_table(ENTRIES)?;
            let found = entries.get(key)?;
            Ok(found.map(|value| entry(key, value.value())))
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        self.read(|transaction| {
            let entries = transaction.open_table(ENTRIES)?;
            let from = after.map_or(prefix, |after| after.max(prefix));
            let mut found = Vec::new();
            for item in entries.range(from..)? {
                let (key, value) = item?;
                if !key.value().starts_with(prefix) || found.len() == limit {
                    break;
                }
                if Some(key.value()) != after {
                    found.push(entry(key.value(), value.value()));
                }
            }
            Ok(found)
        })
    }

    fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Revision, Error> {
        check(writes)?;
        // A commit that panicked leaves it behind as true.
        let is_writing = self.is_writing.lock();
        let mut is_writing = is_writing.unwrap_or_else(PoisonError::into_inner);
        if *is_writing {
            self.has_failed.store(true, Ordering::Release);
            return Err(Error::Failed {
                context: "commit metadata after a commit that failed",
                source: None,
            });
        }
        let next = self.history().last().next();
        *is_writing = true;
        let conflict = self.write(next, conditions, writes).map_err(|e| {
            self.has_failed.store(true, Ordering::Release);
            failed("commit metadata", e)
        })?;
        *is_writing = false;
        if let Some(key) = conflict {
            return Err(Error::Conflict { key });
        }
        self.history().push(next, writes);
        Ok(next)
    }

    fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Vec<Change>, Error> {
        self.history().changes(prefix, after, limit)
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.history().subscribe()
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }
}

/// Makes the tables, and says at which revision the file is.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let (format, revision) = {
        transaction.open_table(ENTRIES)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        let format = numbers.get("format")?.map(|number| number.value());
        numbers.insert("format", format.unwrap_or(FORMAT))?;
        let revision = numbers.get("revision")?.map(|number| number.value());
        (format.unwrap_or(FORMAT), revision.unwrap_or(0))
    };
    if format != FORMAT {
        let text = format!("it has format {format}, this program reads {FORMAT}");
        return Err(redb::Error::Corrupted(text));
    }
    transaction.commit()?;
    Ok(revision)
}

fn entry(key: &str, (revision, value): (u64, &[u8])) -> Entry {
    Entry {
        key: key.to_owned(),
        revision: Revision(revision),
        value: value.to_vec(),
    }
}

fn failed(context: &'static str, source: impl Into<redb::Error>) -> Error {
    Error::Failed {
        context,
        source: Some(Box::new(source.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn redb_keeps_the_contract() {
        let dir = tempfile::tempdir().expect("a directory");
        let counter = std::sync::atomic::AtomicU32::new(0);
        crate::contract(&|| {
            let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(Redb::open(&dir.path().join(n.to_string())).expect("opens"))
        });
    }

    #[test]
    fn what_was_committed_is_there_after_opening_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("meta");
        let store = Redb::open(&path).expect("opens");
        let first = store.cas("a", None, b"1".to_vec()).expect("absent");
        store.cas("b", None, b"2".to_vec()).expect("absent");
        Redb::open(&path).expect_err("one process, one time");
        drop(store);

        let store = Redb::open(&path).expect("opens again");
        let entry = store.get("a").expect("reads").expect("is there");
        assert_eq!((entry.revision, entry.value), (first, b"1".to_vec()));
        assert_eq!(*store.revision().borrow(), Revision(2));
        // Watches do not survive, and are told so.
        let error = store.changes("", first, 9).expect_err("too old");
        assert!(matches!(error, Error::Compacted { oldest } if oldest == Revision(2)));
        assert_eq!(
            store.cas("a", Some(first), vec![]).expect("as read"),
            Revision(3)
        );
    }

    /// A disk in memory that fails, or is slow, when it is told to.
    #[derive(Clone, Debug, Default)]
    struct Disk {
        bytes: Arc<InMemoryBackend>,
        is_broken: Arc<AtomicBool>,
        /// Syncs wait while somebody holds it.
        slow: Arc<Mutex<()>>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, std::io::Error> {
            self.bytes.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
            self.bytes.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
            self.bytes.set_len(len)
        }

        fn sync_data(&self) -> Result<(), std::io::Error> {
            drop(self.slow.lock().expect("nobody panics with it"));
            if self.is_broken.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("the disk is broken"));
            }
            self.bytes.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
            self.bytes.write(offset, data)
        }
    }

    fn on(disk: &Disk) -> Redb {
        let database = redb::Builder::new().create_with_backend(disk.clone());
        Redb::new(database.expect("it is empty")).expect("opens")
    }

    #[test]
    fn a_commit_that_cannot_be_synced_ends_the_store_and_is_seen() {
        let disk = Disk::default();
        let store = on(&disk);
        let revision = store.cas("a", None, vec![1]).expect("absent");
        store.cas("a", None, vec![2]).expect_err("a conflict");
        assert!(!store.has_failed());
        disk.is_broken.store(true, Ordering::Relaxed);
        store.cas("b", None, vec![1]).expect_err("a broken disk");
        assert!(store.has_failed());
        disk.is_broken.store(false, Ordering::Relaxed);
        store
            .cas("b", None, vec![1])
            .expect_err("it promises nothing more");
        assert_eq!(*store.revision().borrow(), revision);
    }

    #[test]
    fn nobody_who_reads_waits_for_a_slow_disk() {
        let disk = Disk::default();
        let store = on(&disk);
        let first = store.cas("a", None, vec![1]).expect("absent");
        std::thread::scope(|scope| {
            let slow = disk.slow.lock().expect("nobody panics with it");
            let commit = scope.spawn(|| store.cas("b", None, vec![2]));
            // Until it holds what commits hold: it cannot end before the disk does.
            while store.is_writing.try_lock().is_ok() {
                std::thread::yield_now();
            }
            assert_eq!(store.changes("", first, 9).expect("kept"), []);
            assert_eq!(*store.revision().borrow(), first);
            assert!(store.get("a").expect("reads").is_some());
            drop(slow);
            let second = commit.join().expect("no panic").expect("absent");
            assert_eq!(store.changes("", first, 9).expect("kept").len(), 1);
            assert_eq!(*store.revision().borrow(), second);
        });
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("meta");
        std::fs::write(&path, vec![7; 8192]).expect("writes");
        Redb::open(&path).expect_err("not a database");
    }
}
