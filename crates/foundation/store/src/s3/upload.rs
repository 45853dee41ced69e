//! Uploads in parts whose end may depend on what is there then.

use hyper::header::{HeaderValue, IF_MATCH, IF_NONE_MATCH};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{
    Error, MultipartId, PutMode, PutMultipartOptions, PutPayload, PutResult, Result,
};

use super::Bucket;
use super::conditions::Condition;

/// An upload that goes on until it is completed or aborted, also if this is dropped.
#[derive(Clone, Debug)]
pub struct Upload {
    bucket: Bucket,
    path: Path,
    id: MultipartId,
}

impl Bucket {
    /// # Errors
    /// What the store says.
    pub async fn upload(&self, path: &Path, opts: PutMultipartOptions) -> Result<Upload> {
        let id = self.objects.create_multipart_opts(path, opts).await?;
        Ok(Upload {
            bucket: self.clone(),
            path: path.clone(),
            id,
        })
    }
}

impl Upload {
    /// Parts may be put at the same time, in any order and again; each but the last has at least 5 MiB. `idx`: from 0 on.
    ///
    /// # Errors
    /// What the store says.
    pub async fn put(&self, idx: usize, part: PutPayload) -> Result<PartId> {
        let objects = &self.bucket.objects;
        objects.put_part(&self.path, &self.id, idx, part).await
    }

    /// Makes it an object, of all parts in order, if it is as `mode` says. It may have been made also if this fails: see what is there.
    ///
    /// # Errors
    /// `AlreadyExists`, `Precondition`, and what else the store says. The upload goes on then.
    pub async fn complete(&self, parts: Vec<PartId>, mode: &PutMode) -> Result<PutResult> {
        let conditions = &self.bucket.conditions;
        let set = condition(mode)?.map(|condition| conditions.set(&self.id, condition));
        let objects = &self.bucket.objects;
        let completed = objects
            .complete_multipart(&self.path, &self.id, parts)
            .await;
        drop(set);
        completed.map_err(|error| match (mode, error) {
            (PutMode::Create, Error::Precondition { path, source }) => {
                Error::AlreadyExists { path, source }
            }
            (PutMode::Update(_), Error::NotFound { path, source }) => {
                Error::Precondition { path, source }
            }
            (_, error) => error,
        })
    }

    /// # Errors
    /// What the store says.
    pub async fn abort(&self) -> Result<()> {
        let objects = &self.bucket.objects;
        objects.abort_multipart(&self.path, &self.id).await
    }
}

fn condition(mode: &PutMode) -> Result<Option<Condition>> {
    let refused = |what: &str| Error::NotSupported {
        source: what.into(),
    };
    Ok(match mode {
        PutMode::Overwrite => None,
        PutMode::Create => Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
        PutMode::Update(version) => {
            let etag = version.e_tag.as_deref();
            let etag =
                etag.ok_or_else(|| refused("an update needs the etag of what it replaces"))?;
            let etag = HeaderValue::from_str(etag);
            Some((IF_MATCH, etag.map_err(|_| refused("it is no etag"))?))
        }
    })
}
