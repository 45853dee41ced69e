//! What is known of an object beside its content.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::backend::Error;
use crate::checksum::{Algorithm, Checksum, Coverage, ObjectChecksum};
use crate::names::{BucketName, Etag, PartNumber, Tenant, Upload, UploadId};
use crate::text::{from_form, hex};

/// Of the names and values in [`Attributes::user`].
pub const USER_METADATA_BYTES_MAX: usize = 8 << 10;
pub const OBJECT_TAGS_MAX: usize = 10;
pub const BUCKET_TAGS_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: BucketName,
    pub owner: Tenant,
    pub created: SystemTime,
    pub tags: Tags,
}

/// An object as it was when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub size: u64,
    pub etag: Etag,
    pub modified: SystemTime,
    pub attributes: Attributes,
    pub tags: Tags,
    pub checksum: Option<ObjectChecksum>,
    /// None if it was written at once.
    pub parts: Arc<[Part]>,
    /// Which upload has made it, so that completing it twice is completing it once.
    pub upload: Option<UploadId>,
    pub class: Class,
}

/// What the acknowledgement of a write has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// A copy is synced to a disk, or in another store that says so.
    #[default]
    Durable,
    /// The end of a node loses it.
    Ephemeral,
}

/// What its writer says of an object. The front door understands none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub content_type: Option<String>,
    /// Without `aws-chunked`, which is of the transfer.
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub content_disposition: Option<String>,
    pub cache_control: Option<String>,
    pub expires: Option<SystemTime>,
    /// Names in lower case, without `x-amz-meta-`.
    pub user: BTreeMap<String, String>,
}

/// Names and values in order; each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// `None` if these are too many, too long, or if a name is there twice.
    #[must_use]
    pub fn new(mut tags: Vec<(String, String)>, tags_max: usize) -> Option<Self> {
        tags.sort();
        let is_twice = |pair: &[(String, String)]| pair[0].0 == pair[1].0;
        let is_valid = |(name, value): &(String, String)| {
            (1..=128).contains(&name.chars().count()) && value.chars().count() <= 256
        };
        let is_valid =
            tags.len() <= tags_max && tags.iter().all(is_valid) && !tags.windows(2).any(is_twice);
        is_valid.then_some(Self(tags))
    }

    /// As the header `x-amz-tagging` has them. `None` as in [`Tags::new`].
    #[must_use]
    pub fn from_header(text: &str) -> Option<Self> {
        let mut tags = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            tags.push((from_form(name)?, from_form(value)?));
        }
        Self::new(tags, OBJECT_TAGS_MAX)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A part of an upload, or of the object that it has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub number: PartNumber,
    pub size: u64,
    /// The MD5 of its content.
    pub md5: [u8; 16],
    pub checksum: Checksum,
    pub modified: SystemTime,
}

impl Part {
    /// As S3 clients know it.
    #[must_use]
    pub fn etag(&self) -> Etag {
        Etag::new(&hex(&self.md5)).expect("digits are graphic")
    }
}

/// What all parts of an upload have, and what the object is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadChecksum {
    pub algorithm: Algorithm,
    pub coverage: Coverage,
    /// The client has asked for it, and is told at each occasion.
    pub is_asked: bool,
}

/// If nobody asks for another.
impl Default for UploadChecksum {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Crc64Nvme,
            coverage: Coverage::Whole,
            is_asked: false,
        }
    }
}

/// An upload that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploading {
    pub upload: Upload,
    pub initiated: SystemTime,
    pub checksum: UploadChecksum,
}

/// What must hold of the name that is written or deleted, at the moment when that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    None,
    /// There is no such object.
    Absent,
    /// There is one.
    Present,
    /// There is one with this content.
    Is(Etag),
    /// There is none with this content.
    IsNot(Etag),
}

impl Precondition {
    /// Whether it may be done, given what is there.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] or [`Error::Precondition`].
    pub fn check(&self, present: Option<&Etag>) -> Result<(), Error> {
        match (self, present) {
            (Self::Present | Self::Is(_), None) => Err(Error::NoSuchKey),
            (Self::Absent, Some(_)) => Err(Error::Precondition),
            (Self::Is(wanted), Some(etag)) if wanted != etag => Err(Error::Precondition),
            (Self::IsNot(unwanted), Some(etag)) if unwanted == etag => Err(Error::Precondition),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn tags_are_checked() {
        let long = "ü".repeat(128);
        let value = "ü".repeat(256);
        for pairs in [
            &[][..],
            &[("a", "")],
            &[("a", "b"), ("b", "a")],
            &[(&long, &value)],
        ] {
            assert!(Tags::new(tags(pairs), 2).is_some(), "{pairs:?}");
        }
        let longer = format!("{long}a");
        let more = format!("{value}a");
        for pairs in [
            &[("", "a")][..],
            &[("a", "b"), ("a", "c")],
            &[("a", ""), ("b", ""), ("c", "")],
            &[(&longer, "")],
            &[("a", &more)],
        ] {
            assert!(Tags::new(tags(pairs), 2).is_none(), "{pairs:?}");
        }
        let header = Tags::from_header("a=b%26c&d&e+f=").expect("three tags");
        assert_eq!(
            header.as_slice(),
            tags(&[("a", "b&c"), ("d", ""), ("e f", "")])
        );
        for text in ["=a", "a=%", "a&a"] {
            assert!(Tags::from_header(text).is_none(), "{text}");
        }
    }

    #[test]
    fn preconditions_are_checked() {
        let [a, b] = ["a", "b"].map(|text| Etag::new(text).expect("an etag"));
        let cases = [
            (Precondition::None, [true, true, true]),
            (Precondition::Absent, [true, false, false]),
            (Precondition::Present, [false, true, true]),
            (Precondition::Is(a.clone()), [false, true, false]),
            (Precondition::IsNot(a.clone()), [true, false, true]),
        ];
        for (precondition, wanted) in cases {
            let is_met = [None, Some(&a), Some(&b)].map(|etag| precondition.check(etag).is_ok());
            assert_eq!(is_met, wanted, "{precondition:?}");
        }
    }
}
