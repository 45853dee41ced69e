//! How other processes of the same user see and steer a running world: a socket in a private directory.

use std::fs;
use std::io;
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
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Status(Status),
    Done(String),
    Failed(String),
}

/// A running world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub world: String,
    pub pid: u32,
    pub module: String,
    pub seconds: f64,
    pub moves: u32,
    pub hosts: Vec<HostStatus>,
    pub ranks: Vec<RankStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostStatus {
    pub host: u32,
    pub pid: u32,
    /// Where it serves `/metrics`, `/healthz` and `/readyz`.
    pub metrics: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankStatus {
    pub rank: u32,
    pub host: u32,
    pub epoch: u32,
    /// `running`, `moving`, or how it ended.
    pub state: String,
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
        .filter(|name| UnixStream::connect(state_dir.join(name).join(SOCKET)).is_ok())
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
    let socket = state_dir.join(world).join(SOCKET);
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        Error::io(
            format!("no world `{world}` runs here (see `cloudskin cell ps`)"),
            error,
        )
    })?;
    let answered = wire::send(&mut stream, request).and_then(|()| wire::receive(&mut stream));
    answered.map_err(|error| Error::io(format!("ask world {world}"), error))
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
        if UnixStream::connect(dir.join(SOCKET)).is_err_and(refused)
            && let Err(error) = fs::remove_dir_all(&dir)
        {
            tracing::debug!(%error, dir = %dir.display(), "an old world was not removed");
        }
    }
}

/// Answers requests until the process ends.
pub(super) fn listen(dir: &Path, input: SyncSender<Input>) -> io::Result<()> {
    let listener = UnixListener::bind(dir.join(SOCKET))?;
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
