//! Why a request is not carried out, and why rows are refused.

/// Nothing was changed. What the caller is told is a status of the RPC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense, and never will.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is one.
    #[error("the scope exists")]
    ScopeExists,
    /// There is none.
    #[error("there is no such scope")]
    NoScope,
    /// Streams are in it.
    #[error("the scope is not empty")]
    ScopeNotEmpty,
    /// There is one, or there will be in a moment.
    #[error("the stream exists")]
    StreamExists,
    /// There is none, or not yet.
    #[error("there is no such stream")]
    NoStream,
    /// Or will be in a moment.
    #[error("the stream is sealed")]
    StreamSealed,
    /// Seal it first.
    #[error("the stream is not sealed")]
    StreamNotSealed,
    /// It never was one, or it ended long ago.
    #[error("there is no such transaction")]
    NoTransaction,
    /// It is to be, or was, ended the other way.
    #[error("the transaction ended otherwise")]
    TransactionEnded,
    /// The stream is not what the request takes it for: read again, decide again.
    #[error("{0}")]
    Precondition(&'static str),
    /// A limit is reached.
    #[error("at most {max} {what}")]
    Limit {
        /// Of which there are too many.
        what: &'static str,
        /// See [`crate::Limits`].
        max: usize,
    },
    /// The rows or the segments do not answer. It was not done, and will not be.
    #[error("what is needed does not answer")]
    Unavailable,
    /// What it takes is refused for good, and what was done of it is undone.
    #[error("it cannot be done: {0}")]
    Refused(String),
    /// Somebody else owns the rows now: load them again, or ask there.
    #[error("another owner has taken over")]
    Fenced,
}

/// Rows that were not written here, or not as they are now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub &'static str);
