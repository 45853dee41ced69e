//! A node, and another one that is the S3 behind it, with a proxy in between.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use geds::client::{Client, Credentials};
use geds::index::BucketName;
use platform::nodes::Ready;
use tokio::runtime::Runtime;

use super::{BUCKET, TENANT};
use crate::prove::process::{Process, metric};
use crate::prove::proxy::Proxy;

const REGION: &str = "us-east-1";

/// `cloudskin geds serve` in a directory. It ends with this.
pub(in crate::prove) struct Server {
    pub credentials: PathBuf,
    dir: PathBuf,
    process: Process<Ready>,
}

impl Server {
    pub(in crate::prove) fn new(dir: PathBuf, config: &serde_json::Value) -> anyhow::Result<Self> {
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let credentials = dir.join("credentials");
        geds::users::add(&dir.join("users"), TENANT)?.write(&credentials, REGION)?;
        fs::write(dir.join("config.json"), config.to_string())?;
        Ok(Self {
            credentials,
            process: Process::new("a node", dir.join("log.txt")),
            dir,
        })
    }

    pub(in crate::prove) fn start(&mut self) -> anyhow::Result<Ready> {
        let fixed = ["geds", "serve", "--json", "--with-parent", "--log", "warn"];
        let mut args: Vec<OsString> = fixed.map(OsString::from).into();
        args.extend(["--config".into(), self.dir.join("config.json").into()]);
        args.extend(["--dir".into(), self.dir.clone().into()]);
        Ok(self.process.start(&args)?.clone())
    }

    /// As `kill -9` does, and waits until it is no more.
    pub(in crate::prove) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    pub(super) fn ready(&self) -> anyhow::Result<&Ready> {
        self.process.ready()
    }

    pub(in crate::prove) async fn client(&self) -> anyhow::Result<Client> {
        let credentials = Credentials::parse(&fs::read_to_string(&self.credentials)?)?;
        Ok(Client::connect(self.ready()?.node, &credentials, None).await?)
    }

    pub(super) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        metric(self.ready()?.metrics, name)
    }

    /// Nobody has panicked, nor complained of what must not be, since this was asked last.
    pub(super) fn check_log(&mut self) -> anyhow::Result<()> {
        self.process.check_log()
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
        let runtime = rt::runtime()?;
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
