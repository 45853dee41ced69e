//! The process that holds the cells of one world on one machine.
//!
//! A host is told everything by its coordinator and asks for nothing but the module. It keeps in its directory what is its own alone: the
//! journal of the ranks that have left it. It runs its ranks on when the connection breaks, and dials again. A host that its
//! coordinator has started ends with it: its standard input does. One that others have started ([`HostConfig::admitted`]) ends when it is
//! told to.
//!
//! Threads: this file's command loop; one accepting connections, and one for each; one for each link to another host ([`links`]); one sending
//! events; one for each rank ([`crate::cell::life`]).

pub(crate) mod incoming;
mod links;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod uplink;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use auth::KeyRequest;
use instrument::Mobility;
use serde::{Deserialize, Serialize};
use wasm::engine::{Engine, Profile};
use wasm::vfs::{HostDir, Vfs};

use crate::cell::image::{Mounts, Program};
use crate::cell::life::{self, Start};
use crate::cell::stop::{self, StopRequest};
use crate::disk::claim::Claim;
use crate::disk::journal::Journal;
use crate::wire::messages::{
    Begin, Command, Epoch, Event, Hello, HostId, Location, Purpose, Rank, StopPoint, TraceMode,
    VERSION, WorldId, WorldSpec,
};
use crate::wire::session::Broken;
use crate::wire::{self, Identity, Stream, Tls, invalid, socket};
use crate::world::admin::Admission;
use incoming::Incoming;
use metrics::Metrics;
use node::{Node, NodeConfig};
use uplink::Uplink;

/// The name of the coordinator in its certificate.
pub(crate) const COORDINATOR_NAME: &str = "coordinator.cloudskin";
/// The most ranks of a world on one host; each reserves 8 GiB of addresses.
pub(crate) const RANKS_MAX: u32 = 256;
/// Room for ranks that come while others, whose move was given up, are still being taken down.
const SPARE_SLOTS: u32 = 8;
/// Pieces of a checkpoint that wait for the rank that begins from it.
const PIECES_MAX: usize = 16;

/// What a host is told on its standard input: who it is and whom it obeys.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostConfig {
    pub(crate) me: HostId,
    pub(crate) world: WorldId,
    /// The host's own directory.
    pub(crate) dir: PathBuf,
    /// Compiled code, of all hosts of this user.
    pub(crate) code_dir: PathBuf,
    pub(crate) coordinator: SocketAddr,
    pub(crate) identity: Identity,
    /// Where the other hosts reach it.
    pub(crate) listen: IpAddr,
    /// What it writes into its directory beside its process number.
    pub(crate) claim: String,
    /// Set for a host that its coordinator has started.
    pub(crate) is_child: bool,
    /// Engine profile: the portable interpreter instead of native code.
    pub(crate) interpret: bool,
    pub(crate) fail_point: Option<String>,
    /// (path in the guest, directory here), whatever the coordinator says; `None`: as it says.
    pub(crate) mounts: Option<Vec<(String, PathBuf)>>,
}

/// The name of a host, in its certificate and for `MPI_Get_processor_name`.
pub(crate) fn host_name(host: HostId) -> String {
    format!("host-{host}.cloudskin")
}

/// Reads what this host is; `None`: nobody needed it.
///
/// # Errors
/// When the text breaks off, or is not such a configuration.
pub fn read_config(input: &mut impl io::Read) -> io::Result<Option<HostConfig>> {
    match wire::receive(input) {
        Ok(config) => Ok(Some(config)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

impl HostConfig {
    /// A host that others have started than its coordinator, with the key that was admitted. `claim` is written into `dir`, which is this
    /// process's alone; `code_dir` is for compiled code, and may be that of many.
    #[must_use]
    pub fn admitted(
        admission: &Admission,
        key: KeyRequest,
        (dir, code_dir): (PathBuf, PathBuf),
        listen: IpAddr,
        claim: String,
    ) -> Self {
        let authority = admission.authority.clone();
        Self {
            me: admission.host,
            world: WorldId {
                id: admission.world,
                incarnation: admission.incarnation,
            },
            dir,
            code_dir,
            coordinator: admission.coordinator,
            identity: key.into_identity(authority, admission.certificate.clone()),
            listen,
            claim,
            is_child: false,
            interpret: admission.interpret,
            fail_point: None,
            mounts: Some(Vec::new()),
        }
    }

    /// What the ranks of an admitted host may see of this machine. It is for this machine's site to say, not for the coordinator's.
    #[must_use]
    pub fn mounting(mut self, mounts: Vec<(String, PathBuf)>) -> Self {
        self.mounts = Some(mounts);
        self
    }

    /// Lets the host kill itself at a step of a move, for tests.
    #[must_use]
    pub fn failing_at(mut self, step: &str) -> Self {
        self.fail_point = Some(step.to_owned());
        self
    }

    /// Tells a process what it is, over its standard input.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn write(&self, input: &mut impl io::Write) -> io::Result<()> {
        wire::send(input, self)
    }

    fn dial(&self, tls: &Tls, purpose: Purpose) -> io::Result<Stream> {
        let mut stream = tls.connect(self.coordinator, COORDINATOR_NAME)?;
        socket::notice_cuts(stream.socket())?;
        let hello = Hello {
            version: VERSION,
            world: self.world,
            from: self.me,
            purpose,
        };
        wire::send(&mut stream, &hello)?;
        Ok(stream)
    }
}

/// Serves until the coordinator says that it is over or, if it has started this process, is gone: the process ends then. It serves its
/// metrics at `metrics_address`.
///
/// # Errors
/// When the host cannot begin, or is told what it cannot do.
pub fn serve(
    config: HostConfig,
    metrics: &telemetry::Metrics,
    metrics_address: SocketAddr,
) -> io::Result<()> {
    if config.is_child {
        rt::thread("parent".into(), 1 << 20, end_with_parent)?;
    } else {
        // What ends the session of whoever started it must not end this. Refused to a process that leads one already.
        rustix::process::setsid().ok();
    }
    // Held until the process ends.
    let _claim = Claim::take(&config.dir, &config.claim)?;
    std::fs::write(config.dir.join(METRICS_FILE), metrics_address.to_string())?;
    let tls = Tls::new(&config.identity)?;
    let (journal, commits) = Journal::open(&config.dir)?;
    let listener = TcpListener::bind((config.listen, 0))?;
    let address = listener.local_addr()?;
    let metrics = Arc::new(Metrics::new(metrics));
    let up = Uplink::new(metrics.events.clone());
    let committed = commits
        .iter()
        .map(|commit| (commit.rank, commit.epoch))
        .collect();
    up.send(Event::Ready {
        address,
        metrics: metrics_address,
        pid: std::process::id(),
        committed,
    });
    let host = Arc::new(Host {
        metrics,
        config,
        tls,
        up,
        journal: Mutex::new(Some(journal)),
        node: OnceLock::new(),
        incoming: Mutex::default(),
        joining: Mutex::default(),
        failed: OnceLock::new(),
    });
    let accepting = Arc::clone(&host);
    rt::thread("accept".into(), 1 << 20, move || {
        accepting.accept(&listener)
    })?;
    let reporting = Arc::clone(&host);
    rt::thread("events".into(), 1 << 20, move || reporting.report())?;
    host.listen()
}

/// The coordinator holds the other end of the standard input for as long as it lives.
fn end_with_parent() {
    // An error is as good an end.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
    // Nobody would hear of anything that happens here from now on.
    std::process::exit(1);
}

/// The address at which a host serves its metrics, in its directory.
pub(crate) const METRICS_FILE: &str = "metrics";

struct Host {
    config: HostConfig,
    tls: Tls,
    up: Uplink,
    metrics: Arc<Metrics>,
    journal: Mutex<Option<Journal>>,
    node: OnceLock<Arc<Node>>,
    incoming: Mutex<HashMap<Rank, Arc<Incoming>>>,
    joining: Mutex<Joining>,
    /// Why it could not join.
    failed: OnceLock<String>,
}

/// A world that is being joined.
#[derive(Default)]
struct Joining {
    wanted: Option<Join>,
    pieces: HashMap<Rank, SyncSender<Vec<u8>>>,
}

struct Join {
    spec: WorldSpec,
    peers: Vec<(HostId, SocketAddr)>,
    locations: Vec<Location>,
    begin: Vec<Begin>,
}

impl Host {
    /// Obeys the coordinator, to the end.
    fn listen(self: &Arc<Self>) -> io::Result<()> {
        let mut attempt = 0;
        loop {
            let cut = match self.config.dial(&self.tls, Purpose::Commands) {
                Ok(mut stream) => {
                    attempt = 0;
                    let obey = |command| self.obey(command);
                    match self.up.0.reader().receive(&mut stream, obey) {
                        Broken::Over => {
                            let failed = self.failed.get().cloned();
                            return failed.map_or(Ok(()), |why| Err(io::Error::other(why)));
                        }
                        Broken::Refused(error) => return Err(error),
                        Broken::Cut(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::info!(error = %cut, "the coordinator is not to be heard");
            self.up.0.wait_to_redial(attempt);
            attempt += 1;
        }
    }

    /// Sends events to the coordinator, for as long as the process lives.
    fn report(&self) {
        let mut attempt = 0;
        loop {
            let carried = self
                .config
                .dial(&self.tls, Purpose::Events)
                .and_then(|mut stream| {
                    attempt = 0;
                    self.up.0.carry(self.up.0.connected(), &mut stream)
                });
            let error = carried.map_or_else(|error| error.to_string(), |()| "it is over".into());
            tracing::info!(error, "the coordinator does not listen");
            self.up.0.wait_to_redial(attempt);
            attempt += 1;
        }
    }

    /// It must not wait for room in the queue of events: whoever calls it makes that room.
    fn obey(self: &Arc<Self>, command: Command) -> io::Result<()> {
        match command {
            Command::Join {
                spec,
                peers,
                locations,
                begin,
            } => {
                let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
                joining.wanted = Some(Join {
                    spec: *spec,
                    peers,
                    locations,
                    begin,
                });
                self.up.send_now(Event::ModuleWanted);
            }
            Command::Module(wasm) => self.join(&wasm),
            Command::Piece { rank, bytes } => {
                let joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
                // A rank whose thread has failed has reported that.
                joining
                    .pieces
                    .get(&rank)
                    .map(|pieces| pieces.send(bytes).ok());
            }
            Command::Go => self.node()?.go(),
            Command::Peer { host, address } => self.meet(self.node()?, host, address)?,
            Command::Prepare { rank, epoch } => self.prepare(rank, epoch)?,
            Command::Move {
                rank,
                epoch,
                to,
                at,
            } => self.send_away(rank, (to, epoch), at)?,
            Command::Commit { rank, epoch } => self.decide(rank, epoch, Incoming::commit),
            Command::Discard { rank, epoch } => self.decide(rank, epoch, Incoming::discard),
            Command::Located(location) => self.node()?.located(location),
            Command::Checkpoint { id } => self.checkpoint(id)?,
            Command::Resume { id } => self.node()?.resume(id),
        }
        Ok(())
    }

    fn node(&self) -> io::Result<&Arc<Node>> {
        self.node
            .get()
            .ok_or_else(|| invalid("the coordinator speaks of a world that it has not named"))
    }

    fn join(self: &Arc<Self>, wasm: &[u8]) {
        if let Err(reason) = self.try_join(wasm) {
            // Its site sees only how the process ends. The first reason counts.
            self.failed.set(reason.clone()).ok();
            self.up.send_now(Event::JoinFailed { reason });
        }
    }

    fn try_join(self: &Arc<Self>, wasm: &[u8]) -> Result<(), String> {
        let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let Join {
            spec,
            peers,
            locations,
            begin,
        } = joining.wanted.take().ok_or("no world was named")?;
        if spec.module != wasm::engine::sha256(wasm) {
            return Err("the module is not the one that was named".into());
        }
        let journal = self
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let journal = journal.ok_or("this host has joined a world before")?;
        let profile = if self.config.interpret {
            Profile::Pulley
        } else {
            Profile::Cell
        };
        let slots = spec.size.min(RANKS_MAX) + SPARE_SLOTS;
        let engine = Engine::new(profile, slots, &self.config.code_dir)
            .map_err(|error| error.to_string())?;
        let config = NodeConfig {
            me: self.config.me,
            program: Program::new(&engine, wasm)?,
            mounts: self.mounts(&spec)?,
            spec,
            up: self.up.clone(),
            metrics: Arc::clone(&self.metrics),
            journal,
            fail_point: self.config.fail_point.clone(),
        };
        let node = Node::new(config, &locations).map_err(|error| error.to_string())?;
        for (host, address) in peers {
            self.meet(&node, host, address)
                .map_err(|error| error.to_string())?;
        }
        for Begin { rank, restore, .. } in begin {
            let pieces = (restore || node.spec.trace == TraceMode::Replay).then(|| {
                let (sender, receiver) = sync_channel(PIECES_MAX);
                joining.pieces.insert(rank, sender);
                receiver
            });
            let start = match pieces {
                Some(pieces) if restore => Start::Checkpoint(pieces),
                pieces => Start::Fresh { trace: pieces },
            };
            life::spawn(&node, rank, start).map_err(|error| error.to_string())?;
        }
        if self.node.set(node).is_err() {
            return Err("this host has joined a world before".into());
        }
        self.up.send_now(Event::Joined);
        Ok(())
    }

    fn mounts(&self, spec: &WorldSpec) -> Result<Mounts, String> {
        let mount = |(guest, path): (&String, &Path)| {
            let dir = HostDir::open(path)
                .map_err(|error| format!("mount {}: {error}", path.display()))?;
            Ok((guest.clone(), Arc::new(dir) as Arc<dyn Vfs>))
        };
        match &self.config.mounts {
            Some(mine) => {
                let mine = mine.iter().map(|(guest, path)| (guest, path.as_path()));
                mine.map(mount).collect()
            }
            None => {
                let told = spec.mounts.iter();
                told.map(|(guest, path)| mount((guest, path.as_ref())))
                    .collect()
            }
        }
    }

    /// Starts the link to another host.
    fn meet(&self, node: &Arc<Node>, host: HostId, address: SocketAddr) -> io::Result<()> {
        if host == self.config.me {
            return Ok(());
        }
        let link = node.link(host);
        link.redirect(address);
        if !link.claim() {
            return Ok(());
        }
        let (node, tls) = (Arc::clone(node), self.tls.clone());
        rt::thread(format!("link {host}"), 1 << 20, move || {
            link.run(&node, &tls)
        })?;
        Ok(())
    }

    fn prepare(&self, rank: Rank, epoch: Epoch) -> io::Result<()> {
        let node = self.node()?;
        let incoming = Arc::new(Incoming::new(epoch));
        let mut table = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = table.insert(rank, Arc::clone(&incoming)) {
            earlier.discard();
        }
        life::spawn(node, rank, Start::Incoming(incoming))
    }

    /// Asks a rank to leave. The connection is made before it stops, so that it stands still for less time.
    fn send_away(
        self: &Arc<Self>,
        rank: Rank,
        (to, epoch): (HostId, Epoch),
        at: StopPoint,
    ) -> io::Result<()> {
        let node = Arc::clone(self.node()?);
        let host = Arc::clone(self);
        rt::thread(format!("move {rank}"), 1 << 20, move || {
            if let Err(reason) = host.try_send_away(&node, rank, (to, epoch), at) {
                node.up.send(Event::MoveFailed {
                    rank,
                    epoch,
                    reason,
                });
            }
        })?;
        Ok(())
    }

    fn try_send_away(
        &self,
        node: &Arc<Node>,
        rank: Rank,
        (to, epoch): (HostId, Epoch),
        at: StopPoint,
    ) -> Result<(), String> {
        let mailbox = node.mailbox(rank).ok_or("there is no such rank")?;
        if let Mobility::Fixed { reason } = &node.program.mobility {
            return Err(format!("its module cannot move: {reason}"));
        }
        if mailbox.location().host != node.me || node.exit_of(rank).is_some() {
            return Err("the rank does not run here".into());
        }
        let address = node.link(to).address().ok_or("the target is not known")?;
        let connect = || -> io::Result<Stream> {
            let mut stream = self.tls.connect(address, &host_name(to))?;
            socket::notice_cuts(stream.socket())?;
            let purpose = Purpose::Transfer {
                rank,
                epoch,
                memory_bytes: mailbox.memory_bytes(),
            };
            let hello = Hello {
                version: VERSION,
                world: node.spec.world,
                from: node.me,
                purpose,
            };
            wire::send(&mut stream, &hello)?;
            life::await_room(&mut stream)?;
            Ok(stream)
        };
        let stream =
            Box::new(connect().map_err(|error| format!("the target cannot be reached: {error}"))?);
        let purpose = stop::Purpose::Move { stream, to, epoch };
        if let Some(earlier) = mailbox.request_stop(StopRequest { at, purpose })
            && let stop::Purpose::Move { epoch, .. } = earlier.purpose
        {
            let reason = "another request took its place".to_owned();
            node.up.send(Event::MoveFailed {
                rank,
                epoch,
                reason,
            });
        }
        // It may have ended between the check above and the request, and then nobody would answer.
        if node.exit_of(rank).is_some() && mailbox.take_stop().is_some() {
            return Err("the rank has ended".into());
        }
        Ok(())
    }

    fn decide(&self, rank: Rank, epoch: Epoch, decision: impl FnOnce(&Incoming)) {
        let table = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(incoming) = table.get(&rank).filter(|incoming| incoming.epoch == epoch) {
            decision(incoming);
        }
    }

    fn checkpoint(&self, id: u32) -> io::Result<()> {
        let node = self.node()?;
        if let Mobility::Fixed { reason } = &node.program.mobility {
            let reason = format!("the module cannot stand still: {reason}");
            self.up.send_now(Event::CheckpointFailed { id, reason });
            return Ok(());
        }
        for rank in node.local_ranks() {
            let mailbox = node.mailbox(rank).expect("a rank of this world");
            let purpose = stop::Purpose::Checkpoint { id };
            let had_ended = node.exit_of(rank).is_some();
            if !had_ended {
                let at = StopPoint::NEXT;
                mailbox.request_stop(StopRequest { at, purpose });
            }
            // A rank that ends now either finds the request itself, or it is withdrawn here.
            let ends = || node.exit_of(rank).is_some() && mailbox.take_stop().is_some();
            if had_ended || ends() {
                let node = Arc::clone(node);
                let body = move || life::checkpoint_of_ended(&node, id, rank);
                rt::thread(format!("checkpoint {rank}"), 1 << 20, body)?;
            }
        }
        Ok(())
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for socket in listener.incoming() {
            let host = Arc::clone(self);
            let served = socket.and_then(|socket| {
                rt::thread("connection".into(), 1 << 20, move || {
                    if let Err(error) = host.connection(socket) {
                        tracing::info!(%error, "a connection ended");
                    }
                })
            });
            if let Err(error) = served {
                tracing::warn!(%error, "a connection was not taken");
            }
        }
    }

    fn connection(&self, socket: TcpStream) -> io::Result<()> {
        let mut stream = self.tls.accept(socket)?;
        socket::notice_cuts(stream.socket())?;
        let hello: Hello = wire::receive(&mut stream)?;
        if hello.version != VERSION || hello.world != self.config.world {
            return Err(invalid(
                "a connection of another world, incarnation or version is refused",
            ));
        }
        if !stream.peer_is(&host_name(hello.from)) {
            return Err(invalid("a host says that it is another"));
        }
        // The peer dials again if this host has not joined yet.
        let node = self.node()?;
        match hello.purpose {
            Purpose::Link => links::receive(node, hello.from, stream),
            Purpose::Transfer {
                rank,
                epoch,
                memory_bytes,
            } => {
                let table = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
                match table.get(&rank) {
                    Some(incoming) if incoming.epoch == epoch => {
                        incoming.offer(stream, memory_bytes)
                    }
                    _ => return Err(invalid("a rank came that nobody has announced")),
                }
                Ok(())
            }
            Purpose::Commands | Purpose::Events => Err(invalid("this is not the coordinator")),
        }
    }
}
