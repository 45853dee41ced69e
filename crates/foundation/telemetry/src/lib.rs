//! What a process of the platform tells about itself: log lines on standard error, metrics and health over HTTP.
//!
//! - [`init`] sends `tracing` events to standard error, as text for people or JSON for machines, each with the role of
//!   the process in it.
//! - [`Metrics`] is where counters, gauges and histograms are declared. A name that breaks Prometheus' conventions is
//!   refused at its declaration, so that it cannot reach a dashboard.
//! - [`Health`] collects the named reasons why the process is not ready to serve.
//! - [`serve`] answers `/metrics` (Prometheus text format 0.0.4), `/healthz` (the process answers) and `/readyz` (503 and
//!   the reasons until there are none).
//!
//! It is not configuration: the log filter, the format and the address are arguments, and no environment variable is
//! read here. It is not a metric history either: Prometheus, or the platform's own store, collects.
//!
//! Guarantees: the server holds a bounded number of connections, each for a bounded time and with a bounded request
//! (the limits are constants of `serve`); what it refuses or delays is counted in its own metrics.
//!
//! Reading order: `metrics`, `health`, `serve`, `log`.
#![forbid(unsafe_code)]

mod health;
mod log;
mod metrics;
mod serve;

pub use health::Health;
pub use log::{LogFormat, init};
pub use metrics::Metrics;
pub use serve::{Service, serve};

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text that says which events are logged is malformed.
    #[error("understand the log filter `{filter}`")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    /// [`init`] was called before.
    #[error("set up logging, which was done before")]
    Twice,
    /// The address cannot be listened on.
    #[error("listen for telemetry on {addr}")]
    Listen {
        addr: std::net::SocketAddr,
        source: std::io::Error,
    },
}
