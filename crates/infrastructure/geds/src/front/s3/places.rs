//! Where things are: what S3 calls something, and what the store does.
//!
//! The store's own bucket has, for a bucket `B` of a user:
//!
//! ```text
//!  tags/B                 its tags
//!  uploads/B/ID           an upload
//!  uploads/B/ID/00001     a part of it, with its content
//! ```

use std::fmt::Write as _;

use ids::Name as Tenant;
use s3::backend::Error;
use s3::names::{PartNumber, UploadId};

use crate::error::{self, Kind};
use crate::index::{BucketName, Folder, Key, Name, Prefix};
use crate::store;

/// S3 does not allow two dots in a row.
const BUCKET: &str = "geds..s3";

const ID_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Places {
    pub bucket: BucketName,
    pub owner: Tenant,
}

/// A tenant as S3's users have it: it is called alike in the store. What comes from a configuration of users passes here.
///
/// # Errors
/// `Invalid`: it is no name of the store's, or that of the store itself.
pub fn tenant(text: &str) -> error::Result<s3::names::Tenant> {
    store::tenant(text).map(|tenant| to_s3(&tenant))
}

/// The nodes of the site, as users: of no tenant.
pub(crate) fn peer() -> s3::names::Tenant {
    to_s3(&store::peer())
}

pub(super) fn to_s3(tenant: &Tenant) -> s3::names::Tenant {
    s3::names::Tenant::new(tenant.as_str()).expect("S3 allows more than the store")
}

pub(super) fn from_s3(tenant: &s3::names::Tenant) -> Result<Tenant, Error> {
    Ok(store::tenant(tenant.as_str())?)
}

/// A bucket of S3 may be one that the store cannot have.
pub(super) fn bucket(name: &s3::names::BucketName) -> Result<BucketName, Error> {
    BucketName::new(name.as_str()).map_err(|_| Error::NoSuchBucket)
}

pub(super) fn place(name: &s3::names::Name) -> Result<Name, Error> {
    Ok(Name {
        bucket: bucket(&name.bucket)?,
        key: key(name.key.as_str()),
    })
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text).expect("it is as long as a key may be")
}

pub(super) fn new_id() -> UploadId {
    let mut random = [0; ID_BYTES];
    rt::fill_random(&mut random);
    let mut text = String::with_capacity(2 * ID_BYTES);
    for byte in random {
        write!(text, "{byte:02x}").expect("memory takes all");
    }
    UploadId::new(&text).expect("digits are graphic")
}

/// Others have never been given to anybody. What is no id may look like a part of a place.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            bucket: BucketName::new(BUCKET).expect("it is one"),
            owner: store::OWN.parse().expect("it is one"),
        }
    }

    pub(super) fn tags(&self, of: &BucketName) -> Name {
        self.name(&format!("tags/{of}"))
    }

    pub(super) fn all_tags(&self) -> Folder {
        self.folder("tags/")
    }

    /// `id` is one.
    pub(super) fn upload(&self, of: &BucketName, id: &UploadId) -> Name {
        self.name(&format!("uploads/{of}/{id}"))
    }

    pub(super) fn part(&self, of: &BucketName, id: &UploadId, number: PartNumber) -> Name {
        self.name(&format!("uploads/{of}/{id}/{:05}", number.get()))
    }

    pub(super) fn parts(&self, of: &BucketName, id: &UploadId) -> Folder {
        self.folder(&format!("uploads/{of}/{id}/"))
    }

    /// An upload and its parts: all ids have the same length.
    pub(super) fn whole_upload(&self, of: &BucketName, id: &UploadId) -> Folder {
        self.folder(&format!("uploads/{of}/{id}"))
    }

    pub(super) fn uploads(&self, of: &BucketName) -> Folder {
        self.folder(&format!("uploads/{of}/"))
    }

    pub(super) fn all_uploads(&self) -> Folder {
        self.folder("uploads/")
    }

    /// `None`: it is the place of something else.
    pub(super) fn parse_upload(key: &Key) -> Option<(BucketName, UploadId)> {
        let (bucket, id) = key.as_str().strip_prefix("uploads/")?.split_once('/')?;
        let id = UploadId::new(id).filter(|id| is_id(id.as_str()))?;
        Some((BucketName::new(bucket).ok()?, id))
    }

    pub(super) fn parse_tags(key: &Key) -> Option<BucketName> {
        BucketName::new(key.as_str().strip_prefix("tags/")?).ok()
    }

    /// The last part of the place of a part.
    pub(super) fn parse_part(key: &Key) -> Option<PartNumber> {
        let (_, number) = key.as_str().rsplit_once('/')?;
        PartNumber::new(number.parse().ok()?)
    }

    fn name(&self, text: &str) -> Name {
        Name {
            bucket: self.bucket.clone(),
            key: key(text),
        }
    }

    fn folder(&self, text: &str) -> Folder {
        Folder {
            bucket: self.bucket.clone(),
            prefix: Prefix::new(text).expect("it is shorter than a key"),
        }
    }
}

impl super::S3 {
    pub(super) fn make_own_bucket(&self) -> error::Result<()> {
        let Places { bucket, owner } = &self.places;
        match self.store.create_bucket(owner, bucket) {
            Ok(ack) => ack.wait(),
            Err(error) if error.kind == Kind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }
}
