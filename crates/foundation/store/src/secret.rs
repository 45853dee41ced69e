//! What must not be printed.

use std::fmt;

/// A secret that prints nothing of itself.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// With which requests are signed.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key: String,
    pub secret: Secret,
    /// Of credentials that end.
    pub token: Option<Secret>,
}
