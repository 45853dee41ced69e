//! The agent's side of sharing: a socket, and a thread that answers clients.
//!
//! A client has two sockets. On one it asks and waits. On the other it only tells: that it has sealed something, or needs something no
//! more. What it has told is done before anything is looked up, by whomever; so an object that was sealed before somebody asks for it is
//! found. Else it may lie there for a moment: the thread that would have to be woken for it costs more than the seal.

pub(crate) mod lent;
mod server;
mod session;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use geds_core::{Error, Result};
use rustix::event::{EventfdFlags, eventfd};

use self::server::Server;
use self::session::Session;
use super::domain::Domain;
use super::object::Object;
use super::{lock, socket};

const THREAD_STACK_BYTES: usize = 512 << 10;

/// The number of a client's session. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNo(pub u64);

/// Who is above the arena on the agent: it knows names, and who may do what.
///
/// Whenever a name is given other data, or none, it revokes the object that the name stood for, or clients go on reading that; and if it was
/// not [`Self::sealed`] that was told of it, it touches the name ([`Domain::touch`]), so that they ask again at once.
///
/// Its methods are called by the threads of the arena and of those that call [`Share::catch_up`], and must not call that themselves. For
/// one client, what it has told is done in the order in which it told it.
pub trait Keeper: Debug + Send + Sync {
    /// A process of user `uid` wants to be a client.
    ///
    /// # Errors
    /// It may not. The client is told why.
    fn admit(&self, client: ClientNo, uid: u32, token: &[u8]) -> Result<Admission>;

    /// A client has sealed an object. The answer is for one that waits.
    ///
    /// # Errors
    /// The object shall not have that name. A client that does not wait hears with its next seal that one was refused, not which.
    fn sealed(&self, client: ClientNo, name: &[u8], meta: &[u8], object: Object)
    -> Result<Vec<u8>>;

    /// # Errors
    /// `NotFound`, or why the client may not have it.
    fn find(&self, client: ClientNo, name: &[u8]) -> Result<Found>;

    /// Whatever else clients may ask.
    ///
    /// # Errors
    /// The client is told.
    fn ask(&self, client: ClientNo, question: &[u8]) -> Result<Vec<u8>>;

    /// The client is gone, admitted or not. All that it has told is done, and all that it has not sealed is free.
    fn left(&self, client: ClientNo);
}

/// What a client may have.
#[derive(Clone, Debug)]
pub struct Admission {
    /// It sees what is here, and nothing else.
    pub domain: Domain,
    /// So much of the domain's memory it may keep from being used again, by reading. What it reads beyond that is copied.
    pub quota_bytes: u64,
    /// So much it may have leased to write to, and not sealed.
    pub unsealed_bytes_max: u64,
}

#[derive(Clone, Debug)]
pub struct Found {
    pub object: Object,
    /// For the client.
    pub meta: Vec<u8>,
}

/// Shares an arena with the processes of this machine until it is dropped.
#[derive(Debug)]
pub struct Share {
    state: Arc<State>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        if rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).is_err() {
            tracing::error!("the thread of the arena's socket does not stop");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the arena's socket panicked");
        }
    }
}

impl Share {
    /// Listens at `path`, where nothing is yet. Whoever may connect there may try to be a client.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn start(path: &Path, keeper: Arc<dyn Keeper>, clients_max: usize) -> Result<Self> {
        let start = || {
            let state = Arc::new(State {
                keeper,
                clients_max,
                sessions: Mutex::default(),
            });
            let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
            let server = Server::new(Arc::clone(&state), socket::listen(path)?, &stop)?;
            let thread = move || server.run();
            Ok(Self {
                thread: Some(rt::thread(
                    "geds-share".to_owned(),
                    THREAD_STACK_BYTES,
                    thread,
                )?),
                state,
                stop,
            })
        };
        start().map_err(|error: std::io::Error| Error::io("listen for clients", error))
    }

    /// Does all that clients of this domain have told. Whoever looks something up in this process does this first.
    pub fn catch_up(&self, domain: &Domain) {
        self.state.hear(Some(domain));
    }
}

/// What the threads have in common.
#[derive(Debug)]
struct State {
    keeper: Arc<dyn Keeper>,
    clients_max: usize,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_no: BTreeMap<u64, Arc<Session>>,
    last: u64,
}

impl State {
    /// Does what clients have told, of one domain or of all. Has any told something?
    fn hear(&self, domain: Option<&Domain>) -> bool {
        let has_told = |session: &&Arc<Session>| {
            let member = session.member();
            member.is_some_and(|member| {
                domain.is_none_or(|domain| member.is_of(domain)) && member.has_told()
            })
        };
        let told: Vec<Arc<Session>> = self
            .lock()
            .by_no
            .values()
            .filter(has_told)
            .cloned()
            .collect();
        for session in &told {
            let Some(member) = session.member() else {
                continue;
            };
            if let Err(error) = member.hear(session.no, &*self.keeper) {
                tracing::warn!(client = session.no.0, %error, "a client is put out");
                // The server sees that, and ends the session. It may have been closed before.
                let how = rustix::net::Shutdown::Both;
                rustix::net::shutdown(&session.requests, how).unwrap_or_default();
            }
        }
        !told.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }
}

#[cfg(test)]
mod tests;
