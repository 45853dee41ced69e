//! The records of the index, and its pieces, as bytes: a version, and what postcard makes of the types below. They are sealed against bit rot by
//! whoever frames them.
//!
//! A variant or field is never changed or removed, and a new variant goes last; anything else is a new version.

use std::sync::Arc;

use ids::Epoch;
use serde::{Deserialize, Serialize};

use crate::index::{
    Bucket, BucketName, Cause, Class, ConsumerId, Entry, Error, Etag, Few, Folder, Hints, InS3,
    Key, Loss, Name, Node, NodeId, ObjectId, Op, Piece, Placement, Prefix, Record, Residency,
    Revision, Seal, Sealed, Tag,
};

#[cfg(test)]
mod tests;

const VERSION: u8 = 1;

impl Record {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&RecordV1 {
            revision: self.revision.0,
            op: (&self.op).into(),
        })
    }

    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record: RecordV1<'_> = decode(bytes)?;
        Ok(Self {
            revision: Revision(record.revision),
            op: record.op.parse().map_err(corrupt)?,
        })
    }
}

impl Piece {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&PieceV1::from(self))
    }

    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let piece: PieceV1<'_> = decode(bytes)?;
        piece.parse().map_err(corrupt)
    }
}

pub(super) fn encode(what: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(&(VERSION, what)).expect("memory takes all that has a length")
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&VERSION, bytes)) => match postcard::take_from_bytes(bytes) {
            Ok((what, [])) => Ok(what),
            _ => Err(Error::Corrupt("these bytes are something else")),
        },
        _ => Err(Error::Corrupt("written by another version")),
    }
}

fn corrupt(error: Error) -> Error {
    match error {
        Error::Invalid(what) => Error::Corrupt(what),
        other => other,
    }
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    revision: u64,
    #[serde(borrow)]
    op: OpV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum OpV1<'a> {
    #[serde(borrow)]
    CreateBucket(BucketV1<'a>),
    DeleteBucket(&'a str),
    Seal(SealV1<'a>),
    SetMetadata(TextsV1<'a>, &'a [u8]),
    Consume(TextsV1<'a>, u128),
    Delete(TextsV1<'a>),
    DeletePrefix(TextsV1<'a>),
    Rename(TextsV1<'a>, TextsV1<'a>),
    RenamePrefix(TextsV1<'a>, TextsV1<'a>),
    Copy(TextsV1<'a>, TextsV1<'a>, u64, Option<&'a [u8]>),
    AddCopy(ObjectIdV1, ResidencyV1<'a>),
    DropMoved(ObjectIdV1, ResidencyV1<'a>),
    DropCorrupt(ObjectIdV1, ResidencyV1<'a>),
    NodeJoined(u32, u64),
    NodeLost(u32, u64),
    ForgetNode(u32),
    DeletedInS3(TextsV1<'a>, ObjectIdV1),
}

/// A bucket, its owner, and when it was created.
#[derive(Serialize, Deserialize)]
struct BucketV1<'a>(&'a str, &'a str, u64);

/// A bucket, and a key or prefix.
#[derive(Serialize, Deserialize)]
struct TextsV1<'a>(&'a str, &'a str);

#[derive(Serialize, Deserialize)]
struct SealV1<'a> {
    #[serde(borrow)]
    name: TextsV1<'a>,
    sealed: SealedV1<'a>,
    modified_at_ms: u64,
    metadata: &'a [u8],
    expires_at_ms: Option<u64>,
    readers: u32,
    copies: Vec<ResidencyV1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SealedV1<'a> {
    id: ObjectIdV1,
    size: u64,
    #[serde(borrow)]
    etag: EtagV1<'a>,
    is_durable: bool,
}

#[derive(Serialize, Deserialize)]
struct ObjectIdV1 {
    node: u32,
    epoch: u64,
    serial: u64,
}

#[derive(Serialize, Deserialize)]
enum EtagV1<'a> {
    Digest([u8; 16]),
    Text(&'a str),
}

#[derive(Serialize, Deserialize)]
enum ResidencyV1<'a> {
    Dram(u32),
    Disk(u32),
    S3(#[serde(borrow)] TextsV1<'a>, EtagV1<'a>),
}

#[derive(Serialize, Deserialize)]
enum PieceV1<'a> {
    Head {
        revision: u64,
        #[serde(borrow)]
        buckets: Vec<BucketV1<'a>>,
        nodes: Vec<NodeV1>,
        last_epoch: u64,
        n_names: u64,
        n_objects: u64,
    },
    Objects(Vec<(ObjectIdV1, PlacementV1<'a>)>),
    Names {
        bucket: &'a str,
        rows: Vec<RowV1<'a>>,
    },
    Doomed(Vec<(TextsV1<'a>, ObjectIdV1)>),
}

/// Number, epoch, whether it is heard, and its last serial.
#[derive(Serialize, Deserialize)]
struct NodeV1(u32, u64, bool, u64);

#[derive(Serialize, Deserialize)]
enum PlacementV1<'a> {
    #[serde(borrow)]
    At(Vec<ResidencyV1<'a>>),
    LostWithNode(u32, u64),
    LostCorrupt,
}

#[derive(Serialize, Deserialize)]
struct RowV1<'a> {
    key: &'a str,
    generation: u64,
    #[serde(borrow)]
    sealed: SealedV1<'a>,
    modified_at_ms: u64,
    metadata: &'a [u8],
    expires_at_ms: Option<u64>,
    readers: u32,
    consumers: Vec<u128>,
}

impl<'a> From<&'a Op> for OpV1<'a> {
    fn from(op: &'a Op) -> Self {
        match op {
            Op::CreateBucket {
                bucket,
                owner,
                created_at_ms,
            } => Self::CreateBucket(BucketV1(bucket.as_str(), owner.as_str(), *created_at_ms)),
            Op::DeleteBucket(bucket) => Self::DeleteBucket(bucket.as_str()),
            Op::Seal(seal) => Self::Seal(SealV1 {
                name: (&seal.name).into(),
                sealed: (&seal.sealed).into(),
                modified_at_ms: seal.modified_at_ms,
                metadata: &seal.metadata,
                expires_at_ms: seal.expires_at_ms,
                readers: seal.readers,
                copies: seal.copies.iter().map(ResidencyV1::from).collect(),
            }),
            Op::SetMetadata(name, metadata) => Self::SetMetadata(name.into(), metadata),
            Op::Consume(name, consumer) => Self::Consume(name.into(), consumer.0),
            Op::Delete(name) => Self::Delete(name.into()),
            Op::DeletePrefix(folder) => Self::DeletePrefix(folder.into()),
            Op::Rename { from, to } => Self::Rename(from.into(), to.into()),
            Op::RenamePrefix { from, to } => Self::RenamePrefix(from.into(), to.into()),
            Op::Copy {
                from,
                to,
                modified_at_ms,
                metadata,
            } => Self::Copy(from.into(), to.into(), *modified_at_ms, metadata.as_deref()),
            Op::AddCopy(id, copy) => Self::AddCopy((*id).into(), copy.into()),
            Op::DropCopy(id, copy, Cause::Moved) => Self::DropMoved((*id).into(), copy.into()),
            Op::DropCopy(id, copy, Cause::Corrupt) => Self::DropCorrupt((*id).into(), copy.into()),
            Op::NodeJoined(node, epoch) => Self::NodeJoined(node.0, epoch.0),
            Op::NodeLost(node, epoch) => Self::NodeLost(node.0, epoch.0),
            Op::ForgetNode(node) => Self::ForgetNode(node.0),
            Op::DeletedInS3(name, id) => Self::DeletedInS3(name.into(), (*id).into()),
        }
    }
}

impl OpV1<'_> {
    fn parse(self) -> Result<Op, Error> {
        Ok(match self {
            Self::CreateBucket(bucket) => {
                let (bucket, owner, created_at_ms) = bucket.parse()?;
                Op::CreateBucket {
                    bucket,
                    owner,
                    created_at_ms,
                }
            }
            Self::DeleteBucket(bucket) => Op::DeleteBucket(BucketName::new(bucket)?),
            Self::Seal(seal) => Op::Seal(Box::new(Seal {
                name: seal.name.name()?,
                sealed: seal.sealed.parse()?,
                modified_at_ms: seal.modified_at_ms,
                metadata: seal.metadata.into(),
                expires_at_ms: seal.expires_at_ms,
                readers: seal.readers,
                copies: parse_copies(seal.copies)?,
            })),
            Self::SetMetadata(name, metadata) => Op::SetMetadata(name.name()?, metadata.into()),
            Self::Consume(name, consumer) => Op::Consume(name.name()?, ConsumerId(consumer)),
            Self::Delete(name) => Op::Delete(name.name()?),
            Self::DeletePrefix(folder) => Op::DeletePrefix(folder.folder()?),
            Self::Rename(from, to) => Op::Rename {
                from: from.name()?,
                to: to.name()?,
            },
            Self::RenamePrefix(from, to) => Op::RenamePrefix {
                from: from.folder()?,
                to: to.folder()?,
            },
            Self::Copy(from, to, modified_at_ms, metadata) => Op::Copy {
                from: from.name()?,
                to: to.name()?,
                modified_at_ms,
                metadata: metadata.map(Box::from),
            },
            Self::AddCopy(id, copy) => Op::AddCopy(id.into(), copy.parse()?),
            Self::DropMoved(id, copy) => Op::DropCopy(id.into(), copy.parse()?, Cause::Moved),
            Self::DropCorrupt(id, copy) => Op::DropCopy(id.into(), copy.parse()?, Cause::Corrupt),
            Self::NodeJoined(node, epoch) => Op::NodeJoined(NodeId(node), Epoch(epoch)),
            Self::NodeLost(node, epoch) => Op::NodeLost(NodeId(node), Epoch(epoch)),
            Self::ForgetNode(node) => Op::ForgetNode(NodeId(node)),
            Self::DeletedInS3(name, id) => Op::DeletedInS3(name.name()?, id.into()),
        })
    }
}

impl BucketV1<'_> {
    fn parse(self) -> Result<(BucketName, ids::Name, u64), Error> {
        let Self(bucket, owner, created_at_ms) = self;
        let owner = owner.parse();
        let owner = owner.map_err(|_| Error::Corrupt("an owner of a bucket that is no name"))?;
        Ok((BucketName::new(bucket)?, owner, created_at_ms))
    }
}

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
    fn name(&self) -> Result<Name, Error> {
        Ok(Name {
            bucket: BucketName::new(self.0)?,
            key: Key::new(self.1)?,
        })
    }

    fn folder(&self) -> Result<Folder, Error> {
        Ok(Folder {
            bucket: BucketName::new(self.0)?,
            prefix: Prefix::new(self.1)?,
        })
    }
}

impl<'a> From<&'a Sealed> for SealedV1<'a> {
    fn from(sealed: &'a Sealed) -> Self {
        Self {
            id: sealed.id.into(),
            size: sealed.size,
            etag: (&sealed.etag).into(),
            is_durable: sealed.class == Class::Durable,
        }
    }
}

impl SealedV1<'_> {
    fn parse(self) -> Result<Sealed, Error> {
        Ok(Sealed {
            id: self.id.into(),
            size: self.size,
            etag: self.etag.parse()?,
            class: if self.is_durable {
                Class::Durable
            } else {
                Class::Ephemeral
            },
        })
    }
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

impl<'a> From<&'a Etag> for EtagV1<'a> {
    fn from(etag: &'a Etag) -> Self {
        match etag.tag() {
            Tag::Digest(digest) => Self::Digest(*digest),
            Tag::Text(text) => Self::Text(text),
        }
    }
}

impl EtagV1<'_> {
    fn parse(self) -> Result<Etag, Error> {
        match self {
            Self::Digest(digest) => Ok(Etag::digest(digest)),
            Self::Text(text) => Etag::new(text),
        }
    }
}

impl<'a> From<&'a Residency> for ResidencyV1<'a> {
    fn from(copy: &'a Residency) -> Self {
        match copy {
            Residency::Dram(node) => Self::Dram(node.0),
            Residency::Disk(node) => Self::Disk(node.0),
            Residency::S3(in_s3) => Self::S3((&in_s3.name).into(), (&in_s3.etag).into()),
        }
    }
}

impl ResidencyV1<'_> {
    fn parse(self) -> Result<Residency, Error> {
        Ok(match self {
            Self::Dram(node) => Residency::Dram(NodeId(node)),
            Self::Disk(node) => Residency::Disk(NodeId(node)),
            Self::S3(name, etag) => Residency::S3(
                InS3 {
                    name: name.name()?,
                    etag: etag.parse()?,
                }
                .into(),
            ),
        })
    }
}

fn parse_copies(copies: Vec<ResidencyV1<'_>>) -> Result<Few<Residency>, Error> {
    copies.into_iter().map(ResidencyV1::parse).collect()
}

impl<'a> From<&'a Piece> for PieceV1<'a> {
    fn from(piece: &'a Piece) -> Self {
        match piece {
            Piece::Head {
                revision,
                buckets,
                nodes,
                last_epoch,
                n_names,
                n_objects,
            } => Self::Head {
                revision: revision.0,
                buckets: buckets
                    .iter()
                    .map(|(name, bucket)| {
                        BucketV1(name.as_str(), bucket.owner.as_str(), bucket.created_at_ms)
                    })
                    .collect(),
                nodes: nodes
                    .iter()
                    .map(|(id, node)| NodeV1(id.0, node.epoch.0, node.is_heard, node.last_serial))
                    .collect(),
                last_epoch: last_epoch.0,
                n_names: *n_names,
                n_objects: *n_objects,
            },
            Piece::Objects(objects) => {
                let object = |(id, placement): &'a (ObjectId, _)| {
                    ((*id).into(), PlacementV1::from(placement))
                };
                Self::Objects(objects.iter().map(object).collect())
            }
            Piece::Names { bucket, rows } => Self::Names {
                bucket: bucket.as_str(),
                rows: rows
                    .iter()
                    .map(|(key, entry)| RowV1::new(key, entry))
                    .collect(),
            },
            Piece::Doomed(doomed) => {
                let copy = |(name, id): &'a (Name, ObjectId)| (name.into(), (*id).into());
                Self::Doomed(doomed.iter().map(copy).collect())
            }
        }
    }
}

impl PieceV1<'_> {
    fn parse(self) -> Result<Piece, Error> {
        Ok(match self {
            Self::Head {
                revision,
                buckets,
                nodes,
                last_epoch,
                n_names,
                n_objects,
            } => Piece::Head {
                revision: Revision(revision),
                buckets: buckets
                    .into_iter()
                    .map(|bucket| {
                        let (name, owner, created_at_ms) = bucket.parse()?;
                        Ok((name, Bucket::new(owner, created_at_ms)))
                    })
                    .collect::<Result<_, _>>()?,
                nodes: nodes.into_iter().map(NodeV1::parse).collect(),
                last_epoch: Epoch(last_epoch),
                n_names,
                n_objects,
            },
            Self::Objects(objects) => {
                let object = |(id, placement): (ObjectIdV1, PlacementV1<'_>)| {
                    Ok((id.into(), placement.parse()?))
                };
                Piece::Objects(objects.into_iter().map(object).collect::<Result<_, _>>()?)
            }
            Self::Names { bucket, rows } => Piece::Names {
                bucket: BucketName::new(bucket)?,
                rows: rows
                    .into_iter()
                    .map(RowV1::parse)
                    .collect::<Result<_, _>>()?,
            },
            Self::Doomed(doomed) => {
                let copy = |(name, id): (TextsV1<'_>, ObjectIdV1)| Ok((name.name()?, id.into()));
                Piece::Doomed(doomed.into_iter().map(copy).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl NodeV1 {
    fn parse(self) -> (NodeId, Node) {
        let Self(id, epoch, is_heard, last_serial) = self;
        let node = Node {
            epoch: Epoch(epoch),
            is_heard,
            last_serial,
        };
        (NodeId(id), node)
    }
}

impl<'a> From<&'a Placement> for PlacementV1<'a> {
    fn from(placement: &'a Placement) -> Self {
        match placement {
            Placement::At(copies) => Self::At(copies.iter().map(ResidencyV1::from).collect()),
            Placement::Lost(Loss::Node { node, epoch }) => Self::LostWithNode(node.0, epoch.0),
            Placement::Lost(Loss::Corrupt) => Self::LostCorrupt,
        }
    }
}

impl PlacementV1<'_> {
    fn parse(self) -> Result<Placement, Error> {
        Ok(match self {
            Self::At(copies) => Placement::At(parse_copies(copies)?),
            Self::LostWithNode(node, epoch) => Placement::Lost(Loss::Node {
                node: NodeId(node),
                epoch: Epoch(epoch),
            }),
            Self::LostCorrupt => Placement::Lost(Loss::Corrupt),
        })
    }
}

impl<'a> RowV1<'a> {
    fn new(key: &'a Key, entry: &'a Entry) -> Self {
        Self {
            key: key.as_str(),
            generation: entry.generation.0,
            sealed: (&entry.sealed).into(),
            modified_at_ms: entry.modified_at_ms,
            metadata: &entry.metadata,
            expires_at_ms: entry.hints.expires_at_ms,
            readers: entry.hints.readers,
            consumers: entry
                .hints
                .consumers
                .iter()
                .map(|consumer| consumer.0)
                .collect(),
        }
    }

    fn parse(self) -> Result<(Key, Arc<Entry>), Error> {
        let consumers: Box<[_]> = self.consumers.into_iter().map(ConsumerId).collect();
        if !consumers.is_sorted_by(|a, b| a < b) {
            return Err(Error::Corrupt("consumers that are not in order"));
        }
        let entry = Entry {
            generation: Revision(self.generation),
            modified_at_ms: self.modified_at_ms,
            sealed: self.sealed.parse()?,
            metadata: self.metadata.into(),
            hints: Hints {
                expires_at_ms: self.expires_at_ms,
                readers: self.readers,
                consumers,
            },
        };
        Ok((Key::new(self.key)?, entry.into()))
    }
}
