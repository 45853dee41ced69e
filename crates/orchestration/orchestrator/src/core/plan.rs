//! The planner: what all services want, where everything is, what the sites say -> the next blueprint.
//!
//! It is deterministic, and a fixpoint: planned again with nothing new, nothing changes. That holds because the choice of a site is made once
//! in a unit's life: a unit that is in the blueprint stays where it is, whatever sites come and go, and moves by migrations only. A
//! unit whose site does not report is not replaced: it may well run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ids::{Epoch, Name, UnitId};
use workload::{Kind, UnitSpec};

use super::blueprint::{Blueprint, Changes, Leaving, Planned};
use super::inventory::{Now, Sites, fresh_report};
use super::migration::Migration;
use super::places::{Places, Size};
use super::spec::{BlockPolicy, ServicePolicy};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    /// In the order of organisations and names.
    pub services: &'a [Arc<ServicePolicy>],
    pub sites: &'a Sites,
    pub parent: &'a Blueprint,
    /// Those under way, oldest first.
    pub migrations: &'a [&'a Migration],
    pub now: Now,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub changes: Changes,
    /// Units that cannot be placed, and why.
    pub pending: BTreeMap<UnitId, Vec<String>>,
}

pub(crate) fn plan(input: Input<'_>) -> Plan {
    let wanted = wanted(input);
    let wishes = wishes(input);
    let mut changes = Changes::default();
    leave(input, &wanted, &mut changes);
    let mut missing = Vec::new();
    for (id, block) in &wanted {
        match input.parent.units().get(id) {
            None => missing.push((id, *block)),
            Some(planned) => {
                if let Some(planned) = revised(planned, &block.kind, wishes.get(id), input) {
                    changes.units.insert(id.clone(), Some(Arc::new(planned)));
                }
            }
        }
    }
    let mut pending = BTreeMap::new();
    if missing.is_empty() && wishes.is_empty() {
        return Plan { changes, pending };
    }
    let mut places = Places::new(input.sites, input.now);
    places.count(input.parent, &changes, input.sites);
    for id in wishes.keys() {
        if let Some(block) = wanted.get(*id) {
            hold_back(input, id, block, &mut places, &mut changes);
        }
    }
    // An epoch is the generation in which the unit was placed: higher than that of any earlier unit of this name.
    let epoch = Epoch(input.parent.generation.next().0);
    for (id, block) in missing {
        let leaving = match changes.leaving.get(id) {
            Some(left) => left.as_ref(),
            None => input.parent.leaving().get(id),
        };
        if let Some(leaving) = leaving {
            pending.insert(id.clone(), vec![ends_first(leaving)]);
            continue;
        }
        match places.take(&block.selector, Size::of(&block.kind)) {
            Ok((site, reasons)) => {
                let planned = Planned {
                    spec: begin(id.clone(), epoch, block, site),
                    generation: input.parent.generation.next(),
                    draining: BTreeSet::new(),
                    reasons,
                };
                changes.units.insert(id.clone(), Some(Arc::new(planned)));
            }
            Err(reasons) => {
                pending.insert(id.clone(), reasons);
            }
        }
    }
    Plan { changes, pending }
}

fn wanted(input: Input<'_>) -> BTreeMap<UnitId, &BlockPolicy> {
    let mut wanted = BTreeMap::new();
    for service in input.services {
        for block in &service.blocks {
            for replica in 0..block.replicas {
                let id = UnitId::new(&service.org, &service.name, &block.name, replica);
                wanted.insert(id, block);
            }
        }
    }
    wanted
}

/// Takes out what is not wanted any more, and notes what has ended of what was taken out before.
fn leave(input: Input<'_>, wanted: &BTreeMap<UnitId, &BlockPolicy>, changes: &mut Changes) {
    for (id, planned) in input.parent.units() {
        if !wanted.contains_key(id) {
            changes.units.insert(id.clone(), None);
            let generation = input.parent.generation.next();
            let sites = planned.sites().map(|site| (site.clone(), generation));
            let leaving = Leaving {
                sites: sites.collect(),
            };
            changes.leaving.insert(id.clone(), Some(Arc::new(leaving)));
        }
    }
    for (id, leaving) in input.parent.leaving() {
        let left = still_leaving(id, leaving, input.sites);
        if left != **leaving {
            let left = (!left.sites.is_empty()).then(|| Arc::new(left));
            changes.leaving.insert(id.clone(), left);
        }
    }
}

/// Lets a unit stay where it is if where it is to go is too full with it. The migration that wishes it waits, until its deadline.
fn hold_back(
    input: Input<'_>,
    id: &UnitId,
    block: &BlockPolicy,
    places: &mut Places<'_>,
    changes: &mut Changes,
) {
    let before = input.parent.units().get(id);
    let (Some(before), Some(Some(after))) = (before, changes.units.get(id).cloned()) else {
        return;
    };
    let is_new = |site: &&Name| !before.sites().any(|other| other == *site);
    let mut new = after.sites().filter(is_new);
    if !new.any(|site| places.no_room(site, &[]).is_some()) {
        return;
    }
    places.remove(&after, input.sites);
    match revised(before, &block.kind, None, input) {
        Some(staying) => {
            places.add(&staying, input.sites);
            let staying = Some(Arc::new(staying));
            changes.units.insert(id.clone(), staying);
        }
        None => {
            places.add(before, input.sites);
            changes.units.remove(id);
        }
    }
}

/// Of what has left, what has not been confirmed yet.
fn still_leaving(id: &UnitId, leaving: &Leaving, sites: &Sites) -> Leaving {
    let awaited = leaving.sites.iter().filter(|(name, awaited)| {
        let site = sites.get(*name);
        !site.is_some_and(|site| site.has_ended(id, **awaited))
    });
    Leaving {
        sites: awaited.map(|(name, n)| (name.clone(), *n)).collect(),
    }
}

fn ends_first(leaving: &Leaving) -> String {
    let sites = leaving.sites.keys().take(EXPLAINED_MAX);
    let sites: Vec<_> = sites.map(Name::as_str).collect();
    let sites = sites.join(", ");
    format!(
        "an earlier unit of this name may still run at {sites}: it has not reported the end of it"
    )
}

fn begin(id: UnitId, epoch: Epoch, block: &BlockPolicy, site: Name) -> UnitSpec {
    UnitSpec {
        id,
        epoch,
        kind: block.kind.clone(),
        placement: vec![site.clone(); block.ranks() as usize],
        home: site,
    }
}

/// Where migrations want ranks of a unit to be.
#[derive(Debug)]
struct Wish<'a> {
    epoch: Epoch,
    ranks: BTreeMap<u32, Name>,
    /// The last one.
    migration: &'a str,
}

fn wishes(input: Input<'_>) -> BTreeMap<&UnitId, Wish<'_>> {
    let mut wishes = BTreeMap::new();
    for migration in input.migrations {
        for (id, unit) in &migration.units {
            let wish = wishes.entry(id).or_insert_with(|| Wish {
                epoch: unit.epoch,
                ranks: BTreeMap::new(),
                migration: &migration.id,
            });
            wish.migration = &migration.id;
            wish.ranks.extend(migration.wish(unit));
        }
    }
    wishes
}

/// What is to become of a unit now, if that is something else.
fn revised(
    planned: &Planned,
    kind: &Kind,
    wish: Option<&Wish<'_>>,
    input: Input<'_>,
) -> Option<Planned> {
    let spec = &planned.spec;
    let wish = wish.filter(|wish| wish.epoch == spec.epoch);
    let mut placement = spec.placement.clone();
    for (rank, site) in wish.into_iter().flat_map(|wish| &wish.ranks) {
        if let Some(place) = placement.get_mut(*rank as usize) {
            place.clone_from(site);
        }
    }
    let mut reasons = planned.reasons.clone();
    if let Some(wish) = wish.filter(|_| placement != spec.placement) {
        reasons.push(moved(&spec.placement, &placement, wish.migration));
        // Where it began, and the last moves.
        let n_surplus = reasons.len().saturating_sub(REASONS_MAX);
        reasons.drain(1..1 + n_surplus);
    }
    let revised = UnitSpec {
        kind: kind.clone(),
        placement,
        ..spec.clone()
    };
    let left = spec.sites().chain(still_draining(planned, input));
    let is_left = |site: &&Name| !revised.sites().any(|other| other == *site);
    let draining: BTreeSet<_> = left.filter(is_left).cloned().collect();
    let generation = if revised == *spec {
        planned.generation
    } else {
        input.parent.generation.next()
    };
    (revised != *spec || draining != planned.draining).then_some(Planned {
        spec: revised,
        generation,
        draining,
        reasons,
    })
}

const REASONS_MAX: usize = 16;

fn moved(before: &[Name], after: &[Name], migration: &str) -> String {
    let pairs = before.iter().zip(after);
    let changed: Vec<_> = pairs
        .filter(|(old, new)| old != new)
        .map(|(_, new)| new)
        .collect();
    let sites: BTreeSet<_> = changed
        .iter()
        .map(|site| site.as_str())
        .take(EXPLAINED_MAX)
        .collect();
    let sites: Vec<_> = sites.into_iter().collect();
    format!(
        "{}: {} ranks shall be there by migration {migration}",
        sites.join(", "),
        changed.len()
    )
}

const EXPLAINED_MAX: usize = 8;

/// The sites of which the home has not said yet, knowing where its ranks shall be, that none is there or on its way.
fn still_draining<'a>(planned: &'a Planned, input: Input<'_>) -> impl Iterator<Item = &'a Name> {
    let spec = &planned.spec;
    let site = input.sites.get(&spec.home);
    let report = site.and_then(|site| site.report.as_ref());
    let wanted = input.parent.site_generation(spec.home.as_str());
    let has_it = report.is_some_and(|report| report.generation >= wanted);
    let seen = fresh_report(input.sites, spec, input.now).filter(|_| has_it);
    let whole =
        seen.filter(|seen| seen.phase.is_final() || seen.ranks.len() == spec.placement.len());
    let occupied: Option<BTreeSet<Name>> = whole.map(|seen| {
        let ranks = seen.ranks.iter().filter(|_| !seen.phase.is_final());
        ranks.map(|at| at.site.clone()).collect()
    });
    // Of what has ended, no rank arrives any more, even if its home saw one on its way last.
    let is_moving = whole.is_some_and(|seen| {
        !seen.phase.is_final() && seen.ranks.iter().any(|at| at.state == "moving")
    });
    planned.draining.iter().filter(move |site| match &occupied {
        None => true,
        Some(occupied) => is_moving || occupied.contains(*site),
    })
}
