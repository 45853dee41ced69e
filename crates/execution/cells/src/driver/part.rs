//! What is wanted of a unit at this site, on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ids::{Epoch, UnitId};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use workload::{CellSpec, Kind, UnitSpec};

use crate::disk::claim::{Claimed, Life};
use crate::disk::files::{read_json, write_whole};

/// Raised when a field of the file changes its meaning.
const VERSION: u32 = 1;
const FILE: &str = "part.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    version: u32,
    pub spec: UnitSpec,
    /// It is being ended, and nothing is to be started any more.
    pub is_stopping: bool,
}

impl Part {
    pub(super) fn of(spec: &UnitSpec) -> Self {
        Self {
            version: VERSION,
            spec: spec.clone(),
            is_stopping: false,
        }
    }

    /// `None`: nothing is wanted there.
    ///
    /// # Errors
    /// When the file cannot be read, or another version of this program has written it.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        read_json(&dir.join(FILE), VERSION)
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        durable::make_dir(dir)?;
        write_whole(&dir.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    pub(super) fn cell(&self) -> &CellSpec {
        let Kind::Cell(cell) = &self.spec.kind;
        cell
    }

    /// (path in the guest, directory here)
    pub(super) fn mounts(&self, mountable: &[PathBuf]) -> io::Result<Vec<(String, PathBuf)>> {
        let mounts = self.cell().mounts.iter().map(|mount| {
            let dir = directory_of(&mount.source, mountable).map_err(io::Error::other)?;
            Ok((mount.path.clone(), dir))
        });
        mounts.collect()
    }
}

/// The directory of a unit. Names have no dots, so no two units share one.
pub(super) fn dir_of(dir: &Path, unit: &UnitId) -> PathBuf {
    dir.join("units").join(unit.as_str().replace('/', "."))
}

/// All units that were ever wanted and not stopped.
pub(super) fn all(dir: &Path) -> io::Result<Vec<(PathBuf, Part)>> {
    let units = dir.join("units");
    durable::make_dir(&units)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&units)? {
        let path = entry?.path();
        match Part::read(&path)? {
            Some(part) => found.push((path, part)),
            // Whoever began to remove it had ended its processes before.
            None => fs::remove_dir_all(&path)?,
        }
    }
    Ok(found)
}

/// The directory that a mount's source names, without links in its path. It must be one of `mountable`, or below one: whose units run
/// here may not read all that this machine has.
pub(super) fn directory_of(source: &str, mountable: &[PathBuf]) -> Result<PathBuf, String> {
    let path = source.strip_prefix("file://").map(Path::new);
    let path = path.filter(|path| path.is_absolute());
    let path = path.ok_or_else(|| format!("`{source}` is not file:///absolute/path"))?;
    let path = fs::canonicalize(path).map_err(|error| format!("mount {source}: {error}"))?;
    if mountable.iter().any(|root| path.starts_with(root)) {
        return Ok(path);
    }
    Err(format!(
        "mount {source}: this site does not allow it; its agent allows it with --mountable DIR"
    ))
}

pub(super) fn epoch_dir(dir: &Path, epoch: Epoch) -> PathBuf {
    dir.join(format!("e{epoch}"))
}

/// The directories of other epochs than this one.
pub(super) fn other_epochs(dir: &Path, epoch: Epoch) -> io::Result<Vec<PathBuf>> {
    let mine = epoch_dir(dir, epoch);
    let mut others = epoch_dirs(dir)?;
    others.retain(|path| *path != mine);
    Ok(others)
}

pub(super) fn epoch_dirs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The processes that have the directory of an epoch, or one in it, and are not gone.
pub(super) fn processes(epoch_dir: &Path) -> io::Result<Vec<Claimed>> {
    let mut dirs = vec![epoch_dir.to_owned()];
    dirs.extend(epoch_dirs(epoch_dir)?);
    let mut found = Vec::new();
    for dir in dirs {
        found.extend(Claimed::read(&dir)?.filter(|claimed| claimed.life() != Life::Gone));
    }
    Ok(found)
}

/// Ends all processes of these epochs, then forgets the epochs. False: some still run.
pub(super) fn end(epoch_dirs: &[PathBuf], signal: Signal) -> io::Result<bool> {
    let mut all_gone = true;
    for dir in epoch_dirs {
        let processes = processes(dir)?;
        for process in &processes {
            process.signal(signal)?;
        }
        if processes.is_empty() {
            fs::remove_dir_all(dir)?;
        }
        all_gone &= processes.is_empty();
    }
    Ok(all_gone)
}

#[cfg(test)]
pub(super) mod tests {
    use workload::{Limits, Mount};

    use super::*;

    pub(in crate::driver) fn sample() -> Part {
        let name = |name: &str| name.parse().expect("a name");
        let cell = CellSpec {
            module: "ab".repeat(32).parse().expect("a digest"),
            ranks: 2,
            args: vec!["--fast".into()],
            env: [("KEY".into(), "value".into())].into(),
            mounts: vec![Mount {
                path: "/data".into(),
                source: "file:///srv/data".into(),
            }],
            iteration: Some("MPI_Allreduce".into()),
            checkpoint_every_ms: Some(5000),
            limits: Limits {
                memory_bytes_max: 1 << 30,
                log_bytes_max: 1 << 20,
            },
        };
        let mut part = Part::of(&UnitSpec {
            id: "org/service/block/0".parse().expect("a unit"),
            epoch: Epoch(7),
            kind: Kind::Cell(cell),
            home: name("cloud"),
            placement: vec![name("edge"), name("cloud")],
        });
        part.is_stopping = true;
        part
    }

    /// What version 1 wrote must be readable for ever: units are found again by it.
    #[test]
    fn golden() {
        let golden = include_str!("golden/part-1.json").trim_end();
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), golden).expect("written");
        let read = Part::read(dir.path()).expect("version 1 is read");
        assert_eq!(read, Some(sample()));
        sample().save(dir.path()).expect("saved");
        assert_eq!(
            fs::read_to_string(dir.path().join(FILE)).expect("written"),
            golden,
            "the layout has changed: raise VERSION, and keep reading the old one"
        );
    }

    #[test]
    fn a_mount_is_below_what_may_be_mounted() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = fs::canonicalize(dir.path()).expect("it is there");
        let mountable = [dir.join("open")];
        for name in ["open/inner", "openly", "closed"] {
            fs::create_dir_all(dir.join(name)).expect("a directory");
        }
        let link = |from: &str, to| std::os::unix::fs::symlink(dir.join(to), dir.join(from));
        link("open/out", "closed").expect("a link");
        link("in", "open/inner").expect("a link");
        let check = |source: &str, expected: Option<&str>| {
            let found = directory_of(source, &mountable).ok();
            assert_eq!(found, expected.map(|path| dir.join(path)), "{source}");
        };
        let at = |path: &str| format!("file://{}", dir.join(path).display());
        check(&at("open"), Some("open"));
        check(&at("open/inner"), Some("open/inner"));
        check(&at("in"), Some("open/inner"));
        for bad in ["openly", "closed", "open/out", "open/../closed", "none", ""] {
            check(&at(bad), None);
        }
        for bad in ["/a", "file://a", "file:/a", "s3://a/b", "", "file:///"] {
            check(bad, None);
        }
    }
}
