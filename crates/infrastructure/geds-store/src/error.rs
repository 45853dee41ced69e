//! What can go wrong at a node.

use std::error::Error as StdError;
use std::ops::Deref;
use std::{fmt, io};

pub use geds_core::Kind;

use crate::core::index;
use crate::tier1;

/// An error of GEDS, which becomes S3's and comes from the log's: only errors of this crate may.
#[derive(Debug)]
pub struct Error(geds_core::Error);

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// One without a cause.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self(geds_core::Error::new(kind, context))
    }

    /// What the system refuses. `doing` in the present tense: "map a segment".
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self(geds_core::Error::io(doing, source))
    }

    /// What something else has caused. `doing` in the present tense.
    pub fn caused(
        kind: Kind,
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self(geds_core::Error::caused(kind, doing, source))
    }
}

/// Its kind.
impl Deref for Error {
    type Target = geds_core::Error;

    fn deref(&self) -> &geds_core::Error {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// That of a client, or of the arena.
impl From<geds_core::Error> for Error {
    fn from(error: geds_core::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for geds_core::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Self {
        Self(error.into())
    }
}

impl From<wal::Error> for Error {
    fn from(error: wal::Error) -> Self {
        Self::caused(tier1::kind_of(&error), "the log", error)
    }
}

impl From<tier1::Error> for Error {
    fn from(error: tier1::Error) -> Self {
        Self::caused(error.kind(), "the disk tier", error)
    }
}

/// What the store says that a face has not looked at itself. The mapping is that of the S3 face, and has to be where the type is.
impl From<Error> for s3::backend::Error {
    fn from(error: Error) -> Self {
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error.kind {
            Kind::NotFound => Self::NoSuchKey,
            // It was somebody else's meanwhile.
            Kind::Denied => Self::NoSuchBucket,
            Kind::Conflict => Self::Changed,
            Kind::Exhausted => Self::Exhausted(text),
            Kind::Unavailable | Kind::Fenced => Self::Unavailable(text),
            Kind::Lost => Self::Lost(text),
            Kind::Invalid | Kind::Corrupt | Kind::Internal => Self::Internal {
                context: "the store does not do what S3 asks".to_owned(),
                source: Some(error.into()),
            },
        }
    }
}
