//! What must not be printed.

use std::fmt;

use crate::{Error, Result};

/// A secret that prints nothing of itself.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// For who signs with it, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
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

impl Credentials {
    /// Those of a file as S3 clients have it (`aws_access_key_id = …`), or an access key and its secret, separated by blanks.
    ///
    /// # Errors
    /// When it is none of them. The message has nothing of the text.
    pub fn parse(text: &str) -> Result<Self> {
        let value = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(key, _)| key.trim() == name);
            values.next().map(|(_, value)| value.trim())
        };
        let of_clients = value("aws_access_key_id").zip(value("aws_secret_access_key"));
        let words: Vec<_> = text.split_whitespace().collect();
        let (access_key, secret) = match (of_clients, &words[..]) {
            (Some(found), _) => found,
            (None, [access_key, secret]) => (*access_key, *secret),
            _ => {
                let what = "an access key and a secret are wanted, and nothing else";
                return Err(Error::Invalid(what.to_owned()));
            }
        };
        Ok(Self {
            access_key: access_key.to_owned(),
            secret: Secret::new(secret),
            token: value("aws_session_token").map(Secret::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_key_and_a_secret_and_nothing_shows_the_secret() {
        let ini =
            "[default]\naws_access_key_id = AK\naws_secret_access_key = hunter2\nregion = x\n";
        for text in ["AK hunter2", "AK\nhunter2\n", ini] {
            let read = Credentials::parse(text).expect("credentials");
            assert_eq!((&*read.access_key, read.secret.reveal()), ("AK", "hunter2"));
            assert!(!format!("{read:?}").contains("hunter2"));
        }
        for text in ["", "hunter2", "AK hunter2 more"] {
            let error = Credentials::parse(text).expect_err("none");
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }
}
