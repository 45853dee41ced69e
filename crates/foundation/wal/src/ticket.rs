//! The way from a sync back to those who wait for it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::wal::Shared;
use crate::{Error, Position, lock, wait};

/// Records that share one write, and so one fate.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    progress: Mutex<Progress>,
    is_over: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    outcome: Option<Outcome>,
    wakers: Vec<Waker>,
    /// Threads that wait.
    n_waiting: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub synced: Position,
    /// Of what is not synced.
    pub error: Option<Error>,
}

impl Batch {
    pub(crate) fn finish(&self, outcome: Outcome) {
        let mut progress = self.progress();
        progress.outcome = Some(outcome);
        let wakers = std::mem::take(&mut progress.wakers);
        let is_waited_for = progress.n_waiting > 0;
        drop(progress);
        if is_waited_for {
            self.is_over.notify_all();
        }
        for waker in wakers {
            // What somebody else does there is not to end the log.
            catch_unwind(AssertUnwindSafe(|| waker.wake())).ok();
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

/// The promise that a record will be durable. To be waited for with [`wait`](Ticket::wait), or awaited; dropping it takes nothing back. Tickets
/// of one log are kept in the order of their records.
///
/// Nothing is written on account of it as long as it is only kept: who appends several records, and then waits for the last one, waits for one sync.
#[derive(Debug)]
#[must_use = "a record is durable only when its ticket says so"]
pub struct Ticket {
    pub(crate) batch: Arc<Batch>,
    pub(crate) position: Position,
    pub(crate) end: Position,
    /// Until somebody has been told that it is to be kept.
    shared: Option<Arc<Shared>>,
    /// Where its waker is in the batch's list.
    waker_idx: Option<usize>,
}

impl Ticket {
    /// Of a batch that is over, or being written.
    pub(crate) fn new(batch: Arc<Batch>, position: Position, end: Position) -> Self {
        Self {
            batch,
            position,
            end,
            shared: None,
            waker_idx: None,
        }
    }

    pub(crate) fn queued(
        shared: &Arc<Shared>,
        batch: Arc<Batch>,
        position: Position,
        end: Position,
    ) -> Self {
        let mut ticket = Self::new(batch, position, end);
        ticket.shared = Some(Arc::clone(shared));
        ticket
    }

    /// Where the record will be, if it will be.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Waits until the record is durable, and says where it is. If nobody writes to the disk, this thread does.
    ///
    /// # Errors
    /// When it is not, or may not be: [`Error::Full`], [`Error::Fenced`], [`Error::Failed`]. Every later record has the same fate.
    pub fn wait(mut self) -> Result<Position, Error> {
        if let Some(shared) = self.shared.take() {
            shared.lead(&self.batch);
        }
        let mut progress = self.batch.progress();
        loop {
            if let Some(outcome) = &progress.outcome {
                return self.result(outcome);
            }
            progress.n_waiting += 1;
            progress = wait(&self.batch.is_over, progress);
            progress.n_waiting -= 1;
        }
    }

    /// The same, if this thread itself is the one that waits for the disk: if somebody else writes, the ticket comes back.
    ///
    /// # Errors
    /// The ticket, to be waited for.
    pub fn try_wait(mut self) -> Result<Result<Position, Error>, Self> {
        if let Some(shared) = &self.shared {
            shared.lead(&self.batch);
        }
        let outcome = self.batch.progress().outcome.clone();
        match outcome {
            Some(outcome) => {
                self.shared = None;
                Ok(self.result(&outcome))
            }
            None => Err(self),
        }
    }

    /// Lets it go where a later record of the same owner has a ticket, too: whoever waits for that writes both.
    pub fn leave_to_later(mut self) {
        self.shared = None;
    }

    fn result(&self, outcome: &Outcome) -> Result<Position, Error> {
        match &outcome.error {
            Some(error) if self.end > outcome.synced => Err(error.clone()),
            _ => Ok(self.position),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.call(&self.batch);
        }
    }
}

impl Future for Ticket {
    type Output = Result<Position, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let batch = Arc::clone(&self.batch);
        let mut progress = batch.progress();
        if let Some(outcome) = &progress.outcome {
            return Poll::Ready(self.result(outcome));
        }
        // Who asks again and again is listed once, be it with another waker each time.
        let waker = context.waker();
        match self.waker_idx {
            Some(idx) => progress.wakers[idx].clone_from(waker),
            None => {
                self.waker_idx = Some(progress.wakers.len());
                progress.wakers.push(waker.clone());
            }
        }
        drop(progress);
        if let Some(shared) = self.shared.take() {
            shared.call(&batch);
        }
        Poll::Pending
    }
}
