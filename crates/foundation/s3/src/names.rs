//! What things are called, and what was checked of it.

use std::fmt;
use std::sync::Arc;

pub const KEY_BYTES_MAX: usize = 1024;
pub const ETAG_BYTES_MAX: usize = 128;
pub const PART_NUMBER_MAX: u16 = 10_000;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// `None` if it is not one.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                let is_valid: fn(&str) -> bool = $is_valid;
                is_valid(text).then(|| Self(text.into()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
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
    /// 3 to 63 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends. It is no address.
    BucketName,
    s3s::path::check_bucket_name
}

text_type! {
    /// Of an object in its bucket: any text of 1 to 1024 bytes. `/` means nothing, and the order is that of the bytes.
    Key,
    |text| (1..=KEY_BYTES_MAX).contains(&text.len())
}

text_type! {
    /// Says what the content is, without quotation marks.
    Etag,
    |text| (1..=ETAG_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
}

text_type! {
    /// Whoever buckets belong to: all users of one tenant may do the same.
    Tenant,
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.$".contains(&b))
}

text_type! {
    /// Nobody can guess it who was not told.
    UploadId,
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub bucket: BucketName,
    pub key: Key,
}

/// A multipart upload, and what it is to become.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upload {
    pub name: Name,
    pub id: UploadId,
}

/// 1 to 10000. The order of the parts is that of their numbers, whichever was sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (1..=PART_NUMBER_MAX)
            .contains(&number)
            .then_some(Self(number))
    }

    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for text in ["abc", "a-b.c", "0-9", &"a".repeat(63)] {
            assert!(BucketName::new(text).is_some(), "{text}");
        }
        for text in [
            "ab",
            "Abc",
            "-ab",
            "ab.",
            "a/b",
            "a..b",
            "10.0.0.1",
            &"a".repeat(64),
        ] {
            assert!(BucketName::new(text).is_none(), "{text}");
        }
        for text in ["/", "//", "a/", "\0", "é", &"é".repeat(512)] {
            assert!(Key::new(text).is_some(), "{text}");
        }
        for text in ["", &"é".repeat(513)] {
            assert!(Key::new(text).is_none(), "{text}");
        }
        for (number, is_one) in [
            (0, false),
            (1, true),
            (10_000, true),
            (10_001, false),
            (-1, false),
        ] {
            assert_eq!(PartNumber::new(number).is_some(), is_one, "{number}");
        }
    }
}
