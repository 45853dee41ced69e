//! `cloudskin cc`

use std::ffi::OsString;
use std::process::ExitCode;

use crate::config::Config;

/// The driver's configuration.
pub(super) fn driver(config: &Config) -> cells::cc::Config {
    cells::cc::Config {
        cache_dir: config.cache_dir.join("cc"),
        path: config.path.clone(),
        root: None,
    }
}

pub(super) fn run(args: &[OsString], config: &Config) -> ExitCode {
    match cells::cc::run(args, &driver(config)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => super::fail(&anyhow::Error::new(error)),
    }
}
