//! The typed client: one method an endpoint.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::Duration;

use rustls::crypto::ring;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::{
    Decision, Decisions, Explanation, JoinToken, Migration, MigrationSpec, NewJoinToken, Operation,
    Page, PolicyRequest, Problem, Scale, Service, Site, UnitStatus, Units,
};

pub use stream::{Follow, WatchEvent, Watching};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server answers long polls after [`POLL`] at the latest, and ends streams more often than this.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// How long the server is asked to wait for an operation, at most.
const POLL: Duration = Duration::from_secs(20);
/// A body that is longer is not ours.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How often a request is made at most, and what lies between: long enough for a controller to start again.
const TRIES: u32 = 4;
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// When series are asked for. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start_ms: u64,
    pub end_ms: u64,
    pub step: Duration,
    /// For how long a point counts as the newest; a step without one has no value.
    pub lookback: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The controller's address or its authority's certificate cannot be used.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The controller cannot be reached.
    #[error("reach {url}: does the controller run there?")]
    Unreachable {
        url: String,
        source: Box<ureq::Error>,
    },
    /// It answered something that this client does not understand.
    #[error("understand what {url} answers: {what}")]
    Answer { url: String, what: String },
}

impl Error {
    /// The problem's status, if it is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
}

/// A series that a query has found: points are (ms since 1970, value).
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The name is under `__name__`.
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(u64, f64)>,
}

/// Speaks to one controller for one organisation. Clones share connections.
#[derive(Clone)]
pub struct Client {
    url: String,
    token: String,
    agent: Agent,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

/// What a request says beside its path.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    method: &'static str,
    path: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
    body: Option<(&'static str, &'a [u8])>,
}

impl<'a> Request<'a> {
    fn get(path: &'a str, query: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            method: "GET",
            path,
            query,
            headers: &[],
            body: None,
        }
    }
}

impl Client {
    /// `url`: `https://HOST:PORT`. `authority`: the certificate (DER) of the only authority that is trusted.
    ///
    /// # Errors
    /// When the URL is not one of HTTPS.
    pub fn new(url: &str, token: &str, authority: &[u8]) -> Result<Self, Error> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("https://") {
            let what = format!("`{url}` does not begin with https://");
            return Err(Error::Invalid(what));
        }
        let roots = [Certificate::from_der(authority).to_owned()];
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .build();
        Ok(Self {
            url: url.to_owned(),
            token: token.to_owned(),
            agent: config.new_agent(),
        })
    }

    /// # Errors
    /// See [`Error`]; so do all methods below.
    pub fn sites(&self) -> Result<Vec<Site>, Error> {
        self.list("/v1/sites")
    }

    pub fn site(&self, name: &str) -> Result<Site, Error> {
        self.get(&format!("/v1/sites/{}", escape(name)), &[])
    }

    /// Overrules what a site has that waits for an operator.
    pub fn adopt_site(&self, name: &str) -> Result<Operation, Error> {
        let path = format!("/v1/sites/{}/adoption", escape(name));
        self.change::<()>("POST", &path, &[], None)
    }

    /// Forgets a site that does not come back.
    pub fn forget_site(&self, name: &str) -> Result<(), Error> {
        self.delete_now(&format!("/v1/sites/{}", escape(name)))
    }

    /// A new token with which one site may join. Asked again because an answer was lost, it makes another: the first is never used.
    pub fn issue_join_token(&self, wish: &NewJoinToken) -> Result<JoinToken, Error> {
        self.post("/v1/join-tokens", wish)
    }

    pub fn services(&self) -> Result<Vec<Service>, Error> {
        self.list("/v1/services")
    }

    pub fn service(&self, name: &str) -> Result<Service, Error> {
        self.get(&service_path(name, ""), &[])
    }

    /// Creates the service; it is an error if there is one of that name.
    pub fn create(&self, service: &Service) -> Result<Operation, Error> {
        self.change("POST", "/v1/services", &[], Some(service))
    }

    /// Creates or replaces the service, whatever is there.
    pub fn apply(&self, service: &Service) -> Result<Operation, Error> {
        let path = service_path(service.metadata.name.as_str(), "");
        self.change("PUT", &path, &[], Some(service))
    }

    /// Replaces the service if it has this version.
    pub fn replace(&self, service: &Service, version: &str) -> Result<Operation, Error> {
        let path = service_path(service.metadata.name.as_str(), "");
        let tag = format!("\"{version}\"");
        self.change("PUT", &path, &[("if-match", &tag)], Some(service))
    }

    pub fn delete(&self, name: &str) -> Result<Operation, Error> {
        self.change::<()>("DELETE", &service_path(name, ""), &[], None)
    }

    pub fn units(&self, service: &str) -> Result<Vec<UnitStatus>, Error> {
        let units: Units = self.get(&service_path(service, "/units"), &[])?;
        Ok(units.items)
    }

    pub fn explain(&self, service: &str) -> Result<Explanation, Error> {
        self.get(&service_path(service, "/explain"), &[])
    }

    /// Runs the rules `apiRequest("path")` of a block's policy, and says what they have decided. Asked again because an answer was lost, they
    /// run again: of the same block one move at a time is made.
    pub fn request(&self, service: &str, block: &str, path: &str) -> Result<Vec<Decision>, Error> {
        let request = PolicyRequest {
            block: block_name(block)?,
            path: path.to_owned(),
        };
        let decisions: Decisions = self.post(&service_path(service, "/requests"), &request)?;
        Ok(decisions.items)
    }

    pub fn scale(&self, service: &str, block: &str, replicas: u32) -> Result<Operation, Error> {
        let block = block_name(block)?;
        let scale = Scale { block, replicas };
        self.change("POST", &service_path(service, "/scale"), &[], Some(&scale))
    }

    pub fn migrate(&self, spec: &MigrationSpec) -> Result<Operation, Error> {
        self.change("POST", "/v1/migrations", &[], Some(spec))
    }

    pub fn migrations(&self) -> Result<Vec<Migration>, Error> {
        self.list("/v1/migrations")
    }

    pub fn migration(&self, id: &str) -> Result<Migration, Error> {
        self.get(&format!("/v1/migrations/{}", escape(id)), &[])
    }

    pub fn operations(&self) -> Result<Vec<Operation>, Error> {
        self.list("/v1/operations")
    }

    pub fn operation(&self, id: &str) -> Result<Operation, Error> {
        self.get(&operation_path(id), &[])
    }

    /// The operation when it is done, or as it is after `patience`.
    pub fn wait_operation(&self, id: &str, patience: Duration) -> Result<Operation, Error> {
        let began = rt::now();
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let wait = format!("{}ms", left.min(POLL).as_millis().max(1));
            let operation: Operation = self.get(&operation_path(id), &[("wait", &wait)])?;
            if operation.is_done() || began.elapsed() >= patience {
                return Ok(operation);
            }
        }
    }

    /// What the unit has written from byte `offset` on, and goes on to write if `follow`. The block and replica must be given where the
    /// service has more than one unit.
    #[must_use]
    pub fn logs(
        &self,
        service: &str,
        unit: Option<(&str, u32)>,
        offset: u64,
        follow: bool,
    ) -> Follow {
        Follow::new(self.clone(), service, unit, offset, follow)
    }

    /// What changes after `since` (an event's `revision`), or from now on.
    #[must_use]
    pub fn watch(&self, since: Option<&str>) -> Watching {
        Watching::new(self.clone(), since)
    }

    /// Uploads a WebAssembly module and says how services refer to it: `sha256:…`.
    pub fn put_module(&self, wasm: &[u8]) -> Result<String, Error> {
        let digest = Sha256::digest(wasm);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{digest}");
        if !self.has_module(&digest)? {
            self.ask(Request {
                method: "PUT",
                path: &format!("/v1/modules/{digest}"),
                query: &[],
                headers: &[],
                body: Some(("application/wasm", wasm)),
            })?;
        }
        Ok(digest)
    }

    /// Whether a module of this digest was uploaded (`sha256:…`).
    pub fn has_module(&self, digest: &str) -> Result<bool, Error> {
        let path = format!("/v1/modules/{}", escape(digest));
        let asked = self.ask(Request {
            method: "HEAD",
            ..Request::get(&path, &[])
        });
        match asked {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets a module (`sha256:…`) that no service uses.
    pub fn delete_module(&self, digest: &str) -> Result<(), Error> {
        self.delete_now(&format!("/v1/modules/{}", escape(digest)))
    }

    /// The newest point of each series that the selector names; at `at_ms`, or now.
    pub fn query(&self, selector: &str, at_ms: Option<u64>) -> Result<Vec<Series>, Error> {
        let at = at_ms.map(seconds);
        let mut query = vec![("query", selector)];
        query.extend(at.as_deref().map(|at| ("time", at)));
        self.metrics("/v1/metrics/query", &query)
    }

    /// The points of series at every step of a range.
    pub fn query_range(&self, selector: &str, range: Range) -> Result<Vec<Series>, Error> {
        let (start, end) = (seconds(range.start_ms), seconds(range.end_ms));
        let millis = |duration: Duration| format!("{}ms", duration.as_millis().max(1));
        let query = [
            ("query", selector),
            ("start", &start),
            ("end", &end),
            ("step", &millis(range.step)),
            ("lookback_delta", &millis(range.lookback)),
        ];
        self.metrics("/v1/metrics/query_range", &query)
    }

    fn metrics(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Series>, Error> {
        let answer: Metrics = self.get(path, query)?;
        let series = answer.data.result.into_iter().map(|found| {
            let points = found.values.into_iter().chain(found.value);
            let points = points.filter_map(|(at, value)| Some((millis(at), value.parse().ok()?)));
            Series {
                labels: found.metric,
                points: points.collect(),
            }
        });
        Ok(series.collect())
    }

    fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", "500")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query)?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        self.read(self.ask(Request::get(path, query))?)
    }

    /// Gone when it is answered.
    fn delete_now(&self, path: &str) -> Result<(), Error> {
        let method = "DELETE";
        self.ask(Request {
            method,
            ..Request::get(path, &[])
        })
        .map(drop)
    }

    /// What is done when it is answered.
    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Invalid(error.to_string()))?;
        self.read(self.ask(Request {
            method: "POST",
            body: Some(("application/json", &body)),
            ..Request::get(path, &[])
        })?)
    }

    /// A change carries a key, so that asking again is safe.
    fn change<T: Serialize>(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&T>,
    ) -> Result<Operation, Error> {
        let key = format!("{:016x}{:016x}", rt::random_u64(), rt::random_u64());
        let headers = [headers, &[("idempotency-key", &key)]].concat();
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => body,
            Err(error) => return Err(Error::Invalid(error.to_string())),
        };
        self.read(self.ask(Request {
            method,
            path,
            query: &[],
            headers: &headers,
            body: body.as_deref().map(|body| ("application/json", body)),
        })?)
    }

    fn read<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, Error> {
        let body = answer.into_body().into_with_config();
        let mut text = Vec::new();
        let read = body.limit(ANSWER_BYTES_MAX).reader().read_to_end(&mut text);
        read.map_err(|error| self.not_understood(error))?;
        serde_json::from_slice(&text).map_err(|error| self.not_understood(error))
    }

    fn not_understood(&self, what: impl fmt::Display) -> Error {
        Error::Answer {
            url: self.url.clone(),
            what: what.to_string(),
        }
    }

    /// Asks until there is an answer that is not "later". All requests may be repeated: reading changes nothing, a module is what its
    /// name says, and changes carry a key. What is done when it is answered says at its method why.
    fn ask(&self, request: Request<'_>) -> Result<Response<Body>, Error> {
        let mut n_tries = 1;
        loop {
            let answer = self.ask_once(request);
            let is_transient = match &answer {
                Err(Error::Unreachable { .. }) => true,
                Err(error) => error.status() == Some(503),
                Ok(_) => false,
            };
            if !is_transient || n_tries == TRIES {
                return answer;
            }
            pause(n_tries);
            n_tries += 1;
        }
    }

    fn ask_once(&self, request: Request<'_>) -> Result<Response<Body>, Error> {
        let url = format!("{}{}", self.url, request.path);
        let invalid = |error: &dyn fmt::Display| Error::Invalid(format!("{url}: {error}"));
        let separator = |idx| if idx == 0 { '?' } else { '&' };
        let query: String = request
            .query
            .iter()
            .enumerate()
            .map(|(idx, (name, value))| format!("{}{name}={}", separator(idx), escape(value)))
            .collect();
        let mut message = ureq::http::Request::builder()
            .method(request.method)
            .uri(format!("{url}{query}"))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in request.headers {
            message = message.header(*name, *value);
        }
        let sent = match request.body {
            Some((kind, bytes)) => {
                let message = message.header("content-type", kind).body(bytes);
                self.agent.run(message.map_err(|error| invalid(&error))?)
            }
            None => self
                .agent
                .run(message.body(()).map_err(|error| invalid(&error))?),
        };
        let answer = sent.map_err(|source| Error::Unreachable {
            url: self.url.clone(),
            source: Box::new(source),
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.problem(answer))
    }

    fn problem(&self, answer: Response<Body>) -> Error {
        let status = answer.status();
        // An answer to HEAD has no body, one of `/v1/metrics` has another, and a proxy's may have anything.
        let problem = self.read::<Problem>(answer);
        Error::Problem(Box::new(
            problem.unwrap_or_else(|_| Problem::new(status.as_u16(), explain(status))),
        ))
    }
}

fn explain(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("an unknown status");
    format!("the answer was {}: {reason}", status.as_u16())
}

/// Waits before the next try: twice as long each time, half of it by chance.
fn pause(n_tries: u32) {
    let longest = RETRY_AFTER * (1 << n_tries);
    let by_chance = rt::random_u64() % 1000;
    let by_chance = longest.mul_f64(by_chance as f64 / 2000.0);
    park_timeout(longest / 2 + by_chance);
}

fn block_name(text: &str) -> Result<ids::Name, Error> {
    let name = text.parse();
    name.map_err(|error: ids::Malformed| Error::Invalid(error.to_string()))
}

fn service_path(name: &str, below: &str) -> String {
    format!("/v1/services/{}{below}", escape(name))
}

fn operation_path(id: &str) -> String {
    format!("/v1/operations/{}", escape(id))
}

/// Percent-encodes everything that is not always itself.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float is cut to the range"
)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// Prometheus' format of an answer.
#[derive(Deserialize)]
struct Metrics {
    data: MetricsData,
}

#[derive(Deserialize)]
struct MetricsData {
    result: Vec<MetricsSeries>,
}

#[derive(Deserialize)]
struct MetricsSeries {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}
