//! Stores of objects by URL, under one seam: the trait `ObjectStore` of the crate `object_store`.
//!
//! [`Registry::open`] gives the store that a URL names. `file:` and `memory:` are there from the beginning; [`S3`] is registered with what it may
//! use, and other crates' schemes by who wires them together. No crate names another's.
//!
//! Guarantees:
//!
//! - What an acknowledgement has promised is a [`Class`]. A store that has both says it with each answer; any other has one.
//! - A URL holds no secrets: one that could is refused, and is not repeated in the message. Secrets are [`Secret`]s, which are not printed.
//! - All waiting has an end: see [`s3::Limits`]. Only S3's requests are sent again, by `object_store`, and nobody else sends them again.
//!
//! It is not for who needs exact keys, versions or tags of S3: that is what the crate `s3` has a seam for.
//!
//! Reading order: `registry`, `class`; `s3/mod.rs`, then `s3/http.rs`, which is why there is no other HTTP client here, `s3/upload.rs`, uploads
//! whose end is conditional, and `s3/asking.rs`, lists of exact keys: `ObjectStore` has neither.
#![forbid(unsafe_code)]

mod class;
mod error;
mod registry;
pub mod s3;
mod secret;
#[cfg(test)]
mod tests;

pub use self::class::Class;
pub use self::error::{Error, Result};
pub use self::registry::{Opened, Registry, Scheme, within};
pub use self::s3::S3;
pub use self::secret::{Credentials, Secret};
