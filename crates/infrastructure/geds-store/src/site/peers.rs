//! Objects that another node has.
//!
//! ```text
//!  read ─▶ Hold at the node that has it: it stays there as long as it is read ─▶ pieces, several on their way ─▶ Close
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use ids::Name as Tenant;
use rustls::ClientConfig;
use tokio::sync::OnceCell;

use crate::client::{Client, Credentials, Object, Tls};
use crate::core::index::{Entry, NodeId, Placement, Residency};
use crate::core::to_usize;
use crate::error::{Error, Kind, Result};

/// So much comes at a time, and so many pieces are on their way.
const PIECE_BYTES: u64 = 1 << 20;
const PIECES_AHEAD: usize = 4;

/// The other nodes, and the connections to them: one each, for any number of reads.
pub struct Peers {
    addrs: Mutex<BTreeMap<NodeId, SocketAddr>>,
    connections: Mutex<BTreeMap<NodeId, Connecting>>,
    credentials: Mutex<Option<Credentials>>,
    tls: Option<Arc<ClientConfig>>,
    runtime: tokio::runtime::Handle,
    n_requests: AtomicU64,
    n_bytes: AtomicU64,
}

/// One that connects has it locked: others wait for that.
type Connecting = Arc<tokio::sync::Mutex<Option<(SocketAddr, Client)>>>;

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peers").field(&*lock(&self.addrs)).finish()
    }
}

impl Peers {
    /// Knows none yet. Without a credential none of them is asked.
    #[must_use]
    pub fn new(
        credentials: Option<Credentials>,
        tls: Option<Arc<ClientConfig>>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            addrs: Mutex::default(),
            connections: Mutex::default(),
            credentials: Mutex::new(credentials),
            tls,
            runtime,
            n_requests: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
        })
    }

    /// How this node shows that it is of the site.
    pub fn set_credentials(&self, credentials: Option<Credentials>) {
        *lock(&self.credentials) = credentials;
    }

    pub(crate) fn set_addrs(&self, addrs: impl IntoIterator<Item = (NodeId, SocketAddr)>) {
        *lock(&self.addrs) = addrs.into_iter().collect();
    }

    /// How often something was asked for, and how many bytes have come.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.n_requests, &self.n_bytes].map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// An object that others have, for a tenant. `None`: none of them has it.
    pub(crate) fn find(
        self: &Arc<Self>,
        (here, owner): (NodeId, NodeId),
        entry: &Arc<Entry>,
        placement: &Placement,
        tenant: &Tenant,
    ) -> Option<Arc<Elsewhere>> {
        // Memory before disks, and S3 by who knows it.
        let mut at: Vec<_> = placement.copies().iter().collect();
        at.sort_by_key(|copy| !matches!(copy, Residency::Dram(_)));
        let mut nodes: Vec<NodeId> = Vec::new();
        for copy in at {
            let node = copy.node().unwrap_or(owner);
            if node != here && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        (!nodes.is_empty()).then(|| {
            Arc::new(Elsewhere {
                peers: Arc::clone(self),
                nodes,
                entry: Arc::clone(entry),
                tenant: tenant.clone(),
                held: OnceCell::new(),
            })
        })
    }

    /// Over TLS, if the site speaks that: the certificate is to have the address of the node.
    pub(super) async fn connect(
        &self,
        addr: SocketAddr,
        credentials: &Credentials,
    ) -> Result<Client> {
        let tls = self.tls.as_ref().map(|config| Tls {
            config: Arc::clone(config),
            name: addr.ip().to_string(),
        });
        Ok(Client::connect(addr, credentials, tls.as_ref()).await?)
    }

    async fn client(&self, node: NodeId) -> Result<Client> {
        let addr = lock(&self.addrs).get(&node).copied();
        let what = || format!("where node {} is is not known", node.0);
        let addr = addr.ok_or_else(|| Error::new(Kind::Unavailable, what()))?;
        let connecting = Arc::clone(lock(&self.connections).entry(node).or_default());
        let mut connecting = connecting.lock().await;
        if let Some((known, client)) = &*connecting
            && *known == addr
            && !client.is_over()
        {
            return Ok(client.clone());
        }
        let credentials = lock(&self.credentials).clone();
        let missing = || Error::new(Kind::Unavailable, "this node has no credential of the site");
        let credentials = credentials.ok_or_else(missing)?;
        let client = self.connect(addr, &credentials).await?;
        *connecting = Some((addr, client.clone()));
        Ok(client)
    }
}

/// An object that another node has. It is held there from the first read on, and is the same as long as this is there.
pub(crate) struct Elsewhere {
    peers: Arc<Peers>,
    nodes: Vec<NodeId>,
    entry: Arc<Entry>,
    tenant: Tenant,
    held: OnceCell<Arc<Object>>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("Elsewhere");
        debug.field(&self.entry.sealed.id).field(&self.nodes);
        debug.finish()
    }
}

impl Elsewhere {
    /// Has it held where it is.
    ///
    /// # Errors
    /// `NotFound`: it is not there any more. `Unavailable`: none of the nodes answers.
    pub(crate) async fn hold(&self) -> Result<&Arc<Object>> {
        self.held.get_or_try_init(|| self.held_anywhere()).await
    }

    /// The same for who may wait.
    pub(crate) fn hold_now(&self) -> Result<()> {
        self.peers.runtime.block_on(self.hold()).map(drop)
    }

    async fn held_anywhere(&self) -> Result<Arc<Object>> {
        let mut gone = None;
        let mut failed = None;
        for node in &self.nodes {
            match self.held_at(*node).await {
                Ok(object) => return Ok(Arc::new(object)),
                Err(error) if error.kind == Kind::NotFound => gone = Some(error),
                Err(error) => {
                    let what = format!("read from node {}", node.0);
                    failed = Some(Error::caused(Kind::Unavailable, what, error));
                }
            }
        }
        Err(failed.or(gone).expect("at least one node has it"))
    }

    async fn held_at(&self, node: NodeId) -> Result<Object> {
        let client = self.peers.client(node).await?;
        self.peers.n_requests.fetch_add(1, Ordering::Relaxed);
        let first = 0..self.entry.sealed.size.min(PIECE_BYTES);
        let object = client.hold(&self.entry, &self.tenant, first).await?;
        self.count(object.first_bytes());
        Ok(object)
    }

    fn count(&self, n_bytes: usize) {
        self.peers
            .n_bytes
            .fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    /// A range of it, as it comes. The range is within it.
    pub(crate) fn stream(self: &Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let this = Arc::clone(self);
        let begun = async move {
            let object = Arc::clone(this.hold().await?);
            let from = (range.start..range.end).step_by(to_usize(PIECE_BYTES));
            let piece = move |from: u64| {
                let (this, object) = (Arc::clone(&this), Arc::clone(&object));
                let until = range.end.min(from + PIECE_BYTES);
                async move {
                    let is_first = until <= object.first_bytes() as u64;
                    let bytes = object.read(from..until).await?;
                    if !is_first {
                        this.peers.n_requests.fetch_add(1, Ordering::Relaxed);
                        this.count(bytes.len());
                    }
                    Ok::<_, Error>(bytes)
                }
            };
            Ok::<_, Error>(stream::iter(from).map(piece).buffered(PIECES_AHEAD))
        };
        stream::once(begun).try_flatten().boxed()
    }

    /// The first of a range that is within it, or all of it. For who may wait.
    pub(crate) fn piece(&self, range: Range<u64>) -> Result<Bytes> {
        let until = range
            .end
            .min(range.start + PIECES_AHEAD as u64 * PIECE_BYTES);
        self.peers.runtime.block_on(async {
            let object = self.hold().await?;
            let bytes = object.read(range.start..until).await?;
            if until > object.first_bytes() as u64 {
                self.count(bytes.len());
            }
            Ok(bytes)
        })
    }

    /// Copies bytes from `position` on, as many as there is room for: there are as many. For who may wait.
    pub(crate) fn read_at(self: &Arc<Self>, position: u64, into: &mut [u8]) -> Result<()> {
        let mut pieces = self.stream(position..position + into.len() as u64);
        let mut at = 0;
        while let Some(piece) = self.peers.runtime.block_on(pieces.next()) {
            let piece = piece?;
            into[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
