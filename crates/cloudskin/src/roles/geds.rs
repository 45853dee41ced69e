//! A node of GEDS, the object store: a process of its own, like all that holds data or guests.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use ids::ByteSize;
use platform::nodes::Ready;

use super::Signals;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where it keeps its log, objects and users; one node at a time lives there.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    dir: Option<PathBuf>,
    /// Settings, as YAML or JSON (docs/geds.md); options here go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where S3 is served, without encryption.
    #[arg(long, value_name = "ADDRESS")]
    s3: Option<SocketAddr>,
    /// Where the node protocol is spoken, without encryption: for `cloudskin geds put` and its like.
    #[arg(long, value_name = "ADDRESS")]
    node: Option<SocketAddr>,
    /// How much memory objects may have: `256Mi`.
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
    /// How much of the disk objects may take: `16Gi`.
    #[arg(long, value_name = "BYTES")]
    disk: Option<ByteSize>,
    /// Who may come in; `cloudskin geds user add` writes it. Without it, `users` in the directory.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics: SocketAddr,
    /// Say as one JSON line where it is.
    #[arg(long)]
    json: bool,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// What to log: a tracing filter such as `info` or `geds=debug`.
    #[arg(long, default_value = "info")]
    log: String,
}

impl Serve {
    /// Says on standard output where it is, and serves until it is asked to end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.with_parent {
            super::end_with_parent().context("end with the parent process")?;
        }
        let config = self.config()?;
        let telemetry = super::telemetry("geds", &self.log, self.metrics)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        let deps = geds::Deps {
            metrics: telemetry.metrics.clone(),
            health: telemetry.health.clone(),
        };
        let mut node = runtime.block_on(geds::start(config.clone(), deps))?;
        telemetry.health.clear("starting");
        let ready = Ready {
            s3: node.s3,
            node: node.node,
            s3_tls: node.s3_tls,
            node_tls: node.node_tls,
            metrics: telemetry.address,
        };
        self.say(&ready, &config)?;
        let failed = runtime.block_on(async {
            tokio::select! {
                _ = signals.any() => None,
                why = node.failed() => Some(why),
            }
        });
        telemetry.health.block("ending", "it was asked to end");
        runtime.block_on(node.stop())?;
        match failed {
            Some(why) => bail!("the node cannot go on: {why}"),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn config(&self) -> anyhow::Result<geds::Config> {
        let mut config = match &self.config {
            Some(path) => read(path)?,
            None => geds::Config::default(),
        };
        if let Some(dir) = &self.dir {
            config.dir.clone_from(dir);
        }
        if self.users.is_some() {
            config.users.clone_from(&self.users);
        }
        if let Some(addr) = self.s3 {
            config.s3.listen = addr;
        }
        if let Some(addr) = self.node {
            config.node.listen = addr;
        }
        if let Some(limit) = self.memory {
            config.memory.limit = limit;
        }
        if let Some(limit) = self.disk {
            config.disk.limit = limit;
        }
        Ok(config)
    }

    fn say(&self, ready: &Ready, config: &geds::Config) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(ready)?)?;
            return Ok(());
        }
        let (dir, users) = (config.dir.display(), config.users());
        writeln!(out, "s3       http://{}", ready.s3)?;
        writeln!(out, "node     {}", ready.node)?;
        if let (Some(s3), Some(node)) = (ready.s3_tls, ready.node_tls) {
            writeln!(out, "s3       https://{s3}")?;
            writeln!(out, "node     {node} over TLS")?;
        }
        writeln!(out, "metrics  http://{}/metrics", ready.metrics)?;
        writeln!(out, "state    {dir}")?;
        if !users.exists() {
            writeln!(
                out,
                "nobody may use it yet: cloudskin geds user add TENANT --users {}",
                users.display()
            )?;
        }
        Ok(())
    }
}

/// Settings from a file. JSON is YAML, too.
fn read(path: &Path) -> anyhow::Result<geds::Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_defaults() {
        let page = include_str!("../../../../docs/geds.md");
        let (_, settings) = page.split_once("\n## Settings\n").expect("a section");
        let (_, yaml) = settings.split_once("```yaml\n").expect("settings");
        let (yaml, _) = yaml.split_once("```").expect("an end");
        let config: geds::Config = serde_saphyr::from_str(yaml).expect("settings");
        assert_eq!(config, geds::Config::default());
        let sections = ["memory", "disk", "log", "s3"];
        assert!(
            sections
                .iter()
                .all(|name| yaml.contains(&format!("\n{name}:\n")))
        );
    }

    #[test]
    fn settings_of_the_command_line_go_before_those_of_the_file() {
        let dir = std::env::temp_dir().join(format!("cloudskin-geds-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("geds.yaml");
        let text = "dir: /d\nmemory:\n  limit: 64Mi\ns3:\n  region: here\n";
        std::fs::write(&path, text).expect("written");
        let serve = |memory| Serve {
            dir: None,
            config: Some(path.clone()),
            s3: None,
            node: None,
            memory,
            disk: None,
            users: None,
            metrics: ([127, 0, 0, 1], 0).into(),
            json: true,
            with_parent: false,
            log: String::new(),
        };
        let config = serve(None).config().expect("one");
        assert_eq!(config.dir, Path::new("/d"));
        assert_eq!(config.memory.limit, ByteSize(64 << 20));
        assert_eq!(config.s3.region, "here");
        let config = serve(Some(ByteSize(1 << 20))).config().expect("one");
        assert_eq!(config.memory.limit, ByteSize(1 << 20));
        std::fs::write(&path, "memory:\n  limits: 64Mi\n").expect("written");
        let error = serve(None).config().expect_err("nobody knows `limits`");
        assert!(format!("{error:#}").contains("limits"), "{error:#}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
