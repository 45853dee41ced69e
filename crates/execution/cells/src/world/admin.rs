//! How other processes of the same user see and steer a running world: a socket in a private directory.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Input;
use crate::error::{Error, Kind};
use crate::wire;

/// A rank that is in a long loop does not hear that it shall move; whoever asked is told after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const SOCKET: &str = "control.sock";

/// What can be asked of a world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Status,
    /// End it now.
    Stop,
    /// Move a rank to a host.
    Move {
        rank: u32,
        to: u32,
    },
    /// Let a host take part that others start, at the site `label`, with this key (an uncompressed point on P-256). Asked again with the
    /// same key the answer is the same.
    Admit {
        label: String,
        public_key: Vec<u8>,
    },
    /// The process of the host that was admitted for `label` has ended: its site has seen that.
    Dead {
        label: String,
    },
    /// The host that was admitted for `label` is not needed any more. Refused while a rank depends on it.
    Release {
        label: String,
    },
    /// Ranks shall be on hosts with these labels (index: rank), until another placement is asked for.
    Place {
        labels: Vec<String>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Status(Box<Status>),
    Admitted(Admission),
    Done(String),
    Failed(String),
}

/// What a host has to know that others start: no secret, its key has never been elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub host: u32,
    pub world: u64,
    pub incarnation: u32,
    pub coordinator: SocketAddr,
    /// The certificate (DER) of the world's authority, and that of the host.
    pub authority: Vec<u8>,
    pub certificate: Vec<u8>,
    pub interpret: bool,
}

/// A running world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub world: String,
    /// Counts the times that it began again from a checkpoint.
    pub incarnation: u32,
    pub pid: u32,
    pub module: String,
    /// All ranks have begun.
    pub is_running: bool,
    pub seconds: f64,
    pub moves: u64,
    /// The last moves, oldest first.
    pub last_moves: Vec<MoveStatus>,
    /// The host that a rank is moving from, and to, if one is.
    pub moving: Option<(u32, u32)>,
    pub restarts: u32,
    pub hosts: Vec<HostStatus>,
    pub ranks: Vec<RankStatus>,
    /// The placement that was asked for last, and why it is not reached (empty: it is).
    pub placement: Vec<String>,
    pub unplaced: String,
    /// How much output is held because the disk is full; `None`: it is not.
    #[serde(default)]
    pub held_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostStatus {
    pub host: u32,
    pub label: String,
    pub pid: u32,
    /// Where it serves `/metrics`, `/healthz` and `/readyz`.
    pub metrics: String,
    pub state: HostState,
    /// The key that it was admitted with; empty if the coordinator has started it.
    pub public_key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostState {
    /// It has not taken part yet.
    Starting,
    Connected,
    /// Its process is stopped or hangs.
    Unresponsive,
    /// Nothing is known but that it is not to be reached.
    Unreachable,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankStatus {
    pub rank: u32,
    pub host: u32,
    /// Of its host, or of the one that takes its place; empty while that is not known.
    pub label: String,
    pub epoch: u32,
    /// `running`, `moving`, or how it ended.
    pub state: String,
    pub has_ended: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoveStatus {
    pub rank: u32,
    pub from: String,
    pub to: String,
    pub bytes: u64,
    /// Wall clock of the last instruction before and of the first after, ns.
    pub frozen_ns: u64,
    pub resumed_ns: u64,
}

/// The worlds of this user, by name.
///
/// # Errors
/// When `state_dir` cannot be read.
pub fn worlds(state_dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(state_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("read {}", state_dir.display()), error)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| connect(&state_dir.join(name)).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Asks a world.
///
/// # Errors
/// When there is no such world, or it does not answer.
pub fn ask(state_dir: &Path, world: &str, request: &Request) -> Result<Answer, Error> {
    if world.contains('/') {
        return Err(Error::new(
            Kind::Invalid,
            format!("`{world}` is not the name of a world"),
        ));
    }
    let mut stream = connect(&state_dir.join(world)).map_err(|error| {
        Error::io(
            format!("no world `{world}` runs here (see `cloudskin cell ps`)"),
            error,
        )
    })?;
    let answered = wire::send(&mut stream, request).and_then(|()| wire::receive(&mut stream));
    answered.map_err(|error| Error::io(format!("ask world {world}"), error))
}

/// Connects to the world in `dir`.
pub(crate) fn connect(dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(dir)?;
    UnixStream::connect(socket_in(&dir))
}

/// The address of the socket in a directory. Addresses of sockets are at most 107 bytes long, directories are not.
fn socket_in(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

/// Creates the directory of a world, which is this user's alone.
pub(super) fn create_dir(state_dir: &Path, world: &str) -> io::Result<PathBuf> {
    let private = |recursive| {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(recursive).mode(0o700);
        builder
    };
    private(true).create(state_dir)?;
    let meta = fs::symlink_metadata(state_dir)?;
    let is_mine = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_dir() || !is_mine || meta.mode() & 0o077 != 0 {
        let problem = format!(
            "{} must be a directory of yours with mode 0700",
            state_dir.display()
        );
        return Err(io::Error::other(problem));
    }
    sweep(state_dir);
    let dir = state_dir.join(world);
    private(false).create(&dir)?;
    Ok(dir)
}

/// Removes what worlds have left whose coordinator was killed: their socket refuses connections.
fn sweep(state_dir: &Path) {
    let Ok(entries) = fs::read_dir(state_dir) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if connect(&dir).is_err_and(refused)
            && let Err(error) = fs::remove_dir_all(&dir)
        {
            tracing::debug!(%error, dir = %dir.display(), "an old world was not removed");
        }
    }
}

/// Answers requests until the process ends.
pub(super) fn listen(dir: &Path, input: SyncSender<Input>) -> io::Result<()> {
    match fs::remove_file(dir.join(SOCKET)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(socket_in(&File::open(dir)?))?;
    rt::thread("control".into(), 1 << 20, move || {
        for stream in listener.incoming() {
            // Each on its own thread: the answer to a move can take long.
            let input = input.clone();
            let answered = stream.and_then(|stream| {
                rt::thread("request".into(), 1 << 20, move || {
                    if let Err(error) = answer(stream, &input) {
                        tracing::debug!(%error, "a request was not answered");
                    }
                })
            });
            if let Err(error) = answered {
                tracing::warn!(%error, "a request was not taken");
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: UnixStream, input: &SyncSender<Input>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let request: Request = wire::receive(&mut stream)?;
    let (sender, receiver) = sync_channel(1);
    let answer = match input.send(Input::Request(request, sender)) {
        Err(_) => Answer::Failed("the world is over".into()),
        Ok(()) => match receiver.recv_timeout(ANSWER_TIMEOUT) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Answer::Failed("the world is over".into()),
            Err(RecvTimeoutError::Timeout) => Answer::Failed(
                "the rank has not reached a control point yet; it moves when it does".into(),
            ),
        },
    };
    wire::send(&mut stream, &answer)
}
