//! What a change is answered with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use wal::Ticket;

use super::Store;
use crate::core::index::Revision;
use crate::error::Result;
use crate::site::member::{Member, Session};
use crate::site::owner::until_seen;

/// A change that everybody who asks this node sees from now on. It is gone with the node if that ends before it is durable, and only with everything
/// that came after it. [`wait`](Self::wait), or await it, to know it durable, and seen by everybody who asks any node of the site; or
/// [`seen`](Self::seen), for the second alone.
pub struct Ack(Inner);

enum Inner {
    /// There is no other node.
    Alone(Ticket),
    /// Others are to hear of it.
    Shared {
        seen: Option<BoxFuture<'static, Result<()>>>,
        ticket: Ticket,
        runtime: Handle,
    },
    /// The owner of the names says it.
    There {
        session: Arc<Session>,
        revision: Revision,
        asked: Option<BoxFuture<'static, Result<()>>>,
        runtime: Handle,
    },
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Alone(_) => "Ack::Alone",
            Inner::Shared { .. } => "Ack::Shared",
            Inner::There { .. } => "Ack::There",
        })
    }
}

impl Ack {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self(Inner::Alone(ticket))
    }

    pub(super) fn shared(
        ticket: Ticket,
        (seen, revision): (tokio::sync::watch::Receiver<Revision>, Revision),
        runtime: Handle,
    ) -> Self {
        let seen: BoxFuture<'static, _> = Box::pin(until_seen(seen, revision));
        Self(Inner::Shared {
            seen: Some(seen),
            ticket,
            runtime,
        })
    }

    pub(super) fn there(member: &Member, session: Arc<Session>, revision: Revision) -> Self {
        Self(Inner::There {
            session,
            revision,
            asked: None,
            runtime: member.runtime().clone(),
        })
    }

    /// Waits until the change is durable, and everybody sees it.
    ///
    /// # Errors
    /// When it is not, or may not be.
    pub fn wait(self) -> Result<()> {
        match self.runtime() {
            Some(runtime) => runtime.block_on(self),
            None => match self.0 {
                Inner::Alone(ticket) => Ok(ticket.wait().map(drop)?),
                _ => unreachable!("they have a runtime"),
            },
        }
    }

    /// Waits until everybody sees it, whichever node they ask.
    ///
    /// # Errors
    /// `Unavailable`: it is not known.
    pub async fn seen(self) -> Result<()> {
        match self.0 {
            Inner::Alone(_) => Ok(()),
            Inner::Shared { seen, .. } => match seen {
                Some(seen) => seen.await,
                None => Ok(()),
            },
            Inner::There {
                session, revision, ..
            } => session.confirm(revision, false).await,
        }
    }

    /// The same for who may wait.
    ///
    /// # Errors
    /// Those of [`seen`](Self::seen).
    pub fn wait_seen(self) -> Result<()> {
        match self.runtime() {
            Some(runtime) => runtime.block_on(self.seen()),
            None => Ok(()),
        }
    }

    fn runtime(&self) -> Option<Handle> {
        match &self.0 {
            Inner::Alone(_) => None,
            Inner::Shared { runtime, .. } | Inner::There { runtime, .. } => Some(runtime.clone()),
        }
    }
}

impl Future for Ack {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.0 {
            Inner::Alone(ticket) => {
                let done = Pin::new(ticket).poll(context)?;
                done.map(|_| Ok(()))
            }
            Inner::Shared { seen, ticket, .. } => {
                if let Some(waiting) = seen {
                    ready!(waiting.as_mut().poll(context))?;
                    *seen = None;
                }
                let done = Pin::new(ticket).poll(context)?;
                done.map(|_| Ok(()))
            }
            Inner::There {
                session,
                revision,
                asked,
                ..
            } => {
                let asked = asked.get_or_insert_with(|| {
                    let (session, revision) = (Arc::clone(session), *revision);
                    Box::pin(async move { session.confirm(revision, true).await })
                });
                asked.as_mut().poll(context)
            }
        }
    }
}

impl Store {
    /// Of all that was committed until now, when it is durable with this.
    pub(super) fn ack(&self, ticket: wal::Ticket) -> Ack {
        let owner = self.0.owner.get();
        let Some(owner) = owner.filter(|owner| owner.is_watched()) else {
            return Ack::new(ticket);
        };
        let revision = self.0.namespace.last();
        match (owner.seen_later(revision), self.0.peers.get()) {
            (Some(seen), Some(peers)) => {
                // Not only when others have seen it.
                self.start_writing();
                Ack::shared(ticket, (seen, revision), peers.runtime().clone())
            }
            _ => Ack::new(ticket),
        }
    }

    /// Has what was committed written to the log now: for who lets a task wait for it, later.
    pub fn start_writing(&self) {
        self.0.wal.start_writing();
    }

    /// All that was committed until now is durable when it is kept.
    pub(super) fn barrier(&self) -> Result<Ack> {
        match &self.0.member {
            None => Ok(self.ack(self.0.namespace.barrier()?)),
            Some(member) => {
                let revision = self.0.namespace.last();
                Ok(Ack::there(member, member.session()?, revision))
            }
        }
    }
}
