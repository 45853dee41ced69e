//! What an operator decides about a node. Sizes and durations are texts with a unit: `256Mi`, `30s`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ids::ByteSize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::front::s3::METADATA_BYTES_MAX;
use crate::{arena, front, namespace, store, tier1};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the node keeps what lasts. One node at a time lives in a directory.
    pub dir: PathBuf,
    /// Who may come in: see [`users`](crate::users). Without it, `users` in the directory.
    pub users: Option<PathBuf>,
    /// What all objects of one tenant may have, wherever they are; parts of uploads and buckets whose authority is S3 do not count. The node that owns the names of a site
    /// says it for all.
    pub tenant_limit: Option<ByteSize>,
    pub memory: Memory,
    pub disk: Disk,
    pub log: Log,
    pub s3: S3,
    pub node: Node,
    /// With it, the node speaks TLS too.
    pub tls: Option<Tls>,
    /// A store that speaks S3 behind this node.
    pub tier2: Option<Tier2>,
    /// Where the names are, if not here: the node is a member of a site.
    pub site: Option<Site>,
}

/// The site whose names another node owns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Where the node that owns the names speaks the node protocol; with an authority in `tls`, over TLS.
    pub index: SocketAddr,
    /// The number of this node: from 2, and no other of the site has it.
    pub node: u32,
    /// A file with the credential of the site's nodes: `cloudskin geds user add --peer` writes it.
    pub credentials: PathBuf,
    /// Where other nodes find the node protocol of this one. Without it, where that listens.
    #[serde(default)]
    pub address: Option<SocketAddr>,
}

/// What a node shows to those who speak TLS with it, and how it knows other nodes. Its certificate and key are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: its certificate, followed by those that lead to the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// PEM. With it, the nodes of the site speak TLS with each other, and only with those whose certificates are of this authority and have the
    /// address at which they listen.
    #[serde(default)]
    pub authority: Option<PathBuf>,
}

/// The node protocol: all of the store, for programs and other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Where it is served. It is not encrypted: whoever can listen to the network reads along.
    pub listen: SocketAddr,
    /// Where it is served over TLS, by a node that was given a certificate.
    pub listen_tls: SocketAddr,
    /// Open connections; others wait.
    pub connections: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Of all objects, and of what the node has to know about them.
    pub limit: ByteSize,
    /// What one tenant may have of it. Without it: all.
    pub tenant_limit: Option<ByteSize>,
    /// So long who writes waits until others were moved to the disk.
    #[serde(deserialize_with = "ids::duration")]
    pub room_wait: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// Of the files that objects are in.
    pub limit: ByteSize,
    /// Such a file. The node takes room on the disk in such pieces, and keeps it.
    pub segment: ByteSize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The log takes room on the disk, and gives it back, in pieces of this size.
    pub segment: ByteSize,
    /// So much may wait for the disk while as much is being written.
    pub queue: ByteSize,
    /// A snapshot of the index is due after so much: a restart reads as much more.
    pub snapshot_after: ByteSize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Where S3 is served. It is not encrypted: whoever can listen to the network reads along.
    pub listen: SocketAddr,
    /// Where it is served over TLS, by a node that was given a certificate.
    pub listen_tls: SocketAddr,
    /// What buckets are said to be in.
    pub region: String,
    /// Names of this node: `BUCKET.DOMAIN` as the host of a request says which bucket it is about.
    pub domains: Vec<String>,
    pub limits: Limits,
}

/// Where objects go when the disk is short of room, and what they outlive the node in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tier2 {
    /// `https://HOST` or `http://HOST`, with or without a port. Without it, Amazon's of the region.
    pub endpoint: Option<String>,
    /// Without it, `us-east-1`.
    pub region: Option<String>,
    /// A file with an access key and its secret, as S3 clients read it or separated by blanks.
    pub credentials: PathBuf,
    /// Certificates of the authorities to trust, as PEM. Without it, those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Which buckets are there, under the same name. They have to be there already.
    pub buckets: BTreeMap<String, Bucket>,
    /// `early`: all that is in those buckets comes there as soon as there is time. `late`: when the disk is short of room, or somebody asks.
    pub write_back: WriteBack,
    /// In pieces of this size comes to memory what is in buckets whose authority is S3: 1 to 8 MiB. Without it, 4.
    pub block: Option<ByteSize>,
}

/// A bucket that is in S3, as its terms say or, for short, by its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bucket {
    Of(String),
    As(BucketTerms),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketTerms {
    /// Whose it is here.
    pub tenant: String,
    /// Who says what is in it.
    #[serde(default)]
    pub authority: Authority,
    /// So long what S3 has said of a name is taken for true. Without it, S3 is asked each time. Only where it is the authority.
    #[serde(default, deserialize_with = "duration_or_none")]
    pub revalidate: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The node: S3 has what it brings there.
    #[default]
    Index,
    /// S3, which others may write to: the node has what was read there.
    S3,
}

/// Also `0s`, which is no duration elsewhere.
fn duration_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match &*text {
        "0s" => Ok(Duration::ZERO),
        _ => ids::duration(text.into_deserializer()),
    }
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOf;

        impl<'de> Visitor<'de> for OneOf {
            type Value = Bucket;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tenant, or a map of `tenant`, `authority` and `revalidate`")
            }

            fn visit_str<E: de::Error>(self, tenant: &str) -> Result<Bucket, E> {
                Ok(Bucket::Of(tenant.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bucket, A::Error> {
                BucketTerms::deserialize(MapAccessDeserializer::new(map)).map(Bucket::As)
            }
        }

        deserializer.deserialize_any(OneOf)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteBack {
    #[default]
    Early,
    Late,
}

/// What the S3 face takes on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; others wait.
    pub connections: usize,
    /// Of one object that is written as a whole, or of a part.
    pub content: ByteSize,
    /// How long a client may keep the node waiting.
    #[serde(deserialize_with = "ids::duration")]
    pub patience: Duration,
    /// How long requests may go on when the node ends.
    #[serde(deserialize_with = "ids::duration")]
    pub drain: Duration,
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Default for Node {
    fn default() -> Self {
        Self {
            listen: ANY_PORT,
            listen_tls: ANY_PORT,
            connections: front::node::Limits::default().connections,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            limit: ByteSize(1 << 30),
            tenant_limit: None,
            room_wait: Duration::from_secs(10),
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            limit: ByteSize(16 << 30),
            segment: ByteSize(64 << 20),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment: ByteSize(16 << 20),
            queue: ByteSize(8 << 20),
            snapshot_after: ByteSize(64 << 20),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        let ::s3::Config {
            region, domains, ..
        } = ::s3::Config::default();
        Self {
            listen: ANY_PORT,
            listen_tls: ANY_PORT,
            region,
            domains,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = ::s3::config::Limits::default();
        Self {
            connections: limits.connections,
            content: ByteSize(limits.content_bytes),
            patience: limits.patience,
            // Shorter than those wait who end a node.
            drain: Duration::from_secs(10),
        }
    }
}

impl Config {
    #[must_use]
    pub fn users(&self) -> PathBuf {
        let beside = || self.dir.join("users");
        self.users.clone().unwrap_or_else(beside)
    }

    pub(crate) fn store(&self) -> store::Config {
        let Log {
            segment,
            queue,
            snapshot_after,
        } = self.log;
        let defaults = store::Config::default();
        let mut config = store::Config {
            scrub_every: defaults.scrub_every,
            member: None,
            remote: None,
            cached: None,
            arena: arena::Config {
                limit_bytes: self.memory.limit.0,
                ..arena::Config::default()
            },
            namespace: namespace::Config {
                snapshot_after_bytes: snapshot_after.0,
                ..namespace::Config::default()
            },
            log: wal::Config {
                segment_bytes: segment.0,
                // The log takes what is too much as the most that it can.
                queue_bytes: usize::try_from(queue.0).unwrap_or(usize::MAX),
            },
            tier1: tier1::Config {
                limit_bytes: self.disk.limit.0,
                segment_bytes: self.disk.segment.0.min(self.disk.limit.0),
                ..tier1::Config::default()
            },
            tenant_bytes: self.memory.tenant_limit.map_or(0, |limit| limit.0),
            room_wait: self.memory.room_wait,
        };
        let limits = &mut config.namespace.limits;
        limits.metadata_bytes_max = METADATA_BYTES_MAX;
        limits.owned_bytes_max = self.tenant_limit.map_or(u64::MAX, |limit| limit.0);
        config
    }

    pub(crate) fn node_limits(&self) -> front::node::Limits {
        front::node::Limits {
            connections: self.node.connections,
            drain: self.s3.limits.drain,
            ..front::node::Limits::default()
        }
    }

    pub(crate) fn s3(&self) -> ::s3::Config {
        let S3 {
            region,
            domains,
            limits,
            ..
        } = self.s3.clone();
        ::s3::Config {
            region,
            domains,
            limits: ::s3::config::Limits {
                connections: limits.connections,
                content_bytes: limits.content.0,
                patience: limits.patience,
                drain: limits.drain,
                ..::s3::config::Limits::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_and_what_nobody_knows_is_refused() {
        let text = r#"{"dir": "/d", "memory": {"limit": "256MiB"}, "s3": {"region": "here", "limits": {"drain": "5s"}}}"#;
        let config: Config = serde_json::from_str(text).expect("one");
        assert_eq!(config.users(), PathBuf::from("/d/users"));
        assert_eq!(config.store().arena.limit_bytes, 256 << 20);
        assert_eq!(config.log, Log::default());
        let s3 = config.s3();
        assert_eq!(
            (&*s3.region, s3.limits.drain),
            ("here", Duration::from_secs(5))
        );
        let text = r#"{"tier2": {"buckets": {"data": "acme", "set": {"tenant": "acme", "authority": "s3", "revalidate": "10s"}}}}"#;
        let config: Config = serde_json::from_str(text).expect("one");
        let buckets = config.tier2.expect("it is there").buckets;
        assert_eq!(buckets["data"], Bucket::Of("acme".to_owned()));
        let terms = BucketTerms {
            tenant: "acme".to_owned(),
            authority: Authority::S3,
            revalidate: Duration::from_secs(10),
        };
        assert_eq!(buckets["set"], Bucket::As(terms));
        for bad in [
            r#"{"directory": "/d"}"#,
            r#"{"memory": {"limit": 256}}"#,
            r#"{"memory": {"limit": "256MB"}}"#,
            r#"{"s3": {"limits": {"drain": "5"}}}"#,
            r#"{"s3": {"listen": "9000"}}"#,
            r#"{"tier2": {"buckets": {"data": {"authority": "s3"}}}}"#,
            r#"{"tier2": {"buckets": {"data": {"tenant": "acme", "authority": "both"}}}}"#,
            r#"{"tier2": {"buckets": {"data": {"tenant": "acme", "revalidates": "1s"}}}}"#,
            r#"{"tier2": {"buckets": {"data": 1}}}"#,
            r#"{"site": {"index": "127.0.0.1:0", "node": 2}}"#,
        ] {
            serde_json::from_str::<Config>(bad).expect_err(bad);
        }
    }
}
