//! What is going on.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use geds::client::{Event, Position, Watched};
use geds::index::{Revision, Scope};
use serde_json::{Value, json};

use super::access::Access;
use super::show;
use crate::cli::say;
use crate::config::Config;

/// For one answer.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    /// BUCKET or BUCKET/PREFIX
    place: String,
    /// Begin behind this position, which --json tells: REVISION or REVISION.N.
    #[arg(long, value_name = "POSITION")]
    since: Option<String>,
    /// End when there is nothing more to tell.
    #[arg(long)]
    no_wait: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Watch {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let scope = || super::folder(&self.place).map(Scope::Folder);
        let mut from = self.since.as_deref().map(parse).transpose()?;
        scope()?;
        let client = self.access.connect(config).await?;
        let wait = if self.no_wait { Duration::ZERO } else { WAIT };
        loop {
            match client.watch(scope()?, from, wait).await? {
                Watched::Compacted { now } => bail!(
                    "it is not known any more what happened since then: list again, and watch since {}",
                    position(now)
                ),
                Watched::Events { events, next, .. } => {
                    let is_over = self.no_wait && events.is_empty();
                    for (revision, event) in &events {
                        say(&self.line(*revision, event))?;
                    }
                    if self.json && from != Some(next) {
                        say(&json!({"position": position(next)}).to_string())?;
                    }
                    from = Some(next);
                    if is_over {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn line(&self, revision: Revision, event: &Event) -> String {
        if self.json {
            return self::json(revision, event).to_string();
        }
        match event {
            Event::Named { name, entry } => {
                let size = show::bytes(entry.sealed.size);
                format!("{revision}  +  {}  {size}", show::name(name))
            }
            Event::Removed(name) => format!("{revision}  -  {}", show::name(name)),
            Event::Placed {
                name, placement, ..
            } => {
                let copies = show::placement(placement, name).join(", ");
                format!("{revision}  @  {}  {copies}", show::name(name))
            }
        }
    }
}

fn json(revision: Revision, event: &Event) -> Value {
    let mut value = match event {
        Event::Named { name, entry } => {
            let mut value = show::entry(entry);
            value["event"] = json!("named");
            value["key"] = json!(name.key.as_str());
            value
        }
        Event::Removed(name) => json!({"event": "removed", "key": name.key.as_str()}),
        Event::Placed {
            name, placement, ..
        } => {
            let copies = show::placement(placement, name);
            json!({"event": "placed", "key": name.key.as_str(), "copies": copies})
        }
    };
    value["revision"] = json!(revision.0);
    value
}

fn position(position: Position) -> String {
    match position.n_more {
        0 => position.revision.to_string(),
        n_more => format!("{}.{n_more}", position.revision),
    }
}

fn parse(text: &str) -> anyhow::Result<Position> {
    let (revision, n_more) = text.split_once('.').unwrap_or((text, "0"));
    let wanted = || format!("`{text}` is no position: REVISION or REVISION.N is wanted");
    Ok(Position {
        revision: Revision(revision.parse().with_context(wanted)?),
        n_more: n_more.parse().with_context(wanted)?,
    })
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Top {
    /// Show it so often.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Show it once.
    #[arg(long)]
    once: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Top {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let client = self.access.connect(config).await?;
        let (node, epoch) = client.node();
        let mut before: Option<BTreeMap<String, u64>> = None;
        loop {
            let numbers = client.statistics().await?;
            if self.json {
                say(&json!({"node": node.0, "epoch": epoch.0, "numbers": numbers}).to_string())?;
            } else {
                let is_live = !self.once && std::io::stdout().is_terminal();
                let clear = if is_live { "\x1b[H\x1b[2J" } else { "" };
                let table = table(&numbers, before.as_ref(), self.interval);
                say(&format!("{clear}node {}, epoch {epoch}\n\n{table}", node.0))?;
            }
            if self.once {
                return Ok(());
            }
            before = Some(numbers);
            tokio::time::sleep(Duration::from_secs(self.interval)).await;
        }
    }
}

/// A number a line; totals also by the second.
fn table(
    numbers: &BTreeMap<String, u64>,
    before: Option<&BTreeMap<String, u64>>,
    seconds: u64,
) -> String {
    let mut table = String::new();
    for (name, number) in numbers {
        let is_bytes = name.contains("_bytes");
        let shown = |number| {
            if is_bytes {
                show::bytes(number)
            } else {
                number.to_string()
            }
        };
        let mut line = format!("{:<28}  {:>14}", show::text(name), shown(*number));
        if let Some(max) = numbers.get(&format!("{name}_max")).filter(|max| **max > 0) {
            let percent = u128::from(*number) * 100 / u128::from(*max);
            line.push_str(&format!("  {percent} %"));
        }
        if name.ends_with("_total")
            && let Some(earlier) = before.and_then(|before| before.get(name))
        {
            let pace = number.saturating_sub(*earlier) / seconds.max(1);
            line.push_str(&format!("  {}/s", shown(pace)));
        }
        table.push_str(&line);
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_told() {
        for (text, revision, n_more) in [("7", 7, 0), ("7.12", 7, 12)] {
            let found = parse(text).expect(text);
            assert_eq!((found.revision.0, found.n_more), (revision, n_more));
            assert_eq!(position(found), text);
        }
        for text in ["", ".", "7.", "a", "7.1.2", "-1"] {
            parse(text).expect_err(text);
        }
    }

    #[test]
    fn a_total_has_a_pace_and_a_level_a_share() {
        let numbers = |used, copied| {
            let numbers = [
                ("memory_bytes", used),
                ("memory_bytes_max", 4096),
                ("copied_bytes_total", copied),
                ("revision", 9),
            ];
            numbers
                .map(|(name, number)| (name.to_owned(), number))
                .into()
        };
        let table = table(&numbers(1024, 8192), Some(&numbers(0, 0)), 2);
        let lines: Vec<String> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "copied_bytes_total 8.0 KiB 4.0 KiB/s",
                "memory_bytes 1.0 KiB 25 %",
                "memory_bytes_max 4.0 KiB",
                "revision 9",
            ]
        );
    }
}
