//! Nodes to measure: one in this process, and ones of their own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use geds::client::{Client, Credentials};
use geds::index::{BucketName, Class, Key, Name};
use geds::store::{Store, Terms};
use ids::{ByteSize, Name as Tenant};
use platform::nodes::Ready;
use telemetry::{Health, Metrics};
use tokio::runtime::Runtime;

use super::data::{self, MIB};

pub(super) const TENANT: &str = "acme";
pub(super) const BUCKET: &str = "data";
const REGION: &str = "us-east-1";

pub(super) fn name(key: &str) -> anyhow::Result<Name> {
    Ok(Name {
        bucket: BucketName::new(BUCKET)?,
        key: Key::new(key)?,
    })
}

/// All names of a set, which have nothing to do with the order in which they are written.
pub(super) fn names(n: usize) -> anyhow::Result<Vec<Name>> {
    (0..n)
        .map(|n| name(&format!("{:016x}", data::mix(n))))
        .collect()
}

/// A node in this process, as its operator would have it, and a bucket.
pub(super) struct Node {
    pub tenant: Tenant,
    service: geds::Service,
    // After what runs in it.
    runtime: Runtime,
}

impl Node {
    pub(super) fn start(dir: &Path, memory_bytes: usize) -> anyhow::Result<Self> {
        let runtime = rt::runtime()?;
        let mut config = geds::Config {
            dir: dir.to_owned(),
            ..geds::Config::default()
        };
        config.memory.limit = ByteSize(memory_bytes as u64);
        let deps = geds::Deps {
            metrics: Metrics::new(),
            health: Health::starting("starting"),
        };
        let service = runtime.block_on(geds::start(config, deps))?;
        let node = Self {
            tenant: geds::store::tenant(TENANT)?,
            service,
            runtime,
        };
        let bucket = BucketName::new(BUCKET)?;
        node.store().create_bucket(&node.tenant, &bucket)?.wait()?;
        Ok(node)
    }

    pub(super) fn store(&self) -> &Store {
        self.service.store()
    }

    /// What the end of the node loses.
    pub(super) fn put(&self, name: &Name, bytes: &[u8]) -> anyhow::Result<()> {
        let mut writer = self.store().writer(&self.tenant)?;
        writer.append(bytes)?;
        let written = (Class::Ephemeral, writer);
        // Nobody waits for the disk.
        let (_, ack) = self
            .store()
            .seal(&self.tenant, name, written, Terms::default())?;
        drop(ack);
        Ok(())
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.service.stop())?)
    }
}

/// A node in a process of its own. It ends with this.
#[derive(Debug)]
pub(super) struct Served {
    pub ready: Ready,
    /// Of the tenant, as S3 clients read them.
    pub credentials: PathBuf,
    child: Child,
}

impl Served {
    /// `more`: of the options of `cloudskin geds serve`.
    pub(super) fn start(dir: &Path, more: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        let credentials = dir.join("credentials");
        geds::users::add(&dir.join("users"), TENANT)?.write(&credentials, REGION)?;
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command
            .args(["geds", "serve", "--json", "--with-parent", "--log", "warn"])
            .args(more)
            .arg("--dir")
            .arg(dir)
            // While a node stands still, the end of the shell would end all of its group.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("start a node")?;
        let said = platform::first_line(&mut child, "a node");
        // From here on it is ended.
        let mut served = Self {
            ready: Ready {
                s3: ([127, 0, 0, 1], 0).into(),
                node: ([127, 0, 0, 1], 0).into(),
                metrics: ([127, 0, 0, 1], 0).into(),
                s3_tls: None,
                node_tls: None,
            },
            credentials,
            child,
        };
        served.ready = serde_json::from_str(&said?).context("understand where the node is")?;
        Ok(served)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// With room for objects of so many bytes twice, and more.
    pub(super) fn with_room(dir: &Path, bytes: usize) -> anyhow::Result<Self> {
        let mebibytes = (4 * bytes / MIB).max(64);
        Self::start(dir, &["--memory", &format!("{mebibytes}Mi")])
    }

    /// Connects, within a runtime.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let text = fs::read_to_string(&self.credentials).context("read the credentials")?;
        let credentials = Credentials::parse(&text)?;
        Ok(Client::connect(self.ready.node, &credentials, None).await?)
    }

    /// A client and the bucket, which was not there.
    pub(super) async fn first_client(&self) -> anyhow::Result<Client> {
        let client = self.client().await?;
        client.create_bucket(&BucketName::new(BUCKET)?).await?;
        Ok(client)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself. What it has is gone with the scratch directory.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
