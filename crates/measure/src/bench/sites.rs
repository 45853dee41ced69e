//! What a continuum costs: to start one, to run and to move something in it, to have an agent idle, and to plan for many sites.

use std::fs;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nbi::{Client, MigrationSpec, Operation, Service, Target};
use orchestrator::PlanBench;
use platform::{Plan, Platform};

use super::{Goal, Group, Measured, Setting, benchmark, median, programs};

const SPAWNS: &str = "posix_spawn of three `cloudskin --version`, and wait";
const SPAWN: &str = "posix_spawn of `cloudskin --version`, and wait";
const PAUSES: &str = "the pauses that a move reports";
const CAT: &str = "/bin/cat that waits for its input";
const SCAN: &str = "compare the labels of every service and site";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a unit: a hundredth of what is measured, and enough to leave the processors to others.
const POLL: Duration = Duration::from_micros(500);

pub(super) const GROUPS: &[Group] = &[
    Group {
        benchmarks: &[benchmark(
            "sites.up",
            "ms",
            SPAWNS,
            Some(Goal::ValueAtMost(1000.0)),
        )],
        measure: up,
    },
    Group {
        benchmarks: &[
            benchmark(
                "sites.spec_to_running",
                "ms",
                SPAWN,
                Some(Goal::ValueAtMost(50.0)),
            ),
            benchmark("sites.migration", "ms", PAUSES, None),
            benchmark("sites.agent_rss", "MiB", CAT, Some(Goal::ValueAtMost(20.0))),
        ],
        measure: |setting| {
            let stage = Stage::new(setting)?;
            let measured = vec![
                stage.spec_to_running(setting)?,
                stage.migration(setting)?,
                // The last one, when nothing runs any more.
                stage.agent_rss()?,
            ];
            stage.platform.stop()?;
            Ok(measured)
        },
    },
    Group {
        benchmarks: &[benchmark(
            "sites.plan",
            "s",
            SCAN,
            Some(Goal::ValueAtMost(1.0)),
        )],
        measure: plan,
    },
];

/// A controller and two sites, each time where nothing was before, until both sites are ready.
fn up(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let runs = if setting.is_quick { 1 } else { 5 };
    let (mut times, mut spawns) = (Vec::new(), Vec::new());
    for run in 0..runs {
        // As many processes as there have to be.
        spawns.push(spawn(3)?);
        let start = rt::now();
        let platform = start_platform(&setting.dir.join(format!("up-{run}")))?;
        times.push(start.elapsed());
        platform.stop()?;
    }
    Ok(vec![Measured {
        value: milliseconds(&times),
        peer_value: milliseconds(&spawns),
        runs,
        cpu: None,
    }])
}

fn start_platform(dir: &Path) -> anyhow::Result<Platform> {
    Platform::start(&Plan {
        dir: dir.to_owned(),
        nbi: ([127, 0, 0, 1], 0).into(),
        link: ([127, 0, 0, 1], 0).into(),
        mountable: Vec::new(),
        log: "warn".into(),
    })
}

/// Starts so many processes of this program at once, which do nothing, and waits for all of them.
fn spawn(n_processes: usize) -> anyhow::Result<Duration> {
    let mut program = Command::new(std::env::current_exe().context("find this program")?);
    program
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let start = rt::now();
    let children = (0..n_processes).map(|_| program.spawn());
    let children: Vec<Child> = children.collect::<Result<_, _>>()?;
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "--version ended with {status}");
    }
    Ok(start.elapsed())
}

/// A platform, and a program for it.
struct Stage {
    platform: Platform,
    client: Client,
    module: String,
}

impl Stage {
    fn new(setting: &Setting<'_>) -> anyhow::Result<Self> {
        // It reaches control points on a single rank, too: collectives of one rank do not, and then it could not move.
        let wasm = programs::compile_cell(setting, "bench/pause.c", &[])?;
        let platform = start_platform(&setting.dir.join("platform"))?;
        let client = platform.client()?;
        let module = client.put_module(&wasm)?;
        Ok(Self {
            platform,
            client,
            module,
        })
    }

    fn spec_to_running(&self, setting: &Setting<'_>) -> anyhow::Result<Measured> {
        let runs = if setting.is_quick { 1 } else { 30 };
        // The site fetches and compiles the module for the first one.
        self.begin("first")?;
        self.delete("first")?;
        let (mut times, mut spawns) = (Vec::new(), Vec::new());
        for run in 0..runs {
            spawns.push(spawn(1)?);
            let name = format!("service-{run}");
            times.push(self.begin(&name)?);
            self.delete(&name)?;
        }
        Ok(Measured {
            value: milliseconds(&times),
            peer_value: milliseconds(&spawns),
            runs,
            cpu: None,
        })
    }

    fn migration(&self, setting: &Setting<'_>) -> anyhow::Result<Measured> {
        let runs = if setting.is_quick { 2 } else { 20 };
        self.begin("moving")?;
        let (mut times, mut pauses) = (Vec::new(), Vec::new());
        for to in ["cloud", "edge"].into_iter().cycle().take(runs) {
            let (time, pause) = self.migrate("moving", to)?;
            times.push(time);
            pauses.push(pause);
        }
        self.delete("moving")?;
        Ok(Measured {
            value: milliseconds(&times),
            peer_value: milliseconds(&pauses),
            runs,
            cpu: None,
        })
    }

    /// Of the two agents, the larger one.
    fn agent_rss(&self) -> anyhow::Result<Measured> {
        let mut agents = Vec::new();
        for (name, pid) in self.platform.pids() {
            if name != "controller" {
                agents.push(rss(pid)?);
            }
        }
        Ok(Measured {
            value: agents.iter().copied().fold(0.0, f64::max),
            peer_value: cat_rss()?,
            runs: agents.len(),
            cpu: None,
        })
    }

    /// Says how long it took from the request until its unit was seen to run.
    fn begin(&self, name: &str) -> anyhow::Result<Duration> {
        let service = service(name, &self.module)?;
        let start = rt::now();
        let operation = self.client.apply(&service)?;
        loop {
            let units = self.client.units(name)?;
            if let Some(unit) = units.first() {
                match unit.phase.as_str() {
                    "Running" => break,
                    "Succeeded" | "Failed" | "Lost" => {
                        bail!("{} has ended: {} {}", unit.id, unit.phase, unit.reason)
                    }
                    _ => {}
                }
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{name} does not run after {PATIENCE:?}: {units:?}"
            );
            park_timeout(POLL);
        }
        let took = start.elapsed();
        self.done(&operation)?;
        Ok(took)
    }

    /// Says how long it took until the move was done, and for how long the rank stood still.
    fn migrate(&self, name: &str, to: &str) -> anyhow::Result<(Duration, Duration)> {
        let wish = MigrationSpec {
            service: name.parse()?,
            block: None,
            to: Target::Site(to.parse()?),
            ranks: None,
            deadline: None,
            reason: None,
        };
        let start = rt::now();
        let operation = self.client.migrate(&wish)?;
        self.done(&operation)?;
        let took = start.elapsed();
        let id = operation.target.rsplit('/').next().unwrap_or_default();
        let status = self.client.migration(id)?.status;
        // There is one rank: the longest pause is the sum of all.
        ensure!(
            (status.moved, status.ranks) == (1, 1) && status.pause_ms_max > 0.0,
            "one rank should have moved to {to}, with a pause: {status:?}"
        );
        let pause = Duration::try_from_secs_f64(status.pause_ms_max / 1e3)?;
        Ok((took, pause))
    }

    fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.done(&self.client.delete(name)?)
    }

    fn done(&self, operation: &Operation) -> anyhow::Result<()> {
        let operation = self.client.wait_operation(&operation.id, PATIENCE)?;
        let error = operation.error.unwrap_or_default();
        ensure!(
            operation.phase == "Succeeded",
            "{} of {}: {} {error}",
            operation.kind,
            operation.target,
            operation.phase
        );
        Ok(())
    }
}

/// One rank that begins at the edge, and talks to itself for longer than anything is measured.
fn service(name: &str, module: &str) -> anyhow::Result<Service> {
    let service = serde_json::json!({
        "apiVersion": nbi::API_VERSION,
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"blocks": [{
            "name": "pause",
            "kind": "CellDeployment",
            "placement": {"siteSelector": {"matchLabels": {"tier": "edge"}}},
            "module": module,
            "ranks": 1,
            "args": ["1000000000", "64"],
        }]},
    });
    serde_json::from_value(service).context("write a service")
}

/// The memory that a process has in use, MiB.
fn rss(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("understand VmRSS in {path}"))? / 1024.0)
}

fn cat_rss() -> anyhow::Result<f64> {
    let mut program = Command::new("/bin/cat");
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = program.spawn().context("run /bin/cat")?;
    let mut stdin = cat.stdin.take().expect("it was piped");
    let mut stdout = cat.stdout.take().expect("it was piped");
    // What it has answered once has everything in memory that it needs.
    stdin.write_all(b"\n")?;
    stdout.read_exact(&mut [0])?;
    let rss = rss(cat.id());
    drop(stdin);
    cat.wait()?;
    rss
}

/// Everything is planned from nothing: the longest that a controller may take until it decides.
fn plan(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let (n_sites, n_services, runs) = if setting.is_quick {
        // As few as have all labels that are wished for.
        (500, 1_000, 1)
    } else {
        (2_000, 10_000, 5)
    };
    let bench = PlanBench::new(n_sites, n_services);
    let (mut plans, mut scans) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let start = rt::now();
        let n_placed = bench.plan();
        plans.push(start.elapsed());
        ensure!(
            n_placed == n_services,
            "only {n_placed} of {n_services} services were placed"
        );
        let start = rt::now();
        black_box(bench.scan());
        scans.push(start.elapsed());
    }
    Ok(vec![Measured {
        value: median(&plans).as_secs_f64(),
        peer_value: median(&scans).as_secs_f64(),
        runs,
        cpu: None,
    }])
}

fn milliseconds(times: &[Duration]) -> f64 {
    median(times).as_secs_f64() * 1e3
}
