//! Objects that are written in parts: by one writer, in the order in which it has made them, or by several, who share an id.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error, MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use s3::Chunks;
use s3::backend::{Backend as _, Complete, NewUpload};
use s3::body::Body;
use s3::names::{self, PART_NUMBER_MAX, PartNumber, Upload, UploadId};
use s3::object::{self, Part, UploadChecksum};
use tokio::sync::Mutex;

use super::{Bucket, attributes, extensions, generic, told};
use crate::index::{Class, Name};
use crate::store::{Terms, Writer};

/// One writer's parts. Where each lies is known when it is made, so each is written there at once, whichever comes first. They are in the
/// memory of the tenant, and gone with this.
#[derive(Debug)]
pub(super) struct InOrder {
    bucket: Bucket,
    location: Path,
    name: Name,
    metadata: Box<[u8]>,
    len: u64,
    n_parts: usize,
    writing: Arc<Mutex<Writing>>,
}

#[derive(Debug)]
struct Writing {
    /// `None`: the upload is over.
    writer: Option<Writer>,
    n_written: usize,
}

impl InOrder {
    pub(super) fn new(
        bucket: &Bucket,
        location: &Path,
        opts: &PutMultipartOptions,
    ) -> Result<Self> {
        let name = bucket.place(location)?;
        let namespace = bucket.store().namespace();
        let may_write = namespace.read(|index| bucket.check(index));
        let writer = may_write.and_then(|()| bucket.store().writer(&bucket.0.tenant));
        Ok(Self {
            bucket: bucket.clone(),
            location: location.clone(),
            name,
            metadata: attributes::metadata(&opts.attributes, &opts.tags)?,
            len: 0,
            n_parts: 0,
            writing: Arc::new(Mutex::new(Writing {
                writer: Some(writer.map_err(|error| told(location, error))?),
                n_written: 0,
            })),
        })
    }
}

impl Writing {
    fn put(&mut self, mut at: u64, data: &PutPayload) -> Result<()> {
        let writer = self.writer.as_mut().ok_or_else(over)?;
        for bytes in data {
            writer.write_at(at, bytes).map_err(generic)?;
            at += bytes.len() as u64;
        }
        self.n_written += 1;
        Ok(())
    }

    fn take(&mut self, n_parts: usize) -> Result<Writer> {
        if self.writer.is_some() && self.n_written != n_parts {
            let n_written = self.n_written;
            let why = format!("only {n_written} of {n_parts} parts are written");
            return Err(generic(why));
        }
        self.writer.take().ok_or_else(over)
    }
}

fn over() -> Error {
    generic("the upload is completed or aborted")
}

#[async_trait]
impl MultipartUpload for InOrder {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let at = self.len;
        self.len += data.content_length() as u64;
        self.n_parts += 1;
        let writing = Arc::clone(&self.writing);
        Box::pin(async move {
            let mut writing = writing.lock_owned().await;
            let put = rt::blocking(move || writing.put(at, &data)).await;
            put.map_err(generic)?
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let writer = self.writing.lock().await.take(self.n_parts)?;
        let name = self.name.clone();
        let terms = Terms {
            metadata: self.metadata.clone(),
            ..Terms::default()
        };
        let sealed = self.bucket.seal(name, writer, terms);
        sealed.await.map_err(|error| told(&self.location, error))
    }

    async fn abort(&mut self) -> Result<()> {
        let writer = self.writing.lock().await.writer.take();
        writer.map(drop).ok_or_else(over)
    }
}

impl Bucket {
    /// As S3 knows it. Whoever asks may.
    fn upload(&self, path: &Path, id: &str) -> Result<Upload> {
        let id = UploadId::new(id).ok_or_else(|| no_upload(path))?;
        let name = self.s3_name(path)?;
        Ok(Upload { name, id })
    }

    fn s3_name(&self, path: &Path) -> Result<names::Name> {
        let name = self.place(path)?;
        let may_write = self.store().namespace().read(|index| self.check(index));
        may_write.map_err(|error| told(path, error))?;
        let bucket = names::BucketName::new(name.bucket.as_str());
        Ok(names::Name {
            bucket: bucket.ok_or_else(|| Error::NotSupported {
                source: format!("S3 has no bucket of the name `{}`", name.bucket).into(),
            })?,
            key: names::Key::new(name.key.as_str()).expect("the rule is the same"),
        })
    }
}

#[async_trait]
impl MultipartStore for Bucket {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let opts = PutMultipartOptions::default();
        self.create_multipart_opts(path, opts).await
    }

    async fn create_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<MultipartId> {
        let new = NewUpload {
            name: self.s3_name(path)?,
            attributes: attributes::to_s3(&opts.attributes)?,
            tags: attributes::tags_to_s3(&opts.tags)?,
            checksum: UploadChecksum::default(),
        };
        let begun = self.0.face.create_upload(new).await;
        Ok(begun.map_err(|error| s3_told(path, error))?.id.to_string())
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let upload = self.upload(path, id)?;
        let number = number(part_idx)?;
        let len = data.content_length() as u64;
        let body = Body::inside(Chunks::memory(data), len, None);
        let part = self.0.face.put_part(&upload, number, body).await;
        Ok(PartId {
            content_id: part
                .map_err(|error| s3_told(path, error))?
                .etag()
                .to_string(),
        })
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let upload = self.upload(path, id)?;
        let face = &self.0.face;
        let complete = async {
            let uploading = face.upload(&upload).await?;
            let there = face.parts(&upload, 0, PART_NUMBER_MAX.into()).await?;
            let parts = choose(&parts, there).ok_or(s3::backend::Error::Changed)?;
            let checksum = &uploading.checksum;
            let when = object::Precondition::None;
            let complete = Complete::new(upload, checksum, parts, when);
            face.complete(complete.ok_or(s3::backend::Error::Changed)?)
                .await
        };
        let object = complete.await.map_err(|error| s3_told(path, error))?;
        Ok(PutResult {
            e_tag: Some(format!("\"{}\"", object.etag)),
            version: None,
            extensions: extensions(match object.class {
                object::Class::Ephemeral => Class::Ephemeral,
                object::Class::Durable => Class::Durable,
            }),
        })
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let upload = self.upload(path, id)?;
        let aborted = self.0.face.abort(&upload).await;
        aborted.map_err(|error| s3_told(path, error))
    }
}

fn number(part_idx: usize) -> Result<PartNumber> {
    let number = i32::try_from(part_idx)
        .ok()
        .and_then(|idx| PartNumber::new(idx.checked_add(1)?));
    number.ok_or_else(|| Error::NotSupported {
        source: format!("an upload has at most {PART_NUMBER_MAX} parts").into(),
    })
}

/// `None`: one of them is not there, or was put again since.
fn choose(asked: &[PartId], there: Vec<Part>) -> Option<Vec<Part>> {
    let there = there.into_iter().map(|part| (part.number, part));
    let mut there: BTreeMap<_, _> = there.collect();
    let chosen = asked.iter().enumerate().map(|(idx, asked)| {
        let part = there.remove(&number(idx).ok()?)?;
        (part.etag().as_str() == asked.content_id).then_some(part)
    });
    chosen.collect()
}

fn no_upload(path: &Path) -> Error {
    s3_told(path, s3::backend::Error::NoSuchUpload)
}

fn s3_told(path: &Path, error: s3::backend::Error) -> Error {
    use s3::backend::Error as E;
    let path = path.to_string();
    match error {
        E::NoSuchBucket | E::NoSuchKey | E::NoSuchUpload => Error::NotFound {
            path,
            source: error.into(),
        },
        E::Precondition | E::Changed => Error::Precondition {
            path,
            source: error.into(),
        },
        _ => generic(error),
    }
}
