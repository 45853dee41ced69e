//! What a change is answered with.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use wal::Ticket;

use crate::error::Result;

/// A change that everybody sees from now on. It is gone with the node if that ends before it is durable, and only with everything that came
/// after it. [`wait`](Self::wait), or await it, to know it durable.
#[derive(Debug)]
pub struct Ack(Ticket);

impl Ack {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self(ticket)
    }

    /// Waits until the change is durable.
    ///
    /// # Errors
    /// When it is not, or may not be.
    pub fn wait(self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }
}

impl Future for Ack {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let done = Pin::new(&mut self.0).poll(context)?;
        done.map(|_| Ok(()))
    }
}
