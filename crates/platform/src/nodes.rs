//! The object store of a platform: a node of GEDS for each site, and a user of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use geds::users;
use serde::{Deserialize, Serialize};

use super::{ORG, Part, Plan, private_dir};

/// Of each node: a laptop has other things to do.
const MEMORY: &str = "256Mi";
const DISK: &str = "4Gi";
const REGION: &str = "us-east-1";

/// What a node says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub s3: SocketAddr,
    pub node: SocketAddr,
    /// The same over TLS, if it has a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_tls: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_tls: Option<SocketAddr>,
    pub metrics: SocketAddr,
}

pub(super) fn start(plan: &Plan, site: &'static str) -> anyhow::Result<Part<Ready>> {
    let (own, log) = (dir(&plan.dir), plan.log.clone());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Part::start((name_of(site), site), move |bound: Option<&Ready>| {
        let s3 = bound.map_or(any_port, |ready| ready.s3).to_string();
        let metrics = bound.map_or(any_port, |ready| ready.metrics).to_string();
        let fixed = ["geds", "serve", "--json", "--with-parent"];
        let said = ["--memory", MEMORY, "--disk", DISK, "--log", &log];
        let bound = ["--s3", &s3, "--metrics", &metrics];
        let args = fixed.into_iter().chain(said).chain(bound);
        let mut args: Vec<OsString> = args.map(OsString::from).collect();
        args.extend(["--dir".into(), own.join(site).into()]);
        args.extend(["--users".into(), own.join("users").into()]);
        args
    })
}

/// Where clients of S3 find credentials of the platform's own tenant: made at the first start.
pub fn credentials(platform: &Path) -> PathBuf {
    dir(platform).join("credentials")
}

/// Lets the platform's own tenant in, and leaves the credentials where they are found.
pub(super) fn make_user(platform: &Path) -> anyhow::Result<()> {
    let credentials = credentials(platform);
    if !credentials.exists() {
        private_dir(&dir(platform))?;
        let users = dir(platform).join("users");
        let user = users::add(&users, ORG).context("make a user of the object store")?;
        user.write(&credentials, REGION)?;
    }
    Ok(())
}

fn dir(platform: &Path) -> PathBuf {
    platform.join("geds")
}

fn name_of(site: &str) -> &'static str {
    match site {
        "edge" => "the object store at edge",
        _ => "the object store at cloud",
    }
}
