//! What host calls are made of: their arguments, results and bounds.

use std::ops::Range;

/// Bounds, the same for all ranks of a world and in every place that they move to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest message that travels without being asked for.
    pub eager_bytes: u32,
    /// What one rank may have sent to another on credit and not yet seen consumed.
    pub credit_bytes: u64,
    pub credit_messages: u32,
    /// Requests of one rank at a time.
    pub requests: u32,
    /// The longest piece in which an announced message travels.
    pub chunk_bytes: u32,
    /// Unacknowledged payload from one rank to another beyond which no further chunk is sent.
    pub window_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            eager_bytes: 64 << 10,
            credit_bytes: 4 << 20,
            credit_messages: 1024,
            requests: 1 << 16,
            chunk_bytes: 8 << 20,
            window_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// The most frames of a pair that are sent and not yet known to be accepted. Announcements,
    /// grants, and last chunks have a request each at one end or the other; eager messages, and the
    /// frames that return their credit, are bounded by that credit; whole chunks by the window.
    pub(super) fn frames_ahead(&self) -> u64 {
        let chunks = self.window_bytes / u64::from(self.chunk_bytes);
        3 * u64::from(self.requests) + 2 * u64::from(self.credit_messages) + chunks + 16
    }

    /// The most payload in those frames.
    pub(super) fn bytes_ahead(&self) -> u64 {
        self.credit_bytes + self.window_bytes.max(u64::from(self.chunk_bytes))
    }
}

/// A piece of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Span {
    pub ptr: u32,
    pub len: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        let start = self.ptr as usize;
        start..start + self.len as usize
    }

    pub(super) fn read(self, memory: &[u8]) -> Result<&[u8], Error> {
        memory.get(self.range()).ok_or(Error::Memory(self))
    }

    pub(super) fn write(self, memory: &mut [u8]) -> Result<&mut [u8], Error> {
        memory.get_mut(self.range()).ok_or(Error::Memory(self))
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub ctx: u32,
    pub dest: u32,
    pub tag: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Standard,
    /// Completes only after a receive has matched.
    Synchronous,
}

/// What a receive or a probe looks for. `tag` `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub ctx: u32,
    pub source: Source,
    pub tag: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Rank(u32),
    Any,
    /// The guest asked for any; an earlier run matched this one, and this run shall too. It counts
    /// as a wildcard like the original.
    Replay(u32),
}

/// A message found or a request consumed. For a send only `source` (this rank) says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub source: u32,
    pub tag: i32,
    /// Bytes of the message; after a truncation, the bytes kept.
    pub len: u64,
    pub truncated: bool,
    /// For a receive that was posted for any source: how many such this rank had posted before.
    /// With `source` and `tag` it is what a replay needs to know.
    pub wildcard: Option<u64>,
}

/// What is pending, for observers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pending {
    pub requests: usize,
    pub posted: usize,
    pub unexpected: usize,
    pub unacked_frames: usize,
    pub unacked_bytes: u64,
}

/// Why a host call cannot be done. It had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("rank {0} is not in the world")]
    Rank(u32),
    #[error("request {0} does not exist")]
    Request(u32),
    #[error("request {0} is not complete")]
    Incomplete(u32),
    #[error("{} bytes at {} leave memory", .0.len, .0.ptr)]
    Memory(Span),
    #[error("too many requests are open")]
    Exhausted,
}
