//! `cloudskin prove`: the long proofs. Programs are moved many times, and must end with the same memory and the same output; a
//! program calls its host with garbage, and must harm nobody but itself; processes of the object store are killed, and nothing is lost.

mod chance;
mod geds;
mod process;
mod proxy;
mod sites;
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cells::world::{Proof, Report, Schedule, World};
use clap::Args;

use super::bench::{Scratch, Setting, load, programs};
use super::{Config, say};

#[derive(Debug, Args)]
pub struct Prove {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// So many different schedules of moves for each program.
    #[arg(long, default_value_t = 5)]
    seeds: u32,
    /// Moves in each run.
    #[arg(long, default_value_t = 100)]
    moves: u32,
    /// So many schedules of faults over a platform, and as many over a node of the object store.
    #[arg(long, default_value_t = 200)]
    schedules: u32,
    /// The seed of the first schedule, of whatever kind.
    #[arg(long, default_value_t = 1)]
    first_seed: u32,
    /// So many recorded traces of a store of objects, and as many of one of segments, crashes of which are looked at.
    #[arg(long, default_value_t = 100)]
    traces: u32,
    /// How often a server of streams is killed.
    #[arg(long, default_value_t = 1_000)]
    kills: u32,
    /// How often one is stopped, and goes on after another one has taken over.
    #[arg(long, default_value_t = 100)]
    stops: u32,
    /// So many simulated histories of a container of segments.
    #[arg(long, default_value_t = 10_000)]
    histories: u32,
    /// So many seconds nobody answers where S3 should be.
    #[arg(long, default_value_t = 300)]
    outage: u64,
    /// Be a client of a node that is killed.
    #[arg(long, hide = true, value_name = "FILE")]
    client: Option<PathBuf>,
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

/// The host calls, with the numbers by which the program `garbage` knows them.
const CALLS: [&str; 11] = [
    "world",
    "send",
    "recv",
    "wait",
    "probe",
    "completed",
    "cancel",
    "abort",
    "clock",
    "name",
    "finalize",
];
/// How long one call with garbage may take before it counts as one that does not end.
const CALL_SECONDS_MAX: &str = "60";
/// What `cell run` exits with when a rank traps.
const TRAP_CODE: i32 = 134;

/// One proof.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// The program with this number in [`PROGRAMS`] is moved.
    Moves { program: usize, seed: u32 },
    /// The call with this number in [`CALLS`] gets every vector of garbage.
    Garbage { call: usize },
    /// The processes of a platform are killed, stopped and cut off, as this seed says, while a program moves.
    Faults { seed: u32 },
    /// Clients, a node and the S3 behind it are killed, as this seed says.
    Kill { seed: u32 },
    /// A store of objects is opened as every crash leaves it after what this seed says.
    Crashes { seed: u32 },
    /// S3 is away, and comes back.
    Outage,
    /// A server of streams is killed, or stopped, so often, as this seed says.
    StreamsHarm {
        harm: streams::Harm,
        seed: u32,
        n_times: u32,
    },
    /// Disks and long-term storage fail under a store of segments, as this seed says, and bits of it change.
    StreamsFaults { seed: u32 },
    /// S3 is away from streams, and comes back.
    StreamsOutage,
    /// A store of segments is opened as crashes leave it after what this seed says.
    StreamsCrashes { seed: u32 },
    /// Histories of a container of segments from this seed on.
    StreamsSimulations { seed: u32, n: u32 },
}

/// What is looked at, and what of it was found.
#[derive(Debug)]
struct Found {
    /// So many moves, or calls.
    value: usize,
    runs: usize,
    problem: Option<String>,
    /// What else whoever looks at it wants to know.
    note: Option<String>,
}

impl Prove {
    /// # Errors
    /// When a name means no proof, or standard output is closed. What cannot be proven is told, and counts as failed.
    pub fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        if let Some(order) = &self.client {
            return geds::run_client(order);
        }
        let jobs: Vec<_> = self.all().filter(|job| self.is_wanted(*job)).collect();
        ensure!(
            !jobs.is_empty(),
            "there is no proof `{}`",
            self.names.join(" ")
        );
        let mut failed = Vec::new();
        let (mut stage, mut geds_stage, mut streams_stage) = (None, None, None);
        for job in jobs {
            let found = match job {
                Job::Moves { program, seed } => self.moves(config, PROGRAMS[program], seed),
                Job::Garbage { call } => garbage(config, call),
                Job::Faults { seed } => faults(&mut stage, config, seed),
                Job::Kill { seed } => kill(&mut geds_stage, seed),
                Job::Crashes { seed } => geds::crashes(seed.into()),
                Job::Outage => geds::outage(Duration::from_secs(self.outage)),
                Job::StreamsHarm {
                    harm,
                    seed,
                    n_times,
                } => harm_streams(&mut streams_stage, seed, (harm, n_times)),
                Job::StreamsFaults { seed } => streams::faults(seed.into()),
                Job::StreamsOutage => streams::outage(Duration::from_secs(self.outage)),
                Job::StreamsCrashes { seed } => streams::crashes(seed.into()),
                Job::StreamsSimulations { seed, n } => streams::simulations(seed.into(), n),
            };
            let found = found.unwrap_or_else(|error| Found {
                value: 0,
                runs: 0,
                problem: Some(format!("{error:#}")),
                note: None,
            });
            self.tell(job, &found)?;
            if found.problem.is_some() {
                failed.push(job.name());
            }
        }
        if let Some(stage) = stage {
            stage.stop()?;
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

    fn all(&self) -> impl Iterator<Item = Job> {
        let seeds = move |n| (self.first_seed..).take(n as usize);
        let moves = (0..PROGRAMS.len()).flat_map(move |program| {
            seeds(self.seeds).map(move |seed| Job::Moves { program, seed })
        });
        let faults = seeds(self.schedules).map(|seed| Job::Faults { seed });
        moves
            .chain((0..CALLS.len()).map(|call| Job::Garbage { call }))
            .chain(faults)
            .chain(seeds(self.schedules).map(|seed| Job::Kill { seed }))
            .chain(seeds(self.traces).map(|seed| Job::Crashes { seed }))
            .chain([Job::Outage])
            .chain(self.of_streams())
    }

    fn of_streams(&self) -> impl Iterator<Item = Job> {
        let first_seed = self.first_seed;
        let harms = move |harm, n: u32| {
            (0..n.div_ceil(streams::TIMES)).map(move |nth| Job::StreamsHarm {
                harm,
                seed: first_seed + nth,
                n_times: streams::TIMES.min(n - nth * streams::TIMES),
            })
        };
        let seeds = || (first_seed..).take(self.traces as usize);
        let simulations = Job::StreamsSimulations {
            seed: first_seed,
            n: self.histories,
        };
        harms(streams::Harm::Kill, self.kills)
            .chain(harms(streams::Harm::Stop, self.stops))
            .chain(seeds().map(|seed| Job::StreamsCrashes { seed }))
            .chain(seeds().map(|seed| Job::StreamsFaults { seed }))
            .chain([simulations, Job::StreamsOutage])
    }

    fn is_wanted(&self, job: Job) -> bool {
        let id = job.id();
        self.names.is_empty() || self.names.iter().any(|name| id.starts_with(name))
    }

    /// Moves a program; returns the moves that were made, and what is wrong.
    fn moves(
        &self,
        config: &Config,
        (source, args): (&str, &[&str]),
        seed: u32,
    ) -> anyhow::Result<Found> {
        let scratch = Scratch::new()?;
        let setting = Setting {
            config,
            dir: &scratch.path,
            is_quick: false,
            peer: None,
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
        Ok(Found {
            value: replayed.moves.len() + live.moves.len(),
            runs: 3,
            problem: problem.map(str::to_owned),
            note: None,
        })
    }

    fn tell(&self, job: Job, found: &Found) -> anyhow::Result<()> {
        let (unit, peer, goal) = job.terms();
        let Found {
            value,
            runs,
            problem,
            note,
        } = found;
        if !self.json {
            let verdict = problem.as_deref().unwrap_or(goal);
            let note = note
                .as_ref()
                .map_or_else(String::new, |note| format!(" ({note})"));
            let name = job.name();
            return say(&format!("{name:<37} {value:>4} {unit}: {verdict}{note}"));
        }
        let mut line = serde_json::json!({
            "bench": job.id(), "value": value, "unit": unit, "peer": peer, "peer_value": 0,
            "goal": goal, "ok": problem.is_none(), "problem": problem, "note": note, "runs": runs, "load": load()?,
        });
        if let Some(seed) = job.seed() {
            line["seed"] = seed.into();
        }
        say(&line.to_string())
    }
}

impl Job {
    fn id(self) -> String {
        match self {
            Self::Moves { program, .. } => {
                let (source, args) = PROGRAMS[program];
                let is_mode = args.contains(&"--frames");
                let mode = if is_mode { ".frames" } else { "" };
                format!("cells.moves.{source}{mode}")
            }
            Self::Garbage { call } => format!("cells.garbage.{}", CALLS[call]),
            Self::Faults { .. } => "sites.faults".to_owned(),
            Self::Kill { .. } => "geds.kill".to_owned(),
            Self::Crashes { .. } => "geds.crashes".to_owned(),
            Self::Outage => "geds.outage".to_owned(),
            Self::StreamsHarm { harm, .. } => match harm {
                streams::Harm::Kill => "streams.kill".to_owned(),
                streams::Harm::Stop => "streams.stop".to_owned(),
            },
            Self::StreamsFaults { .. } => "streams.faults".to_owned(),
            Self::StreamsOutage => "streams.outage".to_owned(),
            Self::StreamsCrashes { .. } => "streams.crashes".to_owned(),
            Self::StreamsSimulations { .. } => "streams.simulations".to_owned(),
        }
    }

    fn seed(self) -> Option<u32> {
        match self {
            Self::Moves { seed, .. } | Self::Faults { seed } => Some(seed),
            Self::Kill { seed } | Self::Crashes { seed } => Some(seed),
            Self::StreamsHarm { seed, .. } | Self::StreamsCrashes { seed } => Some(seed),
            Self::StreamsFaults { seed } | Self::StreamsSimulations { seed, .. } => Some(seed),
            Self::Garbage { .. } | Self::Outage | Self::StreamsOutage => None,
        }
    }

    /// The id, and the seed where there is one.
    fn name(self) -> String {
        match self.seed() {
            Some(seed) => format!("{} seed {seed}", self.id()),
            None => self.id(),
        }
    }

    /// Unit, peer and goal.
    fn terms(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Moves { .. } => (
                "moves",
                "the same program, unmoved",
                "the same memory and output",
            ),
            Self::Garbage { .. } => (
                "calls",
                "none",
                "each is answered, or ends its own rank alone",
            ),
            Self::Faults { .. } => (
                "faults",
                "the same program, undisturbed",
                "the same output, in order within 3 periods",
            ),
            Self::Kill { .. } => (
                "kills",
                "what clients were told",
                "nothing lost, altered, stale or left",
            ),
            Self::Crashes { .. } => (
                "crashes",
                "what was acknowledged",
                "all of it is there, and nothing that was taken away",
            ),
            Self::Outage | Self::StreamsOutage => (
                "%",
                "what there is room for",
                "at least 95, and all of it comes to S3",
            ),
            Self::StreamsHarm { .. } => (
                "times",
                "what clients were told",
                "each event once and in order, transactions whole, one order of all replacements",
            ),
            Self::StreamsCrashes { .. } => (
                "crashes",
                "what was acknowledged",
                "all of it is there, once and in order, and synced before",
            ),
            Self::StreamsFaults { .. } => (
                "faults",
                "what was acknowledged",
                "all of it is there, or it is said that it is damaged",
            ),
            Self::StreamsSimulations { .. } => (
                "histories",
                "one container without crashes",
                "nothing else is seen",
            ),
        }
    }
}

/// A platform that failed is not played on any more.
fn faults(stage: &mut Option<sites::Stage>, config: &Config, seed: u32) -> anyhow::Result<Found> {
    let mut on = match stage.take() {
        Some(stage) => stage,
        None => sites::Stage::new(config)?,
    };
    let found = on.play(config, seed.into())?;
    *stage = Some(on);
    Ok(found)
}

/// The same: what failed is looked at by whoever wants to know why.
fn kill(stage: &mut Option<geds::Stage>, seed: u32) -> anyhow::Result<Found> {
    let mut on = match stage.take().filter(geds::Stage::is_fresh) {
        Some(stage) => stage,
        None => geds::Stage::new()?,
    };
    let found = on.play(seed.into())?;
    *stage = Some(on).filter(|_| found.problem.is_none());
    Ok(found)
}

/// The same.
fn harm_streams(
    stage: &mut Option<streams::Stage>,
    seed: u32,
    harm: (streams::Harm, u32),
) -> anyhow::Result<Found> {
    let mut on = match stage.take().filter(streams::Stage::is_fresh) {
        Some(stage) => stage,
        None => streams::Stage::new()?,
    };
    let found = on.play(seed.into(), harm)?;
    *stage = Some(on).filter(|_| found.problem.is_none());
    Ok(found)
}

/// Makes one host call with every vector of garbage, each in a world of its own.
fn garbage(config: &Config, call: usize) -> anyhow::Result<Found> {
    let scratch = Scratch::new()?;
    let setting = Setting {
        config,
        dir: &scratch.path,
        is_quick: false,
        peer: None,
    };
    let module = programs::compile_cell(&setting, "hostile/garbage.c", &[])?;
    let program = scratch.path.join("garbage.wasm");
    std::fs::write(&program, module).with_context(|| format!("write {}", program.display()))?;
    // Without arguments it lists its calls: number, name, and how many vectors there are.
    let listed = Run::new(&program, &[])?.stdout;
    let name = CALLS[call];
    let begin = format!("{call} {name} ");
    let count = listed.lines().find_map(|line| line.strip_prefix(&begin));
    let count =
        count.with_context(|| format!("`{begin}` is not in what garbage lists:\n{listed}"))?;
    let n_vectors: usize = count.parse().context("the number of vectors")?;
    ensure!(
        listed.lines().count() == CALLS.len(),
        "garbage lists other calls than {CALLS:?}:\n{listed}"
    );
    let mut n_well = 0;
    for vector in 0..n_vectors {
        let run = Run::new(&program, &[call, vector])?;
        if !run.is_harmless(name) {
            return Ok(Found {
                value: vector,
                runs: vector + 1,
                problem: Some(format!("vector {vector}: {run:?}")),
                note: None,
            });
        }
        n_well += usize::from(run.code == Some(0));
    }
    Ok(Found {
        value: n_vectors,
        runs: n_vectors,
        // Some vectors of each call are good enough; where all fail, it is for another reason.
        problem: (n_well == 0).then(|| "none ended well".to_owned()),
        note: None,
    })
}

/// How a world of one rank has ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// As a user does it, in processes of its own: a world in this one would leave its threads behind.
    fn new(program: &Path, args: &[usize]) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("find this program")?;
        let mut command = Command::new("timeout");
        command
            .arg(CALL_SECONDS_MAX)
            .arg(this)
            .args(["cell", "run"])
            .arg(program)
            .arg("--")
            .args(args.iter().map(usize::to_string))
            .stdin(Stdio::null());
        let output = command.output().context("run timeout")?;
        if output.status.code() == Some(124) {
            bail!("call and vector {args:?}: no end after {CALL_SECONDS_MAX} s");
        }
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The call has returned and the memory around its buffers is what it was, or it has ended its rank, and nothing else.
    fn is_harmless(&self, call: &str) -> bool {
        let is_alone = self.stderr.lines().count() <= 2 && !self.stderr.contains("died");
        is_alone
            && match self.code {
                Some(0) if call != "abort" => self.stdout.ends_with("memory intact\n"),
                Some(TRAP_CODE) => self.stderr.starts_with("rank 0: "),
                code => call == "abort" && code.is_some(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(call: &str, (code, stdout, stderr): (i32, &str, &str), is_harmless: bool) {
        let run = Run {
            code: Some(code),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        assert_eq!(run.is_harmless(call), is_harmless, "{call}: {run:?}");
    }

    #[test]
    fn harm_is_told_from_answers_and_traps() {
        check("send", (0, "send returned 0, memory intact\n", ""), true);
        check("send", (4, "send returned 0, memory damaged\n", ""), false);
        check("send", (0, "", ""), false);
        check("send", (TRAP_CODE, "", "rank 0: a pointer\n"), true);
        check("send", (TRAP_CODE, "", "cloudskin: what?\n"), false);
        check(
            "send",
            (1, "", "cloudskin: host 0 died with rank 0\n"),
            false,
        );
        check("abort", (3, "", ""), true);
        check(
            "abort",
            (1, "", "cloudskin: host 0 died with rank 0\n"),
            false,
        );
    }

    #[test]
    fn names_choose_by_what_ids_begin_with() {
        let count = |name: &str| {
            let prove = Prove {
                json: false,
                seeds: 5,
                moves: 100,
                first_seed: 1,
                schedules: 7,
                traces: 3,
                kills: 41,
                stops: 20,
                histories: 1,
                outage: 1,
                client: None,
                names: vec![name.to_owned()],
            };
            prove.all().filter(|job| prove.is_wanted(*job)).count()
        };
        assert_eq!(count("cells"), 5 * PROGRAMS.len() + CALLS.len());
        assert_eq!(count("cells.moves.recursion"), 10);
        assert_eq!(count("cells.garbage.send"), 1);
        assert_eq!(count("sites"), 7);
        assert_eq!(count("geds"), 7 + 3 + 1);
        assert_eq!(count("streams"), 3 + 1 + 3 + 3 + 2);
        assert_eq!(count("cells.nothing"), 0);
    }
}
