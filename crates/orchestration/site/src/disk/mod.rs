//! What a site keeps: one file per kind of record.

pub(crate) mod identity;
pub(crate) mod joining;
pub(crate) mod ledger;
pub(crate) mod modules;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes a directory that only the owner may read, and those above it that are missing. When it returns, their names are on the disk: what is synced in the directory is
/// not lost with it when the machine crashes.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let parent = parent(dir)?;
    if !parent.is_dir() {
        make_private_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        // Whoever made it may have been killed before its name was synced.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    File::open(parent)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Puts `bytes` at `path`, whole and durable, or leaves what was there. Only the owner may read it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = create_private(&partial)?;
    file.write_all(bytes)?;
    publish(&file, &partial, path)
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

/// Gives a file that is written its name.
fn publish(file: &File, partial: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(partial, path)?;
    let folder = path.parent().expect("a file is in a folder");
    File::open(folder)?.sync_all()
}

/// The whole file, if there is one and it has at most `len_max` bytes.
fn read(path: &Path, len_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(io::Error::other(format!(
            "it is longer than {len_max} bytes"
        )));
    }
    Ok(Some(bytes))
}

/// Whether an error says that there is no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// That the names reach the disk, only a crash of the machine shows.
    #[test]
    fn directories_are_made_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            make_private_dir(&deep).expect("made");
            assert!(deep.is_dir());
        }
        let mode = std::fs::metadata(&deep).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
        std::fs::write(deep.join("file"), "").expect("written");
        make_private_dir(&deep.join("file")).expect_err("it is a file");
        make_private_dir(&deep.join("file/d")).expect_err("it is in a file");
        make_private_dir(Path::new("")).expect_err("it is nowhere");
        make_private_dir(Path::new("/")).expect_err("it has no parent");
        make_private_dir(Path::new("/proc/none")).expect_err("nobody can make it");
    }
}
