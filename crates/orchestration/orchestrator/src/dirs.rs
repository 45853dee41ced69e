//! The directories of a controller.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a directory, and those above it that are missing. When it returns, their names are on the disk: what is synced in the directory is
/// not lost with it when the machine crashes.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    let parent = parent(dir)?;
    if !parent.is_dir() {
        make_dir(parent)?;
    }
    match fs::create_dir(dir) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// That the names reach the disk, only a crash of the machine shows.
    #[test]
    fn directories_are_made_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            make_dir(&deep).expect("made");
            assert!(deep.is_dir());
        }
        std::fs::write(deep.join("file"), "").expect("written");
        make_dir(&deep.join("file")).expect_err("it is a file");
        make_dir(&deep.join("file/d")).expect_err("it is in a file");
        make_dir(Path::new("")).expect_err("it is nowhere");
        make_dir(Path::new("/")).expect_err("it has no parent");
        make_dir(Path::new("/proc/none")).expect_err("nobody can make it");
    }
}
