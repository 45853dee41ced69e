//! What an operator decides about a server of streams. Sizes and durations are texts with a unit: `64Mi`, `30s`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ids::ByteSize;
use serde::Deserialize;

use crate::{controller, front};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server keeps its log and checkpoints.
    pub dir: PathBuf,
    /// Long-term storage: `file:///DIRECTORY`, `s3://BUCKET/PREFIX`, or what else is registered.
    pub lts: String,
    /// For `s3://`.
    pub s3: Option<S3>,
    /// A name or an address by which clients find this machine. Without it, the address at which the store listens, or with TLS `localhost`, as
    /// clients look for it in the certificate.
    pub publish: Option<String>,
    /// Without it, nothing is encrypted.
    pub tls: Option<Tls>,
    /// Without it, everybody may do everything.
    pub auth: Option<Auth>,
    pub store: Store,
    pub controller: Controller,
    pub rest: Rest,
    pub segments: streams_store::Config,
}

/// A store that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// `https://HOST` or `http://HOST`, with or without a port. Without it, Amazon's of the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Without it, `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// A file with an access key and its secret, as S3 clients read it or separated by blanks.
    pub credentials: PathBuf,
    /// Certificates of the authorities to trust, as PEM. Without it, those that the system trusts.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
}

/// What is shown to clients, on both ports. It is read again when the files change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: the certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Users, passwords and rules, as upstream's `passwd` has them. It is read again when it changes.
    pub passwords: PathBuf,
    /// What signs tokens. Without it, a key that is made at the first start, and kept in the directory.
    #[serde(default)]
    pub token_key: Option<PathBuf>,
    /// So long a token is good, in whole seconds: so long a user who may not any more still can.
    #[serde(default = "token_ttl", deserialize_with = "ids::duration")]
    pub token_ttl: Duration,
}

/// `Config.java`, `PROPERTY_ACCESS_TOKEN_TTL_SECONDS`.
fn token_ttl() -> Duration {
    Duration::from_mins(10)
}

/// The port of the store: Pravega's protocol over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub listen: SocketAddr,
    /// Open connections; others wait.
    pub connections: usize,
    /// What one connection may have appended that is not durable yet; more is not read from its socket.
    pub connection_window: ByteSize,
    /// The same of all connections. If it is less than `segments.log.queue`, appends do not wait there for each other.
    pub window: ByteSize,
    /// Of all connections, what has come of long requests that have not come to their end: more is not read.
    pub frames: ByteSize,
    /// Reads of one connection that wait for more to come.
    pub reads: usize,
    /// So long they wait, at most.
    #[serde(deserialize_with = "ids::duration")]
    pub read_wait: Duration,
}

/// The port of the controller: gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Controller {
    pub listen: SocketAddr,
    /// Open connections; others wait.
    pub connections: usize,
    /// Requests that are not answered yet; more are refused.
    pub requests: usize,
}

/// The port of the controller's REST interface: HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rest {
    pub listen: SocketAddr,
    /// Open connections; others wait.
    pub connections: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 12345)),
            connections: 10_000,
            connection_window: ByteSize(16 << 20),
            window: ByteSize(24 << 20),
            frames: ByteSize(128 << 20),
            reads: 4_096,
            read_wait: Duration::from_secs(30),
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            connections: 10_000,
            requests: 10_000,
        }
    }
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 10080)),
            connections: 1_000,
        }
    }
}

/// Reads of one connection that are fetched at once, of 2 MiB each at most.
const FETCHES: usize = 4;

impl Store {
    pub(crate) fn limits(&self) -> front::Limits {
        let bytes = |size: ByteSize| {
            let bytes = usize::try_from(size.0).unwrap_or(usize::MAX);
            bytes.clamp(1 << 20, 1 << 30)
        };
        front::Limits {
            connections: self.connections,
            connection_window: bytes(self.connection_window),
            window: bytes(self.window),
            frames: bytes(self.frames),
            reads: self.reads.max(1),
            fetches: FETCHES,
            patience: self.read_wait,
        }
    }
}

impl Controller {
    pub(crate) fn config(&self) -> controller::Config {
        controller::Config {
            requests_max: self.requests,
            connections_max: self.connections,
        }
    }
}
