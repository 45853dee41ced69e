//! The thread of commits: each may wait for room in the queue of the log, and so for the disk.

use std::thread::JoinHandle;

use s3::backend::Error;
use tokio::sync::{mpsc, oneshot};

use crate::error::{self, Kind};
use crate::store::Store;

/// More wait where they are, without having begun.
const QUEUED_MAX: usize = 256;
/// Decoding the metadata of an object takes little.
const STACK_BYTES: usize = 1 << 20;

type Job = Box<dyn FnOnce(&Store) + Send>;

#[derive(Debug)]
pub(super) struct Commits {
    /// There until it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Commits {
    pub(super) fn start(store: Store) -> error::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUED_MAX);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&store);
                store.start_writing();
            }
        };
        let thread = rt::thread("s3 commits".to_owned(), STACK_BYTES, work);
        let thread = thread.map_err(|error| {
            error::Error::caused(Kind::Unavailable, "start the thread of commits", error)
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Does it there, one after the other; not at all if nobody waits for it any more when its turn comes.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let over = || Error::Unavailable("the thread of commits has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            if !answer.is_closed() {
                // Who has gone meanwhile finds out by looking.
                answer.send(act(store)).ok();
            }
        });
        let jobs = self.jobs.as_ref().expect("it is there until the end");
        jobs.send(job).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Whoever waited for what has panicked there was told.
            thread.join().ok();
        }
    }
}
