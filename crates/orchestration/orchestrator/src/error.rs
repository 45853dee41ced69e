//! Why a request is not served.

/// What the caller should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the request: `pointer` says where. 400.
    Invalid,
    /// There is no such thing (in this organisation). 404.
    NotFound,
    /// It contradicts what is there: an immutable field, a migration under way. 409.
    Conflict,
    /// If-Match or If-None-Match does not hold: read it again. 412.
    Precondition,
    /// The idempotency key was used for another request. 422.
    KeyReused,
    /// What is asked for is not kept any more: begin anew. 410.
    Gone,
    /// A limit is reached. 429.
    Exhausted,
    /// Try again later. 503.
    Unavailable,
    /// Our fault. 500.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    /// The field that is wrong, as a JSON pointer (RFC 6901).
    pub pointer: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            pointer: None,
            source: None,
        }
    }

    /// `pointer`: where in the request.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message).at(pointer)
    }

    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            ..self
        }
    }

    #[must_use]
    pub fn because(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            ..self
        }
    }

    pub(crate) fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no {what} `{name}`"))
    }
}
