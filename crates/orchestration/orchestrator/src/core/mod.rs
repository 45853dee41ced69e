//! What is decided, without I/O, clocks or randomness: who runs where, what a migration does next, what users are told.
//!
//! ```text
//! nbi::Service ── spec ──▶ Policy ─┐
//!                       Inventory ─┼─ plan ──▶ Blueprint ── (pushed to sites) ──▶ Inventory ── project ──▶ nbi statuses
//!                migration::wish ──┘                                                 └──── migration::advance
//! ```
//!
//! Reading order: `spec`, `blueprint`, `inventory`, `plan`, `migration`, `project`.

pub(crate) mod bench;
pub(crate) mod blueprint;
pub(crate) mod inventory;
pub(crate) mod migration;
pub(crate) mod places;
pub(crate) mod plan;
pub(crate) mod project;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
