//! Where a test's worlds live: a runtime directory of its own, so that tests do not see each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use it::{Ended, Process};
use serde_json::Value;
use tempfile::TempDir;

/// How often something is asked for that comes soon; each time a process is started to ask.
const ATTEMPTS_MAX: u32 = 500;

pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
        })
    }

    /// A directory that is there for the test's own files.
    pub(crate) fn files(&self) -> Result<PathBuf> {
        let dir = self.dir.path().join("files");
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// `cloudskin cell` with the words of `line`.
    pub(crate) fn cell(&self, line: &str) -> Command {
        let mut command = Command::new(it::cloudskin());
        command
            .arg("cell")
            .args(line.split_whitespace())
            .env("XDG_RUNTIME_DIR", self.dir.path());
        command
    }

    /// Starts `program` with the words of `options` and `args`.
    pub(crate) fn start(&self, options: &str, program: &Path, args: &str) -> Result<Process> {
        let mut command = self.cell("run");
        command
            .args(options.split_whitespace())
            .arg(program)
            .arg("--")
            .args(args.split_whitespace());
        Process::start(&mut command).context("start cloudskin")
    }

    /// Runs `program` to its end.
    pub(crate) fn run(&self, options: &str, program: &Path, args: &str) -> Result<Ended> {
        let ended = self.start(options, program, args)?.finish();
        ended.with_context(|| format!("cell run {options} {} -- {args}", program.display()))
    }

    /// Runs `program` and expects that it ends well.
    pub(crate) fn run_well(&self, options: &str, program: &Path, args: &str) -> Result<Ended> {
        let ended = self.run(options, program, args)?;
        let Ended {
            code,
            stdout,
            stderr,
        } = &ended;
        ensure!(
            *code == Some(0),
            "cell run {options} {} -- {args}: {code:?}\n{stdout}{stderr}",
            program.display()
        );
        Ok(ended)
    }

    /// What `cell ps` tells of the worlds that run here.
    pub(crate) fn worlds(&self) -> Result<Vec<Value>> {
        let ended = Process::start(&mut self.cell("ps --json"))?.finish()?;
        ensure!(ended.code == Some(0), "cell ps: {}", ended.stderr);
        let lines = ended.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// What `cell ps` tells of the one world here, once it has all its hosts and ranks.
    pub(crate) fn world(&self, n_ranks: usize, n_hosts: usize) -> Result<Value> {
        let count = |world: &Value, of: &str| world[of].as_array().map_or(0, Vec::len);
        let mut worlds = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            worlds = self.worlds()?;
            match &worlds[..] {
                [world] if count(world, "ranks") == n_ranks && count(world, "hosts") == n_hosts => {
                    return Ok(world.clone());
                }
                _ => {}
            }
        }
        bail!("no world of {n_ranks} ranks on {n_hosts} hosts is to be seen: {worlds:?}")
    }

    /// Moves a rank by `cell move`. It is asked again while the world is busy with something else.
    pub(crate) fn move_rank(&self, world: &Value, rank: u32, host: u32) -> Result<Ended> {
        let world = world["world"].as_str().context("the world's name")?;
        for _ in 0..ATTEMPTS_MAX {
            let mut command = self.cell("move");
            command.args([world, &rank.to_string(), &host.to_string()]);
            let ended = Process::start(&mut command)?.finish()?;
            if !ended.stderr.contains("try again") {
                return Ok(ended);
            }
        }
        bail!("the world is always busy")
    }

    /// The directory of the world that runs here.
    pub(crate) fn world_dir(&self) -> Result<PathBuf> {
        let state = self.dir.path().join("cloudskin");
        let mut worlds =
            fs::read_dir(&state).with_context(|| format!("read {}", state.display()))?;
        Ok(worlds.next().context("a world has a directory")??.path())
    }

    /// Whether the world that runs here has a complete checkpoint.
    pub(crate) fn has_checkpoint(&self) -> bool {
        let Ok(dir) = self.world_dir() else {
            return false;
        };
        let Ok(mut checkpoints) = fs::read_dir(dir.join("checkpoints")) else {
            return false;
        };
        checkpoints.any(|entry| {
            entry.is_ok_and(|entry| entry.path().extension().is_none_or(|end| end != "partial"))
        })
    }
}

/// The processes that hold the cells of a world, by the number of the host.
pub(crate) fn hosts_of(world: &Value) -> Result<Vec<u64>> {
    let hosts = world["hosts"].as_array().context("a world has hosts")?;
    hosts
        .iter()
        .map(|host| host["pid"].as_u64().context("a host is a process"))
        .collect()
}

/// Lets the program `gated` end, when it has made more steps than it had written of: what it wrote before it began again from a checkpoint
/// stays written, and some may still be on its way. It makes a step in more than a millisecond.
pub(crate) fn open_gate(gate: &Path, n_written: usize) -> Result<()> {
    const STEPS_TO_GO: usize = 100;
    let partial = gate.join("partial");
    fs::write(&partial, (n_written + STEPS_TO_GO).to_string())?;
    fs::rename(&partial, gate.join("open"))?;
    Ok(())
}

/// Expects that each rank has written what was wanted of it, and that the program ended well.
pub(crate) fn expect_same(ended: &Ended, wanted: &str) -> Result<()> {
    let Ended {
        code,
        stdout,
        stderr,
    } = ended;
    ensure!(*code == Some(0), "{code:?}\n{stderr}");
    let (lines, wanted) = (by_rank(stdout), by_rank(wanted));
    if let Some((line, wanted)) = lines
        .iter()
        .zip(&wanted)
        .find(|(line, wanted)| line != wanted)
    {
        bail!("`{line}`, not `{wanted}`\n{stderr}");
    }
    let (n_lines, n_wanted) = (lines.len(), wanted.len());
    ensure!(
        n_lines == n_wanted,
        "{n_lines} lines, not {n_wanted}\n{stderr}"
    );
    Ok(())
}

/// The lines of each rank in their order, whatever the order of the ranks: each line names its rank first.
fn by_rank(stdout: &str) -> Vec<&str> {
    let mut lines: Vec<_> = stdout.lines().collect();
    lines.sort_by_key(|line| line.split_whitespace().nth(1).map(str::to_owned));
    lines
}
