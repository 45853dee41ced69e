//! Programs, by the SHA-256 of their bytes: `DIR/modules/DIGEST`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ids::Digest;
use sha2::Digest as _;

use super::failure::Failure;
use super::store::Worker;
use crate::{Error, ErrorKind, hexadecimal};

pub(crate) const MODULE_BYTES_MAX: u64 = 64 << 20;
/// All modules together.
const TOTAL_BYTES_MAX: u64 = 16 << 30;
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
    modules: Modules,
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

    pub(crate) async fn put(&self, digest: &Digest) -> Result<Upload, Error> {
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
        Ok(Upload {
            modules: self.clone(),
            digest: digest.clone(),
            partial: Some(Partial {
                path,
                file,
                hash: sha2::Sha256::new(),
                n_bytes: 0,
            }),
        })
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
        let partial = self.modules.worker.run(append).await?.map_err(failed)?;
        self.partial = Some(partial);
        Ok(())
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// `Invalid` when the bytes are not what the digest says.
    pub async fn finish(mut self) -> Result<(), Error> {
        let over = || Error::new(ErrorKind::Unavailable, "the upload has failed before");
        let mut partial = self.partial.take().ok_or_else(over)?;
        let digest = hexadecimal::encode(&partial.hash.finalize_reset());
        if digest != self.digest.as_str() {
            let message = format!("the bytes have the digest {digest}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let path = self.modules.path(&self.digest);
        let modules = self.modules.clone();
        let finish = move || {
            partial.file.sync_all()?;
            if !path.is_file() {
                fs::rename(&partial.path, &path)?;
                File::open(&*modules.dir)?.sync_all()?;
                modules
                    .n_bytes
                    .fetch_add(partial.n_bytes, Ordering::Relaxed);
            }
            io::Result::Ok(())
        };
        self.modules.worker.run(finish).await?.map_err(failed)
    }
}

/// Makes the directory, removes what was not finished, and says how many bytes there are.
fn sweep(dir: &Path) -> io::Result<u64> {
    fs::create_dir_all(dir)?;
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
