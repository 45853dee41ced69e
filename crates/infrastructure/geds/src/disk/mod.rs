//! What is written as bytes, one file for each kind.

mod index;
mod s3;
pub(crate) mod snapshot;
