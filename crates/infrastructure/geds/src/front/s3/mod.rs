//! The S3 face: objects of the store as objects of S3, and the other way round.
//!
//! ```text
//!  put ──▶ Writer, piece by piece ──▶ body's end ──▶ the disk ──▶ committer's thread: precondition and seal in one step ──▶ Ack ──▶ answer
//!  open ──▶ Reader ──▶ its pieces: as Bytes, without a copy, if they are in memory
//! ```
//!
//! - Every object is seen, whoever has written it. What S3 knows beside the content is in the metadata of its name ([`meta`]); a native user's
//!   metadata is kept within, and [`native_metadata`] tells it.
//! - Uploads, their parts and the tags of buckets are in a bucket of the store itself, whose name S3 does not allow ([`places`]). They belong to one
//!   incarnation of their bucket, and are let go with it, or when the next face begins. They are durable, and the memory is the tenant's.
//! - An answer means what its class says, and that is durable if the client did not ask for something else; that there is such a name is durable
//!   by then in any case.
//! - Buckets whose authority is another S3 are a matter of [`through`].
//! - A node that does not know whether it knows what names stand for answers `Unavailable` ([`Store::live`]).
//! - Nothing here waits for a disk on the thread of the caller.
//! - [`Store`](crate::store::Store)'s limits are those of S3's clients too, save one: 10,000 parts need [`METADATA_BYTES_MAX`].

mod buckets;
mod commits;
mod content;
mod left;
mod list;
pub(crate) mod meta;
mod objects;
mod places;
#[cfg(test)]
pub(super) mod tests;
mod through;
mod uploads;

use std::sync::Arc;

use async_trait::async_trait;
use s3::backend::{
    Backend, Complete, Content, Deletion, Error, ListPage, ListQuery, NewUpload, Put,
};
use s3::body::Body;
use s3::names::{BucketName, Etag, Name, PartNumber, Tenant, Upload};
use s3::object::{Bucket, Object, Part, Tags, Uploading};
use tokio::sync::Semaphore;

use self::commits::Commits;
pub use self::meta::native_metadata;
pub(crate) use self::meta::with_native_metadata;
use self::places::Places;
pub(crate) use self::places::peer;
pub use self::places::tenant;
use crate::error::{self, Kind};
use crate::store::Store;

/// The metadata of an object of 10,000 parts has less. See [`Limits::metadata_bytes_max`](crate::index::Limits::metadata_bytes_max).
pub const METADATA_BYTES_MAX: usize = 1 << 20;

/// So many wait for memory at once on threads of the runtime. More wait for one of these.
const WAITING_MAX: usize = 32;

/// The face. There may be several of one store.
#[derive(Debug)]
pub struct S3 {
    store: Store,
    places: Places,
    commits: Commits,
    /// Of those who write and find no memory.
    waiting: Arc<Semaphore>,
}

impl S3 {
    /// Waits for the disk.
    ///
    /// # Errors
    /// What the store says; `Invalid` when its limits do not allow [`METADATA_BYTES_MAX`]; `Unavailable` when there is no thread to be had.
    pub fn open(store: Store) -> error::Result<Self> {
        let limits = store.namespace().read(|index| index.limits().clone());
        if limits.metadata_bytes_max < METADATA_BYTES_MAX {
            let what = format!("S3 needs a limit of {METADATA_BYTES_MAX} bytes of metadata");
            return Err(error::Error::new(Kind::Invalid, what));
        }
        let face = Self {
            places: Places::new(),
            commits: Commits::start(store.clone())?,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            store,
        };
        if !face.store.is_member() {
            face.make_own_bucket()?;
            face.sweep()?;
        }
        Ok(face)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

#[async_trait]
impl Backend for S3 {
    async fn create_bucket(&self, bucket: &BucketName, owner: &Tenant) -> Result<(), Error> {
        self.store.live()?;
        self.create_bucket(bucket, owner).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), Error> {
        self.store.live()?;
        match self.in_s3(bucket) {
            Some(there) => there.refuse("it is not deleted"),
            None => self.delete_bucket(bucket).await,
        }
    }

    async fn bucket(&self, bucket: &BucketName) -> Result<Bucket, Error> {
        self.store.live()?;
        self.bucket(bucket)
    }

    async fn buckets(
        &self,
        owner: &Tenant,
        prefix: &str,
        after: &str,
        buckets_max: usize,
    ) -> Result<Vec<Bucket>, Error> {
        self.store.live()?;
        Ok(self.buckets(owner, prefix, after, buckets_max))
    }

    async fn tag_bucket(&self, bucket: &BucketName, tags: Tags) -> Result<(), Error> {
        self.store.live()?;
        self.tag_bucket(bucket, tags).await
    }

    async fn list(&self, bucket: &BucketName, query: ListQuery<'_>) -> Result<ListPage, Error> {
        self.store.live()?;
        match self.in_s3(bucket) {
            Some(there) => there.list(bucket, query).await,
            None => self.list(bucket, query),
        }
    }

    async fn head(&self, name: &Name) -> Result<Object, Error> {
        self.store.live()?;
        match self.in_s3(&name.bucket) {
            Some(there) => there.head(name).await,
            None => self.head(name),
        }
    }

    async fn open(&self, name: &Name) -> Result<(Object, Box<dyn Content>), Error> {
        self.store.live()?;
        match self.in_s3(&name.bucket) {
            Some(there) => there.open(name).await,
            None => {
                let since = rt::now();
                let opened = self.open_content(name).await;
                self.store.note_answer(since);
                opened
            }
        }
    }

    async fn put(&self, put: Put, body: Body) -> Result<Object, Error> {
        self.store.live()?;
        match self.in_s3(&put.name.bucket) {
            Some(there) => there.put(put, body).await,
            None => self.put(put, body).await,
        }
    }

    async fn copy(&self, from: &Name, etag: &Etag, put: Put) -> Result<Object, Error> {
        self.store.live()?;
        if self.is_one_in_s3([from, &put.name]) {
            return self.copy_here(from, etag, put).await;
        }
        self.copy(from, etag, put).await
    }

    async fn delete(
        &self,
        bucket: &BucketName,
        deletions: Vec<Deletion>,
    ) -> Vec<Result<(), Error>> {
        match self.in_s3(bucket) {
            Some(there) => there.delete(bucket, deletions).await,
            None => self.delete(bucket, deletions).await,
        }
    }

    async fn tag(&self, name: &Name, tags: Tags) -> Result<(), Error> {
        self.store.live()?;
        match self.in_s3(&name.bucket) {
            Some(there) => there.refuse("objects have no tags"),
            None => self.tag(name, tags).await,
        }
    }

    async fn create_upload(&self, new: NewUpload) -> Result<Upload, Error> {
        self.store.live()?;
        self.check_upload(&new.name.bucket, &new.tags)?;
        self.create_upload(new).await
    }

    async fn upload(&self, upload: &Upload) -> Result<Uploading, Error> {
        self.store.live()?;
        self.upload(upload)
    }

    async fn uploads(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: (&str, Option<&str>),
        uploads_max: usize,
    ) -> Result<Vec<Uploading>, Error> {
        self.store.live()?;
        self.uploads(bucket, prefix, after, uploads_max)
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: PartNumber,
        body: Body,
    ) -> Result<Part, Error> {
        self.store.live()?;
        self.put_part(upload, number, body).await
    }

    async fn parts(
        &self,
        upload: &Upload,
        after: u16,
        parts_max: usize,
    ) -> Result<Vec<Part>, Error> {
        self.store.live()?;
        self.parts(upload, after, parts_max)
    }

    async fn complete(&self, complete: Complete) -> Result<Object, Error> {
        self.store.live()?;
        match self.in_s3(&complete.upload.name.bucket) {
            Some(there) => there.complete(complete).await,
            None => self.complete(complete).await,
        }
    }

    async fn abort(&self, upload: &Upload) -> Result<(), Error> {
        self.store.live()?;
        self.abort(upload).await
    }
}
