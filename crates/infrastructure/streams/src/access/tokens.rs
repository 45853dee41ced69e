//! What stores take for a proof: JSON Web Tokens that say what their bearer may do, as upstream's `JsonWebToken.java`, `GrpcAuthHelper.java` and
//! `TokenVerifierImpl.java` write and read them. Unlike there, the algorithm and the audience are checked, too.

use std::fmt;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Map, Value, json};
use streams_wire::shapes::TokenError;

use crate::controller::Permission;

const ALGORITHM: Algorithm = Algorithm::HS512;
const SUBJECT: &str = "segmentstoreresource";
const AUDIENCE: &str = "segmentstore";

/// Names of scopes and streams have 255 bytes at most, and so no token of ours is longer.
const BYTES_MAX: usize = 4 << 10;

/// Claims that are about the token itself.
const OWN: [&str; 4] = ["sub", "aud", "exp", "iat"];

/// Makes tokens, and knows those that were made with the same key.
pub(crate) struct Tokens {
    signs: EncodingKey,
    verifies: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grants {
    /// By what segments' names begin with.
    claims: Vec<(String, Permission)>,
    /// So long it is still good. Without it, for ever.
    pub(crate) left: Option<Duration>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Each token is good for `ttl`, in whole seconds.
    pub(crate) fn new(key: &[u8], ttl: Duration) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud"]);
        // It would ask another clock.
        validation.validate_exp = false;
        Self {
            signs: EncodingKey::from_secret(key),
            verifies: DecodingKey::from_secret(key),
            validation,
            ttl,
        }
    }

    /// One for a resource, as the controller calls it. Clients in Rust expect to find a time at which it ends.
    ///
    /// # Errors
    /// What the library says.
    pub(crate) fn issue(
        &self,
        resource: &str,
        permission: Permission,
        now: SystemTime,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let permission = match permission {
            Permission::Read => "READ",
            Permission::ReadUpdate => "READ_UPDATE",
        };
        let now = seconds(now);
        let claims = json!({
            "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + self.ttl.as_secs(),
            resource: permission,
        });
        encode(&Header::new(ALGORITHM), &claims, &self.signs)
    }

    /// What a token allows. One that never ends may come from a controller upstream, for its own use.
    ///
    /// # Errors
    /// `Expired`, if that is all that is wrong with it; else `CheckFailed`.
    pub(crate) fn read(&self, token: &str, now: SystemTime) -> Result<Grants, TokenError> {
        if token.is_empty() || token.len() > BYTES_MAX {
            return Err(TokenError::CheckFailed);
        }
        let claims = decode::<Map<String, Value>>(token, &self.verifies, &self.validation);
        let claims = claims.map_err(|_| TokenError::CheckFailed)?.claims;
        let left = match claims.get("exp") {
            None => None,
            Some(ends) => {
                let ends = ends.as_u64().ok_or(TokenError::CheckFailed)?;
                let ends = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(ends));
                let left = ends.ok_or(TokenError::CheckFailed)?.duration_since(now);
                Some(left.map_err(|_| TokenError::Expired)?)
            }
        };
        let others = claims
            .iter()
            .filter(|(name, _)| !OWN.contains(&name.as_str()));
        let claims = others.filter_map(|(name, permission)| {
            let permission = match permission.as_str()? {
                "READ" => Permission::Read,
                "READ_UPDATE" => Permission::ReadUpdate,
                _ => return None,
            };
            Some((of_segments(name), permission))
        });
        let claims = claims.collect();
        Ok(Grants { claims, left })
    }
}

impl Grants {
    /// Segments of transactions and the like are called as their stream, with more behind it.
    pub(crate) fn allow(&self, segment: &str, permission: Permission) -> bool {
        self.claims.iter().any(|(claimed, granted)| {
            let is_about = claimed == "*"
                || !claimed.is_empty()
                    && segment
                        .strip_prefix(claimed.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            is_about && *granted >= permission
        })
    }
}

/// What the names of its segments begin with.
fn of_segments(resource: &str) -> String {
    let name = resource.strip_prefix("prn::/scope:").unwrap_or(resource);
    let name = name.replacen("/stream:", "/", 1);
    name.strip_suffix('/').unwrap_or(&name).to_owned()
}

/// Since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"secret";
    const TTL: Duration = Duration::from_secs(600);
    const STREAM: &str = "prn::/scope:lab/stream:b";
    const SEGMENT: &str = "lab/b/0.#epoch.0";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn tokens() -> Tokens {
        Tokens::new(KEY, TTL)
    }

    fn signed(algorithm: Algorithm, key: &[u8], claims: &Value) -> String {
        let key = EncodingKey::from_secret(key);
        encode(&Header::new(algorithm), claims, &key).expect("it is signed")
    }

    #[test]
    fn a_token_is_good_for_its_stream_and_its_time() {
        let token = tokens().issue(STREAM, Permission::ReadUpdate, at(1_000));
        let token = token.expect("it is issued");
        let grants = tokens().read(&token, at(1_000)).expect("it is good");
        assert_eq!(grants.left, Some(TTL));
        let hex = "0123456789abcdef0123456789abcdef";
        for segment in [
            SEGMENT,
            &format!("{SEGMENT}#transaction.{hex}"),
            &format!("{SEGMENT}#transient.{hex}"),
        ] {
            assert!(grants.allow(segment, Permission::Read), "{segment}");
            assert!(grants.allow(segment, Permission::ReadUpdate), "{segment}");
        }
        for segment in [
            "lab/bb/0.#epoch.0",
            "lab/a/0.#epoch.0",
            "lab",
            "laboratory/b/0.#epoch.0",
            "other/lab/b/0.#epoch.0",
            "lab/b#transaction",
            "",
        ] {
            assert!(!grants.allow(segment, Permission::Read), "{segment}");
        }
        let grants = tokens().read(&token, at(1_599)).expect("it is good");
        assert_eq!(grants.left, Some(Duration::from_secs(1)));
        let late = at(1_600) + Duration::from_millis(1);
        assert_eq!(tokens().read(&token, late), Err(TokenError::Expired));
    }

    #[test]
    fn what_may_be_read_may_not_be_written() {
        let token = tokens().issue(STREAM, Permission::Read, at(0));
        let grants = tokens().read(&token.expect("it is issued"), at(0));
        let grants = grants.expect("it is good");
        assert!(grants.allow(SEGMENT, Permission::Read));
        assert!(!grants.allow(SEGMENT, Permission::ReadUpdate));
    }

    /// `JsonWebToken.java`: what upstream's controller makes, with its own library, and that of its own use.
    #[test]
    fn tokens_of_upstream_are_good() {
        let claims = json!({"sub": SUBJECT, "aud": AUDIENCE, "iat": 1, STREAM: "READ_UPDATE"});
        let grants = tokens().read(&signed(ALGORITHM, KEY, &claims), at(9));
        let grants = grants.expect("it is good");
        assert_eq!(grants.left, None);
        assert!(grants.allow(SEGMENT, Permission::ReadUpdate));
        for (claim, is_about) in [
            ("*", true),
            ("prn::/scope:lab", true),
            ("lab/", true),
            ("lab/b", true),
            ("la", false),
            ("lab/b/1", false),
            ("", false),
            ("prn::/", false),
        ] {
            let claims = json!({"aud": AUDIENCE, claim: "READ"});
            let grants = tokens().read(&signed(ALGORITHM, KEY, &claims), at(9));
            let grants = grants.expect("it is good");
            assert_eq!(
                grants.allow(SEGMENT, Permission::Read),
                is_about,
                "{claim:?}"
            );
        }
    }

    #[test]
    fn others_are_not() {
        let good = json!({"aud": AUDIENCE, "exp": 100, STREAM: "READ_UPDATE"});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            signed(ALGORITHM, KEY, &claims)
        };
        let token = signed(ALGORITHM, KEY, &good);
        tokens().read(&token, at(9)).expect("it is good");
        let parts: Vec<_> = token.split('.').collect();
        // {"alg":"none"}
        let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
        let mut unknown = good.clone();
        unknown.as_object_mut().expect("claims").remove("aud");
        for token in [
            String::new(),
            "a.b.c".to_owned(),
            signed(ALGORITHM, b"Secret", &good),
            signed(Algorithm::HS256, KEY, &good),
            signed(Algorithm::HS384, KEY, &good),
            none,
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            signed(ALGORITHM, KEY, &unknown),
            with("aud", json!("controller")),
            with("exp", json!("100")),
            with("exp", json!(-100)),
            with("exp", json!(u64::MAX)),
            with("more", json!("x".repeat(64 << 10))),
            "x".repeat(65_535),
        ] {
            assert_eq!(
                tokens().read(&token, at(9)),
                Err(TokenError::CheckFailed),
                "{token:.100}"
            );
        }
        let grants = tokens().read(&with(STREAM, json!("ALL")), at(9));
        let grants = grants.expect("it is for nothing");
        assert!(!grants.allow(SEGMENT, Permission::Read));
    }
}
