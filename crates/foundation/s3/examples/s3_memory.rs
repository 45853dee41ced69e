//! An S3 server that forgets everything when it ends, for those who test the front door from outside (conformance/s3-tests and
//! conformance/s3-clients).
//!
//! `s3_memory DIR USERS [DOMAIN…]`: USERS are lines of an access key, a secret and a tenant. It writes DIR/ca.pem, serves HTTP and HTTPS on
//! ports that the system chooses, and prints `{"http", "https", "ca"}` as one line. It runs until its standard input ends.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use s3::users::{Secret, User, Users};
use s3::{Config, Counters, Memory, Setup};
use telemetry::Metrics;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("say where to write ca.pem")?);
    let users = std::fs::read_to_string(arguments.next().ok_or("say who the users are")?)?;
    let users = parse(&users).ok_or("a user is an access key, a secret and a tenant")?;
    let config = Config {
        region: "local".to_owned(),
        domains: arguments.collect(),
        ..Config::default()
    };
    telemetry::init("s3_memory", telemetry::LogFormat::Text, "warn")?;
    let authority = auth::Authority::new()?;
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, auth::pem(authority.certificate()))?;
    let identity = authority.identity("localhost")?;
    let tls = auth::Tls::new(&identity)?.server_config_admitting_anonymous();
    let backend = Arc::new(Memory::new());
    let counters = Counters::new(&Metrics::new());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let serve = async |tls| {
            let setup = Setup {
                config: config.clone(),
                users: users.clone(),
                backend: backend.clone(),
                tls,
                counters: counters.clone(),
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
        Ok(())
    })
}

fn parse(text: &str) -> Option<Users> {
    let user = |line: &str| {
        let mut words = line.split_whitespace();
        Some(User {
            access_key: words.next()?.to_owned(),
            secret: Secret::new(words.next()?.to_owned()),
            tenant: s3::names::Tenant::new(words.next()?)?,
        })
    };
    text.lines()
        .map(user)
        .collect::<Option<Vec<_>>>()
        .map(Users::new)
}
