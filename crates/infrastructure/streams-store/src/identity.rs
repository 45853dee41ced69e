//! What is decided at the first start of a directory, and never changes.

use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};
use wal::Disk;

use crate::error::{Error, Result};
use crate::files::{Reader, Writer};

/// Kept as one line of JSON, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    version: u32,
    /// Beside that of the platform's own.
    pub(crate) containers: u32,
    /// No other store has it.
    pub(crate) store: String,
    /// Of the others: with another number of containers segments would be looked for where they are not.
    crc32c: String,
}

const NAME: &str = "store";

/// It is far shorter.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// In version 1 the epoch of a segment said in which container it is, too.
const VERSION: u32 = 2;

/// Each has a log, as has the platform's own.
const CONTAINERS_MAX: u32 = 100;

impl Identity {
    /// # Errors
    /// [`Error::Corrupt`]: it is another one's directory, or one of a later version. [`Error::Unavailable`].
    pub(crate) fn open(dir: &dyn Disk, containers: u32) -> Result<Self> {
        match read(dir) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self::new(containers, rt::random_u64());
                identity.keep(dir).map_err(cannot)?;
                Ok(identity)
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// Of a directory that has one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn read(dir: &dyn Disk) -> Result<Self> {
        Self::parse(&read(dir).map_err(cannot)?)
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::corrupt(format!("the file `{NAME}`: {what}"));
        let version = serde_json::from_slice(text).map(|Versioned { version }| version);
        if version.is_ok_and(|version| version != VERSION) {
            return Err(damaged(
                "it is of another version: what is there is read by the version that wrote it",
            ));
        }
        let identity: Self =
            serde_json::from_slice(text).map_err(|error| damaged(&error.to_string()))?;
        if identity.crc32c != identity.checksum() {
            return Err(damaged("it has changed"));
        }
        if !(1..=CONTAINERS_MAX).contains(&identity.containers) {
            return Err(damaged("it has an impossible number of containers"));
        }
        Ok(identity)
    }

    fn new(containers: u32, store: u64) -> Self {
        let mut identity = Self {
            version: VERSION,
            containers: containers.clamp(1, CONTAINERS_MAX),
            store: format!("{store:016x}"),
            crc32c: String::new(),
        };
        identity.crc32c = identity.checksum();
        identity
    }

    fn checksum(&self) -> String {
        let Self {
            version,
            containers,
            store,
            crc32c: _,
        } = self;
        let text = format!("{version} {containers} {store}");
        format!("{:08x}", crc32c::crc32c(text.as_bytes()))
    }

    /// Stores that share long-term storage do not meet there.
    pub(crate) fn lts(&self) -> streams_lts::Config {
        streams_lts::Config {
            prefix: format!("streams-{}", self.store),
            ..streams_lts::Config::default()
        }
    }

    fn keep(&self, dir: &dyn Disk) -> io::Result<()> {
        let partial = format!("{NAME}.partial");
        let mut file = Writer::create(dir, &partial)?;
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.publish(dir, &partial, NAME)
    }
}

/// Of whatever version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn cannot(error: io::Error) -> Error {
    Error::unavailable(format!("the file `{NAME}`: {error}"))
}

fn read(dir: &dyn Disk) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = Reader::open(dir, NAME)?;
    file.take(TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use wal::testing::CrashDisk;

    use super::*;

    fn written() -> (CrashDisk, Vec<u8>) {
        let disk = CrashDisk::default();
        Identity::new(4, 0xab).keep(&disk).expect("kept");
        let text = read(&disk).expect("read");
        (disk, text)
    }

    #[test]
    fn it_is_what_it_was_in_version_2() {
        let (disk, text) = written();
        let wanted =
            r#"{"version":2,"containers":4,"store":"00000000000000ab","crc32c":"22656786"}"#;
        assert_eq!(String::from_utf8_lossy(&text).trim_end(), wanted);
        // The settings of a later start do not matter.
        let identity = Identity::open(&disk, 9).expect("opened");
        assert_eq!(identity, Identity::new(4, 0xab));
    }

    #[test]
    fn what_has_changed_is_refused() {
        let (disk, text) = written();
        // Behind it is the end of a line.
        for offset in 0..text.len() - 1 {
            for bit in 0..8 {
                disk.flip(NAME, offset as u64, 1 << bit);
                let opened = Identity::open(&disk, 4);
                assert!(
                    matches!(opened, Err(Error::Corrupt(_))),
                    "{offset} {bit}: {opened:?}"
                );
                disk.flip(NAME, offset as u64, 1 << bit);
            }
        }
    }
}
