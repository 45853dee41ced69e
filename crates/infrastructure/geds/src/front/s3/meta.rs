//! What S3 knows beside content. It is in the metadata of names, where `disk::s3` writes it; of names that others have written, S3 knows nothing.

use std::time::{Duration, SystemTime};

use ids::Name as Tenant;
use s3::checksum::{Checksum, ObjectChecksum};
use s3::names::{Etag, Key, PartNumber, UploadId};
use s3::object::{Attributes, Class, Object, Part, Tags, UploadChecksum};

use crate::index::Tag;
use crate::index::{self, Bucket, Entry};

/// Of an object, without its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub attributes: Attributes,
    pub tags: Tags,
    pub checksum: Option<ObjectChecksum>,
    pub n_parts: u16,
    pub upload: Option<UploadId>,
    /// What others had written as metadata.
    pub native: Box<[u8]>,
}

/// One of the buckets that had the same name, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    pub owner: Tenant,
    pub created_at_ms: u64,
}

/// Of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadMeta {
    pub of: Incarnation,
    pub key: Key,
    pub attributes: Attributes,
    pub tags: Tags,
    pub checksum: UploadChecksum,
}

/// Of a part of an upload: its number is in its name, its MD5 is its etag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartMeta {
    pub checksum: Checksum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketTags {
    pub of: Incarnation,
    pub tags: Tags,
}

impl Incarnation {
    pub(crate) fn of(bucket: &Bucket) -> Self {
        Self {
            owner: bucket.owner.clone(),
            created_at_ms: bucket.created_at_ms,
        }
    }
}

/// What a native user has written as the metadata of a name, whatever S3 has added to it.
#[must_use]
pub fn native_metadata(metadata: &[u8]) -> Box<[u8]> {
    match Head::decode(metadata) {
        Some(head) => head.native,
        None => metadata.into(),
    }
}

/// The same after a native user has written it anew: what S3 has added stays.
pub(crate) fn with_native_metadata(metadata: &[u8], native: Box<[u8]>) -> Box<[u8]> {
    match Head::decode_all(metadata) {
        Some((head, parts)) => Head { native, ..head }.encode(&parts),
        None => native,
    }
}

/// Of an entry, with its parts.
pub(super) fn all_of(entry: &Entry) -> (Head, Vec<Part>) {
    Head::decode_all(&entry.metadata).unwrap_or_else(|| (foreign(entry), Vec::new()))
}

pub(crate) fn head_of(entry: &Entry) -> Head {
    Head::decode(&entry.metadata).unwrap_or_else(|| foreign(entry))
}

/// What a copy has instead of an entry's metadata, if not the same: no upload has made it.
pub(crate) fn of_copy(entry: &Entry) -> Option<Box<[u8]>> {
    let (mut head, parts) = Head::decode_all(&entry.metadata)?;
    head.upload.take()?;
    Some(head.encode(&parts))
}

fn foreign(entry: &Entry) -> Head {
    Head {
        native: entry.metadata.clone(),
        ..Head::default()
    }
}

/// What S3 is told of an entry.
pub(super) fn object_of(entry: &Entry) -> Object {
    let (head, parts) = all_of(entry);
    Object {
        size: entry.sealed.size,
        etag: etag_of(entry),
        modified: modified_of(entry),
        attributes: head.attributes,
        tags: head.tags,
        checksum: head.checksum,
        parts: parts.into(),
        upload: head.upload,
        class: match entry.sealed.class {
            index::Class::Ephemeral => Class::Ephemeral,
            index::Class::Durable => Class::Durable,
        },
    }
}

pub(super) fn class_of(class: Class) -> index::Class {
    match class {
        Class::Ephemeral => index::Class::Ephemeral,
        Class::Durable => index::Class::Durable,
    }
}

/// S3's etags have no quotation marks; those of others may.
pub(super) fn etag_of(entry: &Entry) -> Etag {
    let text = entry.sealed.etag.to_string().replace('"', "'");
    Etag::new(&text).expect("it has 1 to 128 visible characters")
}

pub(crate) fn modified_of(entry: &Entry) -> SystemTime {
    time(entry.modified_at_ms)
}

pub(super) fn time(since_1970_ms: u64) -> SystemTime {
    let since = Duration::from_millis(since_1970_ms);
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `None`: it is none.
pub(super) fn part_of(number: PartNumber, entry: &Entry) -> Option<Part> {
    let Tag::Digest(md5) = *entry.sealed.etag.tag() else {
        return None;
    };
    Some(Part {
        number,
        size: entry.sealed.size,
        md5,
        checksum: PartMeta::decode(&entry.metadata)?.checksum,
        modified: modified_of(entry),
    })
}
