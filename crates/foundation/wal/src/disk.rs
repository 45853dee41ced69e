//! The file system as the log sees it: one directory of plain files, small enough to be simulated.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// A directory. What is done to it may be lost in a crash until [`sync`](Disk::sync) returns.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of the files there are.
    ///
    /// # Errors
    /// On I/O errors.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// `AlreadyExists`, and on I/O errors.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, and on I/O errors.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Replaces what may be at `to`, atomically.
    ///
    /// # Errors
    /// `NotFound`, and on I/O errors.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Whoever has it open keeps it.
    ///
    /// # Errors
    /// `NotFound`, and on I/O errors.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all that was created, renamed and removed before durable.
    ///
    /// # Errors
    /// When it may not be. It is not asked again.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. Offsets and lengths are in bytes. What is done to it may be lost in a crash, each sector for itself, until
/// [`sync`](DiskFile::sync) returns.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// In bytes.
    ///
    /// # Errors
    /// On I/O errors.
    fn size(&self) -> io::Result<u64>;

    /// Fills `bytes`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, and on I/O errors.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// # Errors
    /// When it may not all have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Takes room for `bytes` from the beginning of the file, and makes it as long.
    ///
    /// # Errors
    /// `StorageFull` when there is not so much, and on I/O errors.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// # Errors
    /// On I/O errors.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes all that was written before durable, and the length.
    ///
    /// # Errors
    /// When it may not be. It is not asked again: the kernel may have dropped what it could not write, and would say that all is well.
    fn sync(&self) -> io::Result<()>;

    /// Whether the file still has a name.
    ///
    /// # Errors
    /// On I/O errors.
    fn is_linked(&self) -> io::Result<bool>;
}

/// A directory of this machine.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    is_written: bool,
}

impl Directory {
    /// Opens the directory, and makes it and its parents where they are missing.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn open(path: &Path) -> io::Result<Self> {
        durable::make_dir(path)?;
        let is_written = true;
        Self::with(path, is_written)
    }

    /// Opens a directory that is there, to read only: what would change something fails.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn look_at(path: &Path) -> io::Result<Self> {
        let is_written = false;
        Self::with(path, is_written)
    }

    fn with(path: &Path, is_written: bool) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            handle: File::open(path)?,
            is_written,
        })
    }

    fn to_write(&self) -> io::Result<()> {
        if self.is_written {
            return Ok(());
        }
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open_with(&self, name: &str, create_new: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.is_written);
        options.create_new(create_new);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not text is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(name, true)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(name, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.to_write()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.to_write()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let all = || rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes);
        match rustix::io::retry_on_intr(all) {
            // Then room is taken as it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => File::set_len(self, bytes),
            result => Ok(result?),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }
}
