//! Without a server: what is in its directory, and is it what was written?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use streams::offline::dump::{Field, Line};
use streams::offline::{self, Finding, Told, dump};

use crate::cli::say;
use crate::roles::streams::Kept;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    kept: Kept,
    /// Print each finding as a JSON object, and how many there are at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dump {
    /// The records of a file of the log: DIR/log/….wal.
    Log(File),
    /// The pieces of a checkpoint: DIR/containers/N/….
    Checkpoint(File),
    /// The footer and the blocks of an object of long-term storage, as a file.
    Chunk(File),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    path: PathBuf,
    /// Print each line as a JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (config, _) = self.kept.config()?;
        let mut said = Ok(());
        let checked = offline::check(&config, |told| match told {
            Told::Finding(finding) if said.is_ok() => said = self.tell(&finding),
            Told::Finding(_) => {}
            // Who does not see how far it is sees what is found.
            Told::Progress(what) => drop(tell_progress(&what)),
        });
        let checked = checked.await;
        said?;
        let n_findings = checked.context("check the directory")?;
        if self.json {
            say(&json!({"findings": n_findings}).to_string())?;
        } else if n_findings == 0 {
            say("all is as it was written")?;
        }
        Ok(match n_findings {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    fn tell(&self, Finding { place, what }: &Finding) -> anyhow::Result<()> {
        if self.json {
            return say(&json!({"place": place, "finding": what}).to_string());
        }
        say(&format!("{place}: {what}"))
    }
}

/// Beside what is found.
fn tell_progress(what: &str) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    std::io::Write::write_fmt(&mut out, format_args!("{what}\n"))
}

impl Dump {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut said = Ok(());
        let dumped = match &self {
            Self::Log(file) => dump::log(&file.path, &mut |it| file.tell(it, &mut said)),
            Self::Checkpoint(file) => {
                dump::checkpoint(&file.path, &mut |it| file.tell(it, &mut said))
            }
            Self::Chunk(file) => dump::chunk(&file.path, &mut |it| file.tell(it, &mut said)),
        };
        said?;
        Ok(dumped?)
    }
}

impl File {
    fn tell(&self, fields: Line, said: &mut anyhow::Result<()>) {
        if said.is_ok() {
            *said = say(&if self.json {
                object(fields)
            } else {
                line(fields)
            });
        }
    }
}

fn object(fields: Line) -> String {
    let fields = fields.into_iter().map(|(name, field)| {
        let value = match field {
            Field::Number(number) => Value::from(number),
            Field::Text(text) => Value::from(text),
        };
        (name.to_owned(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>()).to_string()
}

/// The first name is what it is.
fn line(fields: Line) -> String {
    let words = fields.into_iter().map(|(name, field)| match field {
        Field::Number(number) => format!("{name} {number}"),
        Field::Text(text) => format!("{name} {text}"),
    });
    words.collect::<Vec<_>>().join("  ")
}
