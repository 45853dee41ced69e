//! `cloudskin up`: the whole continuum on this machine, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use telemetry::LogFormat;

use super::say;
use crate::config::Config;
use crate::platform::{Plan, Platform};
use crate::roles;

#[derive(Debug, Args)]
pub(super) struct Up {
    /// Where all of it keeps its state; what ran there before runs again.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the north-bound interface is served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    nbi: SocketAddr,
    /// Where sites dial in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    link: SocketAddr,
    /// A directory that units may mount, with all that is below it; may be given several times.
    #[arg(long, value_name = "DIR")]
    mountable: Vec<PathBuf>,
    /// Print the addresses as one JSON line.
    #[arg(long)]
    json: bool,
    /// What to log: a tracing filter such as `info` or `site=debug`.
    #[arg(long, default_value = "warn")]
    log: String,
}

impl Up {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        telemetry::init("up", LogFormat::Text, &self.log)?;
        let runtime = roles::runtime()?;
        let mut signals = runtime.block_on(async { roles::Signals::new() })?;
        let plan = Plan {
            dir: self.dir.unwrap_or_else(|| config.data_dir.join("up")),
            nbi: self.nbi,
            link: self.link,
            mountable: self.mountable,
            log: self.log,
        };
        let platform = Platform::start(&plan)?;
        let ready = &platform.controller;
        if self.json {
            let pids: serde_json::Map<_, _> = platform
                .pids()
                .into_iter()
                .map(|(name, pid)| (name.to_owned(), pid.into()))
                .collect();
            let line = serde_json::json!({
                "nbi": format!("https://{}", ready.nbi), "link": ready.link.to_string(),
                "metrics": ready.metrics.to_string(), "dir": plan.dir, "pids": pids,
                "join": platform.join,
            });
            say(&line.to_string())?;
        } else {
            say(&format!(
                "north-bound interface  https://{}  (openapi: /v1/openapi.json)\n\
                 sites dial             {}\n\
                 sites                  edge, cloud\n\
                 state                  {}\n\n\
                 look around    cloudskin ctl sites\n\
                 add a site     cloudskin site --name NAME --dir DIR --join {} --token {}\n\
                 stop           Ctrl-C",
                ready.nbi,
                ready.link,
                plan.dir.display(),
                ready.link,
                platform.join,
            ))?;
        }
        runtime.block_on(signals.any());
        platform.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}
