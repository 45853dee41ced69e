//! What may be asked of the index, and what it says.

use std::sync::Arc;

use ids::Epoch;

use super::few::Few;
use super::names::{
    BucketName, ConsumerId, Etag, Folder, Key, Name, NodeId, ObjectId, Prefix, Revision,
};
use super::object::{Entry, Placement, Residency, Sealed};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub by: By,
    pub when: Precondition,
    pub op: Op,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever owns the index, for itself.
    Owner,
    /// A node, for itself or for its clients. Only its present incarnation is heard.
    Node(NodeId, Epoch),
}

/// What must hold of the name that is written: the target of a rename or copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// There is no such object. Of a folder: no object would be replaced.
    Absent,
    Etag(Etag),
    Generation(Revision),
}

/// A change of the index, all or nothing. Data is addressed by [`ObjectId`], which stands for one generation of one object: who moves
/// data need not know that it was renamed meanwhile, and hears [`Error::NoObject`] if it was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    CreateBucket {
        bucket: BucketName,
        owner: ids::Name,
        /// Since 1970.
        created_at_ms: u64,
    },
    /// Only an empty one.
    DeleteBucket(BucketName),
    /// Gives a name to new data.
    Seal(Box<Seal>),
    SetMetadata(Name, Box<[u8]>),
    /// This consumer has read the object to its end. Saying it again changes nothing.
    Consume(Name, ConsumerId),
    Delete(Name),
    DeletePrefix(Folder),
    Rename {
        from: Name,
        to: Name,
    },
    RenamePrefix {
        from: Folder,
        to: Folder,
    },
    /// One more name for the same data, with its own metadata if there is some, and consumers of its own. A copy onto itself is a new
    /// generation.
    Copy {
        from: Name,
        to: Name,
        modified_at_ms: u64,
        /// `None`: those of the other name.
        metadata: Option<Box<[u8]>>,
    },
    /// Only the node itself says what it holds. One in S3: it is persisted.
    AddCopy(ObjectId, Residency),
    DropCopy(ObjectId, Residency, Cause),
    /// A node, or a new incarnation of it, which has nothing in its memory. Its epoch is higher than [`Index::last_epoch`].
    ///
    /// [`Index::last_epoch`]: super::Index::last_epoch
    NodeJoined(NodeId, Epoch),
    /// That incarnation is not heard any more, and what it held is gone, until a later one finds something on its disk.
    NodeLost(NodeId, Epoch),
    /// It is not expected back, and makes room for another. Only one that is not heard, so no copy is there. What was lost with it still
    /// says so.
    ForgetNode(NodeId),
    /// What is [doomed] is not there any more.
    ///
    /// [doomed]: super::Index::doomed
    DeletedInS3(Name, ObjectId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub name: Name,
    pub sealed: Sealed,
    pub modified_at_ms: u64,
    pub metadata: Box<[u8]>,
    pub expires_at_ms: Option<u64>,
    /// How many consumers are expected; 0: unknown.
    pub readers: u32,
    /// At least one.
    pub copies: Few<Residency>,
}

/// Why a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is another: the last one is not dropped.
    Moved,
    /// It is damaged.
    Corrupt,
}

/// An operation that was allowed, and when: what is logged and replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub revision: Revision,
    pub op: Op,
}

/// What a record has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: Revision,
    pub changes: Arc<[Change]>,
}

/// One consequence of a record, for those who watch, and for who owns the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    BucketCreated {
        bucket: BucketName,
        owner: ids::Name,
        created_at_ms: u64,
    },
    BucketDeleted(BucketName),
    /// A name says something else now. It may be told twice of one name in one revision; the last counts.
    Named {
        name: Name,
        before: Option<Arc<Entry>>,
        after: Option<Arc<Entry>>,
    },
    /// The data behind a name has moved, is lost, or is found.
    Placed {
        name: Name,
        id: ObjectId,
        placement: Placement,
    },
    /// Nobody names this data any more: its copies are to be freed. It is told once of every object.
    Released {
        id: ObjectId,
        copies: Few<Residency>,
    },
}

/// Of which names changes are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of all, and of data that was released.
    All,
    Folder(Folder),
    Name(Name),
}

impl Scope {
    /// `None`: all of them.
    pub(crate) fn bucket(&self) -> Option<&BucketName> {
        match self {
            Self::All => None,
            Self::Folder(folder) => Some(&folder.bucket),
            Self::Name(name) => Some(&name.bucket),
        }
    }

    pub(crate) fn holds(&self, change: &Change) -> bool {
        let (bucket, key) = match change {
            Change::Named { name, .. } | Change::Placed { name, .. } => {
                (Some(&name.bucket), Some(&name.key))
            }
            Change::BucketCreated { bucket, .. } | Change::BucketDeleted(bucket) => {
                (Some(bucket), None)
            }
            Change::Released { .. } => (None, None),
        };
        let begins = |key: &Key, prefix: &Prefix| key.as_str().starts_with(prefix.as_str());
        match self {
            Self::All => true,
            Self::Folder(folder) => {
                bucket == Some(&folder.bucket) && key.is_none_or(|key| begins(key, &folder.prefix))
            }
            Self::Name(name) => {
                bucket == Some(&name.bucket) && key.is_none_or(|key| *key == name.key)
            }
        }
    }
}

/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(&'static str),
    #[error("there is no bucket `{0}`")]
    NoBucket(BucketName),
    #[error("there is no object `{}` in `{}`", .0.key, .0.bucket)]
    NoName(Name),
    /// It was replaced, deleted, or never sealed.
    #[error("no name stands for {0:?}")]
    NoObject(ObjectId),
    #[error("there is a bucket `{0}`")]
    BucketExists(BucketName),
    #[error("bucket `{0}` is not empty")]
    NotEmpty(BucketName),
    /// Read again, decide again.
    #[error("`{}` in `{}` is not as the precondition says", .0.key, .0.bucket)]
    Precondition(Name),
    /// It was sealed before, or is to have a higher serial.
    #[error("{0:?} does not come after all that its node has sealed")]
    Sealed(ObjectId),
    #[error("it is the last copy")]
    LastCopy,
    /// The node is to join again, with a new epoch.
    #[error("node {} is not heard under epoch {epoch}", .node.0)]
    Fenced { node: NodeId, epoch: Epoch },
    #[error("at most {max} {what}")]
    Limit { what: &'static str, max: usize },
    /// Until some of its names are deleted.
    #[error("what `{owner}` has may be {max} bytes at most")]
    OwnerFull { owner: ids::Name, max: u64 },
    /// Pages or changes after that revision cannot be told any more: list again.
    #[error("only what happened after revision {oldest} is known")]
    Compacted { oldest: Revision },
    /// A record or snapshot does not belong to this index, or is not one.
    #[error("{0}")]
    Corrupt(&'static str),
}
