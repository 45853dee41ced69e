//! For tests and proofs, also of other crates: a store that does not do what it is asked, or does it and does not say so, and that knows what it had when.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use store::{Class, Opened};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Put,
    Get,
    Delete,
    List,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Refuse,
    /// It is done, and nobody is told.
    LoseAnswer,
    /// It is done, and says that it is there already: so it is when a request is sent again below.
    SendAgain,
    /// There is never an answer.
    Hang,
    /// The last bit of what is read is another one.
    Flip,
    /// The last byte of what is read is missing.
    Cut,
}

/// Shared by its clones.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

/// Objects by their names.
pub type Objects = BTreeMap<Path, Bytes>;

#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> usize + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[derive(Debug, Default)]
struct State {
    /// What was put or deleted, and not later than when.
    changes: Vec<(usize, Path, Option<Bytes>)>,
    n_requests: usize,
    faults: Vec<(Verb, Fault)>,
    /// With which request the client ends, and whether it is done.
    crash: Option<(usize, bool)>,
}

impl Faulty {
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::with_clock(inner, || 0)
    }

    /// In memory. `clock` says how late it is.
    pub fn in_memory(clock: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self::with_clock(Arc::new(InMemory::new()), clock)
    }

    fn with_clock(
        inner: Arc<dyn ObjectStore>,
        clock: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            state: Arc::default(),
            clock: Clock(Arc::new(clock)),
        }
    }

    /// What it had at that time: nobody has heard of what is not in it.
    #[must_use]
    pub fn objects_at(&self, time: usize) -> Objects {
        let mut objects = Objects::new();
        for (at, path, bytes) in &self.state().changes {
            match bytes {
                Some(bytes) if *at <= time => drop(objects.insert(path.clone(), bytes.clone())),
                None if *at <= time => drop(objects.remove(path)),
                _ => {}
            }
        }
        objects
    }

    /// One in memory that has these objects.
    ///
    /// # Errors
    /// None are to be expected.
    pub async fn of(objects: Objects) -> Result<Self> {
        let faulty = Self::in_memory(|| 0);
        for (path, bytes) in objects {
            faulty.put(&path, bytes.into()).await?;
        }
        Ok(faulty)
    }

    /// As whoever opens a URL has it.
    #[must_use]
    pub fn opened(&self) -> Opened {
        Opened {
            store: Arc::new(self.clone()),
            class: Class::Durable,
        }
    }

    fn changed(&self, path: &Path, bytes: Option<Bytes>) {
        let now = (self.clock.0)();
        self.state().changes.push((now, path.clone(), bytes));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the next request of that kind.
    pub fn plan(&self, verb: Verb, fault: Fault) {
        self.state().faults.push((verb, fault));
    }

    /// From the request on that comes behind so many more, none is done or answered; that one is done, or not.
    pub fn crash(&self, after: usize, is_done: bool) {
        let mut state = self.state();
        state.crash = Some((state.n_requests + after, is_done));
    }

    /// Whether it had come so far.
    #[must_use]
    pub fn recover(&self) -> bool {
        let mut state = self.state();
        let at = state.crash.take();
        at.is_some_and(|(at, _)| state.n_requests > at)
    }

    #[must_use]
    pub fn n_requests(&self) -> usize {
        self.state().n_requests
    }

    fn fault(&self, verb: Verb) -> Option<Fault> {
        let mut state = self.state();
        let n = state.n_requests;
        state.n_requests += 1;
        match state.crash {
            Some((at, true)) if n == at => return Some(Fault::LoseAnswer),
            Some((at, _)) if n >= at => return Some(Fault::Refuse),
            _ => {}
        }
        let idx = state.faults.iter().position(|(of, _)| *of == verb)?;
        Some(state.faults.remove(idx).1)
    }

    async fn act<T>(
        &self,
        fault: Option<Fault>,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let lost = || Error::Generic {
            store: "faulty",
            source: "planned".into(),
        };
        match fault {
            Some(Fault::Refuse) => Err(lost()),
            Some(Fault::LoseAnswer) => request.await.and_then(|_| Err(lost())),
            Some(Fault::SendAgain) => request.await.and_then(|_| {
                Err(Error::AlreadyExists {
                    path: String::new(),
                    source: "planned".into(),
                })
            }),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Flip | Fault::Cut) | None => request.await,
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload.iter().flatten().copied().collect::<Vec<_>>());
        let put = async {
            let put = self.inner.put_opts(path, payload, options).await?;
            self.changed(path, Some(bytes));
            Ok(put)
        };
        self.act(self.fault(Verb::Put), put).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.fault(Verb::Get);
        let get = self.inner.get_opts(path, options);
        let mut found = self.act(fault, get).await?;
        if !matches!(fault, Some(Fault::Flip | Fault::Cut)) {
            return Ok(found);
        }
        let payload = std::mem::replace(
            &mut found.payload,
            GetResultPayload::Stream(futures_util::stream::empty().boxed()),
        );
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let whole = GetResult {
            payload,
            meta,
            range,
            attributes: object_store::Attributes::default(),
            extensions: object_store::Extensions::default(),
        };
        let mut bytes = whole.bytes().await?.to_vec();
        let last = bytes.pop().unwrap_or_default();
        if fault == Some(Fault::Flip) {
            bytes.push(last ^ 1);
        }
        let bytes = futures_util::stream::once(std::future::ready(Ok(bytes.into())));
        found.payload = GetResultPayload::Stream(bytes.boxed());
        Ok(found)
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let faulty = self.clone();
        let delete = move |path: Result<Path>| {
            let faulty = faulty.clone();
            async move {
                let path = path?;
                let fault = faulty.fault(Verb::Delete);
                let delete = async {
                    faulty.inner.delete(&path).await?;
                    faulty.changed(&path, None);
                    Ok(())
                };
                faulty.act(fault, delete).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faulty, fault) = (self.clone(), self.fault(Verb::List));
        let inner = self.inner.list(prefix);
        let begun = async move { faulty.act(fault, std::future::ready(Ok(inner))).await };
        let list = futures_util::stream::once(begun);
        list.flat_map(|begun| match begun {
            Ok(list) => list,
            Err(error) => futures_util::stream::once(std::future::ready(Err(error))).boxed(),
        })
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
