//! C-Cells: unmodified MPI programs as WebAssembly, moved between machines while they run.
//!
//! **What it is.** A compiler driver that makes cells out of C programs that can stop anywhere in their call stack ([`cc`], by the pass of the
//! crate [`instrument`]), hosts that run them ([`host`]), and the coordinator that makes a world of them and moves its ranks ([`world`]).
//!
//! **What it is not.** No scheduler: whoever uses it decides what moves where. No file system: what a guest opens is the
//! user's directory, and must be at the target, too.
//!
//! **Guarantees.** Messages between ranks arrive exactly once and in order, wherever the ranks are and whatever moves. At most one copy of a
//! rank runs. A moved program computes what it would have computed unmoved, bit for bit. A rank is lost only with its host's process, and then
//! the world begins again from its last checkpoint or says that it cannot.
//!
//! **Reading order.** `docs/cell-abi.md`: what guest and host promise each other. [`core::endpoint`]: messages. [`core::moving`]: who runs a
//! rank that moves. [`cell`]: one rank as a running guest. [`host`]: the process around it. [`world`]: the coordinator. [`driver`]: worlds as
//! units of a platform of sites. Then [`cc`], which stands by itself.

pub mod bench;
pub mod cc;
mod cell;
mod core;
mod disk;
pub mod driver;
mod error;
pub mod host;
mod wire;
pub mod world;

pub use error::{Error, Kind};
