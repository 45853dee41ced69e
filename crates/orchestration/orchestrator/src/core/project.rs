//! What users are told: specs and blueprint say what shall be, the sites' reports what is. Nothing is called in order because it was decided.

use std::collections::BTreeMap;
use std::ops::Bound;

use ids::{Name, UnitId};
use nbi::{
    API_VERSION, Condition, MigrationStatus, MoveStatus, PhaseAt, RankStatus, ServiceStatus,
    SiteStatus, UnitStatus,
};
use workload::{Observed, Phase, UnitSpec};

use super::blueprint::{Blueprint, Planned};
use super::inventory::{Now, Site, Sites, last_report};
use super::migration::{ENDED, MOVING, Migration};
use super::spec::ServicePolicy;

/// What statuses are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub blueprint: &'a Blueprint,
    pub sites: &'a Sites,
    /// Units that could not be placed, and why.
    pub pending: &'a BTreeMap<UnitId, Vec<String>>,
    pub now: Now,
}

const UNKNOWN: &str = "Unknown";

pub(crate) fn unit(view: View<'_>, planned: &Planned) -> UnitStatus {
    let spec = &planned.spec;
    let site = view.sites.get(&spec.home);
    let age = site.and_then(|site| site.age(view.now));
    let is_fresh = site.is_some_and(|site| site.is_fresh(view.now));
    let seen = last_report(view.sites, spec);
    let (phase, reason) = match seen {
        Some(seen) if is_fresh || seen.phase.is_final() => {
            let mut reason = seen.reason.clone();
            if reason.is_empty() {
                reason = difference(view, planned, seen).unwrap_or_default();
            }
            (format!("{:?}", seen.phase), reason)
        }
        _ if !is_fresh => {
            let reason = format!("site {} has not reported for three periods", spec.home);
            (UNKNOWN.to_owned(), reason)
        }
        _ => {
            let reason = format!("site {} has not begun with it yet", spec.home);
            ("Pending".to_owned(), reason)
        }
    };
    UnitStatus {
        id: spec.id.to_string(),
        epoch: spec.epoch.0,
        phase,
        reason,
        home: spec.home.clone(),
        site: main_site(spec),
        ranks: seen.map(ranks).unwrap_or_default(),
        moves: seen.map_or(0, |seen| seen.n_moves),
        last_moves: seen.map(moves).unwrap_or_default(),
        restarts: seen.map_or(0, |seen| seen.restarts),
        exit_code: seen.and_then(|seen| seen.exit_code),
        age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Whether the home of a unit has said that what is planned of it is in force there.
fn has_taken(view: View<'_>, planned: &Planned) -> bool {
    let site = view.sites.get(&planned.spec.home);
    site.is_some_and(|site| site.has_in_force(planned.generation))
}

/// How what is reported of a unit that goes on differs from what is planned.
fn difference(view: View<'_>, planned: &Planned, seen: &Observed) -> Option<String> {
    if seen.phase.is_final() {
        return None;
    }
    let home = &planned.spec.home;
    if !has_taken(view, planned) {
        let report = view.sites.get(home).and_then(|site| site.report.as_ref());
        let refused = report.and_then(|report| report.refused.as_ref());
        let why = refused.map_or_else(String::new, |refused| format!(": {refused}"));
        return Some(format!(
            "site {home} has not taken what is planned for it{why}"
        ));
    }
    let places: BTreeMap<_, _> = seen.ranks.iter().map(|at| (at.rank, at)).collect();
    (0..)
        .zip(&planned.spec.placement)
        .find_map(|(rank, wanted)| match places.get(&rank) {
            Some(at) if at.state == ENDED => None,
            Some(at) if at.site != *wanted => Some(format!(
                "rank {rank} is at {}, and shall be at {wanted}",
                at.site
            )),
            Some(at) => (at.state == MOVING).then(|| format!("rank {rank} is on its way")),
            None => Some(format!("site {home} does not say where rank {rank} is")),
        })
}

/// The site at which most of it shall be; of equals, the first by name.
pub(crate) fn main_site(spec: &UnitSpec) -> Name {
    let mut counts: BTreeMap<&Name, usize> = BTreeMap::new();
    for site in &spec.placement {
        *counts.entry(site).or_default() += 1;
    }
    let most = counts.into_iter().rev().max_by_key(|(_, n)| *n);
    most.map_or_else(|| spec.home.clone(), |(site, _)| site.clone())
}

fn ranks(seen: &Observed) -> Vec<RankStatus> {
    let rank = |at: &workload::RankAt| RankStatus {
        rank: at.rank,
        site: at.site.clone(),
        state: at.state.clone(),
    };
    seen.ranks.iter().map(rank).collect()
}

fn moves(seen: &Observed) -> Vec<MoveStatus> {
    let moved = |report: &workload::MoveReport| MoveStatus {
        rank: report.rank,
        from: report.from.clone(),
        to: report.to.clone(),
        bytes: report.bytes,
        pause_us: report.pause_us,
        resumed_at_ms: report.resumed_ms,
    };
    seen.moves.iter().map(moved).collect()
}

/// How the units of a service stand, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub wanted: u32,
    /// In the blueprint with the wanted spec.
    pub planned: u32,
    /// In the blueprint, but not wanted any more.
    pub surplus: u32,
    pub unplaced: u32,
    pub unknown: u32,
    /// Not running yet, or not where it shall be.
    pub progressing: u32,
    /// Something of it does not answer.
    pub impaired: u32,
    pub running: u32,
    pub succeeded: u32,
    /// Failed or lost.
    pub failed: u32,
}

impl Tally {
    pub(crate) fn is_planned(&self) -> bool {
        self.surplus == 0 && self.planned + self.unplaced == self.wanted
    }

    /// Units of which the outcome of a change is known.
    pub(crate) fn n_settled(&self) -> u32 {
        self.running + self.impaired + self.succeeded + self.failed
    }

    pub(crate) fn phase(&self) -> &'static str {
        if self.failed > 0 && self.failed + self.succeeded == self.wanted {
            "Failed"
        } else if self.unknown > 0 {
            UNKNOWN
        } else if self.failed > 0 || self.impaired > 0 {
            "Degraded"
        } else if self.unplaced > 0 {
            "Pending"
        } else if !self.is_planned() || self.progressing > 0 {
            "Progressing"
        } else if self.succeeded > 0 && self.succeeded == self.wanted {
            "Succeeded"
        } else {
            "InSync"
        }
    }
}

pub(crate) fn tally(view: View<'_>, policy: &ServicePolicy) -> Tally {
    let mut tally = Tally::default();
    for block in &policy.blocks {
        for replica in 0..block.replicas {
            tally.wanted += 1;
            let id = UnitId::new(&policy.org, &policy.name, &block.name, replica);
            let Some(planned) = view.blueprint.units().get(&id) else {
                tally.unplaced += u32::from(view.pending.contains_key(&id));
                continue;
            };
            tally.planned += u32::from(planned.spec.kind == block.kind);
            *count(view, planned, &mut tally) += 1;
        }
    }
    let planned = view.blueprint.units_of(&policy.org, &policy.name, None);
    let n_units = u32::try_from(planned.count()).unwrap_or(u32::MAX);
    let n_kept = tally.n_settled() + tally.progressing + tally.unknown;
    tally.surplus = n_units.saturating_sub(n_kept);
    tally
}

/// Parts of a service at reporting sites that are not planned any more.
pub(crate) fn n_lingering(view: View<'_>, org: &Name, service: &Name) -> usize {
    let prefix = format!("{org}/{service}/");
    let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    let fresh = view.sites.values().filter(|site| site.is_fresh(view.now));
    let reports = fresh.filter_map(|site| site.report.as_ref());
    let parts = reports.flat_map(|report| {
        let range = report.units.range::<str, _>(from);
        range.take_while(|(id, _)| id.as_str().starts_with(&prefix))
    });
    let is_planned = |id: &UnitId| view.blueprint.units().contains_key(id);
    parts.filter(|(id, _)| !is_planned(id)).count()
}

/// Whether every home of a service has said that what is planned of it is in force.
pub(crate) fn is_in_force(view: View<'_>, org: &Name, service: &Name) -> bool {
    let mut units = view.blueprint.units_of(org, service, None);
    units.all(|(_, planned)| has_taken(view, planned))
}

/// Which units of a service have failed, and why: the first few.
pub(crate) fn failures(view: View<'_>, org: &Name, service: &Name) -> String {
    let units = view.blueprint.units_of(org, service, None);
    let seen =
        units.filter_map(|(id, planned)| Some((id, last_report(view.sites, &planned.spec)?)));
    let failed = seen.filter(|(_, seen)| matches!(seen.phase, Phase::Failed | Phase::Lost));
    let text = failed
        .take(3)
        .map(|(id, seen)| format!("{id}: {:?}: {}", seen.phase, seen.reason));
    text.collect::<Vec<_>>().join("; ")
}

fn count<'a>(view: View<'_>, planned: &Planned, tally: &'a mut Tally) -> &'a mut u32 {
    let site = view.sites.get(&planned.spec.home);
    let is_fresh = site.is_some_and(|site| site.is_fresh(view.now));
    let Some(seen) = last_report(view.sites, &planned.spec) else {
        return if is_fresh {
            &mut tally.progressing
        } else {
            &mut tally.unknown
        };
    };
    match seen.phase {
        Phase::Succeeded => &mut tally.succeeded,
        Phase::Failed | Phase::Lost => &mut tally.failed,
        _ if !is_fresh => &mut tally.unknown,
        Phase::Running if difference(view, planned, seen).is_none() => &mut tally.running,
        Phase::Unreachable | Phase::Unresponsive => &mut tally.impaired,
        Phase::Pending | Phase::Starting | Phase::Moving | Phase::Running => &mut tally.progressing,
    }
}

pub(crate) fn service(
    view: View<'_>,
    policy: &ServicePolicy,
    generation: u64,
    is_deleting: bool,
) -> ServiceStatus {
    let tally = tally(view, policy);
    let units = view.blueprint.units_of(&policy.org, &policy.name, None);
    let unplaced = policy.blocks.iter().flat_map(|block| {
        let ids =
            (0..block.replicas).map(|n| UnitId::new(&policy.org, &policy.name, &block.name, n));
        ids.filter_map(|id| view.pending.get(&id).map(|why| (id, why)))
    });
    let why = unplaced
        .take(3)
        .map(|(id, why)| format!("{id}: {}", why.join("; ")));
    let why: Vec<_> = why.collect();
    let placed = if why.is_empty() {
        condition("Placed", tally.is_planned(), "Planned", String::new())
    } else {
        condition("Placed", false, "NoSite", why.join(". "))
    };
    let n_ready = tally.running + tally.succeeded;
    let ready = format!("{n_ready} of {} units run or have succeeded", tally.wanted);
    let mut ready = condition("Ready", n_ready == tally.wanted, "Reported", ready);
    if tally.unknown > 0 {
        ready.status = UNKNOWN.to_owned();
    }
    ServiceStatus {
        observed_generation: if tally.is_planned() && is_in_force(view, &policy.org, &policy.name) {
            generation
        } else {
            generation - 1
        },
        phase: if is_deleting {
            "Deleting"
        } else {
            tally.phase()
        }
        .to_owned(),
        conditions: vec![placed, ready],
        units: units.map(|(_, planned)| unit(view, planned)).collect(),
    }
}

fn condition(kind: &str, is_true: bool, reason: &str, message: String) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
    }
}

/// As an organisation sees it: units of others are not counted.
pub(crate) fn site(view: View<'_>, org: &Name, name: &Name, site: &Site) -> nbi::Site {
    let report = site.report.as_deref();
    let wanted = view.blueprint.site_generation(name.as_str());
    let phase = if !site.is_fresh(view.now) {
        UNKNOWN
    } else if report.is_some_and(|report| report.generation < wanted) || site.facts.ahead.is_some()
    {
        "Behind"
    } else {
        "Ready"
    };
    let units = report.map(|report| report.units.keys().filter(|id| id.org() == org.as_str()));
    let units = units.map_or(0, Iterator::count);
    nbi::Site {
        api_version: API_VERSION.to_owned(),
        kind: "Site".to_owned(),
        metadata: nbi::Metadata {
            name: name.clone(),
            labels: site.facts.labels.clone(),
            id: None,
            resource_version: None,
            generation: None,
            created_at: None,
        },
        spec: nbi::SiteSpec {
            cpu_share: site.facts.cpu_share,
            cpu_share_by: site.facts.cpu_share_by.clone(),
        },
        status: SiteStatus {
            phase: phase.to_owned(),
            generation: report.map_or(0, |report| report.generation.0),
            conditions: site_conditions(site),
            age_ms: site
                .age(view.now)
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            units: u32::try_from(units).unwrap_or(u32::MAX),
        },
    }
}

fn site_conditions(site: &Site) -> Vec<Condition> {
    let mut conditions = Vec::new();
    if let Some(ahead) = site.facts.ahead {
        let message = format!(
            "the site has generation {ahead} in force, which this controller's store does not know: it was restored from a backup. Adopt the \
             site to overrule what it runs"
        );
        conditions.push(condition(
            "NeedsOperator",
            true,
            "GenerationWentBack",
            message,
        ));
    }
    let Some(report) = &site.report else {
        return conditions;
    };
    if let Some(refused) = &report.refused {
        conditions.push(condition("Refused", true, "RefusedBySite", refused.clone()));
    }
    let told = report.conditions.iter().take(CONDITIONS_MAX);
    conditions
        .extend(told.map(|told| condition(&told.kind, true, &told.kind, told.message.clone())));
    conditions
}

const CONDITIONS_MAX: usize = 16;

pub(crate) fn migration(view: View<'_>, migration: &Migration) -> nbi::Migration {
    let progress = migration.progress(view.sites, view.blueprint);
    let history = migration.history.iter().map(|(phase, at_ms)| PhaseAt {
        phase: phase.text().to_owned(),
        at_ms: *at_ms,
    });
    nbi::Migration {
        api_version: API_VERSION.to_owned(),
        kind: "Migration".to_owned(),
        metadata: nbi::Metadata {
            name: migration.spec.service.clone(),
            labels: ids::Labels::new(),
            id: Some(migration.id.clone()),
            resource_version: None,
            generation: None,
            created_at: Some(rfc3339(migration.created_ms)),
        },
        spec: migration.spec.clone(),
        status: MigrationStatus {
            phase: migration.phase.text().to_owned(),
            from: migration.sources().into_iter().cloned().collect(),
            to: migration.to.clone(),
            moved: progress.moved,
            ranks: migration.n_ranks(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a pause has less than 53 bits of microseconds"
            )]
            pause_ms_max: progress.pause_us_max as f64 / 1e3,
            history: history.collect(),
            operation: migration.operation.clone(),
        },
    }
}

/// Milliseconds since 1970 as people write them: 2026-01-02T03:04:05.678Z.
pub(crate) fn rfc3339(wall_ms: u64) -> String {
    let (seconds, ms) = (wall_ms / 1000, wall_ms % 1000);
    let (mut days, second) = (seconds / 86400, seconds % 86400);
    // Years of 400 years are all alike; within one, count from March so that the leap day comes last.
    days += 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}
