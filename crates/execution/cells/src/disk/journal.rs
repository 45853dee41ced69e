//! The commit records of a host: which of its ranks have left it for good.
//!
//! A move is decided by one record here, synced before the destination is told to run: a host that finds it after a crash never runs
//! that rank again, and the destination of a move without a record never starts. Append-only; a record is 24 bytes:
//! ```text
//! magic "CSKNMOVE" · rank u32 · epoch u32 · destination u32 · crc32c of these u32
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::wire::invalid;
use crate::wire::messages::{Epoch, HostId, Rank};

const MAGIC: &[u8; 8] = b"CSKNMOVE";
const RECORD_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub rank: Rank,
    pub epoch: Epoch,
    pub to: HostId,
}

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// A write or sync failed: what is on disk is unknown, and nothing more is promised.
    failed: bool,
}

impl Journal {
    /// Opens the journal in `dir` and returns what it holds. A torn last record was never promised and is cut off.
    ///
    /// # Errors
    /// On I/O errors, and when a record before the last is damaged.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Vec<Commit>)> {
        let path = dir.join("moves.journal");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        File::open(dir)?.sync_all()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (commits, intact) = decode_all(&bytes)?;
        if intact < bytes.len() {
            file.set_len(intact as u64)?;
            file.sync_all()?;
        }
        Ok((
            Self {
                file,
                failed: false,
            },
            commits,
        ))
    }

    /// Makes `commit` durable.
    ///
    /// # Errors
    /// When it may not be: the journal then takes no more records, because a failed sync can hide that earlier pages were lost.
    pub(crate) fn record(&mut self, commit: Commit) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the journal failed before"));
        }
        let written = self
            .file
            .write_all(&encode(commit))
            .and_then(|()| self.file.sync_data());
        self.failed = written.is_err();
        written
    }
}

fn encode(commit: Commit) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(MAGIC);
    record[8..12].copy_from_slice(&commit.rank.to_le_bytes());
    record[12..16].copy_from_slice(&commit.epoch.to_le_bytes());
    record[16..20].copy_from_slice(&commit.to.to_le_bytes());
    let crc = crc32c::crc32c(&record[..20]);
    record[20..].copy_from_slice(&crc.to_le_bytes());
    record
}

/// The records, and how many bytes of them are intact.
fn decode_all(bytes: &[u8]) -> io::Result<(Vec<Commit>, usize)> {
    let mut commits = Vec::new();
    for (n, record) in bytes.chunks(RECORD_BYTES).enumerate() {
        match decode(record) {
            Some(commit) => commits.push(commit),
            None if (n + 1) * RECORD_BYTES >= bytes.len() => break,
            None => {
                return Err(invalid(format!(
                    "record {n} of the move journal is damaged"
                )));
            }
        }
    }
    let intact = commits.len() * RECORD_BYTES;
    Ok((commits, intact))
}

fn decode(record: &[u8]) -> Option<Commit> {
    let field = |at: usize| {
        record
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes(b.try_into().expect("4 bytes")))
    };
    let intact = record.starts_with(MAGIC) && field(20)? == crc32c::crc32c(&record[..20]);
    intact.then_some(Commit {
        rank: field(8)?,
        epoch: field(12)?,
        to: field(16)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Commit = Commit {
        rank: 1,
        epoch: 2,
        to: 3,
    };
    const SECOND: Commit = Commit {
        rank: 4,
        epoch: 5,
        to: 6,
    };

    #[test]
    fn golden() {
        let hex: String = encode(FIRST).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "43534b4e4d4f564501000000020000000300000024f61484");
    }

    #[test]
    fn a_record_cut_anywhere_leaves_those_before_it() {
        let bytes = [encode(FIRST), encode(SECOND)].concat();
        for cut in 0..=bytes.len() {
            let (commits, intact) = decode_all(&bytes[..cut]).expect("a torn tail is no error");
            assert_eq!(commits, [FIRST, SECOND][..cut / RECORD_BYTES]);
            assert_eq!(intact, cut / RECORD_BYTES * RECORD_BYTES);
        }
    }

    #[test]
    fn damage_before_the_last_record_is_refused() {
        let mut bytes = [encode(FIRST), encode(SECOND)].concat();
        bytes[9] ^= 1;
        decode_all(&bytes).expect_err("a damaged record");
    }

    #[test]
    fn what_is_recorded_is_found_again_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut journal, commits) = Journal::open(dir.path()).expect("opens");
        assert!(commits.is_empty());
        journal.record(FIRST).expect("recorded");
        journal
            .file
            .write_all(&encode(SECOND)[..7])
            .expect("written");
        let (mut journal, commits) = Journal::open(dir.path()).expect("opens");
        assert_eq!(commits, [FIRST]);
        journal.record(SECOND).expect("recorded");
        assert_eq!(Journal::open(dir.path()).expect("opens").1, [FIRST, SECOND]);
    }
}
