//! A controller, with the Learning Plane beside it: the one gets its measurements and its hands from the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use auth::Authority;
use clap::Args;
use ids::Name;
use learning::seam::{
    ActError, BlockSample, Mode, MoveCost, MoveStatus, Observation, Point, Series, SiteSample,
    Target, TargetId, Time,
};
use learning::{Actuator, Learning, Policy, Sensor};
use nbi::{BlockKind, MigrationSpec, PolicyMode};
use orchestrator::{
    BlockView, Controller as Orchestrator, ErrorKind, Explainer, Role, Terms, Unasked,
};
use platform::{Bootstrap, Ready};
use tokio::runtime::Handle;

use super::Signals;

/// A token for joining that nobody has used by then is void.
const JOIN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How often the targets of the Learning Plane are made the blocks that there are.
const TARGETS_PERIOD: Duration = Duration::from_millis(200);
/// What came in so long ago is still of use for a program that runs: its models warm up with it after a restart.
const HISTORY: Duration = Duration::from_secs(600);
/// A site's figures older than this say nothing.
const LOOKBACK: Duration = Duration::from_secs(5);
/// Moves of a block that say how long one takes.
const MOVES_MAX: usize = 5;
/// Sites and migrations that are looked at.
const LIST_MAX: usize = 500;

#[derive(Debug, Args)]
pub(crate) struct Controller {
    /// Where it keeps its store, its key, modules, series and decisions.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the north-bound interface is served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    nbi: SocketAddr,
    /// Where sites dial in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    link: SocketAddr,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics: SocketAddr,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// What to log: a tracing filter such as `info` or `orchestrator=debug`.
    #[arg(long, default_value = "info")]
    log: String,
}

impl Controller {
    /// Reads whom to know from standard input, says on standard output where it is, and serves until it is asked to end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.with_parent {
            super::end_with_parent().context("end with the parent process")?;
        }
        let telemetry = super::telemetry("controller", &self.log, self.metrics)?;
        let bootstrap: Bootstrap = serde_json::from_reader(io::stdin().lock())
            .context("read from standard input whom to know")?;
        let authority = authority(&self.dir)?;
        let ca: String = authority
            .certificate()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let bridge = Arc::new(Bridge {
            runtime: runtime.handle().clone(),
            platform: OnceLock::new(),
            learning: OnceLock::new(),
            watched: Mutex::default(),
        });
        let service = runtime.block_on(self.serve(authority, &bootstrap, &telemetry, &bridge))?;
        let platform = (service.controller.clone(), Arc::clone(&service.series));
        if bridge.platform.set(platform).is_err() {
            bail!("the platform was started twice");
        }
        let learning = Learning::start(
            learning::Config::default(),
            &self.dir.join("learning"),
            &telemetry.metrics,
            Arc::clone(&bridge) as _,
            Arc::clone(&bridge) as _,
        )?;
        if bridge.learning.set(learning).is_err() {
            bail!("the Learning Plane was started twice");
        }
        telemetry.health.clear("starting");
        let ready = Ready {
            nbi: service.nbi,
            link: service.link,
            ca,
            metrics: telemetry.address,
        };
        writeln!(io::stdout(), "{}", serde_json::to_string(&ready)?)?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let mut targets = tokio::time::interval(TARGETS_PERIOD);
            loop {
                tokio::select! {
                    _ = signals.any() => return anyhow::Ok(()),
                    // Whoever has started this process starts it again.
                    why = service.failed() => bail!("the controller cannot go on: {why}"),
                    _ = targets.tick() => bridge.watch_what_runs(),
                }
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Controller {
    /// Starts the orchestrator, which knows everybody whom `bootstrap` names.
    async fn serve(
        &self,
        authority: Authority,
        bootstrap: &Bootstrap,
        telemetry: &super::Telemetry,
        bridge: &Arc<Bridge>,
    ) -> anyhow::Result<orchestrator::Service> {
        let explainer: Arc<dyn Explainer> = Arc::clone(bridge) as _;
        let config = orchestrator::Config {
            dir: self.dir.clone(),
            link: self.link,
            nbi: self.nbi,
        };
        let deps = orchestrator::Deps {
            authority,
            explainer: Some(explainer),
            metrics: telemetry.metrics.clone(),
            store: None,
        };
        let service = orchestrator::start(config, deps).await?;
        let operators = bootstrap.orgs.iter().map(|known| (known, Role::Operator));
        let users = bootstrap.users.iter().map(|known| (known, Role::User));
        for ((org, token), role) in operators.chain(users) {
            service.controller.add_token(token, org, role).await?;
        }
        for (site, token) in &bootstrap.joins {
            let controller = &service.controller;
            controller
                .add_join_token(token, site.as_ref(), JOIN_TTL)
                .await?;
        }
        Ok(service)
    }
}

/// The authority of this platform: made at the first start.
fn authority(dir: &Path) -> anyhow::Result<Authority> {
    durable::make_private_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join("ca.key");
    match std::fs::read(&path) {
        Ok(key) => Authority::from_key(&key).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let authority = Authority::new()?;
            let partial = dir.join("ca.key.partial");
            let mut file = durable::create_private(&partial)?;
            file.write_all(&authority.key())?;
            durable::publish(&file, &partial, &path)?;
            Ok(authority)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The Learning Plane's senses and hands at the controller, and its voice in the north-bound interface.
struct Bridge {
    runtime: Handle,
    platform: OnceLock<(Orchestrator, Arc<orchestrator::Series>)>,
    learning: OnceLock<Learning>,
    /// The blocks as they were when the Learning Plane was told of them.
    watched: Mutex<BTreeMap<TargetId, nbi::Block>>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bridge")
    }
}

impl Explainer for Bridge {
    fn decisions(&self, org: &Name, service: &Name, block: &Name) -> Vec<nbi::Decision> {
        let Some(learning) = self.learning.get() else {
            return Vec::new();
        };
        let target = TargetId {
            org: org.clone(),
            service: service.clone(),
            block: block.clone(),
        };
        learning.explain(&target).into_iter().map(shown).collect()
    }

    fn check_policy(&self, text: &str) -> Result<(), (u32, u32, String)> {
        match Policy::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => Err((error.line, error.column, error.message)),
        }
    }

    fn request(
        &self,
        org: &Name,
        service: &Name,
        block: &Name,
        path: &str,
    ) -> Result<Vec<nbi::Decision>, Unasked> {
        // What was applied just now is watched from now on.
        self.watch_what_runs();
        let learning = self.learning.get().ok_or(Unasked::NotWatched)?;
        let target = TargetId {
            org: org.clone(),
            service: service.clone(),
            block: block.clone(),
        };
        match learning.request(&target, path) {
            Ok(decisions) => Ok(decisions.into_iter().map(shown).collect()),
            Err(learning::Error::NoSuchPath { .. }) => Err(Unasked::NoSuchPath),
            Err(_) => Err(Unasked::NotWatched),
        }
    }
}

fn shown(decision: learning::seam::Decision) -> nbi::Decision {
    nbi::Decision {
        id: decision.id,
        at_ms: decision.at.0,
        mode: match decision.mode {
            Mode::Active => PolicyMode::Active,
            Mode::Shadow => PolicyMode::Shadow,
        },
        inputs: decision.inputs,
        forecast: decision.forecast.map(|forecast| nbi::Forecast {
            model: forecast.model,
            as_of_ms: forecast.as_of.0,
            target_ms: forecast.target.0,
            quantiles: forecast
                .quantiles
                .into_iter()
                .map(|(level, seconds)| (level.to_string(), seconds))
                .collect(),
        }),
        branch: decision.branch,
        action: decision.action,
        alternatives: decision
            .alternatives
            .into_iter()
            .map(|alternative| nbi::Alternative {
                site: alternative.site,
                predicted: alternative.predicted,
                why: alternative.why,
            })
            .collect(),
        outcome: decision.outcome.to_string(),
        times: decision.times,
        violated_at_ms: decision.violated_at.map(|at| at.0),
    }
}

impl Bridge {
    /// Makes the targets those blocks that have a promise.
    fn watch_what_runs(&self) {
        let (Some((controller, _)), Some(learning)) = (self.platform.get(), self.learning.get())
        else {
            return;
        };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone: BTreeSet<TargetId> = watched.keys().cloned().collect();
        for view in controller.blocks() {
            let id = target_id(&view);
            gone.remove(&id);
            if watched.get(&id) == Some(&view.block) {
                continue;
            }
            match target(&view).map(|target| learning.apply(target)) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(service = %view.service, %error, "a block is not watched");
                }
                None => learning.remove(&id),
            }
            watched.insert(id, view.block);
        }
        for id in gone {
            learning.remove(&id);
            watched.remove(&id);
        }
    }

    /// The newest point of a site's series, by its name.
    fn newest(
        &self,
        series: &orchestrator::Series,
        name: &str,
        site: &Name,
        now: Time,
    ) -> Option<Point> {
        let selector = format!("{name}{{site=\"{site}\"}}");
        let selector = orchestrator::Selector::parse(&selector).ok()?;
        let found = series.query(&selector, None, now.0, LOOKBACK).ok()?;
        let (_, point) = found.into_iter().next()?;
        Some(Point {
            at: Time(point.at_ms),
            value: point.value,
        })
    }

    fn block(
        &self,
        (controller, store): &(Orchestrator, Arc<orchestrator::Series>),
        view: &BlockView,
        sites: &[nbi::Site],
        now: Time,
    ) -> BlockSample {
        let BlockKind::CellDeployment(cell) = &view.block.kind;
        let may_be_at = |site: &&nbi::Site| {
            let wanted = view.block.placement.migrate_to.as_ref();
            wanted.is_none_or(|selector| selector.matches(&site.metadata.labels))
        };
        let candidates = sites.iter().filter(may_be_at);
        BlockSample {
            target: target_id(view),
            site: at_one_site(view),
            candidates: candidates.map(|site| site.metadata.name.clone()).collect(),
            cores_max: f64::from(cell.ranks) * f64::from(view.block.replicas),
            series: iterations(store, view, now),
            moves: moves(controller, view),
        }
    }
}

impl Sensor for Bridge {
    fn sample(&self, targets: &[TargetId]) -> Observation {
        let mut observation = Observation::default();
        let (Some(platform), Some(first)) = (self.platform.get(), targets.first()) else {
            return observation;
        };
        let now = Time::of(rt::wall());
        let (controller, series) = platform;
        let sites = match controller.sites(&first.org, None, LIST_MAX) {
            Ok(page) => page.items,
            Err(error) => {
                tracing::warn!(%error, "the sites are not known");
                return observation;
            }
        };
        for site in &sites {
            let name = &site.metadata.name;
            let newest = |series_name| self.newest(series, series_name, name, now);
            observation.sites.push(SiteSample {
                site: name.clone(),
                tier: site.metadata.labels.get("tier").cloned(),
                share: newest("site_cpu_share"),
                used: newest("site_cpu_used"),
                waiting: newest("site_cpu_waiting"),
            });
        }
        let wanted: BTreeSet<&TargetId> = targets.iter().collect();
        for view in controller.blocks() {
            if wanted.contains(&target_id(&view)) {
                observation
                    .blocks
                    .push(self.block(platform, &view, &sites, now));
            }
        }
        observation
    }
}

impl Actuator for Bridge {
    fn migrate(&self, key: &str, target: &TargetId, to: &Name) -> Result<(), ActError> {
        let Some((controller, _)) = self.platform.get() else {
            return Err(ActError::Refused("the controller is starting".into()));
        };
        let spec = MigrationSpec {
            service: target.service.clone(),
            block: Some(target.block.clone()),
            to: nbi::Target::Site(to.clone()),
            ranks: None,
            deadline: None,
            reason: Some(reason(key)),
        };
        let terms = Terms {
            idempotency_key: Some(key.to_owned()),
            ..Terms::default()
        };
        let asked = self
            .runtime
            .block_on(controller.migrate(&target.org, &spec, &terms));
        match asked {
            Ok(_) => Ok(()),
            Err(error) => match error.kind {
                ErrorKind::Unavailable | ErrorKind::Internal => {
                    Err(ActError::Unclear(error.to_string()))
                }
                _ => Err(ActError::Refused(error.to_string())),
            },
        }
    }

    fn observe(&self, key: &str) -> MoveStatus {
        let Some((controller, _)) = self.platform.get() else {
            return MoveStatus::Unreachable;
        };
        let orgs: BTreeSet<Name> = controller
            .blocks()
            .into_iter()
            .map(|view| view.org)
            .collect();
        let wanted = reason(key);
        for org in orgs {
            for migration in all_migrations(controller, &org) {
                if migration.spec.reason.as_ref() != Some(&wanted) {
                    continue;
                }
                return match migration.status.phase.as_str() {
                    "Succeeded" => MoveStatus::Done,
                    phase @ ("RolledBack" | "Failed") => MoveStatus::Failed(phase.to_owned()),
                    _ => MoveStatus::Running,
                };
            }
        }
        MoveStatus::Unknown
    }
}

/// By what a migration of the Learning Plane is found again.
pub(crate) fn reason(key: &str) -> String {
    format!("decision {key} of the Learning Plane")
}

fn all_migrations(controller: &Orchestrator, org: &Name) -> Vec<nbi::Migration> {
    let (mut migrations, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let Ok(page) = controller.migrations(org, cursor.as_deref(), LIST_MAX) else {
            return migrations;
        };
        migrations.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return migrations;
        }
    }
}

fn target_id(view: &BlockView) -> TargetId {
    TargetId {
        org: view.org.clone(),
        service: view.service.clone(),
        block: view.block.name.clone(),
    }
}

/// `None`: nothing is promised, so there is nothing to watch over.
fn target(view: &BlockView) -> Option<Target> {
    let kpi = view.block.kpi.as_ref()?;
    let BlockKind::CellDeployment(cell) = &view.block.kind;
    // The interface has checked both texts.
    let kpi_max = nbi::parse_duration(&kpi.max).ok()?;
    let policy = view.block.policy.as_ref();
    let parsed = match policy.and_then(|policy| policy.text.as_deref()) {
        Some(text) => Policy::parse(text).ok()?,
        None => Policy::standard(),
    };
    let mode = match policy.map(|policy| policy.mode) {
        Some(PolicyMode::Active) => Mode::Active,
        Some(PolicyMode::Shadow) | None => Mode::Shadow,
    };
    Some(Target {
        id: target_id(view),
        kpi_max: Some(kpi_max.as_secs_f64()),
        policy: parsed,
        mode,
        like: format!("{}/{}/{:?}", cell.module, cell.ranks, kpi.iteration),
    })
}

/// Where all of a block is, if that is one site and it does not move.
fn at_one_site(view: &BlockView) -> Option<Name> {
    if view.is_moving {
        return None;
    }
    let mut sites = BTreeSet::new();
    for unit in &view.units {
        let (seen, age) = unit.seen.as_ref()?;
        if *age > workload::link::PERIOD * 3 || seen.phase != workload::Phase::Running {
            return None;
        }
        sites.extend(seen.ranks.iter().map(|rank| &rank.site));
    }
    match sites.into_iter().collect::<Vec<_>>()[..] {
        [site] => Some(site.clone()),
        _ => None,
    }
}

/// The newest key of each replica at each site: another key is another quantity, and the earlier one is over.
fn iterations(store: &orchestrator::Series, view: &BlockView, now: Time) -> Vec<Series> {
    let selector = format!(
        "cell_iteration_seconds{{org=\"{}\",service=\"{}\",block=\"{}\"}}",
        view.org, view.service, view.block.name
    );
    let Ok(selector) = orchestrator::Selector::parse(&selector) else {
        return Vec::new();
    };
    let from = now
        .0
        .saturating_sub(u64::try_from(HISTORY.as_millis()).unwrap_or(0));
    let Ok(found) = store.points(&selector, None, from, now.0) else {
        tracing::warn!(service = %view.service, "there are too many points to look at");
        return Vec::new();
    };
    let mut newest: BTreeMap<(Name, u32), Series> = BTreeMap::new();
    for (key, points) in found {
        let label = |name: &str| key.labels.get(name).cloned();
        let parsed = || {
            Some((
                label("site")?.parse().ok()?,
                label("replica")?.parse().ok()?,
            ))
        };
        let (Some((site, replica)), Some(key)) = (parsed(), label("key")) else {
            continue;
        };
        let points = points.into_iter().map(|point| Point {
            at: Time(point.at_ms),
            value: point.value,
        });
        let series = Series {
            site,
            replica,
            key,
            points: points.collect(),
        };
        let at = |series: &Series| series.points.last().map(|point| point.at);
        let id = (series.site.clone(), replica);
        if newest.get(&id).is_none_or(|known| at(known) < at(&series)) {
            newest.insert(id, series);
        }
    }
    newest.into_values().collect()
}

/// What the last moves of a whole block cost.
fn moves(controller: &Orchestrator, view: &BlockView) -> Vec<MoveCost> {
    let ended = all_migrations(controller, &view.org).into_iter();
    let ended = ended.filter(|migration| {
        let nbi::MigrationSpec {
            service,
            block,
            ranks,
            ..
        } = &migration.spec;
        *service == view.service
            && block.as_ref().is_none_or(|block| *block == view.block.name)
            && ranks.is_none()
            && migration.status.phase == "Succeeded"
    });
    let cost = |migration: nbi::Migration| {
        let history = &migration.status.history;
        let (first, last) = (history.first()?, history.last()?);
        // Ranks move one after the other, and each one's pause holds up the others.
        let pause_ms = migration.status.pause_ms_max * f64::from(migration.status.moved);
        Some(MoveCost {
            took: Duration::from_millis(last.at_ms.saturating_sub(first.at_ms)),
            pause: Duration::try_from_secs_f64(pause_ms / 1e3).ok()?,
        })
    };
    let mut costs: Vec<_> = ended.filter_map(cost).collect();
    costs.drain(..costs.len().saturating_sub(MOVES_MAX));
    costs
}
