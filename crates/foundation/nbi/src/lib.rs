//! The north-bound interface: what users, tools and the Learning Plane see of the platform. Resources and problems; the typed client.
//!
//! JSON in camelCase; unknown fields are refused in what users write and skipped in what they read. Every resource has
//! `{apiVersion, kind, metadata, spec, status}`. Every change is answered 202 with an [`Operation`].
#![forbid(unsafe_code)]

mod resources;

pub use resources::*;
