//! Pure state: no I/O, no clock, no threads.

pub(crate) mod site;

pub(crate) use geds_cache::{flights, known, victims};
pub(crate) use geds_core::{index, sums, to_usize};
