//! Processes that are measured: how they begin and end, stand still and go on, and what they take.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let program = quiet.get_program().to_owned();
        let child = quiet.spawn();
        Ok(Self(
            child.with_context(|| format!("start {}", program.display()))?,
        ))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn wait_for<T>(
        &mut self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> anyhow::Result<T> {
        let end = rt::now() + PATIENCE;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if rt::now() > end => return Err(error).context("wait for an answer"),
                Err(_) => {}
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("it has ended: {status}");
            }
            park_timeout(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// It stands still until it is told to go on.
pub(super) fn halt(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::STOP)
}

pub(super) fn go_on(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::CONT)
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("a process has a number")?;
    kill_process(pid, signal).context("tell a process to stop or to go on")
}

/// It has a processor when nobody else wants it.
pub(super) fn lower_priority(pid: u32) -> anyhow::Result<()> {
    let pid = pid.to_string();
    let args = ["--idle", "--all-tasks", "--pid", "0", &pid];
    let told = Command::new("chrt").args(args).status();
    ensure!(told.context("run chrt")?.success(), "lower a priority");
    Ok(())
}

/// Of Linux, in a second: what programs are told is in these, whatever the kernel counts in.
const TICKS_PER_S: u64 = 100;

/// How long a process has been on processors, with threads that have ended: proc_pid_stat(5), `utime` and `stime`.
pub(super) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name of the program may have anything in it but a line's end, and is in brackets.
    let (_, fields) = text
        .rsplit_once(") ")
        .with_context(|| format!("{path} says nothing"))?;
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>();
    Ok(Duration::from_millis(ticks? * 1_000 / TICKS_PER_S))
}

/// The most memory that a process has had resident, in bytes.
pub(super) fn memory_peak(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = kib.and_then(|rest| rest.split_whitespace().next());
    let kib: u64 = kib
        .with_context(|| format!("find VmHWM in {path}"))?
        .parse()?;
    Ok(kib << 10)
}
