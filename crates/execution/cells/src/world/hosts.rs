//! The host processes of a world, and the connections to them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Input;
use super::admin::{Admission, HostState};
use crate::host::{COORDINATOR_NAME, HostConfig, host_name};
use crate::wire::messages::{Command, Epoch, Hello, HostId, Purpose, Rank, VERSION, WorldId};
use crate::wire::session::{Broken, Limits, Reach, Session};
use crate::wire::{self, Tls, invalid, socket};
use auth::Authority;

/// Commands that wait until a host has them. One that takes no more is as good as dead.
const LIMITS: Limits = Limits {
    items_max: 1 << 16,
    bytes_max: 96 << 20,
};

/// Starts host processes, admits others, and takes their connections.
pub(super) struct Hosts {
    program: PathBuf,
    log: String,
    authority: Authority,
    listen: IpAddr,
    address: SocketAddr,
    input: SyncSender<Input>,
    sessions: Sessions,
    spare: Option<Spare>,
    n_started: u32,
}

/// The hosts that may connect.
#[derive(Clone, Debug, Default)]
struct Sessions(Arc<Mutex<BTreeMap<HostId, Arc<Session>>>>);

/// A process that waits to be told which host it is.
struct Spare {
    child: Child,
    stdin: ChildStdin,
}

/// A host process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Host {
    pub id: HostId,
    pub label: String,
    pub origin: Origin,
    pub pid: u32,
    /// Set when it has said that it is ready.
    pub address: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub has_joined: bool,
    /// It was told to join.
    pub is_invited: bool,
    /// What its journal said when it became ready.
    pub committed: Vec<(Rank, Epoch)>,
    /// Connections over which it may still say something.
    pub n_speaking: u32,
    /// Its process has ended, with this status.
    pub status: Option<String>,
    /// It broke the protocol: nothing that it says counts any more.
    pub is_distrusted: bool,
    session: Arc<Session>,
    sessions: Sessions,
}

/// Who started a host.
#[derive(Debug)]
pub(super) enum Origin {
    Child {
        dir: PathBuf,
        pidfd: OwnedFd,
    },
    Admitted {
        public_key: Vec<u8>,
        admission: Admission,
    },
}

/// What the next host is.
#[derive(Debug)]
pub(super) struct Role<'a> {
    pub world: WorldId,
    pub dir: &'a Path,
    pub label: &'a str,
    pub code_dir: &'a Path,
    pub interpret: bool,
    pub fail_point: Option<String>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosts {
    pub(super) fn new(
        program: PathBuf,
        log: String,
        listen: IpAddr,
        world: u64,
        input: SyncSender<Input>,
    ) -> io::Result<Self> {
        // It starts while this goes on, for the first host. If it cannot, it is tried again then.
        let spare = spawn(&program, &log).ok();
        let authority = Authority::new()?;
        let tls = Tls::new(&authority.identity(COORDINATOR_NAME)?)?;
        let listener = TcpListener::bind((listen, 0))?;
        let address = listener.local_addr()?;
        let sessions = Sessions::default();
        let door = Door {
            tls,
            world,
            sessions: sessions.clone(),
            input: input.clone(),
        };
        rt::thread("accept".into(), 1 << 20, move || {
            accept(&listener, &Arc::new(door))
        })?;
        Ok(Self {
            program,
            log,
            authority,
            listen,
            address,
            input,
            sessions,
            spare,
            n_started: 0,
        })
    }

    /// Starts a host, with the spare process if there is one.
    pub(super) fn start(&mut self, role: Role<'_>) -> io::Result<Host> {
        let Spare {
            mut child,
            mut stdin,
        } = self.take_spare()?;
        let id = self.next_id();
        std::fs::create_dir_all(role.dir)?;
        let config = HostConfig {
            me: id,
            world: role.world,
            dir: role.dir.to_owned(),
            coordinator: self.address,
            identity: self.authority.identity(&host_name(id))?,
            listen: self.listen,
            code_dir: role.code_dir.to_owned(),
            claim: String::new(),
            is_child: true,
            interpret: role.interpret,
            fail_point: role.fail_point,
            mounts: None,
        };
        let pid = child.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("a process without a number"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let dir = role.dir.to_owned();
        let host = self.host(id, role.label, pid, Origin::Child { dir, pidfd });
        wire::send(&mut stdin, &config)?;
        stdin.flush()?;
        let (input, session) = (self.input.clone(), Arc::clone(&host.session));
        rt::thread(format!("host {id}"), 1 << 20, move || {
            // The process is a child of this one, so waiting for it works.
            let status = child
                .wait()
                .map_or_else(|error| error.to_string(), |s| s.to_string());
            drop(stdin);
            session.close();
            // Nobody listens once the world is over.
            input.send(Input::HostDied(id, status)).ok();
        })?;
        Ok(host)
    }

    /// Lets a host take part that others start.
    pub(super) fn admit(
        &mut self,
        world: WorldId,
        label: &str,
        public_key: Vec<u8>,
        interpret: bool,
    ) -> io::Result<Host> {
        let id = self.n_started;
        let certificate = self.authority.sign(&host_name(id), &public_key)?;
        let admission = Admission {
            host: self.next_id(),
            world: world.id,
            incarnation: world.incarnation,
            coordinator: self.address,
            authority: self.authority.certificate().to_vec(),
            certificate,
            interpret,
        };
        let origin = Origin::Admitted {
            public_key,
            admission,
        };
        Ok(self.host(id, label, 0, origin))
    }

    fn next_id(&mut self) -> HostId {
        let id = self.n_started;
        self.n_started += 1;
        id
    }

    fn host(&self, id: HostId, label: &str, pid: u32, origin: Origin) -> Host {
        let session = Arc::new(Session::new(LIMITS));
        self.sessions.lock().insert(id, Arc::clone(&session));
        Host {
            id,
            label: label.to_owned(),
            origin,
            pid,
            address: None,
            metrics: None,
            has_joined: false,
            is_invited: false,
            committed: Vec::new(),
            n_speaking: 0,
            status: None,
            is_distrusted: false,
            session,
            sessions: self.sessions.clone(),
        }
    }

    /// The spare process if it lives, else a new one.
    fn take_spare(&mut self) -> io::Result<Spare> {
        if let Some(mut spare) = self.spare.take()
            && spare.child.try_wait()?.is_none()
        {
            return Ok(spare);
        }
        spawn(&self.program, &self.log)
    }

    /// Keeps a process ready for the next host that is needed.
    pub(super) fn keep_spare(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(spawn(&self.program, &self.log)?);
        }
        Ok(())
    }
}

fn spawn(program: &Path, log: &str) -> io::Result<Spare> {
    let mut child = Process::new(program)
        .args(["cell", "host", "--log", log])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let stdin = child.stdin.take().expect("it was piped");
    Ok(Spare { child, stdin })
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Some(mut spare) = self.spare.take() {
            // It may have ended by itself.
            spare.child.kill().ok();
            spare.child.wait().ok();
        }
    }
}

impl Host {
    /// Queues a command. A host that takes no more is ended: its death is reported another way.
    pub(super) fn tell(&self, command: Command) {
        if let Err(error) = self.session.try_push(&command) {
            tracing::warn!(host = self.id, %error, "a host takes no more commands: it is given up");
            self.kill();
        }
    }

    /// Queues a command, and waits for room.
    pub(super) fn tell_patiently(&self, command: Command) {
        if let Err(error) = self.session.push(&command) {
            tracing::warn!(host = self.id, %error, "a command cannot be sent");
        }
    }

    /// Ends a host that says what it cannot know.
    pub(super) fn distrust(&mut self, reason: &str) {
        tracing::error!(host = self.id, reason, "a host is given up");
        self.is_distrusted = true;
        self.kill();
    }

    fn kill(&self) {
        match &self.origin {
            Origin::Child { pidfd, .. } => {
                // It may have ended by itself.
                pidfd_send_signal(pidfd, Signal::KILL).ok();
            }
            Origin::Admitted { .. } => self.session.end(),
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.origin, Origin::Admitted { .. })
    }

    /// It has said that it is ready. What it is told reaches it, though it may not be connected at this moment.
    pub(super) fn is_ready(&self) -> bool {
        self.address.is_some()
    }

    pub(super) fn state(&self) -> HostState {
        match self.session.reach() {
            Reach::Unreachable if self.has_joined => HostState::Unreachable,
            Reach::Unresponsive if self.has_joined => HostState::Unresponsive,
            Reach::Connected if self.has_joined => HostState::Connected,
            _ => HostState::Starting,
        }
    }

    /// It takes part and answers.
    pub(super) fn is_usable(&self) -> bool {
        self.state() == HostState::Connected
    }

    /// From now on, or no longer, the ranks there wait once there is as much of them as its queue takes.
    pub(super) fn hold(&self, is_holding: bool) {
        self.session.hold(is_holding);
    }

    /// What has to outlive the host so that it hears of its end.
    pub(super) fn farewell(&self) -> Option<Arc<Session>> {
        self.is_admitted().then(|| Arc::clone(&self.session))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        // Whoever dials from now on hears that it is over.
        self.sessions.lock().remove(&self.id);
    }
}

/// What is needed to let a connection in.
struct Door {
    tls: Tls,
    world: u64,
    sessions: Sessions,
    input: SyncSender<Input>,
}

fn accept(listener: &TcpListener, door: &Arc<Door>) {
    for socket in listener.incoming() {
        let door = Arc::clone(door);
        let served = socket.and_then(|socket| {
            rt::thread("connection".into(), 1 << 20, move || {
                if let Err(error) = door.serve(socket) {
                    tracing::debug!(%error, "a host's connection ended");
                }
            })
        });
        if let Err(error) = served {
            tracing::warn!(%error, "a connection was not taken");
        }
    }
}

impl Door {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        let mut stream = self.tls.accept(socket)?;
        let hello: Hello = wire::receive(&mut stream)?;
        let from = hello.from;
        if hello.version != VERSION || hello.world.id != self.world {
            return Err(invalid("a host of another version or world"));
        }
        if !stream.peer_is(&host_name(from)) {
            return Err(invalid("a host says that it is another"));
        }
        socket::notice_cuts(stream.socket())?;
        let known = self.sessions.lock().get(&from).cloned();
        match hello.purpose {
            Purpose::Commands => {
                let Some(session) = known else {
                    // One that was given up, or is of an earlier incarnation.
                    let ended = Session::new(LIMITS);
                    ended.end();
                    return ended.carry(ended.connected(), &mut stream);
                };
                let connection = session.connected();
                self.tell(Input::Reached)?;
                let carried = session.carry(connection, &mut stream);
                self.tell(Input::Reached)?;
                carried
            }
            Purpose::Events => {
                let session = known.ok_or_else(|| invalid("a host that was given up"))?;
                let reader = session.reader();
                self.tell(Input::Speaks(from))?;
                let pass = |event| self.tell(Input::Event(from, event));
                let broken = reader.receive(&mut stream, pass);
                self.tell(Input::Silent(from))?;
                match broken {
                    Broken::Over => Ok(()),
                    Broken::Refused(error) | Broken::Cut(error) => Err(error),
                }
            }
            Purpose::Link | Purpose::Transfer { .. } => Err(invalid("this is not a host")),
        }
    }

    fn tell(&self, input: Input) -> io::Result<()> {
        let told = self.input.send(input);
        told.map_err(|_| io::Error::other("the world is over"))
    }
}
