//! What changes records: each request decides from the mirror, and commits what it decided together with its operation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auth::{Secret, SecretHash};
use ids::{Generation, Name};
use meta::{Condition, Revision, Write};
use nbi::{Decision, MigrationSpec, Operation, PolicyRequest, Service, ServiceSpec};
use sha2::Digest as _;
use workload::SiteConfig;

use super::records::{
    HEAD, Head, KeyRecord, OperationRecord, Role, ServiceRecord, Subject, TokenRecord, VERSION,
    decode, encode,
};
use super::state::{self, State};
use super::store::failed;
use super::{Controller, Draft, Inner};
use crate::core::inventory::{Facts, last_report};
use crate::core::migration::{self, Start};
use crate::core::spec;
use crate::{Error, ErrorKind, Unasked, hexadecimal};

/// How a change is asked for, beside what it says.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// If-Match: the `resourceVersion` that it must have.
    pub if_match: Option<String>,
    /// If-None-Match: `*`. It must not exist.
    pub if_absent: bool,
    /// Idempotency-Key: 1 to 128 visible ASCII characters. The same request with the same key is answered with the same operation.
    pub idempotency_key: Option<String>,
}

const SERVICES_MAX: usize = 10_000;
const OPERATIONS_MAX: usize = 10_000;
/// What an idempotency key is.
pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key has 1 to 128 visible ASCII characters";

pub(crate) fn is_idempotency_key(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Controller {
    /// The organisation that a bearer token speaks for, and as what.
    #[must_use]
    pub fn authenticate(&self, token: &str) -> Option<(Name, Role)> {
        let secret: Secret = token.parse().ok()?;
        let state = self.0.state();
        let TokenRecord { org, role } = state.token(secret.hash().as_str())?;
        Some((org.clone(), *role))
    }

    /// From now on a token with this hash speaks for `org`, as `role`. Idempotent.
    ///
    /// # Errors
    /// `Conflict` when it speaks for another one, or as something else.
    pub async fn add_token(&self, hash: &SecretHash, org: &Name, role: Role) -> Result<(), Error> {
        let org = org.clone();
        let record = TokenRecord { org, role };
        let key = format!("token/{}", hash.as_str());
        let store = self.0.store.meta();
        let found = store.get(&key).map_err(failed)?;
        if let Some(entry) = found {
            return if record == decode(&key, &entry.value)? {
                Ok(())
            } else {
                let message = "this token speaks for another organisation, or in another role, and keeps to that: take a new token";
                Err(Error::new(ErrorKind::Conflict, message))
            };
        }
        let absent = Condition::new(&*key, None);
        self.0
            .store
            .commit(vec![absent], vec![Write::put(key, encode(&record))])
            .await?;
        self.0.catch_up()
    }

    /// Creates or replaces a service (its name is in the metadata).
    ///
    /// # Errors
    /// `Invalid` with a pointer; `Conflict` when an immutable field changes, or it is being deleted; `Precondition`, `KeyReused`, `Exhausted`.
    pub async fn apply_service(
        &self,
        org: &Name,
        service: &Service,
        terms: &Terms,
    ) -> Result<Operation, Error> {
        self.check_service(org, &service.metadata.name, &service.spec)?;
        let request = Request::new(
            &self.0,
            org,
            "apply",
            terms,
            &(&service.metadata, &service.spec),
        )?;
        let name = &service.metadata.name;
        let decide = |state: &State| {
            if let Some(operation) = request.answered()? {
                return Ok(Err(operation));
            }
            let found = state
                .services
                .get(org)
                .and_then(|services| services.get(name));
            let revision = found.map(|row| row.revision);
            terms.check(revision)?;
            let mut is_placed_anew = false;
            let record = match found {
                None => {
                    let n_services = state.services.get(org).map_or(0, BTreeMap::len);
                    if n_services >= SERVICES_MAX {
                        let message = format!("there are {SERVICES_MAX} services: delete one");
                        return Err(Error::new(ErrorKind::Exhausted, message));
                    }
                    ServiceRecord {
                        id: request.id.clone(),
                        labels: service.metadata.labels.clone(),
                        spec: service.spec.clone(),
                        generation: 1,
                        created_ms: request.now_ms,
                        is_deleting: false,
                    }
                }
                Some(row) => {
                    let is_same = row.record.spec == service.spec;
                    spec::check_immutable(&row.record.spec, &service.spec)?;
                    is_placed_anew = check_placement(state, org, name, row, &service.spec)?;
                    ServiceRecord {
                        labels: service.metadata.labels.clone(),
                        spec: service.spec.clone(),
                        generation: row.record.generation + u64::from(!is_same),
                        ..row.record.clone()
                    }
                }
            };
            let (mut draft, id) = request.change_service(state, name, revision, record)?;
            if is_placed_anew {
                // Nothing may be placed by the old wish meanwhile.
                draft.conditions.push(Condition::new(HEAD, state.head));
            }
            Ok(Ok((draft, id)))
        };
        let (Ok(id) | Err(id)) = self.0.change(decide).await?;
        self.0.operation(org, &id)
    }

    fn check_service(&self, org: &Name, name: &Name, service: &ServiceSpec) -> Result<(), Error> {
        let policy = spec::parse(org, name, service)?;
        spec::check_size(service, &policy)?;
        for (idx, module) in policy.modules().enumerate() {
            if !self.has_module(org, module) {
                let message = format!(
                    "there is no such module: upload it with PUT /v1/modules/sha256:{module}"
                );
                let pointer = format!("/spec/blocks/{idx}/module");
                return Err(Error::invalid(pointer, message));
            }
        }
        let Some(explainer) = &self.0.explainer else {
            return Ok(());
        };
        for (idx, block) in service.blocks.iter().enumerate() {
            let text = block
                .policy
                .as_ref()
                .and_then(|policy| policy.text.as_ref());
            if let Some(text) = text
                && let Err((line, column, message)) = explainer.check_policy(text)
            {
                let message = format!("line {line}, column {column}: {message}");
                return Err(Error::invalid(
                    format!("/spec/blocks/{idx}/policy/text"),
                    message,
                ));
            }
        }
        Ok(())
    }

    /// # Errors
    /// `NotFound`; `Conflict` when it is being deleted; `Precondition`, `KeyReused`.
    pub async fn delete_service(
        &self,
        org: &Name,
        name: &Name,
        terms: &Terms,
    ) -> Result<Operation, Error> {
        let request = Request::new(&self.0, org, "delete", terms, name)?;
        let decide = |state: &State| {
            if let Some(operation) = request.answered()? {
                return Ok(Err(operation));
            }
            let row = state.service(org, name)?;
            terms.check(Some(row.revision))?;
            let record = ServiceRecord {
                generation: row.record.generation + 1,
                is_deleting: true,
                ..row.record.clone()
            };
            request
                .change_service(state, name, Some(row.revision), record)
                .map(Ok)
        };
        let (Ok(id) | Err(id)) = self.0.change(decide).await?;
        self.0.operation(org, &id)
    }

    /// # Errors
    /// `NotFound`; `Invalid`; `Conflict` when it is being deleted; `Precondition`, `KeyReused`.
    pub async fn scale(
        &self,
        org: &Name,
        service: &Name,
        block: &Name,
        replicas: u32,
        terms: &Terms,
    ) -> Result<Operation, Error> {
        let request = Request::new(&self.0, org, "scale", terms, &(service, block, replicas))?;
        let scaled = |before: &ServiceSpec| {
            let mut spec = before.clone();
            let found = spec.blocks.iter_mut().find(|other| other.name == *block);
            let missing =
                || Error::invalid("/block", format!("the service has no block `{block}`"));
            found.ok_or_else(missing)?.replicas = replicas;
            let policy = spec::parse(org, service, &spec);
            let sized = policy.and_then(|policy| spec::check_size(&spec, &policy));
            sized.map_err(|error| error.at("/replicas"))?;
            Ok::<_, Error>(spec)
        };
        let decide = |state: &State| {
            if let Some(operation) = request.answered()? {
                return Ok(Err(operation));
            }
            let row = state.service(org, service)?;
            terms.check(Some(row.revision))?;
            let spec = scaled(&row.record.spec)?;
            let is_same = row.record.spec == spec;
            let record = ServiceRecord {
                generation: row.record.generation + u64::from(!is_same),
                spec,
                ..row.record.clone()
            };
            request
                .change_service(state, service, Some(row.revision), record)
                .map(Ok)
        };
        let (Ok(id) | Err(id)) = self.0.change(decide).await?;
        self.0.operation(org, &id)
    }

    /// Runs the rules `apiRequest("path")` of a block's policy now, and says what they have decided, in their order. A move is durable then.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when there is no such block or rule, or nothing is promised of the block; `Conflict` when the service is being
    /// deleted; `Unavailable` when the Learning Plane does not watch it now.
    pub async fn request(
        &self,
        org: &Name,
        service: &Name,
        request: &PolicyRequest,
    ) -> Result<Vec<Decision>, Error> {
        let PolicyRequest { block, path } = request;
        let has_kpi = {
            let state = self.0.state();
            let record = &state.service(org, service)?.record;
            if record.is_deleting {
                let message = format!("service `{service}` is being deleted");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let found = record.spec.blocks.iter().find(|other| other.name == *block);
            let missing =
                || Error::invalid("/block", format!("the service has no block `{block}`"));
            found.ok_or_else(missing)?.kpi.is_some()
        };
        let Some(explainer) = self.0.explainer.clone() else {
            let message = "no Learning Plane is here that could run its policy";
            return Err(Error::invalid("/block", message));
        };
        let asked = {
            let (org, service) = (org.clone(), service.clone());
            let PolicyRequest { block, path } = request.clone();
            let explainer = Arc::clone(&explainer);
            let ask = move || explainer.request(&org, &service, &block, &path);
            self.0.asker.run(ask).await?
        };
        asked.map_err(|unasked| match unasked {
            Unasked::NoSuchPath => {
                let message =
                    format!("the policy of block `{block}` has no rule apiRequest({path:?})");
                Error::invalid("/path", message)
            }
            Unasked::NotWatched if has_kpi => {
                let message = format!(
                    "the Learning Plane does not watch block `{block}` now: the controller's log says why"
                );
                Error::new(ErrorKind::Unavailable, message)
            }
            Unasked::NotWatched => {
                let message = format!(
                    "the Learning Plane does not watch block `{block}`, which promises nothing: give it a `kpi`"
                );
                Error::invalid("/block", message)
            }
        })
    }

    /// The operation's target is `/v1/migrations/ID`.
    ///
    /// # Errors
    /// `Conflict` when one is under way for the same block, when the target cannot take it, or when nothing runs; `NotFound`, `Invalid`,
    /// `KeyReused`.
    pub async fn migrate(
        &self,
        org: &Name,
        spec: &MigrationSpec,
        terms: &Terms,
    ) -> Result<Operation, Error> {
        let request = Request::new(&self.0, org, "migrate", terms, spec)?;
        let decide = |state: &State| {
            if let Some(operation) = request.answered()? {
                return Ok(Err(operation));
            }
            request.change_by_migration(state, spec).map(Ok)
        };
        let (Ok(id) | Err(id)) = self.0.change(decide).await?;
        self.0.operation(org, &id)
    }

    /// Accepts that a site has a configuration which the store does not know (it was restored from a backup): what is planned from now on
    /// overrules it. The operation ends when the site has said that it does.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when nothing is to be accepted; `KeyReused`.
    pub async fn adopt_site(
        &self,
        org: &Name,
        name: &Name,
        terms: &Terms,
    ) -> Result<Operation, Error> {
        let request = Request::new(&self.0, org, "adopt", terms, name)?;
        let decide = |state: &State| {
            if let Some(operation) = request.answered()? {
                return Ok(Err(operation));
            }
            request.adopt(state, name).map(Ok)
        };
        let (Ok(id) | Err(id)) = self.0.change(decide).await?;
        self.0.operation(org, &id)
    }
}

impl Terms {
    /// `found`: the revision of what is there.
    fn check(&self, found: Option<Revision>) -> Result<(), Error> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::Precondition, message));
        if self.if_absent && found.is_some() {
            return refuse("it exists");
        }
        match (&self.if_match, found) {
            (None, _) => Ok(()),
            (Some(_), None) => refuse("it does not exist"),
            (Some(wanted), Some(revision)) if *wanted == revision.to_string() => Ok(()),
            (Some(_), Some(_)) => refuse("it has changed since: read it again"),
        }
    }
}

/// A selector says where units begin; those that run stay. So it cannot exclude where they are: that would be a wish that nobody fulfils. Says
/// whether one changes.
fn check_placement(
    state: &State,
    org: &Name,
    name: &Name,
    before: &state::Service,
    new: &ServiceSpec,
) -> Result<bool, Error> {
    let mut is_changed = false;
    for (idx, block) in new.blocks.iter().enumerate() {
        let selector = &block.placement.site_selector;
        let blocks = &before.record.spec.blocks;
        let old = blocks.iter().find(|other| other.name == block.name);
        if old.is_none_or(|old| old.placement.site_selector == *selector) {
            continue;
        }
        is_changed = true;
        for (id, planned) in state.blueprint.units_of(org, name, Some(&block.name)) {
            let seen = last_report(&state.sites, &planned.spec);
            if seen.is_some_and(|seen| seen.phase.is_final()) || id.replica() >= block.replicas {
                continue;
            }
            let is_excluded = |site: &&Name| {
                let site = state.sites.get(*site);
                !site.is_some_and(|site| selector.matches(&site.facts.labels))
            };
            if let Some(site) = planned.spec.placement.iter().find(is_excluded) {
                let message = format!(
                    "`siteSelector` of block `{}` excludes site `{site}`, where {id} is, and does not move it: move it with a migration first",
                    block.name
                );
                let pointer = format!("/spec/blocks/{idx}/placement/siteSelector");
                return Err(Error::new(ErrorKind::Conflict, message).at(pointer));
            }
        }
    }
    Ok(is_changed)
}

/// A request on its way to become an operation.
#[derive(Debug)]
struct Request<'a> {
    inner: &'a Inner,
    org: &'a Name,
    kind: &'static str,
    /// Of the operation, and of what it makes.
    id: String,
    now_ms: u64,
    /// The key in the store, and the digest of the request.
    key: Option<(String, String)>,
}

impl<'a> Request<'a> {
    fn new(
        inner: &'a Inner,
        org: &'a Name,
        kind: &'static str,
        terms: &Terms,
        body: &impl serde::Serialize,
    ) -> Result<Self, Error> {
        let sha256 = |bytes: &[u8]| hexadecimal::encode(&sha2::Sha256::digest(bytes));
        let key = match &terms.idempotency_key {
            None => None,
            Some(key) => {
                if !is_idempotency_key(key) {
                    return Err(Error::new(ErrorKind::Invalid, IDEMPOTENCY_KEY));
                }
                let request = sha256(&encode(&(kind, body)));
                Some((format!("key/{org}/{}", sha256(key.as_bytes())), request))
            }
        };
        let now_ms = inner.now().wall_ms;
        // In the order of time, as far as clocks go.
        let id = format!("{now_ms:012x}{:08x}", rt::random_u64() >> 32);
        Ok(Self {
            inner,
            org,
            kind,
            id,
            now_ms,
            key,
        })
    }

    /// The operation that has answered this request already.
    fn answered(&self) -> Result<Option<String>, Error> {
        let Some((key, request)) = &self.key else {
            return Ok(None);
        };
        let Some(entry) = self.inner.store.meta().get(key).map_err(failed)? else {
            return Ok(None);
        };
        let record: KeyRecord = decode(key, &entry.value)?;
        if record.request == *request {
            Ok(Some(record.operation))
        } else {
            let message = "this idempotency key was used for another request";
            Err(Error::new(ErrorKind::KeyReused, message))
        }
    }

    /// The draft with this request's operation in it.
    fn operation(&self, state: &State, subject: Subject) -> Result<Draft, Error> {
        let n_operations = state.operations.get(self.org).map_or(0, BTreeMap::len);
        if n_operations >= OPERATIONS_MAX {
            let message = format!("{OPERATIONS_MAX} operations are not done: wait for some");
            return Err(Error::new(ErrorKind::Exhausted, message));
        }
        let record = OperationRecord {
            id: self.id.clone(),
            kind: self.kind.to_owned(),
            subject,
            created_ms: self.now_ms,
            done: None,
            key: self.key.as_ref().map(|(key, _)| key.clone()),
        };
        let mut draft = Draft::default();
        let key = format!("operation/{}/{}", self.org, self.id);
        draft.conditions.push(Condition::new(&*key, None));
        draft.writes.push(Write::put(key, encode(&record)));
        if let Some((key, request)) = &self.key {
            let record = KeyRecord {
                request: request.clone(),
                operation: self.id.clone(),
            };
            draft.conditions.push(Condition::new(&**key, None));
            draft.writes.push(Write::put(&**key, encode(&record)));
        }
        Ok(draft)
    }

    fn change_service(
        &self,
        state: &State,
        name: &Name,
        revision: Option<Revision>,
        record: ServiceRecord,
    ) -> Result<(Draft, String), Error> {
        let found = state
            .services
            .get(self.org)
            .and_then(|services| services.get(name));
        if found.is_some_and(|row| row.record.is_deleting) {
            let message = format!("service `{name}` is being deleted: try again when it is gone");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let subject = Subject::Service {
            name: name.clone(),
            id: record.id.clone(),
        };
        let mut draft = self.operation(state, subject)?;
        let key = format!("service/{}/{name}", self.org);
        draft.conditions.push(Condition::new(&*key, revision));
        if found.is_none_or(|row| row.record != record) {
            draft.writes.push(Write::put(key, encode(&record)));
        }
        Ok((draft, self.id.clone()))
    }

    fn adopt(&self, state: &State, name: &Name) -> Result<(Draft, String), Error> {
        let site = state.sites.get(name);
        let site = site.ok_or_else(|| Error::not_found("site", name))?;
        let Some(ahead) = site.facts.ahead else {
            let message = format!("site `{name}` does not wait for an operator");
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        let generation = Generation(state.blueprint.generation.max(ahead).0 + 1);
        let facts = Facts {
            ahead: None,
            ahead_digest: None,
            ..site.facts.clone()
        };
        let mut target = state.blueprint.site_target(name.as_str());
        if let Some(digest) = &site.facts.ahead_digest {
            target.make(ahead, digest);
            // What it has is in order; it may lie between what was made here.
            target.made.sort_by_key(|(generation, _)| *generation);
        }
        target.generation = generation;
        let config = SiteConfig {
            generation,
            ..state.blueprint.site_config(name.as_str())
        };
        target.make(generation, &config.digest());
        let head = Head {
            version: VERSION,
            generation,
        };
        let subject = Subject::Site {
            name: name.clone(),
            generation,
        };
        let mut draft = self.operation(state, subject)?;
        let site_key = format!("site/{name}");
        draft.conditions.extend([
            Condition::new(HEAD, state.head),
            Condition::new(&*site_key, state.site_revision(name)),
        ]);
        draft.writes.extend([
            Write::put(HEAD, encode(&head)),
            Write::put(site_key, encode(&facts)),
            Write::put(format!("target/site/{name}"), encode(&target)),
        ]);
        Ok((draft, self.id.clone()))
    }

    fn change_by_migration(
        &self,
        state: &State,
        spec: &MigrationSpec,
    ) -> Result<(Draft, String), Error> {
        let service = state.service(self.org, &spec.service);
        let service = service.map_err(|error| error.at("/service"))?;
        if service.record.is_deleting {
            let message = format!("service `{}` is being deleted", spec.service);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let start = Start {
            policy: &service.policy,
            blueprint: &state.blueprint,
            sites: &state.sites,
            now: self.inner.now(),
            id: &self.id,
            operation: &self.id,
        };
        let migration = migration::begin(start, spec)?;
        let subject = Subject::Migration {
            id: migration.id.clone(),
        };
        let mut draft = self.operation(state, subject)?;
        let service_key = format!("service/{}/{}", self.org, spec.service);
        let site_key = format!("site/{}", migration.to);
        draft.conditions.extend([
            Condition::new(service_key, Some(service.revision)),
            Condition::new(site_key, state.site_revision(&migration.to)),
        ]);
        for lock in locks(&migration) {
            // Whoever deletes it does so in the commit in which the migration ends.
            if let Some(entry) = self.inner.store.meta().get(&lock).map_err(failed)? {
                let other: String = decode(&lock, &entry.value)?;
                let message = format!("migration {other} of the same block is under way");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            draft.conditions.push(Condition::new(&*lock, None));
            draft.writes.push(Write::put(lock, encode(&migration.id)));
        }
        let key = format!("migration/{}/{}", self.org, migration.id);
        draft.conditions.push(Condition::new(&*key, None));
        draft.writes.push(Write::put(key, encode(&migration)));
        Ok((draft, self.id.clone()))
    }
}

/// What a migration holds while it is under way: a key for every block that it moves.
pub(crate) fn locks(migration: &migration::Migration) -> BTreeSet<String> {
    let units = migration.units.keys();
    let lock = |id: &ids::UnitId| format!("moving/{}/{}/{}", id.org(), id.service(), id.block());
    units.map(lock).collect()
}
