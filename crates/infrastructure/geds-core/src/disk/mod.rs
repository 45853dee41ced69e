//! What is written as bytes, one file for each kind.

mod index;
pub mod snapshot;
