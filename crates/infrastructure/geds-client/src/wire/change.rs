//! Changes of the index. Each is answered when it is durable.

use geds_core::Result;
use geds_core::index::{BucketName, ConsumerId, Folder, Name, Precondition};
use serde::{Deserialize, Serialize};

use super::shapes::{TextsV1, WhenV1};
use super::{Op, check_metadata, decode, encode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    CreateBucket(BucketName),
    DeleteBucket(BucketName),
    Copy {
        from: Name,
        to: Name,
        /// Of the copy, if not that of the original.
        metadata: Option<Box<[u8]>>,
        when: Precondition,
    },
    Rename {
        from: Name,
        to: Name,
        when: Precondition,
    },
    RenamePrefix {
        from: Folder,
        to: Folder,
        when: Precondition,
    },
    Delete {
        name: Name,
        when: Precondition,
    },
    DeletePrefix(Folder),
    SetMetadata(Name, Box<[u8]>),
    Consume(Name, ConsumerId),
}

#[derive(Serialize, Deserialize)]
struct CopyV1<'a> {
    #[serde(borrow)]
    from: TextsV1<'a>,
    to: TextsV1<'a>,
    metadata: Option<&'a [u8]>,
    when: WhenV1<'a>,
}

/// From, to, and when.
#[derive(Serialize, Deserialize)]
struct RenameV1<'a>(#[serde(borrow)] TextsV1<'a>, TextsV1<'a>, WhenV1<'a>);

#[derive(Serialize, Deserialize)]
struct DeleteV1<'a>(#[serde(borrow)] TextsV1<'a>, WhenV1<'a>);

#[derive(Serialize, Deserialize)]
struct SetMetadataV1<'a>(#[serde(borrow)] TextsV1<'a>, &'a [u8]);

#[derive(Serialize, Deserialize)]
struct ConsumeV1<'a>(#[serde(borrow)] TextsV1<'a>, u128);

impl Change {
    pub(super) fn encode(&self) -> (Op, Vec<u8>) {
        match self {
            Self::CreateBucket(bucket) => (Op::CreateBucket, encode(&bucket.as_str())),
            Self::DeleteBucket(bucket) => (Op::DeleteBucket, encode(&bucket.as_str())),
            Self::Copy {
                from,
                to,
                metadata,
                when,
            } => {
                let copy = CopyV1 {
                    from: from.into(),
                    to: to.into(),
                    metadata: metadata.as_deref(),
                    when: when.into(),
                };
                (Op::Copy, encode(&copy))
            }
            Self::Rename { from, to, when } => {
                let rename = RenameV1(from.into(), to.into(), when.into());
                (Op::Rename, encode(&rename))
            }
            Self::RenamePrefix { from, to, when } => {
                let rename = RenameV1(from.into(), to.into(), when.into());
                (Op::RenamePrefix, encode(&rename))
            }
            Self::Delete { name, when } => {
                (Op::Delete, encode(&DeleteV1(name.into(), when.into())))
            }
            Self::DeletePrefix(folder) => (Op::DeletePrefix, encode(&TextsV1::from(folder))),
            Self::SetMetadata(name, metadata) => {
                let set = SetMetadataV1(name.into(), metadata);
                (Op::SetMetadata, encode(&set))
            }
            Self::Consume(name, consumer) => {
                (Op::Consume, encode(&ConsumeV1(name.into(), consumer.0)))
            }
        }
    }

    pub(super) fn parse(op: Op, body: &[u8]) -> Result<Self> {
        Ok(match op {
            Op::CreateBucket => Self::CreateBucket(BucketName::new(decode(body)?)?),
            Op::DeleteBucket => Self::DeleteBucket(BucketName::new(decode(body)?)?),
            Op::Copy => {
                let copy: CopyV1<'_> = decode(body)?;
                check_metadata(copy.metadata.unwrap_or_default())?;
                Self::Copy {
                    from: copy.from.name()?,
                    to: copy.to.name()?,
                    metadata: copy.metadata.map(Box::from),
                    when: copy.when.parse()?,
                }
            }
            Op::Rename => {
                let RenameV1(from, to, when) = decode(body)?;
                Self::Rename {
                    from: from.name()?,
                    to: to.name()?,
                    when: when.parse()?,
                }
            }
            Op::RenamePrefix => {
                let RenameV1(from, to, when) = decode(body)?;
                Self::RenamePrefix {
                    from: from.folder()?,
                    to: to.folder()?,
                    when: when.parse()?,
                }
            }
            Op::Delete => {
                let DeleteV1(name, when) = decode(body)?;
                Self::Delete {
                    name: name.name()?,
                    when: when.parse()?,
                }
            }
            Op::DeletePrefix => Self::DeletePrefix(decode::<TextsV1<'_>>(body)?.folder()?),
            Op::SetMetadata => {
                let SetMetadataV1(name, metadata) = decode(body)?;
                check_metadata(metadata)?;
                Self::SetMetadata(name.name()?, metadata.into())
            }
            _ => {
                let ConsumeV1(name, consumer) = decode(body)?;
                Self::Consume(name.name()?, ConsumerId(consumer))
            }
        })
    }
}
