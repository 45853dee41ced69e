//! What can go wrong with shared memory.

use std::error::Error as StdError;
use std::fmt;
use std::io;

pub use geds_core::Kind;

#[derive(Debug)]
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

    /// What the system refuses. `doing` in the present tense: "map a segment".
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let is_short = source.kind() == io::ErrorKind::OutOfMemory || durable::is_full(&source);
        let kind = if is_short {
            Kind::Exhausted
        } else {
            Kind::Unavailable
        };
        Self {
            kind,
            context: doing.into(),
            source: Some(source),
        }
    }

    /// What was being done, and what the system said to it.
    #[must_use]
    pub fn into_parts(self) -> (String, Option<io::Error>) {
        (self.context, self.source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref()?)
    }
}
