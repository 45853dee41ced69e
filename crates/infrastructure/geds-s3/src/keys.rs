//! What keys are called in S3: as they are, but for those that a URL cannot have or that clients change on their way (`a//b`, `../a`).
//!
//! Those are where `geds` shows them, under `!geds-key/`. If that is longer than S3's keys may be, it is `!geds-key/%blake3-` and a
//! digest, which is the path of no key. Either way the exact key is in the metadata, in base64.

use geds_core::index::{KEY_BYTES_MAX, Key};
use object_store::path::Path;

use crate::paths::{RESERVED, is_own, path_of};

#[must_use]
pub fn path(key: &Key) -> Path {
    let path = path_of(key.as_str());
    let path = if path.len() <= KEY_BYTES_MAX {
        Path::parse(&path)
    } else {
        let digest = blake3::hash(key.as_str().as_bytes()).to_hex();
        Path::parse(format!("{RESERVED}%blake3-{digest}"))
    };
    path.expect("it was made so")
}

/// What the metadata is to say of the key, if it is not called as it is.
#[must_use]
pub fn mapped(key: &Key) -> Option<String> {
    (!is_own(key.as_str())).then(|| base64(key.as_str().as_bytes()))
}

/// The key that metadata says. `None`: it says none, or it is not that of `path`.
#[must_use]
pub fn exact(path: &Path, said: &str) -> Option<Key> {
    let bytes = from_base64(said)?;
    let key = Key::new(std::str::from_utf8(&bytes).ok()?).ok()?;
    (self::path(&key) == *path && mapped(&key).as_deref() == Some(said)).then_some(key)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The form for URLs, without padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for triple in bytes.chunks(3) {
        let mut four = [0; 4];
        four[1..=triple.len()].copy_from_slice(triple);
        let bits = u32::from_be_bytes(four);
        for place in 0..=triple.len() {
            let digit = bits >> (18 - 6 * place) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for four in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let value = match four.get(place) {
                Some(digit) => DIGITS.iter().position(|other| other == digit)?,
                None => 0,
            };
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        let n_bytes = four.len().checked_sub(1).filter(|n_bytes| *n_bytes > 0)?;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=n_bytes]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_place_and_can_be_told() {
        let long = "/".repeat(KEY_BYTES_MAX);
        let longer = format!("{}a", "/".repeat(KEY_BYTES_MAX - 1));
        for (key, is_mapped) in [
            ("a/b", false),
            ("é", false),
            ("a//b", true),
            ("a/", true),
            ("..", true),
            ("\0", true),
            ("!geds-key/x", true),
            (&long, true),
            (&longer, true),
        ] {
            let key = Key::new(key).expect("a key");
            let path = path(&key);
            assert!(path.as_ref().len() <= KEY_BYTES_MAX);
            assert_eq!(path.as_ref() != key.as_str(), is_mapped, "{key}");
            let said = mapped(&key);
            assert_eq!(said.is_some(), is_mapped, "{key}");
            if let Some(said) = said {
                assert_eq!(exact(&path, &said), Some(key));
                assert_eq!(exact(&Path::from("other"), &said), None);
            }
        }
        for said in ["", "a", "YQ", "YR", "YQ==", "é", "_w"] {
            assert_eq!(exact(&Path::from("a"), said), None, "{said}");
        }
    }
}
