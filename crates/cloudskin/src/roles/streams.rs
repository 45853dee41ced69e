//! A server of streams: a process of its own, like all that holds data or guests.

mod properties;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use platform::servers::Ready;

use super::Signals;

/// What a server keeps, and where.
#[derive(Debug, Args)]
pub(crate) struct Kept {
    /// Where it keeps its log and checkpoints; who starts a second server there ends the first.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    dir: Option<PathBuf>,
    /// Long-term storage: `file:///DIRECTORY`, or `s3://BUCKET/PREFIX` with `s3` in the settings; without it, `lts` in the directory.
    #[arg(long, value_name = "URL")]
    lts: Option<String>,
    /// Settings, as YAML or JSON (docs/streams.md), or a FILE.properties of Pravega's standalone server; options here go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    kept: Kept,
    /// Where the controller is served (gRPC).
    #[arg(long, value_name = "ADDRESS")]
    controller: Option<SocketAddr>,
    /// Where the store is served (Pravega's protocol).
    #[arg(long, value_name = "ADDRESS")]
    store: Option<SocketAddr>,
    /// Where the REST interface of the controller is served.
    #[arg(long, value_name = "ADDRESS")]
    rest: Option<SocketAddr>,
    /// The name or address that clients are told.
    #[arg(long, value_name = "HOST")]
    publish: Option<String>,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics: SocketAddr,
    /// Say as one JSON line where it is.
    #[arg(long)]
    json: bool,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    with_parent: bool,
    /// What to log: a tracing filter such as `info` or `streams=debug`.
    #[arg(long, default_value = "info")]
    log: String,
}

impl Serve {
    /// Says on standard output where it is, and serves until it is asked to end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.with_parent {
            super::end_with_parent().context("end with the parent process")?;
        }
        let (config, unknown) = self.config()?;
        let telemetry = super::telemetry("streams", &self.log, self.metrics)?;
        for name in unknown {
            tracing::warn!(name, "this property means nothing here");
        }
        // One of them may wait for the disk: what a connection has appended is written where it was read.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(rt::processors().max(2))
            .enable_all()
            .build()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        let deps = streams::Deps {
            metrics: telemetry.metrics.clone(),
            health: telemetry.health.clone(),
            stores: store::Registry::default(),
        };
        let mut server = runtime.block_on(streams::start(config.clone(), deps))?;
        telemetry.health.clear("starting");
        let ready = Ready {
            controller: server.controller,
            store: server.store,
            rest: server.rest,
            metrics: telemetry.address,
        };
        self.say(&ready, &config)?;
        let failed = runtime.block_on(async {
            tokio::select! {
                _ = signals.any() => None,
                why = server.failed() => Some(why),
            }
        });
        telemetry.health.block("ending", "it was asked to end");
        runtime.block_on(server.stop());
        match failed {
            Some(why) => bail!("the server cannot go on: {why}"),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    /// With the names of properties that mean nothing.
    fn config(&self) -> anyhow::Result<(streams::Config, Vec<String>)> {
        let (mut config, unknown) = self.kept.config()?;
        if config.lts == beside(&config.dir)? {
            let lts = config.dir.join("lts");
            durable::make_private_dir(&lts).with_context(|| format!("make {}", lts.display()))?;
        }
        if let Some(address) = self.controller {
            config.controller.listen = address;
        }
        if let Some(address) = self.store {
            config.store.listen = address;
        }
        if let Some(address) = self.rest {
            config.rest.listen = address;
        }
        if self.publish.is_some() {
            config.publish.clone_from(&self.publish);
        }
        Ok((config, unknown))
    }

    fn say(&self, ready: &Ready, config: &streams::Config) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(ready)?)?;
            return Ok(());
        }
        let scheme = if config.tls.is_some() { "tls" } else { "tcp" };
        writeln!(out, "controller  {scheme}://{}", ready.controller)?;
        writeln!(out, "store       {}", ready.store)?;
        let http = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        writeln!(out, "rest        {http}://{}/v1/scopes", ready.rest)?;
        writeln!(out, "metrics     http://{}/metrics", ready.metrics)?;
        writeln!(out, "log         {}", config.dir.display())?;
        writeln!(out, "long-term   {}", config.lts)?;
        Ok(())
    }
}

impl Kept {
    /// The settings, and the names of properties that mean nothing.
    pub(crate) fn config(&self) -> anyhow::Result<(streams::Config, Vec<String>)> {
        let (mut config, unknown) = match &self.config {
            Some(path) => read(path)?,
            None => (streams::Config::default(), Vec::new()),
        };
        if let Some(dir) = &self.dir {
            config.dir.clone_from(dir);
        }
        if config.dir.as_os_str().is_empty() {
            bail!("where is its log? Say --dir DIR");
        }
        if let Some(url) = &self.lts {
            config.lts.clone_from(url);
        }
        if config.lts.is_empty() {
            config.lts = beside(&config.dir)?;
        }
        Ok((config, unknown))
    }
}

/// Long-term storage in the directory of the server: for who has only one disk.
fn beside(dir: &Path) -> anyhow::Result<String> {
    let lts = std::path::absolute(dir.join("lts"))?;
    let url = url::Url::from_directory_path(&lts);
    Ok(url
        .map_err(|()| anyhow::anyhow!("{} cannot be said as a URL", lts.display()))?
        .into())
}

fn read(path: &Path) -> anyhow::Result<(streams::Config, Vec<String>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let read = if path.extension().is_some_and(|ext| ext == "properties") {
        properties::settings(&text)
    } else {
        let config = serde_saphyr::from_str(&text);
        config
            .map(|config| (config, Vec::new()))
            .map_err(Into::into)
    };
    read.with_context(|| format!("understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_has_the_defaults() {
        let page = include_str!("../../../../docs/streams.md");
        let (_, settings) = page.split_once("\n## Settings\n").expect("a section");
        let (_, yaml) = settings.split_once("```yaml\n").expect("settings");
        let (yaml, _) = yaml.split_once("```").expect("an end");
        let config: streams::Config = serde_saphyr::from_str(yaml).expect("settings");
        assert_eq!(config, streams::Config::default());
    }
}
