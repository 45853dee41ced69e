//! Why there is no store.

/// The message names no URL, which may hold a secret by mistake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the URL is malformed")]
    Malformed(#[source] url::ParseError),
    #[error(
        "the URL holds {0}: put credentials where the configuration has them, and nothing else"
    )]
    Secret(&'static str),
    #[error("no store is registered for `{0}:`")]
    Unknown(String),
    #[error("`{0}:` is registered already")]
    Registered(String),
    #[error("{0}")]
    Invalid(String),
    #[error("open the store")]
    Store(#[from] object_store::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
