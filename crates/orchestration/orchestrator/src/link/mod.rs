//! The controller's side of `workload::link`: sites dial in over mutual TLS, one connection a site, the newest wins.
//!
//! A site can neither hold up the controller nor another site: what waits for it is bounded, and a site that does not take it is dropped; it
//! dials again and is told everything anew. Configurations do not queue: only the newest waits.
//!
//! Reading order: `connection` (what one is), `frames` (bytes), `serve` (its life).

mod connection;
mod frames;
mod serve;

pub(crate) use connection::Connections;
pub(crate) use serve::serve;
