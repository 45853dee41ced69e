//! A store of one node behind an S3 server, for those who test it from outside (conformance/s3-tests and conformance/s3-clients).
//!
//! `geds_s3 DIR USERS [DOMAIN…]`: USERS are lines of an access key, a secret and a tenant. It writes DIR/ca.pem and keeps log, objects
//! and users in DIR,
//! serves HTTP and HTTPS on ports that the system chooses, and prints `{"http", "https", "ca"}` as one line. It runs until its standard input ends.
//! Started again on the same DIR it knows all names, and what is durable; what was only in memory is lost.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::io::Read as _;
use std::path::PathBuf;

use geds::Config;
use geds::config::Tls;
use telemetry::{Health, Metrics};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("say where to write")?);
    let users = std::fs::read_to_string(arguments.next().ok_or("say who the users are")?)?;
    let mut config = Config {
        dir: dir.clone(),
        ..Config::default()
    };
    config.s3.region = "local".to_owned();
    config.s3.domains = arguments.collect();
    let mut file = durable::create_private(&config.users())?;
    std::io::Write::write_all(&mut file, users.as_bytes())?;
    telemetry::init("geds_s3", telemetry::LogFormat::Text, "warn")?;
    let issued = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned))?;
    let (ca, key) = (dir.join("ca.pem"), dir.join("key.pem"));
    std::fs::write(&ca, issued.cert.pem())?;
    std::fs::write(&key, issued.signing_key.serialize_pem())?;
    config.tls = Some(Tls {
        certificate: ca.clone(),
        key,
        authority: None,
    });
    let deps = geds::Deps {
        metrics: Metrics::new(),
        health: Health::starting("starting"),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let node = geds::start(config, deps).await?;
        let https = node.s3_tls.map(|addr| addr.port());
        let ready = serde_json::json!({"http": node.s3.port(), "https": https, "ca": ca});
        println!("{ready}");
        let (ended, end) = tokio::sync::oneshot::channel();
        let wait = move || ended.send(std::io::stdin().read_to_end(&mut Vec::new()));
        rt::thread("end".to_owned(), 64 << 10, wait)?;
        end.await??;
        node.stop().await?;
        Ok(())
    })
}
