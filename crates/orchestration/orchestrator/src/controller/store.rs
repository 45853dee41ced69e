//! The store, for asynchronous code: commits wait for a disk, so they have a thread of their own.

use std::convert::Infallible;
use std::sync::Arc;

use meta::{Condition, MetaStore, Revision, Write};
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use crate::{Error, ErrorKind};

type Job = Box<dyn FnOnce() + Send>;

/// A thread for what blocks. It ends when the last handle is dropped and the queue is empty.
#[derive(Clone, Debug)]
pub(crate) struct Worker(mpsc::Sender<Job>);

const QUEUE_MAX: usize = 256;
const STACK_BYTES: usize = 2 << 20;

impl Worker {
    pub(crate) fn start(name: &str, failure: &Failure) -> Result<Self, Error> {
        let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE_MAX);
        let guard = failure.guard(name);
        let body = move || {
            let _guard = guard;
            while let Some(job) = jobs.blocking_recv() {
                job();
            }
        };
        let thread = rt::thread(name.to_owned(), STACK_BYTES, body);
        let failed = |e| Error::new(ErrorKind::Internal, "start a thread").because(e);
        // The thread ends by its queue; nobody needs to wait for it.
        drop(thread.map_err(failed)?);
        Ok(Self(sender))
    }

    /// Once it is queued, the work is done even if the caller does not wait for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have left.
            reply.send(work()).ok();
        });
        let gone = || Error::new(ErrorKind::Internal, "a worker thread has ended");
        self.0.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    held: Arc<Held>,
    worker: Worker,
    failure: Failure,
}

#[derive(Debug)]
struct Held {
    store: Arc<dyn MetaStore>,
    /// Dropped after the store.
    _gone: oneshot::Sender<Infallible>,
}

/// Becomes an error when nobody holds the store any more.
pub(crate) type Gone = oneshot::Receiver<Infallible>;

impl Store {
    pub(crate) fn new(store: Arc<dyn MetaStore>, failure: &Failure) -> Result<(Self, Gone), Error> {
        let (_gone, gone) = oneshot::channel();
        let store = Self {
            held: Arc::new(Held { store, _gone }),
            worker: Worker::start("meta-commits", failure)?,
            failure: failure.clone(),
        };
        Ok((store, gone))
    }

    /// For reading.
    pub(crate) fn meta(&self) -> &dyn MetaStore {
        self.held.store.as_ref()
    }

    /// `None`: a condition did not hold.
    pub(crate) async fn commit(
        &self,
        conditions: Vec<Condition>,
        writes: Vec<Write>,
    ) -> Result<Option<Revision>, Error> {
        let held = Arc::clone(&self.held);
        let commit = move || held.store.commit(&conditions, &writes);
        match self.worker.run(commit).await? {
            Ok(revision) => Ok(Some(revision)),
            Err(meta::Error::Conflict { .. }) => Ok(None),
            Err(other) => {
                if self.meta().has_failed() {
                    self.failure.note("the metadata store");
                }
                Err(failed(other))
            }
        }
    }
}

pub(crate) fn failed(error: meta::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the metadata store does not take or give anything",
    )
    .because(error)
}
