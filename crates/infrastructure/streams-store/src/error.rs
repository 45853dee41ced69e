//! What goes wrong with a store.

use std::sync::Arc;

use streams_core::Refusal;

/// Why something is not done, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It is not done, and what is said here is durable.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The owner of the container has ended. It may be done, or not: ask the next one.
    #[error("the log is not written any more: {0}")]
    Ended(Arc<str>),
    /// It is not done: another process has taken the data over.
    #[error("another process has taken the data over")]
    Fenced,
    /// It is not done. It may be, later.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// What is kept is not what was written.
    #[error("{0}")]
    Corrupt(Arc<str>),
}

/// What a store answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn unavailable(why: impl ToString) -> Self {
        Self::Unavailable(why.to_string().into())
    }

    pub(crate) fn corrupt(why: impl ToString) -> Self {
        Self::Corrupt(why.to_string().into())
    }

    /// Of an owner whose log says so.
    pub(crate) fn ended(error: &wal::Error) -> Self {
        match error {
            wal::Error::Fenced => Self::Fenced,
            other => Self::Ended(other.to_string().into()),
        }
    }

    /// Of a log that is read.
    pub(crate) fn reading(error: &wal::Error) -> Self {
        match error {
            wal::Error::Corrupt { .. } => Self::corrupt(error),
            other => Self::unavailable(other),
        }
    }
}
