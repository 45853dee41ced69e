//! What several operations speak of, as it is on the wire.

use std::sync::Arc;

use geds_core::Result;
use geds_core::index::Tag;
use geds_core::index::{
    BucketName, Class, ConsumerId, Entry, Etag, Folder, Hints, InS3, Key, Loss, Name, NodeId,
    ObjectId, Placement, Precondition, Prefix, Residency, Revision, Sealed,
};
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::check_metadata;

/// A bucket, and a key or prefix.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct TextsV1<'a>(pub &'a str, pub &'a str);

impl<'a> From<&'a Name> for TextsV1<'a> {
    fn from(name: &'a Name) -> Self {
        Self(name.bucket.as_str(), name.key.as_str())
    }
}

impl<'a> From<&'a Folder> for TextsV1<'a> {
    fn from(folder: &'a Folder) -> Self {
        Self(folder.bucket.as_str(), folder.prefix.as_str())
    }
}

impl TextsV1<'_> {
    pub(super) fn name(self) -> Result<Name> {
        Ok(Name {
            bucket: BucketName::new(self.0)?,
            key: Key::new(self.1)?,
        })
    }

    pub(super) fn folder(self) -> Result<Folder> {
        Ok(Folder {
            bucket: BucketName::new(self.0)?,
            prefix: Prefix::new(self.1)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum EtagV1<'a> {
    Digest([u8; 16]),
    Text(&'a str),
}

impl<'a> From<&'a Etag> for EtagV1<'a> {
    fn from(etag: &'a Etag) -> Self {
        match etag.tag() {
            Tag::Digest(digest) => Self::Digest(*digest),
            Tag::Text(text) => Self::Text(text),
        }
    }
}

impl EtagV1<'_> {
    pub(super) fn parse(&self) -> Result<Etag> {
        Ok(match self {
            Self::Digest(digest) => Etag::digest(*digest),
            Self::Text(text) => Etag::new(text)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum WhenV1<'a> {
    None,
    Absent,
    #[serde(borrow)]
    Etag(EtagV1<'a>),
    Generation(u64),
}

impl<'a> From<&'a Precondition> for WhenV1<'a> {
    fn from(when: &'a Precondition) -> Self {
        match when {
            Precondition::None => Self::None,
            Precondition::Absent => Self::Absent,
            Precondition::Etag(etag) => Self::Etag(etag.into()),
            Precondition::Generation(generation) => Self::Generation(generation.0),
        }
    }
}

impl WhenV1<'_> {
    pub(super) fn parse(&self) -> Result<Precondition> {
        Ok(match self {
            Self::None => Precondition::None,
            Self::Absent => Precondition::Absent,
            Self::Etag(etag) => Precondition::Etag(etag.parse()?),
            Self::Generation(generation) => Precondition::Generation(Revision(*generation)),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum ClassV1 {
    Ephemeral,
    Durable,
}

impl From<Class> for ClassV1 {
    fn from(class: Class) -> Self {
        match class {
            Class::Ephemeral => Self::Ephemeral,
            Class::Durable => Self::Durable,
        }
    }
}

impl From<ClassV1> for Class {
    fn from(class: ClassV1) -> Self {
        match class {
            ClassV1::Ephemeral => Self::Ephemeral,
            ClassV1::Durable => Self::Durable,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ObjectIdV1 {
    node: u32,
    epoch: u64,
    serial: u64,
}

impl From<ObjectId> for ObjectIdV1 {
    fn from(id: ObjectId) -> Self {
        Self {
            node: id.node.0,
            epoch: id.epoch.0,
            serial: id.serial,
        }
    }
}

impl From<ObjectIdV1> for ObjectId {
    fn from(id: ObjectIdV1) -> Self {
        Self {
            node: NodeId(id.node),
            epoch: Epoch(id.epoch),
            serial: id.serial,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct EntryV1<'a> {
    generation: u64,
    modified_at_ms: u64,
    id: ObjectIdV1,
    size: u64,
    #[serde(borrow)]
    etag: EtagV1<'a>,
    class: ClassV1,
    metadata: &'a [u8],
    expires_at_ms: Option<u64>,
    readers: u32,
    consumers: Vec<u128>,
}

impl<'a> From<&'a Entry> for EntryV1<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            generation: entry.generation.0,
            modified_at_ms: entry.modified_at_ms,
            id: entry.sealed.id.into(),
            size: entry.sealed.size,
            etag: (&entry.sealed.etag).into(),
            class: entry.sealed.class.into(),
            metadata: &entry.metadata,
            expires_at_ms: entry.hints.expires_at_ms,
            readers: entry.hints.readers,
            consumers: entry.hints.consumers.iter().map(|of| of.0).collect(),
        }
    }
}

impl EntryV1<'_> {
    pub(super) fn parse(self) -> Result<Arc<Entry>> {
        check_metadata(self.metadata)?;
        Ok(Arc::new(Entry {
            generation: Revision(self.generation),
            modified_at_ms: self.modified_at_ms,
            sealed: Sealed {
                id: self.id.into(),
                size: self.size,
                etag: self.etag.parse()?,
                class: self.class.into(),
            },
            metadata: self.metadata.into(),
            hints: Hints {
                expires_at_ms: self.expires_at_ms,
                readers: self.readers,
                consumers: self.consumers.into_iter().map(ConsumerId).collect(),
            },
        }))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum ResidencyV1<'a> {
    Dram(u32),
    Disk(u32),
    S3(#[serde(borrow)] TextsV1<'a>, EtagV1<'a>),
}

#[derive(Serialize, Deserialize)]
pub(super) enum PlacementV1<'a> {
    At(#[serde(borrow)] Vec<ResidencyV1<'a>>),
    LostWithNode(u32, u64),
    Corrupt,
}

impl<'a> From<&'a Placement> for PlacementV1<'a> {
    fn from(placement: &'a Placement) -> Self {
        let residency = |copy: &'a Residency| match copy {
            Residency::Dram(node) => ResidencyV1::Dram(node.0),
            Residency::Disk(node) => ResidencyV1::Disk(node.0),
            Residency::S3(at) => ResidencyV1::S3((&at.name).into(), (&at.etag).into()),
        };
        match placement {
            Placement::At(copies) => Self::At(copies.iter().map(residency).collect()),
            Placement::Lost(Loss::Node { node, epoch }) => Self::LostWithNode(node.0, epoch.0),
            Placement::Lost(Loss::Corrupt) => Self::Corrupt,
        }
    }
}

impl PlacementV1<'_> {
    pub(super) fn parse(&self) -> Result<Placement> {
        let residency = |copy: &ResidencyV1<'_>| {
            Ok(match copy {
                ResidencyV1::Dram(node) => Residency::Dram(NodeId(*node)),
                ResidencyV1::Disk(node) => Residency::Disk(NodeId(*node)),
                ResidencyV1::S3(name, etag) => Residency::S3(Arc::new(InS3 {
                    name: name.name()?,
                    etag: etag.parse()?,
                })),
            })
        };
        Ok(match self {
            Self::At(copies) => {
                let copies: Result<_> = copies.iter().map(residency).collect();
                Placement::At(copies?)
            }
            &Self::LostWithNode(node, epoch) => Placement::Lost(Loss::Node {
                node: NodeId(node),
                epoch: Epoch(epoch),
            }),
            Self::Corrupt => Placement::Lost(Loss::Corrupt),
        })
    }
}
