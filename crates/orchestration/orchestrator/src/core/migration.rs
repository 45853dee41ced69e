//! Moving what runs. A migration is a wish that the planner puts over the placement of units; it is over when the sites report that it holds.
//!
//! ```text
//! Preparing ──▶ Moving ──▶ Succeeded        all ranks are there
//!     │            │
//!     └─ deadline ─┴─▶ RollingBack ──▶ RolledBack      ranks that have not begun to move stay where they were
//!                            └───────▶ Succeeded       all were on their way after all
//! any ──▶ Failed        the units ended, or were deleted, before they were there
//! ```
//!
//! Nothing is decided about a unit whose home does not report: it may be moving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ids::{Epoch, Name, Selector, UnitId};
use nbi::{MigrationSpec, Target};
use serde::{Deserialize, Serialize};
use workload::{MoveReport, Observed};

use super::blueprint::{Blueprint, Changes, Planned};
use super::inventory::{Now, Sites, fresh_report, last_report};
use super::places::{Places, Size};
use super::spec::{BlockPolicy, ServicePolicy};
use crate::{Error, ErrorKind};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Migration {
    pub id: String,
    pub org: Name,
    pub spec: MigrationSpec,
    pub operation: String,
    pub created_ms: u64,
    /// On the wall clock.
    pub deadline_ms: u64,
    pub to: Name,
    pub units: BTreeMap<UnitId, UnitMove>,
    pub phase: Phase,
    pub history: Vec<(Phase, u64)>,
    pub error: Option<String>,
    /// As of the last change of phase.
    pub progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UnitMove {
    pub epoch: Epoch,
    /// The ranks that shall move, and where they were to be before.
    pub from: BTreeMap<u32, Name>,
    /// Those of them that stay after all.
    pub stay: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Preparing,
    Moving,
    RollingBack,
    Succeeded,
    RolledBack,
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub moved: u32,
    pub pause_us_max: u64,
}

impl Phase {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack | Self::Failed)
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Moving => "Moving",
            Self::RollingBack => "RollingBack",
            Self::Succeeded => "Succeeded",
            Self::RolledBack => "RolledBack",
            Self::Failed => "Failed",
        }
    }
}

const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where and when a migration begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub policy: &'a ServicePolicy,
    pub blueprint: &'a Blueprint,
    pub sites: &'a Sites,
    pub now: Now,
    pub id: &'a str,
    pub operation: &'a str,
}

pub(crate) fn begin(start: Start<'_>, spec: &MigrationSpec) -> Result<Migration, Error> {
    let blocks = blocks(start.policy, spec)?;
    let deadline = match &spec.deadline {
        None => DEADLINE_DEFAULT,
        Some(text) => {
            nbi::parse_duration(text).map_err(|e| Error::invalid("/deadline", e.to_string()))?
        }
    };
    if deadline > DEADLINE_MAX {
        return Err(Error::invalid("/deadline", "at most 24h"));
    }
    let mut units = BTreeMap::new();
    for block in &blocks {
        let ranks = ranks(block, spec)?;
        let (org, service) = (&start.policy.org, &start.policy.name);
        for (id, planned) in start.blueprint.units_of(org, service, Some(&block.name)) {
            let ended = last_report(start.sites, &planned.spec);
            if !ended.is_some_and(|unit| unit.phase.is_final()) {
                units.insert(id.clone(), unit_move(planned, &ranks));
            }
        }
    }
    if units.is_empty() {
        let message = "no unit of it runs: there is nothing to move";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let to = destination(start, spec, &blocks, &units)?;
    let deadline_ms = u64::try_from(deadline.as_millis()).expect("it is at most a day");
    Ok(Migration {
        id: start.id.to_owned(),
        org: start.policy.org.clone(),
        spec: spec.clone(),
        operation: start.operation.to_owned(),
        created_ms: start.now.wall_ms,
        deadline_ms: start.now.wall_ms + deadline_ms,
        to,
        units,
        phase: Phase::Preparing,
        history: vec![(Phase::Preparing, start.now.wall_ms)],
        error: None,
        progress: Progress::default(),
    })
}

fn blocks<'a>(
    policy: &'a ServicePolicy,
    spec: &MigrationSpec,
) -> Result<Vec<&'a BlockPolicy>, Error> {
    let Some(name) = &spec.block else {
        return Ok(policy.blocks.iter().collect());
    };
    let found = policy.blocks.iter().find(|block| block.name == *name);
    let missing = || Error::invalid("/block", format!("the service has no block `{name}`"));
    found.map(|block| vec![block]).ok_or_else(missing)
}

fn ranks(block: &BlockPolicy, spec: &MigrationSpec) -> Result<BTreeSet<u32>, Error> {
    let Some(ranks) = &spec.ranks else {
        return Ok((0..block.ranks()).collect());
    };
    if ranks.is_empty() {
        return Err(Error::invalid(
            "/ranks",
            "name at least one, or leave it out for all",
        ));
    }
    if let Some(idx) = ranks.iter().position(|rank| *rank >= block.ranks()) {
        let message = format!(
            "block `{}` has ranks 0 to {}",
            block.name,
            block.ranks() - 1
        );
        return Err(Error::invalid(format!("/ranks/{idx}"), message));
    }
    Ok(ranks.iter().copied().collect())
}

fn unit_move(planned: &Planned, ranks: &BTreeSet<u32>) -> UnitMove {
    let places = (0..).zip(&planned.spec.placement);
    let from = places.filter(|(rank, _)| ranks.contains(rank));
    UnitMove {
        epoch: planned.spec.epoch,
        from: from.map(|(rank, site)| (rank, site.clone())).collect(),
        stay: BTreeSet::new(),
    }
}

fn destination(
    start: Start<'_>,
    spec: &MigrationSpec,
    blocks: &[&BlockPolicy],
    units: &BTreeMap<UnitId, UnitMove>,
) -> Result<Name, Error> {
    let forbids = |labels: &ids::Labels| {
        let wishes = blocks.iter().filter_map(|block| block.migrate_to.as_ref());
        wishes
            .into_iter()
            .find(|wish| !wish.matches(labels))
            .cloned()
    };
    let refuse = |message| Err(Error::new(ErrorKind::Conflict, message).at("/to"));
    let mut places = Places::new(start.sites, start.now);
    places.count(start.blueprint, &Changes::default(), start.sites);
    let planned = || {
        units
            .keys()
            .filter_map(|id| start.blueprint.units().get(id))
    };
    match &spec.to {
        Target::Site(name) => {
            let Some(site) = start.sites.get(name) else {
                return Err(Error::invalid(
                    "/to/site",
                    format!("there is no site `{name}`"),
                ));
            };
            if let Some(reason) = site.unfit(start.now) {
                return refuse(format!("site `{name}` cannot take it: {reason}"));
            }
            if let Some(Selector { match_labels }) = forbids(&site.facts.labels) {
                return refuse(format!(
                    "site `{name}` does not have the labels {match_labels:?} of the block's migrateTo"
                ));
            }
            let new = planned().filter(|planned| !planned.sites().any(|site| site == name));
            let new: Vec<_> = new.map(|planned| Size::of(&planned.spec.kind)).collect();
            if let Some(reason) = places.no_room(name, &new).filter(|_| !new.is_empty()) {
                return refuse(format!("site `{name}` cannot take it: {reason}"));
            }
            Ok(name.clone())
        }
        Target::SiteSelector(selector) => {
            let sizes: Vec<_> = planned()
                .map(|planned| Size::of(&planned.spec.kind))
                .collect();
            let mut ranks = units.values().flat_map(|unit| unit.from.values());
            let avoid = ranks.next().expect("a unit has ranks");
            let n_ranks = 1 + u32::try_from(ranks.count()).unwrap_or(u32::MAX - 1);
            let is_allowed = |labels: &_| forbids(labels).is_none();
            match places.best_of(selector, (n_ranks, &sizes), is_allowed, avoid) {
                Some(name) => Ok(name.clone()),
                None => {
                    refuse("no site that reports, and has room, has the wanted labels".to_owned())
                }
            }
        }
    }
}

/// How one unit of a migration stands.
#[derive(Debug)]
enum Standing<'a> {
    /// Its home does not report now.
    Unknown,
    /// It was deleted, or begun anew.
    Gone,
    /// It has ended, with these words.
    Ended(&'a Observed),
    Alive(&'a Planned, &'a Observed),
}

impl Migration {
    /// Where it wants the ranks of a unit to be now.
    pub(crate) fn wish<'a>(&'a self, unit: &'a UnitMove) -> impl Iterator<Item = (u32, Name)> + 'a {
        unit.from.iter().map(|(rank, before)| {
            let site = if unit.stay.contains(rank) {
                before
            } else {
                &self.to
            };
            (*rank, site.clone())
        })
    }

    pub(crate) fn n_ranks(&self) -> u32 {
        let n_ranks: usize = self.units.values().map(|unit| unit.from.len()).sum();
        u32::try_from(n_ranks).unwrap_or(u32::MAX)
    }

    /// Where the ranks came from.
    pub(crate) fn sources(&self) -> BTreeSet<&Name> {
        self.units
            .values()
            .flat_map(|unit| unit.from.values())
            .collect()
    }

    /// What can be seen of it now; of the parts that are not seen, nothing counts.
    pub(crate) fn progress(&self, sites: &Sites, blueprint: &Blueprint) -> Progress {
        if self.phase.is_final() {
            return self.progress;
        }
        let mut progress = Progress::default();
        for (id, unit) in &self.units {
            let planned = blueprint.units().get(id);
            let planned = planned.filter(|planned| planned.spec.epoch == unit.epoch);
            let Some(seen) = planned.and_then(|planned| last_report(sites, &planned.spec)) else {
                continue;
            };
            let there = seen.ranks.iter().filter(|at| {
                unit.from.contains_key(&at.rank) && at.site == self.to && at.state != MOVING
            });
            progress.moved += u32::try_from(there.count()).unwrap_or(u32::MAX);
            let is_ours = |report: &&MoveReport| {
                unit.from.contains_key(&report.rank)
                    && report.to == self.to
                    && report.resumed_ms >= self.created_ms
            };
            let pauses = seen
                .moves
                .iter()
                .filter(is_ours)
                .map(|report| report.pause_us);
            progress.pause_us_max = progress.pause_us_max.max(pauses.max().unwrap_or(0));
        }
        progress
    }

    /// What it is next, if that is something else.
    pub(crate) fn advance(&self, blueprint: &Blueprint, sites: &Sites, now: Now) -> Option<Self> {
        if self.phase.is_final() {
            return None;
        }
        let mut next = self.clone();
        let (mut n_unknown, mut n_gone, mut is_moving, mut is_settled) = (0, 0, false, true);
        let mut ended = None;
        for (id, unit) in &mut next.units {
            match standing(blueprint, sites, now, id, unit.epoch) {
                Standing::Unknown => n_unknown += 1,
                Standing::Gone => n_gone += 1,
                Standing::Ended(seen) => {
                    is_settled &= is_there(unit, &self.to, seen);
                    ended = Some(format!("{id} has ended: {:?}", seen.phase));
                }
                Standing::Alive(planned, seen) => {
                    is_moving |= has_begun(unit, &self.to, seen);
                    if self.phase == Phase::RollingBack || now.wall_ms >= self.deadline_ms {
                        unit.stay.extend(not_begun(unit, &self.to, seen));
                    }
                    is_settled &= is_there(unit, &self.to, seen)
                        && is_in_force(unit, &self.to, planned, blueprint, sites);
                }
            }
        }
        let n_alive_or_ended = self.units.len() - n_unknown - n_gone;
        let is_back = next.units.values().any(|unit| !unit.stay.is_empty());
        next.phase = if n_unknown > 0 {
            self.phase.max_of(is_moving)
        } else if n_alive_or_ended == 0 {
            next.error = Some("its units were deleted".to_owned());
            Phase::Failed
        } else if is_settled && !is_back {
            Phase::Succeeded
        } else if let (Some(reason), false) = (ended, is_settled) {
            next.error = Some(reason);
            Phase::Failed
        } else if is_settled {
            let n_ranks = self.n_ranks();
            let moved = self.progress(sites, blueprint).moved;
            next.error = Some(format!(
                "the deadline came when {moved} of {n_ranks} ranks had moved"
            ));
            Phase::RolledBack
        } else if is_back {
            Phase::RollingBack
        } else {
            self.phase.max_of(is_moving)
        };
        next.progress = self.progress(sites, blueprint);
        if next.phase != self.phase {
            next.history.push((next.phase, now.wall_ms));
        }
        let is_same = next.phase == self.phase && next.units == self.units;
        (!is_same).then_some(next)
    }
}

impl Phase {
    fn max_of(self, is_moving: bool) -> Self {
        if self == Self::Preparing && is_moving {
            Self::Moving
        } else {
            self
        }
    }
}

pub(crate) const MOVING: &str = "moving";
pub(crate) const ENDED: &str = "ended";

fn standing<'a>(
    blueprint: &'a Blueprint,
    sites: &'a Sites,
    now: Now,
    id: &UnitId,
    epoch: Epoch,
) -> Standing<'a> {
    let planned = blueprint.units().get(id);
    let Some(planned) = planned.filter(|planned| planned.spec.epoch == epoch) else {
        return Standing::Gone;
    };
    match last_report(sites, &planned.spec) {
        Some(seen) if seen.phase.is_final() => Standing::Ended(seen),
        _ => match fresh_report(sites, &planned.spec, now) {
            Some(seen) => Standing::Alive(planned, seen),
            None => Standing::Unknown,
        },
    }
}

/// Whether every rank is where it shall be now.
fn is_there(unit: &UnitMove, to: &Name, seen: &Observed) -> bool {
    let places: BTreeMap<_, _> = seen.ranks.iter().map(|at| (at.rank, at)).collect();
    unit.from.iter().all(|(rank, before)| {
        let wanted = if unit.stay.contains(rank) { before } else { to };
        let place = places.get(rank);
        place.is_some_and(|at| at.site == *wanted && at.state != MOVING || at.state == ENDED)
    })
}

/// Whether the home has been told where the ranks shall be now: before, a report that they are there may be overtaken.
fn is_in_force(
    unit: &UnitMove,
    to: &Name,
    planned: &Planned,
    blueprint: &Blueprint,
    sites: &Sites,
) -> bool {
    let spec = &planned.spec;
    let is_planned = unit.from.iter().all(|(rank, before)| {
        let wanted = if unit.stay.contains(rank) { before } else { to };
        spec.placement.get(*rank as usize) == Some(wanted)
    });
    let report = sites.get(&spec.home).and_then(|site| site.report.as_ref());
    let wanted = blueprint.site_generation(spec.home.as_str());
    is_planned && report.is_some_and(|report| report.generation >= wanted)
}

fn has_begun(unit: &UnitMove, to: &Name, seen: &Observed) -> bool {
    seen.ranks.iter().any(|at| {
        let before = unit.from.get(&at.rank);
        before.is_some_and(|before| at.state == MOVING || at.site == *to && before != to)
    })
}

/// The ranks that are neither there nor on their way.
fn not_begun(unit: &UnitMove, to: &Name, seen: &Observed) -> Vec<u32> {
    let idle = seen.ranks.iter().filter(|at| {
        let is_idle = at.state != MOVING && at.state != ENDED;
        unit.from.contains_key(&at.rank) && at.site != *to && is_idle
    });
    idle.map(|at| at.rank).collect()
}
