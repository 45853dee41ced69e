//! What things are called, and what was checked of it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use ids::Epoch;

use super::Error;

/// Of a key, and of a prefix of keys.
pub const KEY_BYTES_MAX: usize = 1024;
pub const ETAG_BYTES_MAX: usize = 128;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// [`Error::Invalid`].
            pub fn new(text: &str) -> Result<Self, Error> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::Invalid($wanted))
                }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_type! {
    /// Of a bucket, as S3 has them.
    BucketName,
    "a bucket has 3 to 63 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends",
    is_bucket
}

text_type! {
    /// Of an object in its bucket: any text. `/` means nothing, and the order is that of the bytes.
    Key,
    "a key has 1 to 1024 bytes of UTF-8",
    |text| (1..=KEY_BYTES_MAX).contains(&text.len())
}

text_type! {
    /// How keys may begin.
    Prefix,
    "a prefix has at most 1024 bytes of UTF-8",
    |text| text.len() <= KEY_BYTES_MAX
}

/// Says what the content is. Equal tags, equal content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etag(Tag);

/// How an etag is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// What is written as 32 hexadecimal digits, which most tags are: a third of the memory and half of the log.
    Digest([u8; 16]),
    /// Anything else.
    Text(Arc<str>),
}

impl Etag {
    /// # Errors
    /// [`Error::Invalid`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let is_valid = (1..=ETAG_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_valid {
            return Err(Error::Invalid(
                "an etag has 1 to 128 visible ASCII characters",
            ));
        }
        let digest = u128::from_str_radix(text, 16).map(u128::to_be_bytes);
        Ok(match digest {
            // Nothing may be lost: a sign, zeros in front, or capitals.
            Ok(digest) if Self::digest(digest).to_string() == text => Self::digest(digest),
            _ => Self(Tag::Text(text.into())),
        })
    }

    #[must_use]
    pub fn digest(digest: [u8; 16]) -> Self {
        Self(Tag::Digest(digest))
    }

    #[must_use]
    pub fn tag(&self) -> &Tag {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Tag::Digest(digest) => write!(f, "{:032x}", u128::from_be_bytes(*digest)),
            Tag::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn is_bucket(text: &str) -> bool {
    let is_edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_inner =
        |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let bytes = text.as_bytes();
    (3..=63).contains(&bytes.len())
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(is_inner)
}

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub bucket: BucketName,
    pub key: Key,
}

/// All names of a bucket that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub bucket: BucketName,
    pub prefix: Prefix,
}

/// Counts the mutations of the index. 0: before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Sealed data, the same for ever wherever it lies and whatever it is called. The node that seals it chooses it: its present epoch, which
/// keeps it from choosing the same again after a restart, and a serial from 1 that is higher than any it has sealed under that epoch. So a
/// node that writes much at once gives the serials when it seals, in the order in which it asks the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub node: NodeId,
    pub epoch: Epoch,
    pub serial: u64,
}

/// Who has read an object to its end. A task that is tried again has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u128);

/// Where the texts that begin with `prefix` end: the least text above all of them, if there is one.
#[must_use]
pub fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The order of UTF-8 bytes is that of characters. `..=` on characters leaves out the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_told_as_it_was_given() {
        let digest = "d41d8cd98f00b204e9800998ecf8427e";
        assert!(matches!(
            Etag::new(digest).expect("a digest").tag(),
            Tag::Digest(_)
        ));
        let capitals = digest.to_uppercase();
        let signed = format!("+{}", &digest[1..]);
        let parts = format!("{digest}-2");
        for text in [
            digest,
            &capitals,
            &signed,
            &parts,
            "0",
            &"f".repeat(31),
            &"x".repeat(128),
        ] {
            assert_eq!(Etag::new(text).expect("an etag").to_string(), text);
        }
        for text in ["", " ", "a b", "é", &"x".repeat(129)] {
            Etag::new(text).expect_err("none");
        }
    }

    #[test]
    fn names_are_checked() {
        for text in ["abc", "a-b.c", "0-9", &"a".repeat(63)] {
            BucketName::new(text).expect("a bucket");
        }
        for text in ["ab", "Abc", "-ab", "ab.", "a/b", "a_b", &"a".repeat(64)] {
            BucketName::new(text).expect_err("none");
        }
        for text in ["/", "//", "\0", "é", &"é".repeat(512)] {
            Key::new(text).expect("a key");
        }
        for text in ["", &"é".repeat(513)] {
            Key::new(text).expect_err("none");
        }
    }

    #[test]
    fn a_successor_ends_what_begins_so() {
        let cases = [
            ("a", Some("b")),
            ("a/", Some("a0")),
            ("a\u{10ffff}", Some("b")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("\u{7f}", Some("\u{80}")),
            ("\u{10ffff}", None),
            ("", None),
        ];
        for (prefix, expected) in cases {
            assert_eq!(successor(prefix).as_deref(), expected);
        }
    }
}
