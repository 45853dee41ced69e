//! Where else objects are to be, and whether they are whole there.

use anyhow::{anyhow, ensure};
use clap::Args;
use geds::client::{Error, Kind};
use geds::index::Name;
use geds::store::Condition;

use super::access::Access;
use super::show;
use crate::cli::say;
use crate::config::Config;

#[derive(Debug, Args)]
pub(in crate::cli) struct Relocate {
    /// BUCKET/KEY; they are brought there one after the other, until one fails.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Relocate {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let names = parse(&self.names)?;
        let client = self.access.connect(config).await?;
        for name in &names {
            let relocated = client.relocate(name).await;
            relocated.map_err(|error| failed("relocate", name, error))?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Persist {
    /// BUCKET/KEY; they are brought there one after the other, until one fails.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Persist {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let names = parse(&self.names)?;
        let client = self.access.connect(config).await?;
        for name in &names {
            let persisted = client.persist(name).await;
            persisted.map_err(|error| failed("persist", name, error))?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Scrub {
    /// BUCKET/KEY; what each is like is printed, and all are looked at.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Scrub {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let names = parse(&self.names)?;
        let client = self.access.connect(config).await?;
        let mut n_bad = 0;
        for name in &names {
            let scrubbed = client.scrub(name).await;
            let condition = scrubbed.map_err(|error| failed("scrub", name, error))?;
            let (word, is_bad) = match condition {
                Condition::Whole => ("whole", false),
                Condition::Repaired => ("repaired", false),
                Condition::Lost => ("lost", true),
                Condition::Unreadable => ("unreadable", true),
            };
            n_bad += usize::from(is_bad);
            say(&format!("{word} {}", show::name(name)))?;
        }
        ensure!(n_bad == 0, "{n_bad} of {} cannot be read", names.len());
        Ok(())
    }
}

/// All of them, before something is done with one.
fn parse(names: &[String]) -> anyhow::Result<Vec<Name>> {
    names.iter().map(|name| super::name(name)).collect()
}

/// What went wrong with which one, and what is to be done.
fn failed(doing: &str, name: &Name, error: Error) -> anyhow::Error {
    let next = match error.kind {
        Kind::Conflict => Some("try again"),
        Kind::Exhausted => {
            Some("delete something, or give the node more in its settings (docs/geds.md)")
        }
        Kind::Lost => Some("nobody has it any more: put it again"),
        // What is `Invalid` says it.
        _ => None,
    };
    let error = anyhow::Error::new(error).context(format!("{doing} {}", show::name(name)));
    match next {
        Some(next) => anyhow!("{error:#}; {next}"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_of_which_one_and_what_next() {
        let name = super::super::name("data/k").expect("a name");
        for (kind, shown) in [
            (Kind::Conflict, "persist data/k: why; try again"),
            (
                Kind::Lost,
                "persist data/k: why; nobody has it any more: put it again",
            ),
            (Kind::Unavailable, "persist data/k: why"),
        ] {
            let error = failed("persist", &name, Error::new(kind, "why"));
            assert_eq!(format!("{error:#}"), shown);
        }
    }
}
