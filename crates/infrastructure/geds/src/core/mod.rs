//! Pure state: no I/O, no clock, no threads.

pub(crate) mod paths;
pub(crate) mod victims;

pub(crate) use geds_core::{index, sums, to_usize};
