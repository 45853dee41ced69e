//! `cloudskin`: every role of the platform in one binary.
//!
//! `cli` has one file per command, but for `bench` and `prove`, which are the crate `measure`; `roles` has one per long-running process; `config` is the
//! only place that reads the environment.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod roles;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(&config::Config::from_environment())
}
