use std::io;
use std::sync::Arc;

pub use geds_core::Kind;

use crate::core::catalogue::Id;

/// What tier 1 may say instead of doing it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(&'static str),
    #[error("there is no object {0:?}")]
    NotFound(Id),
    #[error("there is an object {0:?}")]
    Conflict(Id),
    #[error("there is no room {0}")]
    Exhausted(&'static str),
    /// A block of an object, counted in 64 KiB from its beginning, does not have its checksum, or its place is gone.
    #[error("block {block} of {id:?} is damaged")]
    Corrupt { id: Id, block: u64 },
    /// What is to be put has not the checksums that come with it.
    #[error("block {block} does not have the checksum that comes with it")]
    Mismatch { block: u64 },
    /// It could not be read. It may be damaged, or all of the disk may be out of reach.
    #[error("read block {block} of {id:?}")]
    Unreadable {
        id: Id,
        block: u64,
        source: Arc<io::Error>,
    },
    /// What is on the disk is not what was written, so nothing of it is opened.
    #[error("{0}")]
    Damaged(String),
    /// When it was a sync, the owner has ended: nothing is changed any more, and what there is can be read.
    #[error("{context}")]
    Failed {
        context: &'static str,
        source: Arc<io::Error>,
    },
    /// After [`wal::Error::Full`], see [`Store::forget_refused`](super::Store::forget_refused).
    #[error(transparent)]
    Log(#[from] wal::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::NotFound(_) => Kind::NotFound,
            Self::Conflict(_) => Kind::Conflict,
            Self::Exhausted(_) => Kind::Exhausted,
            Self::Corrupt { .. } | Self::Mismatch { .. } | Self::Damaged(_) => Kind::Corrupt,
            Self::Unreadable { .. } | Self::Failed { .. } => Kind::Unavailable,
            Self::Log(error) => kind_of(error),
        }
    }
}

/// What callers can do about an error of a log.
#[must_use]
pub fn kind_of(error: &wal::Error) -> Kind {
    use wal::Error as E;
    match error {
        E::Full | E::Busy => Kind::Exhausted,
        E::TooLarge { .. } | E::TooManyLogs => Kind::Invalid,
        E::Fenced => Kind::Fenced,
        E::Corrupt { .. } | E::Truncated { .. } | E::Beyond { .. } => Kind::Corrupt,
        E::Closed | E::Failed { .. } => Kind::Unavailable,
    }
}

/// Says what was being done when something failed.
pub(crate) fn during<T, E: Into<Arc<io::Error>>>(
    context: &'static str,
    result: std::result::Result<T, E>,
) -> Result<T> {
    result.map_err(|error| Error::Failed {
        context,
        source: error.into(),
    })
}
