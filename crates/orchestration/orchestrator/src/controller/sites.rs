//! What is kept of sites: who may join, who has, and what is known of them when they are away.

use std::time::Duration;

use auth::{Secret, SecretHash};
use ids::{Labels, Name};
use meta::{Condition, Write};

use super::records::{JoinRecord, decode, encode};
use super::state::State;
use super::store::failed;
use super::{Controller, Draft, Inner, ms};
use crate::core::inventory::Facts;
use crate::core::project;
use crate::{Error, ErrorKind, hexadecimal};

const TOKENS_MAX: usize = 10_000;
const JOIN_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

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
        let refuse = |message: &str| Error::new(ErrorKind::Precondition, message.to_owned());
        let secret: Secret = token.parse().map_err(refuse)?;
        let point = hexadecimal::decode(public_key);
        let point = point.ok_or_else(|| refuse("this is not a public key"))?;
        let name = workload::link::site_certificate_name(site);
        let sign = |e| refuse("no certificate can be made for this key").because(e);
        let certificate = self.authority.sign(&name, &point).map_err(sign)?;
        let key = format!("join/{}", secret.hash().as_str());
        let decide = |state: &State| {
            let entry = self.store.meta().get(&key).map_err(failed)?;
            let entry = entry.ok_or_else(|| refuse("this token is not known here"))?;
            let record: JoinRecord = decode(&key, &entry.value)?;
            let user = (site.clone(), public_key.to_owned());
            match &record.used {
                Some(used) if *used == user => return Ok(Err(())),
                Some(_) => return Err(refuse("this token was used before")),
                None => {}
            }
            let now_ms = self.now().wall_ms;
            if record.expires_ms < now_ms {
                return Err(refuse("this token has expired"));
            }
            let known = state.sites.get(site);
            match &record.site {
                Some(only) if only != site => return Err(refuse("this token is for another site")),
                None if known.is_some() => {
                    return Err(refuse(
                        "there is a site of this name: a new one takes another, or a token for this one",
                    ));
                }
                _ => {}
            }
            let facts = known.map(|site| site.facts.clone());
            let facts = facts.unwrap_or_else(|| Facts {
                joined_ms: now_ms,
                labels: labels.clone(),
                cpu_share: 0.0,
                cpu_share_by: "none".to_owned(),
                ahead: None,
                ahead_digest: None,
            });
            let record = JoinRecord {
                used: Some(user),
                ..record
            };
            let site_key = format!("site/{site}");
            let draft = Draft {
                conditions: vec![
                    Condition::new(&*key, Some(entry.revision)),
                    Condition::new(&*site_key, state.site_revision(site)),
                ],
                writes: vec![
                    Write::put(&*key, encode(&record)),
                    Write::put(site_key, encode(&facts)),
                ],
            };
            Ok(Ok((draft, ())))
        };
        self.change(decide).await?.ok();
        Ok(certificate)
    }

    /// Makes a site known, if it is not: its certificate says that it joined once, though this store does not know.
    pub(crate) async fn know(&self, site: &Name) -> Result<(), Error> {
        let decide = |state: &State| {
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
                conditions: vec![Condition::new(&*key, None)],
                writes: vec![Write::put(key, encode(&facts))],
            };
            Ok(Ok((draft, ())))
        };
        self.change(decide).await.map(drop)
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
