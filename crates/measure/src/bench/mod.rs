//! `cloudskin bench`: what things cost, as ratios to a peer or a physical limit that is measured in the same run.
//!
//! Each benchmark has an id, a unit and a goal, in a table beside the code that measures it. One JSON object a line on
//! `--json`; the last line names the benchmarks that missed their goal or were not measured, and the exit code follows it.

mod cells;
pub(super) mod geds;
pub(super) mod programs;
mod sites;
mod streams;

pub(crate) use self::streams::flush;

mod data;
mod node;
mod peers;
mod process;
mod proxy;
mod side;
mod stats;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{Config, say};

/// All groups of benchmarks, in the order in which they run.
const GROUPS: [&[Group]; 4] = [cells::GROUPS, sites::GROUPS, geds::GROUPS, streams::GROUPS];

#[derive(Debug, Args)]
pub struct Bench {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// As few runs as possible, and no goals: only whether everything can be measured.
    #[arg(long)]
    quick: bool,
    /// Where files are made that are gone afterwards: on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    peer: streams::PeerArgs,
    /// The benchmarks to run: what their ids begin with, `cells` or `cells.pause`. After the first word, `cells.` may be left out.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Benchmarks that are measured together.
struct Group {
    benchmarks: &'static [Benchmark],
    /// What was found, in the order of the benchmarks.
    measure: fn(&Setting<'_>) -> anyhow::Result<Vec<Measured>>,
}

struct Benchmark {
    id: &'static str,
    unit: &'static str,
    /// What it is compared with.
    peer: &'static str,
    /// `None`: a figure to look at.
    goal: Option<Goal>,
}

const fn benchmark(
    id: &'static str,
    unit: &'static str,
    peer: &'static str,
    goal: Option<Goal>,
) -> Benchmark {
    Benchmark {
        id,
        unit,
        peer,
        goal,
    }
}

#[derive(Clone, Copy)]
enum Goal {
    ValueAtMost(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// More than the peer by so much, or less, if it is negative.
    DifferenceAtLeast(f64),
    /// So much, or what the peer has, if that is more.
    ValueAtMostOrPeer(f64),
}

/// What a benchmark has found, in its unit.
#[derive(Clone, Copy, Debug)]
struct Measured {
    value: f64,
    peer_value: f64,
    runs: usize,
    cpu: Option<Cpu>,
}

/// Time on processors for each thing that was done, of all processes that had to do with it: the clock on the wall says what else the machine
/// has done, too.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    us: f64,
    peer_us: f64,
}

/// Where and how benchmarks run.
pub(super) struct Setting<'a> {
    pub config: &'a Config,
    /// For files; gone afterwards.
    pub dir: &'a Path,
    pub is_quick: bool,
    /// Another server of streams, for those benchmarks.
    pub peer: Option<&'a streams::Peer>,
}

impl Bench {
    /// # Errors
    /// When a name means no benchmark, or standard output is closed. What cannot be measured is told, and counts as failed.
    pub fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let selected = self.selected()?;
        let mut failed = Vec::new();
        if !self.json {
            say(&text_heading())?;
        }
        for group in GROUPS.into_iter().flatten() {
            let is_wanted = |benchmark: &&Benchmark| selected.contains(&benchmark.id);
            let Some(first) = group.benchmarks.iter().find(is_wanted) else {
                continue;
            };
            let load = load()?;
            let measured = self.measure(group, config).unwrap_or_else(|error| {
                // What is not measured counts as failed.
                tell(&format!("{}: {error:#}", first.id));
                Vec::new()
            });
            let mut measured = measured.into_iter();
            for benchmark in group.benchmarks {
                let measured = measured.next();
                if !is_wanted(&benchmark) {
                    continue;
                }
                let line = measured.map(|measured| self.line(benchmark, measured, load));
                if !line.as_ref().is_some_and(|line| line.is_ok) {
                    failed.push(benchmark.id);
                }
                if let Some(line) = line {
                    say(&if self.json { line.json() } else { line.text() })?;
                }
            }
        }
        self.summary(&failed)
    }

    /// The ids that the names mean.
    fn selected(&self) -> anyhow::Result<Vec<&'static str>> {
        let all = || {
            let groups = GROUPS.into_iter().flatten();
            groups.flat_map(|group| group.benchmarks.iter().map(|b| b.id))
        };
        let matching = |name: &str| -> Vec<_> {
            let begins = |id: &str| {
                let rest = id.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            all().filter(|id| begins(id)).collect()
        };
        // The first word may be a subsystem, within which the others choose.
        let (subsystem, names) = match self.names.split_first() {
            Some((first, rest)) if !first.contains('.') && !rest.is_empty() => (first, rest),
            _ => (&String::new(), self.names.as_slice()),
        };
        let mut selected = Vec::new();
        for name in names {
            let mut found = matching(name);
            if found.is_empty() {
                found = matching(&format!("{subsystem}.{name}"));
            }
            if found.is_empty() {
                let known: Vec<_> = all().collect();
                anyhow::bail!(
                    "there is no benchmark `{name}`; there are: {}",
                    known.join(" ")
                );
            }
            selected.extend(found);
        }
        Ok(if names.is_empty() {
            all().collect()
        } else {
            selected
        })
    }

    fn line(&self, benchmark: &'static Benchmark, measured: Measured, load: f64) -> Line {
        let goal = benchmark.goal.filter(|_| !self.quick);
        Line {
            benchmark,
            measured,
            goal,
            is_ok: goal.is_none_or(|goal| goal.is_met(measured)),
            load,
        }
    }

    fn measure(&self, group: &Group, config: &Config) -> anyhow::Result<Vec<Measured>> {
        let scratch = match &self.dir {
            Some(dir) => Scratch::within(dir)?,
            None => Scratch::new()?,
        };
        let peer = self.peer.peer();
        (group.measure)(&Setting {
            config,
            dir: &scratch.path,
            is_quick: self.quick,
            peer: peer.as_ref(),
        })
    }

    fn summary(&self, failed: &[&str]) -> anyhow::Result<ExitCode> {
        let is_ok = failed.is_empty();
        if self.json {
            let line = serde_json::json!({"summary": true, "ok": is_ok, "failed": failed});
            say(&line.to_string())?;
        } else if is_ok {
            say("all is well")?;
        } else {
            say(&format!("failed: {}", failed.join(" ")))?;
        }
        Ok(if is_ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Goal {
    fn is_met(self, measured: Measured) -> bool {
        match self {
            Self::ValueAtMost(limit) => measured.value <= limit,
            Self::RatioAtMost(limit) => measured.ratio() <= limit,
            Self::RatioAtLeast(limit) => measured.ratio() >= limit,
            Self::DifferenceAtLeast(limit) => measured.value - measured.peer_value >= limit,
            Self::ValueAtMostOrPeer(limit) => {
                measured.value <= limit || measured.value <= measured.peer_value
            }
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueAtMost(limit) => write!(f, "value<={limit}"),
            Self::RatioAtMost(limit) => write!(f, "ratio<={limit}"),
            Self::RatioAtLeast(limit) => write!(f, "ratio>={limit}"),
            Self::DifferenceAtLeast(limit) => write!(f, "value-peer_value>={limit}"),
            Self::ValueAtMostOrPeer(limit) => write!(f, "value<=max({limit},peer_value)"),
        }
    }
}

impl Measured {
    fn ratio(self) -> f64 {
        self.value / self.peer_value
    }
}

/// One benchmark's line of output.
struct Line {
    benchmark: &'static Benchmark,
    measured: Measured,
    goal: Option<Goal>,
    is_ok: bool,
    load: f64,
}

impl Line {
    fn json(&self) -> String {
        let mut line = serde_json::json!({
            "bench": self.benchmark.id,
            "value": short(self.measured.value),
            "unit": self.benchmark.unit,
            "peer": self.benchmark.peer,
            "peer_value": short(self.measured.peer_value),
            "ratio": short(self.measured.ratio()),
            "goal": self.goal.map(|goal| goal.to_string()),
            "ok": self.is_ok,
            "runs": self.measured.runs,
            "load": self.load,
        });
        if self.measured.peer_value.is_nan() {
            line["peer_missing"] = true.into();
        }
        if let Some(cpu) = self.measured.cpu {
            line["cpu_us"] = short(cpu.us).into();
            line["peer_cpu_us"] = short(cpu.peer_us).into();
        }
        line.to_string()
    }

    fn text(&self) -> String {
        let goal = self.goal.map(|goal| goal.to_string()).unwrap_or_default();
        let row = [
            self.benchmark.id,
            &short(self.measured.value).to_string(),
            self.benchmark.unit,
            &short(self.measured.peer_value).to_string(),
            &short(self.measured.ratio()).to_string(),
            &goal,
            if self.is_ok { "ok" } else { "FAILED" },
            &self.measured.runs.to_string(),
            &self.load.to_string(),
            self.benchmark.peer,
        ];
        text_row(row)
    }
}

fn text_heading() -> String {
    text_row([
        "BENCH", "VALUE", "UNIT", "PEER", "RATIO", "GOAL", "OK", "RUNS", "LOAD", "PEER IS",
    ])
}

fn text_row(row: [&str; 10]) -> String {
    let [
        id,
        value,
        unit,
        peer_value,
        ratio,
        goal,
        ok,
        runs,
        load,
        peer,
    ] = row;
    format!(
        "{id:<34} {value:>8} {unit:<4} {peer_value:>8} {ratio:>7}  {goal:<11} {ok:<6} {runs:>5} {load:>5}  {peer}"
    )
}

/// Three digits are more than a measurement is good for, and enough to compare with.
fn short(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let scale = 10_f64.powf(2.0 - number.abs().log10().floor());
    (number * scale).round() / scale
}

/// The 1-minute load average: a figure from a busy machine says little.
pub(super) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("read the load average")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("understand the load average")
}

/// The value below which this part of the times lies (nearest rank); `part` in 0..=1.
fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    // Linear in what is at most some thousand values.
    let wanted = part * sorted.len() as f64;
    let beyond = (1_u32..).zip(&sorted);
    let at = beyond.into_iter().find(|(n, _)| f64::from(*n) >= wanted);
    at.map_or(Duration::ZERO, |(_, time)| *time)
}

fn median(times: &[Duration]) -> Duration {
    quantile(times, 0.5)
}

/// Talks to whoever watches, past the output that is to be kept.
fn tell(line: &str) {
    let mut out = std::io::stderr().lock();
    // Nobody is left to tell if standard error is closed.
    std::io::Write::write_fmt(&mut out, format_args!("bench: {line}\n")).ok();
}

/// A directory for a benchmark's files, removed when it is dropped.
pub(super) struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(format!("cloudskin-bench-{:016x}", rt::random_u64()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        // What is mounted has no links in its path.
        let path = fs::canonicalize(path)?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind costs room in a directory for what may be lost.
        fs::remove_dir_all(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(median(&times), Duration::from_millis(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times, 1.0), Duration::from_millis(100));
        assert_eq!(
            median(&[Duration::from_millis(7)]),
            Duration::from_millis(7)
        );
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_not_beyond() {
        let measured = |value| Measured {
            value,
            peer_value: 10.0,
            runs: 1,
            cpu: None,
        };
        for (goal, met, missed, text) in [
            (Goal::ValueAtMost(5.0), 5.0, 5.1, "value<=5"),
            (Goal::RatioAtMost(0.5), 5.0, 5.1, "ratio<=0.5"),
            (Goal::RatioAtLeast(0.5), 5.0, 4.9, "ratio>=0.5"),
            (
                Goal::DifferenceAtLeast(-5.0),
                5.0,
                4.9,
                "value-peer_value>=-5",
            ),
            (
                Goal::ValueAtMostOrPeer(1.0),
                10.0,
                10.1,
                "value<=max(1,peer_value)",
            ),
            (
                Goal::ValueAtMostOrPeer(11.0),
                11.0,
                11.1,
                "value<=max(11,peer_value)",
            ),
        ] {
            assert!(goal.is_met(measured(met)), "{text}");
            assert!(!goal.is_met(measured(missed)), "{text}");
            assert!(!goal.is_met(measured(f64::NAN)), "{text}");
            assert_eq!(goal.to_string(), text);
        }
    }

    #[test]
    fn names_choose_whole_words_of_ids() {
        let selected = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let bench = Bench {
                json: false,
                quick: false,
                dir: None,
                peer: streams::PeerArgs::default(),
                names,
            };
            bench.selected()
        };
        let all = selected(&[]).expect("no name means all");
        let subsystems = ["cells", "sites", "geds", "streams"]
            .map(|name| selected(&[name]).expect("there are such"));
        assert_eq!(all, subsystems.concat());
        let pause = ["cells.pause.16mb", "cells.pause.16mb.p99"];
        assert_eq!(
            selected(&["cells", "pause"]).expect("there are such"),
            pause
        );
        assert_eq!(selected(&["cells.pause"]).expect("there are such"), pause);
        assert!(selected(&["cells.pau"]).is_err());
        let mut ids = all.clone();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len(), "ids are unique");
    }
}
