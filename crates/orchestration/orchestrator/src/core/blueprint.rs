//! What runs where: decided, numbered, never changed. A blueprint follows from its parent by [`Changes`], and so it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ids::{Digest, Generation, Name, UnitId};
use serde::{Deserialize, Serialize};
use workload::{SiteConfig, UnitSpec};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Blueprint {
    pub generation: Generation,
    units: BTreeMap<UnitId, Arc<Planned>>,
    /// Units that are not wanted any more, and may still run.
    leaving: BTreeMap<UnitId, Arc<Leaving>>,
    sites: BTreeMap<Name, SitePlan>,
}

/// A unit and why it is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub spec: UnitSpec,
    /// The blueprint that changed `spec` last: a home that has an older configuration does something else.
    #[serde(default)]
    pub generation: Generation,
    /// Sites where nothing of it shall be any more, but may still be: they keep their part until the home says that it is empty.
    #[serde(default)]
    pub draining: BTreeSet<Name>,
    /// Sentences about the choice of the site.
    pub reasons: Vec<String>,
}

impl Planned {
    /// The sites that have a part of it.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &Name> {
        self.spec.sites().chain(&self.draining)
    }
}

/// What is awaited before a unit counts as ended: a report of each of these sites that this configuration, or a newer one, is in force, without
/// the unit in it. Until then nothing of its name is placed: it would run twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaving {
    pub sites: BTreeMap<Name, Generation>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct SitePlan {
    target: SiteTarget,
    units: BTreeSet<UnitId>,
    /// What it has not said yet that it has ended.
    leaving: BTreeSet<UnitId>,
}

/// Which configurations were made for a site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SiteTarget {
    /// Of the blueprint that last changed what this site is to run. A site that has it is up to date, and needs no newer one.
    pub generation: Generation,
    /// Those that it may have, in order, with the beginnings of their digests. A site that has another one was told by a store that went back
    /// in time since.
    pub made: Vec<(Generation, String)>,
}

/// So many are remembered for a site that is away.
const MADE_MAX: usize = 1024;
/// And so many that are older than what it has said last: its ledger may be damaged, and then it has an older one.
const OLDER_MAX: usize = 8;

impl SiteTarget {
    pub(crate) fn make(&mut self, generation: Generation, digest: &Digest) {
        self.made.push((generation, short(digest)));
    }

    /// `has`: what the site has said last.
    pub(crate) fn forget(&mut self, has: Generation) {
        let n_older = self.made.partition_point(|(made, _)| *made < has);
        let n_surplus = self.made.len().saturating_sub(MADE_MAX);
        self.made
            .drain(..n_surplus.max(n_older.saturating_sub(OLDER_MAX)));
    }
}

/// Enough to tell what went wrong; nobody forges it.
fn short(digest: &Digest) -> String {
    digest.as_str()[..16].to_owned()
}

/// From one blueprint to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// `None`: not any more.
    pub units: BTreeMap<UnitId, Option<Arc<Planned>>>,
    /// `None`: it has ended everywhere.
    pub leaving: BTreeMap<UnitId, Option<Arc<Leaving>>>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.leaving.is_empty()
    }
}

impl Blueprint {
    pub(crate) fn units(&self) -> &BTreeMap<UnitId, Arc<Planned>> {
        &self.units
    }

    /// The units of a service, and of a block of it, in the order of their ids.
    pub(crate) fn units_of<'a>(
        &'a self,
        org: &Name,
        service: &Name,
        block: Option<&Name>,
    ) -> impl Iterator<Item = (&'a UnitId, &'a Arc<Planned>)> {
        let prefix = match block {
            Some(block) => format!("{org}/{service}/{block}/"),
            None => format!("{org}/{service}/"),
        };
        beginning_with(&self.units, prefix)
    }

    pub(crate) fn leaving(&self) -> &BTreeMap<UnitId, Arc<Leaving>> {
        &self.leaving
    }

    /// Whether a service had units that may still run.
    pub(crate) fn is_leaving(&self, org: &Name, service: &Name) -> bool {
        let prefix = format!("{org}/{service}/");
        beginning_with(&self.leaving, prefix).next().is_some()
    }

    /// Units that a site has not said yet that it has ended.
    pub(crate) fn leaving_from(&self, site: &str) -> impl Iterator<Item = &UnitId> {
        let plan = self.sites.get(site).into_iter();
        plan.flat_map(|plan| &plan.leaving)
    }

    /// What is awaited of a site is awaited no more: it does not come back.
    pub(crate) fn forgetting(&self, site: &Name) -> Changes {
        let left = |id: &UnitId| {
            let mut leaving = Leaving::clone(&self.leaving[id]);
            leaving.sites.remove(site);
            let is_awaited = !leaving.sites.is_empty();
            (id.clone(), is_awaited.then(|| Arc::new(leaving)))
        };
        Changes {
            units: BTreeMap::new(),
            leaving: self.leaving_from(site.as_str()).map(left).collect(),
        }
    }

    /// The configuration that a site is to have, by number. Never configured: 0.
    pub(crate) fn site_generation(&self, site: &str) -> Generation {
        self.sites
            .get(site)
            .map_or(Generation(0), |plan| plan.target.generation)
    }

    pub(crate) fn site_target(&self, site: &str) -> SiteTarget {
        let plan = self.sites.get(site);
        plan.map(|plan| plan.target.clone()).unwrap_or_default()
    }

    /// Whether a configuration that a site has was not made for it here. `digest`: if it is known.
    pub(crate) fn is_foreign(
        &self,
        site: &str,
        generation: Generation,
        digest: Option<&Digest>,
    ) -> bool {
        if generation > self.site_generation(site) {
            return true;
        }
        let (Some(digest), Some(plan)) = (digest, self.sites.get(site)) else {
            return false;
        };
        let has = (generation, short(digest));
        // One that has nothing was never told anything.
        generation > Generation(0) && !plan.target.made.contains(&has)
    }

    pub(crate) fn site_units(&self, site: &str) -> impl Iterator<Item = &UnitId> {
        self.sites
            .get(site)
            .into_iter()
            .flat_map(|plan| &plan.units)
    }

    /// Whether a site has a part of a unit.
    pub(crate) fn is_at(&self, unit: &UnitId, site: &str) -> bool {
        let plan = self.sites.get(site);
        plan.is_some_and(|plan| plan.units.contains(unit))
    }

    pub(crate) fn site_config(&self, site: &str) -> SiteConfig {
        let unit = |id| self.units[id].spec.clone();
        SiteConfig {
            generation: self.site_generation(site),
            units: self.site_units(site).map(unit).collect(),
        }
    }

    /// The sites whose configuration changes.
    pub(crate) fn sites_changed(&self, changes: &Changes) -> BTreeSet<Name> {
        let mut sites = BTreeSet::new();
        for (id, after) in &changes.units {
            let parts = |planned: Option<&Arc<Planned>>| -> BTreeSet<Name> {
                planned
                    .into_iter()
                    .flat_map(|planned| planned.sites().cloned())
                    .collect()
            };
            let (before, after) = (self.units.get(id), after.as_ref());
            let (old, new) = (parts(before), parts(after));
            if before.map(|planned| &planned.spec) == after.map(|planned| &planned.spec) {
                sites.extend(old.symmetric_difference(&new).cloned());
            } else {
                sites.extend(old.into_iter().chain(new));
            }
        }
        sites
    }

    /// The next blueprint.
    pub(crate) fn then(&self, changes: &Changes) -> Self {
        let mut next = self.clone();
        next.generation = self.generation.next();
        for (id, planned) in &changes.units {
            next.set_unit(id.clone(), planned.clone());
        }
        for (id, leaving) in &changes.leaving {
            next.set_leaving(id.clone(), leaving.clone());
        }
        for site in self.sites_changed(changes) {
            let mut target = next.site_target(site.as_str());
            target.generation = next.generation;
            next.set_site_target(site.clone(), target.clone());
            target.make(next.generation, &next.site_config(site.as_str()).digest());
            next.set_site_target(site, target);
        }
        next
    }

    /// For reading it back in pieces.
    pub(crate) fn set_unit(&mut self, id: UnitId, planned: Option<Arc<Planned>>) {
        if let Some(before) = self.units.remove(&id) {
            for site in before.sites() {
                if let Some(plan) = self.sites.get_mut(site) {
                    plan.units.remove(&id);
                }
            }
        }
        if let Some(planned) = planned {
            for site in planned.sites() {
                let plan = self.sites.entry(site.clone()).or_default();
                plan.units.insert(id.clone());
            }
            self.units.insert(id, planned);
        }
    }

    pub(crate) fn set_leaving(&mut self, id: UnitId, leaving: Option<Arc<Leaving>>) {
        if let Some(before) = self.leaving.remove(&id) {
            for site in before.sites.keys() {
                if let Some(plan) = self.sites.get_mut(site) {
                    plan.leaving.remove(&id);
                }
            }
        }
        if let Some(leaving) = leaving {
            for site in leaving.sites.keys() {
                let plan = self.sites.entry(site.clone()).or_default();
                plan.leaving.insert(id.clone());
            }
            self.leaving.insert(id, leaving);
        }
    }

    pub(crate) fn set_site_target(&mut self, site: Name, target: SiteTarget) {
        self.sites.entry(site).or_default().target = target;
    }
}

fn beginning_with<V>(
    rows: &BTreeMap<UnitId, V>,
    prefix: String,
) -> impl Iterator<Item = (&UnitId, &V)> {
    let from = (
        std::ops::Bound::Included(prefix.as_str()),
        std::ops::Bound::Unbounded,
    );
    rows.range::<str, _>(from)
        .take_while(move |(id, _)| id.as_str().starts_with(&prefix))
}
