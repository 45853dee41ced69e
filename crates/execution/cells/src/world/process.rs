//! A world in a process of its own, in a directory that outlives it.
//!
//! ```text
//! DIR/world.json       what it is: written by whoever starts it
//!     process.json     the process that runs it now (disk/claim.rs)
//!     control.sock     its requests
//!     past.json        how often it began
//!     log/             what its ranks have written
//!     checkpoints/N    snapshots of all ranks
//!     host-I-N/        its hosts
//!     outcome.json     how it ended: nothing is run in this directory any more
//! ```
//! Started again on a directory without an outcome, a world begins again: from its newest checkpoint; or from the beginning, if no rank has
//! ever run or it was to have checkpoints and had none yet. Else it is lost, and says so.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::Timespec;
use serde::{Deserialize, Serialize};

use super::admin::Status;
use super::checkpoints::Checkpoints;
use super::out::Out;
use super::{Proof, Schedule, Setting, World, coordinator};
use crate::disk::claim::{Claim, Claimed};
use crate::disk::files::{read_json, write_whole};
use crate::disk::log::{self, Log};
use crate::error::{Error, Kind};
use crate::wire::messages::{Epoch, WorldId};

/// Raised when a field of the files here changes its meaning.
const VERSION: u32 = 1;
const WORLD: &str = "world.json";
const PAST: &str = "past.json";
const OUTCOME: &str = "outcome.json";
const LOG: &str = "log";
/// How long a host of an earlier process may take to end when it is killed.
const KILL_PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// A world that is to be run in a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldFile {
    pub version: u32,
    pub name: String,
    pub module: PathBuf,
    pub ranks: u32,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// (path in the guest, directory here)
    pub mounts: Vec<(String, PathBuf)>,
    pub memory_bytes_max: u64,
    pub log_bytes_max: u64,
    pub code_dir: PathBuf,
    pub checkpoint_every_ms: Option<u64>,
    /// The site of the world's own hosts, and where they and the coordinator listen.
    pub label: String,
    pub listen: IpAddr,
}

/// How a world ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub version: u32,
    pub end: End,
    /// How it was at its end, if it had begun.
    pub status: Option<Status>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Exited(i32),
    /// It cannot run.
    Invalid(String),
    /// Ranks died, and there is nothing to begin again from.
    Lost(String),
}

/// How often a world has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub version: u32,
    pub id: u64,
    pub incarnation: u32,
    pub restarts: u32,
    /// A rank may have run.
    pub has_run: bool,
    /// No move has had a later epoch.
    #[serde(default)]
    pub last_epoch: Epoch,
}

impl Past {
    pub(super) fn new(id: u64) -> Self {
        Self {
            version: VERSION,
            id,
            incarnation: 0,
            restarts: 0,
            has_run: false,
            last_epoch: 0,
        }
    }

    pub(super) fn world(&self) -> WorldId {
        WorldId {
            id: self.id,
            incarnation: self.incarnation,
        }
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        write_whole(&dir.join(PAST), &serde_json::to_vec(self)?)
    }
}

impl WorldFile {
    pub const VERSION: u32 = VERSION;

    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        write_whole(&dir.join(WORLD), &serde_json::to_vec_pretty(self)?)
    }
}

impl Outcome {
    /// `None`: it has not ended.
    ///
    /// # Errors
    /// When the file cannot be read, or is of another version of this program.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        read_json(&dir.join(OUTCOME), VERSION)
    }
}

/// Runs the world of a directory to its end. `host_program` must answer to `cell host`.
///
/// # Errors
/// When another process runs it, or this one cannot now: it may be tried again.
pub fn run(dir: &Path, host_program: PathBuf, log: String) -> Result<(), Error> {
    // What ends the caller's session must not end this. Refused to a process that leads one already.
    rustix::process::setsid().ok();
    let io = |doing: &'static str| move |error| Error::io(doing, error);
    let _claim = Claim::take(dir, "").map_err(io("take the world's directory"))?;
    if Outcome::read(dir)
        .map_err(io("look for an outcome"))?
        .is_some()
    {
        return Ok(());
    }
    let (result, status) = match begin(dir, host_program, log) {
        Ok((world, setting, written)) => coordinator::run_in(world, setting, Out::Log(written)),
        Err(error) => (Err(error), None),
    };
    let end = match result {
        Ok(report) => End::Exited(report.exit_code),
        Err(error) => match error.kind {
            Kind::Invalid | Kind::NotFound => End::Invalid(error.to_string()),
            Kind::Lost => End::Lost(error.to_string()),
            Kind::Unavailable | Kind::Internal => return Err(error),
        },
    };
    let outcome = Outcome {
        version: VERSION,
        end,
        status,
    };
    serde_json::to_vec_pretty(&outcome)
        .map_err(io::Error::other)
        .and_then(|bytes| write_whole(&dir.join(OUTCOME), &bytes))
        .map_err(io("write the outcome"))
}

/// What is to be run: from the beginning, or again.
fn begin(dir: &Path, host_program: PathBuf, log: String) -> Result<(World, Setting, Log), Error> {
    let file: WorldFile = read_json(&dir.join(WORLD), VERSION)
        .and_then(|file| file.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|error| Error::io("read world.json", error))?;
    let module = fs::read(&file.module)
        .map_err(|error| Error::io(format!("read {}", file.module.display()), error))?;
    let past = again(dir, file.checkpoint_every_ms.is_some())?;
    let setting = Setting {
        name: format!("{:012x}", past.id >> 16),
        dir: dir.to_owned(),
        label: file.label,
        listen: file.listen,
        past,
        is_kept: true,
    };
    let world = World {
        name: file.name,
        module,
        n_ranks: file.ranks,
        n_hosts: 1,
        args: file.args,
        env: file.env,
        mounts: file.mounts,
        memory_bytes_max: file.memory_bytes_max,
        hash_memory: false,
        proof: Proof::None,
        schedule: Schedule::None,
        checkpoint_every: file.checkpoint_every_ms.map(Duration::from_millis),
        marks: false,
        interpret: false,
        report_moves: false,
        fail_point: None,
        host_program,
        log,
        state_dir: dir.to_owned(),
        code_dir: file.code_dir,
    };
    let written = Log::open(&dir.join(LOG), file.log_bytes_max)
        .map_err(|error| Error::io("open the log", error))?;
    Ok((world, setting, written))
}

/// How the world begins, after whatever an earlier process has left.
fn again(dir: &Path, is_to_have_checkpoints: bool) -> Result<Past, Error> {
    let io = |doing: &'static str| move |error| Error::io(doing, error);
    let Some(mut past) =
        read_json::<Past>(&dir.join(PAST), VERSION).map_err(io("read past.json"))?
    else {
        return Ok(Past::new(rt::random_u64()));
    };
    // Journals and code of hosts that should have ended with their coordinator.
    for entry in fs::read_dir(dir).map_err(io("look for earlier hosts"))? {
        let path = entry.map_err(io("look for earlier hosts"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("host-") {
            // One that was stopped did not see its coordinator's end, and is not found again without its directory.
            if let Some(host) = Claimed::read(&path).map_err(io("look for earlier hosts"))? {
                host.kill(KILL_PATIENCE)
                    .map_err(io("end an earlier host"))?;
            }
            fs::remove_dir_all(&path).map_err(io("remove an earlier host"))?;
        }
    }
    past.incarnation += 1;
    if !past.has_run {
        return Ok(past);
    }
    let checkpoints =
        Checkpoints::open(dir.join("checkpoints")).map_err(io("look for checkpoints"))?;
    if checkpoints.newest().is_none() && !is_to_have_checkpoints {
        let problem =
            "the world's process was killed, and there is no checkpoint to begin again from";
        return Err(Error::new(Kind::Lost, problem));
    }
    past.restarts += 1;
    Ok(past)
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "it ended with exit code {code}"),
            Self::Invalid(reason) | Self::Lost(reason) => f.write_str(reason),
        }
    }
}

/// Up to `max` bytes of what the world of a directory has written, and where they begin: see [`log::read`].
pub(crate) fn read_log(dir: &Path, offset: u64, max: usize) -> io::Result<(u64, Vec<u8>)> {
    log::read(&dir.join(LOG), offset, max)
}

/// How much it has written.
pub(crate) fn log_bytes(dir: &Path) -> io::Result<u64> {
    Ok(log::read(&dir.join(LOG), u64::MAX, 1)?.0)
}

#[cfg(test)]
mod tests;
