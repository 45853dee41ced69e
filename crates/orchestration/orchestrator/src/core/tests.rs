//! The planner and migrations against a small world of sites that come, go, lag and move ranks one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ids::{Labels, Name, UnitId};
use nbi::MigrationSpec;
use proptest::prelude::*;
use serde_json::json;
use workload::link::PERIOD;
use workload::{Observed, Phase, RankAt, SiteConfig, UnitSpec};

use super::bench::{PlanBench, one_block, reporting};
use super::blueprint::{Blueprint, Changes, SiteTarget};
use super::inventory::{Now, Report, Site, Sites, last_report};
use super::migration::{self, Migration, Start};
use super::plan::{self, Input, Plan};
use super::project;
use super::spec::ServicePolicy;
use crate::ErrorKind;

const SITES: usize = 4;
const SERVICES: usize = 4;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// Selectors that overlap.
fn wish(n: usize) -> Labels {
    match n % 4 {
        0 => labels(&[]),
        1 => labels(&[("tier", "edge")]),
        2 => labels(&[("tier", "edge"), ("zone", "1")]),
        _ => labels(&[("tier", "mars")]),
    }
}

#[derive(Clone, Debug)]
enum Action {
    /// The site joins, or changes its labels.
    Join(usize, usize),
    Silence(usize),
    /// The site takes its newest configuration, acts on it, and reports.
    Step(usize),
    Apply(usize, usize, u32),
    Delete(usize),
    Migrate(usize, usize, bool),
    /// Every site reports again, and deadlines pass.
    Wait,
    Succeed(usize),
    /// The site does not come back, if nothing is wanted there.
    Forget(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => (0..SITES, 0..3usize).prop_map(|(site, kind)| Action::Join(site, kind)),
        1 => (0..SITES).prop_map(Action::Silence),
        8 => (0..SITES).prop_map(Action::Step),
        3 => (0..SERVICES, 0..4usize, 0..3u32).prop_map(|(s, w, n)| Action::Apply(s, w, n)),
        1 => (0..SERVICES).prop_map(Action::Delete),
        4 => (0..SERVICES, 0..SITES, any::<bool>()).prop_map(|(s, t, all)| Action::Migrate(s, t, all)),
        1 => Just(Action::Wait),
        1 => (0..SERVICES).prop_map(Action::Succeed),
        1 => (0..SITES).prop_map(Action::Forget),
    ];
    prop::collection::vec(action, 1..60)
}

/// Where a rank really is, or is on its way to.
#[derive(Clone, Debug, PartialEq)]
struct Rank {
    site: Name,
    moving_to: Option<Name>,
}

#[derive(Debug, Default)]
struct World {
    services: BTreeMap<Name, Arc<ServicePolicy>>,
    sites: Sites,
    blueprint: Blueprint,
    migrations: Vec<Arc<Migration>>,
    now: Now,
    /// What each site has taken.
    configs: BTreeMap<Name, SiteConfig>,
    /// What the home of each unit knows.
    ranks: BTreeMap<(UnitId, u64), Vec<Rank>>,
    succeeded: BTreeSet<(UnitId, u64)>,
}

impl World {
    fn act(&mut self, action: &Action) {
        let site = |n: usize| name(&format!("site-{n}"));
        let service = |n: usize| name(&format!("service-{n}"));
        match action {
            Action::Join(n, kind) => {
                let labels = match kind {
                    0 => labels(&[("tier", "edge"), ("zone", "1")]),
                    1 => labels(&[("tier", "edge"), ("zone", "2")]),
                    _ => labels(&[("tier", "cloud")]),
                };
                self.join(site(*n), labels, 1 + n);
            }
            Action::Silence(n) => {
                if let Some(site) = self.sites.get_mut(&site(*n)) {
                    Arc::make_mut(site).report = None;
                }
            }
            Action::Step(n) => self.step(&site(*n)),
            Action::Apply(n, wished, replicas) => {
                let mut policy = one_block(&service(*n), wish(*wished));
                policy.blocks[0].replicas = *replicas;
                self.services.insert(service(*n), Arc::new(policy));
            }
            Action::Delete(n) => drop(self.services.remove(&service(*n))),
            Action::Migrate(n, target, all) => self.migrate(&service(*n), &site(*target), *all),
            Action::Wait => {
                self.now.wall_ms += 100_000;
            }
            Action::Succeed(n) => {
                let ranks = self
                    .ranks
                    .keys()
                    .filter(|(id, _)| id.service() == service(*n).as_str());
                self.succeeded.extend(ranks.cloned());
            }
            Action::Forget(n) => self.forget(&site(*n)),
        }
    }

    fn forget(&mut self, site: &Name) {
        let mut under_way = self.migrations.iter();
        let is_wanted = self.blueprint.site_units(site.as_str()).next().is_some()
            || under_way.any(|migration| !migration.phase.is_final() && migration.to == *site);
        if !is_wanted && self.sites.remove(site).is_some() {
            self.configs.remove(site);
            let changes = self.blueprint.forgetting(site);
            self.blueprint = self.blueprint.then(&changes);
            self.blueprint
                .set_site_target(site.clone(), SiteTarget::default());
            assert_eq!(self.blueprint.leaving_from(site.as_str()).next(), None);
        }
    }

    fn join(&mut self, site: Name, labels: Labels, cpu_share: usize) {
        let before = self.sites.get(&site).and_then(|site| site.report.clone());
        let mut joined = reporting(labels, cpu_share);
        joined.report = before;
        self.sites.insert(site, Arc::new(joined));
    }

    fn migrate(&mut self, service: &Name, target: &Name, all: bool) {
        let Some(policy) = self.services.get(service) else {
            return;
        };
        let mut spec = json!({"service": service, "to": {"site": target}, "deadline": "30s"});
        if !all {
            spec["ranks"] = json!([1, 3]);
        }
        let spec: MigrationSpec = serde_json::from_value(spec).expect("a migration");
        let is_busy = |migration: &Arc<Migration>| {
            !migration.phase.is_final() && migration.spec.service == *service
        };
        if self.migrations.iter().any(is_busy) {
            return;
        }
        let id = format!("{:04}", self.migrations.len());
        let start = Start {
            policy,
            blueprint: &self.blueprint,
            sites: &self.sites,
            now: self.now,
            id: &id,
            operation: &id,
        };
        match migration::begin(start, &spec) {
            Ok(migration) => self.migrations.push(Arc::new(migration)),
            Err(error) => assert!(matches!(
                error.kind,
                ErrorKind::Conflict | ErrorKind::Invalid
            )),
        }
    }

    /// A site takes its configuration and acts on it: every rank that shall be elsewhere sets out, every one on its way arrives.
    fn step(&mut self, site: &Name) {
        if !self.sites.contains_key(site) {
            return;
        }
        let config = self.blueprint.site_config(site.as_str());
        let taken = self.configs.entry(site.clone()).or_default();
        assert!(config.generation >= taken.generation);
        if config.generation > taken.generation {
            *taken = config;
            self.check_nothing_is_dropped(site);
            self.check_nothing_runs_twice();
        }
        let config = self.configs[site].clone();
        for spec in config.units.iter().filter(|spec| spec.home == *site) {
            self.move_ranks(spec);
        }
        self.report(site, &config);
    }

    fn move_ranks(&mut self, spec: &UnitSpec) {
        let start = |_: &Name| Rank {
            site: spec.home.clone(),
            moving_to: None,
        };
        let key = (spec.id.clone(), spec.epoch.0);
        let begin = || spec.placement.iter().map(start).collect();
        let ranks = self.ranks.entry(key.clone()).or_insert_with(begin);
        if self.succeeded.contains(&key) {
            return;
        }
        for (rank, wanted) in ranks.iter_mut().zip(&spec.placement) {
            if let Some(to) = rank.moving_to.take() {
                rank.site = to;
            } else if rank.site != *wanted {
                // It can only go where the other part is there already.
                let is_there = self.configs.get(wanted).is_some_and(|config| {
                    config
                        .units
                        .iter()
                        .any(|unit| unit.id == spec.id && unit.epoch == spec.epoch)
                });
                rank.moving_to = is_there.then(|| wanted.clone());
            }
        }
    }

    /// A site is never told to give up its part of a unit that has a rank there, or one on the way.
    fn check_nothing_is_dropped(&self, site: &Name) {
        let config = &self.configs[site];
        for ((id, epoch), ranks) in &self.ranks {
            let planned = self.blueprint.units().get(id);
            let is_current = planned.is_some_and(|planned| planned.spec.epoch.0 == *epoch);
            let is_here = ranks
                .iter()
                .any(|rank| rank.site == *site || rank.moving_to.as_ref() == Some(site));
            if is_current && is_here && !self.succeeded.contains(&(id.clone(), *epoch)) {
                let has_part = config.units.iter().any(|spec| spec.id == *id);
                assert!(has_part, "{site} drops {id} with ranks {ranks:?}");
            }
        }
    }

    /// No two incarnations of a unit have parts at the same time.
    fn check_nothing_runs_twice(&self) {
        let mut epochs = BTreeMap::new();
        for (site, config) in &self.configs {
            for spec in &config.units {
                let epoch = *epochs.entry(&spec.id).or_insert(spec.epoch);
                assert_eq!(epoch, spec.epoch, "{} runs twice: {site}", spec.id);
            }
        }
    }

    fn report(&mut self, site: &Name, config: &SiteConfig) {
        let unit = |spec: &UnitSpec| {
            let is_home = spec.home == *site;
            let key = (spec.id.clone(), spec.epoch.0);
            let ranks = if is_home {
                self.ranks[&key].as_slice()
            } else {
                &[]
            };
            let at = |(rank, place): (u32, &Rank)| RankAt {
                rank,
                site: place.site.clone(),
                state: if place.moving_to.is_some() {
                    "moving"
                } else {
                    "running"
                }
                .to_owned(),
            };
            let observed = Observed {
                id: spec.id.clone(),
                epoch: spec.epoch,
                is_home,
                phase: if self.succeeded.contains(&key) {
                    Phase::Succeeded
                } else {
                    Phase::Running
                },
                reason: String::new(),
                offer: None,
                ranks: (0..).zip(ranks).map(at).collect(),
                n_moves: 0,
                moves: Vec::new(),
                restarts: 0,
                exit_code: None,
                log_bytes: 0,
            };
            (spec.id.clone(), observed)
        };
        let report = Report {
            at_ms: self.now.mono_ms,
            generation: config.generation,
            refused: None,
            conditions: Vec::new(),
            units: config.units.iter().map(unit).collect(),
        };
        let site = self.sites.get_mut(site).expect("it is there");
        Arc::make_mut(site).report = Some(Arc::new(report));
    }

    /// What the tasks do: migrations advance, and a blueprint is made.
    fn settle(&mut self) {
        for migration in &mut self.migrations {
            if let Some(next) = migration.advance(&self.blueprint, &self.sites, self.now) {
                assert_eq!(next.advance(&self.blueprint, &self.sites, self.now), None);
                *migration = Arc::new(next);
            }
        }
        let services: Vec<_> = self.services.values().cloned().collect();
        let under_way = self
            .migrations
            .iter()
            .filter(|migration| !migration.phase.is_final());
        let under_way: Vec<_> = under_way.cloned().collect();
        let migrations: Vec<_> = under_way.iter().map(Arc::as_ref).collect();
        let input = |parent| Input {
            services: &services,
            sites: &self.sites,
            parent,
            migrations: &migrations,
            now: self.now,
        };
        let plan = plan::plan(input(&self.blueprint));
        assert_eq!(
            plan,
            plan::plan(input(&self.blueprint)),
            "it is deterministic"
        );
        let next = if plan.changes.is_empty() {
            self.blueprint.clone()
        } else {
            self.blueprint.then(&plan.changes)
        };
        let again = plan::plan(input(&next));
        assert_eq!(again.changes, Changes::default(), "it is a fixpoint");
        assert_eq!(again.pending, plan.pending);
        self.check(&plan, &next, &migrations);
        self.blueprint = next;
    }

    fn check(&self, plan: &Plan, next: &Blueprint, migrations: &[&Migration]) {
        for (id, planned) in next.units() {
            assert!(!plan.pending.contains_key(id));
            let spec = &planned.spec;
            let block = &self.services[id.service()].blocks[0];
            assert!(id.replica() < block.replicas);
            assert!(planned.reasons.iter().map(String::len).sum::<usize>() < 2048);
            let Some(before) = self
                .blueprint
                .units()
                .get(id)
                .filter(|p| p.spec.epoch == spec.epoch)
            else {
                let site = &self.sites[&spec.home];
                assert!(
                    block.selector.matches(&site.facts.labels) && site.unfit(self.now).is_none()
                );
                assert!(spec.placement.iter().all(|place| *place == spec.home));
                assert_eq!(spec.epoch.0, next.generation.0);
                continue;
            };
            assert_eq!(before.spec.home, spec.home);
            for (rank, (old, new)) in (0..).zip(before.spec.placement.iter().zip(&spec.placement)) {
                let wants = |migration: &&Migration| {
                    let unit = migration.units.get(id);
                    unit.is_some_and(|unit| {
                        migration.wish(unit).any(|(r, to)| r == rank && to == *new)
                    })
                };
                assert!(
                    old == new || migrations.iter().any(wants),
                    "{id} is moved by nobody"
                );
            }
        }
        let wanted = self
            .services
            .values()
            .map(|policy| policy.blocks[0].replicas as usize)
            .sum::<usize>();
        assert_eq!(wanted, next.units().len() + plan.pending.len());
        for site in self.sites.keys() {
            let (old, new) = (
                self.blueprint.site_config(site.as_str()),
                next.site_config(site.as_str()),
            );
            assert_eq!(
                old.units != new.units,
                old.generation < new.generation,
                "{site}"
            );
        }
    }

    /// All sites are heard, again and again.
    fn heal(&mut self) {
        for _ in 0..12 {
            self.settle();
            for n in 0..SITES {
                self.step(&name(&format!("site-{n}")));
            }
            self.now.wall_ms += 20_000;
        }
        self.settle();
    }

    fn check_healed(&self) {
        for migration in &self.migrations {
            assert!(migration.phase.is_final(), "{migration:?}");
        }
        assert!(self.blueprint.leaving().is_empty());
        for planned in self.blueprint.units().values() {
            assert_eq!(planned.draining, BTreeSet::new());
            let seen = last_report(&self.sites, &planned.spec).expect("it was heard");
            if !seen.phase.is_final() {
                let places = seen.ranks.iter().map(|at| &at.site);
                assert!(places.eq(&planned.spec.placement), "{planned:?} {seen:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_planner_terminates_keeps_what_runs_and_converges(actions in actions()) {
        converge(&actions);
    }
}

fn converge(actions: &[Action]) {
    let mut world = World::default();
    for action in actions {
        world.act(action);
        world.settle();
    }
    world.heal();
    world.check_healed();
}

/// What its ranks were about when it ended is in the last report of its home for ever.
#[test]
fn a_unit_that_ends_on_its_way_back_leaves_where_it_was() {
    use Action::{Apply, Join, Migrate, Step, Succeed};
    converge(&[
        Join(1, 0),
        Join(3, 0),
        Step(3),
        Step(1),
        Apply(0, 0, 1),
        Migrate(0, 1, false),
        Step(1),
        Step(3),
        Step(3),
        Migrate(0, 3, false),
        Step(3),
        Succeed(0),
    ]);
}

#[test]
fn a_large_fleet_is_planned_in_a_second() {
    let bench = PlanBench::new(2_000, 10_000);
    let started = rt::now();
    assert_eq!(bench.plan(), 10_000);
    // The bound is for machines that do other things meanwhile.
    let elapsed = started.elapsed();
    assert!(elapsed.as_secs() < 5, "{elapsed:?}");
}

#[test]
fn units_are_spread_by_the_share_that_each_rank_gets() {
    let bench = PlanBench::new(14, 140);
    let parent = Blueprint::default();
    let plan = plan::plan(bench.input(&parent));
    let next = parent.then(&plan.changes);
    // Of sites with the same labels, none has much more for each rank than another.
    let mut shares: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for (site, facts) in bench.input(&parent).sites {
        let n_units = u32::try_from(next.site_units(site.as_str()).count()).expect("few");
        let share = facts.facts.cpu_share / f64::from(n_units.max(1));
        shares
            .entry(facts.facts.labels.get("tier"))
            .or_default()
            .push(share);
    }
    assert_eq!(next.units().len() + plan.pending.len(), 140);
    for shares in shares.values() {
        let (least, most) = shares
            .iter()
            .fold((f64::MAX, 0.0), |(l, m), s| (s.min(l), s.max(m)));
        assert!(most < 3.0 * least, "{shares:?}");
    }
}

#[test]
fn why_there_is_no_place() {
    let check = |sites: Sites, expected: &[&str]| {
        let policy = [Arc::new(one_block(
            &name("va"),
            labels(&[("tier", "edge")]),
        ))];
        let plan = plan::plan(Input {
            services: &policy,
            sites: &sites,
            parent: &Blueprint::default(),
            migrations: &[],
            now: Now::default(),
        });
        let reasons: Vec<_> = plan
            .pending
            .values()
            .flatten()
            .map(String::as_str)
            .collect();
        assert_eq!(reasons, expected);
        assert_eq!(plan.changes, Changes::default());
    };
    let silent = || Site {
        report: None,
        ..reporting(labels(&[("tier", "edge")]), 1)
    };
    let cloud = || reporting(labels(&[("tier", "cloud")]), 1);
    let sites = |n, site: &dyn Fn(usize) -> Site| -> Sites {
        (0..n)
            .map(|idx| (name(&format!("s{idx}")), Arc::new(site(idx))))
            .collect()
    };
    check(Sites::new(), &["no site has joined yet"]);
    check(
        sites(2, &|idx| if idx == 0 { silent() } else { cloud() }),
        &[
            "s0: it has not reported yet",
            "s1: it does not have the label tier=edge",
        ],
    );
    check(
        sites(20, &|idx| if idx < 3 { silent() } else { cloud() }),
        &[
            "17 sites do not have the labels tier=edge",
            "3 sites have the labels, but are full, do not report, or wait for an operator",
        ],
    );
}

/// A world with a site of every tier, and services on the first of them.
fn filled(services: &[(usize, u32, usize)]) -> World {
    let mut world = World::default();
    for action in [Action::Join(0, 0), Action::Join(1, 2), Action::Step(0)] {
        world.act(&action);
    }
    world.act(&Action::Step(1));
    for (service, replicas, arg_bytes) in services {
        world.act(&Action::Apply(*service, 1, *replicas));
        let policy = world.services.get_mut(&name(&format!("service-{service}")));
        let policy = Arc::make_mut(policy.expect("it was applied"));
        let workload::Kind::Cell(cell) = &mut policy.blocks[0].kind;
        cell.args = vec!["x".repeat(*arg_bytes)];
    }
    world
}

fn pending(world: &World) -> BTreeMap<UnitId, Vec<String>> {
    let services: Vec<_> = world.services.values().cloned().collect();
    let input = Input {
        services: &services,
        sites: &world.sites,
        parent: &world.blueprint,
        migrations: &[],
        now: world.now,
    };
    plan::plan(input).pending
}

#[test]
fn a_site_is_given_no_more_than_it_takes() {
    let check = |services: &[(usize, u32, usize)], n_placed: usize, reason: &str| {
        let mut world = filled(services);
        world.settle();
        let config = world.blueprint.site_config("site-0");
        assert_eq!(config.units.len(), n_placed);
        let text = serde_json::to_vec(&config).expect("it is JSON");
        assert!(text.len() + 100 < workload::link::HEADER_BYTES_MAX);
        let pending = pending(&world);
        let wanted: u32 = services.iter().map(|(_, replicas, _)| replicas).sum();
        assert_eq!(pending.len() + n_placed, wanted as usize);
        for reasons in pending.values() {
            assert!(reasons[0].contains(reason), "{reasons:?}");
        }
    };
    check(
        &[(0, 1020, 1), (1, 9, 1)],
        1024,
        "it has 1024 units, of 1024",
    );
    check(
        &[(0, 10, 500_000), (1, 9, 500_000)],
        14,
        "bytes, of 7340032",
    );
}

#[test]
fn nothing_is_moved_to_a_site_that_is_full() {
    let mut world = filled(&[(0, 1023, 1)]);
    for (service, wish) in [(1, 0), (2, 0)] {
        world.act(&Action::Apply(service, wish, 1));
    }
    world.settle();
    let full = world.blueprint.site_config("site-0").units.len();
    let other = world.blueprint.site_config("site-1").units.len();
    assert_eq!((full, other), (1023, 2));
    // One has room, two have not: the first that asks is taken on, and the second is refused, or held back.
    world.act(&Action::Migrate(1, 0, true));
    world.act(&Action::Migrate(2, 0, true));
    assert_eq!(world.migrations.len(), 2, "neither knows of the other");
    world.settle();
    assert_eq!(world.blueprint.site_config("site-0").units.len(), 1024);
    world.services.remove(&name("service-1"));
    world.act(&Action::Apply(3, 1, 1));
    world.settle();
    assert_eq!(world.blueprint.site_config("site-0").units.len(), 1024);
    let policy = Arc::clone(&world.services[&name("service-2")]);
    let spec = json!({"service": "service-2", "to": {"site": "site-0"}});
    let start = Start {
        policy: &policy,
        blueprint: &world.blueprint,
        sites: &world.sites,
        now: world.now,
        id: "9",
        operation: "9",
    };
    let spec = serde_json::from_value(spec).expect("a migration");
    let begun = migration::begin(start, &spec).map(drop);
    let is_there = world
        .blueprint
        .site_units("site-0")
        .any(|id| id.service() == "service-2");
    assert_eq!(begun.is_err(), !is_there);
}

#[test]
fn nothing_is_moved_to_a_site_that_was_forgotten_meanwhile() {
    let mut world = filled(&[(0, 1, 1)]);
    world.settle();
    world.act(&Action::Step(0));
    world.act(&Action::Migrate(0, 1, true));
    assert_eq!(world.migrations.len(), 1);
    world.sites.remove(&name("site-1"));
    world.heal();
    assert_eq!(world.blueprint.site_units("site-1").next(), None);
    world.check_healed();
}

#[test]
fn a_stale_report_counts_for_nothing_but_an_end() {
    let mut world = World::default();
    world.act(&Action::Join(0, 0));
    world.act(&Action::Step(0));
    world.act(&Action::Apply(0, 1, 1));
    world.settle();
    let policy = Arc::clone(&world.services[&name("service-0")]);
    let pending = BTreeMap::new();
    let phases = |world: &World, now: Now| {
        let view = project::View {
            blueprint: &world.blueprint,
            sites: &world.sites,
            pending: &pending,
            now,
        };
        let status = project::service(view, &policy, 1, false);
        (status.phase, status.units[0].phase.clone())
    };
    let text = |service: &str, unit: &str| (service.to_owned(), unit.to_owned());
    let later = Now {
        mono_ms: u64::try_from(PERIOD.as_millis()).expect("short") * 3 + 1,
        ..world.now
    };
    assert_eq!(phases(&world, world.now), text("Progressing", "Pending"));
    assert_eq!(phases(&world, later), text("Unknown", "Unknown"));
    world.act(&Action::Step(0));
    assert_eq!(phases(&world, world.now), text("InSync", "Running"));
    assert_eq!(phases(&world, later), text("Unknown", "Unknown"));
    world.act(&Action::Succeed(0));
    world.act(&Action::Step(0));
    assert_eq!(phases(&world, later), text("Succeeded", "Succeeded"));
}

#[test]
fn nothing_is_in_order_before_its_site_has_said_so() {
    let mut world = World::default();
    for action in [Action::Join(0, 0), Action::Join(1, 2), Action::Step(0)] {
        world.act(&action);
    }
    world.act(&Action::Step(1));
    world.act(&Action::Apply(0, 1, 1));
    world.settle();
    world.act(&Action::Step(0));
    let shown = |world: &World, generation: u64| {
        let pending = BTreeMap::new();
        let view = project::View {
            blueprint: &world.blueprint,
            sites: &world.sites,
            pending: &pending,
            now: world.now,
        };
        let policy = &world.services[&name("service-0")];
        let status = project::service(view, policy, generation, false);
        let unit = &status.units[0];
        let reason = unit.reason.clone();
        assert_eq!(unit.phase, "Running");
        (status.phase, status.observed_generation, reason)
    };
    let expect = |phase: &str, generation: u64, reason: &str| {
        (phase.to_owned(), generation, reason.to_owned())
    };
    assert_eq!(shown(&world, 1), expect("InSync", 1, ""));

    // It changes, and its site refuses that.
    let mut changed = (*world.services[&name("service-0")]).clone();
    let workload::Kind::Cell(cell) = &mut changed.blocks[0].kind;
    cell.checkpoint_every_ms = Some(1);
    world.services.insert(name("service-0"), Arc::new(changed));
    world.settle();
    let site = world.sites.get_mut("site-0").expect("it has joined");
    let report = Arc::make_mut(site).report.as_mut().expect("it has spoken");
    Arc::make_mut(report).refused = Some("no".to_owned());
    let reason = "site site-0 has not taken what is planned for it: no";
    assert_eq!(shown(&world, 2), expect("Progressing", 1, reason));
    world.act(&Action::Step(0));
    assert_eq!(shown(&world, 2), expect("InSync", 2, ""));

    // It shall move, and where it shall be nobody is ready.
    world.act(&Action::Migrate(0, 1, true));
    world.settle();
    world.act(&Action::Step(0));
    let reason = "rank 0 is at site-0, and shall be at site-1";
    assert_eq!(shown(&world, 2), expect("Progressing", 2, reason));
    for site in [1, 0, 0] {
        world.act(&Action::Step(site));
        world.settle();
    }
    assert_eq!(shown(&world, 2), expect("InSync", 2, ""));
}

#[test]
fn times_are_written_as_people_write_them() {
    for (ms, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
        (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(project::rfc3339(ms), expected);
    }
}
