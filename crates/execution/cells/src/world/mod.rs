//! One running MPI world, from its coordinator's side: start its hosts, move its ranks, take checkpoints, and see it through whatever dies.
//!
//! The coordinator holds no message and no guest. It decides where ranks are, tells the hosts, and passes their output on. All of it happens
//! in one loop over [`Input`]s ([`coordinator`]); threads around it only read sockets and wait for processes.
//!
//! Hosts of other machines are admitted ([`admin::Request::Admit`]): others start them, and the network between them and the coordinator
//! may be cut at any time. Such a host is lost only when its own site says that its process has ended.
//!
//! What is guaranteed when a host dies: a rank that its source had recorded as gone runs at its target, and only there; a rank whose move was
//! not recorded is lost with its source. A world that has lost a rank is started again, as a whole, from its newest checkpoint, or ends with
//! an error that names the ranks.

pub mod admin;
mod checkpoints;
mod coordinator;
mod hosts;
mod out;
mod output;
pub mod process;
mod report;
mod schedule;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

pub use coordinator::run;
pub use output::Sinks;
pub use report::{Move, Report};
pub use schedule::Schedule;

use crate::wire::messages::{Event, HostId};

/// A program to run as a world.
#[derive(Clone, Debug)]
pub struct World {
    /// What `cell ps` calls the program.
    pub name: String,
    pub module: Vec<u8>,
    pub n_ranks: u32,
    pub n_hosts: u32,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// (path in the guest, directory here)
    pub mounts: Vec<(String, PathBuf)>,
    pub memory_bytes_max: u64,
    pub hash_memory: bool,
    pub proof: Proof,
    pub schedule: Schedule,
    pub checkpoint_every: Option<Duration>,
    /// Report when each collective began at each rank.
    pub marks: bool,
    /// Run on the portable interpreter.
    pub interpret: bool,
    /// Write a line about each move to standard error.
    pub report_moves: bool,
    /// A host that kills itself at a step of the protocol: its number, and the name of the step.
    pub fail_point: Option<(u32, String)>,
    /// The program that hosts run: it must answer to `cell host`.
    pub host_program: PathBuf,
    /// Log filter of the hosts.
    pub log: String,
    /// Where worlds keep what is theirs; private to the user.
    pub state_dir: PathBuf,
    /// Where hosts keep compiled code, for all worlds; private to the user.
    pub code_dir: PathBuf,
}

/// What becomes of nondeterministic outcomes.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    #[default]
    None,
    /// They are recorded; [`Report::recording`] has them.
    Record,
    /// They are replayed.
    Replay(Vec<u8>),
}

/// Where a world runs, and what has been of it before.
#[derive(Clone, Debug)]
struct Setting {
    name: String,
    /// For everything that it keeps.
    dir: PathBuf,
    /// What its own hosts are called.
    label: String,
    /// Where the coordinator and its own hosts listen.
    listen: IpAddr,
    past: process::Past,
    /// It shall be found again when this process is killed.
    is_kept: bool,
}

impl Setting {
    fn temporary(name: String, dir: PathBuf, id: u64) -> Self {
        Self {
            name,
            dir,
            label: "local".into(),
            listen: Ipv4Addr::LOCALHOST.into(),
            past: process::Past::new(id),
            is_kept: false,
        }
    }
}

/// Everything that happens to a coordinator.
#[derive(Debug)]
enum Input {
    /// A host takes commands, or does not any more.
    Reached,
    /// A host has dialled in to report.
    Speaks(HostId),
    Event(HostId, Event),
    /// All that a host has said is heard, and there will be no more.
    Silent(HostId),
    /// A host process has ended, with this status.
    HostDied(HostId, String),
    Request(admin::Request, SyncSender<admin::Answer>),
}
