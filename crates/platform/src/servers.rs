//! The streams of a platform: a server for each site.

use std::ffi::OsString;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Part, Plan};

/// What a server says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub controller: SocketAddr,
    pub store: SocketAddr,
    pub rest: SocketAddr,
    pub metrics: SocketAddr,
}

pub(super) fn start(plan: &Plan, site: &'static str) -> anyhow::Result<Part<Ready>> {
    let (dir, log) = (plan.dir.join("streams").join(site), plan.log.clone());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Part::start((name_of(site), site), move |bound: Option<&Ready>| {
        let address = |of: fn(&Ready) -> SocketAddr| bound.map_or(any_port, of).to_string();
        let controller = address(|ready| ready.controller);
        let store = address(|ready| ready.store);
        let rest = address(|ready| ready.rest);
        let metrics = address(|ready| ready.metrics);
        let fixed = ["streams", "serve", "--json", "--with-parent"];
        let said = ["--log", &log, "--controller", &controller];
        let bound = ["--store", &store, "--rest", &rest, "--metrics", &metrics];
        let args = fixed.into_iter().chain(said).chain(bound);
        let mut args: Vec<OsString> = args.map(OsString::from).collect();
        args.extend(["--dir".into(), dir.clone().into()]);
        args
    })
}

fn name_of(site: &str) -> &'static str {
    match site {
        "edge" => "the streams at edge",
        _ => "the streams at cloud",
    }
}
