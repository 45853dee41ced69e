//! A block of points as a file.
//!
//! ```text
//! file   = "CSSERIES" · version u32 LE · record*
//! record = len u32 LE · crc32c u32 LE · payload (postcard of Batch)
//! ```
//!
//! A file is written by one process: its series have the numbers that they had in that process.
//! A record that is cut short or damaged ends the file: what comes after cannot be trusted to begin where it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ids::Labels;
use serde::{Deserialize, Serialize};

use super::core::{Key, Point};

const MAGIC: &[u8; 8] = b"CSSERIES";
const VERSION: u32 = 1;
const SUFFIX: &str = ".series";
/// No file is larger, whatever it says: blocks are a small part of what is kept.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What one write adds: the series that this file has not named before, then points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) definitions: Vec<(u32, String, Labels)>,
    /// Series, milliseconds since 1970, value.
    pub(super) points: Vec<(u32, u64, f64)>,
}

/// What a block holds: series in the order in which they came.
pub(super) type Block = Vec<(Key, Vec<Point>)>;

fn path(dir: &Path, block: u32) -> PathBuf {
    dir.join(format!("{block:010}{SUFFIX}"))
}

/// The blocks in `dir`, oldest first.
pub(super) fn blocks(dir: &Path) -> io::Result<Vec<u32>> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        blocks.extend(stem.and_then(|stem| stem.parse::<u32>().ok()));
    }
    blocks.sort_unstable();
    Ok(blocks)
}

pub(super) fn remove(dir: &Path, block: u32) -> io::Result<()> {
    match fs::remove_file(path(dir, block)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The file of the open block.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) block: u32,
    file: File,
    /// Where the next record goes: what a failed write has left there is written over.
    len: u64,
    /// The series that the file names already.
    named: BTreeSet<u32>,
}

impl Writer {
    /// A block's number is given once, so a file of that name is what an attempt that failed has left.
    pub(super) fn create(dir: &Path, block: u32) -> io::Result<Self> {
        let file = File::create(path(dir, block))?;
        file.write_all_at(&head(), 0)?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            block,
            file,
            len: head().len() as u64,
            named: BTreeSet::new(),
        })
    }

    pub(super) fn names(&self, series: u32) -> bool {
        self.named.contains(&series)
    }

    /// When this returns, the batch survives a power cut.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let record = record(batch)?;
        self.file.write_all_at(&record, self.len)?;
        self.file.sync_data()?;
        self.len += record.len() as u64;
        self.named
            .extend(batch.definitions.iter().map(|(series, ..)| series));
        Ok(())
    }
}

fn head() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes()].concat()
}

fn record(batch: &Batch) -> io::Result<Vec<u8>> {
    let payload = postcard::to_stdvec(batch).map_err(io::Error::other)?;
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let crc = crc32c::crc32c(&payload);
    Ok([&len.to_le_bytes()[..], &crc.to_le_bytes(), &payload].concat())
}

/// What is in a block, and how many bytes at its end could not be read.
pub(super) fn read(dir: &Path, block: u32) -> io::Result<(Block, u64)> {
    let path = path(dir, block);
    if fs::metadata(&path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("a file of series is too large"));
    }
    Ok(parse(&fs::read(path)?))
}

fn parse(bytes: &[u8]) -> (Block, u64) {
    let mut series = Block::new();
    let mut idx_of: BTreeMap<u32, usize> = BTreeMap::new();
    let Some(mut rest) = bytes.strip_prefix(&head()[..]) else {
        return (series, bytes.len() as u64);
    };
    while let Some((batch, after)) = take_record(rest) {
        for (number, name, labels) in batch.definitions {
            idx_of.insert(number, series.len());
            series.push((Key { name, labels }, Vec::new()));
        }
        for (number, at_ms, value) in batch.points {
            if let Some(idx) = idx_of.get(&number) {
                series[*idx].1.push(Point { at_ms, value });
            }
        }
        rest = after;
    }
    (series, rest.len() as u64)
}

fn take_record(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    if crc32c::crc32c(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((postcard::from_bytes(payload).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> [Batch; 2] {
        let labels = Labels::from([("site".to_owned(), "edge".to_owned())]);
        [
            Batch {
                definitions: vec![(7, "up".to_owned(), labels.clone())],
                points: vec![(7, 1_000, 0.5), (7, 1_500, 0.25)],
            },
            Batch {
                definitions: vec![(9, "down".to_owned(), labels)],
                points: vec![(9, 1_000, 1.0), (7, 2_000, -1.0)],
            },
        ]
    }

    fn file() -> Vec<u8> {
        let mut bytes = head();
        for batch in batches() {
            bytes.extend(record(&batch).expect("it is small"));
        }
        bytes
    }

    #[test]
    fn version_1_stays_readable() {
        let hex: String = file().iter().map(|byte| format!("{byte:02x}")).collect();
        expect_test::expect!["43535345524945530100000027000000ed3492bc010702757001047369746504656467650207e807000000000000e03f07dc0b000000000000d03f290000002c521429010904646f776e01047369746504656467650209e807000000000000f03f07d00f000000000000f0bf"].assert_eq(&hex);
        let (series, n_lost) = parse(&file());
        assert_eq!(n_lost, 0);
        let names: Vec<_> = series
            .iter()
            .map(|(key, points)| (key.name.as_str(), points.len()))
            .collect();
        assert_eq!(names, [("up", 3), ("down", 1)]);
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_records() {
        let whole = file();
        let first_end = head().len() + record(&batches()[0]).expect("small").len();
        for len in 0..whole.len() {
            let n_points: usize = parse(&whole[..len]).0.iter().map(|(_, p)| p.len()).sum();
            assert_eq!(n_points, if len < first_end { 0 } else { 2 }, "{len} bytes");
        }
    }

    #[test]
    fn a_damaged_byte_costs_its_record_and_what_follows() {
        let whole = file();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let n_points: usize = parse(&damaged).0.iter().map(|(_, p)| p.len()).sum();
            assert!(n_points == 0 || n_points == 2, "byte {at}: {n_points}");
        }
    }
}
