//! What can be set.

use std::time::Duration;

/// Of the long-term storage of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Before all names, without a `/` at its ends. May be empty.
    pub prefix: String,
    /// A chunk has at most so many bytes; more are refused. At most [`CHUNK_BYTES_LIMIT`](crate::chunk::CHUNK_BYTES_LIMIT).
    pub chunk_bytes_max: u64,
    /// So long may one request take, with all that the store below tries again.
    pub deadline: Duration,
    /// How many requests one call has under way.
    pub requests_max: usize,
    /// An orphan that is younger is left alone. It has to be more than the clocks of this machine and of the store differ.
    pub grace: Duration,
    /// So many objects wait for their deletion. What does not fit is found again as an orphan.
    pub deletions_max: usize,
    /// So many are deleted in one tick.
    pub deletions_per_tick: usize,
    /// Chunks are kept in a store that acknowledges what a crash may lose. For trials: the log is truncated upon such a promise.
    pub accepts_ephemeral: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: "streams".to_owned(),
            chunk_bytes_max: 16 << 20,
            deadline: Duration::from_secs(30),
            requests_max: 8,
            grace: Duration::from_secs(3600),
            deletions_max: 100_000,
            deletions_per_tick: 1000,
            accepts_ephemeral: false,
        }
    }
}
