//! Objects whoever has put them there: S3 says what a name stands for.

use geds_core::index::{BucketName, Etag, Key, Name};
use geds_core::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions};
use store::s3::{List, Page};

use crate::paths::is_own;
use crate::{ID, Persist, Tier2, etag, failed};

/// What is there under a name.
#[derive(Clone, Debug)]
pub struct Seen {
    pub etag: Etag,
    pub size: u64,
    /// Since 1970.
    pub modified_at_ms: u64,
    /// As their writer has said them.
    pub attributes: Attributes,
}

impl Tier2 {
    /// # Errors
    /// `Invalid`: no request can have this key; what S3 says.
    pub async fn look(&self, name: &Name) -> Result<Option<Seen>> {
        let path = own_path(&name.key)?;
        let head = GetOptions::new().with_head(true);
        let found = match self.bucket(name)?.objects().get_opts(&path, head).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("look into S3", error)),
        };
        let said = found.attributes.iter().filter(|(attribute, _)| {
            !matches!(attribute, Attribute::Metadata(name) if name.eq_ignore_ascii_case(ID))
        });
        let modified_ms = found.meta.last_modified.timestamp_millis();
        Ok(Some(Seen {
            etag: etag(found.meta.e_tag)?,
            size: found.meta.size,
            modified_at_ms: u64::try_from(modified_ms).unwrap_or(0),
            attributes: said
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }))
    }

    /// # Errors
    /// What S3 says.
    pub async fn list(&self, bucket: &BucketName, list: &List<'_>) -> Result<Page> {
        let listed = self.named(bucket)?.list(list).await;
        listed.map_err(|error| failed("list in S3", error))
    }

    /// Takes away what has this etag. If this fails with `Unavailable`, it may happen yet.
    ///
    /// # Errors
    /// `Conflict`: it has another one; `NotFound`; what else S3 says.
    pub async fn delete_if(&self, name: &Name, etag: &Etag) -> Result<()> {
        let (bucket, path) = (self.bucket(name)?, own_path(&name.key)?);
        let deleted = bucket.delete_if(&path, &etag.to_string()).await;
        deleted.map_err(|error| failed("delete in S3", error))
    }

    /// Whether S3 can be told all that is to be said of an object, and has its key.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_said(&self, what: &Persist) -> Result<()> {
        own_path(&what.name.key)?;
        // One of ours is added.
        if self.attributes(what).len() == what.attributes.len() + 1 {
            return Ok(());
        }
        let what = "S3 takes 2,000 bytes of metadata at most, which headers can say";
        Err(Error::new(Kind::Invalid, what))
    }
}

fn own_path(key: &Key) -> Result<Path> {
    let text = key.as_str();
    let path = Path::parse(text).ok().filter(|_| is_own(text));
    path.ok_or_else(|| {
        let what = format!("`{text}` is a key that cannot be asked for in S3 from here");
        Error::new(Kind::Invalid, what)
    })
}
