//! Who comes in.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ids::Name as Tenant;
use prometheus::IntGauge;
use s3::users::Users;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::detached::{Detached, LEFT_FOR};
use super::metrics::Counters;
use super::outbox::Outbox;
use super::session::Session;
use super::{Limits, Setup};
use crate::error::{Error, Kind, Result};
use crate::front::local::Local;
use crate::link::{self, Frame, Incoming, Outgoing};
use crate::store::{self, Store, Writer};
use crate::wire::proof::{Binding, Meeting};
use crate::wire::{
    Challenge, DATA_BYTES_MAX, HELLO_BODY_BYTES_MAX, Header, Hello, Op, Prove, Reply, Welcome,
};

/// What all connections share.
#[derive(Clone)]
pub(super) struct Door(Arc<Inner>);

struct Inner {
    limits: Limits,
    users: Users,
    peers: Users,
    store: Store,
    local: Option<Arc<Local>>,
    acceptor: Option<TlsAcceptor>,
    shared: Shared,
    /// The secret of those who are no users.
    nobody: String,
    stopped: watch::Receiver<bool>,
    counters: Counters,
}

/// What the doors of one node have in common.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// What is held for the tenants that are connected.
    shares: Arc<Mutex<BTreeMap<Tenant, Weak<Share>>>>,
    detached: Arc<Detached<Writer>>,
}

/// What a tenant may have at a time, over all of its connections.
#[derive(Debug)]
pub(super) struct Share {
    /// Bytes received, and bytes to be sent.
    pub received: Arc<Semaphore>,
    pub sent: Arc<Semaphore>,
    /// Calls that wait for a disk: those that change something, and those that read.
    pub changing: Arc<Semaphore>,
    pub reading: Arc<Semaphore>,
    /// Objects that it has asked to be in S3.
    pub persisting: Arc<Semaphore>,
}

/// Returns when the server is stopped, or gone.
pub(super) async fn end_of(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stopped| *stopped).await.ok();
}

impl Door {
    pub(super) fn new(setup: Setup, stopped: watch::Receiver<bool>) -> Self {
        // There is room for a frame.
        let limits = Limits {
            connection_bytes: setup.limits.connection_bytes.max(DATA_BYTES_MAX),
            tenant_bytes: setup.limits.tenant_bytes.max(DATA_BYTES_MAX),
            ..setup.limits
        };
        let nobody = format!("{:016x}{:016x}", rt::random_u64(), rt::random_u64());
        Self(Arc::new(Inner {
            limits,
            users: setup.users,
            peers: setup.peers,
            store: setup.store,
            local: setup.local,
            acceptor: setup.tls.map(TlsAcceptor::from),
            shared: setup.shared,
            nobody,
            stopped,
            counters: setup.counters,
        }))
    }

    pub(super) async fn accept(self, listener: TcpListener) {
        let limits = self.0.limits;
        let mut stopped = self.0.stopped.clone();
        let places = Arc::new(Semaphore::new(limits.connections));
        let strangers = Arc::new(Semaphore::new(limits.strangers));
        let detached = Arc::clone(&self.0.shared.detached);
        let _sweeping = rt::spawn("geds detached", async move {
            loop {
                tokio::time::sleep(LEFT_FOR / 10).await;
                detached.sweep(rt::now());
            }
        });
        // They end with this task. Those that are over are let go at the next call: as many as there are places, at most.
        let mut tasks = BTreeMap::new();
        let (over, mut ended) = mpsc::channel(limits.connections);
        for number in 0_u64.. {
            if places.available_permits() == 0 || strangers.available_permits() == 0 {
                self.0.counters.delayed.inc();
            }
            let next = async {
                let places = [&places, &strangers].map(Arc::clone);
                let [place, stranger] = places.map(Semaphore::acquire_owned);
                let place = place.await.expect(NEVER_CLOSED);
                let stranger = stranger.await.expect(NEVER_CLOSED);
                (place, stranger, listener.accept().await)
            };
            let (place, stranger, socket) = tokio::select! {
                next = next => next,
                () = end_of(&mut stopped) => break,
            };
            let socket = match socket {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Too few file descriptors, for instance: others will end.
                    tracing::warn!(%error, "accept a client of the node");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            while let Ok(number) = ended.try_recv() {
                tasks.remove(&number);
            }
            let (door, over) = (self.clone(), over.clone());
            let open = Level::up(&self.0.counters.connections);
            let life = async move {
                if let Err(error) = door.converse(socket, stranger).await {
                    tracing::debug!(%error, "a connection of a client of the node ended");
                }
                // There is room for everyone who has a place; nobody listens any more when all ends.
                over.try_send(number).ok();
                drop((place, open));
            };
            tasks.insert(number, rt::spawn("geds client", life));
        }
        drop(listener);
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        timeout(limits.drain, places.acquire_many(all)).await.ok();
    }

    async fn converse(&self, socket: TcpStream, stranger: OwnedSemaphorePermit) -> io::Result<()> {
        let limits = self.0.limits;
        let hello = async {
            let (mut incoming, mut outgoing, binding) = self.open(socket).await?;
            let user = self.meet(&mut incoming, &mut outgoing, binding).await?;
            io::Result::Ok((incoming, outgoing, user))
        };
        let met = timeout(limits.hello, hello).await;
        drop(stranger);
        let (incoming, outgoing, (tenant, is_peer)) = match met {
            Ok(Ok((incoming, outgoing, Some(who)))) => (incoming, outgoing, who),
            refused => {
                self.0.counters.refused.inc();
                return refused?.map(drop);
            }
        };
        let counters = self.0.counters.clone();
        let (outbox, answers) = Outbox::new(outgoing, limits, counters.clone());
        let session = Session {
            limits,
            store: self.0.store.clone(),
            local: self.0.local.clone(),
            share: self.share(&tenant),
            detached: Arc::clone(&self.0.shared.detached),
            tenant,
            is_peer,
            outbox,
            stopped: self.0.stopped.clone(),
            counters,
        };
        session.converse(incoming, answers).await
    }

    async fn open(&self, socket: TcpStream) -> io::Result<(Incoming, Outgoing, Binding)> {
        let Some(acceptor) = &self.0.acceptor else {
            let (incoming, outgoing) = link::plain(socket)?;
            return Ok((incoming, outgoing, Binding::default()));
        };
        let stream = acceptor.accept(socket).await?;
        let binding = link::binding(stream.get_ref().1)?;
        let (incoming, outgoing) = link::secure(stream.into())?;
        Ok((incoming, outgoing, binding))
    }

    /// Who it is, and whether that is a node of the site. `None`: it was told why not.
    async fn meet(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        binding: Binding,
    ) -> io::Result<Option<(Tenant, bool)>> {
        let (request, hello) = match listen::<Hello>(incoming, Op::Hello).await? {
            Ok(heard) => heard,
            Err(error) => return refuse(outgoing, 0, Op::Hello, &error).await,
        };
        let mut meeting = Meeting {
            client: hello.nonce,
            node: [0; 32],
            binding,
        };
        rt::fill_random(&mut meeting.node);
        let challenge = Challenge {
            nonce: meeting.node,
        };
        let challenge = Frame::reply(request, Op::Hello.code(), &challenge, Vec::new());
        outgoing.send(&[challenge]).await?;
        let (request, prove) = match listen::<Prove>(incoming, Op::Prove).await? {
            Ok(heard) => heard,
            Err(error) => return refuse(outgoing, 0, Op::Prove, &error).await,
        };
        let peer = self.0.peers.get(&hello.access_key);
        let is_peer = peer.is_some();
        let user = peer.or_else(|| self.0.users.get(&hello.access_key));
        let secret = match &user {
            Some(user) => user.secret.expose(),
            None => &self.0.nobody,
        };
        let known = meeting.check_client(secret, &prove.proof);
        let tenant = match (known, &user) {
            (Ok(()), Some(_)) if is_peer => Ok(store::peer()),
            (Ok(()), Some(user)) => store::tenant(user.tenant.as_str()),
            (Ok(()), None) => Err(Error::new(Kind::Denied, "there is no such access key")),
            (Err(error), _) => Err(error.into()),
        };
        let tenant = match tenant {
            Ok(tenant) => tenant,
            Err(error) => {
                tracing::debug!(access_key = hello.access_key, %error, "a client was refused");
                return refuse(outgoing, request, Op::Prove, &error).await;
            }
        };
        let (node, epoch) = self.0.store.identity();
        let welcome = Welcome {
            proof: meeting.node_proves(secret),
            node,
            epoch,
        };
        let welcome = Frame::reply(request, Op::Prove.code(), &welcome, Vec::new());
        outgoing.send(&[welcome]).await?;
        Ok(Some((tenant, is_peer)))
    }

    fn share(&self, tenant: &Tenant) -> Arc<Share> {
        let mut shares = self
            .0
            .shared
            .shares
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(tenant).and_then(Weak::upgrade) {
            return share;
        }
        let limits = self.0.limits;
        let semaphore = |n_permits| Arc::new(Semaphore::new(n_permits));
        let share = Arc::new(Share {
            received: semaphore(limits.tenant_bytes),
            sent: semaphore(limits.tenant_bytes),
            changing: semaphore(limits.tenant_calls),
            reading: semaphore(limits.tenant_calls),
            persisting: semaphore(limits.tenant_calls),
        });
        shares.retain(|_, share| share.strong_count() > 0);
        shares.insert(tenant.clone(), Arc::downgrade(&share));
        share
    }
}

pub(super) const NEVER_CLOSED: &str = "nobody closes the semaphore";

/// Counts one as long as it is held.
struct Level(IntGauge);

impl Level {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Hears what a stranger says: little.
async fn listen<T: Reply>(incoming: &mut Incoming, op: Op) -> io::Result<Result<(u64, T)>> {
    let header = match Header::parse(&incoming.header().await?) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error.into())),
    };
    let is_short = header.body_bytes <= HELLO_BODY_BYTES_MAX && header.data_bytes == 0;
    if header.op != op.code() || header.is_reply || !is_short {
        let what = "first both sides prove that they know a secret";
        return Ok(Err(Error::new(Kind::Denied, what)));
    }
    let body = incoming.bytes(header.body_bytes).await?;
    let said = T::parse(&body).map_err(Error::from);
    Ok(said.map(|said| (header.request, said)))
}

async fn refuse<T>(
    outgoing: &mut Outgoing,
    request: u64,
    op: Op,
    error: &Error,
) -> io::Result<Option<T>> {
    outgoing
        .send(&[Frame::refusal(request, op.code(), error)])
        .await?;
    outgoing.close().await?;
    Ok(None)
}
