//! `cloudskin up`: the whole continuum on this machine, until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use platform::{Part, Plan, Platform, nodes, servers};
use telemetry::LogFormat;

use super::say;
use crate::config::Config;
use crate::roles::Signals;

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
        let runtime = rt::runtime()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        let plan = Plan {
            dir: self.dir.unwrap_or_else(|| config.data_dir.join("up")),
            nbi: self.nbi,
            link: self.link,
            mountable: self.mountable,
            log: self.log,
        };
        let platform = Platform::start(&plan)?;
        // What is printed can be used from anywhere.
        let credentials = nodes::credentials(&std::path::absolute(&plan.dir)?);
        let said = if self.json {
            for_programs(&platform, &plan, &credentials)
        } else {
            for_people(&platform, &plan, &credentials)
        };
        say(&said)?;
        runtime.block_on(signals.any());
        platform.stop()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One line of JSON.
fn for_programs(platform: &Platform, plan: &Plan, credentials: &Path) -> String {
    let ready = &platform.controller;
    let pids = platform.pids().into_iter();
    let pids: serde_json::Map<_, _> = pids
        .map(|(name, pid)| (name.to_owned(), pid.into()))
        .collect();
    let server = |server: &Part<servers::Ready>| {
        let told = serde_json::json!({
            "controller": format!("tcp://{}", server.ready.controller),
            "rest": format!("http://{}", server.ready.rest),
            "metrics": server.ready.metrics.to_string(), "pid": server.pid(),
        });
        (server.site.to_owned(), told)
    };
    let node = |node: &Part<nodes::Ready>| {
        let nodes::Ready { s3, metrics, .. } = &node.ready;
        let told = serde_json::json!({
            "s3": format!("http://{s3}"), "metrics": metrics.to_string(), "pid": node.pid(),
        });
        (node.site.to_owned(), told)
    };
    let streams: serde_json::Map<_, _> = platform.streams.iter().map(server).collect();
    let geds: serde_json::Map<_, _> = platform.nodes.iter().map(node).collect();
    serde_json::json!({
        "nbi": format!("https://{}", ready.nbi), "link": ready.link.to_string(),
        "metrics": ready.metrics.to_string(), "dir": plan.dir, "pids": pids,
        "join": platform.join, "geds": geds, "credentials": credentials, "streams": streams,
    })
    .to_string()
}

fn for_people(platform: &Platform, plan: &Plan, credentials: &Path) -> String {
    let ready = &platform.controller;
    let node = |node: &Part<nodes::Ready>| format!("http://{} ({})", node.ready.s3, node.site);
    let server = |server: &Part<servers::Ready>| {
        format!("tcp://{} ({})", server.ready.controller, server.site)
    };
    let nodes: Vec<_> = platform.nodes.iter().map(node).collect();
    let servers: Vec<_> = platform.streams.iter().map(server).collect();
    format!(
        "north-bound interface  https://{}  (openapi: /v1/openapi.json)\n\
         sites dial             {}\n\
         sites                  edge, cloud\n\
         object store           {}\n\
         streams                {}\n\
         state                  {}\n\n\
         look around    cloudskin ctl sites\n\
         keep objects   AWS_SHARED_CREDENTIALS_FILE={} aws --endpoint-url http://{} s3 ls\n\
         keep streams   cloudskin streams scope create SCOPE --controller tcp://{}\n\
         add a site     cloudskin site --name NAME --dir DIR --join {} --token {}\n\
         stop           Ctrl-C",
        ready.nbi,
        ready.link,
        nodes.join(", "),
        servers.join(", "),
        plan.dir.display(),
        credentials.display(),
        platform.nodes[0].ready.s3,
        platform.streams[0].ready.controller,
        ready.link,
        platform.join,
    )
}
