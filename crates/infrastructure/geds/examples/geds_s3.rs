//! A store of one node behind an S3 server, for those who test it from outside (conformance/s3-tests and conformance/s3-clients).
//!
//! `geds_s3 DIR USERS [DOMAIN…]`: USERS are lines of an access key, a secret and a tenant. It writes DIR/ca.pem and keeps its log in DIR/log and
//! objects in DIR/objects,
//! serves HTTP and HTTPS on ports that the system chooses, and prints `{"http", "https", "ca"}` as one line. It runs until its standard input ends.
//! Started again on the same DIR it knows all names; and what is durable; what was only in memory is lost.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use geds::front::s3::{METADATA_BYTES_MAX, S3};
use geds::index::NodeId;
use geds::store::{self, Disks, Store};
use geds::tier1::Drive;
use s3::users::{Secret, User, Users};
use s3::{Config, Setup};
use telemetry::Metrics;
use tokio::net::TcpListener;
use wal::Directory;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("say where to write")?);
    let users = std::fs::read_to_string(arguments.next().ok_or("say who the users are")?)?;
    let users = parse(&users)?;
    let config = Config {
        region: "local".to_owned(),
        domains: arguments.collect(),
        ..Config::default()
    };
    telemetry::init("geds_s3", telemetry::LogFormat::Text, "warn")?;
    let authority = auth::Authority::new()?;
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, auth::pem(authority.certificate()))?;
    let identity = authority.identity("localhost")?;
    let tls = auth::Tls::new(&identity)?.server_config_admitting_anonymous();
    let store = open(&dir)?;
    let (end, ended) = sync_channel(0);
    let upkeep = {
        let store = store.clone();
        rt::thread("upkeep".to_owned(), 1 << 20, move || {
            maintain(&store, &ended)
        })?
    };
    let backend = Arc::new(S3::open(store)?);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let serve = async |tls| {
            let setup = Setup {
                config: config.clone(),
                users: users.clone(),
                backend: backend.clone(),
                tls,
                metrics: Metrics::new(),
            };
            s3::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, setup)
        };
        let (plain, secure) = (serve(None).await?, serve(Some(tls)).await?);
        let ready = serde_json::json!({
            "http": plain.addr.port(), "https": secure.addr.port(), "ca": ca,
        });
        println!("{ready}");
        let (ended, end) = tokio::sync::oneshot::channel();
        let wait = move || ended.send(std::io::stdin().read_to_end(&mut Vec::new()));
        rt::thread("end".to_owned(), 64 << 10, wait)?;
        end.await??;
        plain.stop().await;
        secure.stop().await;
        Ok::<_, Box<dyn Error>>(())
    })?;
    drop(end);
    upkeep.join().map_err(|_| "the upkeep has panicked")?;
    Ok(())
}

fn open(dir: &std::path::Path) -> Result<Store, Box<dyn Error>> {
    let [log, objects] = ["log", "objects"].map(|name| dir.join(name));
    durable::make_dir(&log)?;
    let disks = Disks {
        log: Arc::new(Directory::open(&log)?),
        objects: Arc::new(Drive::open(&objects)?),
    };
    let mut config = store::Config::default();
    config.namespace.limits.metadata_bytes_max = METADATA_BYTES_MAX;
    Ok(Store::open(&config, NodeId(1), disks)?)
}

/// Until `ended` is closed.
fn maintain(store: &Store, ended: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
        if let Err(error) = store.maintain() {
            tracing::warn!(%error, "maintain the store");
        }
    }
}

fn parse(text: &str) -> Result<Users, Box<dyn Error>> {
    let mut users = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [access_key, secret, tenant] = words[..] else {
            return Err("a user is an access key, a secret and a tenant".into());
        };
        users.push(User {
            access_key: access_key.to_owned(),
            secret: Secret::new(secret.to_owned()),
            tenant: geds::front::s3::tenant(tenant)?,
        });
    }
    Ok(Users::new(users))
}
