//! `cloudskin prove`: the long proofs. Programs are moved many times, and must end with the same memory and the same output.

use std::process::ExitCode;

use cells::world::{Proof, Report, Schedule, World};
use clap::Args;

use super::bench::{Scratch, Setting, load, programs};
use super::say;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Prove {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// So many different schedules of moves for each program.
    #[arg(long, default_value_t = 5)]
    seeds: u32,
    /// Moves in each run.
    #[arg(long, default_value_t = 100)]
    moves: u32,
    /// The proofs to run: what their ids begin with, `cells` or `cells.moves.halo`.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Programs that stop at different depths and in different calls, with arguments for some seconds.
const PROGRAMS: [(&str, &[&str]); 8] = [
    ("halo", &["12000", "30000"]),
    ("ring", &["20000", "1000"]),
    ("wavefront", &["400", "500", "1000"]),
    ("collectives", &["16000", "64"]),
    ("recursion", &["3000", "100"]),
    ("recursion", &["1200", "3200", "--frames"]),
    ("callback", &["12", "60"]),
    ("pending", &["800", "400"]),
];

impl Prove {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut failed = Vec::new();
        for (source, args) in PROGRAMS {
            let mode = if args.contains(&"--frames") {
                ".frames"
            } else {
                ""
            };
            let id = format!("cells.moves.{source}{mode}");
            let is_wanted = |name: &String| id.starts_with(name.as_str());
            if !self.names.is_empty() && !self.names.iter().any(is_wanted) {
                continue;
            }
            for seed in 1..=self.seeds {
                let proved = self.prove(config, (source, args), seed);
                let (n_moves, problem) = match &proved {
                    Ok((n_moves, problem)) => (*n_moves, problem.clone()),
                    Err(error) => (0, Some(format!("{error:#}"))),
                };
                self.tell(&id, seed, n_moves, problem.as_deref())?;
                if problem.is_some() {
                    failed.push(format!("{id} seed {seed}"));
                }
            }
        }
        let is_ok = failed.is_empty();
        if self.json {
            let line = serde_json::json!({"summary": true, "ok": is_ok, "failed": failed});
            say(&line.to_string())?;
        }
        Ok(if is_ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Moves that were made, and what is wrong.
    fn prove(
        &self,
        config: &Config,
        (source, args): (&str, &[&str]),
        seed: u32,
    ) -> anyhow::Result<(usize, Option<String>)> {
        let scratch = Scratch::new()?;
        let setting = Setting {
            config,
            dir: &scratch.path,
            is_quick: false,
        };
        let module = programs::compile_cell(&setting, &format!("proofs/{source}.c"), &[])?;
        let run = |proof, schedule| -> anyhow::Result<(Report, String)> {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            programs::run_world(World {
                n_ranks: 4,
                n_hosts: 2,
                hash_memory: true,
                proof,
                schedule,
                ..programs::world(&setting, &module, args)?
            })
        };
        let bounce = || Schedule::Bounce {
            n_moves: self.moves,
            seed: u64::from(seed),
        };
        let (reference, output) = run(Proof::Record, Schedule::None)?;
        let (replayed, output_replayed) = run(Proof::Replay(reference.recording), bounce())?;
        // On the real clock memory may differ, but not what the program says.
        let (live, output_live) = run(Proof::None, bounce())?;
        let problem = if replayed.hashes != reference.hashes {
            Some("the memory differs")
        } else if output_replayed != output || output_live != output {
            Some("the output differs")
        } else if replayed.missing_moves + live.missing_moves > 0 {
            Some("the program ended before all moves were made")
        } else {
            None
        };
        let n_moves = replayed.moves.len() + live.moves.len();
        Ok((n_moves, problem.map(str::to_owned)))
    }

    fn tell(
        &self,
        id: &str,
        seed: u32,
        n_moves: usize,
        problem: Option<&str>,
    ) -> anyhow::Result<()> {
        if !self.json {
            let verdict = problem.unwrap_or("the same memory and output");
            return say(&format!(
                "{id:<28} seed {seed:<3} {n_moves:>4} moves: {verdict}"
            ));
        }
        let line = serde_json::json!({
            "bench": id, "seed": seed, "value": n_moves, "unit": "moves",
            "peer": "the same program, unmoved", "peer_value": 0,
            "goal": "the same memory and output", "ok": problem.is_none(),
            "problem": problem, "runs": 3, "load": load()?,
        });
        say(&line.to_string())
    }
}
