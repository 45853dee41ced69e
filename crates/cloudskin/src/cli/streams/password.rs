//! A user for a server's file of passwords.

use std::io::BufRead as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::say;

#[derive(Debug, Args)]
pub(crate) struct Password {
    user: String,
    /// What the user may do: `RESOURCE,READ` or `RESOURCE,READ_UPDATE`. A resource is `prn::/scope:S/stream:T` or the like; `*` stands for
    /// anything. Of several rules the first about a resource decides.
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
}

impl Password {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut password = String::new();
        let read = std::io::stdin().lock().read_line(&mut password);
        read.context("read the password from standard input")?;
        let password = password.trim_end_matches(['\n', '\r']);
        if password.is_empty() {
            bail!("a password is expected on standard input");
        }
        let line = streams::password_line(&self.user, password, &self.allow.join(";"));
        say(&line.map_err(anyhow::Error::msg)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
