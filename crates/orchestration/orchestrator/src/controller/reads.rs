//! What users see: made of the mirror and the reports at the moment of asking.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use ids::{Name, UnitId};
use nbi::{
    API_VERSION, BlockExplanation, Explanation, Migration, Operation, Page, Progress, Site,
    UnitStatus,
};
use workload::Observed;

use super::feed::Changed;
use super::records::{Done, OperationRecord, Subject};
use super::state::{self, State};
use super::{Controller, Inner};
use crate::core::inventory::{Now, last_report};
use crate::core::project;
use crate::{Error, ErrorKind};

/// A piece of what a unit has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Where it begins: later than asked for if the beginning is not kept any more.
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The unit has ended and this piece reaches the end (it may be empty).
    pub is_end: bool,
}

/// Something changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Opaque; to resume after it.
    pub revision: String,
    /// `Service`, `Site`, `Migration` or `Operation`.
    pub kind: &'static str,
    /// Of a service or site, or the id of a migration or operation.
    pub name: String,
    /// As GET would show it now; `None`: it is gone.
    pub object: Option<serde_json::Value>,
}

/// The events of one organisation, and of the sites, in order.
#[derive(Debug)]
pub struct Watch {
    inner: Arc<Inner>,
    org: Name,
    seen: u64,
    signal: tokio::sync::watch::Receiver<u64>,
}

/// A block that runs, for whoever watches over it.
#[derive(Clone, Debug)]
pub struct BlockView {
    pub org: Name,
    pub service: Name,
    pub block: nbi::Block,
    pub units: Vec<UnitView>,
    /// A migration of it is under way.
    pub is_moving: bool,
}

#[derive(Clone, Debug)]
pub struct UnitView {
    pub id: UnitId,
    pub home: Name,
    /// Where each rank shall be.
    pub placement: Vec<Name>,
    /// What its home said last, if it has; and how old that is.
    pub seen: Option<(Observed, Duration)>,
}

const PAGE_MAX: usize = 500;
const OPERATION_WAIT_MAX: Duration = Duration::from_secs(60);
const LOG_PIECE_MAX: usize = 1 << 20;

impl Controller {
    /// # Errors
    /// `NotFound`.
    pub fn service(&self, org: &Name, name: &Name) -> Result<nbi::Service, Error> {
        let state = self.0.state();
        Ok(service(
            &state,
            name,
            state.service(org, name)?,
            self.0.now(),
        ))
    }

    /// In the order of names. A cursor is what an earlier page gave; `limit` is cut to 1..=500.
    ///
    /// # Errors
    /// `Invalid` when the cursor is none.
    pub fn services(
        &self,
        org: &Name,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<nbi::Service>, Error> {
        let state = self.0.state();
        let now = self.0.now();
        page(state.services.get(org), cursor, limit, |name, row| {
            service(&state, name, row, now)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn units(&self, org: &Name, service: &Name) -> Result<Vec<UnitStatus>, Error> {
        let state = self.0.state();
        state.service(org, service)?;
        let view = state.view(self.0.now());
        let units = state.blueprint.units_of(org, service, None);
        Ok(units
            .map(|(_, planned)| project::unit(view, planned))
            .collect())
    }

    /// # Errors
    /// `NotFound`.
    pub fn explain(&self, org: &Name, service: &Name) -> Result<Explanation, Error> {
        let mut blocks = Vec::new();
        {
            let state = self.0.state();
            for block in &state.service(org, service)?.record.spec.blocks {
                blocks.push(BlockExplanation {
                    block: block.name.clone(),
                    placement: reasons(&state, org, service, block),
                    decisions: Vec::new(),
                });
            }
        }
        if let Some(explainer) = &self.0.explainer {
            for block in &mut blocks {
                block.decisions = explainer.decisions(org, service, &block.block);
            }
        }
        let service = service.clone();
        Ok(Explanation { service, blocks })
    }

    /// # Errors
    /// `NotFound`.
    pub fn migration(&self, org: &Name, id: &str) -> Result<Migration, Error> {
        let state = self.0.state();
        let found = state.migrations.get(org).and_then(|rows| rows.get(id));
        let row = found.ok_or_else(|| Error::not_found("migration", id))?;
        Ok(project::migration(state.view(self.0.now()), &row.record))
    }

    /// Oldest first.
    ///
    /// # Errors
    /// `Invalid` when the cursor is none.
    pub fn migrations(
        &self,
        org: &Name,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Migration>, Error> {
        let state = self.0.state();
        let view = state.view(self.0.now());
        let rows = state.migrations.get(org);
        page(rows, cursor, limit, |_, row| {
            project::migration(view, &row.record)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn operation(&self, org: &Name, id: &str) -> Result<Operation, Error> {
        self.0.operation(org, id)
    }

    /// The operation when it is done, or as it is after `timeout` (at most 60 s). Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wait_operation(
        &self,
        org: &Name,
        id: &str,
        timeout: Duration,
    ) -> Result<Operation, Error> {
        let mut signal = self.0.feed.subscribe();
        let done = async {
            loop {
                signal.borrow_and_update();
                let operation = self.0.operation(org, id);
                // The feed lives as long as the controller.
                let is_over = match &operation {
                    Ok(operation) => operation.done_at_ms.is_some(),
                    Err(_) => true,
                };
                if is_over || signal.changed().await.is_err() {
                    return operation;
                }
            }
        };
        let timeout = timeout.min(OPERATION_WAIT_MAX);
        match tokio::time::timeout(timeout, done).await {
            Ok(operation) => operation,
            Err(_) => self.0.operation(org, id),
        }
    }

    /// Oldest first.
    ///
    /// # Errors
    /// `Invalid` when the cursor is none.
    pub fn operations(
        &self,
        org: &Name,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Operation>, Error> {
        let state = self.0.state();
        let now = self.0.now();
        let rows = state.operations.get(org);
        page(rows, cursor, limit, |_, row| {
            operation(&state, &row.record, org, now)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn site(&self, org: &Name, name: &Name) -> Result<Site, Error> {
        let state = self.0.state();
        let site = state.sites.get(name);
        let site = site.ok_or_else(|| Error::not_found("site", name))?;
        Ok(project::site(state.view(self.0.now()), org, name, site))
    }

    /// In the order of names.
    ///
    /// # Errors
    /// `Invalid` when the cursor is none.
    pub fn sites(
        &self,
        org: &Name,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Site>, Error> {
        let state = self.0.state();
        let view = state.view(self.0.now());
        page(Some(&state.sites), cursor, limit, |name, site| {
            project::site(view, org, name, site)
        })
    }

    /// What `unit` has written from `offset` on, at most `max` bytes (cut to 1 MiB). When there is nothing yet, it waits up to `wait`
    /// for something to come; then the piece is empty.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when its home is not connected or does not answer.
    pub async fn read_log(
        &self,
        org: &Name,
        unit: &UnitId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> Result<LogPiece, Error> {
        if unit.org() != org.as_str() {
            return Err(Error::not_found("unit", unit));
        }
        let mut signal = self.0.signals.reports.subscribe();
        let more = async {
            while !self.0.log_beyond(unit, offset)? && signal.changed().await.is_ok() {}
            Ok(())
        };
        if let Ok(outcome) = tokio::time::timeout(wait.min(OPERATION_WAIT_MAX), more).await {
            outcome?;
        }
        let (home, is_final) = {
            let state = self.0.state();
            let planned = state.blueprint.units().get(unit);
            let planned = planned.ok_or_else(|| Error::not_found("unit", unit))?;
            let seen = last_report(&state.sites, &planned.spec);
            let is_final = seen.is_some_and(|seen| seen.phase.is_final());
            (planned.spec.home.clone(), is_final)
        };
        let max = max.clamp(1, LOG_PIECE_MAX);
        let (offset, bytes) = self
            .0
            .connections
            .read_log(&home, unit, offset, max)
            .await?;
        Ok(LogPiece {
            // A unit that had ended before it was asked writes no more.
            is_end: is_final && bytes.len() < max,
            offset,
            bytes,
        })
    }

    /// Where a watch begins that misses nothing after a list read from now on.
    #[must_use]
    pub fn revision(&self) -> String {
        self.0.feed.revision(self.0.feed.count())
    }

    /// What changes after `since` (`None`: from now on).
    ///
    /// # Errors
    /// `Gone` when that is too long ago; `Invalid` when it is no revision.
    pub fn watch(&self, org: &Name, since: Option<&str>) -> Result<Watch, Error> {
        let signal = self.0.feed.subscribe();
        let seen = match since {
            Some(revision) => self.0.feed.parse(revision)?,
            None => self.0.feed.count(),
        };
        Ok(Watch {
            inner: Arc::clone(&self.0),
            org: org.clone(),
            seen,
            signal,
        })
    }

    /// All blocks that shall run, of all organisations, and how they stand.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockView> {
        let state = self.0.state();
        let now = self.0.now();
        let mut blocks = Vec::new();
        for (org, services) in &state.services {
            for (service, row) in services.iter().filter(|(_, row)| !row.record.is_deleting) {
                for block in &row.record.spec.blocks {
                    blocks.push(block_view(&state, org, service, block, now));
                }
            }
        }
        blocks
    }
}

impl Watch {
    /// The next event, when there is one. Cancel-safe.
    ///
    /// # Errors
    /// `Gone` when the reader was too slow and events were lost: it lists everything again and watches from there.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            self.signal.borrow_and_update();
            let (seen, changed) = self.inner.feed.next(&self.org, self.seen)?;
            self.seen = seen;
            if let Some(changed) = changed {
                return Ok(self.event(changed));
            }
            let ended = |_| Error::new(ErrorKind::Unavailable, "the controller ends");
            self.signal.changed().await.map_err(ended)?;
        }
    }

    fn event(&self, Changed { kind, name, .. }: Changed) -> Event {
        let controller = Controller(Arc::clone(&self.inner));
        let (org, named) = (&self.org, name.parse::<Name>());
        let object = match (kind, named) {
            (SERVICE, Ok(named)) => controller.service(org, &named).ok().and_then(json),
            (SITE, Ok(named)) => controller.site(org, &named).ok().and_then(json),
            (MIGRATION, _) => controller.migration(org, &name).ok().and_then(json),
            (_, _) => controller.operation(org, &name).ok().and_then(json),
        };
        Event {
            revision: self.inner.feed.revision(self.seen),
            kind,
            name,
            object,
        }
    }
}

pub(crate) const SERVICE: &str = "Service";
pub(crate) const SITE: &str = "Site";
pub(crate) const MIGRATION: &str = "Migration";
pub(crate) const OPERATION: &str = "Operation";

fn json(resource: impl serde::Serialize) -> Option<serde_json::Value> {
    serde_json::to_value(resource).ok()
}

impl Inner {
    /// Whether there may be something to read of a unit's log from `offset` on, or never will be.
    fn log_beyond(&self, unit: &UnitId, offset: u64) -> Result<bool, Error> {
        let state = self.state();
        let planned = state.blueprint.units().get(unit);
        let planned = planned.ok_or_else(|| Error::not_found("unit", unit))?;
        let seen = last_report(&state.sites, &planned.spec);
        Ok(seen.is_some_and(|seen| seen.log_bytes > offset || seen.phase.is_final()))
    }
}

fn page<K: Ord + Borrow<str>, V, T>(
    rows: Option<&BTreeMap<K, Arc<V>>>,
    cursor: Option<&str>,
    limit: usize,
    show: impl Fn(&K, &V) -> T,
) -> Result<Page<T>, Error> {
    let after = match cursor {
        None => Bound::Unbounded,
        Some(cursor) if is_cursor(cursor) => Bound::Excluded(cursor),
        Some(_) => {
            return Err(Error::invalid(
                "?cursor",
                "a cursor is what an earlier page gave",
            ));
        }
    };
    let limit = limit.clamp(1, PAGE_MAX);
    let mut rows = rows
        .into_iter()
        .flat_map(|rows| rows.range::<str, _>((after, Bound::Unbounded)));
    let mut items = Vec::new();
    let mut last = None;
    for (key, row) in rows.by_ref().take(limit) {
        items.push(show(key, row));
        last = Some(key);
    }
    let has_more = rows.next().is_some();
    let next_cursor = last.filter(|_| has_more).map(|key| key.borrow().to_owned());
    Ok(Page { items, next_cursor })
}

/// The key of the last item. It need not exist any more.
fn is_cursor(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_allowed)
}

pub(crate) fn service(state: &State, name: &Name, row: &state::Service, now: Now) -> nbi::Service {
    let record = &row.record;
    let view = state.view(now);
    let status = project::service(view, &row.policy, record.generation, record.is_deleting);
    nbi::Service {
        api_version: API_VERSION.to_owned(),
        kind: SERVICE.to_owned(),
        metadata: nbi::Metadata {
            name: name.clone(),
            labels: record.labels.clone(),
            id: Some(record.id.clone()),
            resource_version: Some(row.revision.to_string()),
            generation: Some(record.generation),
            created_at: Some(project::rfc3339(record.created_ms)),
        },
        spec: record.spec.clone(),
        status: Some(status),
    }
}

pub(crate) fn operation(
    state: &State,
    record: &OperationRecord,
    org: &Name,
    now: Now,
) -> Operation {
    let (target, progress) = match &record.subject {
        Subject::Service { name, .. } => (format!("/v1/services/{name}"), None),
        Subject::Migration { id } => {
            let row = state.migrations.get(org).and_then(|rows| rows.get(id));
            let progress = row.map(|row| Progress {
                step: row.record.progress(&state.sites, &state.blueprint).moved,
                goal: row.record.n_ranks(),
            });
            (format!("/v1/migrations/{id}"), progress)
        }
        Subject::Site { name, .. } => {
            let progress = Progress { step: 0, goal: 1 };
            (format!("/v1/sites/{name}"), Some(progress))
        }
    };
    let progress = match (&record.done, progress) {
        (Some(done), _) => done.progress,
        (None, Some(progress)) => progress,
        (None, None) => service_progress(state, record, org, now),
    };
    let phase = match &record.done {
        None if progress.step == 0 => "Pending",
        None => "Running",
        Some(Done { error: None, .. }) => "Succeeded",
        Some(_) => "Failed",
    };
    Operation {
        id: record.id.clone(),
        kind: record.kind.clone(),
        target,
        phase: phase.to_owned(),
        progress,
        error: record.done.as_ref().and_then(|done| done.error.clone()),
        created_at_ms: record.created_ms,
        done_at_ms: record.done.as_ref().map(|done| done.at_ms),
    }
}

/// How many units of a service are as they shall be; for one that is deleted, how many are gone, of one at least.
fn service_progress(state: &State, record: &OperationRecord, org: &Name, now: Now) -> Progress {
    let Subject::Service { name, .. } = &record.subject else {
        return Progress::default();
    };
    let Ok(row) = state.service(org, name) else {
        return Progress::default();
    };
    if row.record.is_deleting {
        return Progress { step: 0, goal: 1 };
    }
    let tally = project::tally(state.view(now), &row.policy);
    Progress {
        step: tally.n_settled(),
        goal: tally.wanted,
    }
}

fn reasons(state: &State, org: &Name, service: &Name, block: &nbi::Block) -> Vec<String> {
    let mut sentences = Vec::new();
    for replica in 0..block.replicas.min(REASONED_MAX) {
        let id = UnitId::new(org, service, &block.name, replica);
        let placed = state
            .blueprint
            .units()
            .get(&id)
            .map(|planned| &planned.reasons);
        let reasons = placed
            .or_else(|| state.pending.get(&id))
            .into_iter()
            .flatten();
        let prefix = if block.replicas > 1 {
            format!("{replica}: ")
        } else {
            String::new()
        };
        sentences.extend(reasons.map(|reason| format!("{prefix}{reason}")));
    }
    sentences
}

/// Of how many replicas the reasons are told.
const REASONED_MAX: u32 = 8;

fn block_view(
    state: &State,
    org: &Name,
    service: &Name,
    block: &nbi::Block,
    now: Now,
) -> BlockView {
    let units = state.blueprint.units_of(org, service, Some(&block.name));
    let unit = |(id, planned): (&UnitId, &Arc<crate::core::blueprint::Planned>)| {
        let spec = &planned.spec;
        let age = state.sites.get(&spec.home).and_then(|site| site.age(now));
        UnitView {
            id: id.clone(),
            home: spec.home.clone(),
            placement: spec.placement.clone(),
            seen: last_report(&state.sites, spec).cloned().zip(age),
        }
    };
    let units: Vec<_> = units.map(unit).collect();
    let is_moving = state.migrations_under_way().any(|row| {
        let moved = &row.record.units;
        units.iter().any(|unit| moved.contains_key(&unit.id))
    });
    BlockView {
        org: org.clone(),
        service: service.clone(),
        block: block.clone(),
        units,
        is_moving,
    }
}
