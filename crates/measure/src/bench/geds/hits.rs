//! How often what is read is in memory, beside other caches, which are not linked into this program: an example of the crate `geds` compares them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Measured, Setting};

/// In the order of the benchmarks.
const MIXES: [&str; 4] = ["zipf_0.9", "zipf_1.0", "zipf_0.9_scans", "shuffle"];

/// Of each mix, and of the first once more beside the plainest of caches.
pub(super) fn hit_ratio(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let program = std::env::current_exe().context("find this program")?;
    let example = program.with_file_name("examples").join("hit-ratio");
    ensure!(
        example.exists(),
        "{} is missing: `cargo build -p geds --example hit-ratio` makes it",
        example.display()
    );
    let n_objects = if setting.is_quick { "1000" } else { "20000" };
    let output = Command::new(&example)
        .arg(n_objects)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", example.display()))?;
    let text = String::from_utf8(output.stdout).context("read what it has found")?;
    let lines: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("understand what it has found")?;
    let find = |mix: &str| {
        let id = format!("geds.hit_ratio.{mix}");
        let line = lines.iter().find(|line| line["bench"] == *id);
        line.with_context(|| format!("{id} was not measured"))
    };
    let mut measured = Vec::new();
    for mix in MIXES {
        measured.push(of(find(mix)?, "peer_value")?);
    }
    measured.push(of(find(MIXES[0])?, "lru")?);
    Ok(measured)
}

fn of(line: &Value, peer: &str) -> anyhow::Result<Measured> {
    let number = |field: &str| line[field].as_f64().with_context(|| format!("no {field}"));
    Ok(Measured {
        value: number("value")?,
        peer_value: number(peer)?,
        runs: 1,
        cpu: None,
    })
}
