//! Steering a world from outside, and killing its processes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use it::Process;

use crate::programs::compiled;
use crate::site::{Site, expect_same, hosts_of};

const STOP_MAX: Duration = Duration::from_secs(2);

#[test]
fn hosts_killed_at_any_moment_cost_nothing_but_time() -> Result<()> {
    const ARGS: &str = "250 60000";
    let program = compiled("counting")?;
    let wanted = Site::new()?
        .run_well("-n 4 --hosts 2", &program, ARGS)?
        .stdout;
    for seed in 1..=4_usize {
        let site = Site::new()?;
        let options = format!("-n 4 --hosts 2 --bounce 15 --seed {seed} --checkpoint-every 0.1");
        let process = site.start(&options, &program, ARGS)?;
        let n_moves = 1 + seed * 7 % 11;
        process.wait_until("moves and a checkpoint", |output| {
            output.stderr.lines().count() >= n_moves && site.has_checkpoint()
        })?;
        let hosts = hosts_of(&site.world(4, 2)?)?;
        it::kill(hosts[seed % 2])?;
        let ended = process.finish()?;
        expect_same(&ended, &wanted).with_context(|| format!("seed {seed}"))?;
        let stderr = &ended.stderr;
        ensure!(
            stderr.contains("a host died"),
            "seed {seed}: nothing was killed\n{stderr}"
        );
    }
    Ok(())
}

#[test]
fn an_endless_loop_ends_when_it_is_told() -> Result<()> {
    let (site, process, hosts) = endless()?;
    let world = site.world(2, 2)?;
    let name = world["world"].as_str().context("a world has a name")?;
    ensure!(world["program"] == "endless.wasm", "{world}");
    let began = now();
    let stop = Process::start(&mut site.cell(&format!("stop {name}")))?.finish()?;
    let ended = process.finish()?;
    let took = now().duration_since(began);
    ensure!(stop.code == Some(0), "{stop:?}");
    ensure!(took <= STOP_MAX, "it took {took:?}");
    ensure!(
        ended.code == Some(1) && ended.stderr.contains("stopped"),
        "{ended:?}"
    );
    expect_gone(&hosts)?;
    ensure!(site.worlds()?.is_empty(), "the world is still to be seen");
    Ok(())
}

#[test]
fn no_host_outlives_its_coordinator() -> Result<()> {
    let (_site, mut process, hosts) = endless()?;
    process.kill()?;
    let ended = process.finish()?;
    ensure!(
        ended.code.is_none(),
        "killed, it has no exit code: {ended:?}"
    );
    expect_gone(&hosts)
}

#[test]
fn a_rank_moves_where_it_is_told() -> Result<()> {
    const ARGS: &str = "250 60000";
    let program = compiled("counting")?;
    let wanted = Site::new()?.run_well("-n 2", &program, ARGS)?.stdout;
    let site = Site::new()?;
    let process = site.start("-n 2 --hosts 2", &program, ARGS)?;
    process.wait_until("the first line", |output| !output.stdout.is_empty())?;
    let world = site.world(2, 2)?;
    for (rank, host, problem) in [(0, 0, "already"), (0, 7, "no host 7"), (7, 0, "no rank 7")] {
        let refused = site.move_rank(&world, rank, host)?;
        ensure!(
            refused.code == Some(1) && refused.stderr.contains(problem),
            "{refused:?}"
        );
    }
    let moved = site.move_rank(&world, 1, 0)?;
    ensure!(
        moved.code == Some(0) && moved.stdout.starts_with("rank=1 host=1->0 at="),
        "{moved:?}"
    );
    let world = site.world(2, 2)?;
    ensure!(
        world["moves"] == 1 && world["ranks"][1]["host"] == 0,
        "{world}"
    );
    ensure!(
        world["ranks"][0]["host"] == 0 && world["ranks"][0]["state"] == "running",
        "{world}"
    );
    let ended = process.finish()?;
    expect_same(&ended, &wanted)?;
    let stderr = &ended.stderr;
    ensure!(
        stderr.lines().count() == 1 && stderr.starts_with("move 1: rank=1 host=1->0 "),
        "not one move: `{stderr}`"
    );
    Ok(())
}

#[test]
fn a_world_that_is_not_there_is_not_found() -> Result<()> {
    let site = Site::new()?;
    ensure!(site.worlds()?.is_empty(), "no world runs here");
    for line in ["stop 0123456789ab", "move 0123456789ab 0 1", "stop ../x"] {
        let ended = Process::start(&mut site.cell(line))?.finish()?;
        ensure!(
            ended.code == Some(1) && ended.stderr.contains("world"),
            "{line}: {ended:?}"
        );
    }
    Ok(())
}

/// A world that never ends, and its host processes.
fn endless() -> Result<(Site, Process, Vec<u64>)> {
    let site = Site::new()?;
    let process = site.start("-n 2 --hosts 2", &compiled("endless")?, "")?;
    let hosts = hosts_of(&site.world(2, 2)?)?;
    Ok((site, process, hosts))
}

/// They have closed their output already, which is among the last things that a process does.
fn expect_gone(processes: &[u64]) -> Result<()> {
    const LOOKS_MAX: u32 = 100_000;
    for process in processes {
        let is_gone = |_| {
            std::thread::yield_now();
            !it::is_alive(*process)
        };
        ensure!(
            (0..LOOKS_MAX).any(is_gone),
            "process {process} is still there"
        );
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a stop takes is what this test is about"
)]
fn now() -> Instant {
    Instant::now()
}
