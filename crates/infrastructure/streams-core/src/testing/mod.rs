//! A container in a world that fails, from a seed: the same seed is the same run.
//!
//! ```text
//!  clients ──requests──▶ server ──proposals──▶ container ──records──▶ log       (a crash keeps any end of it that has what is durable)
//!     ▲  a connection may break:   │  ▲                                │
//!     │  what is under way arrives │  └──────────── durable, later ────┘
//!     └──late, or never ◀──────────┘──bytes──▶ store    (the log is truncated behind it)
//! ```
//!
//! Clients do what those of Pravega do: writers that send again what was not acknowledged, large events by way of transient segments, transactions of
//! several segments that are committed at once, states kept by conditional appends, counters of one entry or of several and locks in tables, a reader
//! of the tail that truncates what it has read, and more writers than there is room for, one after the other and at once. [`run`] fails if they see anything that one correct container without crashes would not show them. A [`Plant`] is a server
//! with a fault, which must be seen.

mod check;
mod clients;
mod net;
mod server;
mod sim;

pub use self::server::Plant;
pub use self::sim::{Summary, run};

/// What was seen that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// All chance of a run.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    /// `SplitMix64`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
