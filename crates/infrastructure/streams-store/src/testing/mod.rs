//! For tests and proofs: a whole store on a disk that crashes, with long-term storage that fails. What a seed says is done to it, and recorded; then it is
//! opened as a crash has left it, at moments of that.
//!
//! What is there then is, of each container, all that was done up to some moment, and no less than was acknowledged.

mod crashes;
mod faults;
mod model;
mod world;

pub use self::crashes::crashes;
#[cfg(test)]
pub(crate) use self::crashes::crashes_on;
pub use self::faults::{Faults, faults};
