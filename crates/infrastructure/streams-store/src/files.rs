//! Small files that are written once, whole.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use wal::{Directory, Disk, DiskFile};

/// Opens a directory of those of a store by its name, and makes it if it is not there; the empty name is that of the one they are all in.
pub(crate) type Folders = dyn Fn(&str) -> io::Result<Arc<dyn Disk>> + Send + Sync;

/// Those of this machine. Nobody else may look into them.
pub(crate) fn of_machine(dir: &Path) -> Arc<Folders> {
    let dir = dir.to_owned();
    Arc::new(move |name| {
        let path = if name.is_empty() {
            dir.clone()
        } else {
            dir.join(name)
        };
        durable::make_private_dir(&path)?;
        Ok(Arc::new(Directory::open(&path)?))
    })
}

/// A file that is written under another name until it is whole.
pub(crate) struct Writer {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Writer {
    /// Where an owner before has been killed, it begins anew.
    pub(crate) fn create(disk: &dyn Disk, partial: &str) -> io::Result<Self> {
        remove_if_there(disk, partial)?;
        Ok(Self {
            file: disk.create(partial)?,
            offset: 0,
        })
    }

    /// Gives it its name, in place of what had it, when its bytes are on the disk. After a crash there is the one or the other, whole.
    pub(crate) fn publish(self, disk: &dyn Disk, partial: &str, name: &str) -> io::Result<()> {
        self.file.sync()?;
        disk.rename(partial, name)?;
        disk.sync()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From the beginning.
pub(crate) struct Reader {
    file: Arc<dyn DiskFile>,
    offset: u64,
    size: u64,
}

impl Reader {
    pub(crate) fn open(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        let file = disk.open(name)?;
        Ok(Self {
            size: file.size()?,
            file,
            offset: 0,
        })
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let n_bytes = left.min(bytes.len());
        self.file.read_at(&mut bytes[..n_bytes], self.offset)?;
        self.offset += n_bytes as u64;
        Ok(n_bytes)
    }
}

pub(crate) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
