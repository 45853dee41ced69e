//! A server of this program, in a process of its own that is killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use super::chance::wait;
use super::geds::s3;

/// One that says in its first line where it is. It ends with this.
pub(super) struct Process<R> {
    what: &'static str,
    log: PathBuf,
    running: Option<(Child, R)>,
    n_bytes_read: usize,
}

impl<R: DeserializeOwned> Process<R> {
    /// What it complains of goes to the file.
    pub(super) fn new(what: &'static str, log: PathBuf) -> Self {
        Self {
            what,
            log,
            running: None,
            n_bytes_read: 0,
        }
    }

    /// Until it says where it is.
    pub(super) fn start(&mut self, args: &[OsString]) -> anyhow::Result<&R> {
        let mut child = self.begin(args)?;
        let said = platform::first_line(&mut child, self.what);
        let ready = said.and_then(|said| {
            let ready = serde_json::from_str::<R>(&said);
            ready.with_context(|| format!("it says where it is, not {said:?}: {}", self.tail()))
        });
        match ready {
            Ok(ready) => Ok(&self.running.insert((child, ready)).1),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Nobody waits for it: it is killed by whoever calls this.
    pub(super) fn begin(&self, args: &[OsString]) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        Command::new(std::env::current_exe().context("find this program")?)
            .args(args)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.what))
    }

    /// As `kill -9` does, and waits until it is no more.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let (mut child, _) = self.running.take().context("it runs")?;
        if let Some(status) = child.try_wait()? {
            let (what, tail) = (self.what, self.tail());
            bail!("{what} has ended by itself, with {status}: {tail}");
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let (child, _) = self.running.as_ref().context("it runs")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        Ok(kill_process(pid.context("it has a number")?, signal)?)
    }

    /// Waits until it ends by itself, and says with which code.
    pub(super) fn until_ended(&mut self, patience: Duration) -> anyhow::Result<Option<i32>> {
        let end = rt::now() + patience;
        loop {
            let (child, _) = self.running.as_mut().context("it was started")?;
            if let Some(status) = child.try_wait()? {
                self.running = None;
                return Ok(status.code());
            }
            ensure!(rt::now() < end, "{} goes on for {patience:?}", self.what);
            wait(Duration::from_millis(5));
        }
    }

    pub(super) fn ready(&self) -> anyhow::Result<&R> {
        let running = self.running.as_ref().context("it runs")?;
        Ok(&running.1)
    }

    /// What it has said since this was asked last.
    pub(super) fn news(&mut self) -> anyhow::Result<String> {
        let log = fs::read(&self.log)?;
        let new = String::from_utf8_lossy(&log[self.n_bytes_read..]).into_owned();
        self.n_bytes_read = log.len();
        Ok(new)
    }

    /// Nobody has panicked, nor complained of what must not be, since this was asked last.
    pub(super) fn check_log(&mut self) -> anyhow::Result<()> {
        let new = self.news()?;
        let mut lines = new.lines();
        let bad = lines.find(|line| line.contains("panicked") || line.contains("ERROR"));
        ensure!(
            bad.is_none(),
            "{} says: {}",
            self.what,
            bad.unwrap_or_default()
        );
        Ok(())
    }

    fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // What it has is gone with the scratch directory.
            end(&mut child);
        }
    }
}

/// It may have ended by itself.
pub(super) fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// A number that is served at an address.
pub(super) fn metric(addr: SocketAddr, name: &str) -> anyhow::Result<u64> {
    let page = s3::fetch(addr, "/metrics")?;
    let mut lines = page.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value
        .with_context(|| format!("no {name} in {page}"))?
        .parse()?)
}
