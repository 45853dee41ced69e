//! A container of segments, pure: operations in, records and effects out. No I/O, no clock, no threads.
//!
//! ```text
//!   op ──▶ propose ──▶ record ──────▶ the log ──────▶ durable ──▶ effects: readers to wake, storage to delete
//!             │ │       (seq 17)                         ▲
//!             │ └─────▶ outcome, told when 17 is ────────┤
//!             └───────▶ refusal, told when all before is ┤
//!   question ─────────▶ answer, told when `as_of` is ────┘        crash ──▶ replay(records) ──▶ open: a new owner
//! ```
//!
//! There is one state: that after all that was proposed. An operation is decided upon it, which gives a record, and the record is applied at once;
//! so later operations see earlier ones, and replaying a log does what proposing did, with the same function. What is not durable may be lost:
//! that is why every answer and every refusal says of which record on it may be told. Bytes are an exception, since reading them must not wait for
//! those behind them: a read sees the durable ones only. A table has none: its entries are in the state, so a checkpoint has them, and what they were
//! written as is kept nowhere.
//!
//! # What it is not
//! It speaks no protocol and knows no log, storage or cache: it says where bytes lie, and others fetch them. It does not go back. An owner whose log
//! fails, or refuses a record, has ended; its successor reads the log.
//!
//! # What it guarantees
//! - A record is done whole or not at all: data, the writer's number, attributes, all entries of a batch, all sources of a merge.
//! - A writer's events are in the segment once, if each append says which event was the last before it; unless there are more writers of the segment
//!   than [`Limits`] has room for, and it waits with sending again until it is the one that was idle longest.
//! - After a seal nothing grows. After a deletion nothing comes back: what is kept of a segment is kept under a number that no other one gets.
//! - Records and checkpoints are hostile until parsed; what does not belong behind the records before it is refused.
//! - Everything has a limit ([`Limits`]).
//!
//! # What its owner has to do
//! - Append the records in the order of their numbers, before anything is told of them, and call [`Container::durable`] for each, in order.
//! - Tell outcomes, refusals and answers when their record is durable, never before. Drop them when the log fails.
//! - Hold each connection's writers with the number of the last event that each of them proposed, set from [`Container::attribute`] when it is
//!   told; after a refusal other than of a conditional append, refuse what the writer has sent behind it.
//! - Delete what [`Effects::free`](container::Effects::free) says only when it is told, and what it has stored if storing it is refused then; what a
//!   former owner has left is what is not in [`Container::references`]. Truncate the log no further than [`Container::needs`] and the checkpoint allow.
//! - Delete the [`Container::transient`] segments of a connection that ends. Those of a former owner are gone already.
//!
//! # In which order to read
//! `op.rs` (what can be asked), `container.rs`, `questions.rs`, `decide.rs` (whether it may be done), `record.rs` and `apply.rs` (doing it), `recovery.rs`; then what a
//! segment is: `segment.rs`, `attributes.rs`, `content.rs`, `table/`; then `disk/` (bytes).
//! [`testing`] has a server that is as short as it can be, and a world that fails around it.
#![forbid(unsafe_code)]

pub mod op;

pub mod container;
mod questions;
pub mod record;
pub mod recovery;

mod apply;
mod decide;
mod state;

pub mod attributes;
mod content;
pub mod names;
pub mod segment;
pub mod table;

mod disk;
pub mod dump;

pub mod testing;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use self::container::Container;
pub use self::names::{SegmentId, SegmentName};
pub use self::op::{Op, Refusal};
pub use self::recovery::Recovery;
pub use self::state::Limits;

/// What is kept is not what this crate has written, or is not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub(crate) &'static str);
