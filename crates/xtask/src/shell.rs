//! Running other programs.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program to run, and how to speak of it when it fails.
pub(crate) struct Cmd {
    command: Command,
    shown: String,
}

/// What a program said, whether it succeeded or not.
pub(crate) struct Said {
    pub(crate) success: bool,
    /// Standard output and standard error.
    pub(crate) text: String,
}

impl Cmd {
    pub(crate) fn new(program: impl AsRef<OsStr>, directory: &Path) -> Self {
        let mut command = Command::new(&program);
        // Nothing here asks a person: a program that does gets end-of-file, not a hanging terminal.
        command.current_dir(directory).stdin(Stdio::null());
        Self {
            command,
            shown: program.as_ref().to_string_lossy().into_owned(),
        }
    }

    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Runs it with its output on ours, and fails if it does.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self
            .command
            .status()
            .with_context(|| format!("start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.shown);
        }
        Ok(())
    }

    /// Runs it with its output on our standard error: standard output belongs to the result that the user asked for.
    pub(crate) fn run_aside(mut self) -> Result<()> {
        self.command.stdout(Stdio::from(std::io::stderr()));
        self.run()
    }

    /// Its standard output; fails if it does.
    pub(crate) fn read(mut self) -> Result<String> {
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("start `{}`", self.shown))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", self.shown, output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("read what `{}` says", self.shown))
    }

    /// Runs it and tells how it went; fails only if it cannot be started.
    pub(crate) fn listen(mut self) -> Result<Said> {
        let output = self
            .command
            .output()
            .with_context(|| format!("start `{}`", self.shown))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Said {
            success: output.status.success(),
            text,
        })
    }

    /// Whether it is there and succeeds; it stays silent.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Replaces this process by it, terminal included; returns only when that fails.
    pub(crate) fn become_it(mut self) -> Result<()> {
        let error = self.command.stdin(Stdio::inherit()).exec();
        Err(error).with_context(|| format!("start `{}`", self.shown))
    }
}
