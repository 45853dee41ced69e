//! The reconciler against a site that is a model: calls take their time and may fail, observations lag.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ids::{Epoch, Generation};
use proptest::prelude::*;
use workload::{CellSpec, Limits};

use super::*;

const MS: Duration = Duration::from_millis(1);

pub(crate) fn spec(replica: u32, epoch: u64) -> UnitSpec {
    let name = |text: &str| -> Name { text.parse().expect("a name") };
    UnitSpec {
        id: UnitId::new(&name("acme"), &name("video"), &name("decode"), replica),
        epoch: Epoch(epoch),
        kind: Kind::Cell(CellSpec {
            module: "ab".repeat(32).parse().expect("a digest"),
            ranks: 1,
            args: Vec::new(),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            iteration: None,
            checkpoint_every_ms: None,
            limits: Limits {
                memory_bytes_max: 1 << 26,
                log_bytes_max: 1 << 20,
            },
        }),
        home: name("edge"),
        placement: vec![name("edge")],
    }
}

/// What a site is, without drivers: units that run, calls under way, and an observation from a while ago.
struct Model {
    reconciler: Reconciler,
    config: SiteConfig,
    offers: AllOffers,
    lacking: BTreeMap<Digest, String>,
    running: BTreeMap<UnitId, (Epoch, Phase)>,
    observed: BTreeMap<&'static str, Observation>,
    /// (when it ends, whether it fails, what it does)
    calls: Vec<(Duration, bool, Action)>,
    now: Duration,
    /// Every call that began.
    log: Vec<(Duration, Action)>,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            reconciler: Reconciler::default(),
            config: SiteConfig::default(),
            offers: AllOffers::new(),
            lacking: BTreeMap::new(),
            running: BTreeMap::new(),
            observed: [("cell", Observation::default())].into(),
            calls: Vec::new(),
            now: MS,
            log: Vec::new(),
            random: seed | 1,
        }
    }

    fn random(&mut self) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn observe(&mut self) {
        let seen = |(unit, (epoch, phase)): (&UnitId, &(Epoch, Phase))| {
            let mut seen = Observed {
                id: unit.clone(),
                epoch: *epoch,
                is_home: true,
                phase: *phase,
                reason: String::new(),
                offer: None,
                ranks: Vec::new(),
                n_moves: 0,
                moves: Vec::new(),
                restarts: 0,
                exit_code: None,
                log_bytes: 0,
            };
            seen.log_bytes = epoch.0;
            (unit.clone(), seen)
        };
        let observation = Observation {
            at: self.now,
            units: self.running.iter().map(seen).collect(),
        };
        self.observed.insert("cell", observation);
    }

    fn end_calls(&mut self) {
        let (over, under_way) = self.calls.drain(..).partition(|call| call.0 <= self.now);
        self.calls = under_way;
        let over: Vec<_> = over;
        for (_, fails, action) in over {
            let unit = match &action {
                Action::Ensure { spec, .. } => &spec.id,
                Action::Stop { unit, .. } => unit,
            };
            match (&action, fails) {
                (_, true) => {}
                (Action::Stop { unit, .. }, _) => drop(self.running.remove(unit)),
                (Action::Ensure { spec, .. }, _) => {
                    let current = self.running.get(&spec.id);
                    if current.is_none_or(|(epoch, _)| *epoch < spec.epoch) {
                        let started = (spec.epoch, Phase::Running);
                        self.running.insert(spec.id.clone(), started);
                    }
                }
            }
            let failure = Failure {
                why: "not now".into(),
                is_final: false,
            };
            let result = if fails { Err(failure) } else { Ok(()) };
            let jitter = self.random();
            self.reconciler.ended(unit, result, self.now, jitter);
        }
    }

    /// One step of the agent, in which `failing` of 100 new calls are going to fail.
    fn step(&mut self, failing: u64) {
        self.end_calls();
        if self.random().is_multiple_of(3) {
            self.observe();
        }
        let site = "edge".parse().expect("a name");
        let view = View {
            site: &site,
            config: &self.config,
            offers: &self.offers,
            observed: &self.observed,
            lacking: &self.lacking,
        };
        let actions = self.reconciler.step(&view, self.now);
        for action in actions {
            if let Action::Stop { unit, .. } = &action {
                let is_wanted = self.config.units.iter().any(|spec| spec.id == *unit);
                assert!(!is_wanted, "{unit} is configured and may not be stopped");
            }
            let fails = self.random() % 100 < failing;
            let takes = MS * u32::try_from(self.random() % 30).expect("small");
            self.log.push((self.now, action.clone()));
            self.calls.push((self.now + takes, fails, action));
        }
        self.now += MS * 5;
    }

    fn run(&mut self, time: Duration, failing: u64) {
        let end = self.now + time;
        while self.now < end {
            self.step(failing);
        }
    }

    fn assert_converged(&self) {
        let wanted: BTreeMap<_, _> = self.config.units.iter().map(|s| (&s.id, s.epoch)).collect();
        let running: BTreeMap<_, _> = self.running.iter().map(|(u, r)| (u, r.0)).collect();
        assert_eq!(wanted, running);
    }
}

#[derive(Clone, Debug)]
enum Change {
    Configure(Vec<(u32, u64)>),
    Offer(u32),
    /// Something that nobody here has started.
    Appear(u32),
    /// A unit ends by itself.
    End(u32),
    Vanish(u32),
    Wait(u32),
}

fn change() -> impl Strategy<Value = Change> {
    let units = prop::collection::btree_map(0..6_u32, 1..4_u64, 0..5);
    prop_oneof![
        3 => units.prop_map(|units| Change::Configure(units.into_iter().collect())),
        1 => (0..6_u32).prop_map(Change::Offer),
        1 => (0..9_u32).prop_map(Change::Appear),
        1 => (0..6_u32).prop_map(Change::Vanish),
        1 => (0..6_u32).prop_map(Change::End),
        3 => (0..400_u32).prop_map(Change::Wait),
    ]
}

impl Model {
    fn apply(&mut self, change: Change) {
        let id = |replica| spec(replica, 0).id;
        match change {
            Change::Configure(units) => {
                self.config.generation = self.config.generation.next();
                // Epochs never go back: what runs has at most the configured one.
                let mut newest = |(replica, epoch): (u32, u64)| {
                    let running = self.running.get(&id(replica)).map_or(0, |r| r.0.0);
                    let calls = self.log.iter().filter_map(|(_, action)| match action {
                        Action::Ensure { spec, .. } if spec.id == id(replica) => Some(spec.epoch.0),
                        _ => None,
                    });
                    spec(replica, calls.chain([running, epoch]).max().expect("some"))
                };
                self.config.units = units.into_iter().map(&mut newest).collect();
            }
            Change::Offer(replica) => {
                let text = self.random().to_string();
                let offers = [("cloud".parse().expect("a name"), text)].into();
                let epoch = self.config.units.iter().find(|spec| spec.id == id(replica));
                let epoch = epoch.map_or(Epoch(0), |spec| spec.epoch);
                self.offers.insert(id(replica), (epoch, offers));
            }
            Change::Appear(replica) => {
                let orphan = (Epoch(0), Phase::Running);
                self.running.entry(id(replica)).or_insert(orphan);
            }
            Change::End(replica) => {
                if let Some((_, phase)) = self.running.get_mut(&id(replica)) {
                    *phase = Phase::Succeeded;
                }
            }
            Change::Vanish(replica) => drop(self.running.remove(&id(replica))),
            Change::Wait(ms) => self.run(MS * ms, 30),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happened before: once the world stands still, what is configured runs and nothing else does, and then there is calm.
    #[test]
    fn it_converges_and_then_is_calm(seed: u64, changes in prop::collection::vec(change(), 1..30)) {
        let mut model = Model::new(seed);
        for change in changes {
            model.apply(change);
            model.step(30);
        }
        model.run(DELAY_MAX * 2 + REFRESH, 0);
        model.assert_converged();
        let calls = model.log.len();
        model.run(REFRESH * 4, 0);
        model.assert_converged();
        let calls = model.log.len() - calls;
        prop_assert!(calls <= 5 * model.config.units.len(), "{calls} calls in four periods");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Calls that fail for ever come ever more seldom, however often the agent looks.
    #[test]
    fn there_are_no_storms(seed: u64, units in 1..6_u32) {
        let mut model = Model::new(seed);
        model.config.units = (0..units).map(|replica| spec(replica, 1)).collect();
        model.running.insert(spec(8, 0).id, (Epoch(1), Phase::Running));
        model.run(Duration::from_secs(60), 100);
        let mut by_unit = BTreeMap::<String, usize>::new();
        for (_, action) in &model.log {
            let unit = match action {
                Action::Ensure { spec, .. } => &spec.id,
                Action::Stop { unit, .. } => unit,
            };
            *by_unit.entry(unit.to_string()).or_default() += 1;
        }
        prop_assert_eq!(by_unit.len(), units as usize + 1);
        // 50 ms, doubled seven times, is 5 s; then at most every 2.5 s.
        prop_assert!(by_unit.values().all(|calls| (10..=36).contains(calls)), "{:?}", by_unit);
    }
}

#[test]
fn what_is_final_or_newer_is_left_alone() {
    let mut model = Model::new(1);
    model.config.units = (0..5).map(|replica| spec(replica, 2)).collect();
    let phases = [Phase::Succeeded, Phase::Failed, Phase::Lost];
    for (replica, phase) in (0..).zip(phases) {
        model.running.insert(spec(replica, 0).id, (Epoch(2), phase));
    }
    let newer = (Epoch(3), Phase::Running);
    model.running.insert(spec(3, 0).id, newer);
    model.observe();
    model.run(REFRESH * 3, 0);
    let touched = model.log.iter().map(|(_, action)| match action {
        Action::Ensure { spec, .. } => spec.id.clone(),
        Action::Stop { unit, .. } => unit.clone(),
    });
    assert_eq!(touched.collect::<BTreeSet<_>>(), [spec(4, 0).id].into());
}

#[test]
fn what_cannot_run_is_not_tried_again_until_its_spec_is_new() {
    let mut model = Model::new(1);
    model.config.units = vec![spec(0, 1)];
    let invalid = |model: &mut Model| {
        model.observe();
        let site = "edge".parse().expect("a name");
        let view = View {
            site: &site,
            config: &model.config,
            offers: &model.offers,
            observed: &model.observed,
            lacking: &model.lacking,
        };
        let actions = model.reconciler.step(&view, model.now).len();
        if actions > 0 {
            let failure = Failure {
                why: "it has no memory".into(),
                is_final: true,
            };
            model
                .reconciler
                .ended(&spec(0, 1).id, Err(failure), model.now, 0);
        }
        let report = model.reconciler.report(&view, model.now);
        model.now += REFRESH * 2;
        (actions, report[0].phase, report[0].reason.clone())
    };
    let failed = |actions| (actions, Phase::Failed, "it has no memory".to_owned());
    assert_eq!(invalid(&mut model), failed(1));
    assert_eq!(invalid(&mut model), failed(0));
    model.config.units[0].epoch = Epoch(2);
    assert_eq!(invalid(&mut model), failed(1));
}

#[test]
fn a_unit_waits_for_its_module_and_says_so() {
    let mut model = Model::new(1);
    model.config = SiteConfig {
        generation: Generation(1),
        units: vec![spec(0, 1)],
    };
    let Kind::Cell(cell) = spec(0, 1).kind;
    model
        .lacking
        .insert(cell.module, "its module is on the way".into());
    model.run(REFRESH * 3, 0);
    assert_eq!(model.log, []);
    let site = "edge".parse().expect("a name");
    let view = View {
        site: &site,
        config: &model.config,
        offers: &model.offers,
        observed: &model.observed,
        lacking: &model.lacking,
    };
    let report = model.reconciler.report(&view, model.now);
    assert_eq!(report[0].phase, Phase::Pending);
    assert_eq!(report[0].reason, "its module is on the way");
    model.lacking.clear();
    model.run(REFRESH, 0);
    model.assert_converged();
}

#[test]
fn an_old_observation_leads_to_nothing_new() {
    let mut model = Model::new(1);
    model.config.units = vec![spec(0, 1)];
    let observed_before = model.observed.clone();
    model.run(MS * 200, 0);
    assert_eq!(model.log.len(), 1);
    // The observer hangs: what it last saw is from before the call.
    for _ in 0..1_000 {
        model.observed.clone_from(&observed_before);
        model.end_calls();
        let site = "edge".parse().expect("a name");
        let view = View {
            site: &site,
            config: &model.config,
            offers: &model.offers,
            observed: &model.observed,
            lacking: &model.lacking,
        };
        assert_eq!(model.reconciler.step(&view, model.now), []);
        model.now += MS * 50;
    }
}

#[test]
fn offers_of_another_incarnation_are_not_passed_on() {
    let mut model = Model::new(1);
    model.config.units = vec![spec(0, 2), spec(1, 2)];
    model.apply(Change::Offer(1));
    let old = [("cloud".parse().expect("a name"), "old".to_owned())].into();
    model.offers.insert(spec(0, 0).id, (Epoch(1), old));
    model.run(REFRESH, 0);
    let offers = |(_, action): &(Duration, Action)| match action {
        Action::Ensure { spec, offers, .. } => (spec.id.replica(), offers.len()),
        Action::Stop { unit, .. } => panic!("{unit} is configured"),
    };
    let offers: BTreeSet<_> = model.log.iter().map(offers).collect();
    assert_eq!(offers, [(0, 0), (1, 1)].into());
}
