//! Which rank moves when, for the moves that nobody asks for one by one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::messages::{HostId, Rank, StopPoint};

/// Moves to be made in the course of a run.
#[derive(Clone, Debug, Default)]
pub enum Schedule {
    #[default]
    None,
    /// So many moves of random ranks to random hosts at random control points, one after the other.
    Bounce { n_moves: u32, seed: u64 },
    /// At these times after the start, this rank moves to the next host.
    Timed(VecDeque<(Duration, u32)>),
}

/// A move that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub rank: Rank,
    pub to: HostId,
    pub at: StopPoint,
}

/// The bounce waits for at most this many control points (a power of two).
const CALLS_MAX_LOG2: u64 = 7;

impl Schedule {
    /// The move that is to be made now, if any. `live` are the ranks that can move with their hosts; `hosts` where they can go.
    pub(super) fn due(
        &mut self,
        elapsed: Duration,
        live: &[(Rank, HostId)],
        hosts: &[HostId],
    ) -> Option<Due> {
        match self {
            Self::None => None,
            Self::Bounce { n_moves: 0, .. } => None,
            Self::Bounce { seed, .. } => {
                let mut random =
                    |n: usize| usize::try_from(splitmix64(seed)).unwrap_or(0) % n.max(1);
                let (rank, from) = *live.get(random(live.len()))?;
                let others: Vec<_> = hosts.iter().filter(|host| **host != from).collect();
                let to = **others.get(random(others.len()))?;
                // Near and far control points alike: the span is random first, then the point in it.
                let span = 1_u64 << (splitmix64(seed) % (CALLS_MAX_LOG2 + 1));
                let calls = u32::try_from(splitmix64(seed) % span).unwrap_or(0);
                let blocked = splitmix64(seed).is_multiple_of(2);
                Some(Due {
                    rank,
                    to,
                    at: StopPoint { calls, blocked },
                })
            }
            Self::Timed(times) => {
                let (at, rank) = *times.front()?;
                if elapsed < at {
                    return None;
                }
                times.pop_front();
                let from = live.iter().find(|(live, _)| *live == rank)?.1;
                let place = hosts.iter().position(|host| *host == from)?;
                let to = *hosts.get((place + 1) % hosts.len())?;
                (to != from).then_some(Due {
                    rank,
                    to,
                    at: StopPoint::NEXT,
                })
            }
        }
    }

    /// When to ask again, if nothing else happens.
    pub(super) fn next_at(&self) -> Option<Duration> {
        match self {
            Self::None | Self::Bounce { .. } => None,
            Self::Timed(times) => times.front().map(|(at, _)| *at),
        }
    }

    /// A move has been made.
    pub(super) fn made(&mut self) {
        if let Self::Bounce { n_moves, .. } = self {
            *n_moves = n_moves.saturating_sub(1);
        }
    }

    /// Moves that were asked for and have not been made.
    pub(super) fn missing(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bounce { n_moves, .. } => *n_moves,
            Self::Timed(times) => u32::try_from(times.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Sebastiano Vigna's SplitMix64: enough to choose with, and the same everywhere.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
