//! What can go wrong, by what the caller can do about it.

use std::fmt;
use std::io;

pub use geds_core::Kind;

use crate::arena;
use crate::core::index;
use crate::tier1;

#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
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

    /// What the system refuses. `doing` in the present tense: "map a segment".
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let is_short = source.kind() == io::ErrorKind::OutOfMemory || durable::is_full(&source);
        let kind = if is_short {
            Kind::Exhausted
        } else {
            Kind::Unavailable
        };
        Self::caused(kind, doing, source)
    }

    /// `doing` in the present tense.
    pub(crate) fn caused(
        kind: Kind,
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            context: doing.into(),
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&**self.source.as_ref()?)
    }
}

impl From<arena::Error> for Error {
    fn from(error: arena::Error) -> Self {
        let kind = error.kind;
        let (context, source) = error.into_parts();
        Self {
            kind,
            context,
            source: source.map(Into::into),
        }
    }
}

/// For a process that shares the arena: it is told in words.
impl From<Error> for arena::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind, crate::wire::told(&error))
    }
}

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Self {
        use index::Error as E;
        let kind = match &error {
            E::Invalid(_) => Kind::Invalid,
            E::NoBucket(_) | E::NoName(_) | E::NoObject(_) | E::Compacted { .. } => Kind::NotFound,
            E::BucketExists(_)
            | E::NotEmpty(_)
            | E::Precondition(_)
            | E::Sealed(_)
            | E::LastCopy => Kind::Conflict,
            E::Fenced { .. } => Kind::Fenced,
            E::Limit { .. } => Kind::Exhausted,
            E::Corrupt(_) => Kind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<wal::Error> for Error {
    fn from(error: wal::Error) -> Self {
        use wal::Error as E;
        let kind = match &error {
            E::Full | E::Busy => Kind::Exhausted,
            E::TooLarge { .. } | E::TooManyLogs => Kind::Invalid,
            E::Fenced => Kind::Fenced,
            E::Corrupt { .. } | E::Truncated { .. } | E::Beyond { .. } => Kind::Corrupt,
            E::Closed | E::Failed { .. } => Kind::Unavailable,
        };
        Self::caused(kind, "the log", error)
    }
}

impl From<tier1::Error> for Error {
    fn from(error: tier1::Error) -> Self {
        use tier1::Kind as K;
        let kind = match error.kind() {
            K::Invalid => Kind::Invalid,
            K::NotFound => Kind::NotFound,
            K::Conflict => Kind::Conflict,
            K::Fenced => Kind::Fenced,
            K::Exhausted => Kind::Exhausted,
            K::Unavailable => Kind::Unavailable,
            K::Corrupt => Kind::Corrupt,
        };
        Self::caused(kind, "the disk tier", error)
    }
}
