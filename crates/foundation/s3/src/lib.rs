//! The S3 front door: S3's protocol in front of whatever stores.
//!
//! A store implements [`Backend`], in the words of S3 and without its protocol; [`serve`] does the rest. What comes from the network is
//! parsed once, here, into types that only valid input makes.
//!
//! It does: signatures of versions 2 and 4 for several users, in headers and in URLs; buckets in the path and in the host; objects with
//! attributes, user metadata and tags; lists in the three forms of S3; conditional reads and writes; ranges; copies; uploads in parts, in
//! any order; Content-MD5 and the five checksums of S3 as header and as trailer, in plain bodies and in `aws-chunked` ones, signed or not.
//!
//! It does not: access control lists, policies, versions, locks, encryption, storage classes, forms, CORS, web sites. Requests for those
//! are refused, not ignored. All users of a tenant may do everything with the tenant's buckets, and nothing with others.
//!
//! The crate `s3s` routes requests, verifies the signature of their head, parses and writes documents. Four things of it are not used, or
//! are done before it has the request:
//!
//! - Content never passes it. It holds a chunk of any size in memory, takes a body without its last chunk as complete and does not compare
//!   trailing checksums; [`body`] and `chunked` do.
//! - It accepts headers that were not signed, URLs that never expire, and requests of version 2 of any age; `access` does not.
//! - It reads a host that it does not know as the name of a bucket; `access` does not.
//! - It logs refused requests as errors; `http` silences it.
//!
//! Guarantees:
//!
//! - Nothing is committed unless all that the client has said of the content is true: see [`body::Verified`].
//! - Content is streamed in both directions, with back-pressure, and goes out from the memory where the store has it.
//! - Everything has a limit, in [`config::Limits`]: connections, heads, documents, content, and the time a client may make us wait.
//! - Secrets of users are in no log line and no `Debug`.
//!
//! Reading order: [`names`], [`object`], [`backend`], which is the seam; then `payload`, [`body`], `chunked`, `signing` for content on its
//! way in; `serve`, `http`, `access`, `exchange` and `front` for a request on its way through.
#![forbid(unsafe_code)]

pub mod backend;
pub mod body;
pub mod checksum;
mod chunks;
pub mod config;
pub mod names;
pub mod object;
pub mod users;

mod access;
mod chunked;
mod contract;
mod exchange;
mod fault;
mod front;
mod http;
mod memory;
mod metrics;
mod payload;
mod serve;
mod signing;
mod text;
mod whole;

#[cfg(test)]
mod tests;

pub use self::backend::Backend;
pub use self::chunks::Chunks;
pub use self::config::Config;
pub use self::contract::contract;
pub use self::memory::Memory;
pub use self::metrics::Counters;
pub use self::serve::{Service, Setup, serve};
