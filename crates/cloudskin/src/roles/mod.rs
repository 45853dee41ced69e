//! Long-running processes: what is wired to what.

pub(crate) mod host;

use std::net::SocketAddr;

use telemetry::{Health, LogFormat, Metrics};

/// What every long-running process has: logs, metrics, health. The server runs until the process ends.
pub(crate) struct Telemetry {
    pub metrics: Metrics,
    pub health: Health,
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    _service: telemetry::Service,
}

/// Sets up logging and serves metrics and health at `address`.
pub(crate) fn telemetry(
    role: &'static str,
    log: &str,
    address: SocketAddr,
) -> anyhow::Result<Telemetry> {
    telemetry::init(role, LogFormat::Text, log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (metrics, health) = (Metrics::new(), Health::starting("starting"));
    let service = runtime.block_on(telemetry::serve(address, metrics.clone(), health.clone()))?;
    Ok(Telemetry {
        metrics,
        health,
        address: service.addr,
        _runtime: runtime,
        _service: service,
    })
}
