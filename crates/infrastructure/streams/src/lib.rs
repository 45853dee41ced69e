//! Streams: a durable stream store that speaks Pravega's own protocol, in one process.
//!
//! ```text
//!  clients ─▶ front/       12345: segments, appends, reads, tables ─▶ streams-store ─▶ wal, long-term storage
//!          ─▶ controller/   9090: scopes, streams, transactions    ─▶ streams-control, whose rows are a table there
//! ```
//!
//! Reading order: `service.rs`, `front/mod.rs`, `controller/mod.rs`, `config.rs`.
#![forbid(unsafe_code)]

mod service;

mod front;

pub mod controller;

mod config;
mod metrics;

pub use self::config::Config;
pub use self::service::{Deps, Error, Service, start};
