//! The control messages of a world. They are wire types: one version of the program speaks to itself, checked by [`Hello::version`].

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Raised with every change to a type of this file or of [`super::link`].
pub(crate) const VERSION: u16 = 2;

/// The number of a host in its world.
pub(crate) type HostId = u32;
/// The number of an MPI process in its world.
pub(crate) type Rank = u32;
/// Counts the incarnations of one rank: every attempt to move it takes a new one.
pub(crate) type Epoch = u32;

/// The first message of every connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub version: u16,
    pub world: WorldId,
    pub from: HostId,
    pub purpose: Purpose,
}

/// A world, and how often it was started again from a checkpoint. Traffic of an earlier incarnation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorldId {
    pub id: u64,
    pub incarnation: u32,
}

/// What a connection is for; all but `Transfer` carry messages in one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Host to host: frames between ranks and their acknowledgements.
    Link,
    /// Host to host: one rank moves, with so much memory.
    Transfer {
        rank: Rank,
        epoch: Epoch,
        memory_bytes: u64,
    },
    /// Coordinator to host, dialled by the host.
    Commands,
    /// Host to coordinator.
    Events,
}

/// What all hosts of a world know about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorldSpec {
    pub world: WorldId,
    pub size: u32,
    pub module: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// (path in the guest, directory on the host)
    pub mounts: Vec<(String, String)>,
    pub memory_bytes_max: u64,
    pub hash_memory: bool,
    pub marks: bool,
    pub trace: TraceMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TraceMode {
    Off,
    Record,
    Replay,
}

/// Where a rank lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Location {
    pub rank: Rank,
    pub host: HostId,
    pub epoch: Epoch,
}

/// How a rank begins on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub rank: Rank,
    pub epoch: Epoch,
    /// A checkpoint follows in [`Command::Piece`]s; else, in a replay, the recorded trace.
    pub restore: bool,
}

/// At which control point a rank that is to stop stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopPoint {
    /// After this many more control points.
    pub calls: u32,
    /// At the first one at or after `calls` that has to wait, instead of on its entry.
    pub blocked: bool,
}

impl StopPoint {
    pub(crate) const NEXT: Self = Self {
        calls: 0,
        blocked: false,
    };
}

/// Coordinator to host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Takes part in a world: learn its module, peers and locations, and begin these ranks, all at `Go`.
    Join {
        spec: Box<WorldSpec>,
        peers: Vec<(HostId, SocketAddr)>,
        locations: Vec<Location>,
        begin: Vec<Begin>,
    },
    /// The module's bytes, answer to [`Event::ModuleWanted`].
    Module(Vec<u8>),
    /// A piece of what a rank begins with; an empty one ends it.
    Piece {
        rank: Rank,
        bytes: Vec<u8>,
    },
    Go,
    /// A peer is (again) to be found here.
    Peer {
        host: HostId,
        address: SocketAddr,
    },
    /// Make room for a rank that comes.
    Prepare {
        rank: Rank,
        epoch: Epoch,
    },
    /// Send a rank to another host.
    Move {
        rank: Rank,
        epoch: Epoch,
        to: HostId,
        at: StopPoint,
    },
    /// The source has recorded the move: the copy that is held runs.
    Commit {
        rank: Rank,
        epoch: Epoch,
    },
    /// The move is off: the copy that is held is dropped.
    Discard {
        rank: Rank,
        epoch: Epoch,
    },
    /// A rank is here now; what it has not acknowledged is sent again.
    Located(Location),
    /// All ranks of this host stop, report their snapshots, and wait for `Resume`.
    Checkpoint {
        id: u32,
    },
    Resume {
        id: u32,
    },
}

/// Host to coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The host listens; its commit records say which ranks have left it for good.
    Ready {
        address: SocketAddr,
        metrics: SocketAddr,
        pid: u32,
        committed: Vec<(Rank, Epoch)>,
    },
    ModuleWanted,
    /// Ready to `Go`.
    Joined,
    JoinFailed {
        reason: String,
    },
    Output {
        rank: Rank,
        seq: u64,
        stderr: bool,
        bytes: Vec<u8>,
    },
    Prepared {
        rank: Rank,
        epoch: Epoch,
    },
    /// The rank stays where it is (for a `Prepare`: this host cannot take it).
    MoveFailed {
        rank: Rank,
        epoch: Epoch,
        reason: String,
    },
    /// The commit record is durable at the source.
    Committed {
        rank: Rank,
        epoch: Epoch,
        report: FreezeReport,
    },
    /// The rank runs here now; `resumed_ns` is the wall clock at its first instruction.
    Running {
        rank: Rank,
        epoch: Epoch,
        resumed_ns: u64,
    },
    /// A piece of a rank's snapshot for a checkpoint; an empty one ends it.
    Piece {
        id: u32,
        rank: Rank,
        bytes: Vec<u8>,
    },
    CheckpointFailed {
        id: u32,
        reason: String,
    },
    /// Wall-clock times at which collectives of this rank began, with their operation.
    Marks {
        rank: Rank,
        marks: Vec<(u8, u64)>,
    },
    /// `outputs`: how many pieces of output the rank has written.
    Exited {
        rank: Rank,
        ended: Ended,
        outputs: u64,
        hash: Option<String>,
    },
    /// A piece of what a rank has recorded; all come before its end.
    Trace {
        rank: Rank,
        bytes: Vec<u8>,
    },
    /// A peer broke the protocol, or this host cannot go on.
    Broken {
        reason: String,
    },
}

impl Event {
    /// The rank whose program this tells of, for what only a host can know that has it or had it.
    pub(crate) fn of_rank(&self) -> Option<Rank> {
        match self {
            Self::Output { rank, .. }
            | Self::Piece { rank, .. }
            | Self::Marks { rank, .. }
            | Self::Exited { rank, .. }
            | Self::Trace { rank, .. } => Some(*rank),
            _ => None,
        }
    }
}

/// How a rank's program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// It returned or exited.
    Exit(i32),
    /// `MPI_Abort`.
    Abort(i32),
    Trap(String),
}

/// What a rank was doing when it stopped to move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FreezeReport {
    /// The host call at which it stopped.
    pub call: String,
    /// The collective it was inside of.
    pub collective: Option<String>,
    pub posted: u32,
    pub unexpected: u32,
    /// Frames that it had sent and nobody had acknowledged.
    pub in_flight: u32,
    pub bytes: u64,
    /// Wall clock when its last instruction before the move had run.
    pub frozen_ns: u64,
}
