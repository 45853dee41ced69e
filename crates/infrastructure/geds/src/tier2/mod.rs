//! Tier 2: a store that speaks S3 and outlives the node. An object there is a plain one: under the same bucket and key, with its attributes,
//! for any other tool to read.
//!
//! ```text
//!  persist ──▶ pieces, where they lie ──▶ one PUT, or parts of an upload ──▶ its condition ──▶ InS3: name and etag
//!  read ──▶ GET of a range, If-Match ──▶ pieces, as many bytes as asked for, or an error
//! ```
//!
//! - What is written is under its key at once and whole, or not at all, and only if what is there is as the caller says. Whether an answer that was
//!   lost had been "yes" is found out: every object says which one it is ([`ID`]).
//! - What is read is of the etag that was written, or nothing: whoever overwrites it is noticed.
//! - Keys that S3 over HTTP cannot have are mapped ([`keys`]).
//! - Requests are sent again where that is safe, a bounded number of times ([`store::s3::Limits`]). Nothing is tried again here.
//!
//! [`store::s3::Limits`]: ::store::s3::Limits

pub mod keys;
mod persisting;
mod reading;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use object_store::{Attribute, Attributes, GetOptions, ObjectStoreExt as _};

pub use self::persisting::Persist;
use crate::core::index::{Etag, Name, NodeId, ObjectId};
use crate::error::{Error, Kind, Result};

/// The user metadata that says which object it is.
pub const ID: &str = "geds-object";
/// The user metadata that says, in hexadecimal digits or base64, which key a mapped one is.
pub const KEY: &str = "geds-key";

/// The buckets of an endpoint.
#[derive(Clone, Debug)]
pub struct Tier2 {
    s3: ::store::S3,
    home: Arc<str>,
}

/// What is in S3 under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub etag: Etag,
    pub size: u64,
    /// Which one it is, if it is of this store. `None`: somebody else has put it there.
    pub id: Option<ObjectId>,
}

impl Tier2 {
    /// `home` tells objects of one store from those of all others that use these buckets.
    #[must_use]
    pub fn new(s3: ::store::S3, home: &str) -> Self {
        let home = home.into();
        Self { s3, home }
    }

    /// What is there now.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn find(&self, name: &Name) -> Result<Option<Found>> {
        let bucket = self.bucket(name)?;
        let head = GetOptions::new().with_head(true);
        let path = keys::path(&name.key);
        match bucket.objects().get_opts(&path, head).await {
            Ok(found) => Ok(Some(Found {
                etag: etag(found.meta.e_tag)?,
                size: found.meta.size,
                id: self.id_in(&found.attributes),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look into S3", error)),
        }
    }

    /// Takes an object away, if it is still there. S3 cannot be told to delete only that: what somebody else puts there in the same moment may go
    /// with it.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn delete(&self, name: &Name, id: ObjectId) -> Result<()> {
        let found = self.find(name).await?;
        if found.is_none_or(|found| found.id != Some(id)) {
            return Ok(());
        }
        let bucket = self.bucket(name)?;
        match bucket.objects().delete(&keys::path(&name.key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete in S3", error)),
        }
    }

    /// As metadata says it.
    fn text_of(&self, id: ObjectId) -> String {
        let ObjectId {
            node,
            epoch,
            serial,
        } = id;
        format!("{}-{:08x}{:08x}{serial:016x}", self.home, node.0, epoch.0)
    }

    fn id_in(&self, attributes: &Attributes) -> Option<ObjectId> {
        let said = attributes.get(&Attribute::Metadata(ID.into()))?;
        let digits = said.strip_prefix(&*self.home)?.strip_prefix('-')?;
        let digits = digits.is_ascii().then_some(digits)?;
        let number = |range| u64::from_str_radix(digits.get(range)?, 16).ok();
        let id = ObjectId {
            node: NodeId(u32::try_from(number(0..8)?).ok()?),
            epoch: ids::Epoch(number(8..16)?),
            serial: number(16..32)?,
        };
        (self.text_of(id) == **said).then_some(id)
    }

    pub(crate) fn bucket(&self, name: &Name) -> Result<::store::s3::Bucket> {
        let bucket = self.s3.bucket(name.bucket.as_str());
        bucket.map_err(|error| Error::caused(Kind::Invalid, "name a bucket of S3", error))
    }
}

fn failed(doing: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let kind = match &error {
        E::NotFound { .. } => Kind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => Kind::Conflict,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Kind::Denied,
        E::NotSupported { .. } | E::NotImplemented { .. } | E::InvalidPath { .. } => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Error::caused(kind, doing, error)
}

fn etag(told: Option<String>) -> Result<Etag> {
    let missing = || Error::new(Kind::Unavailable, "S3 tells no etag");
    Ok(Etag::new(told.ok_or_else(missing)?.trim_matches('"'))?)
}
