//! What an operator decides.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    /// What buckets are said to be in. Requests may be signed for any region: the name protects nothing.
    pub region: String,
    /// Names of this site. `BUCKET.DOMAIN` as the host of a request says which bucket it is about; all other hosts leave that to the path.
    pub domains: Vec<String>,
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; others wait in the kernel's queue.
    pub connections: usize,
    /// Of the head of a request. A connection's buffer is as large.
    pub head_bytes: usize,
    /// Of a body that is a document, and so is held in memory.
    pub document_bytes: usize,
    /// Documents in memory at once; others wait.
    pub documents: usize,
    /// Of what is written by one request: an object, or a part of one.
    pub content_bytes: u64,
    /// How long a client may keep us waiting, for all of its request or answer, beside what it moves at `bytes_per_second`.
    pub patience: Duration,
    pub bytes_per_second: u32,
    /// How long requests may go on when the server is stopped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head_bytes: 64 << 10,
            document_bytes: 4 << 20,
            documents: 16,
            content_bytes: 5 << 30,
            patience: Duration::from_secs(30),
            bytes_per_second: 16 << 10,
            drain: Duration::from_secs(30),
        }
    }
}
