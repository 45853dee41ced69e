//! The object store of a platform: a node of GEDS for each site, and a user of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use geds::users;

use super::{Guarded, ORG, Plan, first_line, private_dir};
use crate::roles::geds::Ready;

/// Of each node: a laptop has other things to do.
const MEMORY: &str = "256Mi";
const DISK: &str = "4Gi";
const REGION: &str = "us-east-1";

/// A running node. It comes back where it was.
#[derive(Debug)]
pub(crate) struct Node {
    pub site: &'static str,
    pub ready: Ready,
    pub(super) guarded: Guarded,
}

impl Node {
    pub(super) fn start(plan: &Plan, site: &'static str) -> anyhow::Result<Self> {
        let dir = dir(&plan.dir);
        let bound = Arc::<Mutex<Option<Ready>>>::default();
        let started = Started {
            program: std::env::current_exe()?,
            dir: dir.join(site),
            users: dir.join("users"),
            log: plan.log.clone(),
            bound: Arc::clone(&bound),
        };
        let child = started.spawn(site)?;
        let spawn = move || started.spawn(site);
        let guarded = Guarded::new(name_of(site), child, None, spawn)?;
        let ready = bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self {
            site,
            ready: ready.expect("it has said where it is"),
            guarded,
        })
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.guarded.current().pid
    }
}

/// What a node's process is started with.
struct Started {
    program: PathBuf,
    dir: PathBuf,
    users: PathBuf,
    log: String,
    bound: Arc<Mutex<Option<Ready>>>,
}

impl Started {
    fn spawn(&self, site: &str) -> anyhow::Result<Child> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let (s3, metrics) = match &*bound {
            Some(ready) => (ready.s3, ready.metrics),
            None => (any_port, any_port),
        };
        drop(bound);
        let mut command = Command::new(&self.program);
        command
            .args(["geds", "serve", "--json", "--with-parent"])
            .args(["--memory", MEMORY, "--disk", DISK, "--log", &self.log])
            .args(["--s3", &s3.to_string(), "--metrics", &metrics.to_string()])
            .arg("--dir")
            .arg(&self.dir)
            .arg("--users")
            .arg(&self.users)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let what = format!("the object store of {site}");
        let mut child = command.spawn().with_context(|| format!("start {what}"))?;
        let said = first_line(&mut child, &what).and_then(|line| {
            serde_json::from_str(&line)
                .with_context(|| format!("{what} ended before it was ready: see above"))
        });
        match said {
            Ok(ready) => {
                *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready);
                Ok(child)
            }
            Err(error) => {
                // It may have ended by itself.
                child.kill().ok();
                child.wait()?;
                Err(error)
            }
        }
    }
}

/// Where clients of S3 find credentials of the platform's own tenant: made at the first start.
pub(crate) fn credentials(platform: &Path) -> PathBuf {
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
        "edge" => "geds at edge",
        _ => "geds at cloud",
    }
}
