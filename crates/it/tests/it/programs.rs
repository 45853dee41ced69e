//! The guests: where their sources are, and the programs that prove something when they are moved.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, ensure};
use it::{Ended, Process};

use crate::site::Site;

/// How all of them run.
pub(crate) const WORLD: &str = "-n 4 --hosts 2";

/// A program whose result tells whether anything went wrong on the way.
#[derive(Debug)]
pub(crate) struct Program {
    pub source: &'static str,
    /// For a run of a second or two, in which a hundred moves find room.
    pub args: &'static str,
    /// For a short run, with another result.
    pub tiny_args: &'static str,
}

pub(crate) const PROGRAMS: [Program; N_PROGRAMS] = [
    Program {
        source: "halo",
        args: "9000 30000",
        tiny_args: "40 300",
    },
    Program {
        source: "ring",
        args: "9000 1000",
        tiny_args: "60 20",
    },
    Program {
        source: "wavefront",
        args: "160 500 1000",
        tiny_args: "3 40 40",
    },
    Program {
        source: "collectives",
        args: "6000 64",
        tiny_args: "60 8",
    },
    // 400 kB on the C stack.
    Program {
        source: "recursion",
        args: "2400 100",
        tiny_args: "3 20",
    },
    // 200 kB and more of frames.
    Program {
        source: "recursion",
        args: "500 3200 --frames",
        tiny_args: "2 300 --frames",
    },
    Program {
        source: "callback",
        args: "14 60",
        tiny_args: "4 6",
    },
    Program {
        source: "files",
        args: "/files 8000",
        tiny_args: "/files 40",
    },
    Program {
        source: "pending",
        args: "300 400",
        tiny_args: "3 8",
    },
];
const N_PROGRAMS: usize = 9;

/// An unmoved run of a program.
#[derive(Debug)]
pub(crate) struct Reference {
    /// What the program itself has written.
    pub result: String,
    pub hashes: Vec<String>,
    pub recording: Vec<u8>,
}

impl Program {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.source, self.args)
    }

    /// Runs the program with these arguments in a directory of its own.
    pub(crate) fn run(&self, site: &Site, options: &str, args: &str) -> Result<Ended> {
        let options = format!("{WORLD} --dir /files={} {options}", site.files()?.display());
        site.run(&options, &compiled(self.source)?, args)
    }

    pub(crate) fn run_well(&self, site: &Site, options: &str, args: &str) -> Result<Ended> {
        let ended = self.run(site, options, args)?;
        let Ended {
            code,
            stdout,
            stderr,
        } = &ended;
        ensure!(
            *code == Some(0),
            "{} -- {args}, {options}: {code:?}\n{stdout}{stderr}",
            self.source
        );
        Ok(ended)
    }

    /// Records an unmoved run with these arguments.
    pub(crate) fn record(&self, args: &str) -> Result<Reference> {
        let site = Site::new()?;
        let recording = site.files()?.join("recording");
        let options = format!("--hash-memory --record {}", recording.display());
        let ended = self.run_well(&site, &options, args)?;
        let (result, hashes) = split_hashes(&ended.stdout);
        ensure!(hashes.len() == 4, "four ranks have four hashes: {hashes:?}");
        Ok(Reference {
            result,
            hashes,
            recording: fs::read(&recording)?,
        })
    }
}

/// The unmoved run of program number `n`, made once.
pub(crate) fn reference(n: usize) -> Result<&'static Reference> {
    static REFERENCES: [OnceLock<Result<Reference, String>>; N_PROGRAMS] =
        [const { OnceLock::new() }; N_PROGRAMS];
    let program = &PROGRAMS[n];
    let made =
        REFERENCES[n].get_or_init(|| program.record(program.args).map_err(|e| format!("{e:#}")));
    made.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// What the program has written, and the lines with hashes.
pub(crate) fn split_hashes(stdout: &str) -> (String, Vec<String>) {
    let (hashes, lines): (Vec<_>, Vec<_>) = stdout
        .lines()
        .partition(|line| line.starts_with("hash rank="));
    (
        lines.join("\n"),
        hashes.into_iter().map(str::to_owned).collect(),
    )
}

/// The guest of this name, compiled.
pub(crate) fn compiled(name: &str) -> Result<PathBuf> {
    compiled_with(name, "")
}

/// The guest of this name, compiled with these options besides the usual ones.
pub(crate) fn compiled_with(name: &str, options: &str) -> Result<PathBuf> {
    static DONE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let module = dir.join(format!("{name}{}.wasm", options.replace(' ', "")));
    // One after the other: the first one makes the MPI library, too.
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if done.contains(&module) {
        return Ok(module);
    }
    fs::create_dir_all(&dir)?;
    let partial = dir.join(format!("{}.partial", std::process::id()));
    let mut command = Command::new(it::cloudskin());
    command
        .args(["cc", "-O3", "-lm"])
        .args(options.split_whitespace())
        .arg(source(name)?)
        .arg("-o")
        .arg(&partial)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let ended = Process::start(&mut command)?.finish()?;
    ensure!(ended.code == Some(0), "cc {name}: {}", ended.stderr);
    // Another run of the tests may use the file.
    fs::rename(&partial, &module)?;
    done.insert(module.clone());
    Ok(module)
}

fn source(name: &str) -> Result<PathBuf> {
    let guests = it::repository().join("guests/mpi");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/guests");
    let tests = guests.join("tests");
    let dirs = ["burn", "proofs", "hostile"].map(|dir| guests.join(dir));
    dirs.iter()
        .chain([&tests, &own])
        .map(|dir| dir.join(format!("{name}.c")))
        .find(|path| path.exists())
        .with_context(|| format!("there is no guest {name}"))
}
