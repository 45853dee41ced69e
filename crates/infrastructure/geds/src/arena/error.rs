//! What can go wrong with the arena, by what the caller can do about it.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense, and never will.
    Invalid,
    NotFound,
    /// It was refused by who keeps the names.
    Conflict,
    /// A limit is reached. It gets better when something is freed.
    Exhausted,
    /// The agent, or the system, does not answer.
    Unavailable,
    /// Bytes are not those that were sealed.
    Corrupt,
    /// Our own mistake.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    pub kind: Kind,
    context: String,
    source: Option<io::Error>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// `doing` in the present tense: "map a segment".
    pub(crate) fn io(doing: &str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::OutOfMemory
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
            _ => Kind::Unavailable,
        };
        Self {
            kind,
            context: doing.to_owned(),
            source: Some(source),
        }
    }
}
