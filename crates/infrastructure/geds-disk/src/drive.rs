//! A directory of this machine whose files are read and written past the page cache, and by one process only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use geds_core::extents::PAGE_BYTES;
use rustix::fs::{FlockOperation, OFlags};
use wal::{Directory, Disk, DiskFile};

use super::aligned::Aligned;
use super::rings::Rings;

const LOCK: &str = "tier1-lock";
const PROBE: &str = "tier1-probe";

/// It is locked while it lives: a process that was stopped and goes on would else write to where another one has put something since.
/// Nobody can be fenced off data that is written in place.
#[derive(Debug)]
pub struct Drive {
    path: PathBuf,
    directory: Directory,
    is_direct: bool,
    rings: Option<Arc<Rings>>,
    _lock: File,
}

impl Drive {
    /// Opens the directory, and makes it and its parents where they are missing.
    ///
    /// # Errors
    /// `ResourceBusy` when another process has it, and on I/O errors.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut drive = Self::open_without_rings(path)?;
        drive.rings = Rings::new().map(Arc::new).ok();
        Ok(drive)
    }

    /// The same, without io_uring even if the kernel has it: every call reads or writes one piece after the other.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_without_rings(path: &Path) -> io::Result<Self> {
        let directory = Directory::open(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(path.join(LOCK))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(io::ErrorKind::ResourceBusy.into()),
            result => result?,
        }
        let mut drive = Self {
            path: path.to_owned(),
            directory,
            is_direct: true,
            rings: None,
            _lock: lock,
        };
        drive.is_direct = drive.can_be_direct()?;
        Ok(drive)
    }

    /// Whether files are read and written past the page cache. If not, the file system does not have that; what is synced is as safe.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Whether the pieces of long reads and writes are under way together.
    #[must_use]
    pub fn has_rings(&self) -> bool {
        self.rings.is_some()
    }

    fn can_be_direct(&self) -> io::Result<bool> {
        let page = Aligned::zeroed(usize::try_from(PAGE_BYTES).map_err(io::Error::other)?);
        let written = self
            .open_with(PROBE, OpenOptions::new().create(true))
            .and_then(|file| file.write_all_at(&page, 0));
        let is_direct = match written {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => false,
            result => result.is_ok(),
        };
        match self.directory.remove(PROBE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(is_direct),
        }
    }

    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        let options = options.read(true).write(true);
        if self.is_direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        options.open(self.path.join(name))
    }

    fn file(&self, file: File) -> Arc<dyn DiskFile> {
        match &self.rings {
            Some(rings) => Arc::new(RingFile {
                file,
                rings: Arc::clone(rings),
            }),
            None => Arc::new(file),
        }
    }
}

impl Disk for Drive {
    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_with(name, OpenOptions::new().create_new(true))?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_with(name, &mut OpenOptions::new())?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync()
    }
}

#[derive(Debug)]
struct RingFile {
    file: File,
    rings: Arc<Rings>,
}

impl DiskFile for RingFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if Rings::is_long(bytes.len()) {
            self.rings.read(&self.file, bytes, offset)
        } else {
            self.file.read_exact_at(bytes, offset)
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if Rings::is_long(bytes.len()) {
            self.rings.write(&self.file, bytes, offset)
        } else {
            self.file.write_all_at(bytes, offset)
        }
    }

    fn size(&self) -> io::Result<u64> {
        DiskFile::size(&self.file)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        DiskFile::set_len(&self.file, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        DiskFile::sync(&self.file)
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.file.is_linked()
    }
}

#[cfg(test)]
mod tests;
