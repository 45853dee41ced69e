//! Pure state: no I/O, no clock, no threads.

pub(crate) mod catalogue;
pub(crate) mod growing;
