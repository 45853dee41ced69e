//! Makes the next blueprint, if there is something new. It is committed on the condition that all that it was made of is still so: the blueprint
//! before it, the migrations under way, and the services whose units change. If not, it is made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ids::{Generation, Name, UnitId};
use meta::{Condition, Revision, Write};

use crate::Error;
use crate::controller::Inner;
use crate::controller::records::{HEAD, Head, VERSION, encode};
use crate::controller::state::{Row, Service, State};
use crate::core::blueprint::{Blueprint, Changes};
use crate::core::inventory::Sites;
use crate::core::migration::Migration;
use crate::core::plan::{self, Input, Plan};

/// So much of one blueprint is new at most; the rest is planned at once after it.
const UNITS_MAX: usize = 8192;
const BYTES_MAX: usize = 32 << 20;

/// What a plan is made of, at one moment.
#[derive(Clone, Debug)]
struct Basis {
    parent: Arc<Blueprint>,
    head: Option<Revision>,
    services: Vec<Arc<Service>>,
    sites: Arc<Sites>,
    migrations: Vec<Arc<Row<Migration>>>,
}

pub(super) async fn tick(inner: Arc<Inner>) -> Result<(), Error> {
    loop {
        let basis = Basis::of(&inner.state());
        let now = inner.now();
        let timer = inner.metrics.plan_seconds.start_timer();
        let plan = {
            let basis = basis.clone();
            let work = move || {
                let wanted = basis.services.iter().filter(|row| !row.record.is_deleting);
                let services: Vec<_> = wanted.map(|row| Arc::clone(&row.policy)).collect();
                let migrations = basis.migrations.iter().map(|row| &row.record);
                plan::plan(Input {
                    services: &services,
                    sites: &basis.sites,
                    parent: &basis.parent,
                    migrations: &migrations.collect::<Vec<_>>(),
                    now,
                })
            };
            inner.planner.run(work).await?
        };
        timer.observe_duration();
        let Plan { changes, pending } = plan;
        if inner.state().set_pending(pending) {
            inner.signals.project.notify_one();
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (conditions, writes) = basis.commit(changes);
        match inner.store.commit(conditions, writes).await? {
            Some(_) => inner.metrics.blueprints.inc(),
            None => inner.metrics.overtaken.inc(),
        }
        inner.catch_up()?;
    }
}

impl Basis {
    fn of(state: &State) -> Self {
        let services = state.services.values().flat_map(BTreeMap::values);
        Self {
            parent: Arc::clone(&state.blueprint),
            head: state.head,
            services: services.cloned().collect(),
            sites: Arc::clone(&state.sites),
            migrations: state.migrations_under_way().cloned().collect(),
        }
    }

    fn commit(&self, changes: Changes) -> (Vec<Condition>, Vec<Write>) {
        let mut writes = Vec::new();
        let mut taken = Changes::default();
        let mut n_bytes = 0;
        let Changes { units, mut leaving } = changes;
        for (id, planned) in units {
            let value = planned.as_deref().map(encode);
            n_bytes += value.as_ref().map_or(0, Vec::len);
            let is_first = taken.is_empty();
            if taken.units.len() >= UNITS_MAX || n_bytes > BYTES_MAX && !is_first {
                // Of what is not gone yet, nothing is awaited.
                leaving.retain(|_, leaving| leaving.is_none());
                break;
            }
            let key = format!("target/unit/{id}");
            writes.push(Write { key, value });
            if let Some(leaving) = leaving.remove(&id) {
                taken.leaving.insert(id.clone(), leaving);
            }
            taken.units.insert(id, planned);
        }
        taken.leaving.extend(leaving.into_iter().take(UNITS_MAX));
        for (id, leaving) in &taken.leaving {
            let key = format!("target/leaving/{id}");
            let value = leaving.as_deref().map(encode);
            writes.push(Write { key, value });
        }
        let next = self.parent.then(&taken);
        for site in self.parent.sites_changed(&taken) {
            let mut target = next.site_target(site.as_str());
            let report = self.sites.get(&site).and_then(|site| site.report.as_ref());
            target.forget(report.map_or(Generation(0), |report| report.generation));
            let key = format!("target/site/{site}");
            writes.push(Write::put(key, encode(&target)));
        }
        let generation = next.generation;
        let version = VERSION;
        let head = Head {
            version,
            generation,
        };
        writes.push(Write::put(HEAD, encode(&head)));
        (self.conditions(taken.units.keys()), writes)
    }

    fn conditions<'a>(&self, changed: impl Iterator<Item = &'a UnitId>) -> Vec<Condition> {
        let mut conditions = vec![Condition::new(HEAD, self.head)];
        for row in &self.migrations {
            let Migration { org, id, .. } = &row.record;
            let key = format!("migration/{org}/{id}");
            conditions.push(Condition::new(key, Some(row.revision)));
        }
        let revision = |row: &Arc<Service>| {
            let key = |org: &Name, name: &Name| format!("service/{org}/{name}");
            (key(&row.policy.org, &row.policy.name), row.revision)
        };
        let revisions: BTreeMap<_, _> = self.services.iter().map(revision).collect();
        let mut services: Vec<_> = changed
            .map(|id| format!("service/{}/{}", id.org(), id.service()))
            .collect();
        services.dedup();
        conditions.extend(services.into_iter().map(|key| {
            let revision = revisions.get(&key).copied();
            Condition::new(key, revision)
        }));
        conditions
    }
}
