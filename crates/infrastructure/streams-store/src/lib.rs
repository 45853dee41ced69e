//! A store of segments: containers on a disk, their log, what is in memory of them, and what is behind them.
//!
//! ```text
//!                       ┌─ Owner: Container (streams-core) ─┐  append   ┌─────┐ one sync for all
//!  submit, ask, read ──▶│ one for each container            │──────────▶│ wal │────────────────▶ told
//!                       └───────────────────────────────────┘           └─────┘
//!     read: Recent (what was just written) ─ the log ─ Behind (long-term storage)
//! ```
//!
//! What it guarantees, beside what `streams-core` and `wal` do:
//!
//! - What is answered is durable, and so is all that the answer stands on. What is told of a segment is told in order.
//! - Reading does not wait for writing, nor for others who read, except for the moment of a decision.
//! - Whoever opens the directory ends the owner before: at the log, and at the checkpoints.
//! - A start reads the last checkpoint and the end of the log.
//!
//! Reading order: `store.rs`; `owner.rs` (one container), `read.rs`, `recent.rs`; `upkeep.rs`, `checkpoint.rs`; `route.rs`. `check.rs` and `dump.rs` are for who
//! looks for what is wrong.
#![forbid(unsafe_code)]

mod store;

mod owner;
mod read;
mod recent;

mod behind;
mod checkpoint;
mod chunks;
mod tiering;
mod upkeep;

pub mod check;
pub mod dump;

mod config;
mod error;
mod files;
mod identity;
mod room;
mod route;
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::chunks::StoredChunk;
pub use self::config::Config;
pub use self::error::{Error, Result};
pub use self::read::{Gate, Read};
pub use self::route::is_internal;
pub use self::store::{ContainerStats, Stats, Store, Unwritten};
