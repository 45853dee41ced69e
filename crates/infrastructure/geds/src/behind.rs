//! The store behind a node: from what an operator says of it to what a [`Store`](crate::store::Store) uses.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use ::store::s3::Counters;
use ::store::{Credentials, S3};
use telemetry::Metrics;

use crate::config::{Tier2 as Config, WriteBack};
use crate::error::{Error, Kind, Result};
use crate::front::object_store::attributes_of;
use crate::index::BucketName;
use crate::store::{Remote, tenant};
use crate::tier2::{Background, Tier2};

const HOME_BYTES: usize = 16;

/// Nothing is asked of it yet. To be called within a runtime of several threads, where it may wait for the disk.
///
/// # Errors
/// `Invalid`: the configuration, or a file that it names. `Unavailable`: such a file cannot be read.
pub(crate) fn open(config: &Config, dir: &Path, metrics: &Metrics) -> Result<Remote> {
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
    let s3 = S3::new(
        ::store::s3::Config {
            endpoint,
            region: config
                .region
                .clone()
                .unwrap_or_else(|| "us-east-1".to_owned()),
            credentials,
            authorities,
            limits: ::store::s3::Limits::default(),
        },
        Counters::new(metrics),
    );
    let s3 = s3.map_err(|error| invalid("use a store that speaks S3".to_owned(), error))?;
    let mut buckets = std::collections::BTreeMap::new();
    for (bucket, owner) in &config.buckets {
        s3.bucket(bucket)
            .map_err(|error| invalid(format!("use `{bucket}`"), error))?;
        buckets.insert(BucketName::new(bucket)?, tenant(owner)?);
    }
    let tier2 = Tier2::new(s3, &home(dir)?);
    Ok(Remote {
        background: Background::start(&tier2)?,
        tier2,
        attributes: attributes_of,
        buckets,
        writes_back: config.write_back == WriteBack::Early,
        runtime: tokio::runtime::Handle::current(),
    })
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
        let good = Config {
            endpoint: Some("https://s3.example.com".to_owned()),
            credentials,
            buckets: [("data".to_owned(), "acme".to_owned())].into(),
            ..Config::default()
        };
        let open = |config: &Config| open(config, dir.path(), &Metrics::new());
        let opened = open(&good).expect("it can be used");
        assert!(opened.writes_back && opened.buckets.len() == 1);
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
                .insert("logs".to_owned(), "No Tenant".to_owned());
        };
        bad(no_tenant);
        let no_bucket = |config: &mut Config| {
            config
                .buckets
                .insert("No Bucket".to_owned(), "acme".to_owned());
        };
        assert!(bad(no_bucket).contains("No Bucket"));
    }
}
