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
mod tests;

pub use self::persisting::Persist;
use crate::core::index::{InS3, Name};
use crate::error::{Error, Kind, Result};

/// The user metadata that says which object it is.
pub const ID: &str = "geds-object";
/// The user metadata that says, in hexadecimal digits or base64, which key a mapped one is.
pub const KEY: &str = "geds-key";

/// The buckets of an endpoint.
#[derive(Clone, Debug)]
pub struct Tier2 {
    s3: ::store::S3,
}

impl Tier2 {
    #[must_use]
    pub fn new(s3: ::store::S3) -> Self {
        Self { s3 }
    }

    /// Also if it is not there.
    ///
    /// # Errors
    /// What S3 says.
    pub async fn delete(&self, name: &Name) -> Result<()> {
        use object_store::ObjectStoreExt as _;
        let bucket = self.bucket(name)?;
        match bucket.objects().delete(&keys::path(&name.key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete in S3", error)),
        }
    }

    fn bucket(&self, name: &Name) -> Result<::store::s3::Bucket> {
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

fn etag(name: &Name, etag: Option<String>) -> Result<InS3> {
    let missing = || Error::new(Kind::Unavailable, "S3 tells no etag");
    let etag = crate::core::index::Etag::new(etag.ok_or_else(missing)?.trim_matches('"'));
    Ok(InS3 {
        name: name.clone(),
        etag: etag?,
    })
}
