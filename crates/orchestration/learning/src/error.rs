//! Errors.

use crate::seam::TargetId;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of the ledger cannot be used, or its disk failed.
    #[error("{doing} the ledger of decisions at {path}")]
    Io {
        doing: &'static str,
        path: String,
        source: std::io::Error,
    },
    /// The ledger holds something that was not written so. It is not repaired: what was decided is not known.
    #[error(
        "the ledger of decisions at {path} is damaged at byte {at}: {what}. \
         Restore it from a copy, or move it away to begin without memory of earlier moves"
    )]
    Corrupt { path: String, at: u64, what: String },
    #[error("{0} is not watched")]
    NotFound(TargetId),
    #[error("the policy of {target} has no rule apiRequest(\"{path}\")")]
    NoSuchPath { target: TargetId, path: String },
    /// The target cannot be watched as it is.
    #[error("{0}")]
    Invalid(String),
    #[error("{0} targets are watched, which is the limit")]
    TooMany(usize),
}
