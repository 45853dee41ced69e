//! What happens on the stage: the application, the overload, and what is measured of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cells::world::{Proof, Schedule, Sinks, World};
use ids::{Labels, Name, Selector};
use nbi::{
    Block, BlockKind, CellDeployment, Client, Decision, Kpi, Limits, Metadata, MoveStatus,
    Placement, Policy, PolicyMode, Range, Series, Service, ServiceSpec,
};

use super::{Indented, progress, read};
use crate::config::Config;
use crate::roles;

/// The promise: an iteration takes at most so many times what it takes undisturbed.
const LIMIT: f64 = 3.0;
/// Undisturbed time before the overload begins, at least, and between its steps.
const CALM: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_secs(4);
/// So many burners at most. Each has a quarter as many threads as the application has ranks, so that whatever the scheduler does, the
/// edge is overloaded long before.
const BURNERS_MAX: u32 = 24;
/// So many samples over the limit show that the promise is broken.
const BROKEN_SHOWN: usize = 4;
/// How long the overload stays after its purpose is served.
const AFTER: Duration = Duration::from_secs(4);
/// Sweeps over the picture in one iteration: so often all ranks agree on the residual.
const SWEEPS: u32 = 4;
/// Sweeps of the run that tells how long one takes here.
const CALIBRATION: u32 = 1200;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Samples come every 500 ms. Asked for at this distance, and with so short a memory, each one is seen once.
const GRID: Duration = Duration::from_millis(100);

pub(super) struct Script {
    pub out: PathBuf,
    pub ranks: u32,
    pub size: u32,
    pub seconds: f64,
    pub seed: u64,
}

/// What the demo plays on.
pub(super) struct Scene {
    client: Client,
    script: Script,
    modules: [String; 2],
    wasm: Vec<u8>,
    /// Waiting is waiting for this.
    pause: (SyncSender<()>, Receiver<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Calm,
    Active,
    Shadow,
}

/// What was seen of one act. Times are wall clock, ms since 1970.
pub(super) struct Take {
    pub act: Act,
    pub began_ms: u64,
    pub ended_ms: u64,
    /// The longest iteration that is in order, seconds.
    pub limit: f64,
    pub n_ranks: u32,
    /// When the first burner came.
    pub overloaded_from_ms: Option<u64>,
    /// (time, seconds an iteration took)
    pub iterations: Vec<(u64, f64)>,
    /// What the kernel has counted at the edge: (time, processors that threads were ready for and did not get).
    pub waiting: Vec<(u64, f64)>,
    pub moves: Vec<MoveStatus>,
    /// The first decision to move, and whether the orchestrator has a migration by it.
    pub decision: Option<(Decision, bool)>,
    pub is_identical: bool,
}

impl Act {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Active => "active",
            Self::Shadow => "shadow",
        }
    }
}

impl Scene {
    pub(super) fn new(
        client: Client,
        script: Script,
        [diffuse, burn]: [Vec<u8>; 2],
    ) -> anyhow::Result<Self> {
        let upload = |wasm: &[u8]| client.put_module(wasm);
        Ok(Self {
            modules: [upload(&diffuse)?, upload(&burn)?],
            client,
            script,
            wasm: diffuse,
            pause: sync_channel(1),
        })
    }

    /// All acts, in the order calm, active, shadow.
    pub(super) fn play(&mut self, config: &Config) -> anyhow::Result<[Take; 3]> {
        let iteration = self.calibrate()?;
        // One report of the residual is one iteration of the promise.
        let n_reports = (self.script.seconds / iteration).ceil();
        ensure!(
            n_reports < 1e6,
            "an iteration takes {iteration} s: choose a larger --size"
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was just checked"
        )]
        let n_sweeps = n_reports as u32 * SWEEPS;
        let limit = LIMIT * iteration;
        progress(&format!(
            "an iteration takes {:.1} ms at the edge; promised are {:.1} ms",
            iteration * 1e3,
            limit * 1e3
        ))?;
        progress("compute the picture in a local run, for comparison")?;
        self.local(config, n_sweeps)?;
        let act = |act| self.act(act, n_sweeps, limit);
        Ok([act(Act::Calm)?, act(Act::Active)?, act(Act::Shadow)?])
    }

    /// How long an iteration takes at the edge when nothing else runs there, seconds.
    fn calibrate(&self) -> anyhow::Result<f64> {
        progress("measure how long an iteration takes at the edge")?;
        let name = "calibration";
        let began = wall_ms();
        self.apply(self.application(name, CALIBRATION, None)?)?;
        self.finished(name)?;
        let mut times: Vec<f64> = self
            .iterations(name, began, wall_ms())?
            .into_iter()
            .map(|(_, seconds)| seconds)
            .collect();
        self.delete(name)?;
        ensure!(
            times.len() >= 3,
            "only {} samples of the iteration time came: choose a larger --size",
            times.len()
        );
        times.sort_unstable_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    fn act(&self, act: Act, n_sweeps: u32, limit: f64) -> anyhow::Result<Take> {
        progress(match act {
            Act::Calm => "calm: nothing else runs at the edge",
            Act::Active => "active: the edge is overloaded step by step, and the policy acts",
            Act::Shadow => "shadow: the same, but the policy only says what it would do",
        })?;
        let name = format!("diffuse-{}", act.name());
        let mode = if act == Act::Shadow {
            PolicyMode::Shadow
        } else {
            PolicyMode::Active
        };
        let promise = Some((limit, mode));
        let (began, began_ms) = (rt::now(), wall_ms());
        self.apply(self.application(&name, n_sweeps, promise)?)?;
        let overloaded_from_ms = match act {
            Act::Calm => None,
            _ => self.overload(&name, act, (began, began_ms), limit)?,
        };
        self.finished(&name)?;
        let ended_ms = wall_ms();
        let unit = self.client.units(&name)?.into_iter().next();
        let picture = |name: &str| read(&self.script.out, &format!("{name}.ppm"));
        Ok(Take {
            act,
            began_ms,
            ended_ms,
            limit,
            n_ranks: self.script.ranks,
            overloaded_from_ms,
            iterations: self.iterations(&name, began_ms, ended_ms)?,
            waiting: self.points("site_cpu_waiting{site=\"edge\"}", began_ms, ended_ms)?,
            moves: unit.context("the application has no unit")?.last_moves,
            decision: self.decision(&name)?,
            is_identical: picture(act.name())? == picture("local")?,
        })
    }

    /// The first decision to move that nothing was against.
    fn decision(&self, name: &str) -> anyhow::Result<Option<(Decision, bool)>> {
        let to_move = |decision: &Decision| {
            decision.action.starts_with("migrate_service") && !decision.outcome.starts_with("held")
        };
        let decisions = self.decisions(name)?.into_iter().filter(to_move);
        let Some(first) = decisions.min_by_key(|decision| decision.at_ms) else {
            return Ok(None);
        };
        let reason = roles::controller::reason(&first.id);
        let migrations = self.client.migrations()?;
        let is_done = migrations
            .iter()
            .any(|migration| migration.spec.reason.as_ref() == Some(&reason));
        Ok(Some((first, is_done)))
    }

    fn decisions(&self, name: &str) -> anyhow::Result<Vec<Decision>> {
        let blocks = self.client.explain(name)?.blocks.into_iter();
        Ok(blocks.flat_map(|block| block.decisions).collect())
    }

    /// Adds burners at the edge, one after the other, until what is to happen has happened; then takes them away.
    fn overload(
        &self,
        application: &str,
        act: Act,
        (began, began_ms): (Instant, u64),
        limit: f64,
    ) -> anyhow::Result<Option<u64>> {
        let mut overloaded_from_ms = None;
        let mut next = began + CALM + self.jitter();
        let mut served: Option<Instant> = None;
        let mut n_burners = 0;
        loop {
            self.wait();
            let now = rt::now();
            let is_over = self.has_ended(application)?;
            if served.is_none()
                && n_burners > 0
                && self.is_served(application, act, began_ms, limit)?
            {
                served = Some(now);
            }
            if is_over || served.is_some_and(|at| now > at + AFTER) {
                break;
            }
            // Nobody can foresee anything before there are forecasts.
            let is_foreseeing = n_burners > 0
                || self
                    .decisions(application)?
                    .iter()
                    .any(|decision| decision.forecast.is_some());
            if now >= next && n_burners < BURNERS_MAX && served.is_none() && is_foreseeing {
                n_burners += 1;
                if n_burners == 1 {
                    self.apply(self.burners()?)?;
                    overloaded_from_ms = Some(wall_ms());
                } else {
                    self.client.scale("overload", "burn", n_burners)?;
                }
                progress(&format!(
                    "{n_burners} other programs burn the edge's processors"
                ))?;
                next = now + STEP;
            }
            ensure!(
                now < began + PATIENCE,
                "{application} has not ended in time"
            );
        }
        if n_burners > 0 {
            self.delete("overload")?;
        }
        Ok(overloaded_from_ms)
    }

    /// In the active act the application has left; in the shadow the promise is broken.
    fn is_served(
        &self,
        application: &str,
        act: Act,
        began_ms: u64,
        limit: f64,
    ) -> anyhow::Result<bool> {
        if act == Act::Active {
            let units = self.client.units(application)?;
            let ranks = units.iter().flat_map(|unit| &unit.ranks);
            let mut ranks = ranks.peekable();
            return Ok(ranks.peek().is_some() && ranks.all(|rank| rank.site.as_str() == "cloud"));
        }
        let times = self.iterations(application, began_ms, wall_ms())?;
        Ok(broken(&times, limit).len() >= BROKEN_SHOWN)
    }

    /// Up to a second that depends on the seed.
    fn jitter(&self) -> Duration {
        Duration::from_millis(self.script.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54)
    }

    fn application(
        &self,
        name: &str,
        n_sweeps: u32,
        promise: Option<(f64, PolicyMode)>,
    ) -> anyhow::Result<Service> {
        let picture = name.strip_prefix("diffuse-").unwrap_or(name);
        let mut args = ["-i", "/out/photo.ppm", "-o"].map(str::to_owned).to_vec();
        args.push(format!("/out/{picture}.ppm"));
        args.extend(["--size".into(), self.script.size.to_string()]);
        args.extend(["-n".into(), n_sweeps.to_string()]);
        args.extend(["--residual-every".into(), SWEEPS.to_string()]);
        let cell = CellDeployment {
            module: self.modules[0].clone(),
            ranks: self.script.ranks,
            args,
            env: Default::default(),
            mounts: vec![nbi::Mount {
                path: "/out".into(),
                source: format!("file://{}", self.script.out.display()),
            }],
            checkpoints: None,
            limits: Limits::default(),
        };
        let kpi = promise.map(|(limit, _)| Kpi {
            iteration: Some("MPI_Allreduce".into()),
            max: format!("{}us", (limit * 1e6).round()),
        });
        let policy = promise.map(|(_, mode)| Policy { mode, text: None });
        service(name, ("smooth", 1), cell, (kpi, policy))
    }

    fn burners(&self) -> anyhow::Result<Service> {
        let cell = CellDeployment {
            module: self.modules[1].clone(),
            ranks: (self.script.ranks / 4).max(1),
            args: vec!["0".into()],
            env: Default::default(),
            mounts: Vec::new(),
            checkpoints: None,
            limits: Limits::default(),
        };
        service("overload", ("burn", 1), cell, (None, None))
    }

    fn apply(&self, service: Service) -> anyhow::Result<()> {
        let operation = self.client.apply(&service)?;
        self.done(&operation.id)
    }

    fn delete(&self, name: &str) -> anyhow::Result<()> {
        let operation = self.client.delete(name)?;
        self.done(&operation.id)
    }

    fn done(&self, operation: &str) -> anyhow::Result<()> {
        let operation = self.client.wait_operation(operation, PATIENCE)?;
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

    fn phase(&self, name: &str) -> anyhow::Result<String> {
        let status = self.client.service(name)?.status;
        Ok(status.map_or_else(|| "Pending".into(), |status| status.phase))
    }

    fn has_ended(&self, name: &str) -> anyhow::Result<bool> {
        match self.phase(name)?.as_str() {
            "Succeeded" => Ok(true),
            "Failed" => bail!("{name} failed: see cloudskin ctl logs {name}"),
            _ => Ok(false),
        }
    }

    fn finished(&self, name: &str) -> anyhow::Result<()> {
        let began = rt::now();
        while !self.has_ended(name)? {
            ensure!(began.elapsed() < PATIENCE, "{name} has not ended in time");
            self.wait();
        }
        Ok(())
    }

    /// Nobody signals: this is a pause.
    fn wait(&self) {
        self.pause.1.recv_timeout(Duration::from_millis(100)).ok();
    }

    /// At every time the lowest rank that is measured then.
    fn iterations(&self, name: &str, from: u64, until: u64) -> anyhow::Result<Vec<(u64, f64)>> {
        let selector =
            format!("cell_iteration_seconds{{service=\"{name}\",key=~\"MPI_Allreduce.*\"}}");
        let mut series = self.series(&selector, from, until)?;
        let rank = |series: &Series| {
            series
                .labels
                .get("rank")
                .and_then(|rank| rank.parse::<u32>().ok())
        };
        series.sort_by_key(rank);
        let mut points = BTreeMap::new();
        for (at, seconds) in series.into_iter().flat_map(|series| series.points) {
            points.entry(at).or_insert(seconds);
        }
        Ok(points.into_iter().collect())
    }

    fn points(&self, selector: &str, from: u64, until: u64) -> anyhow::Result<Vec<(u64, f64)>> {
        let series = self.series(selector, from, until)?;
        Ok(series
            .into_iter()
            .next()
            .map_or_else(Vec::new, |series| series.points))
    }

    fn series(&self, selector: &str, start_ms: u64, end_ms: u64) -> anyhow::Result<Vec<Series>> {
        let range = Range {
            start_ms,
            end_ms,
            step: GRID,
            lookback: GRID,
        };
        Ok(self.client.query_range(selector, range)?)
    }

    fn local(&self, config: &Config, n_sweeps: u32) -> anyhow::Result<()> {
        let size = self.script.size.to_string();
        let sweeps = n_sweeps.to_string();
        let args = ["diffuse", "-i", "/out/photo.ppm", "-o", "/out/local.ppm"];
        let args = args.into_iter().chain(["--size", &size, "-n", &sweeps]);
        let world = World {
            name: "diffuse".into(),
            module: self.wasm.clone(),
            n_ranks: self.script.ranks,
            n_hosts: 1,
            args: args.map(str::to_owned).collect(),
            env: Vec::new(),
            mounts: vec![("/out".into(), self.script.out.clone())],
            memory_bytes_max: 2 << 30,
            hash_memory: false,
            proof: Proof::None,
            schedule: Schedule::None,
            checkpoint_every: None,
            marks: false,
            interpret: false,
            report_moves: false,
            fail_point: None,
            host_program: std::env::current_exe().context("find this program")?,
            log: "warn".into(),
            state_dir: config.state_dir.clone(),
            code_dir: config.code_dir(),
        };
        let (mut stdout, mut stderr) = (Indented, Indented);
        let sinks = Sinks {
            stdout: &mut stdout,
            stderr: &mut stderr,
        };
        let report = cells::world::run(world, sinks)?;
        ensure!(
            report.exit_code == 0,
            "diffuse ended with code {}",
            report.exit_code
        );
        Ok(())
    }
}

/// The times of the samples over the limit, without those that stand alone: one slow iteration breaks no promise.
pub(super) fn broken(iterations: &[(u64, f64)], limit: f64) -> Vec<u64> {
    let is_over = |idx: Option<usize>| {
        let point = idx.and_then(|idx| iterations.get(idx));
        point.is_some_and(|(_, seconds)| *seconds > limit)
    };
    let last = |idx: &usize| {
        is_over(Some(*idx)) && (is_over(idx.checked_sub(1)) || is_over(Some(idx + 1)))
    };
    let found = (0..iterations.len()).filter(last);
    found.map(|idx| iterations[idx].0).collect()
}

fn service(
    name: &str,
    (block, replicas): (&str, u32),
    cell: CellDeployment,
    (kpi, policy): (Option<Kpi>, Option<Policy>),
) -> anyhow::Result<Service> {
    let site_selector = Selector {
        match_labels: Labels::from([("tier".into(), "edge".into())]),
    };
    Ok(Service {
        api_version: nbi::API_VERSION.into(),
        kind: "Service".into(),
        metadata: Metadata {
            name: name.parse::<Name>()?,
            labels: Labels::new(),
            id: None,
            resource_version: None,
            generation: None,
            created_at: None,
        },
        spec: ServiceSpec {
            blocks: vec![Block {
                name: block.parse()?,
                replicas,
                placement: Placement {
                    site_selector,
                    migrate_to: None,
                },
                kind: BlockKind::CellDeployment(cell),
                kpi,
                policy,
            }],
        },
        status: None,
    })
}

fn wall_ms() -> u64 {
    let since = rt::wall().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
