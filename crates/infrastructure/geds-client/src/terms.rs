//! What is said of objects while they are written, when they are sealed, and after that.

use std::fmt;
use std::sync::Arc;

use geds_core::index::{Entry, Etag, Placement, Precondition};

/// How an object is sealed.
#[derive(Clone, Debug)]
pub struct Terms {
    pub when: Precondition,
    /// For users only.
    pub metadata: Box<[u8]>,
    /// Since 1970. From then on it is a first victim when room is needed.
    pub expires_at_ms: Option<u64>,
    /// So many consumers are expected; 0: unknown.
    pub readers: u32,
    /// Says what the content is. `None`: one that no other object has.
    pub etag: Option<Etag>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            when: Precondition::None,
            metadata: Box::default(),
            expires_at_ms: None,
            readers: 0,
            etag: None,
        }
    }
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub struct Status {
    pub entry: Arc<Entry>,
    pub placement: Placement,
}

/// How an object was found on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As it was written, or it is not there.
    Whole,
    /// It was damaged, and is whole again, or is in S3 too, and read from there.
    Repaired,
    /// It is damaged, and there is no other copy: it is [`Lost`](Placement::Lost) now.
    Lost,
    /// The disk does not give it now.
    Unreadable,
}

/// By which another program writes on an object that is not sealed: see [`Writer::detach`](crate::Writer::detach). Whoever has it, and is of the tenant,
/// can do that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterToken(pub [u8; 16]);

impl fmt::Debug for WriterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterToken").finish_non_exhaustive()
    }
}
