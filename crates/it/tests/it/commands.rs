//! Commands as their users type them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use it::{Ended, Process};
use serde_json::Value;

use crate::programs::compiled;
use crate::site::Site;

#[test]
fn the_demo_moves_every_rank_and_computes_the_same() -> Result<()> {
    let site = Site::new()?;
    let mut command = Command::new(it::cloudskin());
    // The time that moves cost says nothing here: the machine does other things.
    command
        .args([
            "demo",
            "moves",
            "--json",
            "--size",
            "512",
            "--iterations",
            "1200",
            "--out",
        ])
        .arg(site.files()?.join("demo"))
        .env("XDG_RUNTIME_DIR", site.files()?)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let ended = Process::start(&mut command)?.finish()?;
    let line = ended.stdout.lines().last().context("no result")?;
    let result: Value = serde_json::from_str(line)?;
    for key in ["identical", "differs_from_input", "canary_noticed"] {
        ensure!(result[key] == true, "{key}: {line}");
    }
    ensure!(result["migrations"] == 8, "{line}");
    for name in ["timeline.svg", "input.bmp", "moved.bmp"] {
        let path = site.files()?.join("demo").join(name);
        ensure!(path.metadata()?.len() > 1000, "{} is empty", path.display());
    }
    Ok(())
}

#[test]
fn benchmarks_can_be_measured() -> Result<()> {
    let site = Site::new()?;
    let bench = |args: &[&str], expected: &[&str]| -> Result<()> {
        let mut command = Command::new(it::cloudskin());
        command
            .args(["bench", "--quick", "--json"])
            .args(args)
            .env("XDG_RUNTIME_DIR", site.files()?)
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        let ended = Process::start(&mut command)?.finish()?;
        ensure!(ended.code == Some(0), "{ended:?}");
        let lines = ended.stdout.lines().map(serde_json::from_str);
        let lines = lines.collect::<Result<Vec<Value>, _>>()?;
        let ids = lines.iter().filter_map(|line| line["bench"].as_str());
        let ids: Vec<_> = ids.collect();
        for id in expected {
            ensure!(ids.contains(id), "{id} is not in {ids:?}");
        }
        for line in lines.iter().filter(|line| line["bench"].is_string()) {
            // What says how much worse something is may be anything.
            let is_rate = line["unit"] != "%";
            let is_found = |what: &str| line[what].as_f64().is_some_and(|n| n > 0.0 || !is_rate);
            ensure!(is_found("value"), "{line}");
        }
        Ok(())
    };
    bench(
        &["cells", "instantiate", "pause"],
        &[
            "cells.instantiate",
            "cells.pause.16mb",
            "cells.pause.16mb.p99",
        ],
    )?;
    bench(
        &["sites"],
        &[
            "sites.up",
            "sites.spec_to_running",
            "sites.migration",
            "sites.agent_rss",
            "sites.plan",
        ],
    )?;
    // All that needs no programs of others.
    let of_geds = [
        "geds.open_read_4k.in_process",
        "geds.open_read_4k.other_process_warm",
        "geds.open_read_4k.other_process_first",
        "geds.scan_view",
        "geds.seal_4k.ephemeral",
        "geds.seal_4k.durable",
        "geds.write_1m",
        "geds.peer_16m",
        "geds.s3_get_64m",
        "geds.list_1e6",
        "geds.limit",
        "geds.hit_ratio.zipf_0.9",
        "geds.hit_ratio.zipf_1.0",
        "geds.hit_ratio.zipf_0.9_scans",
        "geds.hit_ratio.shuffle",
        "geds.hit_ratio.zipf_0.9.over_lru",
        "geds.kpi8",
        "geds.kpi8.p99_25",
        "geds.kpi8.p99_50",
    ];
    bench(&of_geds, &of_geds)
}

fn prove(site: &Site, args: &[&str]) -> Result<Ended> {
    let mut command = Command::new(it::cloudskin());
    command
        .args(["prove", "--json"])
        .args(args)
        .env("XDG_RUNTIME_DIR", site.files()?)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    Ok(Process::start(&mut command)?.finish()?)
}

/// Clients, a node and the S3 behind it are killed; S3 is away for a moment; and crashes of some traces.
#[test]
fn the_object_store_is_proven_a_little() -> Result<()> {
    let site = Site::new()?;
    let args = "geds --schedules 3 --traces 1 --outage 2";
    let ended = prove(&site, &args.split(' ').collect::<Vec<_>>())?;
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let n_of = |id: &str| lines.iter().filter(|proof| proof["bench"] == id).count();
    ensure!(
        ended.code == Some(0)
            && lines.iter().all(|proof| proof["ok"] == true)
            && (n_of("geds.kill"), n_of("geds.crashes"), n_of("geds.outage")) == (3, 1, 1),
        "{ended:?}"
    );
    Ok(())
}

/// Crashes of a trace, faults, and some simulated histories; a server is killed and stopped under its clients, and S3 is away from it.
#[test]
fn streams_are_proven_a_little() -> Result<()> {
    let site = Site::new()?;
    let ids = ["kill", "stop", "crashes", "faults", "simulations", "outage"];
    let args = "streams --kills 10 --stops 5 --traces 1 --histories 20 --outage 4";
    let ended = prove(&site, &args.split(' ').collect::<Vec<_>>())?;
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    // Other tests keep the machine busy: `./x prove streams` says whether one that is not keeps up.
    let is_behind = |proof: &Value| {
        let problem = proof["problem"].as_str();
        problem.is_some_and(|problem| problem.starts_with("it is behind"))
    };
    for id in ids {
        let id = format!("streams.{id}");
        let mut proofs = lines.iter().filter(|proof| proof["bench"] == *id);
        let proof = proofs.next().filter(|_| proofs.next().is_none());
        ensure!(
            proof.is_some_and(|proof| proof["ok"] == true || is_behind(proof)),
            "{id}: {ended:?}"
        );
    }
    Ok(())
}

#[test]
fn proofs_can_be_run() -> Result<()> {
    let site = Site::new()?;
    let prove = |args: &[&str]| prove(&site, args);
    let ended = prove(&["cells.garbage.clock"])?;
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [proof, summary] = lines[..] else {
        anyhow::bail!("{ended:?}")
    };
    let (proof, summary): (Value, Value) =
        (serde_json::from_str(proof)?, serde_json::from_str(summary)?);
    ensure!(
        proof["bench"] == "cells.garbage.clock" && proof["value"] == 1 && proof["ok"] == true,
        "{proof}"
    );
    ensure!(
        ended.code == Some(0) && summary["ok"] == true,
        "{summary}, {:?}",
        ended.code
    );
    // Hosts and agents are killed, stopped and cut off; one host while its world begins again.
    let ended = prove(&["sites", "--schedules", "5"])?;
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    // Other tests keep the machine busy: `./x prove sites` says how long it takes on one that is not.
    let is_late = |proof: &Value| {
        let problem = proof["problem"].as_str();
        problem.is_some_and(|problem| problem.starts_with("in order again only after"))
    };
    ensure!(
        lines.len() == 6
            && lines[..5]
                .iter()
                .all(|proof| proof["ok"] == true || is_late(proof)),
        "{ended:?}"
    );
    let unknown = prove(&["cells.nothing"])?;
    ensure!(
        unknown.code == Some(1) && unknown.stderr.contains("cells.nothing"),
        "{unknown:?}"
    );
    Ok(())
}

#[test]
fn every_host_serves_metrics_and_health() -> Result<()> {
    let site = Site::new()?;
    let mut world = site.start("-n 2 --hosts 2", &compiled("endless")?, "")?;
    let status = site.world(2, 2)?;
    let hosts = status["hosts"].as_array().context("no hosts")?;
    ensure!(hosts.len() == 2, "{status}");
    for host in hosts {
        let address = host["metrics"].as_str().context("no address")?;
        ensure!(
            get(address, "/healthz")?.starts_with("HTTP/1.1 200"),
            "{address} is not healthy"
        );
        ensure!(
            get(address, "/readyz")?.starts_with("HTTP/1.1 200"),
            "{address} is not ready"
        );
        let metrics = get(address, "/metrics")?;
        ensure!(metrics.contains("\ncloudskin_cell_ranks "), "{metrics}");
    }
    world.kill()?;
    Ok(())
}

pub(crate) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: cell\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
