//! What can go wrong, by what the caller can do about it.

use std::error::Error as StdError;

/// What a call says instead of doing it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, not in time, or not as it should. Whether it has done what was asked is not known. Try again later; permissions
    /// that are missing are here too, since who gives them need not start anything again.
    #[error("{doing} {object}")]
    Unavailable {
        /// In the present tense.
        doing: &'static str,
        object: String,
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Bytes are not those that were written. Reading them again may help if the way here has done it; writing does not.
    #[error("{object} is damaged: {what}")]
    Corrupt {
        object: String,
        /// The one that is not what its checksum says.
        block: Option<u32>,
        what: &'static str,
    },
    /// Another owner has the container. This one has ended: it writes and deletes nothing any more.
    #[error("manifest {manifest} is another owner's")]
    Fenced { manifest: u64 },
    /// The object is not there: it was deleted since its chunk was looked up, which is to be looked up again; or it is lost.
    #[error("{object} is not there")]
    NotFound { object: String },
    /// What was asked makes no sense, and never will.
    #[error("{0}")]
    Invalid(&'static str),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn corrupt(object: impl ToString, what: &'static str) -> Self {
        Self::Corrupt {
            object: object.to_string(),
            block: None,
            what,
        }
    }
}
