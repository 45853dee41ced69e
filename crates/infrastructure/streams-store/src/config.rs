//! What an operator decides about a store.

use std::time::Duration;

use ids::ByteSize;
use serde::Deserialize;

/// Sizes and durations are texts with a unit: `64Mi`, `30s`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Into how many containers segments are divided. It is decided at the first start, and stays.
    pub containers: u32,
    pub log: Log,
    pub cache: Cache,
    pub tiering: Tiering,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The log takes room on the disk, and gives it back, in pieces of this size.
    pub segment: ByteSize,
    /// So much may wait for the disk while as much is being written.
    pub queue: ByteSize,
    /// What the log may take of the disk: when long-term storage is away, nothing more is taken then.
    pub limit: ByteSize,
    /// It is not filled sooner than this: what comes faster waits, longer and longer, at most a second at a time.
    #[serde(deserialize_with = "ids::duration")]
    pub slow_down: Duration,
    /// What is to be left of the disk: nothing more is taken then.
    pub reserve: ByteSize,
    /// A checkpoint of a container is due after so much: a start reads as much more.
    pub checkpoint_after: ByteSize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Of what has just been written, of all containers.
    pub recent: ByteSize,
    /// Of what was read from long-term storage, of all containers.
    pub blocks: ByteSize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiering {
    /// A segment goes to long-term storage when so much of it is not there,
    pub flush_bytes: ByteSize,
    /// or when something of it has not been there for so long.
    #[serde(deserialize_with = "ids::duration")]
    pub flush_after: Duration,
    /// How many chunks of one container are on their way at once.
    pub at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            containers: 4,
            log: Log::default(),
            cache: Cache::default(),
            tiering: Tiering::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment: ByteSize(64 << 20),
            queue: ByteSize(32 << 20),
            limit: ByteSize(10 << 30),
            slow_down: Duration::from_secs(3),
            reserve: ByteSize(256 << 20),
            checkpoint_after: ByteSize(64 << 20),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            recent: ByteSize(64 << 20),
            blocks: ByteSize(32 << 20),
        }
    }
}

impl Default for Tiering {
    fn default() -> Self {
        Self {
            flush_bytes: ByteSize(4 << 20),
            flush_after: Duration::from_secs(30),
            at_once: 2,
        }
    }
}
