//! Why a site does not start or join.

use std::io;

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An argument is wrong.
    Invalid,
    /// The site has not joined.
    NotFound,
    /// Another agent runs there, or the directory is another site's.
    Conflict,
    /// The controller is not there, or says no.
    Unavailable,
    /// What was kept cannot be read.
    Corrupt,
    /// The system refuses.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: Kind,
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

    pub(crate) fn unavailable(context: impl Into<String>, source: io::Error) -> Self {
        Self {
            kind: Kind::Unavailable,
            context: context.into(),
            source: Some(source),
        }
    }

    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self {
            kind: Kind::Internal,
            context: context.into(),
            source: Some(source),
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
