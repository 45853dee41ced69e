//! A node, and another one that is the S3 behind it, with a proxy in between.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use geds::client::{Client, Credentials};
use geds::index::BucketName;
use tokio::runtime::Runtime;

use super::proxy::Proxy;
use super::{BUCKET, TENANT, s3};
use crate::platform;
use crate::roles::{self, geds::Ready};

const REGION: &str = "us-east-1";

/// `cloudskin geds serve` in a directory. It ends with this.
pub(super) struct Server {
    pub credentials: PathBuf,
    dir: PathBuf,
    running: Option<(Child, Ready)>,
    n_bytes_read: usize,
}

impl Server {
    fn new(dir: PathBuf, config: &serde_json::Value) -> anyhow::Result<Self> {
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let credentials = dir.join("credentials");
        geds::users::add(&dir.join("users"), TENANT)?.write(&credentials, REGION)?;
        fs::write(dir.join("config.json"), config.to_string())?;
        Ok(Self {
            credentials,
            dir,
            running: None,
            n_bytes_read: 0,
        })
    }

    pub(super) fn start(&mut self) -> anyhow::Result<Ready> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut child = Command::new(std::env::current_exe().context("find this program")?)
            .args([
                "geds",
                "serve",
                "--json",
                "--with-parent",
                "--log",
                "warn",
                "--config",
            ])
            .arg(self.dir.join("config.json"))
            .arg("--dir")
            .arg(&self.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start a node")?;
        let said = platform::first_line(&mut child, "a node");
        let ready = said.and_then(|said| {
            let ready = serde_json::from_str::<Ready>(&said);
            ready.with_context(|| format!("it says where it is, not {said:?}: {}", self.tail()))
        });
        match ready {
            Ok(ready) => {
                self.running = Some((child, ready.clone()));
                Ok(ready)
            }
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    /// As `kill -9` does, and waits until it is no more.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let (mut child, _) = self.running.take().context("it runs")?;
        if let Some(status) = child.try_wait()? {
            bail!("a node has ended by itself, with {status}: {}", self.tail());
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(super) fn ready(&self) -> anyhow::Result<&Ready> {
        let running = self.running.as_ref().context("it runs")?;
        Ok(&running.1)
    }

    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let credentials = Credentials::parse(&fs::read_to_string(&self.credentials)?)?;
        Ok(Client::connect(self.ready()?.node, &credentials, None).await?)
    }

    pub(super) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let page = s3::fetch(self.ready()?.metrics, "/metrics")?;
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("no {name} in {page}"))?
            .parse()?)
    }

    /// Nobody has panicked, nor complained of what must not be, since this was asked last.
    pub(super) fn check_log(&mut self) -> anyhow::Result<()> {
        let log = fs::read(self.log())?;
        let new = String::from_utf8_lossy(&log[self.n_bytes_read..]).into_owned();
        self.n_bytes_read = log.len();
        let bad = new
            .lines()
            .find(|line| line.contains("panicked") || line.contains("ERROR"));
        ensure!(bad.is_none(), "a node says: {}", bad.unwrap_or_default());
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log.txt")
    }

    fn tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // It may have ended by itself. What it has is gone with the scratch directory.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

pub(super) struct Servers {
    pub node: Server,
    pub back: Server,
    pub proxy: Proxy,
    // After what runs in it.
    pub runtime: Runtime,
}

impl Servers {
    /// Both of them run, and have the bucket. `config`: of the node, but for what is behind it.
    pub(super) fn start(dir: &Path, mut config: serde_json::Value) -> anyhow::Result<Self> {
        let runtime = roles::runtime()?;
        let proxy = runtime.block_on(Proxy::start())?;
        let of_back = serde_json::json!({"memory": {"limit": "64Mi"}});
        let mut back = Server::new(dir.join("back"), &of_back)?;
        config["tier2"] = serde_json::json!({
            "endpoint": format!("http://{}", proxy.addr),
            "credentials": back.credentials,
            "buckets": {BUCKET: TENANT},
        });
        let mut node = Server::new(dir.join("node"), &config)?;
        proxy.set_to(Some(back.start()?.s3));
        node.start()?;
        let servers = Self {
            node,
            back,
            proxy,
            runtime,
        };
        for server in [&servers.back, &servers.node] {
            servers.runtime.block_on(async {
                let client = server.client().await?;
                client.create_bucket(&BucketName::new(BUCKET)?).await?;
                anyhow::Ok(())
            })?;
        }
        Ok(servers)
    }

    pub(super) fn kill_back(&mut self) -> anyhow::Result<()> {
        self.proxy.set_to(None);
        self.back.kill()
    }

    pub(super) fn start_back(&mut self) -> anyhow::Result<()> {
        let ready = self.back.start()?;
        self.proxy.set_to(Some(ready.s3));
        Ok(())
    }
}
