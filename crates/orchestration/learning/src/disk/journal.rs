//! An append-only file of checked records, each durable when `append` returns.
//!
//! ```text
//! file:   "CSKNLEDG" · version u32 · records
//! record: length u32 · crc32c of the length u32 · crc32c of the payload u32 · payload
//! ```
//! all little-endian. The length has a checksum of its own, so that a damaged length is not taken for a record that was cut off. A record
//! that is cut off, or damaged with nothing intact behind it, was never acknowledged and is cut away. Damage before an intact
//! record is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

const MAGIC: &[u8; 8] = b"CSKNLEDG";
const VERSION: u32 = 1;
const START: usize = 12;
const HEAD: usize = 12;
/// The largest payload.
pub(crate) const PAYLOAD_MAX: usize = 64 << 10;
/// A journal is not read if it is longer: it is rewritten long before.
const FILE_MAX: u64 = 256 << 20;

/// What was recorded, and where in the file.
pub(crate) type Payloads = Vec<(u64, Vec<u8>)>;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    /// A write or sync failed: what is on disk is unknown, and nothing more is promised.
    failed: bool,
}

impl Journal {
    /// Opens the journal at `dir`, or begins it, and returns the payloads in it with their places.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Payloads), Error> {
        let path = dir.join("decisions.ledger");
        let during = |doing| io_error(doing, &path);
        durable::make_dir(dir).map_err(during("make room for"))?;
        if !path.exists() {
            replace(&path, &[]).map_err(during("begin"))?;
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .open(&path)
            .map_err(during("open"))?;
        let mut bytes = Vec::new();
        if file.metadata().map_err(during("open"))?.len() > FILE_MAX {
            return Err(corrupt(&path, 0, "it is longer than a ledger gets"));
        }
        file.read_to_end(&mut bytes).map_err(during("read"))?;
        let (payloads, end) = decode(&bytes).map_err(|(at, what)| corrupt(&path, at, what))?;
        if end < bytes.len() {
            tracing::warn!(path = %path.display(), end, len = bytes.len(), "cut a torn tail off the ledger");
            file.set_len(end as u64)
                .and_then(|()| file.sync_all())
                .map_err(during("cut"))?;
        }
        let journal = Self {
            end: end as u64,
            file,
            failed: false,
            path,
        };
        Ok((journal, payloads))
    }

    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a record durable.
    ///
    /// # Errors
    /// When it may not be: the journal then takes nothing more, because a failed sync can hide that earlier pages were lost.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        let record = encode(payload).map_err(io_error("write to", &self.path))?;
        self.begin()?;
        let written = self.file.write_all_at(&record, self.end);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(io_error("write to", &self.path))?;
        self.end += record.len() as u64;
        self.failed = false;
        Ok(())
    }

    /// From here on it has failed, until the caller says that all is written.
    fn begin(&mut self) -> Result<(), Error> {
        if self.failed {
            let source = io::Error::other("it failed before");
            return Err(io_error("write to", &self.path)(source));
        }
        self.failed = true;
        Ok(())
    }

    /// Puts a new journal with these records in the place of this one, all or nothing.
    pub(crate) fn rewrite(&mut self, payloads: &[Vec<u8>]) -> Result<(), Error> {
        self.begin()?;
        let during = |doing| io_error(doing, &self.path);
        self.end = replace(&self.path, payloads).map_err(during("rewrite"))?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&self.path);
        self.file = file.map_err(during("open"))?;
        self.failed = false;
        Ok(())
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

fn corrupt(path: &Path, at: usize, what: &str) -> Error {
    Error::Corrupt {
        path: path.display().to_string(),
        at: at as u64,
        what: what.to_owned(),
    }
}

/// Writes a whole file beside `path`, then gives it that name. Returns its length.
fn replace(path: &Path, payloads: &[Vec<u8>]) -> io::Result<u64> {
    let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    for payload in payloads {
        bytes.extend(encode(payload)?);
    }
    let beside = path.with_extension("new");
    let file = File::create(&beside)?;
    file.write_all_at(&bytes, 0)?;
    durable::publish(&file, &beside, path)?;
    Ok(bytes.len() as u64)
}

fn encode(payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.is_empty() || payload.len() > PAYLOAD_MAX {
        return Err(io::Error::other("this record is empty or too large"));
    }
    let len = u32::try_from(payload.len())
        .map_err(io::Error::other)?
        .to_le_bytes();
    let len_crc = crc32c::crc32c(&len).to_le_bytes();
    let crc = crc32c::crc32c(payload).to_le_bytes();
    Ok([&len, &len_crc, &crc, payload].concat())
}

/// The payloads, and where the last intact record ends; or where the file is damaged, and how.
fn decode(bytes: &[u8]) -> Result<(Payloads, usize), (usize, &'static str)> {
    let version = bytes.get(8..START).map(|v| v.try_into().expect("4 bytes"));
    if !bytes.starts_with(MAGIC) {
        return Err((0, "this is no ledger of decisions"));
    }
    if version.map(u32::from_le_bytes) != Some(VERSION) {
        return Err((8, "this version is not known"));
    }
    let mut payloads = Payloads::new();
    let mut at = START;
    while at < bytes.len() {
        let Some(payload) = record(&bytes[at..]) else {
            // An acknowledged record came after this one only if one is still intact.
            if (at + 1..bytes.len()).any(|next| record(&bytes[next..]).is_some()) {
                return Err((at, "a checksum does not match, and records follow"));
            }
            break;
        };
        payloads.push((at as u64, payload.to_vec()));
        at += HEAD + payload.len();
    }
    Ok((payloads, at))
}

/// The payload of the intact record at the beginning of `bytes`.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let field = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(field.try_into().expect("4 bytes")))
    };
    if field(4)? != crc32c::crc32c(&bytes[..4]) {
        return None;
    }
    let len = usize::try_from(field(0)?).ok()?;
    let payload = bytes.get(HEAD..HEAD.checked_add(len)?)?;
    (len > 0 && field(8)? == crc32c::crc32c(payload)).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
        for payload in ["one", "two two", "three"] {
            bytes.extend(encode(payload.as_bytes()).expect("small"));
        }
        bytes
    }

    fn ends() -> [usize; 4] {
        let [one, two, three] = [3, 7, 5].map(|len| HEAD + len);
        [
            START,
            START + one,
            START + one + two,
            START + one + two + three,
        ]
    }

    #[test]
    fn golden() {
        let bytes = three();
        let hex: String = bytes[..START + HEAD + 3]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            hex,
            "43534b4e4c4544470100000003000000fec2452ae9b2942a6f6e65"
        );
    }

    #[test]
    fn a_tail_cut_anywhere_leaves_the_records_before_it() {
        let bytes = three();
        for cut in START..=bytes.len() {
            for tail in [&[][..], &[0; 40], &[0xff; 3]] {
                let torn = [&bytes[..cut], tail].concat();
                let (payloads, end) = decode(&torn).expect("a torn tail is no error");
                let intact = ends().iter().filter(|end| **end <= cut).count() - 1;
                assert_eq!((payloads.len(), end), (intact, ends()[intact]), "cut {cut}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_before_the_last_record_is_refused() {
        let bytes = three();
        for bit in 0..8 * bytes.len() {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            match decode(&rotten) {
                Err((at, _)) => assert!(bit / 8 >= at && bit / 8 < ends()[2], "bit {bit}"),
                // Not to be told from a torn write, and cut away like one.
                Ok((payloads, _)) => {
                    assert!(payloads.len() == 2 && bit / 8 >= ends()[2], "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn appended_and_rewritten_records_are_found_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let read = || {
            let (journal, payloads) = Journal::open(dir.path()).expect("opens");
            let texts = payloads
                .into_iter()
                .map(|(_, p)| String::from_utf8(p).expect("text"));
            (journal, texts.collect::<Vec<_>>())
        };
        let (mut journal, texts) = read();
        assert!(texts.is_empty());
        journal.append(b"one").expect("durable");
        journal.append(b"two").expect("durable");
        let end = journal.end;
        journal.file.write_all_at(b"torn", end).expect("written");
        let (mut journal, texts) = read();
        assert_eq!(texts, ["one", "two"]);
        journal.rewrite(&[b"two".to_vec()]).expect("rewritten");
        journal.append(b"three").expect("durable");
        assert_eq!(read().1, ["two", "three"]);
        assert!(journal.append(&vec![0; PAYLOAD_MAX + 1]).is_err());
    }

    #[test]
    fn after_a_failed_write_it_takes_nothing_more() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut journal, _) = Journal::open(dir.path()).expect("opens");
        journal.append(b"one").expect("durable");
        let writable =
            std::mem::replace(&mut journal.file, File::open(&journal.path).expect("opens"));
        journal.append(b"two").expect_err("it is read-only");
        journal.file = writable;
        journal.append(b"three").expect_err("it failed before");
        journal.rewrite(&[]).expect_err("it failed before");
        assert_eq!(Journal::open(dir.path()).expect("opens").1.len(), 1);
    }
}
