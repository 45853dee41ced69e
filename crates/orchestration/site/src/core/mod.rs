//! Decisions, without I/O.

pub(crate) mod admission;
pub(crate) mod jumps;
pub(crate) mod reconcile;
