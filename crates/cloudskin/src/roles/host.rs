//! A cell host: the process that holds the cells of one world.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::Context as _;

/// Reads from standard input which host this is, and serves until its coordinator is gone.
pub(crate) fn run(log: &str) -> anyhow::Result<ExitCode> {
    let address = (IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into();
    let telemetry = super::telemetry("cell-host", log, address)?;
    let Some(config) =
        cells::host::read_config(&mut io::stdin().lock()).context("read what this host is")?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    telemetry.health.clear("starting");
    cells::host::serve(config, &telemetry.metrics, telemetry.address)?;
    Ok(ExitCode::SUCCESS)
}
