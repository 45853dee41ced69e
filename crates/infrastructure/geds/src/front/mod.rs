//! The faces of the store: what its users speak to it in.

pub mod local;
pub mod node;
pub mod object_store;
pub mod s3;

mod pages;
#[cfg(test)]
mod tests;
