//! `cloudskin demo`

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(self, _: &Config) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
