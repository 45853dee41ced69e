//! What the controller knows, in memory: a mirror of the store, and what the sites have reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ids::{Name, UnitId};
use meta::{Change, MetaStore, Revision};

use super::records::{
    ForgottenRecord, HEAD, Head, JoinRecord, Key, ModulesRecord, OperationRecord, ServiceRecord,
    TokenRecord, VERSION, decode,
};
use super::store::failed;
use crate::core::blueprint::{Blueprint, SiteTarget};
use crate::core::inventory::{Facts, Now, Report, Site, Sites};
use crate::core::migration::Migration;
use crate::core::project::View;
use crate::core::spec::{self, ServicePolicy};
use crate::{Error, ErrorKind};

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The mirror is as of this revision.
    pub revision: Revision,
    pub services: ByOrg<Name, Service>,
    pub operations: ByOrg<String, Row<OperationRecord>>,
    pub migrations: ByOrg<String, Row<Migration>>,
    /// By the hash of their secrets.
    tokens: BTreeMap<String, TokenRecord>,
    /// By the hash of their secrets.
    pub joins: BTreeMap<String, Row<JoinRecord>>,
    pub modules: BTreeMap<Name, Row<ModulesRecord>>,
    pub blueprint: Arc<Blueprint>,
    /// `None`: there is no blueprint yet.
    pub head: Option<Revision>,
    /// Facts are mirrored; reports are not in the store.
    pub sites: Arc<Sites>,
    site_revisions: BTreeMap<Name, Revision>,
    /// The names of sites that were forgotten, also of those that have joined again since.
    pub forgotten: BTreeMap<Name, Row<ForgottenRecord>>,
    /// Of the last run of the planner.
    pub pending: BTreeMap<UnitId, Vec<String>>,
    pub dirty: Dirty,
}

/// Of each organisation, by name or id.
pub(crate) type ByOrg<K, V> = BTreeMap<Name, BTreeMap<K, Arc<V>>>;

#[derive(Debug)]
pub(crate) struct Row<T> {
    pub revision: Revision,
    pub record: T,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub revision: Revision,
    pub record: ServiceRecord,
    pub policy: Arc<ServicePolicy>,
}

/// What changed since the tasks looked last.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub services: BTreeSet<(Name, Name)>,
    pub sites: BTreeSet<Name>,
    pub operations: BTreeSet<(Name, String)>,
    pub migrations: BTreeSet<(Name, String)>,
    /// Units whose parts may have something new to tell each other.
    pub offers: BTreeSet<UnitId>,
    /// Sites that were forgotten, and when.
    pub forgotten: Vec<(Name, u64)>,
}

const PAGE: usize = 1000;

impl State {
    /// Reads all of the store.
    pub(crate) fn load(store: &dyn MetaStore) -> Result<Self, Error> {
        let mut state = Self {
            // What is committed while it is read comes once more by `catch_up`, which does no harm.
            revision: *store.revision().borrow(),
            ..Self::default()
        };
        let mut after: Option<String> = None;
        loop {
            let page = store.list("", after.as_deref(), PAGE).map_err(failed)?;
            let Some(last) = page.last() else {
                return Ok(state);
            };
            after = Some(last.key.clone());
            for entry in page {
                state.apply(&entry.key, entry.revision, Some(&entry.value))?;
            }
        }
    }

    /// Takes over what was committed since. Says whether something was.
    pub(crate) fn catch_up(&mut self, store: &dyn MetaStore) -> Result<bool, Error> {
        let mut is_news = false;
        loop {
            match store.changes("", self.revision, PAGE) {
                Ok(changes) if changes.is_empty() => return Ok(is_news),
                Ok(changes) => {
                    is_news = true;
                    for Change {
                        revision,
                        key,
                        value,
                    } in &changes
                    {
                        self.apply(key, *revision, value.as_deref())?;
                    }
                    // Only now: a commit that was taken over by halves is taken over again.
                    self.revision = changes.last().map_or(self.revision, |last| last.revision);
                }
                Err(meta::Error::Compacted { .. }) => {
                    is_news = true;
                    self.reload(store)?;
                }
                Err(other) => return Err(failed(other)),
            }
        }
    }

    /// Everything anew but what the sites have reported.
    fn reload(&mut self, store: &dyn MetaStore) -> Result<(), Error> {
        let loaded = Self::load(store)?;
        let old = std::mem::replace(self, loaded);
        self.pending = old.pending;
        let sites = Arc::make_mut(&mut self.sites);
        for (name, before) in old.sites.iter() {
            if let Some(site) = sites.get_mut(name) {
                Arc::make_mut(site).report.clone_from(&before.report);
            }
        }
        self.dirty_all();
        Ok(())
    }

    fn dirty_all(&mut self) {
        for (org, services) in &self.services {
            let names = services.keys().map(|name| (org.clone(), name.clone()));
            self.dirty.services.extend(names);
        }
        self.dirty.sites.extend(self.sites.keys().cloned());
        self.dirty
            .offers
            .extend(self.blueprint.units().keys().cloned());
    }

    /// One entry of the store is now like this.
    fn apply(&mut self, key: &str, revision: Revision, value: Option<&[u8]>) -> Result<(), Error> {
        match Key::parse(key) {
            Key::Service(org, name) => {
                let row = value.map(|value| service(&org, &name, key, revision, value));
                self.dirty.services.insert((org.clone(), name.clone()));
                set(&mut self.services, org, name, row.transpose()?);
            }
            Key::Operation(org, id) => {
                let row = value.map(|value| row(key, revision, value)).transpose()?;
                self.dirty.operations.insert((org.clone(), id.to_owned()));
                set(&mut self.operations, org, id.to_owned(), row);
            }
            Key::Migration(org, id) => {
                let row = value.map(|value| row(key, revision, value)).transpose()?;
                self.dirty.migrations.insert((org.clone(), id.to_owned()));
                set(&mut self.migrations, org, id.to_owned(), row);
            }
            Key::Token(hash) => match value {
                Some(value) => {
                    self.tokens.insert(hash.to_owned(), decode(key, value)?);
                }
                None => drop(self.tokens.remove(hash)),
            },
            Key::Join(hash) => match value {
                Some(value) => {
                    let row = row(key, revision, value)?;
                    self.joins.insert(hash.to_owned(), row);
                }
                None => drop(self.joins.remove(hash)),
            },
            Key::Modules(org) => match value {
                Some(value) => {
                    let row = row(key, revision, value)?;
                    self.modules.insert(org, row);
                }
                None => drop(self.modules.remove(&org)),
            },
            Key::Site(name) => self.apply_site(key, name, revision, value)?,
            Key::Forgotten(name) => self.apply_forgotten(key, name, revision, value)?,
            Key::Head => self.apply_head(revision, value)?,
            Key::Unit(id) => {
                let planned = value.map(|value| decode(key, value)).transpose()?;
                self.dirty_unit(&id);
                let blueprint = Arc::make_mut(&mut self.blueprint);
                blueprint.set_unit(id, planned.map(Arc::new));
            }
            Key::Leaving(id) => {
                let leaving = value.map(|value| decode(key, value)).transpose()?;
                self.dirty_unit(&id);
                let blueprint = Arc::make_mut(&mut self.blueprint);
                blueprint.set_leaving(id, leaving.map(Arc::new));
            }
            Key::SiteTarget(name) => {
                let target: Option<SiteTarget> =
                    value.map(|value| decode(key, value)).transpose()?;
                self.dirty.sites.insert(name.clone());
                let blueprint = Arc::make_mut(&mut self.blueprint);
                blueprint.set_site_target(name, target.unwrap_or_default());
            }
            Key::Other => {}
        }
        Ok(())
    }

    fn apply_head(&mut self, revision: Revision, value: Option<&[u8]>) -> Result<(), Error> {
        let head: Option<Head> = value.map(|value| decode(HEAD, value)).transpose()?;
        if head.is_some_and(|head| head.version > VERSION) {
            let message = "the store was written by a newer version of this program";
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.head = head.map(|_| revision);
        let generation = head.unwrap_or_default().generation;
        Arc::make_mut(&mut self.blueprint).generation = generation;
        Ok(())
    }

    fn apply_site(
        &mut self,
        key: &str,
        name: Name,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.dirty.sites.insert(name.clone());
        let sites = Arc::make_mut(&mut self.sites);
        let Some(value) = value else {
            sites.remove(&name);
            self.site_revisions.remove(&name);
            return Ok(());
        };
        let facts: Facts = decode(key, value)?;
        self.site_revisions.insert(name.clone(), revision);
        match sites.get_mut(&name) {
            Some(site) => Arc::make_mut(site).facts = facts,
            None => drop(sites.insert(
                name,
                Arc::new(Site {
                    facts,
                    report: None,
                }),
            )),
        }
        Ok(())
    }

    fn apply_forgotten(
        &mut self,
        key: &str,
        name: Name,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(value) = value else {
            self.forgotten.remove(&name);
            return Ok(());
        };
        let row: Row<ForgottenRecord> = row(key, revision, value)?;
        let at_ms = row.record.at_ms;
        let before = self.forgotten.insert(name.clone(), row);
        // Otherwise a site has joined under this name.
        if before.is_none_or(|before| before.record.at_ms != at_ms) {
            self.dirty.forgotten.push((name, at_ms));
        }
        Ok(())
    }

    /// A site has spoken. What it says of units of which the blueprint knows nothing is kept too: it shows what is still to go.
    pub(crate) fn report(&mut self, name: &Name, report: Arc<Report>) {
        let Some(site) = self.sites.get(name) else {
            return;
        };
        let before = site.report.clone();
        let old = before.as_ref().map(|report| &report.units);
        let mut changed = BTreeSet::new();
        for (id, unit) in &report.units {
            let earlier = old.and_then(|units| units.get(id));
            if earlier != Some(unit) {
                changed.insert(id.clone());
            }
            if earlier
                .is_none_or(|earlier| (&earlier.offer, earlier.epoch) != (&unit.offer, unit.epoch))
            {
                self.dirty.offers.insert(id.clone());
            }
        }
        let gone = old.into_iter().flat_map(BTreeMap::keys);
        changed.extend(gone.filter(|id| !report.units.contains_key(*id)).cloned());
        for id in &changed {
            self.dirty_unit(id);
        }
        self.dirty.sites.insert(name.clone());
        let sites = Arc::make_mut(&mut self.sites);
        if let Some(site) = sites.get_mut(name) {
            Arc::make_mut(site).report = Some(report);
        }
    }

    pub(crate) fn dirty_unit(&mut self, id: &UnitId) {
        let name = |text: &str| {
            text.parse::<Name>()
                .expect("a part of a unit's id is a name")
        };
        let service = (name(id.org()), name(id.service()));
        self.dirty.services.insert(service);
        self.dirty.offers.insert(id.clone());
    }

    /// Says whether that is news.
    pub(crate) fn set_pending(&mut self, pending: BTreeMap<UnitId, Vec<String>>) -> bool {
        if self.pending == pending {
            return false;
        }
        let before = std::mem::replace(&mut self.pending, pending);
        let changed: Vec<_> = before.keys().chain(self.pending.keys()).cloned().collect();
        for id in changed {
            self.dirty_unit(&id);
        }
        true
    }

    pub(crate) fn token(&self, hash: &str) -> Option<&TokenRecord> {
        self.tokens.get(hash)
    }

    pub(crate) fn site_revision(&self, name: &Name) -> Option<Revision> {
        self.site_revisions.get(name).copied()
    }

    /// Whether a site that has joined with this public key may still be this site.
    pub(crate) fn admits(&self, site: &Name, key: &str) -> bool {
        let forgotten = self.forgotten.get(site);
        forgotten.is_none_or(|row| row.record.admits.as_deref() == Some(key))
    }

    /// The same, if the site is known: one that is connected may have been forgotten meanwhile.
    pub(crate) fn has_site(&self, site: &Name, key: &str) -> bool {
        self.sites.contains_key(site) && self.admits(site, key)
    }

    pub(crate) fn service(&self, org: &Name, name: &Name) -> Result<&Arc<Service>, Error> {
        let found = self
            .services
            .get(org)
            .and_then(|services| services.get(name));
        found.ok_or_else(|| Error::not_found("service", name))
    }

    pub(crate) fn migrations_under_way(&self) -> impl Iterator<Item = &Arc<Row<Migration>>> {
        let all = self.migrations.values().flat_map(BTreeMap::values);
        all.filter(|row| !row.record.phase.is_final())
    }

    pub(crate) fn view(&self, now: Now) -> View<'_> {
        View {
            blueprint: &self.blueprint,
            sites: &self.sites,
            pending: &self.pending,
            now,
        }
    }
}

fn set<K: Ord, V>(rows: &mut ByOrg<K, V>, org: Name, key: K, row: Option<V>) {
    match row {
        Some(row) => {
            rows.entry(org).or_default().insert(key, Arc::new(row));
        }
        None => {
            if let Some(rows) = rows.get_mut(&org) {
                rows.remove(&key);
            }
        }
    }
}

fn row<T: serde::de::DeserializeOwned>(
    key: &str,
    revision: Revision,
    value: &[u8],
) -> Result<Row<T>, Error> {
    let record = decode(key, value)?;
    Ok(Row { revision, record })
}

fn service(
    org: &Name,
    name: &Name,
    key: &str,
    revision: Revision,
    value: &[u8],
) -> Result<Service, Error> {
    let record: ServiceRecord = decode(key, value)?;
    let policy = Arc::new(spec::parse(org, name, &record.spec)?);
    Ok(Service {
        revision,
        record,
        policy,
    })
}
