//! What is kept of sites: who may join, who has, and what is known of them when they are away; and how all that is forgotten.

use std::time::Duration;

use auth::{Secret, SecretHash};
use ids::{Labels, Name};
use meta::{Condition, Write};
use nbi::Progress;

use super::records::{
    Done, ForgottenRecord, HEAD, Head, JoinRecord, Subject, VERSION, decode, encode,
};
use super::state::State;
use super::store::failed;
use super::tasks::finish;
use super::{Controller, Draft, Inner, ms};
use crate::core::inventory::Facts;
use crate::core::project;
use crate::{Error, ErrorKind, hexadecimal};

const TOKENS_MAX: usize = 10_000;
const JOIN_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
const FORGOTTEN_MAX: usize = 10_000;
/// Of the units that keep a site from being forgotten.
const NAMED_MAX: usize = 3;

impl Controller {
    /// Lets one site join with the token of this hash, within `ttl`; only the one called `site`, if that is given. Given again, it changes
    /// nothing: a token that was used stays used.
    ///
    /// # Errors
    /// `Exhausted` when there are too many tokens.
    pub async fn add_join_token(
        &self,
        hash: &SecretHash,
        site: Option<&Name>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let key = format!("join/{}", hash.as_str());
        let record = JoinRecord {
            site: site.cloned(),
            expires_ms: self.0.now().wall_ms.saturating_add(ms(ttl)),
            used: None,
        };
        let decide = |state: &State| {
            if state.joins.contains_key(hash.as_str()) {
                return Ok(Err(()));
            }
            let unused = state.joins.values().filter(|row| row.record.used.is_none());
            if unused.count() >= TOKENS_MAX {
                let message =
                    format!("{TOKENS_MAX} join tokens are not used: wait until some expire");
                return Err(Error::new(ErrorKind::Exhausted, message));
            }
            let draft = Draft {
                conditions: vec![Condition::new(&*key, None)],
                writes: vec![Write::put(&*key, encode(&record))],
            };
            Ok(Ok((draft, ())))
        };
        self.0.change(decide).await.map(drop)
    }

    /// Forgets a site that does not come back: what is kept of it, its certificate, and that the end of units is awaited there. What it may
    /// still run is not ended by that. A site of its name can join anew. Idempotent.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is connected or something is wanted there; `Exhausted` when too many were forgotten. `org` is whose units
    /// are named.
    pub async fn forget_site(&self, org: &Name, name: &Name) -> Result<(), Error> {
        let decide = |state: &State| {
            if state.sites.contains_key(name) {
                return Ok(Ok((self.0.forget(state, org, name)?, ())));
            }
            match state.forgotten.get(name) {
                Some(_) => Ok(Err(())),
                None => Err(Error::not_found("site", name)),
            }
        };
        if self.0.change(decide).await?.is_ok() {
            tracing::info!(site = %name, "a site is forgotten");
        }
        Ok(())
    }

    /// A new token with which one site may join, within its time; only the one called `site`, if that is given. It is shown here and never
    /// again: of its secret only the hash is kept.
    ///
    /// # Errors
    /// `Exhausted` when there are too many tokens; `Invalid` when it were to last for longer than a day.
    pub async fn issue_join_token(
        &self,
        site: Option<&Name>,
        ttl: Duration,
    ) -> Result<nbi::JoinToken, Error> {
        if ttl > JOIN_TTL_MAX {
            return Err(Error::invalid("/ttl", "at most 24h"));
        }
        let secret = Secret::random();
        let hash = secret.hash();
        let token = auth::JoinToken::new(self.0.authority.certificate(), secret);
        let failed = |e| Error::new(ErrorKind::Internal, "make a join token").because(e);
        let token = token.map_err(failed)?.to_string();
        let expires_ms = self.0.now().wall_ms.saturating_add(ms(ttl));
        self.add_join_token(&hash, site, ttl).await?;
        Ok(nbi::JoinToken {
            token,
            site: site.cloned(),
            expires_at: project::rfc3339(expires_ms),
        })
    }
}

impl Inner {
    /// Lets a site in for good: its certificate. The text says why not.
    pub(crate) async fn join(
        &self,
        token: &str,
        site: &Name,
        labels: Labels,
        public_key: &str,
    ) -> Result<Vec<u8>, Error> {
        let secret: Secret = token.parse().map_err(refuse)?;
        let point = hexadecimal::decode(public_key);
        let point = point.ok_or_else(|| refuse("this is not a public key"))?;
        let public_key = hexadecimal::encode(&point);
        let name = workload::link::site_certificate_name(site);
        let sign = |e| refuse("no certificate can be made for this key").because(e);
        let certificate = self.authority.sign(&name, &point).map_err(sign)?;
        let key = format!("join/{}", secret.hash().as_str());
        let decide = |state: &State| {
            let entry = self.store.meta().get(&key).map_err(failed)?;
            let entry = entry.ok_or_else(|| refuse("this token is not known here"))?;
            let record: JoinRecord = decode(&key, &entry.value)?;
            let now_ms = self.now().wall_ms;
            let known = state.sites.get(site);
            let user = (site.clone(), public_key.clone());
            let Some(record) = used(record, user, known.is_some(), now_ms)? else {
                return Ok(Err(()));
            };
            let facts = known.map(|site| site.facts.clone());
            let facts = facts.unwrap_or_else(|| Facts {
                joined_ms: now_ms,
                labels: labels.clone(),
                cpu_share: 0.0,
                cpu_share_by: "none".to_owned(),
                ahead: None,
                ahead_digest: None,
            });
            let site_key = format!("site/{site}");
            let mut draft = Draft {
                conditions: vec![
                    Condition::new(&*key, Some(entry.revision)),
                    Condition::new(&*site_key, state.site_revision(site)),
                    forgotten_as_seen(state, site),
                ],
                writes: vec![
                    Write::put(&*key, encode(&record)),
                    Write::put(site_key, encode(&facts)),
                ],
            };
            if let Some(row) = state.forgotten.get(site) {
                let record = ForgottenRecord {
                    admits: Some(public_key.clone()),
                    ..row.record.clone()
                };
                let key = format!("forgotten/{site}");
                draft.writes.push(Write::put(key, encode(&record)));
            }
            Ok(Ok((draft, ())))
        };
        self.change(decide).await?.ok();
        Ok(certificate)
    }

    /// Lets in a site that has a certificate for this public key. Makes it known, if it is not: it joined once, though this store does not know.
    ///
    /// # Errors
    /// `Precondition` when it was forgotten since it has joined.
    pub(crate) async fn admit(&self, site: &Name, key: &str) -> Result<(), Error> {
        // Another controller may have forgotten it.
        self.catch_up()?;
        let decide = |state: &State| {
            if !state.admits(site, key) {
                let message = format!(
                    "site `{site}` was forgotten here: to let it join again, remove `identity.json` from its directory, and start it with --join \
                     and a new --token"
                );
                return Err(refuse(&message));
            }
            if state.sites.contains_key(site) {
                return Ok(Err(()));
            }
            let facts = Facts {
                joined_ms: self.now().wall_ms,
                labels: Labels::new(),
                cpu_share: 0.0,
                cpu_share_by: "none".to_owned(),
                ahead: None,
                ahead_digest: None,
            };
            let key = format!("site/{site}");
            let draft = Draft {
                conditions: vec![Condition::new(&*key, None), forgotten_as_seen(state, site)],
                writes: vec![Write::put(key, encode(&facts))],
            };
            Ok(Ok((draft, ())))
        };
        self.change(decide).await.map(drop)
    }

    fn forget(&self, state: &State, org: &Name, name: &Name) -> Result<Draft, Error> {
        self.check_unwanted(state, org, name)?;
        let record = ForgottenRecord {
            at_ms: self.now().wall_ms,
            admits: None,
        };
        let generation = state.blueprint.generation.next();
        let head = Head {
            version: VERSION,
            generation,
        };
        let site_key = format!("site/{name}");
        let mut draft = Draft {
            conditions: vec![
                // Nothing may be placed there meanwhile.
                Condition::new(HEAD, state.head),
                Condition::new(&*site_key, state.site_revision(name)),
                forgotten_as_seen(state, name),
            ],
            writes: vec![
                Write::put(HEAD, encode(&head)),
                Write::delete(site_key),
                Write::delete(format!("target/site/{name}")),
                Write::put(format!("forgotten/{name}"), encode(&record)),
            ],
        };
        for (id, leaving) in state.blueprint.forgetting(name).leaving {
            let value = leaving.as_deref().map(encode);
            let key = format!("target/leaving/{id}");
            draft.writes.push(Write { key, value });
        }
        void_tokens(&mut draft, state, name);
        end_operations(&mut draft, state, name, record.at_ms);
        Ok(draft)
    }

    /// What keeps a site from being forgotten, and what to do about it.
    fn check_unwanted(&self, state: &State, org: &Name, name: &Name) -> Result<(), Error> {
        let conflict = |message| Err(Error::new(ErrorKind::Conflict, message));
        if self.connections.get(name).is_some() {
            return conflict(format!(
                "site `{name}` is connected: end its agent first, with SIGINT to end its units too"
            ));
        }
        let units = || state.blueprint.site_units(name.as_str());
        let n_units = units().count();
        if n_units > 0 {
            let own = units().filter(|id| id.org() == org.as_str());
            let own: Vec<_> = own.take(NAMED_MAX).map(ToString::to_string).collect();
            let named = match (own.is_empty(), n_units - own.len()) {
                (true, n) => format!("{n} of other organisations"),
                (false, 0) => own.join(", "),
                (false, n) => format!("{}, and {n} more", own.join(", ")),
            };
            return conflict(format!(
                "units are wanted at site `{name}` ({named}): delete their services, run fewer replicas, or migrate them first"
            ));
        }
        if let Some(row) = state
            .migrations_under_way()
            .find(|row| row.record.to == *name)
        {
            let id = &row.record.id;
            return conflict(format!(
                "migration {id} to site `{name}` is under way: wait until it has ended"
            ));
        }
        if !state.forgotten.contains_key(name) && state.forgotten.len() >= FORGOTTEN_MAX {
            let message = format!(
                "the names of {FORGOTTEN_MAX} sites that were forgotten are remembered: let sites join under those names, and forget no others"
            );
            return Err(Error::new(ErrorKind::Exhausted, message));
        }
        Ok(())
    }

    /// Changes what lasts of a site.
    pub(crate) async fn change_facts(
        &self,
        site: &Name,
        change: impl Fn(&State, &mut Facts),
    ) -> Result<(), Error> {
        let decide = |state: &State| {
            let found = state.sites.get(site);
            let before = &found.ok_or_else(|| Error::not_found("site", site))?.facts;
            let mut facts = before.clone();
            change(state, &mut facts);
            if facts == *before {
                return Ok(Err(()));
            }
            let key = format!("site/{site}");
            let draft = Draft {
                conditions: vec![Condition::new(&*key, state.site_revision(site))],
                writes: vec![Write::put(key, encode(&facts))],
            };
            Ok(Ok((draft, ())))
        };
        self.change(decide).await.map(drop)
    }
}

/// Why a site is not let in.
fn refuse(message: &str) -> Error {
    Error::new(ErrorKind::Precondition, message)
}

/// A token when a site has used it. `None`: it has before, and missed the answer.
fn used(
    token: JoinRecord,
    user: (Name, String),
    is_known: bool,
    now_ms: u64,
) -> Result<Option<JoinRecord>, Error> {
    match &token.used {
        Some(used) if *used == user => return Ok(None),
        Some((_, key)) if key.is_empty() => {
            return Err(refuse(
                "the site of this token was forgotten: ask for a new one",
            ));
        }
        Some(_) => return Err(refuse("this token was used before")),
        None => {}
    }
    if token.expires_ms < now_ms {
        return Err(refuse("this token has expired"));
    }
    match &token.site {
        Some(only) if *only != user.0 => Err(refuse("this token is for another site")),
        None if is_known => Err(refuse(
            "there is a site of this name: a new one takes another, or a token for this one",
        )),
        _ => Ok(Some(JoinRecord {
            used: Some(user),
            ..token
        })),
    }
}

fn forgotten_as_seen(state: &State, site: &Name) -> Condition {
    let row = state.forgotten.get(site);
    Condition::new(format!("forgotten/{site}"), row.map(|row| row.revision))
}

/// Nobody joins any more with what was given out to a site: neither once, nor again because the answer was lost.
fn void_tokens(draft: &mut Draft, state: &State, site: &Name) {
    for (hash, row) in &state.joins {
        let record = &row.record;
        let is_its = match &record.used {
            Some((user, key)) => user == site && !key.is_empty(),
            None => record.site.as_ref() == Some(site),
        };
        if !is_its {
            continue;
        }
        let void = JoinRecord {
            used: Some((site.clone(), String::new())),
            ..record.clone()
        };
        let key = format!("join/{hash}");
        draft
            .conditions
            .push(Condition::new(&*key, Some(row.revision)));
        draft.writes.push(Write::put(key, encode(&void)));
    }
}

/// What waits for a site that was forgotten has failed.
fn end_operations(draft: &mut Draft, state: &State, site: &Name, at_ms: u64) {
    for (org, rows) in &state.operations {
        let open = rows.values().filter(|row| row.record.done.is_none());
        for row in open {
            let is_its = matches!(&row.record.subject, Subject::Site { name, .. } if name == site);
            if is_its {
                let done = Done {
                    at_ms,
                    error: Some("the site was forgotten".to_owned()),
                    progress: Progress { step: 0, goal: 1 },
                };
                finish(draft, org, row, done);
            }
        }
    }
}
