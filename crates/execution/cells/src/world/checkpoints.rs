//! Checkpoints of a world on disk: one snapshot file per rank, and the rename that makes them one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::wire::messages::Rank;

/// Where a world keeps its checkpoints; the newest complete one is kept.
#[derive(Debug)]
pub(super) struct Checkpoints {
    dir: PathBuf,
    last_id: u32,
    complete: Option<PathBuf>,
}

/// A checkpoint that is being taken.
#[derive(Debug)]
pub(super) struct Partial {
    pub id: u32,
    dir: PathBuf,
    /// `None`: complete.
    ranks: BTreeMap<Rank, Option<File>>,
    size: u32,
}

impl Checkpoints {
    /// Those that an earlier process has left in `dir`: the newest complete one is kept.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let id_of = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = entries.iter().filter_map(|entry| id_of(&entry.path()));
        let newest = newest.max();
        for entry in &entries {
            if id_of(&entry.path()).is_none() || id_of(&entry.path()) != newest {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self {
            complete: newest.map(|id| dir.join(id.to_string())),
            last_id: newest.unwrap_or(0),
            dir,
        })
    }

    pub(super) fn begin(&mut self, size: u32) -> io::Result<Partial> {
        self.last_id += 1;
        let id = self.last_id;
        let dir = self.dir.join(format!("{id}.partial"));
        durable::make_dir(&dir)?;
        Ok(Partial {
            id,
            dir,
            ranks: BTreeMap::new(),
            size,
        })
    }

    /// Makes a complete checkpoint the newest; the one before it goes.
    pub(super) fn publish(&mut self, partial: &Partial) -> io::Result<()> {
        File::open(&partial.dir)?.sync_all()?;
        let complete = self.dir.join(partial.id.to_string());
        fs::rename(&partial.dir, &complete)?;
        File::open(&self.dir)?.sync_all()?;
        if let Some(earlier) = self.complete.replace(complete) {
            fs::remove_dir_all(earlier)?;
        }
        Ok(())
    }

    pub(super) fn discard(&self, partial: &Partial) {
        if let Err(error) = fs::remove_dir_all(&partial.dir) {
            tracing::warn!(%error, "an incomplete checkpoint was not removed");
        }
    }

    pub(super) fn newest(&self) -> Option<&Path> {
        self.complete.as_deref()
    }
}

impl Partial {
    /// Takes a piece of a rank's snapshot, an empty one being its end. True: that was the last of all.
    pub(super) fn take(&mut self, rank: Rank, bytes: &[u8]) -> io::Result<bool> {
        if rank >= self.size {
            return Err(io::Error::other("a snapshot of a rank that does not exist"));
        }
        let path = path_of(&self.dir, rank);
        let file = match self.ranks.entry(rank) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Some(File::create_new(path)?))
            }
        };
        let Some(open) = file else {
            return Err(io::Error::other("a snapshot goes on after its end"));
        };
        if bytes.is_empty() {
            open.sync_all()?;
            *file = None;
        } else {
            open.write_all(bytes)?;
        }
        let n_complete = self.ranks.values().filter(|file| file.is_none()).count();
        Ok(n_complete == self.size as usize)
    }
}

/// Passes the snapshot of a rank to `pass`, in pieces.
pub(super) fn read(dir: &Path, rank: Rank, mut pass: impl FnMut(Vec<u8>)) -> io::Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut file = File::open(path_of(dir, rank))?;
    loop {
        let mut piece = Vec::new();
        let is_end = io::Read::by_ref(&mut file)
            .take(PIECE_BYTES)
            .read_to_end(&mut piece)?
            == 0;
        pass(piece);
        if is_end {
            return Ok(());
        }
    }
}

fn path_of(dir: &Path, rank: Rank) -> PathBuf {
    dir.join(format!("rank-{rank}.snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_complete_checkpoint_is_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("checkpoints");
        let mut checkpoints = Checkpoints::open(path.clone()).expect("an empty one");
        assert_eq!(checkpoints.newest(), None);
        for id in 1..=2 {
            let mut partial = checkpoints.begin(1).expect("begins");
            assert!(!partial.take(0, b"snapshot").expect("takes"));
            assert!(partial.take(0, b"").expect("takes"), "it is complete");
            assert_eq!(partial.id, id);
            checkpoints.publish(&partial).expect("publishes");
        }
        // One that a crash has left behind, and one that was never finished.
        fs::create_dir(path.join("1")).expect("a directory");
        checkpoints.begin(1).expect("begins");
        let mut again = Checkpoints::open(path.clone()).expect("opens");
        assert_eq!(again.newest(), Some(path.join("2").as_path()));
        assert_eq!(fs::read_dir(&path).expect("lists").count(), 1);
        assert_eq!(again.begin(1).expect("begins").id, 3);
    }
}
