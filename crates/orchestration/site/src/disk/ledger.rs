//! What the site is to run, as it last heard: enough to start it without a controller.
//!
//! There are two copies, written in turn, so that the newest but one survives whatever happens to the newest. A copy is a line of text
//! (`cloudskin-site-ledger VERSION SHA256`) and then JSON, whose SHA-256 that is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ids::{Digest, Epoch, UnitId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use workload::{Offers, SiteConfig, link};

use super::{read, replace};

const MAGIC: &str = "cloudskin-site-ledger";
const VERSION: &str = "1";

/// Room for one configuration as it comes in a frame, and as much again for offers.
const BYTES_MAX: u64 = 2 * link::HEADER_BYTES_MAX as u64;

/// The last offers of the other parts of each unit.
pub(crate) type AllOffers = BTreeMap<UnitId, (Epoch, Offers)>;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// `None`: no controller has said yet what is to run.
    pub config: Option<SiteConfig>,
    pub offers: AllOffers,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    /// Counts the writes; the copy with the higher number is the newer one.
    sequence: u64,
    record: Record,
    /// [`SiteConfig::digest`] of the record's.
    digest: Option<Digest>,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Body {
    sequence: u64,
    config: Option<SiteConfig>,
    offers: Vec<OffersOf>,
}

#[derive(Serialize, Deserialize)]
struct OffersOf {
    unit: UnitId,
    epoch: Epoch,
    offers: Offers,
}

impl Ledger {
    /// The newest valid copy, or an empty ledger; and what is wrong with the copies that are not valid. If anything is, it is not known whether
    /// what is lost was newer than what was found.
    pub(crate) fn open(folder: &Path) -> (Self, Vec<String>) {
        let mut ledger = Self {
            folder: folder.to_owned(),
            sequence: 0,
            record: Record::default(),
            digest: None,
        };
        let mut damages = Vec::new();
        for idx in 0..2 {
            let path = ledger.copy(idx);
            let found = read(&path, BYTES_MAX).map_err(|error| error.to_string());
            match found.and_then(|bytes| bytes.as_deref().map(parse).transpose()) {
                Ok(Some((sequence, record))) if sequence > ledger.sequence => {
                    (ledger.sequence, ledger.record) = (sequence, record);
                }
                Ok(_) => {}
                Err(why) => damages.push(format!("{}: {why}", path.display())),
            }
        }
        // The second write and all later ones leave two copies.
        let other = ledger.copy((ledger.sequence + 1) % 2);
        if ledger.sequence > 1 && damages.is_empty() && !other.exists() {
            damages.push(format!("{}: it is missing", other.display()));
        }
        ledger.digest = ledger.record.config.as_ref().map(SiteConfig::digest);
        (ledger, damages)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Of the configuration.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Keeps `record` instead of the present one. When it returns, the record is durable.
    ///
    /// # Errors
    /// When it could not be written: then the present one is still in force, here and on disk.
    pub(crate) fn store(&mut self, record: Record) -> io::Result<()> {
        let generation = |record: &Record| record.config.as_ref().map(|config| config.generation);
        assert!(
            generation(&record) >= generation(&self.record),
            "generations do not go back"
        );
        let sequence = self.sequence + 1;
        replace(&self.copy(sequence % 2), &format(sequence, &record))?;
        if record.config != self.record.config {
            self.digest = record.config.as_ref().map(SiteConfig::digest);
        }
        (self.sequence, self.record) = (sequence, record);
        Ok(())
    }

    fn copy(&self, idx: u64) -> PathBuf {
        self.folder.join(format!("ledger-{idx}.json"))
    }
}

fn format(sequence: u64, record: &Record) -> Vec<u8> {
    let row = |(unit, (epoch, offers)): (&UnitId, &(Epoch, Offers))| OffersOf {
        unit: unit.clone(),
        epoch: *epoch,
        offers: offers.clone(),
    };
    let body = Body {
        sequence,
        config: record.config.clone(),
        offers: record.offers.iter().map(row).collect(),
    };
    let mut json = serde_json::to_vec(&body).expect("keys are text and numbers are numbers");
    json.push(b'\n');
    let mut bytes = format!("{MAGIC} {VERSION} {}\n", checksum(&json)).into_bytes();
    bytes.extend(json);
    bytes
}

fn parse(bytes: &[u8]) -> Result<(u64, Record), String> {
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, json) = bytes.split_at(line_end.ok_or("it is cut off")?);
    let json = &json[1..];
    let line = std::str::from_utf8(line).map_err(|_| "it is no ledger")?;
    let fields: Vec<_> = line.split(' ').collect();
    let [MAGIC, version, sum] = fields[..] else {
        return Err("it is no ledger".into());
    };
    if version != VERSION {
        return Err(format!("version {version} is not known here"));
    }
    if sum != checksum(json) {
        return Err("its checksum is wrong".into());
    }
    let body: Body = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let offers = body.offers.into_iter();
    let record = Record {
        config: body.config,
        offers: offers
            .map(|row| (row.unit, (row.epoch, row.offers)))
            .collect(),
    };
    Ok((body.sequence, record))
}

fn checksum(json: &[u8]) -> String {
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use ids::Generation;
    use workload::{CellSpec, Kind, Limits, Mount, UnitSpec};

    use super::*;

    fn record(generation: u64) -> Record {
        let name = |text: &str| text.parse().expect("a name");
        let id: UnitId = "acme/video/decode/0".parse().expect("a unit");
        let cell = CellSpec {
            module: "ab".repeat(32).parse().expect("a digest"),
            ranks: 2,
            args: vec!["decode".into(), "ä\"\\".into()],
            env: [("LEVEL".into(), "3".into())].into(),
            mounts: vec![Mount {
                path: "/data".into(),
                source: "file:///srv/data".into(),
            }],
            iteration: Some("allreduce/0".into()),
            checkpoint_every_ms: None,
            limits: Limits {
                memory_bytes_max: 1 << 26,
                log_bytes_max: 1 << 20,
            },
        };
        let unit = UnitSpec {
            id: id.clone(),
            epoch: Epoch(7),
            kind: Kind::Cell(cell),
            home: name("edge"),
            placement: vec![name("edge"), name("cloud")],
        };
        let offers = [(name("cloud"), "key:04ff".to_owned())].into();
        Record {
            config: Some(SiteConfig {
                generation: Generation(generation),
                units: vec![unit],
            }),
            offers: [(id, (Epoch(7), offers))].into(),
        }
    }

    /// The released form. If this test fails, the format has changed: give it a new version, and read this one still.
    const GOLDEN: &[u8] = include_bytes!("golden/ledger-1.json");

    #[test]
    fn the_golden_ledger_is_read_and_written() {
        assert_eq!(parse(GOLDEN), Ok((42, record(9))));
        let text = String::from_utf8(format(42, &record(9))).expect("text");
        assert_eq!(text.as_bytes(), GOLDEN, "{text}");
    }

    #[test]
    fn a_copy_that_is_cut_or_changed_is_not_taken() {
        for len in 0..GOLDEN.len() {
            parse(&GOLDEN[..len]).expect_err("cut off");
        }
        for bit in 0..GOLDEN.len() * 8 {
            let mut bytes = GOLDEN.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            parse(&bytes).expect_err("a bit is wrong");
        }
    }

    #[test]
    fn what_was_stored_is_there_again_and_private() {
        let dir = tempfile::tempdir().expect("a folder");
        for generation in 1..=5 {
            let (mut ledger, damages) = Ledger::open(dir.path());
            assert_eq!(damages, [""; 0]);
            ledger.store(record(generation)).expect("room");
            assert_eq!(Ledger::open(dir.path()).0.record(), &record(generation));
        }
        for idx in 0..2 {
            let meta = fs::metadata(dir.path().join(format!("ledger-{idx}.json")));
            let mode = meta.expect("a copy").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    /// A site that has written once has one copy; later there are two.
    #[test]
    fn a_copy_that_is_missing_is_a_damage() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut ledger, _) = Ledger::open(dir.path());
        for generation in 1..=2 {
            ledger.store(record(generation)).expect("room");
            assert_eq!(Ledger::open(dir.path()).1, [""; 0]);
        }
        fs::remove_file(ledger.copy(1)).expect("it is there");
        let (ledger, damages) = Ledger::open(dir.path());
        assert_eq!(ledger.record(), &record(2));
        assert!(damages[0].contains("missing"), "{damages:?}");
    }

    /// Whatever becomes of the newer copy, the older one is there, and what is wrong is said.
    #[test]
    fn the_older_copy_serves_when_the_newer_is_damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut ledger, _) = Ledger::open(dir.path());
        ledger.store(record(1)).expect("room");
        ledger.store(record(2)).expect("room");
        let newer = ledger.copy(ledger.sequence % 2);
        let whole = fs::read(&newer).expect("a copy");
        for len in 0..whole.len() {
            fs::write(&newer, &whole[..len]).expect("room");
            let (mut ledger, damages) = Ledger::open(dir.path());
            assert_eq!(ledger.record(), &record(1), "cut at {len}");
            assert_eq!(damages.len(), 1);
            // The next write does not touch the copy that is good.
            assert_eq!(ledger.copy((ledger.sequence + 1) % 2), newer);
            if len == 0 {
                ledger.store(record(3)).expect("room");
                assert_eq!(Ledger::open(dir.path()).0.record(), &record(3));
            }
        }
    }

    #[test]
    fn a_full_disk_changes_nothing_and_heals() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut ledger, _) = Ledger::open(dir.path());
        ledger.store(record(1)).expect("room");
        let partial = ledger.copy(0).with_extension("partial");
        symlink("/dev/full", &partial).expect("a link");
        for _ in 0..3 {
            let error = ledger.store(record(2)).expect_err("no room");
            assert!(durable::is_full(&error), "{error}");
            assert_eq!(ledger.record(), &record(1));
            assert_eq!(Ledger::open(dir.path()).0.record(), &record(1));
        }
        fs::remove_file(&partial).expect("it is there");
        ledger.store(record(2)).expect("room again");
        assert_eq!(Ledger::open(dir.path()).0.record(), &record(2));
    }
}
