//! Directories and files whose names are on the disk when a call returns.
//!
//! Syncing a file keeps its bytes, and not its name: that belongs to the directory above, which has to be synced too (fsync(2)). So does that
//! of a directory. Without it a crash of the machine may take away whatever was promised to last in it.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a directory, and those above it that are missing, for whoever the process lets in (its umask).
///
/// # Errors
/// When it cannot be made, or something else is there.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    make(dir, 0o777)
}

/// The same for the owner only. Directories that are there keep their mode.
///
/// # Errors
/// Those of [`make_dir`].
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    make(dir, 0o700)
}

/// An empty file that only the owner may read and write.
///
/// # Errors
/// Those of the system.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// Syncs a file that is written, and gives it its name in place of what had it. After a crash there is the one or the other, whole.
///
/// # Errors
/// Those of the system. Which of the two there is, is then not known.
pub fn publish(file: &File, partial: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(partial, path)?;
    sync_name(path)
}

/// Syncs the directory that a file or directory is in.
///
/// # Errors
/// Those of the system.
pub fn sync_name(path: &Path) -> io::Result<()> {
    File::open(parent(path)?)?.sync_all()
}

/// What may still be written to the disk that a file or directory is on, by whoever is not its administrator.
///
/// # Errors
/// Those of the system.
pub fn available_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether an error says that there is no room left.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn make(dir: &Path, mode: u32) -> io::Result<()> {
    let parent = parent(dir)?;
    if !parent.is_dir() {
        make(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => sync_name(dir),
        // Whoever made it may have been killed before its name was synced.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
            match sync_name(dir) {
                // Then it was not one of us who made it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            }
        }
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// That the names reach the disk, only a crash of the machine shows.
#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        let meta = fs::metadata(path).expect("it is there");
        meta.permissions().mode() & 0o777
    }

    #[test]
    fn directories_are_made_and_nothing_else_is_taken_for_one() {
        for make in [make_dir, make_private_dir] {
            let dir = tempfile::tempdir().expect("a directory");
            let deep = dir.path().join("a/b/c");
            for _ in 0..2 {
                make(&deep).expect("made");
                assert!(deep.is_dir());
            }
            fs::write(deep.join("file"), "").expect("written");
            make(&deep.join("file")).expect_err("it is a file");
            make(&deep.join("file/d")).expect_err("it is in a file");
            make(Path::new("")).expect_err("it is nowhere");
            make(Path::new("/")).expect_err("it has no parent");
            make(Path::new("/proc/none")).expect_err("nobody can make it");
        }
    }

    #[test]
    fn what_is_private_is_for_the_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b");
        make_private_dir(&deep).expect("made");
        assert_eq!((mode(&deep), mode(&dir.path().join("a"))), (0o700, 0o700));
        let [partial, path] = ["partial", "file"].map(|name| deep.join(name));
        for text in ["old", "new"] {
            let mut file = create_private(&partial).expect("created");
            file.write_all(text.as_bytes()).expect("written");
            publish(&file, &partial, &path).expect("published");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
            assert!(mode(&path) == 0o600 && !partial.exists());
        }
    }
}
