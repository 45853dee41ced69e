//! The faces of the store: what its users speak to it in.

pub mod s3;
