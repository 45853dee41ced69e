//! The pure parts: values, `now` and events in, effects out. No I/O, threads or clocks.

pub(crate) mod endpoint;
pub(crate) mod moving;
pub(crate) mod output;
pub(crate) mod trace;
