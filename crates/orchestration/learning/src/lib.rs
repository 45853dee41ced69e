//! The Learning Plane: it forecasts how services will do, and moves them before they do badly.
//!
//! It watches *targets*, blocks of services. For each one it follows the time of an iteration where the block runs, forecasts it
//! as far ahead as a move takes, predicts what it would be at every other site, and lets a policy decide. In mode `active`
//! it calls the actuator; in mode `shadow` it only says what it would do.
//!
//! It is not a store of measurements, and not what moves things: it has a [`Sensor`] and an [`Actuator`], and the binary wires them
//! to the series and to the migrations of the controller. It knows neither HTTP nor any other subsystem.
//!
//! Guarantees:
//! - What is missing is unknown, not zero. What is stale, not finite or from the future triggers nothing.
//! - A forecast is stored when it is made and scored when its truth comes; nothing that comes later changes it. Intervals are
//!   calibrated by the errors at the same horizon, and the simplest model speaks until another one is measurably better.
//! - A decision to move is durable before the actuator is called, and the actuator is called once for it, through crashes of either side.
//! - A block does not go back and forth: policies that would do so are refused where that can be read from the text, and a dwell
//!   sees to the rest.
//! - Texts, series, sites, decisions and the ledger have limits (constants beside what they limit, and [`Config`]).
//!
//! Reading order: `seam` (what comes in and goes out), `core/plane` (the state machine), `core/watch` (one target), `core/score`
//! and `core/models` (forecasts), `core/sites` (other sites), `core/policy` and `core/decide` (policies; docs/policies.md is the
//! reference), `core/ledger`, `disk`, `service`.
//!
//! ```no_run
//! use std::sync::Arc;
//! use learning::seam::{Mode, Target, TargetId};
//! use learning::{Config, Learning, Policy};
//!
//! # fn wire(sensor: Arc<dyn learning::Sensor>, actuator: Arc<dyn learning::Actuator>) -> Result<(), Box<dyn std::error::Error>> {
//! let dir = std::path::Path::new("/var/lib/cloudskin/learning");
//! let metrics = telemetry::Metrics::new();
//! let learning = Learning::start(Config::default(), dir, &metrics, sensor, actuator)?;
//! let id = TargetId { org: "acme".parse()?, service: "video".parse()?, block: "decode".parse()? };
//! learning.apply(Target {
//!     id: id.clone(),
//!     kpi_max: Some(0.2),
//!     // Or Policy::parse(text), whose error has a line and a column.
//!     policy: Policy::standard(),
//!     mode: Mode::Active,
//!     like: "sha256:0123/4".to_owned(),
//! })?;
//! for decision in learning.explain(&id) {
//!     println!("{} because of {}: {}", decision.action, decision.branch, decision.outcome);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;
mod core;
mod decision;
mod disk;
mod error;
mod metrics;
pub mod seam;
mod service;
mod store;

pub use config::Config;
pub use core::policy::{Policy, PolicyError};
pub use error::Error;
pub use seam::{Actuator, Sensor};
pub use service::Learning;

#[cfg(test)]
mod tests;
