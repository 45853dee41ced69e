//! The commit records of a host: which of its ranks have left it for good.
//!
//! A move is decided by one record here, synced before the destination is told to run: a host that finds it after a crash never runs
//! that rank again, and the destination of a move without a record never starts. The file is zeroed
//! ahead, so that syncing a record writes no metadata. A record is 24 bytes:
//! ```text
//! magic "CSKNMOVE" · rank u32 · epoch u32 · destination u32 · crc32c of these u32
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::wire::invalid;
use crate::wire::messages::{Epoch, HostId, Rank};

const MAGIC: &[u8; 8] = b"CSKNMOVE";
const RECORD_BYTES: usize = 24;
/// The file grows by so much at a time.
const ROOM_BYTES: u64 = 96 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub rank: Rank,
    pub epoch: Epoch,
    pub to: HostId,
}

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Where the next record goes, and how far the file is zeroed.
    end: u64,
    room: u64,
    /// A write or sync failed: what is on disk is unknown, and nothing more is promised.
    failed: bool,
}

impl Journal {
    /// Opens the journal in `dir` and returns what it holds. A torn last record was never promised and
    /// is wiped.
    ///
    /// # Errors
    /// On I/O errors, and when a record before the last is damaged.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Vec<Commit>)> {
        let path = dir.join("moves.journal");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (commits, end) = decode_all(&bytes)?;
        // Cut, then grow: what is behind the last record reads as zero.
        file.set_len(end)?;
        let mut journal = Self {
            file,
            end,
            room: end,
            failed: false,
        };
        journal.make_room()?;
        File::open(dir)?.sync_all()?;
        Ok((journal, commits))
    }

    /// Makes `commit` durable.
    ///
    /// # Errors
    /// When it may not be: the journal then takes no more records, because a failed sync can hide
    /// that earlier pages were lost.
    pub(crate) fn record(&mut self, commit: Commit) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the journal failed before"));
        }
        self.failed = true;
        if self.end == self.room {
            self.make_room()?;
        }
        self.file.write_all_at(&encode(commit), self.end)?;
        self.file.sync_data()?;
        self.end += RECORD_BYTES as u64;
        self.failed = false;
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(ROOM_BYTES).map_err(io::Error::other)?];
        self.file.write_all_at(&zeros, self.room)?;
        self.file.sync_all()?;
        self.room += ROOM_BYTES;
        Ok(())
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

/// The records, and where the last intact one ends, bytes.
fn decode_all(bytes: &[u8]) -> io::Result<(Vec<Commit>, u64)> {
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let used = bytes.len().min(used.next_multiple_of(RECORD_BYTES));
    let mut commits = Vec::new();
    for (n, record) in bytes[..used].chunks(RECORD_BYTES).enumerate() {
        match decode(record) {
            Some(commit) => commits.push(commit),
            None if (n + 1) * RECORD_BYTES >= used => break,
            None => {
                return Err(invalid(format!(
                    "record {n} of the move journal is damaged"
                )));
            }
        }
    }
    let end = (commits.len() * RECORD_BYTES) as u64;
    Ok((commits, end))
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
        assert_eq!(hex, "43534b4e4d4f564501000000020000000300000084ce9d2a");
    }

    #[test]
    fn a_record_cut_anywhere_leaves_those_before_it() {
        let bytes = [encode(FIRST), encode(SECOND)].concat();
        for cut in 0..=bytes.len() {
            for zeros in [0, 100] {
                let torn = [&bytes[..cut], &vec![0; zeros]].concat();
                let (commits, end) = decode_all(&torn).expect("a torn tail is no error");
                assert_eq!(commits, [FIRST, SECOND][..cut / RECORD_BYTES]);
                assert_eq!(end, (cut / RECORD_BYTES * RECORD_BYTES) as u64);
            }
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
        let torn = &encode(SECOND)[..7];
        journal
            .file
            .write_all_at(torn, journal.end)
            .expect("written");
        let (mut journal, commits) = Journal::open(dir.path()).expect("opens");
        assert_eq!(commits, [FIRST]);
        journal.record(SECOND).expect("recorded");
        assert_eq!(Journal::open(dir.path()).expect("opens").1, [FIRST, SECOND]);
    }
}
