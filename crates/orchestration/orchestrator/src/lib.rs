//! The orchestration layer's controller: it decides which site runs what, and shows what the sites say about it.
//!
//! Users write *services* over the north-bound interface. The planner makes *blueprints* of them: numbered, complete, never changed. Each
//! site is pushed its part of the newest, and reports what it runs. What users are told about their services is made of these reports and
//! of nothing else: a site that does not report is `Unknown`, whatever was decided for it.
//!
//! It is not needed for anything that runs: sites boot from their own ledgers, and go on without a controller. It starts no process, holds
//! no data of users, and does not decide when to move something: that is asked of it ([`Controller::migrate`]), by people or by the Learning
//! Plane.
//!
//! Guarantees:
//! - A change that was answered is durable, and comes with an operation that ends once sites have reported what became of it.
//! - The same request with the same idempotency key is done once.
//! - What runs is not moved or restarted by the planner, whatever sites come, go, or are silent.
//! - Any number of controllers may work on one store: blueprints follow one another by compare-and-set, and sites refuse old ones. A store
//!   that was restored from a backup is noticed by the sites' newer generations; nothing is pushed to those until an operator says so.
//! - An organisation sees nothing of another: it is in every key, and comes from the token.
//! - Everything that waits is bounded; a slow site, watcher or client is dropped or told so.
//!
//! Reading order: `core` (what is decided), `controller` (requests, tasks, reads), `link` (sites), `front` (HTTP), `series`.
#![forbid(unsafe_code)]

mod config;
mod controller;
mod core;
mod error;
mod front;
mod hexadecimal;
mod link;
mod metrics;
pub mod series;
mod service;

pub use config::Config;
pub use controller::{
    BlockView, Controller, Event, LogPiece, Role, Terms, UnitView, Upload, Watch,
};
pub use core::bench::PlanBench;
pub use error::{Error, ErrorKind};
pub use front::openapi;
pub use series::{Selector, Store as Series};
pub use service::{Deps, Service, start};

/// What the Learning Plane tells the north-bound interface, and what is asked of it there.
pub trait Explainer: Send + Sync + std::fmt::Debug {
    /// Its decisions about a block, newest first.
    fn decisions(
        &self,
        org: &ids::Name,
        service: &ids::Name,
        block: &ids::Name,
    ) -> Vec<nbi::Decision>;

    /// Whether the text of a policy can be run.
    ///
    /// # Errors
    /// Line, column (from 1), and what is wrong there.
    fn check_policy(&self, text: &str) -> Result<(), (u32, u32, String)>;

    /// Runs the rules `apiRequest("path")` of a block's policy now. What they have decided, in their order. It may wait for a disk.
    ///
    /// # Errors
    /// When there is nothing to run.
    fn request(
        &self,
        org: &ids::Name,
        service: &ids::Name,
        block: &ids::Name,
        path: &str,
    ) -> Result<Vec<nbi::Decision>, Unasked>;
}

/// Why no rule of a policy was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// The Learning Plane does not watch the block.
    NotWatched,
    /// The block's policy has no such rule.
    NoSuchPath,
}
