//! Tier 1: immutable objects on a disk of a node.
//!
//! A [`Store`] keeps objects, each under an [`Id`] that its caller chose, in segment files that are allocated in full, and tells a log of a
//! `wal` what lies where. An object of one block at most lies whole in the log first, so that it costs one sync together with others, and
//! is moved to its place later. What is on the disk is known from the last snapshot of the catalogue and the log behind it.
//!
//! # What it guarantees
//! - What is acknowledged is there after a crash, whole; what is not is there whole or not at all. Pages that a crash may bring back are
//!   given to nobody else.
//! - Every block of 64 KiB has a checksum that is looked at whenever it is read: damage is refused by name, never given out. [`Store::scrub`]
//!   looks at what nobody reads; what is damaged can be put again, and goes elsewhere.
//! - A failed write or sync ends the owner with its cause. There is one owner, and the log knows which one.
//! - What comes piece by piece ([`Writer`]) is one object when it is put, and nothing before: what a crash leaves of it is free.
//! - Who has an object open ([`Pinned`]) can read it to its end, also when it is freed meanwhile.
//! - No more than the limit of the disk is ever taken, and who writes waits for room that is promised to nobody else.
//!
//! # What it is not
//! It has no names, no tenants and no cache, and it decides nothing about what shall be on the disk: the store above does.
//!
//! # Reading order
//! `core/catalogue` (what lies where, pure; it says what makes every crash come out right), `format.rs` (bytes), `store.rs`, `putting.rs`,
//! `writing.rs` and `reading.rs` (the life of an object), `recovery.rs` and `snapshots.rs` (what a new owner finds), `keeping.rs` and `scrub.rs`
//! (what is done on the side); then `drive.rs` and `rings.rs` (a real disk, past the page cache; the only unsafe code), `segments.rs` and `sync.rs`.
#![deny(unsafe_code)]

mod core;

mod error;
mod putting;
mod reading;
mod recovery;
mod store;
mod writing;

mod keeping;
mod scrub;

mod aligned;
mod drive;
mod format;
mod rings;
mod segments;
mod snapshots;
mod sync;

pub mod testing;

pub use self::aligned::Aligned;
pub use self::core::catalogue::Id;
pub use self::drive::Drive;
pub use self::error::{Error, Kind, Result, kind_of};
pub use self::putting::Prepared;
pub use self::reading::Pinned;
pub use self::recovery::Recovery;
pub use self::scrub::{Cursor, Damage, Scrubbed};
pub use self::store::{Config, Refused, Stats, Store};
pub use self::writing::Writer;

#[cfg(test)]
mod tests;
