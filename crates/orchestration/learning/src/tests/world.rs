//! A simulated world: two or more sites, one block, an actuator with faults, and the Plane with its ledger on a real disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ids::Name;

use crate::config::Config;
use crate::core::ledger::Record;
use crate::core::plane::{Answer, Effect, Plane};
use crate::core::policy::Policy;
use crate::decision::{Decision, Mode, Target};
use crate::seam::{
    ActError, BlockSample, MoveCost, MoveStatus, Observation, Point, Series, SiteSample, TargetId,
    Time,
};
use crate::store::Store;

/// The iteration time when nobody disturbs, and the KPI, seconds.
const BASE: f64 = 0.1;
pub(super) const KPI: f64 = 3.5 * BASE;
/// The cores that the program wants.
const CORES: f64 = 3.0;
const START: Time = Time(1_700_000_000_000);

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed, nearly.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn target_id() -> TargetId {
    TargetId {
        org: name("acme"),
        service: name("video"),
        block: name("decode"),
    }
}

/// Seconds since the world began.
pub(super) fn at(time: Time) -> f64 {
    time.since(START).as_secs_f64()
}

/// How the actuator answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    Refuses,
    /// It accepts, and the answer is lost.
    LosesAnswers,
    /// The request is lost on its way.
    LosesRequests,
    /// It never returns from `migrate`.
    Hangs,
    /// All its answers come twice.
    Doubles,
    /// It accepts, and fails later.
    FailsLater,
    /// Not the actuator's: the ledger takes nothing.
    DiskFull,
}

/// Where the process dies, counted over all steps of carrying out effects.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    pub at: Option<usize>,
    pub steps: usize,
}

pub(super) struct World {
    pub now: Time,
    pub random: Random,
    /// Share, and what others demand, by site.
    pub sites: BTreeMap<Name, (f64, f64)>,
    pub block_at: Name,
    moving: Option<(String, Name, Time)>,
    pub noise: f64,
    /// Multiplies the next iteration times.
    pub factor: f64,
    pub fault: Fault,
    pub move_takes: Duration,
    /// What the actuator knows, and how often it was called.
    pub known: BTreeMap<String, MoveStatus>,
    pub calls: Vec<String>,
    pub asked: usize,
    /// Every change of place.
    pub moves: Vec<(Time, Name)>,
    /// What is not in the next samples.
    pub without_block: bool,
    pub without_series: bool,
    pub without_sites: bool,
    pub frozen_series: bool,
    /// How long a measurement is on its way.
    pub late: Duration,
    /// What earlier moves are said to have cost.
    pub costs: Vec<MoveCost>,
    points: Vec<Point>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: START,
            random: Random(seed),
            sites: BTreeMap::from([(name("edge"), (1.0, 0.0)), (name("cloud"), (4.0, 0.5))]),
            block_at: name("edge"),
            moving: None,
            noise: 0.05,
            factor: 1.0,
            fault: Fault::None,
            move_takes: Duration::from_secs(1),
            known: BTreeMap::new(),
            calls: Vec::new(),
            asked: 0,
            moves: Vec::new(),
            without_block: false,
            without_series: false,
            without_sites: false,
            frozen_series: false,
            late: Duration::ZERO,
            costs: vec![MoveCost {
                took: Duration::from_secs(1),
                pause: Duration::from_millis(200),
            }],
            points: Vec::new(),
        }
    }

    /// What others demand at the edge, in multiples of the program.
    pub(super) fn burn(&mut self, burners: f64) {
        self.sites.get_mut("edge").expect("a site").1 = burners * CORES;
    }

    fn demand(&self, site: &Name) -> f64 {
        let own = if self.block_at == *site { CORES } else { 0.0 };
        self.sites[site].1 + own
    }

    /// The iteration time at a site, without noise. The edge, where the program wants three cores of one, takes the base.
    pub(super) fn truth(&self) -> f64 {
        let share = self.sites[&self.block_at].0;
        let slowing = (self.demand(&self.block_at) / share).max(1.0);
        BASE / CORES * slowing
    }

    fn advance(&mut self, period: Duration) {
        self.now = self.now.plus(period);
        if let Some((key, to, until)) = self.moving.take_if(|(_, _, until)| *until <= self.now) {
            let failed = self.fault == Fault::FailsLater;
            if !failed {
                self.moves.push((until, to.clone()));
                self.block_at = to;
                self.points.clear();
            }
            let status = if failed {
                MoveStatus::Failed("no room".to_owned())
            } else {
                MoveStatus::Done
            };
            self.known.insert(key, status);
        }
        if !self.frozen_series {
            let noise = 1.0 + self.noise * self.random.normal();
            let value = self.truth() * noise * self.factor;
            let at = Time::default().plus(self.now.since(Time::default()) - self.late);
            self.points.push(Point { at, value });
        }
    }

    fn sample(&self) -> Observation {
        let point = |value| {
            Some(Point {
                at: self.now,
                value,
            })
        };
        let site = |(site, (share, _)): (&Name, &(f64, f64))| {
            let demand = self.demand(site);
            let used = demand.min(*share);
            SiteSample {
                site: site.clone(),
                tier: Some(site.to_string()),
                share: point(*share),
                used: point(used),
                waiting: point(demand - used),
            }
        };
        let block = BlockSample {
            target: target_id(),
            site: self.moving.is_none().then(|| self.block_at.clone()),
            candidates: self.sites.keys().cloned().collect(),
            cores_max: 4.0,
            series: vec![Series {
                site: self.block_at.clone(),
                replica: 0,
                key: "MPI_Allreduce/0/0".to_owned(),
                points: self.points[self.points.len().saturating_sub(8)..].to_vec(),
            }],
            moves: self.costs.clone(),
        };
        let mut blocks = vec![block];
        if self.without_series {
            blocks[0].series.clear();
        }
        if self.without_block {
            blocks.clear();
        }
        Observation {
            sites: self
                .sites
                .iter()
                .map(site)
                .filter(|_| !self.without_sites)
                .collect(),
            blocks,
        }
    }

    fn migrate(&mut self, key: &str, to: &Name) -> Option<Result<(), ActError>> {
        self.calls.push(key.to_owned());
        let unclear = || Some(Err(ActError::Unclear("timed out".to_owned())));
        match self.fault {
            Fault::Refuses => return Some(Err(ActError::Refused("no".to_owned()))),
            Fault::LosesRequests => return unclear(),
            Fault::Hangs => return None,
            _ => {}
        }
        self.moving = Some((key.to_owned(), to.clone(), self.now.plus(self.move_takes)));
        self.known.insert(key.to_owned(), MoveStatus::Running);
        if self.fault == Fault::LosesAnswers {
            unclear()
        } else {
            Some(Ok(()))
        }
    }
}

/// The Plane in the world, with its ledger.
pub(super) struct Sim {
    pub world: World,
    pub plane: Plane,
    pub target: Target,
    pub crashes: Crashes,
    pub n_crashes: usize,
    config: Config,
    store: Store,
    dir: PathBuf,
    _dir: tempfile::TempDir,
}

/// The process has died.
struct Dead;

impl Sim {
    pub(super) fn new(seed: u64, mode: Mode, policy: &str) -> Self {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = temp.path().join("learning");
        let config = Config::default();
        let store = Store::open(&dir, config.ledger_bytes_max).expect("opens");
        let policy = if policy.is_empty() {
            Policy::standard()
        } else {
            Policy::parse(policy).expect("a policy")
        };
        let target = Target {
            id: target_id(),
            kpi_max: Some(KPI),
            policy,
            mode,
            like: "diffuse/4".to_owned(),
        };
        let mut plane = Plane::new(config.clone(), store.recovered(), START);
        plane.apply(target.clone()).expect("it can be watched");
        Self {
            world: World::new(seed),
            plane,
            target,
            crashes: Crashes::default(),
            n_crashes: 0,
            config,
            store,
            dir,
            _dir: temp,
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        at(self.world.now)
    }

    /// One period passes.
    pub(super) fn tick(&mut self) {
        self.world.advance(self.config.period);
        let observation = self.world.sample();
        let effects = self.plane.observe(self.world.now, observation);
        self.carry_out(effects);
    }

    pub(super) fn run_for(&mut self, seconds: f64) {
        let until = self.seconds() + seconds;
        while self.seconds() < until {
            self.tick();
        }
    }

    pub(super) fn request(&mut self, path: &str) -> Decision {
        let (mut decisions, effects) = self
            .plane
            .request(self.world.now, &target_id(), path)
            .expect("there is such a rule");
        self.carry_out(effects);
        decisions.pop().expect("one at least")
    }

    /// As the service does it, except that the process can die at each step.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        if self.try_carry_out(effects).is_err() {
            self.n_crashes += 1;
            self.restart();
        }
    }

    pub(super) fn restart(&mut self) {
        self.store = Store::open(&self.dir, self.config.ledger_bytes_max).expect("opens again");
        self.plane = Plane::new(self.config.clone(), self.store.recovered(), self.world.now);
        self.plane
            .apply(self.target.clone())
            .expect("it can be watched");
    }

    fn may_crash(&mut self) -> Result<(), Dead> {
        self.crashes.steps += 1;
        if self.crashes.at == Some(self.crashes.steps) {
            Err(Dead)
        } else {
            Ok(())
        }
    }

    fn try_carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Dead> {
        for effect in effects {
            self.may_crash()?;
            match effect {
                Effect::Act(intent) => {
                    let (key, to) = (intent.key().to_owned(), intent.to.clone());
                    if self.world.fault == Fault::DiskFull {
                        let answer = Answer::NotCalled("no space".to_owned());
                        let more = self.plane.answer(self.world.now, &key, answer);
                        assert_eq!(
                            more.len(),
                            1,
                            "it is closed, which cannot be recorded either"
                        );
                        continue;
                    }
                    self.store.record(Record::Intent(intent)).expect("recorded");
                    self.may_crash()?;
                    let answer = self.world.migrate(&key, &to);
                    self.may_crash()?;
                    if let Some(answer) = answer {
                        self.answer(&key, &Answer::Called(answer))?;
                    }
                }
                Effect::Ask(key) => {
                    self.world.asked += 1;
                    let status = self.world.known.get(&key).cloned();
                    let status = status.unwrap_or(MoveStatus::Unknown);
                    self.may_crash()?;
                    self.answer(&key, &Answer::Observed(status))?;
                }
                Effect::Close(closing) => {
                    self.store
                        .record(Record::Outcome(closing))
                        .expect("recorded");
                    self.may_crash()?;
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, key: &str, answer: &Answer) -> Result<(), Dead> {
        let times = if self.world.fault == Fault::Doubles {
            2
        } else {
            1
        };
        for _ in 0..times {
            let effects = self.plane.answer(self.world.now, key, answer.clone());
            self.try_carry_out(effects)?;
        }
        Ok(())
    }

    pub(super) fn decisions(&self) -> Vec<Decision> {
        self.plane.decisions(&target_id())
    }

    /// The decisions to move, oldest first.
    pub(super) fn move_decisions(&self) -> Vec<Decision> {
        let mut decisions = self.decisions();
        decisions.reverse();
        decisions.retain(|d| {
            d.action.starts_with("migrate_service to")
                && !matches!(d.outcome, crate::seam::Outcome::Held(_))
        });
        decisions
    }
}
