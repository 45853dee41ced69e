//! What the crates of GEDS have in common: names and what they stand for, pages, checksums. Pure: no I/O, no clock, no threads.
//!
//! - [`index`]: which names there are, what each stands for, and where that lies: a state machine over an ordered log.
//! - [`disk`]: its records and snapshots as bytes.
//! - [`extents`]: who has which pages of a set of segments, in memory or on a disk.
//! - [`sums`]: the checksums of an object while it is written.
//! - [`Error`], and [`Kind`]: what callers can do about it.
//!
//! # What it is not
//! It is not for what only one of GEDS' crates needs: that one keeps its own core. Nothing here knows a log, a file, a socket or a caller.
//!
//! # What it guarantees
//! - The same records in the same order make the same index.
//! - An index that is encoded and decoded is the same, and bytes that are something else are refused as corrupt. There are golden bytes of
//!   each version that was released.
//! - Pages have one owner: to give what was never taken, or twice, is a panic and not a second owner.
//!
//! Read `index` first (it says in which order), then `disk/index.rs`, then `extents.rs` and `sums.rs`.
#![forbid(unsafe_code)]

pub mod index;

pub mod disk;
mod error;
pub mod extents;
pub mod sums;
pub mod testing;

pub use self::error::{Error, Kind, Result};

/// For bytes that are in memory, or shall be.
#[must_use]
pub fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("addresses have 64 bits")
}
