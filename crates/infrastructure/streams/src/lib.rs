//! Streams: a durable stream store that speaks Pravega's own protocol, in one process.
//!
//! ```text
//!  clients ─▶ front/       12345: segments, appends, reads, tables ─▶ streams-store ─▶ wal, long-term storage
//!          ─▶ controller/   9090: scopes, streams, transactions    ─▶ streams-control, whose rows are a table there
//!          ─▶ rest/        10080: scopes and streams over HTTP     ─▶ controller/
//! ```
//!
//! Reading order: `service.rs`, `front/mod.rs`, `controller/mod.rs`, `access/mod.rs`, `rest/mod.rs`, `config.rs`.
#![forbid(unsafe_code)]

mod service;

mod front;

pub mod controller;

mod rest;

mod access;
mod tls;

pub mod offline;

mod config;
mod metrics;

/// For proofs.
pub mod testing {
    pub use streams_core::testing::run as simulate;
    pub use streams_store::testing::{crashes, faults};
}

pub use self::access::line as password_line;
pub use self::config::{Auth, Config, Tls};
pub use self::service::{Deps, Error, Service, start};

#[cfg(test)]
mod tests;
