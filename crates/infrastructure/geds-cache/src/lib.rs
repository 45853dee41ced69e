//! What is kept near, and what is fetched, decided purely: no I/O, no clock, no threads.
//!
//! - [`victims`]: which objects leave memory, or a disk, first.
//! - [`known`]: what somebody else has said of names, and for how long that counts.
//! - [`flights`]: what is being fetched, each thing once.
//!
//! # What it is not
//! It has no bytes of objects and makes no request: `geds-store` does, and asks here.
//!
//! # What it guarantees
//! Each of them does what a naive model of a few lines does, whatever comes in whatever order: that is what their tests compare. What they
//! remember is bounded.
#![forbid(unsafe_code)]

pub mod flights;
pub mod known;
pub mod victims;
