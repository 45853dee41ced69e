//! What a run leaves behind.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::messages::FreezeReport;

/// The outcome of a world.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub exit_code: i32,
    pub moves: Vec<Move>,
    /// Moves that were scheduled and did not happen.
    pub missing_moves: u32,
    /// Why moves that were tried did not happen.
    pub failed_moves: Vec<String>,
    pub restarts: u32,
    pub checkpoints: u32,
    /// From the start of the first rank to the end of the last.
    pub duration: Duration,
    /// Wall clock when the ranks began, ns.
    pub began_ns: u64,
    /// The hash of each rank's memory at its end, if asked for.
    pub hashes: BTreeMap<u32, String>,
    /// When each collective began, by rank: (operation, wall clock ns).
    pub marks: BTreeMap<u32, Vec<(u8, u64)>>,
    /// What was recorded for a replay.
    pub recording: Vec<u8>,
}

/// One move of one rank.
#[derive(Clone, Debug)]
pub struct Move {
    pub rank: u32,
    pub from: u32,
    pub to: u32,
    /// The host call at which the rank stopped.
    pub call: String,
    /// The collective it was inside of.
    pub collective: Option<String>,
    /// Receives that it had posted.
    pub posted: u32,
    /// Messages that waited for a receive.
    pub unexpected: u32,
    /// Frames that it had sent and nobody had acknowledged.
    pub in_flight: u32,
    pub bytes: u64,
    /// Wall clock of the last instruction before and of the first after, ns.
    pub frozen_ns: u64,
    pub resumed_ns: u64,
}

impl Move {
    pub(super) fn new(
        rank: u32,
        from: u32,
        to: u32,
        report: FreezeReport,
        resumed_ns: u64,
    ) -> Self {
        let FreezeReport {
            call,
            collective,
            posted,
            unexpected,
            in_flight,
            bytes,
            frozen_ns,
        } = report;
        Self {
            rank,
            from,
            to,
            call,
            collective,
            posted,
            unexpected,
            in_flight,
            bytes,
            frozen_ns,
            resumed_ns,
        }
    }

    /// From the last instruction at the source to the first at the target.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_nanos(self.resumed_ns.saturating_sub(self.frozen_ns))
    }
}

impl std::fmt::Display for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            rank,
            from,
            to,
            call,
            posted,
            unexpected,
            in_flight,
            bytes,
            ..
        } = self;
        write!(f, "rank={rank} host={from}->{to} at={call}")?;
        if let Some(collective) = &self.collective {
            write!(f, "/{collective}")?;
        }
        let pause = self.pause().as_secs_f64() * 1e3;
        write!(
            f,
            " posted={posted} unexpected={unexpected} in_flight={in_flight} bytes={bytes} pause={pause:.2}ms"
        )
    }
}
