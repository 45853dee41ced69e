//! How long the iterations of a program take, as the host of each rank tells it.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::commands::get;
use crate::programs::compiled;
use crate::site::Site;

/// How often a host is asked for what comes soon.
const ATTEMPTS_MAX: u32 = 100_000;

#[test]
fn the_time_of_iterations_is_told_where_the_rank_is() -> Result<()> {
    let site = Site::new()?;
    let mut world = site.start("-n 2 --hosts 2", &compiled("burn")?, "0")?;
    let status = site.world(2, 2)?;
    let hosts = [address_of(&status, 0)?, address_of(&status, 1)?];
    let (there, mean) = wait_for_iterations(hosts[0], 0)?;
    ensure!(!there.contains("rank=\"1\""), "{there}");
    ensure!(mean > 0.0, "{there}");
    wait_for_iterations(hosts[1], 1)?;

    let ended = site.move_rank(&status, 0, 1)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    wait_for_iterations(hosts[1], 0)?;
    let left = get(hosts[0], "/metrics")?;
    ensure!(!left.contains("MPI_Allreduce"), "{left}");
    world.kill()?;
    Ok(())
}

fn address_of(world: &Value, host: usize) -> Result<&str> {
    let address = world["hosts"][host]["metrics"].as_str();
    address.context("a host has an address for its metrics")
}

/// The metrics of a host once the rank has had some iterations there, and how long they took, seconds.
fn wait_for_iterations(host: &str, rank: u32) -> Result<(String, f64)> {
    let labels = format!("{{key=\"MPI_Allreduce/world/-\",rank=\"{rank}\"}} ");
    for _ in 0..ATTEMPTS_MAX {
        let metrics = get(host, "/metrics")?;
        let value = |name: &str| -> Option<f64> {
            let mut lines = metrics.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(&labels))?;
            value.parse().ok()
        };
        let count = value("cloudskin_cell_iterations_total");
        let seconds = value("cloudskin_cell_iteration_seconds_total");
        if let (Some(count), Some(seconds)) = (count, seconds)
            && count >= 3.0
        {
            return Ok((metrics, seconds / count));
        }
    }
    bail!("rank {rank} has no iterations")
}
