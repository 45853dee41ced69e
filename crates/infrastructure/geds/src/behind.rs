//! The store behind a node: from what an operator says of it to what a [`Store`](crate::store::Store) uses.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use ::store::s3::{Counters, Limits};
use ::store::{Credentials, S3};
use telemetry::Metrics;

use crate::config::{Authority, Bucket, Tier2 as Config, WriteBack};
use crate::error::{Error, Kind, Result};
use crate::front::object_store::{all_attributes_of, attributes_of, metadata_of};
use crate::index::BucketName;
use crate::store::{BLOCK_BYTES, Cached, Policy, Remote, tenant};
use crate::tier2::{Background, Tier2};

const HOME_BYTES: usize = 16;
/// For who reads what is there and waits for it.
const PATIENCE: Limits = Limits {
    patience: Duration::from_secs(10),
    bytes_per_second: 64 << 10,
    idle_connections: 32,
    retries: 3,
    retry_within: Duration::from_secs(10),
};
const BLOCK_BYTES_USUAL: u64 = 4 << 20;

/// What a store uses of S3.
#[derive(Debug)]
pub(crate) struct Behind {
    pub remote: Remote,
    /// `None`: S3 is the authority of no bucket.
    pub cached: Option<Cached>,
}

/// Nothing is asked of it yet. To be called within a runtime of several threads, where it may wait for the disk.
///
/// # Errors
/// `Invalid`: the configuration, or a file that it names. `Unavailable`: such a file cannot be read.
pub(crate) fn open(config: &Config, dir: &Path, metrics: &Metrics) -> Result<Behind> {
    let reading = |path: &Path, error| Error::io(format!("read {}", path.display()), error);
    let invalid = |doing: String, error| Error::caused(Kind::Invalid, doing, error);
    let path = &config.credentials;
    let text = fs::read_to_string(path).map_err(|error| reading(path, error))?;
    let credentials = Credentials::parse(&text);
    let credentials =
        credentials.map_err(|error| invalid(format!("use {}", path.display()), error))?;
    let authorities = match &config.authorities {
        Some(path) => Some(fs::read(path).map_err(|error| reading(path, error))?),
        None => None,
    };
    let endpoint = match &config.endpoint {
        Some(endpoint) => {
            let parsed = endpoint.parse();
            Some(parsed.map_err(|_| Error::new(Kind::Invalid, format!("`{endpoint}` is no URL")))?)
        }
        None => None,
    };
    let region = config.region.clone();
    let counters = Counters::new(metrics);
    let client = |limits| {
        let s3 = ::store::s3::Config {
            endpoint: endpoint.clone(),
            region: region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
            credentials: credentials.clone(),
            authorities: authorities.clone(),
            limits,
        };
        let s3 = S3::new(s3, counters.clone());
        s3.map_err(|error| invalid("use a store that speaks S3".to_owned(), error))
    };
    let s3 = client(Limits::default())?;
    for bucket in config.buckets.keys() {
        s3.bucket(bucket)
            .map_err(|error| invalid(format!("use `{bucket}`"), error))?;
    }
    let home = home(dir)?;
    let (buckets, theirs) = buckets(config)?;
    let runtime = tokio::runtime::Handle::current();
    let cached = match theirs.is_empty() {
        true => None,
        false => Some(Cached {
            tier2: Tier2::new(client(PATIENCE)?, &home),
            buckets: theirs,
            block_bytes: block_bytes(config)?,
            attributes: all_attributes_of,
            metadata: metadata_of,
            runtime: runtime.clone(),
        }),
    };
    let tier2 = Tier2::new(s3, &home);
    let remote = Remote {
        background: Background::start(&tier2)?,
        tier2,
        attributes: attributes_of,
        buckets,
        writes_back: config.write_back == WriteBack::Early,
        runtime,
    };
    Ok(Behind { remote, cached })
}

type Ours = BTreeMap<BucketName, ids::Name>;
type Theirs = BTreeMap<BucketName, Policy>;

/// Those whose authority is the index, and those whose is S3.
fn buckets(config: &Config) -> Result<(Ours, Theirs)> {
    let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
    for (name, bucket) in &config.buckets {
        let key = BucketName::new(name)?;
        match bucket {
            Bucket::Of(owner) => {
                ours.insert(key, tenant(owner)?);
            }
            Bucket::As(terms) if terms.authority == Authority::S3 => {
                let policy = Policy {
                    owner: tenant(&terms.tenant)?,
                    revalidate: terms.revalidate,
                };
                theirs.insert(key, policy);
            }
            Bucket::As(terms) if terms.revalidate.is_zero() => {
                ours.insert(key, tenant(&terms.tenant)?);
            }
            Bucket::As(_) => {
                let what = format!("`revalidate` of `{name}`: S3 is not its authority");
                return Err(Error::new(Kind::Invalid, what));
            }
        }
    }
    Ok((ours, theirs))
}

fn block_bytes(config: &Config) -> Result<u64> {
    let bytes = config.block.map_or(BLOCK_BYTES_USUAL, |size| size.0);
    if BLOCK_BYTES.contains(&bytes) {
        return Ok(bytes);
    }
    let what = format!("tier2.block is {bytes} bytes: it is 1Mi to 8Mi");
    Err(Error::new(Kind::Invalid, what))
}

/// What tells the objects of this directory's node from all others, made at the first start.
fn home(dir: &Path) -> Result<String> {
    let path = dir.join("home");
    match fs::read_to_string(&path) {
        Ok(home) if home.len() == 2 * HOME_BYTES && home.bytes().all(|b| b.is_ascii_hexdigit()) => {
            return Ok(home);
        }
        Ok(_) => {
            let what = format!("{} is not what was written there", path.display());
            return Err(Error::new(Kind::Corrupt, what));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(format!("read {}", path.display()), error)),
    }
    let mut random = [0; HOME_BYTES];
    rt::fill_random(&mut random);
    let home: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let partial = dir.join("home.partial");
    let write = || {
        let mut file = durable::create_private(&partial)?;
        file.write_all(home.as_bytes())?;
        durable::publish(&file, &partial, &path)
    };
    write().map_err(|error| Error::io(format!("write {}", path.display()), error))?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BucketTerms;

    #[test]
    fn a_home_is_made_once_and_no_other_is_taken_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = home(dir.path()).expect("it is made");
        assert_eq!(home(dir.path()).expect("it is there"), first);
        fs::write(dir.path().join("home"), "x").expect("written");
        assert_eq!(home(dir.path()).expect_err("damaged").kind, Kind::Corrupt);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_operator_got_wrong_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let credentials = dir.path().join("credentials");
        fs::write(&credentials, "KEY hunter2").expect("written");
        let of = |tenant: &str| Bucket::Of(tenant.to_owned());
        let good = Config {
            endpoint: Some("https://s3.example.com".to_owned()),
            credentials,
            buckets: [("data".to_owned(), of("acme"))].into(),
            ..Config::default()
        };
        let open = |config: &Config| open(config, dir.path(), &Metrics::new());
        let opened = open(&good).expect("it can be used");
        let Behind { remote, cached } = opened;
        assert!(remote.writes_back && remote.buckets.len() == 1 && cached.is_none());
        let bad = |change: fn(&mut Config)| {
            let mut config = good.clone();
            change(&mut config);
            let error = open(&config).expect_err("it is wrong");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            shown
        };
        assert!(bad(|config| config.endpoint = Some("nowhere".to_owned())).contains("nowhere"));
        assert!(bad(|config| config.credentials = "/none".into()).contains("/none"));
        let no_tenant = |config: &mut Config| {
            config
                .buckets
                .insert("logs".to_owned(), Bucket::Of("No Tenant".to_owned()));
        };
        bad(no_tenant);
        let no_bucket = |config: &mut Config| {
            config
                .buckets
                .insert("No Bucket".to_owned(), Bucket::Of("acme".to_owned()));
        };
        assert!(bad(no_bucket).contains("No Bucket"));
        fn add(config: &mut Config, authority: Authority) {
            let terms = BucketTerms {
                tenant: "acme".to_owned(),
                authority,
                revalidate: Duration::from_secs(1),
            };
            config.buckets.insert("set".to_owned(), Bucket::As(terms));
        }
        assert!(bad(|config| add(config, Authority::Index)).contains("set"));
        let mut config = good.clone();
        add(&mut config, Authority::S3);
        let cached = open(&config).expect("it can be used").cached;
        let cached = cached.expect("S3 is an authority");
        assert_eq!((cached.block_bytes, cached.buckets.len()), (4 << 20, 1));
        for bytes in [(1 << 20) - 1, (8 << 20) + 1] {
            config.block = Some(ids::ByteSize(bytes));
            let error = open(&config).expect_err("it is no size of a block");
            assert!(error.to_string().contains("tier2.block"), "{error}");
        }
    }
}
