//! The store, as this crate asks it: each request has an end, and errors say what to do.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMode, PutOptions, PutPayload, Result as StoreResult,
};
use store::{Class, Opened};

use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    class: Class,
    deadline: Duration,
}

/// What came of making an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Now(Class),
    /// There is one. It may be that of this call: a request that got no answer was sent again.
    Before,
}

impl Objects {
    pub(crate) fn new(opened: Opened, deadline: Duration) -> Self {
        Self {
            store: opened.store,
            class: opened.class,
            deadline,
        }
    }

    /// Never in place of another one.
    pub(crate) async fn create(&self, path: &Path, payload: PutPayload) -> Result<Created> {
        let options = PutOptions::from(PutMode::Create);
        let put = async {
            match self.store.put_opts(path, payload, options).await {
                Ok(put) => Ok(Created::Now(Class::of(&put.extensions, self.class))),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    Ok(Created::Before)
                }
                Err(error) => Err(error),
            }
        };
        self.within("create", path, put).await
    }

    /// These bytes, or what there is of them.
    pub(crate) async fn read(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        let found = self.get(path, GetRange::Bounded(range.clone())).await?;
        if found.0.start != range.start || found.0.end > range.end {
            return Err(Error::corrupt(path, "other bytes came than were asked for"));
        }
        Ok(found.1)
    }

    /// The last bytes of an object, or all if there are fewer, and how many it has.
    pub(crate) async fn read_last(&self, path: &Path, n_bytes: u64) -> Result<(Bytes, u64)> {
        let (range, bytes) = self.get(path, GetRange::Suffix(n_bytes)).await?;
        if bytes.len() as u64 > n_bytes {
            return Err(Error::corrupt(path, "other bytes came than were asked for"));
        }
        Ok((bytes, range.end))
    }

    async fn get(&self, path: &Path, range: GetRange) -> Result<(Range<u64>, Bytes)> {
        let options = GetOptions {
            range: Some(range),
            ..GetOptions::default()
        };
        let get = async {
            let found = self.store.get_opts(path, options).await?;
            let range = found.range.clone();
            Ok((range, found.bytes().await?))
        };
        self.within("read", path, get).await
    }

    /// How many bytes it has, if it is there.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<u64>> {
        let head = self.within("look for", path, self.store.head(path)).await;
        match head {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One that is not there is deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        let deleted = self.within("delete", path, self.store.delete(path)).await;
        match deleted {
            Err(Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    /// Of what it gives, all is bounded by [`Self::within`].
    pub(crate) fn list(&self, root: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.store.list(Some(root))
    }

    /// `doing` in the present tense.
    pub(crate) async fn within<T>(
        &self,
        doing: &'static str,
        path: &Path,
        request: impl Future<Output = StoreResult<T>>,
    ) -> Result<T> {
        let source = match tokio::time::timeout(self.deadline, request).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(StoreError::NotFound { .. })) => {
                let object = path.to_string();
                return Err(Error::NotFound { object });
            }
            Ok(Err(error)) => error.into(),
            Err(late) => late.into(),
        };
        Err(Error::Unavailable {
            doing,
            object: path.to_string(),
            source,
        })
    }
}
