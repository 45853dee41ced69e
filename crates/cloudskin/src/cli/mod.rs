//! The command line.

mod cc;
mod cell;
mod ctl;
mod demo;
mod geds;
mod geds_serve;
mod streams;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::roles;

/// One platform for the cloud-edge continuum.
#[derive(Debug, Parser)]
#[command(name = "cloudskin", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile an MPI program in C to WebAssembly that can move while it runs; takes gcc's options.
    Cc {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Run MPI programs as cells, look at them, and move them.
    #[command(subcommand)]
    Cell(cell::Cell),
    /// Start the whole continuum on this machine: a controller and two sites, edge and cloud.
    Up(up::Up),
    /// Use a running platform through its north-bound interface.
    Ctl(ctl::Ctl),
    /// Be the agent of one site: it runs what its controller wants there.
    Site(roles::site::Site),
    /// Be a controller; `up` starts one.
    Controller(roles::controller::Controller),
    /// Keep objects: use the store of a node, run one, and say who may use it.
    #[command(subcommand)]
    Geds(geds::Geds),
    /// Keep streams: serve them, make them, write and read events.
    #[command(subcommand)]
    Streams(streams::Streams),
    /// The whole loop: an overload is foreseen, and a running program moves from the edge to the cloud.
    Demo(demo::Demo),
    /// Run the long proofs: programs that move all the time compute the same.
    Prove(measure::Prove),
    /// Measure what things cost, against a peer or a physical limit.
    Bench(measure::Bench),
}

/// Runs the command; its error goes to standard error, and the code says how it ended.
pub(crate) fn run(config: &Config) -> ExitCode {
    // The compiler driver takes its arguments raw, `--version` and `--help` among them.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "cc") {
        return cc::run(&args.collect::<Vec<_>>(), config);
    }
    let result = match Cli::parse().command {
        Command::Cc { args } => return cc::run(&args, config),
        Command::Cell(cell) => cell.run(config),
        Command::Up(up) => up.run(config),
        Command::Ctl(ctl) => ctl.run(config),
        Command::Site(site) => site.run(roles::site::drivers),
        Command::Controller(controller) => controller.run(),
        Command::Geds(geds) => geds.run(config),
        Command::Streams(streams) => streams.run(),
        Command::Demo(demo) => demo.run(config),
        Command::Prove(prove) => prove.run(&of_measure(config)),
        Command::Bench(bench) => bench.run(&of_measure(config)),
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// What benchmarks and proofs are told of it.
fn of_measure(config: &Config) -> measure::Config {
    measure::Config {
        path: config.path.clone(),
        cache_dir: config.cache_dir.clone(),
        code_dir: config.code_dir(),
        state_dir: config.state_dir.clone(),
        cc: cc::driver(config),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let mut out = std::io::stderr().lock();
    // Nobody is left to tell if standard error is closed.
    std::io::Write::write_fmt(&mut out, format_args!("cloudskin: {error:#}\n")).ok();
    ExitCode::FAILURE
}

/// Prints a line to standard output.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    std::io::Write::write_fmt(&mut out, format_args!("{line}\n"))?;
    Ok(())
}
