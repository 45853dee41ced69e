//! GEDS: the tiered ephemeral object store. So far: names that last, and objects in memory.
//!
//! - [`index`]: which names there are, what each stands for, and where that lies: a pure state machine over an ordered log.
//! - [`namespace`]: its owner, with the log and snapshots.
//! - [`arena`]: immutable objects in memory that processes of one node share without copying.
//! - [`tier1`]: immutable objects on a disk of the node, small ones in the log. The store does not use it yet.
//! - [`tier2`]: objects in a store that speaks S3. The store does not use it yet.
//! - [`store`]: names and memory together: what a node offers to tenants.
//!
//! Read in this order: `core/index` and `namespace`; then `core/extents.rs` (who has which pages), `arena/memory.rs` (the only unsafe code),
//! `arena/segments.rs` and `arena/pool.rs` (where memory comes from and goes back to), `arena/writer.rs` and `arena/object.rs` (the life
//! of an object), `arena/pins.rs` (when pages that another process reads may be used again), `arena/wire.rs`, `arena/share` (the agent) and
//! `arena/client` (other processes); then `store`.
#![deny(unsafe_code)]

pub mod arena;
mod core;
mod disk;
mod error;
pub mod front;
pub mod namespace;
pub mod store;
pub mod tier1;
pub mod tier2;

pub use self::core::index;
pub use self::error::{Error, Kind, Result};
