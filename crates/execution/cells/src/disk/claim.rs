//! Whose a directory is: one process's at a time.
//!
//! The process that holds the lock on `lock` has written `process.json`: its number, when it started and in which boot of the machine, which
//! together name it for ever. Who finds the file after a restart, of whatever, knows whether that process still runs, and never takes another
//! for it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::files::{read_json, write_whole};

/// Raised when a field of the file changes its meaning.
const VERSION: u32 = 1;
const FILE: &str = "process.json";
const LOCK: &str = "lock";

/// Held by the process to which a directory belongs.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: File,
}

/// The process that a directory belongs to, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claimed {
    version: u32,
    pub pid: i32,
    /// The kernel's name for the time since the machine started.
    pub boot: String,
    /// In ticks since then: after another boot, another process may have the same number and the same ticks.
    pub started: u64,
    /// What it said about itself.
    pub text: String,
}

/// What the kernel says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Runs,
    /// By a signal, or by a debugger.
    Stopped,
    Gone,
}

impl Claim {
    /// # Errors
    /// When another process has it.
    pub(crate) fn take(dir: &Path, text: &str) -> io::Result<Self> {
        durable::make_dir(dir)?;
        let lock = File::create(dir.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let pid = getpid().as_raw_nonzero().get();
        let (_, started) = stat(pid).ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        let claimed = Claimed {
            version: VERSION,
            pid,
            boot: boot()?,
            started,
            text: text.to_owned(),
        };
        write_whole(&dir.join(FILE), &serde_json::to_vec(&claimed)?)?;
        Ok(Self { _lock: lock })
    }
}

impl Claimed {
    /// `None`: no process has ever had the directory.
    ///
    /// # Errors
    /// When the file cannot be read, or another version of this program has written it.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        read_json(&dir.join(FILE), VERSION)
    }

    pub(crate) fn life(&self) -> Life {
        match stat(self.pid) {
            Some((state, started)) if started == self.started && self.is_of_this_boot() => {
                match state {
                    'Z' | 'X' => Life::Gone,
                    'T' | 't' => Life::Stopped,
                    _ => Life::Runs,
                }
            }
            _ => Life::Gone,
        }
    }

    fn is_of_this_boot(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Sends the process a signal; none, if it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.open()?.map_or(Ok(()), |pidfd| send(&pidfd, signal))
    }

    /// Kills the process and waits until it is gone.
    ///
    /// # Errors
    /// When it is not in time.
    pub(crate) fn kill(&self, at_most: Timespec) -> io::Result<()> {
        let Some(pidfd) = self.open()? else {
            return Ok(());
        };
        send(&pidfd, Signal::KILL)?;
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        if poll(&mut polled, Some(&at_most))? == 0 {
            let problem = format!("process {} does not end although it was killed", self.pid);
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
        }
        Ok(())
    }

    /// `None`: it is gone.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid).ok_or_else(|| io::Error::other("not a process"))?;
        // The descriptor first: then the number cannot become another's between the look and the signal.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some(pidfd).filter(|_| self.life() != Life::Gone)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn send(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn boot() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(boot.trim_end().to_owned())
}

/// The state of a process and its start time.
fn stat(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A program's name, the second field, may hold anything: the fields count from its end.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The third field was the first here.
    Some((state, fields.nth(22 - 4)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MOST: Timespec = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };

    #[test]
    fn a_claim_names_this_process_and_keeps_others_out() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Claimed::read(dir.path()).expect("reads"), None);
        let claim = Claim::take(dir.path(), "a text").expect("it is free");
        Claim::take(dir.path(), "another").expect_err("it is taken");
        let claimed = Claimed::read(dir.path()).expect("reads").expect("written");
        assert_eq!(
            (claimed.life(), claimed.text.as_str()),
            (Life::Runs, "a text")
        );
        let earlier = Claimed {
            started: claimed.started - 1,
            ..claimed.clone()
        };
        assert_eq!(earlier.life(), Life::Gone, "its number is another's now");
        let before = Claimed {
            boot: "3f1b0a44-0000-4000-8000-000000000000".into(),
            ..claimed
        };
        assert_eq!(before.life(), Life::Gone, "the machine started again");
        before.kill(AT_MOST).expect("nothing is killed");
        drop(claim);
        Claim::take(dir.path(), "another").expect("it is free again");
    }

    #[test]
    fn golden() {
        let dir = tempfile::tempdir().expect("a directory");
        let golden = include_str!("golden/process-1.json").trim_end();
        fs::write(dir.path().join(FILE), golden).expect("written");
        let claimed = Claimed {
            version: 1,
            pid: 4242,
            boot: "3f1b0a44-0000-4000-8000-000000000000".into(),
            started: 17,
            text: "a \"text\"".into(),
        };
        let read = Claimed::read(dir.path()).expect("version 1 is read");
        assert_eq!(read.as_ref(), Some(&claimed));
        let written = serde_json::to_vec(&claimed).expect("encodes");
        assert_eq!(
            String::from_utf8_lossy(&written),
            golden,
            "the layout has changed: raise VERSION, and keep reading the old one"
        );
    }

    #[test]
    fn a_process_that_is_stopped_can_be_killed() {
        let mut command = std::process::Command::new("cat");
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat is there");
        let pid = i32::try_from(child.id()).expect("a number");
        let (_, started) = stat(pid).expect("it runs");
        let claimed = Claimed {
            version: VERSION,
            pid,
            boot: boot().expect("it is told"),
            started,
            text: String::new(),
        };
        claimed.signal(Signal::STOP).expect("it runs");
        claimed.kill(AT_MOST).expect("it ends");
        assert_eq!(claimed.life(), Life::Gone);
        claimed.kill(AT_MOST).expect("it is gone");
        child.wait().expect("it was started");
    }

    #[test]
    fn the_name_of_a_program_does_not_shift_its_fields() {
        let fields = "R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        for name in ["x", "a b", ") R 7 (", ""] {
            assert_eq!(
                parse_stat(&format!("17 ({name}) {fields}")),
                Some(('R', 4242))
            );
        }
        assert_eq!(parse_stat("17 (x"), None);
    }
}
