//! Records what has become of requests, by what the sites report, and tells those who watch what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use ids::Name;
use meta::{Condition, Write};
use nbi::Progress;

use crate::Error;
use crate::controller::feed::Changed;
use crate::controller::reads::{self, MIGRATION, OPERATION, SERVICE, SITE};
use crate::controller::records::{Done, HEAD, OperationRecord, Subject, encode};
use crate::controller::requests::locks;
use crate::controller::state::{Row, State};
use crate::controller::{Draft, Inner};
use crate::core::inventory::Now;
use crate::core::migration::{Migration, Phase};
use crate::core::project;

pub(in crate::controller) async fn tick(inner: Arc<Inner>) -> Result<(), Error> {
    let now = inner.now();
    let drafts = {
        let state = inner.state();
        let mut drafts = migrations(&state, now);
        drafts.extend(operations(&state, now));
        drafts
    };
    // Each by itself: one that has been overtaken does not hold up the others.
    for draft in drafts {
        inner.store.commit(draft.conditions, draft.writes).await?;
        inner.catch_up()?;
    }
    show(&inner, now);
    Ok(())
}

fn migrations(state: &State, now: Now) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for row in state.migrations_under_way() {
        let Some(next) = row.record.advance(&state.blueprint, &state.sites, now) else {
            continue;
        };
        let key = format!("migration/{}/{}", next.org, next.id);
        let mut draft = Draft {
            conditions: vec![Condition::new(&*key, Some(row.revision))],
            writes: vec![Write::put(key, encode(&next))],
        };
        if next.phase.is_final() {
            // From now on its wish counts no more: it must be in force already, and stay so.
            draft.conditions.push(Condition::new(HEAD, state.head));
            draft
                .writes
                .extend(locks(&next).into_iter().map(Write::delete));
            let operations = state.operations.get(&next.org);
            if let Some(row) = operations.and_then(|rows| rows.get(&next.operation)) {
                finish(&mut draft, &next.org, row, outcome(&next, now));
            }
        }
        drafts.push(draft);
    }
    drafts
}

fn outcome(migration: &Migration, now: Now) -> Done {
    let is_ok = migration.phase == Phase::Succeeded;
    let why = || {
        migration
            .error
            .clone()
            .unwrap_or_else(|| migration.phase.text().to_owned())
    };
    Done {
        at_ms: now.wall_ms,
        error: (!is_ok).then(why),
        progress: Progress {
            step: migration.progress.moved,
            goal: migration.n_ranks(),
        },
    }
}

/// Adds to a draft that an operation is done.
pub(in crate::controller) fn finish(
    draft: &mut Draft,
    org: &Name,
    row: &Row<OperationRecord>,
    done: Done,
) {
    let record = OperationRecord {
        done: Some(done),
        ..row.record.clone()
    };
    let key = format!("operation/{org}/{}", record.id);
    draft
        .conditions
        .push(Condition::new(&*key, Some(row.revision)));
    draft.writes.push(Write::put(key, encode(&record)));
}

fn operations(state: &State, now: Now) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (org, rows) in &state.operations {
        for row in rows.values().filter(|row| row.record.done.is_none()) {
            let outcome = match &row.record.subject {
                Subject::Service { name, id } => {
                    service_outcome(state, org, name, id, &row.record, now)
                }
                Subject::Site { name, generation } => {
                    let site = state.sites.get(name);
                    let has_it = site.is_some_and(|site| site.has_in_force(*generation));
                    let done = Done {
                        at_ms: now.wall_ms,
                        error: None,
                        progress: Progress { step: 1, goal: 1 },
                    };
                    has_it.then(|| (done, Draft::default()))
                }
                // It ends with the migration.
                Subject::Migration { .. } => None,
            };
            if let Some((done, mut draft)) = outcome {
                finish(&mut draft, org, row, done);
                drafts.push(draft);
            }
        }
    }
    drafts
}

/// What became of a request about a service, if it is over; and what is to be committed with it.
fn service_outcome(
    state: &State,
    org: &Name,
    name: &Name,
    id: &str,
    operation: &OperationRecord,
    now: Now,
) -> Option<(Done, Draft)> {
    let is_delete = operation.kind == "delete";
    let done = |error: Option<String>, step, goal| Done {
        at_ms: now.wall_ms,
        error,
        progress: Progress { step, goal },
    };
    let found = state.service(org, name).ok();
    let Some(row) = found.filter(|row| row.record.id == id) else {
        let error = (!is_delete).then(|| "the service was deleted".to_owned());
        return Some((done(error, 1, 1), Draft::default()));
    };
    let view = state.view(now);
    if row.record.is_deleting {
        let is_gone = state.blueprint.units_of(org, name, None).next().is_none()
            && !state.blueprint.is_leaving(org, name)
            && project::n_lingering(view, org, name) == 0;
        let key = format!("service/{org}/{name}");
        let draft = Draft {
            conditions: vec![Condition::new(&*key, Some(row.revision))],
            writes: vec![Write::delete(key)],
        };
        return (is_delete && is_gone).then(|| (done(None, 1, 1), draft));
    }
    let tally = project::tally(view, &row.policy);
    let is_over = tally.is_planned()
        && tally.n_settled() == tally.wanted
        && project::is_in_force(view, org, name)
        && !state.blueprint.is_leaving(org, name)
        && project::n_lingering(view, org, name) == 0;
    let error = (tally.failed > 0).then(|| project::failures(view, org, name));
    let draft = Draft {
        conditions: vec![Condition::new(
            format!("service/{org}/{name}"),
            Some(row.revision),
        )],
        writes: Vec::new(),
    };
    is_over.then(|| (done(error, tally.n_settled(), tally.wanted), draft))
}

/// What watchers were told last.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    hashes: BTreeMap<Changed, u64>,
    fresh: BTreeSet<Name>,
}

fn show(inner: &Inner, now: Now) {
    let mut shown = inner.shown();
    let mut guard = inner.state();
    let state = &mut *guard;
    let fresh = state.sites.iter().filter(|(_, site)| site.is_fresh(now));
    let fresh: BTreeSet<_> = fresh.map(|(name, _)| name.clone()).collect();
    for site in fresh.symmetric_difference(&shown.fresh) {
        state.dirty.sites.insert(site.clone());
        let units: Vec<_> = state.blueprint.site_units(site.as_str()).cloned().collect();
        for id in &units {
            state.dirty_unit(id);
        }
    }
    shown.fresh = fresh;
    for changed in changed(state) {
        let hash = look(state, &changed, now).map(|value| hash(&value));
        let before = match hash {
            Some(hash) => shown.hashes.insert(changed.clone(), hash),
            None => shown.hashes.remove(&changed),
        };
        if before != hash {
            inner.feed.push(changed);
        }
    }
}

/// What may look different now: what was touched, and what is under way.
fn changed(state: &mut State) -> BTreeSet<Changed> {
    let dirty = &mut state.dirty;
    let mut found = BTreeSet::new();
    let named = |org, kind, name: &dyn ToString| Changed {
        org: Some(org),
        kind,
        name: name.to_string(),
    };
    let services = std::mem::take(&mut dirty.services).into_iter();
    found.extend(services.map(|(org, name)| named(org, SERVICE, &name)));
    let operations = std::mem::take(&mut dirty.operations).into_iter();
    found.extend(operations.map(|(org, id)| named(org, OPERATION, &id)));
    let migrations = std::mem::take(&mut dirty.migrations).into_iter();
    found.extend(migrations.map(|(org, id)| named(org, MIGRATION, &id)));
    found.extend(
        std::mem::take(&mut dirty.sites)
            .into_iter()
            .map(|name| Changed {
                org: None,
                kind: SITE,
                name: name.to_string(),
            }),
    );
    for row in state.migrations_under_way() {
        found.insert(named(row.record.org.clone(), MIGRATION, &row.record.id));
    }
    for (org, rows) in &state.operations {
        let open = rows.values().filter(|row| row.record.done.is_none());
        found.extend(open.map(|row| named(org.clone(), OPERATION, &row.record.id)));
    }
    found
}

/// As it is shown, but for its age.
fn look(state: &State, changed: &Changed, now: Now) -> Option<serde_json::Value> {
    let name = || changed.name.parse::<Name>().ok();
    let value = match (changed.kind, &changed.org) {
        (SERVICE, Some(org)) => {
            let name = name()?;
            let mut service = reads::service(state, &name, state.service(org, &name).ok()?, now);
            for unit in service
                .status
                .iter_mut()
                .flat_map(|status| &mut status.units)
            {
                unit.age_ms = None;
            }
            serde_json::to_value(service)
        }
        (MIGRATION, Some(org)) => {
            let row = state.migrations.get(org)?.get(&changed.name)?;
            serde_json::to_value(project::migration(state.view(now), &row.record))
        }
        (OPERATION, Some(org)) => {
            let row = state.operations.get(org)?.get(&changed.name)?;
            serde_json::to_value(reads::operation(state, &row.record, org, now))
        }
        _ => {
            let name = name()?;
            let site = state.sites.get(&name)?;
            // Whoever watches sees its own number of units; any organisation's name does to see that one changes.
            let mut shown = project::site(state.view(now), &name, &name, site);
            let units = site.report.as_ref().map_or(0, |report| report.units.len());
            shown.status.units = u32::try_from(units).unwrap_or(u32::MAX);
            shown.status.age_ms = None;
            serde_json::to_value(shown)
        }
    };
    value.ok()
}

fn hash(value: &serde_json::Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
