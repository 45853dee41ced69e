//! Long-term storage of segments: immutable chunks in a store of objects, for the owner of one container.
//!
//! ```text
//!             Lts::put            entry: key, value            Op::Store
//!   the log ───────────▶ object ───────────────────▶ table ───────────────▶ the log may be truncated
//!                          ▲                            │ loaded, kept in step
//!      Lts::read_blocks ───┤                            ▼
//!                          └──── Collector ◀──────── ChunkList ◀── find: which chunk has these bytes
//! ```
//!
//! A chunk is a range of a segment's bytes, a footer that says what it is, and a name that nothing has had before. What makes it part of a segment is
//! its entry in a table segment of the same container, written when the object is acknowledged; the entry has all that a reader needs. So no list of
//! objects is ever trusted, and a put whose answer is lost costs an object that somebody deletes later, and nothing else.
//!
//! # What it is not
//! It has no tasks: the container's shell says when to put, to tick and to list. It does not read the log, does not write the table, and has no cache:
//! it returns whole blocks, which are what a cache above keeps. It does not retry; the store below does, within a deadline.
//!
//! # What it guarantees
//! - Nothing is written over or appended to. Each attempt has a name of its own.
//! - Bytes that are read are those that were put, or the error says which block of which object is damaged.
//! - An object is deleted only if its chunk was freed, or if nobody needs it and nobody will: `collect/orphans.rs` has the proof. What is not needed
//!   is deleted in the end, whatever crashed.
//! - Who owns a container finds out that it does not any more: see `fence.rs`, also for what that does not protect.
//! - All waiting has an end, and all that grows has a limit ([`Config`]).
//! - Objects, entries and names are hostile until parsed.
//!
//! # What its owner has to do
//! - Open the container's log first, which fences the former owner's, and fill the [`ChunkList`] from the table.
//! - Propose `Op::Store` for what [`ChunkList::stored_to`] knows and the container does not, rather than put it again.
//! - [`Lts::check`] at the begin of a round of tiering; put from the log, never from a cache; write the entry; when it is durable, insert it in the
//!   list, call [`Lts::settled`], and only then propose `Op::Store`.
//! - When a segment was truncated or is unreferenced, durably: free its chunks in the list, remove their entries, and when that is durable give them to
//!   [`Collector::delete`]. After a crash in between: free again, from what the table still has.
//! - End when anything says `Fenced`, and when the log fails.
//!
//! # In which order to read
//! `names.rs`, `chunk.rs` and `list.rs` (what there is), `put.rs` and `events.rs` (what is put), `lts.rs` (doing it), `fence.rs`, `collect/`; then
//! `disk/` (bytes).
#![forbid(unsafe_code)]

pub mod names;

pub mod chunk;
mod list;

pub mod events;
mod put;

mod config;
mod error;
mod lts;
mod objects;

pub mod fence;

pub mod collect;

mod disk;
pub mod footer;
pub mod inspect;

pub mod testing;
#[cfg(test)]
mod tests;

pub use self::chunk::Chunk;
pub use self::collect::Collector;
pub use self::config::Config;
pub use self::error::Error;
pub use self::list::ChunkList;
pub use self::lts::Lts;
pub use self::put::Put;

pub(crate) use self::error::Result;
