//! MPI programs, compiled and run as cells or natively.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cells::world::{Proof, Report, Schedule, Sinks, World};

use super::Setting;

/// The programs are not part of this binary: whoever measures has the repository.
const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/mpi");
/// Without contraction the results are the same bits everywhere, and can be compared.
const FLAGS: [&str; 2] = ["-O3", "-ffp-contract=off"];
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// A program whose time is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    source: &'static str,
    /// Iterations that make all but these a small part of the run.
    iterations: u32,
    args: fn(iterations: u32, dir: &Path) -> Vec<String>,
    timing: Timing,
}

/// How to tell the time of the computation from that of the start.
#[derive(Clone, Copy, Debug)]
enum Timing {
    /// The program prints a line `time SECONDS s, …`.
    Printed,
    /// The time of the run less that of a run with one iteration.
    LessOneIteration,
}

pub(super) const DIFFUSE: Program = Program {
    source: "diffuse/diffuse.c",
    iterations: 200,
    args: |iterations, dir| {
        let path = |name| dir.join(name).display().to_string();
        let fixed = ["-i".into(), path("photo.ppm"), "-o".into(), path("out.ppm")];
        let sizes = ["--size".into(), "1024".into()];
        let length = ["-n".into(), iterations.to_string()];
        [&fixed[..], &sizes, &length].concat()
    },
    timing: Timing::LessOneIteration,
};

pub(super) const WAVEFRONT: Program = Program {
    source: "proofs/wavefront.c",
    iterations: 200,
    args: |iterations, _| {
        let (columns, rows) = (2000.to_string(), 1000.to_string());
        vec![iterations.to_string(), columns, rows, "--time".into()]
    },
    timing: Timing::Printed,
};

/// A compiled program.
#[derive(Debug)]
pub(super) enum Compiled {
    Cell(Vec<u8>),
    Native(PathBuf),
}

/// One run: the computation's time, and the output without it.
#[derive(Debug)]
pub(super) struct Timed {
    pub time: Duration,
    pub output: String,
}

impl Program {
    /// Compiles with `cloudskin cc`.
    pub(super) fn cell(&self, setting: &Setting<'_>) -> anyhow::Result<Compiled> {
        Ok(Compiled::Cell(compile_cell(setting, self.source, &[])?))
    }

    /// Compiles with `cloudskin cc`, but leaves out what lets it move.
    pub(super) fn plain_cell(&self, setting: &Setting<'_>) -> anyhow::Result<Compiled> {
        let flags = ["--no-instrument"];
        Ok(Compiled::Cell(compile_cell(setting, self.source, &flags)?))
    }

    /// Compiles with the system's MPI.
    pub(super) fn native(&self, setting: &Setting<'_>) -> anyhow::Result<Compiled> {
        let binary = setting.dir.join("native");
        let mut mpicc = Command::new("mpicc");
        mpicc.args(FLAGS).arg(Path::new(GUESTS).join(self.source));
        mpicc.arg("-o").arg(&binary).arg("-lm");
        let status = mpicc
            .stdout(Stdio::null())
            .status()
            .context("run mpicc: apt-get install libopenmpi-dev openmpi-bin")?;
        ensure!(status.success(), "mpicc ended with {status}");
        Ok(Compiled::Native(binary))
    }

    /// Puts what the program reads into the directory.
    pub(super) fn provide_input(&self, setting: &Setting<'_>) -> anyhow::Result<()> {
        let photo = Path::new(GUESTS).join("photo/chelsea.ppm");
        fs::copy(&photo, setting.dir.join("photo.ppm"))
            .with_context(|| format!("copy {}", photo.display()))?;
        Ok(())
    }

    pub(super) fn time(
        &self,
        setting: &Setting<'_>,
        compiled: &Compiled,
        n_ranks: u32,
    ) -> anyhow::Result<Timed> {
        let iterations = if setting.is_quick { 2 } else { self.iterations };
        let run = |iterations| {
            let args = (self.args)(iterations, setting.dir);
            compiled.run(setting, n_ranks, args)
        };
        let (wall, output) = run(iterations)?;
        match self.timing {
            Timing::LessOneIteration => {
                let (base, _) = run(1)?;
                Ok(Timed {
                    time: wall.saturating_sub(base),
                    output,
                })
            }
            Timing::Printed => {
                let is_time = |line: &&str| line.starts_with("time ");
                let line = output.lines().find(is_time);
                let seconds = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
                let seconds = seconds.context("the program prints no time")?;
                let rest = output.lines().filter(|line| !is_time(line));
                Ok(Timed {
                    time: Duration::try_from_secs_f64(seconds)?,
                    output: rest.map(|line| format!("{line}\n")).collect(),
                })
            }
        }
    }
}

impl Compiled {
    /// Runs on one host; returns the time and the output.
    fn run(
        &self,
        setting: &Setting<'_>,
        n_ranks: u32,
        args: Vec<String>,
    ) -> anyhow::Result<(Duration, String)> {
        match self {
            Self::Cell(module) => {
                let world = World {
                    n_ranks,
                    n_hosts: 1,
                    ..world(setting, module, args)?
                };
                let (report, output) = run_world(world)?;
                Ok((report.duration, output))
            }
            Self::Native(binary) => {
                let mut mpirun = Command::new("mpirun");
                // Its launcher talks to itself over the loopback, too; binding to one core would leave the choice of a free one to luck.
                mpirun.args([
                    "--allow-run-as-root",
                    "--oversubscribe",
                    "--bind-to",
                    "none",
                ]);
                mpirun.args(["--mca", "oob_tcp_if_include", "lo"]);
                mpirun.args(["--mca", "btl", "self,vader"]);
                mpirun.args(["-n", &n_ranks.to_string()]);
                mpirun.arg(binary).args(args).stdin(Stdio::null());
                let start = rt::now();
                let output = mpirun.output().context("run mpirun")?;
                let wall = start.elapsed();
                let errors = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.success(),
                    "mpirun: {}\n{errors}",
                    output.status
                );
                Ok((wall, String::from_utf8(output.stdout)?))
            }
        }
    }
}

/// Compiles a program of the repository with `cloudskin cc`.
pub(crate) fn compile_cell(
    setting: &Setting<'_>,
    source: &str,
    flags: &[&str],
) -> anyhow::Result<Vec<u8>> {
    let module = setting.dir.join("program.wasm");
    let mut args: Vec<OsString> = FLAGS.iter().chain(flags).map(OsString::from).collect();
    args.push(Path::new(GUESTS).join(source).into());
    args.extend(["-o".into(), module.clone().into()]);
    let code = cells::cc::run(&args, &setting.config.cc)?;
    ensure!(code == 0, "the compiler ended with code {code}");
    Ok(fs::read(module)?)
}

/// A world that sees the setting's directory; callers fill in what differs.
pub(crate) fn world(
    setting: &Setting<'_>,
    module: &[u8],
    args: Vec<String>,
) -> anyhow::Result<World> {
    let name = "bench".to_owned();
    let dir = setting.dir;
    Ok(World {
        name: name.clone(),
        module: module.to_vec(),
        n_ranks: 1,
        n_hosts: 1,
        args: [vec![name], args].concat(),
        env: Vec::new(),
        mounts: vec![(dir.display().to_string(), dir.to_owned())],
        memory_bytes_max: MEMORY_BYTES_MAX,
        hash_memory: false,
        proof: Proof::None,
        schedule: Schedule::None,
        checkpoint_every: None,
        marks: false,
        interpret: false,
        report_moves: false,
        fail_point: None,
        host_program: std::env::current_exe().context("find this program")?,
        log: "warn".into(),
        state_dir: setting.config.state_dir.clone(),
        code_dir: setting.config.code_dir.clone(),
    })
}

/// Runs a world to its good end; returns what it printed, too.
pub(crate) fn run_world(world: World) -> anyhow::Result<(Report, String)> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let sinks = Sinks {
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let report = cells::world::run(world, sinks)?;
    let errors = String::from_utf8_lossy(&stderr);
    let code = report.exit_code;
    ensure!(code == 0, "the program ended with code {code}\n{errors}");
    Ok((report, String::from_utf8(stdout)?))
}
