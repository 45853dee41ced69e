//! What is decided at the first start of a directory, and never changes.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Kept as one line of JSON, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    version: u32,
    /// Beside that of the platform's own.
    pub(crate) containers: u32,
    /// No other store has it.
    pub(crate) store: String,
}

const VERSION: u32 = 1;

/// Each has a log, as has the platform's own.
const CONTAINERS_MAX: u32 = 100;

impl Identity {
    /// # Errors
    /// [`Error::Corrupt`]: it is another one's directory, or one of a later version. [`Error::Unavailable`].
    pub(crate) fn open(dir: &Path, containers: u32) -> Result<Self> {
        let path = dir.join("store");
        let damaged = |what: &str| Error::corrupt(format!("{}: {what}", path.display()));
        match fs::read(&path) {
            Ok(text) => {
                let identity: Self =
                    serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
                let is_known = identity.version == VERSION
                    && (1..=CONTAINERS_MAX).contains(&identity.containers);
                if is_known {
                    Ok(identity)
                } else {
                    Err(damaged("it is of another version"))
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self {
                    version: VERSION,
                    containers: containers.clamp(1, CONTAINERS_MAX),
                    store: format!("{:016x}", rt::random_u64()),
                };
                let kept = identity.keep(dir, &path);
                kept.map_err(|error| Error::unavailable(format!("{}: {error}", path.display())))?;
                Ok(identity)
            }
            Err(error) => Err(Error::unavailable(format!("{}: {error}", path.display()))),
        }
    }

    /// Stores that share long-term storage do not meet there.
    pub(crate) fn lts(&self) -> streams_lts::Config {
        streams_lts::Config {
            prefix: format!("streams-{}", self.store),
            ..streams_lts::Config::default()
        }
    }

    fn keep(&self, dir: &Path, path: &Path) -> io::Result<()> {
        let partial = dir.join("store.partial");
        let mut file = durable::create_private(&partial)?;
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        file.write_all(&line)?;
        durable::publish(&file, &partial, path)
    }
}
