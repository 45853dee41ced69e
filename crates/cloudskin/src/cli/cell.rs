//! `cloudskin cell`: run worlds of cells, and look at and steer those that run.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cells::world::admin::{self, Answer, Request, Status};
use cells::world::{Proof, Report, Schedule, Sinks, World};
use clap::{Args, Subcommand};

use super::say;
use crate::config::Config;
use crate::roles;

#[derive(Debug, Subcommand)]
pub(super) enum Cell {
    /// Run a program as an MPI world.
    Run(Box<Run>),
    /// List the running worlds.
    Ps {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// End a running world.
    Stop { world: String },
    /// Move a rank of a running world to another of its hosts.
    Move { world: String, rank: u32, host: u32 },
    /// Run the world of a directory; for a site's agent.
    #[command(hide = true)]
    World {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value = "warn")]
        log: String,
    },
    /// Be a host; what it is comes over standard input. For `cell run` itself.
    #[command(hide = true)]
    Host {
        #[arg(long, default_value = "warn")]
        log: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The program, made by `cloudskin cc`.
    program: PathBuf,
    /// Its arguments.
    #[arg(last = true)]
    args: Vec<String>,
    /// Number of ranks.
    #[arg(short = 'n', long, default_value_t = 1)]
    ranks: u32,
    /// Number of host processes that the ranks are spread over.
    #[arg(long, default_value_t = 1)]
    hosts: u32,
    /// A directory for the program: HOST or GUEST=HOST. Several times.
    #[arg(long = "dir", value_name = "[GUEST=]HOST")]
    dirs: Vec<String>,
    /// A variable for the program: NAME=VALUE. Several times.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The most memory that a rank may have, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory_max: u64,
    /// Print a hash of each rank's memory at its end.
    #[arg(long)]
    hash_memory: bool,
    /// Move random ranks so many times, at random points; fail if fewer moves happened.
    #[arg(long, value_name = "N")]
    bounce: Option<u32>,
    /// What the bounce's choices begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take a checkpoint every so many seconds; if a host dies, the world begins again from the last one.
    #[arg(long, value_name = "SECONDS")]
    checkpoint_every: Option<f64>,
    /// Record every outcome that differs from run to run.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Run with the outcomes that were recorded.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Run on the portable interpreter instead of native code.
    #[arg(long)]
    interpret: bool,
    /// What to log: a tracing filter such as `info` or `cells=debug`.
    #[arg(long, default_value = "warn")]
    log: String,
    /// Where to serve /metrics, /healthz and /readyz; each host has its own (see `cell ps`).
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics: std::net::SocketAddr,
    /// Let a host kill itself at a step of a move: HOST:STEP. For tests.
    #[arg(long, hide = true, value_parser = fail_point)]
    fail: Option<(u32, String)>,
}

impl Cell {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(run) => run.run(config),
            Self::Ps { json } => ps(config, json),
            Self::Stop { world } => ask(config, &world, &Request::Stop),
            Self::Move { world, rank, host } => {
                ask(config, &world, &Request::Move { rank, to: host })
            }
            Self::World { dir, log } => roles::world::run(&dir, log),
            Self::Host { log } => roles::host::run(&log),
        }
    }
}

impl Run {
    fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let telemetry = roles::telemetry("cell", &self.log, self.metrics)?;
        let world = self.world(config)?;
        let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr());
        let sinks = Sinks {
            stdout: &mut stdout,
            stderr: &mut stderr,
        };
        telemetry.health.clear("starting");
        let report = cells::world::run(world, sinks)?;
        if let Some(path) = &self.record {
            fs::write(path, &report.recording)
                .with_context(|| format!("write {}", path.display()))?;
        }
        for (rank, hash) in &report.hashes {
            writeln!(stdout, "hash rank={rank} blake3={hash}")?;
        }
        stdout.flush()?;
        self.verdict(&report)
    }

    fn verdict(&self, report: &Report) -> anyhow::Result<ExitCode> {
        if report.exit_code == 0
            && let Some(wanted) = self.bounce
            && report.missing_moves > 0
        {
            let why = report
                .failed_moves
                .last()
                .map_or("the program ended first", String::as_str);
            bail!(
                "only {} of {wanted} moves happened: {why}",
                wanted - report.missing_moves
            );
        }
        Ok(u8::try_from(report.exit_code & 0xff).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn world(&self, config: &Config) -> anyhow::Result<World> {
        let module = fs::read(&self.program)
            .with_context(|| format!("read the program {}", self.program.display()))?;
        let name = self
            .program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut args = vec![name.clone()];
        args.extend(self.args.iter().cloned());
        let proof = match (&self.record, &self.replay) {
            (Some(_), _) => Proof::Record,
            (_, Some(path)) => {
                Proof::Replay(fs::read(path).with_context(|| format!("read {}", path.display()))?)
            }
            (None, None) => Proof::None,
        };
        let schedule = self
            .bounce
            .map_or(Schedule::None, |n_moves| Schedule::Bounce {
                n_moves,
                seed: self.seed,
            });
        let checkpoint_every = self
            .checkpoint_every
            .map(Duration::try_from_secs_f64)
            .transpose();
        if self.bounce.is_some() && self.hosts < 2 {
            bail!("--bounce needs somewhere to go: use --hosts 2");
        }
        Ok(World {
            name,
            module,
            n_ranks: self.ranks,
            n_hosts: self.hosts,
            args,
            env: self
                .env
                .iter()
                .map(|pair| key_value(pair))
                .collect::<anyhow::Result<_>>()?,
            mounts: self
                .dirs
                .iter()
                .map(|dir| mount(dir))
                .collect::<anyhow::Result<_>>()?,
            memory_bytes_max: self.memory_max.saturating_mul(1 << 20),
            hash_memory: self.hash_memory,
            proof,
            schedule,
            checkpoint_every: checkpoint_every.context("--checkpoint-every")?,
            marks: false,
            interpret: self.interpret,
            report_moves: true,
            fail_point: self.fail.clone(),
            host_program: std::env::current_exe().context("find this program")?,
            log: self.log.clone(),
            state_dir: config.state_dir.clone(),
            code_dir: config.code_dir(),
        })
    }
}

fn ps(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let mut is_first = true;
    for world in admin::worlds(&config.state_dir)? {
        // It may end while it is asked.
        let Ok(Answer::Status(status)) = admin::ask(&config.state_dir, &world, &Request::Status)
        else {
            continue;
        };
        if json {
            say(&json_of(&status))?;
            continue;
        }
        if std::mem::take(&mut is_first) {
            say("WORLD         PID      SECONDS  MOVES  PROGRAM")?;
        }
        say(&text_of(&status))?;
    }
    if is_first && !json {
        say("no world runs")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text_of(status: &Status) -> String {
    let Status {
        world,
        pid,
        module,
        seconds,
        moves,
        hosts,
        ranks,
        ..
    } = status;
    let mut text = format!("{world}  {pid:<7}  {seconds:<7.1}  {moves:<5}  {module}");
    for host in hosts {
        let on = ranks.iter().filter(|rank| rank.host == host.host);
        let on: Vec<_> = on
            .map(|rank| format!("{} {}", rank.rank, rank.state))
            .collect();
        let (host, pid, metrics) = (host.host, host.pid, &host.metrics);
        text += &format!(
            "\n  host {host}  pid {pid}  http://{metrics}/metrics  ranks: {}",
            on.join(", ")
        );
    }
    text
}

fn json_of(status: &Status) -> String {
    let hosts: Vec<_> = status
        .hosts
        .iter()
        .map(
            |host| serde_json::json!({"host": host.host, "pid": host.pid, "metrics": host.metrics}),
        )
        .collect();
    let ranks: Vec<_> = status
        .ranks
        .iter()
        .map(|rank| {
            serde_json::json!({"rank": rank.rank, "host": rank.host, "epoch": rank.epoch, "state": rank.state})
        })
        .collect();
    serde_json::json!({
        "world": status.world, "pid": status.pid, "program": status.module,
        "seconds": status.seconds, "moves": status.moves, "hosts": hosts, "ranks": ranks,
    })
    .to_string()
}

fn ask(config: &Config, world: &str, request: &Request) -> anyhow::Result<ExitCode> {
    match admin::ask(&config.state_dir, world, request)? {
        Answer::Done(line) => say(&line)?,
        Answer::Failed(reason) => bail!("{reason}"),
        Answer::Status(status) => say(&text_of(&status))?,
        Answer::Admitted(admission) => say(&format!("host {}", admission.host))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn mount(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (guest, host) = text.split_once('=').unwrap_or((text, text));
    let host = fs::canonicalize(host).with_context(|| format!("--dir {text}"))?;
    Ok((guest.to_owned(), host))
}

fn key_value(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("--env {text}: NAME=VALUE is wanted"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn fail_point(text: &str) -> Result<(u32, String), String> {
    let (host, step) = text.split_once(':').ok_or("HOST:STEP is wanted")?;
    Ok((
        host.parse().map_err(|_| "HOST is a number")?,
        step.to_owned(),
    ))
}
