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
//! - What nobody waits for is done when nobody else wants the processor ([`Background`]), and with rests, so that nobody feels it ([`pace`]).
//! - Requests are sent again where that is safe, a bounded number of times ([`store::s3::Limits`]). Nothing is tried again here.
//!
//! [`store::s3::Limits`]: store::s3::Limits

#![forbid(unsafe_code)]

mod anybody;
mod background;
pub mod keys;
pub mod pace;
pub mod paths;
mod persisting;
mod reading;
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use geds_core::index::{BucketName, Etag, KEY_BYTES_MAX, Key, Name, NodeId, ObjectId};
use geds_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStoreExt as _, PutMode, PutMultipartOptions,
    PutOptions, PutResult, UpdateVersion,
};

pub use self::anybody::Seen;
pub use self::background::Background;
pub use self::persisting::Persist;
use crate::paths::RESERVED;

/// The user metadata that says which object it is.
pub const ID: &str = "geds-object";
/// The user metadata that says, in hexadecimal digits or base64, which key a mapped one is.
pub const KEY: &str = "geds-key";

/// The buckets of an endpoint.
#[derive(Clone, Debug)]
pub struct Tier2 {
    s3: store::S3,
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
    pub fn new(s3: store::S3, home: &str) -> Self {
        let home = home.into();
        Self { s3, home }
    }

    /// The same, over connections of its own.
    fn apart(&self) -> Self {
        Self {
            s3: self.s3.apart(),
            home: Arc::clone(&self.home),
        }
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
                id: self.id_in(&found.attributes, name),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look into S3", error)),
        }
    }

    /// A second key for an object of this store, which no other object has.
    ///
    /// # Errors
    /// None; it is a key.
    pub fn beside(&self, name: &Name, id: ObjectId) -> Result<Name> {
        let mark = format!(
            ".geds-{}-{:x}-{:x}-{:x}",
            self.home, id.node.0, id.epoch.0, id.serial
        );
        let key = name.key.as_str();
        let mut len = key.len().min(KEY_BYTES_MAX - mark.len());
        while !key.is_char_boundary(len) {
            len -= 1;
        }
        Ok(Name {
            bucket: name.bucket.clone(),
            key: Key::new(&format!("{}{mark}", &key[..len]))?,
        })
    }

    /// Finds out whether S3 knows conditions of what is written to a bucket. If it does not, what others have put there would be replaced.
    ///
    /// # Errors
    /// `Invalid`: it does not; else what S3 says.
    pub async fn check(&self, bucket: &BucketName) -> Result<()> {
        // Nobody else has this key: whoever takes his own away, now or before the last restart, would make a condition hold here.
        let key = format!("{RESERVED}%probe-{}-{:016x}", self.home, rt::random_u64());
        let path = Path::parse(&key).expect("a path");
        let name = Name {
            bucket: bucket.clone(),
            key: Key::new(&key)?,
        };
        let there = self.bucket(&name)?;
        let is_known = knows_conditions(&there, &path).await;
        there.objects().delete(&path).await.ok();
        if is_known.map_err(|error| failed("ask S3 for conditional writes", error))? {
            return Ok(());
        }
        let what = format!(
            "the store of `{bucket}` does not know conditional writes (If-Match, If-None-Match), without which nothing is put there"
        );
        Err(Error::new(Kind::Invalid, what))
    }

    /// Takes away what is there, if there is something: look what it is before. If this fails, it may happen yet.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn delete(&self, name: &Name) -> Result<()> {
        let bucket = self.bucket(name)?;
        match bucket.delete(&keys::path(&name.key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete in S3", error)),
        }
    }

    /// As metadata says it. Where it is said belongs to it: a copy of the object that somebody else has made is not ours.
    fn text_of(&self, id: ObjectId, name: &Name) -> String {
        let place = format!("{}/{}", name.bucket, name.key);
        let place = blake3::hash(place.as_bytes()).to_hex();
        let ObjectId {
            node,
            epoch,
            serial,
        } = id;
        let home = &self.home;
        format!(
            "{home}-{:08x}{:08x}{serial:016x}-{}",
            node.0,
            epoch.0,
            &place[..16]
        )
    }

    fn id_in(&self, attributes: &Attributes, name: &Name) -> Option<ObjectId> {
        let said = attributes.get(&Attribute::Metadata(ID.into()))?;
        let digits = said.strip_prefix(&*self.home)?.strip_prefix('-')?;
        let number = |range| u64::from_str_radix(digits.get(range)?, 16).ok();
        let id = ObjectId {
            node: NodeId(u32::try_from(number(0..8)?).ok()?),
            epoch: ids::Epoch(number(8..16)?),
            serial: number(16..32)?,
        };
        (self.text_of(id, name) == **said).then_some(id)
    }

    pub fn bucket(&self, name: &Name) -> Result<store::s3::Bucket> {
        self.named(&name.bucket)
    }

    fn named(&self, name: &BucketName) -> Result<store::s3::Bucket> {
        let bucket = self.s3.bucket(name.as_str());
        bucket.map_err(|error| Error::caused(Kind::Invalid, "name a bucket of S3", error))
    }
}

/// Whether conditions are minded that do not hold, of what is at `path`, where nobody else puts something.
async fn knows_conditions(there: &store::s3::Bucket, path: &Path) -> object_store::Result<bool> {
    let objects = there.objects();
    objects.put(path, "probe".into()).await?;
    let other = UpdateVersion {
        e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
        version: None,
    };
    let mut is_known = true;
    for mode in [PutMode::Create, PutMode::Update(other)] {
        let options = PutOptions::from(mode.clone());
        let put = objects.put_opts(path, "probe".into(), options).await;
        is_known &= is_refused(put)?;
        let upload = there.upload(path, PutMultipartOptions::default()).await?;
        let completed = async {
            let part = upload.put(0, "probe".into()).await?;
            is_refused(upload.complete(vec![part], &mode).await)
        };
        let completed = completed.await;
        // It is over already if it was not refused.
        upload.abort().await.ok();
        is_known &= completed?;
    }
    Ok(is_known)
}

/// Whether a condition that did not hold was minded.
fn is_refused(put: object_store::Result<PutResult>) -> object_store::Result<bool> {
    use object_store::Error as E;
    match put {
        Ok(_) => Ok(false),
        Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Ok(true),
        Err(error) => Err(error),
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
