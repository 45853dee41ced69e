//! Programs, by the SHA-256 of their bytes: `DIR/modules/DIGEST`. Organisations share the bytes, and do not see that: each has, and can run, what
//! it has uploaded itself, which is a record in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ids::{Digest, Name};
use meta::Condition;
use sha2::Digest as _;
use workload::Kind;

use super::failure::Failure;
use super::records::{ModulesRecord, encode};
use super::state::State;
use super::store::Worker;
use super::{Controller, Draft, Inner};
use crate::{Error, ErrorKind, hexadecimal};

pub(crate) const MODULE_BYTES_MAX: u64 = 64 << 20;
/// All modules together; those of one organisation, by bytes and by number.
const TOTAL_BYTES_MAX: u64 = 16 << 30;
const ORG_BYTES_MAX: u64 = 2 << 30;
const ORG_MODULES_MAX: usize = 4096;
/// Bytes that nobody has are kept for a while: who has just uploaded them is about to have them.
const UNOWNED_FOR: Duration = Duration::from_secs(600);
const PARTIAL: &str = ".partial";

#[derive(Clone, Debug)]
pub(crate) struct Modules {
    dir: Arc<PathBuf>,
    worker: Worker,
    n_bytes: Arc<AtomicU64>,
}

/// A module on its way in. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    inner: Arc<Inner>,
    org: Name,
    digest: Digest,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    path: PathBuf,
    file: File,
    hash: sha2::Sha256,
    n_bytes: u64,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It was renamed if it was finished; and what is left over is swept at the next start.
        fs::remove_file(&self.path).ok();
    }
}

impl Modules {
    pub(crate) fn open(dir: &Path, failure: &Failure) -> Result<Self, Error> {
        let worker = Worker::start("modules", failure)?;
        let n_bytes = sweep(dir).map_err(failed)?;
        Ok(Self {
            dir: Arc::new(dir.to_owned()),
            worker,
            n_bytes: Arc::new(AtomicU64::new(n_bytes)),
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.as_str())
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    async fn begin(&self) -> Result<Partial, Error> {
        let n_bytes = self.n_bytes.load(Ordering::Relaxed);
        if n_bytes + MODULE_BYTES_MAX > TOTAL_BYTES_MAX {
            let message = format!("modules take {n_bytes} bytes of {TOTAL_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Exhausted, message));
        }
        let name = format!("{:016x}{PARTIAL}", rt::random_u64());
        let path = self.dir.join(name);
        let create = {
            let path = path.clone();
            move || OpenOptions::new().write(true).create_new(true).open(path)
        };
        let file = self.worker.run(create).await?.map_err(failed)?;
        Ok(Partial {
            path,
            file,
            hash: sha2::Sha256::new(),
            n_bytes: 0,
        })
    }

    /// Removes the bytes of modules that nobody has any more.
    pub(crate) async fn collect(&self, kept: BTreeSet<Digest>) -> Result<(), Error> {
        let dir = Arc::clone(&self.dir);
        let before = rt::wall().checked_sub(UNOWNED_FOR);
        let Some(before) = before else {
            return Ok(());
        };
        let collected = self
            .worker
            .run(move || collect(&dir, &kept, before))
            .await?;
        let n_bytes = collected.map_err(failed)?;
        self.n_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Up to `max` bytes from `offset` on; none at the end.
    pub(crate) async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        max: usize,
    ) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let read = move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut piece = Vec::new();
            file.take(u64::try_from(max).unwrap_or(u64::MAX))
                .read_to_end(&mut piece)?;
            io::Result::Ok(piece)
        };
        self.worker.run(read).await?.map_err(failed)
    }
}

impl Upload {
    /// # Errors
    /// `Exhausted` beyond the limit of a module's size; `Unavailable` when the disk does not take it. Then the upload is over.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let over = || Error::new(ErrorKind::Unavailable, "the upload has failed before");
        let mut partial = self.partial.take().ok_or_else(over)?;
        let n_bytes = partial.n_bytes + u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if n_bytes > MODULE_BYTES_MAX {
            let message = format!("a module has at most {MODULE_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::Exhausted, message));
        }
        let append = move || {
            partial.file.write_all(&piece)?;
            partial.hash.update(&piece);
            partial.n_bytes = n_bytes;
            io::Result::Ok(partial)
        };
        let partial = self
            .inner
            .modules
            .worker
            .run(append)
            .await?
            .map_err(failed)?;
        self.partial = Some(partial);
        Ok(())
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// `Invalid` when the bytes are not what the digest says; `Exhausted` when the organisation has too much already.
    pub async fn finish(mut self) -> Result<(), Error> {
        let over = || Error::new(ErrorKind::Unavailable, "the upload has failed before");
        let mut partial = self.partial.take().ok_or_else(over)?;
        let digest = hexadecimal::encode(&partial.hash.finalize_reset());
        if digest != self.digest.as_str() {
            let message = format!("the bytes have the digest {digest}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let n_bytes = partial.n_bytes;
        admit(&self.inner.state(), &self.org, &self.digest, n_bytes)?;
        let modules = self.inner.modules.clone();
        let path = modules.path(&self.digest);
        let finish = move || {
            let is_new = !path.is_file();
            // Also over the same bytes: they are as new as this upload, and not let go before it is noted whose they are.
            durable::publish(&partial.file, &partial.path, &path)?;
            if is_new {
                modules
                    .n_bytes
                    .fetch_add(partial.n_bytes, Ordering::Relaxed);
            }
            io::Result::Ok(())
        };
        let finished = self.inner.modules.worker.run(finish).await?;
        finished.map_err(failed)?;
        let decide = |state: &State| {
            let record = admit(state, &self.org, &self.digest, n_bytes)?;
            Ok(match record {
                Some(record) => Ok((change(state, &self.org, &record), ())),
                None => Err(()),
            })
        };
        self.inner.change(decide).await.map(drop)
    }
}

/// What an organisation has with one module more; `None`: it has that already.
fn admit(
    state: &State,
    org: &Name,
    digest: &Digest,
    n_bytes: u64,
) -> Result<Option<ModulesRecord>, Error> {
    let mut record = owned(state, org);
    if record.modules.insert(digest.clone(), n_bytes).is_some() {
        return Ok(None);
    }
    let n_total: u64 = record.modules.values().sum();
    if n_total > ORG_BYTES_MAX || record.modules.len() > ORG_MODULES_MAX {
        let message = format!(
            "the modules of an organisation have {ORG_BYTES_MAX} bytes at most, and are {ORG_MODULES_MAX} at most: delete some"
        );
        return Err(Error::new(ErrorKind::Exhausted, message));
    }
    Ok(Some(record))
}

fn owned(state: &State, org: &Name) -> ModulesRecord {
    let row = state.modules.get(org);
    row.map(|row| row.record.clone()).unwrap_or_default()
}

fn change(state: &State, org: &Name, record: &ModulesRecord) -> Draft {
    let key = format!("modules/{org}");
    let revision = state.modules.get(org).map(|row| row.revision);
    Draft {
        conditions: vec![Condition::new(&*key, revision)],
        writes: vec![meta::Write::put(key, encode(record))],
    }
}

impl Controller {
    /// Whether an organisation has uploaded a module.
    #[must_use]
    pub fn has_module(&self, org: &Name, digest: &Digest) -> bool {
        let state = self.0.state();
        let row = state.modules.get(org);
        row.is_some_and(|row| row.record.modules.contains_key(digest)) && self.0.modules.has(digest)
    }

    /// At most 64 MiB.
    ///
    /// # Errors
    /// `Exhausted` when modules take too much of the disk.
    pub async fn put_module(&self, org: &Name, digest: &Digest) -> Result<Upload, Error> {
        Ok(Upload {
            inner: Arc::clone(&self.0),
            org: org.clone(),
            digest: digest.clone(),
            partial: Some(self.0.modules.begin().await?),
        })
    }

    /// Forgets a module of an organisation. Others who have uploaded it have it still.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a service uses it.
    pub async fn delete_module(&self, org: &Name, digest: &Digest) -> Result<(), Error> {
        let decide = |state: &State| {
            let mut record = owned(state, org);
            if record.modules.remove(digest).is_none() {
                return Err(Error::not_found("module", digest));
            }
            let services = state.services.get(org).into_iter().flatten();
            for (name, row) in services {
                if row.policy.modules().any(|used| used == digest) {
                    let message = format!("service `{name}` uses it");
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
            }
            Ok(Ok::<_, ()>((change(state, org, &record), ())))
        };
        self.0.change(decide).await.map(drop)
    }
}

impl Inner {
    /// Removes the bytes of modules that nobody has, and that nothing runs.
    pub(crate) async fn collect_modules(&self) -> Result<(), Error> {
        let kept = {
            let state = self.state();
            let owned = state
                .modules
                .values()
                .flat_map(|row| row.record.modules.keys());
            let services = state.services.values().flat_map(BTreeMap::values);
            let used = services.flat_map(|row| row.policy.modules());
            let planned = state.blueprint.units().values();
            let planned = planned.map(|planned| {
                let Kind::Cell(cell) = &planned.spec.kind;
                &cell.module
            });
            owned.chain(used).chain(planned).cloned().collect()
        };
        self.modules.collect(kept).await
    }
}

/// Removes what is not kept and was there before some time. Says how many bytes that were.
fn collect(dir: &Path, kept: &BTreeSet<Digest>, before: SystemTime) -> io::Result<u64> {
    let mut n_bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let digest = entry.file_name().to_string_lossy().parse::<Digest>();
        // What is on its way in has another name.
        let Ok(digest) = digest else {
            continue;
        };
        let about = entry.metadata()?;
        if !kept.contains(&digest) && about.modified()? < before {
            fs::remove_file(entry.path())?;
            n_bytes += about.len();
        }
    }
    Ok(n_bytes)
}

/// Makes the directory, removes what was not finished, and says how many bytes there are.
fn sweep(dir: &Path) -> io::Result<u64> {
    durable::make_dir(dir)?;
    let mut n_bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            fs::remove_file(entry.path())?;
        } else {
            n_bytes += entry.metadata()?.len();
        }
    }
    Ok(n_bytes)
}

fn failed(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the disk does not take or give a module",
    )
    .because(error)
}

#[cfg(test)]
mod tests {
    use meta::Revision;

    use super::*;
    use crate::controller::state::Row;

    fn digest(n: usize) -> Digest {
        format!("{n:064x}").parse().expect("a digest")
    }

    #[test]
    fn an_organisation_has_so_much_and_no_more() {
        let org: Name = "acme".parse().expect("a name");
        let check = |n_modules: usize, n_bytes_each: u64, n_bytes: u64, fits: bool| {
            let modules = (0..n_modules).map(|n| (digest(n), n_bytes_each));
            let record = ModulesRecord {
                modules: modules.collect(),
            };
            let revision = Revision(1);
            let mut state = State::default();
            state.modules.insert(org.clone(), Row { revision, record });
            let admitted = admit(&state, &org, &digest(n_modules), n_bytes);
            assert_eq!(admitted.is_ok(), fits, "{n_modules}");
            // What it has takes nothing more.
            let again = admit(&state, &org, &digest(0), n_bytes);
            assert_eq!(again.expect("it has it"), None);
            let other = "other".parse().expect("a name");
            let other = admit(&state, &other, &digest(n_modules), n_bytes);
            other.expect("others have room").expect("it is new to them");
        };
        check(31, MODULE_BYTES_MAX, MODULE_BYTES_MAX, true);
        check(32, MODULE_BYTES_MAX, 1, false);
        check(ORG_MODULES_MAX - 1, 1, 1, true);
        check(ORG_MODULES_MAX, 1, 1, false);
    }

    #[test]
    fn bytes_that_nobody_has_go_after_a_while() {
        let dir = tempfile::tempdir().expect("a directory");
        let partial = format!("0{PARTIAL}");
        for name in [digest(1).as_str(), digest(2).as_str(), &partial] {
            fs::write(dir.path().join(name), b"123").expect("written");
        }
        let kept = BTreeSet::from([digest(1)]);
        let now = rt::wall();
        let hour = Duration::from_secs(3600);
        assert_eq!(collect(dir.path(), &kept, now - hour).expect("works"), 0);
        assert_eq!(collect(dir.path(), &kept, now + hour).expect("works"), 3);
        assert!(dir.path().join(digest(1).as_str()).is_file());
        assert!(!dir.path().join(digest(2).as_str()).exists());
        assert!(dir.path().join(partial).is_file());
    }
}
