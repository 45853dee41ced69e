//! A world in a process of its own: started by a site's agent, which it outlives.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use telemetry::LogFormat;

/// Runs the world of a directory to its end. The outcome is in the directory; a failure here is to be tried again.
pub(crate) fn run(dir: &Path, log: String) -> anyhow::Result<ExitCode> {
    telemetry::init("cell-world", LogFormat::Text, &log)?;
    let host_program = std::env::current_exe().context("find this program")?;
    cells::world::process::run(dir, host_program, log)?;
    Ok(ExitCode::SUCCESS)
}
