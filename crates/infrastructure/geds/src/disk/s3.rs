//! What the S3 face writes into the metadata of names, as bytes: a mark, a version, and what postcard makes of the types below. Others write
//! there what they like; the mark tells theirs from ours.
//!
//! A variant or field is never changed or removed, and a new variant goes last; anything else is a new version.

use std::time::{Duration, SystemTime};

use s3::checksum::{Algorithm, Checksum, Coverage, ObjectChecksum};
use s3::names::{PartNumber, UploadId};
use s3::object::{Attributes, BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, Part, Tags, UploadChecksum};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::front::s3::meta::{BucketTags, Head, Incarnation, PartMeta, UploadMeta};

#[cfg(test)]
mod tests;

/// The last byte is the version.
const MARK: [u8; 4] = *b"\0S3\x01";

impl Head {
    /// With the parts of which it was made.
    pub(crate) fn encode(&self, parts: &[Part]) -> Box<[u8]> {
        let mut bytes = encode(&RecordV1::Object(self.into()));
        let mut before = PartV1Base::default();
        for part in parts {
            let part = before.less(part);
            bytes.extend(postcard::to_stdvec(&part).expect(TAKES_ALL));
        }
        bytes.into()
    }

    /// `None`: somebody else has written it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::split(bytes).map(|(head, _)| head)
    }

    /// The same with the parts, which are most of it.
    pub(crate) fn decode_all(bytes: &[u8]) -> Option<(Self, Vec<Part>)> {
        let (head, mut rest) = Self::split(bytes)?;
        let mut before = PartV1Base::default();
        let mut parts = Vec::with_capacity(usize::from(head.n_parts));
        for _ in 0..head.n_parts {
            let (part, behind) = postcard::take_from_bytes(rest).ok()?;
            parts.push(before.plus(part)?);
            rest = behind;
        }
        rest.is_empty().then_some((head, parts))
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let bytes = bytes.strip_prefix(&MARK)?;
        match postcard::take_from_bytes(bytes).ok()? {
            (RecordV1::Object(head), rest) => Some((head.parse()?, rest)),
            _ => None,
        }
    }
}

impl UploadMeta {
    pub(crate) fn encode(&self) -> Box<[u8]> {
        encode(&RecordV1::Upload(self.into())).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match decode(bytes)? {
            RecordV1::Upload(upload) => upload.parse(),
            _ => None,
        }
    }
}

impl PartMeta {
    pub(crate) fn encode(&self) -> Box<[u8]> {
        encode(&RecordV1::Part((&self.checksum).into())).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match decode(bytes)? {
            RecordV1::Part(checksum) => Some(Self {
                checksum: checksum.into(),
            }),
            _ => None,
        }
    }
}

impl BucketTags {
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let tags = self.tags.as_slice();
        encode(&RecordV1::BucketTags((&self.of).into(), tags.to_vec())).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match decode(bytes)? {
            RecordV1::BucketTags(of, tags) => Some(Self {
                of: of.parse()?,
                tags: Tags::new(tags, BUCKET_TAGS_MAX)?,
            }),
            _ => None,
        }
    }
}

const TAKES_ALL: &str = "memory takes all that has a length";

fn encode(record: &RecordV1) -> Vec<u8> {
    let bytes = MARK.to_vec();
    postcard::to_extend(record, bytes).expect(TAKES_ALL)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.strip_prefix(&MARK)?;
    match postcard::take_from_bytes(bytes).ok()? {
        (record, []) => Some(record),
        _ => None,
    }
}

#[derive(Serialize, Deserialize)]
enum RecordV1 {
    /// Its parts follow, as many as it says.
    Object(HeadV1),
    Upload(UploadV1),
    Part(ChecksumV1),
    BucketTags(IncarnationV1, TagsV1),
}

type TagsV1 = Vec<(String, String)>;

#[derive(Serialize, Deserialize)]
struct HeadV1 {
    /// The second: it is of its parts' checksums.
    checksum: Option<(ChecksumV1, bool)>,
    n_parts: u16,
    upload: Option<String>,
    attributes: AttributesV1,
    tags: TagsV1,
    /// What others had written here.
    native: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct AttributesV1 {
    content_type: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    content_disposition: Option<String>,
    cache_control: Option<String>,
    /// Since 1970.
    expires_ms: Option<i64>,
    user: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
enum ChecksumV1 {
    Crc32([u8; 4]),
    Crc32c([u8; 4]),
    Crc64Nvme([u8; 8]),
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

/// A part, as it differs from the one before: numbers grow by one, mostly, and times by little.
#[derive(Serialize, Deserialize)]
struct PartV1 {
    number_more: u16,
    size: u64,
    md5: [u8; 16],
    checksum: ChecksumV1,
    modified_ms_more: i64,
}

#[derive(Default)]
struct PartV1Base {
    number: u16,
    modified_ms: i64,
}

/// A bucket, when it was created and whose it is: another one of the same name is another bucket.
#[derive(Serialize, Deserialize)]
struct IncarnationV1 {
    owner: String,
    created_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct UploadV1 {
    of: IncarnationV1,
    key: String,
    attributes: AttributesV1,
    tags: TagsV1,
    algorithm: AlgorithmV1,
    is_composite: bool,
    is_asked: bool,
}

#[derive(Serialize, Deserialize)]
enum AlgorithmV1 {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl From<&Head> for HeadV1 {
    fn from(head: &Head) -> Self {
        let is_composite = |checksum: &ObjectChecksum| checksum.coverage == Coverage::Composite;
        Self {
            checksum: head
                .checksum
                .map(|checksum| ((&checksum.value).into(), is_composite(&checksum))),
            n_parts: head.n_parts,
            upload: head.upload.as_ref().map(|id| id.as_str().to_owned()),
            attributes: (&head.attributes).into(),
            tags: head.tags.as_slice().to_vec(),
            native: head.native.to_vec(),
        }
    }
}

impl HeadV1 {
    fn parse(self) -> Option<Head> {
        let upload = match self.upload {
            Some(id) => Some(UploadId::new(&id)?),
            None => None,
        };
        Some(Head {
            checksum: self.checksum.map(|(value, is_composite)| ObjectChecksum {
                value: value.into(),
                coverage: coverage(is_composite),
            }),
            n_parts: self.n_parts,
            upload,
            attributes: self.attributes.parse(),
            tags: Tags::new(self.tags, OBJECT_TAGS_MAX)?,
            native: self.native.into(),
        })
    }
}

fn coverage(is_composite: bool) -> Coverage {
    if is_composite {
        Coverage::Composite
    } else {
        Coverage::Whole
    }
}

impl From<&Attributes> for AttributesV1 {
    fn from(attributes: &Attributes) -> Self {
        let user = attributes.user.iter();
        Self {
            content_type: attributes.content_type.clone(),
            content_encoding: attributes.content_encoding.clone(),
            content_language: attributes.content_language.clone(),
            content_disposition: attributes.content_disposition.clone(),
            cache_control: attributes.cache_control.clone(),
            expires_ms: attributes.expires.map(to_ms),
            user: user
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

impl AttributesV1 {
    fn parse(self) -> Attributes {
        Attributes {
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            content_language: self.content_language,
            content_disposition: self.content_disposition,
            cache_control: self.cache_control,
            expires: self.expires_ms.and_then(from_ms),
            user: self.user.into_iter().collect(),
        }
    }
}

fn to_ms(time: SystemTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => ms(after),
        Err(before) => -ms(before.duration()),
    }
}

/// `None`: the system has no such time.
fn from_ms(ms: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

impl From<&Checksum> for ChecksumV1 {
    fn from(checksum: &Checksum) -> Self {
        match *checksum {
            Checksum::Crc32(bytes) => Self::Crc32(bytes),
            Checksum::Crc32c(bytes) => Self::Crc32c(bytes),
            Checksum::Crc64Nvme(bytes) => Self::Crc64Nvme(bytes),
            Checksum::Sha1(bytes) => Self::Sha1(bytes),
            Checksum::Sha256(bytes) => Self::Sha256(bytes),
        }
    }
}

impl From<ChecksumV1> for Checksum {
    fn from(checksum: ChecksumV1) -> Self {
        match checksum {
            ChecksumV1::Crc32(bytes) => Self::Crc32(bytes),
            ChecksumV1::Crc32c(bytes) => Self::Crc32c(bytes),
            ChecksumV1::Crc64Nvme(bytes) => Self::Crc64Nvme(bytes),
            ChecksumV1::Sha1(bytes) => Self::Sha1(bytes),
            ChecksumV1::Sha256(bytes) => Self::Sha256(bytes),
        }
    }
}

impl PartV1Base {
    fn less(&mut self, part: &Part) -> PartV1 {
        let before = std::mem::replace(
            self,
            Self {
                number: part.number.get(),
                modified_ms: to_ms(part.modified),
            },
        );
        PartV1 {
            number_more: self.number.wrapping_sub(before.number),
            size: part.size,
            md5: part.md5,
            checksum: (&part.checksum).into(),
            modified_ms_more: self.modified_ms.wrapping_sub(before.modified_ms),
        }
    }

    fn plus(&mut self, part: PartV1) -> Option<Part> {
        self.number = self.number.checked_add(part.number_more)?;
        self.modified_ms = self.modified_ms.checked_add(part.modified_ms_more)?;
        Some(Part {
            number: PartNumber::new(self.number.into())?,
            size: part.size,
            md5: part.md5,
            checksum: part.checksum.into(),
            modified: from_ms(self.modified_ms)?,
        })
    }
}

impl From<&Incarnation> for IncarnationV1 {
    fn from(of: &Incarnation) -> Self {
        Self {
            owner: of.owner.to_string(),
            created_ms: of.created_at_ms,
        }
    }
}

impl IncarnationV1 {
    fn parse(self) -> Option<Incarnation> {
        Some(Incarnation {
            owner: self.owner.parse().ok()?,
            created_at_ms: self.created_ms,
        })
    }
}

impl From<&UploadMeta> for UploadV1 {
    fn from(upload: &UploadMeta) -> Self {
        let UploadChecksum {
            algorithm,
            coverage,
            is_asked,
        } = upload.checksum;
        Self {
            of: (&upload.of).into(),
            key: upload.key.as_str().to_owned(),
            attributes: (&upload.attributes).into(),
            tags: upload.tags.as_slice().to_vec(),
            algorithm: match algorithm {
                Algorithm::Crc32 => AlgorithmV1::Crc32,
                Algorithm::Crc32c => AlgorithmV1::Crc32c,
                Algorithm::Crc64Nvme => AlgorithmV1::Crc64Nvme,
                Algorithm::Sha1 => AlgorithmV1::Sha1,
                Algorithm::Sha256 => AlgorithmV1::Sha256,
            },
            is_composite: coverage == Coverage::Composite,
            is_asked,
        }
    }
}

impl UploadV1 {
    fn parse(self) -> Option<UploadMeta> {
        Some(UploadMeta {
            of: self.of.parse()?,
            key: s3::names::Key::new(&self.key)?,
            attributes: self.attributes.parse(),
            tags: Tags::new(self.tags, OBJECT_TAGS_MAX)?,
            checksum: UploadChecksum {
                algorithm: match self.algorithm {
                    AlgorithmV1::Crc32 => Algorithm::Crc32,
                    AlgorithmV1::Crc32c => Algorithm::Crc32c,
                    AlgorithmV1::Crc64Nvme => Algorithm::Crc64Nvme,
                    AlgorithmV1::Sha1 => Algorithm::Sha1,
                    AlgorithmV1::Sha256 => Algorithm::Sha256,
                },
                coverage: coverage(self.is_composite),
                is_asked: self.is_asked,
            },
        })
    }
}
