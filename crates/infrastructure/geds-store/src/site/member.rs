//! A node that follows the owner of the index.
//!
//! ```text
//!        ┌───────────────────────── anything goes wrong: wait a little ◀──────────────┐
//!        ▼                                                                            │
//!  connect ─▶ Join ─▶ Names … ─▶ the replica is replaced ─▶ what is here is told ─▶ Follow, Follow, …
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use ids::Epoch;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::peers::Peers;
use super::{Role, read, write};
use crate::client::{Client, Credentials};
use crate::core::index::{Index, NodeId, Op, Piece, Precondition, Revision};
use crate::core::site::{HEARTBEAT, LEASE, Lease};
use crate::core::to_usize;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::wire::site::{Committed, Followed, Joined, PieceLen, from_data};
use crate::wire::{Site, told};
use rustls::ClientConfig;

/// So long after something has gone wrong it is tried again, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// So many wait there, and more here: the owner hears on this connection what they wait for.
const CONFIRMING_MAX: usize = 200;
/// The owner answers each call within this, or is not there.
const ANSWER: Duration = Duration::from_secs(3);
/// An encoded piece of the names has fewer bytes: 4096 of them, with all their metadata.
const PIECE_BYTES_MAX: u64 = 5 << 30;

/// The owner's node has this number, and no other.
pub const OWNER: NodeId = NodeId(1);

/// What a member needs to be one.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The number of the node, which is not that of the [`OWNER`].
    pub node: NodeId,
    /// Where the owner speaks the node protocol.
    pub owner: SocketAddr,
    /// How it shows that it is of the site.
    pub credentials: Credentials,
    /// How it speaks with other nodes, if not in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// Of the node.
    pub dir: PathBuf,
    /// Where who may wait for others is waited for. Not a runtime of one thread.
    pub runtime: tokio::runtime::Handle,
}

/// The node as one of a site.
#[derive(Debug)]
pub struct Member {
    setup: Setup,
    /// Where others find this node.
    addr: OnceLock<SocketAddr>,
    state: Mutex<State>,
    /// `None`: it is not a member at the moment.
    session: watch::Sender<Option<Arc<Session>>>,
    turns: Arc<Turns>,
    pub(crate) peers: Arc<Peers>,
}

#[derive(Debug, Default)]
struct State {
    lease: Lease,
    /// Under which it was last heard.
    epoch: Option<Epoch>,
    /// What it has is told.
    is_told: bool,
    /// What the owner had when it was last heard.
    last: Revision,
}

/// A membership.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    /// Changes that wait to be known everywhere.
    confirming: Semaphore,
    /// Nothing is waited for any more.
    is_over: watch::Sender<bool>,
    pub node: NodeId,
    pub epoch: Epoch,
}

/// What an operator wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    /// Zero: it answers nobody.
    pub lease_left: Duration,
    pub behind_records: u64,
}

impl Member {
    /// It is one from [`run`](Self::run) on.
    #[must_use]
    pub fn new(setup: Setup) -> Arc<Self> {
        let peers = Peers::new(
            Some(setup.credentials.clone()),
            setup.tls.clone(),
            setup.runtime.clone(),
        );
        Arc::new(Self {
            setup,
            addr: OnceLock::new(),
            state: Mutex::default(),
            session: watch::channel(None).0,
            turns: Arc::default(),
            peers,
        })
    }

    /// Its number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.setup.node
    }

    /// May this node answer from its replica, which has come so far?
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn check_lease(&self, applied: Revision) -> Result<()> {
        let state = self.state();
        if state.is_told && state.lease.holds(applied, rt::now()) {
            Ok(())
        } else {
            let what = "this node has lost touch with the owner of the names of its site";
            Err(Error::new(Kind::Unavailable, what))
        }
    }

    pub(crate) fn numbers(&self, applied: Revision) -> Numbers {
        let state = self.state();
        let left = |until: std::time::Instant| until.saturating_duration_since(rt::now());
        Numbers {
            lease_left: state.lease.until().map(left).unwrap_or_default(),
            behind_records: state.last.0.saturating_sub(applied.0),
        }
    }

    pub(crate) fn session(&self) -> Result<Arc<Session>> {
        let session = self.session.borrow().clone();
        let what = "this node is not a member of its site at the moment";
        session.ok_or_else(|| Error::new(Kind::Unavailable, what))
    }

    /// The next number of an object, and the turn to speak of it.
    pub(crate) fn turn(&self) -> Turn {
        self.turns.next()
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.setup.runtime
    }

    /// Has the owner carry out a change. Returns when the replica knows of it. For who may wait.
    ///
    /// # Errors
    /// Why it was refused; `Unavailable`: it is not known whether it was.
    pub(crate) fn commit(
        &self,
        store: &Store,
        session: &Session,
        turn: Option<Turn>,
        (base, when, op): (Option<Revision>, Precondition, Op),
    ) -> Result<Committed> {
        let commit = Site::Commit {
            member: (session.node, session.epoch),
            base,
            when,
            op,
        };
        if let Some(turn) = &turn {
            turn.wait();
        }
        self.setup.runtime.block_on(async {
            let asked = session.client.begin_to_tell(commit).await;
            drop(turn);
            // It is known that the owner has not heard it.
            let asked = asked.map_err(|error| {
                Error::caused(Kind::Fenced, "speak to the owner of the names", error)
            })?;
            let committed = async {
                let (committed, _) = asked.answer::<Committed>().await?;
                self.reach(store, committed.at).await?;
                Ok(committed)
            };
            session.unless_over(committed).await
        })
    }

    /// Waits until the replica has come so far.
    async fn reach(&self, store: &Store, revision: Revision) -> Result<()> {
        let mut revisions = store.namespace().revisions();
        let reached = revisions.wait_for(|at| *at >= revision).await;
        reached.map(drop).map_err(|_| over())
    }

    /// Is a member as long as this goes on. `addr`: where others find this node.
    pub async fn run(self: Arc<Self>, store: Store, addr: SocketAddr) {
        self.addr.get_or_init(|| addr);
        let mut pause = PAUSE;
        let mut is_told = false;
        loop {
            let begun = rt::now();
            let Err(error) = self.be(&store).await;
            if let Some(session) = self.session.send_replace(None) {
                session.is_over.send_replace(true);
            }
            {
                let mut state = self.state();
                state.lease = Lease::default();
                state.is_told = false;
            }
            if begun.elapsed() > LEASE {
                (pause, is_told) = (PAUSE, false);
            }
            let error = told(&error);
            if is_told {
                tracing::debug!(error, "be a member of the site");
            } else {
                tracing::warn!(error, "be a member of the site");
                is_told = true;
            }
            let jitter = rt::random_u64() % 100;
            tokio::time::sleep(pause + Duration::from_millis(jitter)).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Says that it answers nobody any more.
    pub async fn leave(&self) {
        self.state().is_told = false;
        let session = self.session.send_replace(None);
        if let Some(session) = session {
            let member = (session.node, session.epoch);
            let left = session.client.tell::<()>(Site::Leave { member });
            // If it is not heard, its lease ends.
            timeout(HEARTBEAT, left).await.ok();
            session.is_over.send_replace(true);
        }
    }

    /// From a connection to its end.
    async fn be(&self, store: &Store) -> Result<std::convert::Infallible> {
        let Setup {
            node,
            owner,
            credentials,
            dir,
            ..
        } = &self.setup;
        let client = self.peers.connect(*owner, credentials).await?;
        let (known, of) = (read(dir, Role::Member)?, client.node().0);
        let join = Site::Join {
            node: *node,
            former: self.state().epoch,
            addr: *self.addr.get().expect("it was said at the start"),
            site: known,
        };
        if of != OWNER {
            let what = format!("the node at {owner} is no owner of an index");
            return Err(Error::new(Kind::Invalid, what));
        }
        let (joined, _) = client.tell::<Joined>(join).await?;
        if known.is_none() {
            write(dir, Role::Member, joined.site)?;
        }
        let epoch = joined.epoch;
        self.state().epoch = Some(epoch);
        let session = Arc::new(Session {
            client,
            confirming: Semaphore::new(CONFIRMING_MAX),
            is_over: watch::channel(false).0,
            node: *node,
            epoch,
        });
        let index = load(store, &session, joined.n_pieces).await?;
        store.begin_membership(epoch, index);
        self.session.send_replace(Some(Arc::clone(&session)));
        let telling = {
            let store = store.clone();
            let telling = rt::blocking(move || store.tell_what_is_here(epoch));
            async move {
                let told = telling.await;
                told.map_err(|error| Error::io("tell what is here", error))??;
                tracing::info!(node = node.0, %epoch, "a member of the site");
                self.state().is_told = true;
                std::future::pending::<Result<std::convert::Infallible>>().await
            }
        };
        tokio::select! {
            told = telling => told,
            over = self.follow(store, &session) => over,
        }
    }

    async fn follow(&self, store: &Store, session: &Session) -> Result<std::convert::Infallible> {
        let mut peers = 0;
        loop {
            let applied = store.namespace().read(Index::revision);
            let follow = Site::Follow {
                member: (session.node, session.epoch),
                applied,
                peers,
            };
            let asked = rt::now();
            let answer = timeout(ANSWER, session.client.tell::<Followed>(follow)).await;
            let slow = |_| Error::new(Kind::Unavailable, "the owner of the names is silent");
            let (followed, data) = answer.map_err(slow)??;
            let records = from_data(&data)?;
            if !records.is_empty() {
                let of = store.clone();
                let applied = rt::blocking(move || of.follow(records)).await;
                applied.map_err(|error| Error::io("carry out records", error))??;
            }
            if let Some((version, addrs)) = followed.peers {
                peers = version;
                let owner = (OWNER, self.setup.owner);
                self.peers.set_addrs(addrs.into_iter().chain([owner]));
            }
            let mut state = self.state();
            state.lease.granted(asked, followed.needed);
            state.last = followed.last;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Session {
    /// Waits until all nodes that answer know of it, and, if that is wanted, it is durable.
    pub(crate) async fn confirm(&self, revision: Revision, is_durable: bool) -> Result<()> {
        let confirm = Site::Confirm {
            member: (self.node, self.epoch),
            revision,
            is_durable,
        };
        let confirmed = async {
            let place = self.confirming.acquire().await;
            let _place = place.map_err(|_| over())?;
            self.client.tell::<()>(confirm).await?;
            Ok(())
        };
        self.unless_over(confirmed).await
    }

    /// The owner may be there, and silent.
    async fn unless_over<T>(&self, done: impl Future<Output = Result<T>>) -> Result<T> {
        let mut is_over = self.is_over.subscribe();
        tokio::select! {
            done = done => done,
            _ = is_over.wait_for(|is_over| *is_over) => Err(over()),
        }
    }
}

/// The names as they were when the node has joined.
async fn load(store: &Store, session: &Session, n_pieces: u64) -> Result<Index> {
    let member = (session.node, session.epoch);
    let mut pieces = Vec::new();
    for piece in 0..n_pieces {
        let mut bytes = BytesMut::new();
        loop {
            let from = bytes.len() as u64;
            let names = Site::Names {
                member,
                piece,
                from,
            };
            let (PieceLen(len), data) = session.client.tell(names).await?;
            if len > PIECE_BYTES_MAX || from + data.len() as u64 > len {
                let what = "a piece of the names is longer than it can be";
                return Err(Error::new(Kind::Invalid, what));
            }
            bytes.extend_from_slice(&data);
            if bytes.len() == to_usize(len) {
                break;
            }
            if data.is_empty() {
                return Err(Error::new(Kind::Invalid, "a piece of the names has no end"));
            }
        }
        pieces.push(bytes);
    }
    let limits = store.namespace().config().limits.clone();
    let made = rt::blocking(move || {
        let pieces = pieces.into_iter().map(|bytes| Piece::decode(&bytes));
        Ok(Index::from_pieces(limits, pieces)?)
    });
    made.await
        .map_err(|error| Error::io("make the replica", error))?
}

fn over() -> Error {
    let what = "the owner of the names was lost before it was known what has become of a change";
    Error::new(Kind::Unavailable, what)
}

/// Numbers of objects, which the owner is to hear in their order.
#[derive(Debug, Default)]
struct Turns {
    /// The last number, and those that were not spoken of yet.
    waiting: Mutex<(u64, BTreeSet<u64>)>,
    next: Condvar,
}

/// A number. Those after it wait until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pub serial: u64,
    turns: Arc<Turns>,
}

impl Turns {
    fn next(self: &Arc<Self>) -> Turn {
        let mut waiting = lock(&self.waiting);
        waiting.0 += 1;
        let serial = waiting.0;
        waiting.1.insert(serial);
        Turn {
            serial,
            turns: Arc::clone(self),
        }
    }
}

impl Turn {
    /// Until all before it were spoken of, or will not be.
    fn wait(&self) {
        let mut waiting = lock(&self.turns.waiting);
        while waiting.1.first() != Some(&self.serial) {
            let next = self.turns.next.wait(waiting);
            waiting = next.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.turns.waiting).1.remove(&self.serial);
        self.turns.next.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
