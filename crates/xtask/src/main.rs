//! The toolbox behind `./x`: set-up, build, test, checks, and the way into the demo, benches and proofs.
//!
//! It imports no crate of the workspace, so that it is built in seconds on a fresh clone, and everything after it is
//! built one way: `--workspace`, one feature set, one optimised profile.
//!
//! Reading order: [`setup`] (which tools, and how they get here), [`ci`] (the checks).
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks there"
)]

mod ci;
mod metadata;
mod rules;
mod setup;
mod shell;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::setup::Purpose;
use crate::shell::Cmd;

const USAGE: &str = "\
usage: ./x COMMAND [ARGUMENTS]

  demo  [--json --seed N --ranks N --size N --image FILE --keep]
                     build, and show an MPI program moving between two hosts
  test  [NAME]       build and run all tests (or those whose name contains NAME)
  setup              install the tools that demo, test and ci need
  ci    [CHECK...]   every check and all tests (or the checks named)
  bench [NAME] [--json]   measure, against a peer or a limit
  prove [NAME] [--json]   the long proofs

Each command installs what it needs and lacks; a second run needs no network.";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let command = if arguments.is_empty() {
        OsString::new()
    } else {
        arguments.remove(0)
    };
    match dispatch(&command.to_string_lossy(), &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, arguments: &[OsString]) -> Result<()> {
    let root = root()?;
    match command {
        "demo" => {
            setup::prepare(&root, Purpose::Run)?;
            cloudskin(&root, "demo", arguments)
        }
        "bench" | "prove" => {
            setup::prepare(&root, Purpose::Bench)?;
            cloudskin(&root, command, arguments)
        }
        "test" => test(&root, arguments),
        "setup" if !arguments.is_empty() => bail!("`setup` takes no arguments"),
        "setup" => setup::prepare(&root, Purpose::Check),
        "ci" => {
            let only: Vec<_> = arguments
                .iter()
                .map(|a| a.to_string_lossy().into_owned())
                .collect();
            ci::run(&root, &only)
        }
        "-h" | "--help" | "help" => {
            println!("{USAGE}");
            Ok(())
        }
        "" => bail!("a command is missing\n{USAGE}"),
        other => bail!("there is no command `{other}`\n{USAGE}"),
    }
}

/// Builds everything and runs all tests.
fn test(root: &Path, filter: &[OsString]) -> Result<()> {
    setup::prepare(root, Purpose::Test)?;
    // The black-box tests start the binary, which `cargo test` alone does not build.
    build(root)?;
    Cmd::new("cargo", root)
        .args(["test", "--workspace", "--locked"])
        .args(filter)
        .run()
}

/// Builds everything, then becomes `cloudskin COMMAND ARGUMENTS`.
fn cloudskin(root: &Path, command: &str, arguments: &[OsString]) -> Result<()> {
    build(root)?;
    let binary = metadata::target_directory(root)?.join("debug/cloudskin");
    Cmd::new(binary, root)
        .args([command])
        .args(arguments)
        .become_it()
}

/// Builds the binary, what it links, and the module for Python.
///
/// Asked for examples, of which there are none, cargo gives dependencies the features that tests want as well. Without,
/// demo and test would each compile their own copy of whatever those features reach.
fn build(root: &Path) -> Result<()> {
    Cmd::new("cargo", root)
        .args(["build", "--workspace", "--lib", "--bins", "--examples"])
        .arg("--locked")
        .run_aside()
}

/// The root of the repository: the toolbox is built where it is used.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .context("find the root of the repository")
}
