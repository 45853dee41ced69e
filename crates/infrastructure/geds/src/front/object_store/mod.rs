//! A bucket of the store as an `ObjectStore` of the crate `object_store`: for programs of the node that speak to any store so.
//!
//! - Keys are paths where they can be. A key that no path can be (`a//b`, `a/`, `..`) is under `!geds-key/`, written so that it can be read back,
//!   and can be read, renamed and deleted there; see `core/paths.rs`.
//! - Content is handed out where it lies, without a copy.
//! - Attributes and tags are those of S3 ([`front::s3`](super::s3)): either face shows what the other was given. Uploads of [`MultipartStore`] are
//!   uploads of S3.
//! - An etag is in quotation marks, as S3 tells it. There are no versions.
//! - Copying gives data one more name, and renaming gives it another one, in one step.
//! - An answer means what its class says, which is with it: [`store::Class`](::store::Class) in the extensions of what is returned.
//!
//! [`MultipartStore`]: object_store::multipart::MultipartStore

mod attributes;
mod conditions;
mod copy;
mod list;
mod reading;
mod scheme;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ids::Name as Tenant;
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, CopyMode, CopyOptions, Error, Extensions, GetOptions,
    GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, TagSet,
};

use self::conditions::quoted;
pub use self::scheme::Buckets;
use self::upload::InOrder;
use super::s3::{S3, meta};
use crate::error::{self, Kind};
use crate::index::{BucketName, Class, Entry, Index, Key, Name, Precondition};
use crate::store::{Store, Terms, Through, Writer};
use crate::tier2::keys;
use crate::tier2::paths;

/// So many are deleted at once.
const DELETIONS_MAX: usize = 16;

/// What other tools are to know of an object.
pub(crate) fn attributes_of(entry: &Entry) -> Attributes {
    attributes::from_s3(meta::head_of(entry).attributes)
}

/// The user metadata, in base64, that has what a native user has written of an object.
const NATIVE: &str = "geds-native";

/// The same, with all that is not to be lost where S3 is the authority.
pub(crate) fn all_attributes_of(entry: &Entry) -> Attributes {
    let head = meta::head_of(entry);
    let native = keys::base64(&head.native);
    let mut attributes = attributes::from_s3(head.attributes);
    if !native.is_empty() {
        attributes.insert(Attribute::Metadata(NATIVE.into()), native.into());
    }
    attributes
}

/// And back. What cannot be kept of what somebody else has said is not known here.
pub(crate) fn metadata_of(attributes: &Attributes) -> Box<[u8]> {
    let native = attributes.get(&Attribute::Metadata(NATIVE.into()));
    let native = native.and_then(|text| keys::from_base64(text));
    // A storage class, for instance, is nothing that we could keep.
    let is_kept = |one: &(Attribute, AttributeValue)| {
        let is_native = one.0 == Attribute::Metadata(NATIVE.into());
        !is_native && attributes::to_s3(&Attributes::from_iter([one.clone()])).is_ok()
    };
    let said = attributes.iter();
    let said = said.map(|(name, value)| (name.clone(), value.clone()));
    let said = said.filter(is_kept).collect();
    let said = attributes::metadata(&said, &TagSet::default()).unwrap_or_default();
    match native {
        Some(native) => meta::with_native_metadata(&said, native.into()),
        None => said,
    }
}

/// A bucket of a tenant. Shared by its clones.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    face: Arc<S3>,
    tenant: Tenant,
    bucket: BucketName,
    class: Class,
}

impl Bucket {
    /// A bucket of the store behind `face`, which has its uploads. It need not be there yet. What is put is durable.
    #[must_use]
    pub fn new(face: Arc<S3>, tenant: Tenant, bucket: BucketName) -> Self {
        Self::of_class(face, tenant, bucket, Class::Durable)
    }

    /// The same, where what is put is of another class. Uploads that are shared by an id are durable.
    #[must_use]
    pub fn of_class(face: Arc<S3>, tenant: Tenant, bucket: BucketName, class: Class) -> Self {
        Self(Arc::new(Inner {
            face,
            tenant,
            bucket,
            class,
        }))
    }

    fn store(&self) -> &Store {
        self.0.face.store()
    }

    /// `None`: the authority of this bucket is the index.
    fn through(&self) -> Option<Through<'_>> {
        self.store().through(&self.0.bucket)
    }

    /// What is to be there.
    fn find(&self, path: &Path) -> Result<Name> {
        self.0.name(path).ok_or_else(|| Error::NotFound {
            path: path.to_string(),
            source: "no key has this path".into(),
        })
    }

    /// What may be written.
    fn place(&self, path: &Path) -> Result<Name> {
        self.0.name(path).ok_or_else(|| Error::NotSupported {
            source: format!("`{path}` is not the path of a key of 1 to 1024 bytes").into(),
        })
    }

    /// Where it may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &Tenant) -> error::Result<T> + Send + 'static,
    ) -> error::Result<T> {
        let inner = Arc::clone(&self.0);
        let work = rt::blocking(move || work(inner.face.store(), &inner.tenant)).await;
        work.map_err(|error| error::Error::io("find a thread that may wait", error))?
    }

    /// What is said when it is durable that there is such a name.
    async fn seal(&self, name: Name, writer: Writer, terms: Terms) -> error::Result<PutResult> {
        let class = self.0.class;
        let entry = match self.through() {
            Some(through) => {
                // It goes to S3 from memory.
                let finish = |store: &Store, _: &Tenant| store.finish(Class::Ephemeral, writer);
                let unnamed = self.run(finish).await?;
                through.seal(&self.0.tenant, &name, unnamed, terms).await?
            }
            None => {
                let seal = move |store: &Store, tenant: &Tenant| {
                    store.seal(tenant, &name, (class, writer), terms)
                };
                let (entry, ack) = self.run(seal).await?;
                ack.await?;
                entry
            }
        };
        Ok(PutResult {
            e_tag: Some(quoted(&entry)),
            version: None,
            extensions: extensions(entry.sealed.class),
        })
    }

    async fn remove(&self, path: Path) -> Result<Path> {
        let Some(name) = self.0.name(&path) else {
            return Ok(path);
        };
        let deleted = async {
            if let Some(through) = self.through() {
                return through
                    .delete(&self.0.tenant, &name, &Precondition::None)
                    .await;
            }
            let delete = move |store: &Store, tenant: &Tenant| {
                store.delete(tenant, &name, Precondition::None)
            };
            self.run(delete).await?.await
        };
        match deleted.await {
            // It is deleted already, as S3 says it, if there is the bucket.
            Err(error) if error.kind == Kind::NotFound && self.is_there() => Ok(path),
            Err(error) => Err(told(&path, error)),
            Ok(()) => Ok(path),
        }
    }

    /// Whether there is the bucket, and it is the tenant's.
    fn check(&self, index: &Index) -> error::Result<()> {
        self.store().live()?;
        let bucket = index.bucket(&self.0.bucket)?;
        if bucket.owner == self.0.tenant {
            return Ok(());
        }
        let what = format!("bucket `{}` belongs to somebody else", self.0.bucket);
        Err(error::Error::new(Kind::Denied, what))
    }

    fn is_there(&self) -> bool {
        let namespace = self.store().namespace();
        namespace.read(|index| index.bucket(&self.0.bucket).is_ok())
    }
}

impl Inner {
    /// `None`: no key has this path.
    fn name(&self, path: &Path) -> Option<Name> {
        let key = paths::key_of(path.as_ref())?;
        Some(Name {
            bucket: self.bucket.clone(),
            key: Key::new(&key).ok()?,
        })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "geds://{}", self.0.bucket)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let name = self.place(location)?;
        let terms = Terms {
            when: conditions::to_write(location, &opts.mode)?,
            metadata: attributes::metadata(&opts.attributes, &opts.tags)?,
            ..Terms::default()
        };
        let written = move |store: &Store, tenant: &Tenant| {
            let mut writer = store.writer(tenant)?;
            writer.reserve(payload.content_length() as u64)?;
            for bytes in &payload {
                writer.append(bytes)?;
            }
            Ok(writer)
        };
        let put = async {
            let writer = self.run(written).await?;
            self.seal(name, writer, terms).await
        };
        put.await.map_err(|error| match (&opts.mode, error.kind) {
            (PutMode::Create, Kind::Conflict) => exists(location, error),
            (PutMode::Update(_), Kind::NotFound) => is_other(location, error),
            _ => told(location, error),
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(InOrder::new(self, location, &opts)?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.get_all(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let delete = move |path: Result<Path>| {
            let bucket = bucket.clone();
            async move { bucket.remove(path?).await }
        };
        locations.map(delete).buffered(DELETIONS_MAX).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.list_level(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let when = match options.mode {
            CopyMode::Overwrite => Precondition::None,
            CopyMode::Create => Precondition::Absent,
        };
        let names = [self.find(from)?, self.place(to)?];
        copy::copy(self, names, when)
            .await
            .map_err(|error| moved([from, to], error))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let when = match options.target_mode {
            RenameTargetMode::Overwrite => Precondition::None,
            RenameTargetMode::Create => Precondition::Absent,
        };
        let names = [self.find(from)?, self.place(to)?];
        let renamed = async {
            if let Some(through) = self.through() {
                let [from, to] = &names;
                return through.rename(&self.0.tenant, [from, to], when).await;
            }
            let rename = move |store: &Store, tenant: &Tenant| {
                let [from, to] = &names;
                store.rename(tenant, [from, to], when)
            };
            self.run(rename).await?.await
        };
        renamed.await.map_err(|error| moved([from, to], error))
    }
}

fn extensions(class: Class) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(match class {
        Class::Ephemeral => ::store::Class::Ephemeral,
        Class::Durable => ::store::Class::Durable,
    });
    extensions
}

fn moved([from, to]: [&Path; 2], error: error::Error) -> Error {
    match error.kind {
        Kind::Conflict => exists(to, error),
        _ => told(from, error),
    }
}

fn exists(path: &Path, error: error::Error) -> Error {
    Error::AlreadyExists {
        path: path.to_string(),
        source: error.into(),
    }
}

fn is_other(path: &Path, error: error::Error) -> Error {
    Error::Precondition {
        path: path.to_string(),
        source: error.into(),
    }
}

/// What the store says, in words of `object_store`.
fn told(path: &Path, error: error::Error) -> Error {
    match error.kind {
        Kind::NotFound => Error::NotFound {
            path: path.to_string(),
            source: error.into(),
        },
        Kind::Denied => Error::PermissionDenied {
            path: path.to_string(),
            source: error.into(),
        },
        Kind::Conflict => is_other(path, error),
        _ => generic(error),
    }
}

fn generic(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "geds",
        source: error.into(),
    }
}
