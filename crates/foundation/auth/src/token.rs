//! Bearer secrets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// 256 random bits, shown as hexadecimal. Never logged: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// SHA-256 of a [`Secret`]: enough to recognise it, useless to pretend to have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(String);

const TEXT_LEN: usize = 64;

impl Secret {
    #[must_use]
    pub fn random() -> Self {
        let mut bits = [0; 32];
        rt::fill_random(&mut bits);
        Self(hexadecimal(&bits))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Looking a secret up by its hash takes a time that says nothing about other secrets.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(hexadecimal_sha256(self.0.as_bytes()))
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_256_bits(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a token has 64 hexadecimal digits")
        }
    }
}

pub(crate) fn is_256_bits(text: &str) -> bool {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == TEXT_LEN && text.bytes().all(is_digit)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl SecretHash {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn hexadecimal_sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_recognised_by_its_hash() {
        let secret = Secret::random();
        let again: Secret = secret.as_str().parse().expect("it is one");
        assert_eq!(secret.hash(), again.hash());
        assert_ne!(secret.hash(), Secret::random().hash());
        assert!(!format!("{secret:?}").contains(secret.as_str()));
        for bad in ["", "abc", &"G".repeat(64), &"a".repeat(65)] {
            bad.parse::<Secret>().expect_err(bad);
        }
    }
}
