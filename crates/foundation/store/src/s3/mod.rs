//! Stores that speak S3.

mod asking;
mod conditions;
mod http;
mod list;
mod metrics;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt as _, RetryConfig};
use url::Url;

use self::conditions::Conditions;
use self::http::Http;
pub use self::list::{List, Listed, Page};
pub use self::metrics::Counters;
pub use self::upload::Upload;
use crate::registry::within;
use crate::{Class, Credentials, Error, Opened, Result, Scheme};

#[derive(Clone, Debug)]
pub struct Config {
    /// `https://HOST` or `http://HOST`, with or without a port. `None`: Amazon's of the region.
    pub endpoint: Option<Url>,
    pub region: String,
    pub credentials: Credentials,
    /// Certificates of authorities as PEM. `None`: those that the system trusts.
    pub authorities: Option<Vec<u8>>,
    pub limits: Limits,
}

/// How long a store may keep us waiting, and how often it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, for the head of an answer, and for each piece of its body.
    pub patience: Duration,
    /// What is sent may take so much longer.
    pub bytes_per_second: u32,
    /// Open connections that nobody uses.
    pub idle_connections: usize,
    /// A request that failed and may be repeated is sent so often again, with growing pauses.
    pub retries: usize,
    /// And not any more after this time.
    pub retry_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            bytes_per_second: 64 << 10,
            idle_connections: 32,
            retries: 8,
            retry_within: Duration::from_secs(120),
        }
    }
}

/// The buckets of one endpoint: `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug)]
pub struct S3 {
    config: Config,
    http: Http,
    conditions: Conditions,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    objects: Arc<AmazonS3>,
    /// The same, and nothing is sent again.
    once: Arc<AmazonS3>,
    conditions: Conditions,
    http: Http,
    limits: Limits,
}

impl S3 {
    /// # Errors
    /// When the endpoint or the certificates are none.
    pub fn new(config: Config, counters: Counters) -> Result<Self> {
        if let Some(endpoint) = &config.endpoint {
            let is_plain = endpoint.path() == "/" && endpoint.query().is_none();
            let is_web = matches!(endpoint.scheme(), "http" | "https");
            let is_open = endpoint.username().is_empty() && endpoint.password().is_none();
            if !(is_plain && is_web && is_open && endpoint.has_host()) {
                let what = "an endpoint is https://HOST or http://HOST, and nothing else";
                return Err(Error::Invalid(what.to_owned()));
            }
        }
        let conditions = Conditions::default();
        let http = Http::new(&config, conditions.clone(), counters)?;
        Ok(Self {
            config,
            http,
            conditions,
        })
    }

    /// The same store, over connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        let conditions = Conditions::default();
        Self {
            config: self.config.clone(),
            http: self.http.apart(conditions.clone()),
            conditions,
        }
    }

    /// Nothing is asked of the store yet.
    ///
    /// # Errors
    /// When it cannot be a bucket.
    pub fn bucket(&self, name: &str) -> Result<Bucket> {
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if name.is_empty() || !name.bytes().all(is_inner) {
            return Err(Error::Invalid(format!("{name:?} is no bucket")));
        }
        let Config {
            endpoint,
            region,
            credentials,
            limits,
            ..
        } = &self.config;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(region)
            .with_access_key_id(&credentials.access_key)
            .with_secret_access_key(credentials.secret.reveal())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
            .with_http_connector(self.http.clone())
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: limits.retries,
                retry_timeout: limits.retry_within,
            });
        if let Some(token) = &credentials.token {
            builder = builder.with_token(token.reveal());
        }
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_endpoint(endpoint.as_str().trim_end_matches('/'))
                .with_allow_http(endpoint.scheme() == "http");
        }
        let once = builder.clone().with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
        Ok(Bucket {
            objects: Arc::new(builder.build()?),
            once: Arc::new(once.build()?),
            conditions: self.conditions.clone(),
            http: self.http.clone(),
            limits: *limits,
        })
    }
}

impl Scheme for S3 {
    fn open(&self, url: &Url) -> Result<Opened> {
        let wanted = || Error::Invalid("a bucket is s3://BUCKET/PREFIX".to_owned());
        let bucket = self.bucket(url.host_str().ok_or_else(wanted)?)?;
        Ok(Opened {
            store: within(bucket.objects, url)?,
            class: Class::Durable,
        })
    }
}

impl Bucket {
    /// For all that needs no conditional upload.
    #[must_use]
    pub fn objects(&self) -> &dyn ObjectStore {
        &*self.objects
    }

    /// Asks once: if this is well, there is no earlier request that may yet be carried out.
    ///
    /// # Errors
    /// What the store says. It may be gone nevertheless, or go later.
    pub async fn delete(&self, path: &Path) -> object_store::Result<()> {
        self.once.delete(path).await
    }
}
