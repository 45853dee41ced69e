//! Modules, each in a file that is named by its SHA-256. Those that are not needed any more stay while there is room, for the next unit that
//! needs them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ids::Digest;
use sha2::{Digest as _, Sha256};

/// The largest module that is taken.
const BYTES_MAX: u64 = 256 << 20;
/// So much of what nobody needs is kept.
const IDLE_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Modules {
    folder: PathBuf,
}

/// A module on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    digest: Digest,
    path: PathBuf,
    partial: PathBuf,
    file: File,
    sum: Sha256,
    len: u64,
}

impl Modules {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        durable::make_private_dir(&folder)?;
        Ok(Self { folder })
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    pub(crate) fn receive(&self, digest: &Digest) -> io::Result<Incoming> {
        let path = self.path(digest);
        let partial = path.with_extension("partial");
        Ok(Incoming {
            digest: digest.clone(),
            file: durable::create_private(&partial)?,
            path,
            partial,
            sum: Sha256::new(),
            len: 0,
        })
    }

    /// Keeps these modules and, of the others, those that came last, up to [`IDLE_BYTES_MAX`]. Removes the rests of those that did not arrive.
    pub(crate) fn keep(&self, wanted: &BTreeSet<Digest>) -> io::Result<()> {
        self.keep_some(wanted, IDLE_BYTES_MAX)
    }

    fn keep_some(&self, wanted: &BTreeSet<Digest>, idle_bytes_max: u64) -> io::Result<()> {
        let mut idle = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let digest = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            if digest.is_none_or(|digest: Digest| wanted.contains(&digest)) {
                continue;
            }
            if path.extension().is_some_and(|end| end == "wasm") {
                let meta = path.metadata()?;
                idle.push((meta.modified()?, meta.len(), path));
            } else {
                fs::remove_file(&path)?;
            }
        }
        idle.sort_unstable();
        let mut n_bytes = 0;
        for (_, len, path) in idle.into_iter().rev() {
            n_bytes += len;
            if n_bytes > idle_bytes_max {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        path(&self.folder, digest)
    }
}

/// Where the module with this digest is, in the folder that the agent keeps modules in.
fn path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(format!("{digest}.wasm"))
}

impl Incoming {
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.len += piece.len() as u64;
        if self.len > BYTES_MAX {
            let why = format!("the module is longer than {BYTES_MAX} bytes");
            return Err(io::Error::other(why));
        }
        self.sum.update(piece);
        self.file.write_all(piece)
    }

    /// All of it is there.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let sum = std::mem::take(&mut self.sum).finalize();
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        if sum != self.digest.as_str() {
            return Err(io::Error::other("what came has another SHA-256"));
        }
        durable::publish(&self.file, &self.partial, &self.path)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // It is gone already if all went well; if not, a rest does no harm and is removed later.
        fs::remove_file(&self.partial).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Digest {
        let sum = Sha256::digest(bytes);
        let text: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        text.parse().expect("a digest")
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        entries
            .map(|entry| name(entry).into_string().expect("text"))
            .collect()
    }

    #[test]
    fn a_module_is_kept_if_it_is_what_was_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let modules = Modules::open(dir.path().join("modules")).expect("room");
        let wanted = digest(b"abc");
        let mut incoming = modules.receive(&wanted).expect("room");
        incoming.write(b"ab").expect("room");
        incoming.write(b"x").expect("room");
        incoming.finish().expect_err("another sum");
        assert!(!modules.has(&wanted));
        let mut incoming = modules.receive(&wanted).expect("room");
        incoming.write(b"abc").expect("room");
        incoming.finish().expect("the right sum");
        assert!(modules.has(&wanted));
        assert_eq!(names(&modules.folder).len(), 1, "no rests");
    }

    #[test]
    fn what_is_not_wanted_stays_while_there_is_room() {
        let dir = tempfile::tempdir().expect("a folder");
        let modules = Modules::open(dir.path().to_owned()).expect("room");
        for bytes in [&b"a"[..], b"b"] {
            let mut incoming = modules.receive(&digest(bytes)).expect("room");
            incoming.write(bytes).expect("room");
            incoming.finish().expect("the right sum");
        }
        fs::write(dir.path().join("README"), "not ours").expect("room");
        drop(durable::create_private(
            &modules.path(&digest(b"c")).with_extension("partial"),
        ));
        let wanted = [digest(b"b")].into();
        modules.keep(&wanted).expect("removes");
        assert!(modules.has(&digest(b"a")) && modules.has(&digest(b"b")));
        assert_eq!(names(dir.path()).len(), 3, "the rest is gone");
        modules.keep_some(&wanted, 0).expect("removes");
        assert!(!modules.has(&digest(b"a")) && modules.has(&digest(b"b")));
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn a_module_that_is_too_long_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let modules = Modules::open(dir.path().to_owned()).expect("room");
        let mut incoming = modules.receive(&digest(b"a")).expect("room");
        incoming.len = BYTES_MAX;
        incoming.write(b"a").expect_err("one byte too many");
        drop(incoming);
        assert_eq!(names(dir.path()).len(), 0);
    }
}
