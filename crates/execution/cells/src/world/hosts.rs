//! The host processes of a world, and the connections to them.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Input;
use crate::host::{COORDINATOR_NAME, HostConfig, host_name};
use crate::wire::messages::{Command, Epoch, Hello, HostId, Purpose, Rank, VERSION, WorldId};
use crate::wire::{self, Stream, Tls, invalid};
use auth::Authority;

/// Commands that wait for a host. One that takes no more is as good as dead.
const COMMANDS_MAX: usize = 256;

/// Starts host processes and takes their connections.
pub(super) struct Hosts {
    program: PathBuf,
    log: String,
    authority: Authority,
    address: SocketAddr,
    input: SyncSender<Input>,
    spare: Option<Spare>,
    n_started: u32,
}

/// A process that waits to be told which host it is.
struct Spare {
    child: Child,
    stdin: ChildStdin,
}

/// A host process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Host {
    pub id: HostId,
    pub pid: u32,
    pub dir: PathBuf,
    /// Set when it has said that it is ready.
    pub address: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub has_joined: bool,
    /// It was told to join.
    pub is_invited: bool,
    /// What its journal said when it became ready.
    pub committed: Vec<(Rank, Epoch)>,
    /// All that it ever said has been heard.
    pub is_silent: bool,
    /// Its process has ended, with this status.
    pub status: Option<String>,
    commands: Option<SyncSender<Command>>,
    pidfd: OwnedFd,
}

/// What the next host is.
#[derive(Debug)]
pub(super) struct Role<'a> {
    pub world: WorldId,
    pub dir: &'a Path,
    pub interpret: bool,
    pub fail_point: Option<String>,
}

impl Hosts {
    pub(super) fn new(
        program: PathBuf,
        log: String,
        world: u64,
        input: SyncSender<Input>,
    ) -> io::Result<Self> {
        let authority = Authority::new()?;
        let tls = Tls::new(&authority.identity(COORDINATOR_NAME)?)?;
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        let address = listener.local_addr()?;
        let accepting = input.clone();
        rt::thread("accept".into(), 1 << 20, move || {
            accept(&listener, &tls, world, &accepting)
        })?;
        Ok(Self {
            program,
            log,
            authority,
            address,
            input,
            spare: None,
            n_started: 0,
        })
    }

    /// Starts a host, with the spare process if there is one.
    pub(super) fn start(&mut self, role: Role<'_>) -> io::Result<Host> {
        let Spare {
            mut child,
            mut stdin,
        } = self.take_spare()?;
        let id = self.n_started;
        self.n_started += 1;
        std::fs::create_dir_all(role.dir)?;
        let config = HostConfig {
            me: id,
            world: role.world,
            dir: role.dir.to_owned(),
            coordinator: self.address,
            identity: self.authority.identity(&host_name(id))?,
            interpret: role.interpret,
            fail_point: role.fail_point,
        };
        wire::send(&mut stdin, &config)?;
        stdin.flush()?;
        let pid = child.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("a process without a number"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let input = self.input.clone();
        rt::thread(format!("host {id}"), 1 << 20, move || {
            // The process is a child of this one, so waiting for it works.
            let status = child
                .wait()
                .map_or_else(|error| error.to_string(), |s| s.to_string());
            drop(stdin);
            // Nobody listens once the world is over.
            input.send(Input::HostDied(id, status)).ok();
        })?;
        Ok(Host {
            id,
            pid,
            dir: role.dir.to_owned(),
            address: None,
            metrics: None,
            has_joined: false,
            is_invited: false,
            committed: Vec::new(),
            is_silent: true,
            status: None,
            commands: None,
            pidfd,
        })
    }

    /// The spare process if it lives, else a new one.
    fn take_spare(&mut self) -> io::Result<Spare> {
        if let Some(mut spare) = self.spare.take()
            && spare.child.try_wait()?.is_none()
        {
            return Ok(spare);
        }
        self.spawn()
    }

    /// Keeps a process ready for the next host that is needed.
    pub(super) fn keep_spare(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(self.spawn()?);
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Spare> {
        let mut child = Process::new(&self.program)
            .args(["cell", "host", "--log", &self.log])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take().expect("it was piped");
        Ok(Spare { child, stdin })
    }
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
    /// The host has dialled in for its commands.
    pub(super) fn connect(&mut self, mut stream: Stream) -> io::Result<()> {
        let (sender, receiver) = sync_channel::<Command>(COMMANDS_MAX);
        rt::thread(format!("commands {}", self.id), 1 << 20, move || {
            while let Ok(command) = receiver.recv() {
                if let Err(error) = wire::send(&mut stream, &command) {
                    tracing::debug!(%error, "a command was not delivered");
                    return;
                }
            }
        })?;
        self.commands = Some(sender);
        Ok(())
    }

    /// Queues a command. A host that takes no more hangs, and is killed; its death is reported another way.
    pub(super) fn tell(&self, command: Command) {
        let Some(commands) = &self.commands else {
            tracing::debug!(host = self.id, "a command has nobody to go to");
            return;
        };
        if let Err(TrySendError::Full(_)) = commands.try_send(command) {
            tracing::warn!(host = self.id, "a host hangs: it is killed");
            self.kill();
        }
    }

    /// Queues a command, and waits for room.
    pub(super) fn tell_patiently(&self, command: Command) {
        if let Some(commands) = &self.commands
            && commands.send(command).is_err()
        {
            tracing::debug!(host = self.id, "a command has nobody to go to");
        }
    }

    fn kill(&self) {
        // It may have ended by itself.
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
    }

    pub(super) fn is_connected(&self) -> bool {
        self.commands.is_some() && self.address.is_some()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

fn accept(listener: &TcpListener, tls: &Tls, world: u64, input: &SyncSender<Input>) {
    for socket in listener.incoming() {
        let (tls, input) = (tls.clone(), input.clone());
        let served = socket.and_then(|socket| {
            rt::thread("connection".into(), 1 << 20, move || {
                if let Err(error) = connection(&tls, socket, world, &input) {
                    tracing::debug!(%error, "a host's connection ended");
                }
            })
        });
        if let Err(error) = served {
            tracing::warn!(%error, "a connection was not taken");
        }
    }
}

fn connection(
    tls: &Tls,
    socket: TcpStream,
    world: u64,
    input: &SyncSender<Input>,
) -> io::Result<()> {
    let gone = |_| io::Error::other("the world is over");
    let mut stream = tls.accept(socket)?;
    let hello: Hello = wire::receive(&mut stream)?;
    if hello.version != VERSION || hello.world.id != world {
        return Err(invalid("a host of another version or world"));
    }
    let from = hello.from;
    match hello.purpose {
        Purpose::Commands => input
            .send(Input::Connected(from, Box::new(stream)))
            .map_err(gone),
        Purpose::Events => {
            input.send(Input::Speaks(from)).map_err(gone)?;
            let error = loop {
                match wire::receive(&mut stream) {
                    Ok(event) => input.send(Input::Event(from, event)).map_err(gone)?,
                    Err(error) => break error,
                }
            };
            input.send(Input::Silent(from)).map_err(gone)?;
            Err(error)
        }
        Purpose::Link | Purpose::Transfer { .. } => Err(invalid("this is not a host")),
    }
}
