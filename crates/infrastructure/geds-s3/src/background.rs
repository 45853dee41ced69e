//! What nobody waits for, on a thread that has a processor when nobody else wants it.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use geds_core::index::{BucketName, InS3, Name};
use geds_core::{Error, Kind, Result};
use tokio::sync::mpsc;

use crate::{Found, Persist, Tier2};

/// So many pieces of an object wait to be sent.
const PIECES_MAX: usize = 2;

/// Tier 2 for who brings objects there and takes them away: signing and sending, with all that belongs to it, takes no time from those who wait
/// for something. So it takes long when there is much else to do. It has connections of its own: nobody else waits for this thread.
///
/// Nothing that others need is locked here for longer than a few instructions: whoever holds a lock on such a thread keeps it as long as others
/// are busy.
#[derive(Clone, Debug)]
pub struct Background {
    tier2: Arc<Tier2>,
    thread: Arc<rt::Background>,
}

impl Background {
    /// # Errors
    /// `Unavailable`: there is no thread to be had.
    pub fn start(tier2: &Tier2) -> Result<Self> {
        let thread = rt::Background::start("geds background", rt::Priority::Idle)
            .map_err(|error| Error::caused(Kind::Unavailable, "start a thread", error))?;
        Ok(Self {
            tier2: Arc::new(tier2.apart()),
            thread: Arc::new(thread),
        })
    }

    /// As [`Tier2::persist`].
    ///
    /// # Errors
    /// As there.
    pub async fn persist(
        &self,
        what: Persist,
        mut pieces: BoxStream<'static, Result<Bytes>>,
    ) -> Result<InS3> {
        let (send, mut sent) = mpsc::channel(PIECES_MAX);
        // Reading takes locks, so it is done here. It ends no later than what needs it.
        let reading = async move {
            while let Some(piece) = pieces.next().await {
                if send.send(piece).await.is_err() {
                    break;
                }
            }
            drop(send);
            pending::<Infallible>().await
        };
        let persisting = self.run(async move |tier2| {
            let pieces = stream::poll_fn(move |context| sent.poll_recv(context));
            tier2.persist(&what, pieces).await
        });
        tokio::select! {
            persisted = persisting => persisted,
            never = reading => match never {},
        }
    }

    /// As [`Tier2::find`].
    ///
    /// # Errors
    /// As there.
    pub async fn find(&self, name: &Name) -> Result<Option<Found>> {
        let name = name.clone();
        self.run(async move |tier2| tier2.find(&name).await).await
    }

    /// As [`Tier2::check`].
    ///
    /// # Errors
    /// As there.
    pub async fn check(&self, bucket: &BucketName) -> Result<()> {
        let bucket = bucket.clone();
        self.run(async move |tier2| tier2.check(&bucket).await)
            .await
    }

    /// As [`Tier2::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, name: &Name) -> Result<()> {
        let name = name.clone();
        self.run(async move |tier2| tier2.delete(&name).await).await
    }

    /// Does it there. Whoever does not wait any more ends it.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Tier2>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let ended = |_| {
            Error::new(
                Kind::Internal,
                "what was done in the background has panicked",
            )
        };
        let work = work(Arc::clone(&self.tier2));
        self.thread.run(work).await.map_err(ended)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[tokio::test(flavor = "multi_thread")]
    async fn it_has_a_processor_when_nobody_else_wants_it() {
        let world = world(0).await;
        let background = Background::start(&world.tier2).expect("a thread");
        let stat = async |_| Ok(std::fs::read_to_string("/proc/thread-self/stat").expect("one"));
        let stat = background.run(stat).await.expect("it is read");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        // See proc_pid_stat(5): the 41st of all.
        let policy = fields.split(' ').nth(41 - 3).expect("a policy");
        assert_eq!(policy, "5", "SCHED_IDLE");
    }
}
