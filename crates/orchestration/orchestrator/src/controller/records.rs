//! What is kept in the store, one key a record: JSON with a version.
//!
//! ```text
//! service/ORG/NAME          ServiceRecord            target/head             Head
//! operation/ORG/ID          OperationRecord          target/unit/UNIT        Planned
//! migration/ORG/ID          Migration                target/site/SITE        SiteTarget
//! moving/ORG/SERVICE/BLOCK  the migration's id       target/leaving/UNIT     Leaving
//! key/ORG/KEY               KeyRecord                site/NAME               Facts
//! modules/ORG               ModulesRecord            forgotten/NAME          ForgottenRecord
//!                                                    token/HASH, join/HASH   TokenRecord, JoinRecord
//! ```

use std::collections::BTreeMap;

use ids::{Digest, Generation, Labels, Name};
use nbi::{Progress, ServiceSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// Of the whole layout above. A newer one is refused.
pub(crate) const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    /// Tells it from an earlier service of the same name.
    pub id: String,
    pub labels: Labels,
    pub spec: ServiceSpec,
    /// Counts the changes.
    pub generation: u64,
    pub created_ms: u64,
    pub is_deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperationRecord {
    pub id: String,
    /// `apply`, `delete`, `scale`, `migrate`, `adopt`
    pub kind: String,
    pub subject: Subject,
    pub created_ms: u64,
    pub done: Option<Done>,
    /// The idempotency key that it answers, as it stands in the store.
    pub key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    Service {
        name: Name,
        id: String,
    },
    Migration {
        id: String,
    },
    /// A site, and the configuration with which it is over.
    Site {
        name: Name,
        generation: Generation,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub at_ms: u64,
    pub error: Option<String>,
    pub progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// SHA-256 of the request.
    pub request: String,
    pub operation: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub version: u32,
    pub generation: Generation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub org: Name,
    /// Tokens were all for operators once, and their records did not say so.
    #[serde(default = "operator")]
    pub role: Role,
}

/// What whoever has a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything: also what is about sites, which belong to the platform.
    Operator,
    /// What is about the services of its organisation.
    User,
}

fn operator() -> Role {
    Role::Operator
}

/// What an organisation has uploaded: digests and bytes. One record, so that its quota holds whatever comes at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModulesRecord {
    pub modules: BTreeMap<Digest, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JoinRecord {
    /// The only site that may use it.
    pub site: Option<Name>,
    pub expires_ms: u64,
    /// Who has used it: site and public key. The same one may ask again, if it missed the answer. No key: it is void, for the site was forgotten.
    pub used: Option<(Name, String)>,
}

/// Of a name that a site had which was forgotten. It is kept for ever: so long are certificates valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForgottenRecord {
    /// When that was, last.
    pub at_ms: u64,
    /// The public key that has joined under this name last since then: only with it a site of this name is let in.
    pub admits: Option<String>,
}

pub(crate) const HEAD: &str = "target/head";

/// What a key is about.
#[derive(Debug, PartialEq)]
pub(crate) enum Key<'a> {
    Service(Name, Name),
    Operation(Name, &'a str),
    Migration(Name, &'a str),
    Site(Name),
    Forgotten(Name),
    Token(&'a str),
    Join(&'a str),
    Modules(Name),
    Head,
    Unit(ids::UnitId),
    Leaving(ids::UnitId),
    SiteTarget(Name),
    /// Nothing that is kept in memory.
    Other,
}

impl<'a> Key<'a> {
    pub(crate) fn parse(key: &'a str) -> Self {
        Self::try_parse(key).unwrap_or(Self::Other)
    }

    fn try_parse(key: &'a str) -> Option<Self> {
        if key == HEAD {
            return Some(Self::Head);
        }
        let (kind, rest) = key.split_once('/')?;
        let pair = || rest.split_once('/');
        Some(match kind {
            "service" => Self::Service(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
            "operation" => Self::Operation(pair()?.0.parse().ok()?, pair()?.1),
            "migration" => Self::Migration(pair()?.0.parse().ok()?, pair()?.1),
            "site" => Self::Site(rest.parse().ok()?),
            "forgotten" => Self::Forgotten(rest.parse().ok()?),
            "token" => Self::Token(rest),
            "join" => Self::Join(rest),
            "modules" => Self::Modules(rest.parse().ok()?),
            "target" => match pair()? {
                ("unit", unit) => Self::Unit(unit.parse().ok()?),
                ("leaving", unit) => Self::Leaving(unit.parse().ok()?),
                ("site", site) => Self::SiteTarget(site.parse().ok()?),
                _ => return None,
            },
            _ => return None,
        })
    }
}

pub(crate) fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have only keys that JSON can have")
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    let message = || format!("`{key}` in the store is damaged, or of a newer version");
    serde_json::from_slice(value).map_err(|e| Error::new(ErrorKind::Internal, message()).because(e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::blueprint::{Leaving, Planned, SiteTarget};
    use crate::core::inventory::Facts;
    use crate::core::migration::Migration;

    #[test]
    fn keys_are_understood_or_left_alone() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let check = |key: &str, expected: Key<'_>| assert_eq!(Key::parse(key), expected, "{key}");
        check("service/acme/va", Key::Service(name("acme"), name("va")));
        check("operation/acme/12", Key::Operation(name("acme"), "12"));
        check("migration/acme/12", Key::Migration(name("acme"), "12"));
        check("site/edge", Key::Site(name("edge")));
        check("forgotten/edge", Key::Forgotten(name("edge")));
        check("token/abc", Key::Token("abc"));
        check("join/abc", Key::Join("abc"));
        check("modules/acme", Key::Modules(name("acme")));
        check("target/head", Key::Head);
        check("target/site/edge", Key::SiteTarget(name("edge")));
        let unit = || "acme/va/decode/0".parse().expect("a unit");
        check("target/unit/acme/va/decode/0", Key::Unit(unit()));
        check("target/leaving/acme/va/decode/0", Key::Leaving(unit()));
        for other in [
            "",
            "service",
            "service/acme",
            "service/A/va",
            "target/unit/x",
            "key/a/b",
        ] {
            check(other, Key::Other);
        }
    }

    /// What version 1 has written is read, and written the same.
    fn golden<T: Serialize + DeserializeOwned>(text: &serde_json::Value) {
        let record: T = decode("golden", text.to_string().as_bytes()).expect("it is read");
        let again: serde_json::Value = decode("again", &encode(&record)).expect("it is JSON");
        assert_eq!(again, *text);
        let whole = encode(&record);
        for len in 0..whole.len() {
            decode::<T>("a part", &whole[..len]).err().expect("refused");
        }
    }

    #[test]
    fn records_of_version_1_are_read() {
        let block = json!({
            "name": "decode", "kind": "CellDeployment", "replicas": 1, "placement": {"siteSelector": {"matchLabels": {}}},
            "module": format!("sha256:{}", "0".repeat(64)), "ranks": 1, "args": [], "env": {}, "mounts": [], "limits": {},
        });
        golden::<ServiceRecord>(&json!({
            "id": "1", "labels": {"app": "va"}, "spec": {"blocks": [block]}, "generation": 3, "created_ms": 5, "is_deleting": false,
        }));
        let done = json!({"at_ms": 9, "error": null, "progress": {"step": 1, "goal": 1}});
        golden::<OperationRecord>(&json!({
            "id": "1", "kind": "apply", "subject": {"service": {"name": "va", "id": "1"}}, "created_ms": 5, "done": done,
            "key": "key/acme/0",
        }));
        golden::<OperationRecord>(&json!({
            "id": "2", "kind": "migrate", "subject": {"migration": {"id": "2"}}, "created_ms": 5, "done": null, "key": null,
        }));
        golden::<OperationRecord>(&json!({
            "id": "3", "kind": "adopt", "subject": {"site": {"name": "edge", "generation": 7}}, "created_ms": 5, "done": null, "key": null,
        }));
        golden::<Migration>(&json!({
            "id": "2", "org": "acme", "spec": {"service": "va", "to": {"site": "cloud"}}, "operation": "2", "created_ms": 5,
            "deadline_ms": 60_005, "to": "cloud",
            "units": {"acme/va/decode/0": {"epoch": 1, "from": {"0": "edge"}, "stay": [0]}},
            "phase": "RollingBack", "history": [["Preparing", 5], ["RollingBack", 7]], "error": null,
            "progress": {"moved": 0, "pause_us_max": 0},
        }));
        let cell = json!({
            "module": "0".repeat(64), "ranks": 1, "args": [], "env": {}, "mounts": [], "iteration": null, "checkpoint_every_ms": null,
            "limits": {"memory_bytes_max": 1, "log_bytes_max": 1},
        });
        golden::<Planned>(&json!({
            "spec": {"id": "acme/va/decode/0", "epoch": 1, "kind": {"cell": cell}, "home": "edge", "placement": ["cloud"]},
            "generation": 3, "draining": ["fog"], "reasons": ["edge: chosen"],
        }));
        golden::<SiteTarget>(&json!({"generation": 7, "made": [[6, "0123456789abcdef"]]}));
        golden::<Leaving>(&json!({"sites": {"edge": 7}}));
        golden::<Facts>(&json!({
            "joined_ms": 5, "labels": {"tier": "edge"}, "cpu_share": 0.5, "cpu_share_by": "cgroup", "ahead": 9,
            "ahead_digest": "a".repeat(64),
        }));
        golden::<Head>(&json!({"version": 1, "generation": 7}));
        golden::<KeyRecord>(&json!({"request": "ab", "operation": "1"}));
        golden::<ModulesRecord>(&json!({"modules": {"a".repeat(64): 8}}));
        for role in ["operator", "user"] {
            golden::<TokenRecord>(&json!({"org": "acme", "role": role}));
        }
        let older: TokenRecord = decode("token", br#"{"org":"acme"}"#).expect("it is read");
        assert_eq!(older.role, Role::Operator);
        golden::<JoinRecord>(&json!({"site": "edge", "expires_ms": 5, "used": ["edge", "04ab"]}));
        golden::<ForgottenRecord>(&json!({"at_ms": 5, "admits": null}));
        golden::<ForgottenRecord>(&json!({"at_ms": 5, "admits": "04ab"}));
    }
}
