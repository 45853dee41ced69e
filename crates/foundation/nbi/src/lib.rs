//! The north-bound interface: what users, tools and the Learning Plane see of the platform. Resources, problems, the typed client.
//!
//! **Resources** are JSON in camelCase. A service, a site and a migration have `{apiVersion, kind, metadata, spec, status}`. Every change
//! is answered 202 with an [`Operation`], which says what became of it. What users write is read by [`parse`], which knows where in the
//! text something is wrong, and refuses fields that it does not know; what users read may have more fields than this client knows.
//!
//! **Quantities** are texts with a unit: `200ms`, `30s`, `1Gi`. [`parse_duration`] and [`parse_bytes`] read them.
//!
//! **Problems** are RFC 9457. The status says what to do, `pointer` (RFC 6901) says where.
//!
//! **The client** ([`Client`]) is blocking, speaks HTTPS to one controller whose authority it is told, and repeats only what may be
//! repeated. Asynchronous code runs it on a thread of its own.
//!
//! The schemas of the OpenAPI document are derived from the same types; `parse` and the schema are two views of one rule, and the limits
//! are constants in `limits`.
//!
//! Reading order: `resources`, `parse`, `problem`, `client`.
#![forbid(unsafe_code)]

mod client;
mod limits;
mod parse;
mod problem;
mod resources;
pub mod schema;
mod whole;

pub use ids::{Quantity, parse_bytes, parse_duration};

pub use client::{Client, Error, Follow, Range, Series, WatchEvent, Watching};
pub use parse::{Checked, parse};
pub use problem::{FieldError, Problem};
pub use resources::*;
