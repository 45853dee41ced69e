//! The node's own door: all of the store, for other processes and other nodes ([`wire`](crate::wire) has the protocol).
//!
//! ```text
//!  accept ──▶ TLS, if any ──▶ both sides prove that they know a secret ──▶ Session: frame after frame
//!                                                                             │ looks, and reads from memory: at once
//!                                                                             │ all else: a task, and threads that may wait
//!                                                                             ▼
//!                                                      one task that writes answers, whichever is ready first
//! ```
//!
//! - A user acts for its tenant, and sees no other tenant's buckets. What nodes of the site say to each other only they can say, and they say nothing
//!   else.
//! - What a connection has not sealed is gone with it, unless it was [`detached`].
//! - Data goes out from where it lies in memory.
//! - All that a client can have us hold is bounded by [`Limits`]: for a connection, and for a tenant over all of its connections.

mod changes;
mod detached;
mod door;
mod looks;
mod metrics;
mod moves;
mod outbox;
mod reads;
mod session;
mod site;
#[cfg(test)]
mod tests;
mod watches;
mod writes;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use s3::users::Users;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::door::Door;
pub use self::door::Shared;
pub(crate) use self::looks::native;
pub use self::metrics::Counters;
use super::local::Local;
use crate::store::Store;

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; others wait in the kernel's queue.
    pub connections: usize,
    /// Those of them that are not known yet.
    pub strangers: usize,
    /// How long a client that is not known has to prove who it is.
    pub hello: Duration,
    /// How long a client may keep us waiting within a frame, beside what it moves at `bytes_per_second`.
    pub patience: Duration,
    pub bytes_per_second: u32,
    /// Of a connection, beside those that are answered at once; it is not listened to while there are so many.
    pub requests: usize,
    /// Of a connection that wait for changes.
    pub watches: usize,
    /// Of a connection: objects that are open, and as many that are written.
    pub objects: usize,
    /// Data that is held for a connection, each way: received and not yet written, or to be sent. At least what one frame has.
    pub connection_bytes: usize,
    /// The same for all connections of a tenant.
    pub tenant_bytes: usize,
    /// How many calls may wait for a disk for a tenant, each way, and how many objects may be on their way to S3 because it has asked.
    pub tenant_calls: usize,
    /// How long requests may go on when the server is stopped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            strangers: 64,
            hello: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            bytes_per_second: 16 << 10,
            requests: 64,
            watches: 16,
            objects: 256,
            connection_bytes: 16 << 20,
            tenant_bytes: 128 << 20,
            tenant_calls: 32,
            drain: Duration::from_secs(30),
        }
    }
}

/// All that a server is made of.
#[derive(Clone)]
pub struct Setup {
    pub limits: Limits,
    pub users: Users,
    /// The nodes of the site: who has one of these is trusted with all tenants, and is none.
    pub peers: Users,
    pub store: Store,
    /// Of all doors of the node.
    pub shared: Shared,
    /// `None`: no other process comes to the memory.
    pub local: Option<Arc<Local>>,
    /// `None`: whoever can listen to the network can read, and change, what is said. Secrets of users are not sent in either case.
    pub tls: Option<Arc<ServerConfig>>,
    pub counters: Counters,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Setup");
        debug
            .field("limits", &self.limits)
            .field("users", &self.users);
        debug.finish_non_exhaustive()
    }
}

/// A running server; dropping it ends it at once.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Service {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: rt::Task,
}

impl Service {
    /// Takes no more requests, and lets those that are under way end, within [`Limits::drain`].
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.ended().await;
    }
}

/// Serves the node protocol in the background.
///
/// # Errors
/// When the listener has no address.
pub fn serve(listener: TcpListener, setup: Setup) -> io::Result<Service> {
    let addr = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let task = rt::spawn("geds node", Door::new(setup, stopped).accept(listener));
    Ok(Service { addr, stop, task })
}
