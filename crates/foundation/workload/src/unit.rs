//! What a unit is, and what has become of it.

use std::collections::BTreeMap;

use ids::{Digest, Epoch, Generation, Name, UnitId};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// All that one site is to run: decided, numbered, never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteConfig {
    pub generation: Generation,
    pub units: Vec<UnitSpec>,
}

impl SiteConfig {
    /// Tells this configuration from another of the same number, of a controller whose store went back in time. It is made of what runs where
    /// and of nothing that a later version may add, so that sites and controllers of different versions agree about it.
    ///
    /// # Panics
    /// Never: it is a SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = sha2::Sha256::new();
        hash.update(format!("{}\n", self.generation));
        for unit in &self.units {
            hash.update(format!("{} {} {}", unit.id, unit.epoch, unit.home));
            for site in &unit.placement {
                hash.update(format!(" {site}"));
            }
            hash.update("\n");
        }
        let hash = hash.finalize();
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.parse().expect("64 hexadecimal digits")
    }
}

/// One unit, as its parts at all sites know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitSpec {
    pub id: UnitId,
    /// Which incarnation. A new one begins from the beginning; a move keeps the epoch.
    pub epoch: Epoch,
    pub kind: Kind,
    /// The site that holds what the unit has once.
    pub home: Name,
    /// Where each rank shall be (index: rank). The parts converge to it.
    pub placement: Vec<Name>,
}

impl UnitSpec {
    /// The sites that take part: the home and wherever something shall be.
    pub fn sites(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.home).chain(&self.placement)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Cell(CellSpec),
}

impl Kind {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cell(_) => "cell",
        }
    }
}

/// An MPI program as WebAssembly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellSpec {
    pub module: Digest,
    pub ranks: u32,
    /// What follows the program's name, which is the block's.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Which completions are counted as iterations: `CALL`, `CALL/COMM` or `CALL/COMM/TAG`; `None`: the most frequent collective.
    pub iteration: Option<String>,
    /// A unit that loses a rank begins again from its last checkpoint; without this it is reported as lost.
    pub checkpoint_every_ms: Option<u64>,
    pub limits: Limits,
}

/// A directory of the site, as the program sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path in the program.
    pub path: String,
    /// A URL; `file:///absolute/path` now. It must mean the same at every site that the unit may be at.
    pub source: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most memory that one rank may have.
    pub memory_bytes_max: u64,
    /// What is kept of what the unit writes; the oldest goes first.
    pub log_bytes_max: u64,
}

/// What has become of this site's part of a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub id: UnitId,
    pub epoch: Epoch,
    pub is_home: bool,
    pub phase: Phase,
    /// Why, in a sentence; empty if the phase says it all.
    pub reason: String,
    /// What this part tells the others.
    pub offer: Option<String>,
    /// Where the ranks are. Only the home knows; elsewhere empty.
    pub ranks: Vec<RankAt>,
    /// All moves of ranks so far, and the last of them, oldest first.
    pub n_moves: u64,
    pub moves: Vec<MoveReport>,
    /// How often it began again from a checkpoint.
    pub restarts: u32,
    pub exit_code: Option<i32>,
    /// How much it has written so far.
    pub log_bytes: u64,
}

/// At most so many [`Observed::moves`] are reported.
pub const MOVES_MAX: usize = 64;

/// ```text
/// Pending -> Starting -> Running <-> Moving
///                           | <-> Unreachable, Unresponsive
///                           v
///            Succeeded | Failed | Lost
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Something is missing: its module, an offer of another part.
    Pending,
    Starting,
    Running,
    /// Ranks are on their way to where they shall be.
    Moving,
    /// A part does not answer over the network; nothing is known to be lost, nothing is restarted.
    Unreachable,
    /// A process of this part is stopped or hangs.
    Unresponsive,
    /// It ended by itself with exit code 0.
    Succeeded,
    /// It ended by itself with another exit code, or cannot run.
    Failed,
    /// Ranks died with a process, and there is no checkpoint.
    Lost,
}

impl Phase {
    /// Nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Lost)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankAt {
    pub rank: u32,
    pub site: Name,
    /// `running`, `moving` or `ended`.
    pub state: String,
}

/// One rank that has moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveReport {
    pub rank: u32,
    pub from: Name,
    pub to: Name,
    pub bytes: u64,
    /// From its last instruction there to its first here.
    pub pause_us: u64,
    /// Wall clock of the first instruction, ms since 1970.
    pub resumed_ms: u64,
}
