//! What can go wrong, by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::index;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense, and never will.
    Invalid,
    NotFound,
    /// It belongs to somebody else.
    Denied,
    /// It is there already, or not as the precondition says: read again, decide again.
    Conflict,
    /// A later owner or incarnation has taken over.
    Fenced,
    /// A limit is reached. It gets better when something is freed.
    Exhausted,
    /// What is needed does not answer, or has failed.
    Unavailable,
    /// All copies were lost with the nodes that held them.
    Lost,
    /// Bytes are not those that were sealed.
    Corrupt,
    /// Our own mistake.
    Internal,
}

/// What went wrong: [`Kind`] tells the caller what to do, the message what happened, and `source` what it comes from.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
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

    /// `doing` in the present tense.
    pub fn caused(
        kind: Kind,
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            context: doing.into(),
            source: Some(source.into()),
        }
    }

    /// What the system refuses. `doing` in the present tense: "map a segment".
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        use io::ErrorKind as E;
        let source = source.into();
        let kind = match source.kind() {
            E::OutOfMemory | E::StorageFull | E::QuotaExceeded => Kind::Exhausted,
            _ => Kind::Unavailable,
        };
        Self::caused(kind, doing, source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.source.as_ref()?)
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
            E::Limit { .. } | E::OwnerFull { .. } => Kind::Exhausted,
            E::Corrupt(_) => Kind::Corrupt,
        };
        Self::new(kind, error.to_string())
    }
}
