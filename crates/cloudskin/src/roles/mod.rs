//! Long-running processes: what is wired to what.

pub(crate) mod controller;
pub(crate) mod geds;
pub(crate) mod host;
pub(crate) mod site;
pub(crate) mod streams;
pub(crate) mod world;

use std::net::SocketAddr;

use telemetry::{Health, LogFormat, Metrics};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let runtime = rt::runtime()?;
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

/// How a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ctrl-C: with all that it started.
    Interrupt,
    /// By a service manager, which may start it again.
    Terminate,
}

/// The signals that ask a process to end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on. Within a runtime.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next.
    pub(crate) async fn any(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

/// Ends this process in order when its parent dies, however that happens.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))?;
    Ok(())
}
