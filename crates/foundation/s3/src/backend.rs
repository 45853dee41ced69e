//! The seam: what a store must do so that S3 clients can use it.

use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::body::{Body, BodyError};
use crate::checksum::ObjectChecksum;
use crate::chunks::Chunks;
use crate::names::{BucketName, Etag, Key, Name, PartNumber, Tenant, Upload};
use crate::object::{
    Attributes, Bucket, Class, Object, Part, Precondition, Tags, UploadChecksum, Uploading,
};

/// A store behind the front door.
///
/// Requests have been authenticated, checked and parsed; the bucket's owner has been compared with the tenant who asks. What is left is
/// storing: the store decides no status codes, computes no checksums and reads no headers.
///
/// - **Names** are exact: no character of a key has a meaning, and lists are in the order of the keys' bytes.
/// - **Writes** are all or nothing. A [`Body`] that ends with an error, or a dropped future, leaves nothing behind and what was there in
///   place. What a body has handed out may be kept, and is committed only with the [`crate::body::Verified`] that comes at its end.
/// - **Preconditions** are checked in the same step as the write. Of two writes with [`Precondition::Absent`] one succeeds.
/// - **Reads** are of one state: [`Backend::open`] gives content that does not change, whatever is written meanwhile.
/// - An **acknowledgement** means what [`Object::class`] says.
/// - Every future may be dropped at any time.
///
/// [`crate::contract`] checks all of it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// # Errors
    /// [`Error::BucketExists`], whoever it belongs to.
    async fn create_bucket(&self, bucket: &BucketName, owner: &Tenant) -> Result<(), Error>;

    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::BucketNotEmpty`] if there are objects. Uploads that are not completed go with it.
    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), Error>;

    /// # Errors
    /// [`Error::NoSuchBucket`].
    async fn bucket(&self, bucket: &BucketName) -> Result<Bucket, Error>;

    /// Of one owner, in order, those after `after`, at most `buckets_max`.
    async fn buckets(
        &self,
        owner: &Tenant,
        prefix: &str,
        after: &str,
        buckets_max: usize,
    ) -> Result<Vec<Bucket>, Error>;

    /// Replaces all tags.
    async fn tag_bucket(&self, bucket: &BucketName, tags: Tags) -> Result<(), Error>;

    /// One page.
    async fn list(&self, bucket: &BucketName, query: ListQuery<'_>) -> Result<ListPage, Error>;

    /// # Errors
    /// [`Error::NoSuchKey`].
    async fn head(&self, name: &Name) -> Result<Object, Error>;

    /// Content to read, which stays as it is as long as it is held.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`].
    async fn open(&self, name: &Name) -> Result<(Object, Box<dyn Content>), Error>;

    /// Reads `body` to its end, then gives the content its name.
    ///
    /// # Errors
    /// That of the precondition, which may also be checked before the body is read; [`Error::Body`].
    async fn put(&self, put: Put, body: Body) -> Result<Object, Error>;

    /// Gives content that is there another name too; `from` and the name may be the same. Content, checksum and parts stay.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] of the source; [`Error::Changed`] if its etag is another; that of the precondition.
    async fn copy(&self, from: &Name, etag: &Etag, put: Put) -> Result<Object, Error>;

    /// One result for each. What is not there is deleted already.
    async fn delete(&self, bucket: &BucketName, deletions: Vec<Deletion>)
    -> Vec<Result<(), Error>>;

    /// Replaces all tags.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`].
    async fn tag(&self, name: &Name, tags: Tags) -> Result<(), Error>;

    /// The id cannot be guessed.
    async fn create_upload(&self, new: NewUpload) -> Result<Upload, Error>;

    /// # Errors
    /// [`Error::NoSuchUpload`].
    async fn upload(&self, upload: &Upload) -> Result<Uploading, Error>;

    /// Those that are not completed, ordered by key and then by id, after `after` (a key, or a key and an id), at most `uploads_max`.
    async fn uploads(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: (&str, Option<&str>),
        uploads_max: usize,
    ) -> Result<Vec<Uploading>, Error>;

    /// In any order, and again: the last one counts, and which is last is decided when they end.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`], [`Error::Body`].
    async fn put_part(
        &self,
        upload: &Upload,
        number: PartNumber,
        body: Body,
    ) -> Result<Part, Error>;

    /// In order, those after `after` (0: all), at most `parts_max`.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`].
    async fn parts(
        &self,
        upload: &Upload,
        after: u16,
        parts_max: usize,
    ) -> Result<Vec<Part>, Error>;

    /// Makes one object of these parts, which have been checked, and ends the upload. Its other parts are gone.
    ///
    /// # Errors
    /// [`Error::NoSuchUpload`]; [`Error::Changed`] if one of the parts was sent again meanwhile; that of the precondition, and the upload
    /// is as it was.
    async fn complete(&self, complete: Complete) -> Result<Object, Error>;

    /// # Errors
    /// [`Error::NoSuchUpload`].
    async fn abort(&self, upload: &Upload) -> Result<(), Error>;
}

/// An opened object's bytes. Dropping it gives up what it holds.
pub trait Content: Send {
    /// A part of it, within its size.
    fn read(self: Box<Self>, range: Range<u64>) -> Chunks;
}

/// An object to be written.
#[derive(Clone, Debug)]
pub struct Put {
    pub name: Name,
    pub attributes: Attributes,
    pub tags: Tags,
    pub when: Precondition,
    /// What the acknowledgement is to mean. A store may do more than is asked.
    pub class: Class,
}

#[derive(Clone, Debug)]
pub struct Deletion {
    pub key: Key,
    pub when: Precondition,
}

#[derive(Clone, Debug)]
pub struct NewUpload {
    pub name: Name,
    pub attributes: Attributes,
    pub tags: Tags,
    pub checksum: UploadChecksum,
}

/// All that the object of an upload is to be.
#[derive(Clone, Debug)]
pub struct Complete {
    pub upload: Upload,
    /// In order. Each as it was found.
    pub parts: Vec<Part>,
    pub size: u64,
    pub etag: Etag,
    pub checksum: Option<ObjectChecksum>,
    pub when: Precondition,
}

#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'a> {
    pub prefix: &'a str,
    /// Keys that have it after the prefix are told as one prefix. It may have any length; an empty one is none.
    pub delimiter: &'a str,
    pub from: ListFrom<'a>,
    /// At least one is listed, if there is one.
    pub items_max: usize,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub enum ListFrom<'a> {
    Start,
    /// Keys that come after this text, which need not be a key.
    After(&'a str),
    /// Keys that come after all that begin so.
    AfterPrefix(&'a str),
    /// As [`ListPage::next`] had it, or a client pretends.
    Cursor(&'a str),
}

#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// In order.
    pub items: Vec<ListItem>,
    /// Where the next page begins, if there is one: text that only the store understands.
    pub next: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ListItem {
    Object(Listed),
    /// At least one key begins so.
    Prefix(String),
}

/// What a list tells of an object.
#[derive(Clone, Debug)]
pub struct Listed {
    pub key: Key,
    pub size: u64,
    pub etag: Etag,
    pub modified: SystemTime,
    pub checksum: Option<ObjectChecksum>,
}

/// Why it was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such bucket")]
    NoSuchBucket,
    #[error("there is such a bucket already")]
    BucketExists,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("there is no such object")]
    NoSuchKey,
    #[error("there is no such upload")]
    NoSuchUpload,
    #[error("what is there is not what the precondition says")]
    Precondition,
    /// What was read before is not there any more. Read again, decide again.
    #[error("it was changed meanwhile")]
    Changed,
    /// A page's beginning is not one, or not known any more.
    #[error("the continuation token is not known")]
    Cursor,
    /// The content ended badly: pass it on.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// There is no room, and will be some later.
    #[error("there is no room: {0}")]
    Exhausted(String),
    /// Somebody whose answer is needed does not answer.
    #[error("it cannot be done at this time: {0}")]
    Unavailable(String),
    /// The store has no such thing.
    #[error("{0}")]
    Unsupported(String),
    /// The object is known, and its content is not to be had any more.
    #[error("its content is lost: {0}")]
    Lost(String),
    /// The store is at fault: a person must look.
    #[error("{context}")]
    Internal {
        context: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}
