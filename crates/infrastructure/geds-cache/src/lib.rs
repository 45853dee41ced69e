//! What is kept near, decided purely: no I/O, no clock, no threads.
//!
//! - [`victims`]: which objects leave memory, or a disk, first.
//!
//! # What it is not
//! It has no bytes of objects: `geds` does, and asks here.
//!
//! # What it guarantees
//! It does what a naive model of a few lines does, whatever comes in whatever order: that is what its tests compare.
#![forbid(unsafe_code)]

pub mod victims;
