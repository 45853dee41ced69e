//! `cloudskin demo`: the whole loop. An application is deployed at the edge through the north-bound interface; the edge is overloaded; the
//! Learning Plane foresees that the application's promise will be broken, and moves it to the cloud while it runs.
//!
//! It happens three times with the same input: *calm* (nobody disturbs: nothing may move), *active* (the policy acts), *shadow* (the policy
//! only says what it would do, so that the violation which it foresaw really comes). The pictures that come out are compared, bit for bit,
//! with one computed by a local run.

mod judge;
mod moves;
mod picture;
mod scene;
mod story;
mod timeline;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use platform::{Plan, Platform};

use super::{cc, say};
use crate::config::Config;
use crate::roles::Signals;
use judge::Verdict;
use scene::{Scene, Script};

const PROGRAM: &str = include_str!("../../../../../guests/mpi/diffuse/diffuse.c");
const HEADER: &str = include_str!("../../../../../guests/mpi/diffuse/picture.h");
const BURN: &str = include_str!("../../../../../guests/mpi/burn/burn.c");
const PHOTO: &[u8] = include_bytes!("../../../../../guests/mpi/photo/chelsea.ppm");

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Demo {
    #[command(subcommand)]
    part: Option<Part>,
    /// Print the result as one JSON line.
    #[arg(long)]
    json: bool,
    /// Decides when the overload grows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 4)]
    ranks: u32,
    /// Width that the photograph is scaled to, pixels: the work grows with its square.
    #[arg(long, default_value_t = 1024)]
    size: u32,
    /// How long the application runs undisturbed, about, seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// A photograph, binary PPM or PGM, instead of the cat.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where the pictures and the timeline go, and the platform's state.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
    /// Leave the platform running, to look around in it; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Without sites: a program moves between two hosts while it runs, every rank there and back.
    Moves(moves::Moves),
}

impl Demo {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        if let Some(Part::Moves(moves)) = self.part {
            return moves.run(config);
        }
        ensure!(
            self.ranks > 0 && self.size > 0 && self.seconds > 0.0,
            "ranks, size and seconds are positive"
        );
        telemetry::init("demo", telemetry::LogFormat::Text, "warn")?;
        fs::create_dir_all(&self.out).with_context(|| format!("create {}", self.out.display()))?;
        let out = fs::canonicalize(&self.out)?;
        let photo = match &self.image {
            Some(path) => fs::read(path).with_context(|| format!("read {}", path.display()))?,
            None => PHOTO.to_vec(),
        };
        fs::write(out.join("photo.ppm"), photo)?;
        progress("compile diffuse.c and burn.c for cells")?;
        let sources = [("diffuse.c", PROGRAM), ("picture.h", HEADER)];
        let diffuse = compile(&out, "diffuse", &sources, config)?;
        let burn = compile(&out, "burn", &[("burn.c", BURN)], config)?;

        progress("start a controller and two sites, edge and cloud")?;
        let dir = out.join("platform");
        // What an earlier demo left is not looked at again.
        Platform::remove(&dir)?;
        let platform = Platform::start(&Plan {
            dir: dir.clone(),
            nbi: ([127, 0, 0, 1], 0).into(),
            link: ([127, 0, 0, 1], 0).into(),
            mountable: vec![out.clone()],
            log: "warn".into(),
        })?;
        let mut scene = Scene::new(
            platform.client()?,
            Script {
                out: out.clone(),
                ranks: self.ranks,
                size: self.size,
                seconds: self.seconds,
                seed: self.seed,
            },
            [diffuse, burn],
        )?;
        let takes = scene.play(config)?;
        let verdict = Verdict::new(&takes);
        for name in ["local", "active"] {
            let picture = read(&out, &format!("{name}.ppm"))?;
            picture::to_bmp(&picture, &out.join(format!("{name}.bmp")))?;
        }
        fs::write(out.join("loop.svg"), story::draw(&takes))?;
        self.tell(&verdict, &out)?;
        if self.keep {
            let dir = dir.display();
            progress(&format!(
                "the platform stays: cloudskin ctl --dir {dir} explain diffuse-active; Ctrl-C ends it"
            ))?;
            let runtime = rt::runtime()?;
            let mut signals = runtime.block_on(async { Signals::new() })?;
            runtime.block_on(signals.any());
        }
        platform.stop()?;
        Ok(if verdict.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn tell(&self, verdict: &Verdict, out: &Path) -> anyhow::Result<()> {
        for line in verdict.lines() {
            progress(&line)?;
        }
        let out = out.display();
        progress(&format!(
            "look at {out}/loop.svg, {out}/local.bmp and {out}/active.bmp"
        ))?;
        if self.json {
            say(&verdict.json().to_string())?;
        }
        Ok(())
    }
}

/// Compiles the first source with the others beside it.
fn compile(
    out: &Path,
    name: &str,
    sources: &[(&str, &str)],
    config: &Config,
) -> anyhow::Result<Vec<u8>> {
    for (file, text) in sources {
        fs::write(out.join(file), text)?;
    }
    let module = out.join(format!("{name}.wasm"));
    let args = [
        "-O3".into(),
        "-ffp-contract=off".into(),
        out.join(sources[0].0).into(),
        "-o".into(),
        module.clone().into(),
        "-lm".into(),
    ];
    let code = cells::cc::run(&args, &cc::driver(config))?;
    ensure!(code == 0, "the compiler ended with code {code}");
    Ok(fs::read(module)?)
}

fn read(out: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    fs::read(out.join(name)).with_context(|| format!("read {name}"))
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "NO" }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn progress(line: &str) -> io::Result<()> {
    writeln!(io::stderr(), "* {line}")
}

/// Shows what the program prints below the demo's own lines, on standard error.
struct Indented;

impl Write for Indented {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr().lock();
        for line in String::from_utf8_lossy(bytes).lines() {
            writeln!(out, "    {line}")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
