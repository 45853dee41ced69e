use streams_wire::replies::Reply;
use streams_wire::shapes::TokenError;
use thiserror::Error;
use tonic::{Code, Status};

/// Why something was not done, or why nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// There is no connection, or it has ended. What was asked on it may have been done.
    #[error("no connection: {0}")]
    Disconnected(String),
    /// The controller has to be asked again where the segment is. Nothing was done.
    #[error("another store has {segment}")]
    WrongHost { segment: String },
    /// The controller has begun something else, and is to be asked again. Nothing was done.
    #[error("not now: {0}")]
    Busy(String),

    /// Nothing is appended to it any more.
    #[error("{0} is sealed")]
    Sealed(String),
    #[error("there is no segment {0}")]
    NoSuchSegment(String),
    /// A scope, a stream or a transaction.
    #[error("there is no {0}")]
    NotFound(String),
    #[error("there is {0} already")]
    Exists(String),
    /// What was asked for has been given up: the segment begins behind it.
    #[error("the segment begins at {start}")]
    Truncated { start: i64 },
    /// A condition does not hold; for a table's length, `Truncated` does not say it.
    #[error("a condition does not hold: {0}")]
    Condition(&'static str),

    /// Who asks is not known, or may not. An expired token is replaced here, before anybody sees it.
    #[error("not allowed: {why}")]
    Auth { why: String, is_expired: bool },
    /// It makes no sense, or is too large.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side does not keep to the protocol.
    #[error("not as the protocol says: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same may succeed soon.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Disconnected(_)
                | Self::WrongHost { .. }
                | Self::Busy(_)
                | Self::Auth {
                    is_expired: true,
                    ..
                }
        )
    }

    /// Whether it says of what was asked that it was not done.
    pub(crate) fn did_nothing(&self) -> bool {
        self.is_passing() && !matches!(self, Self::Disconnected(_))
    }

    /// Whether others take the segment's place, if there are any. One that is not there any more was sealed, and then truncated away.
    pub(crate) fn has_successors(&self) -> bool {
        matches!(self, Self::Sealed(_) | Self::NoSuchSegment(_))
    }

    pub(crate) fn unexpected(reply: &Reply) -> Self {
        Self::Protocol(format!("{} is no answer to this", reply.name()))
    }
}

/// Tells replies that say what went wrong from the others.
pub(crate) fn accept(reply: Reply) -> Result<Reply, Error> {
    Err(match reply {
        Reply::WrongHost(it) => Error::WrongHost {
            segment: it.segment,
        },
        Reply::SegmentIsSealed(it) => Error::Sealed(it.segment),
        Reply::SegmentAlreadyExists(it) => Error::Exists(it.segment),
        Reply::NoSuchSegment(it) => Error::NoSuchSegment(it.segment),
        // Another connection of the same writer came in between: it is set up again, and then knows.
        Reply::InvalidEventNumber(_) => {
            Error::Disconnected("the store has other events of this writer".to_owned())
        }
        Reply::SegmentIsTruncated(it) => Error::Truncated {
            start: it.start_offset,
        },
        Reply::OperationUnsupported(it) => {
            Error::Refused(format!("the store has no {}", it.operation_name))
        }
        Reply::AuthTokenCheckFailed(it) => Error::Auth {
            why: "the store does not take the token".to_owned(),
            is_expired: it.error_code == TokenError::Expired,
        },
        Reply::ErrorMessage(it) => Error::Refused(it.message),
        Reply::TableSegmentNotEmpty(_) => Error::Condition("the table has entries"),
        Reply::TableKeyDoesNotExist(_) => Error::Condition("there is no such key"),
        Reply::TableKeyBadVersion(_) => Error::Condition("the key has another version"),
        reply => return Ok(reply),
    })
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::AlreadyExists => Self::Exists(message),
            Code::Unauthenticated | Code::PermissionDenied => Self::Auth {
                why: message,
                is_expired: false,
            },
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                Self::Disconnected(format!("the controller: {message}"))
            }
            // What `tonic` makes of a connection that breaks.
            Code::Unknown | Code::Internal
                if message.contains("transport") || message.contains("h2 protocol error") =>
            {
                Self::Disconnected(message)
            }
            _ => Self::Refused(message),
        }
    }
}
