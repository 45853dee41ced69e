//! One running MPI world, from its coordinator's side: start its hosts, move its ranks, take checkpoints, and see it through whatever dies.
//!
//! The coordinator holds no message and no guest. It decides where ranks are, tells the hosts, and passes their output on. All of it happens
//! in one loop over [`Input`]s ([`coordinator`]); threads around it only read sockets and wait for processes.
//!
//! What is guaranteed when a host dies: a rank that its source had recorded as gone runs at its target, and only there; a rank whose move was
//! not recorded is lost with its source. A world that has lost a rank is started again, as a whole, from its newest checkpoint, or ends with
//! an error that names the ranks.

pub mod admin;
mod checkpoints;
mod coordinator;
mod hosts;
mod output;
mod report;
mod schedule;

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

pub use coordinator::run;
pub use output::Sinks;
pub use report::{Move, Report};
pub use schedule::Schedule;

use crate::wire::Stream;
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

/// Everything that happens to a coordinator.
#[derive(Debug)]
enum Input {
    /// A host has dialled in for its commands.
    Connected(HostId, Box<Stream>),
    /// A host has dialled in to report.
    Speaks(HostId),
    Event(HostId, Event),
    /// All that a host has said is heard, and there will be no more.
    Silent(HostId),
    /// A host process has ended, with this status.
    HostDied(HostId, String),
    Request(admin::Request, SyncSender<admin::Answer>),
}
