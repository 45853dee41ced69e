//! What can go wrong with a world, by what its owner can do about it.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The input is wrong: module, option, file.
    Invalid,
    /// No such world, rank or host.
    NotFound,
    /// The world cannot go on: a host with ranks is lost and there is no checkpoint.
    Lost,
    /// A host or file does not answer.
    Unavailable,
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

impl Error {
    pub(crate) fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// `doing` in the present tense: "open the module".
    pub(crate) fn io(doing: impl std::fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        Self {
            kind,
            context: doing.to_string(),
            source: Some(source),
        }
    }
}
