//! What happens at limits that no world comes near unless something is wrong with it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use it::Process;

use crate::programs::{compiled, compiled_with};
use crate::site::{Site, hosts_of};

/// Each host that dies has a successor, but not without end.
#[test]
fn a_machine_on_which_hosts_keep_dying_is_given_up() -> Result<()> {
    const REPLACEMENTS_MAX: usize = 32;
    let site = Site::new()?;
    let process = site.start("-n 1 --hosts 2", &compiled("endless")?, "")?;
    let world = site.world(1, 2)?;
    let started = site.move_rank(&world, 0, 0)?;
    ensure!(started.stderr.contains("already"), "{started:?}");
    // The only rank is on the other host, so nothing is lost.
    let mut hosts = hosts_of(&world)?;
    for n in 0..=REPLACEMENTS_MAX {
        it::kill(hosts[1]).with_context(|| format!("host {n}"))?;
        if n < REPLACEMENTS_MAX {
            hosts[1] = successor(&site, &hosts).with_context(|| format!("of host {n}"))?;
        }
    }
    let ended = process.finish()?;
    let problem = format!("more than {REPLACEMENTS_MAX} hosts died");
    ensure!(
        ended.code == Some(1) && ended.stderr.contains(&problem),
        "{ended:?}"
    );
    Ok(())
}

#[test]
fn moves_that_keep_failing_are_given_up_and_the_program_goes_on() -> Result<()> {
    const FAILED_MAX: usize = 100;
    let count = |stderr: &str| stderr.matches("a move failed").count();
    let site = Site::new()?;
    let program = compiled_with("endless", "--no-instrument")?;
    let options = "-n 1 --hosts 2 --bounce 1 --log warn,cells::world=info";
    let process = site.start(options, &program, "")?;
    process.wait_until("the last attempt", |output| {
        count(&output.stderr) >= FAILED_MAX
    })?;
    // Whenever it is asked something, the world looks for moves that are due. One that a user wants is tried.
    let world = site.world(1, 2)?;
    ensure!(world["ranks"][0]["state"] == "running", "{world}");
    let refused = site.move_rank(&world, 0, 1)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("not instrumented"),
        "{refused:?}"
    );
    let name = world["world"].as_str().context("a world has a name")?;
    Process::start(&mut site.cell(&format!("stop {name}")))?.finish()?;
    let ended = process.finish()?;
    let n_failed = count(&ended.stderr);
    ensure!(
        n_failed == FAILED_MAX + 1,
        "{n_failed} attempts: {}",
        ended.stderr
    );
    Ok(())
}

/// Nothing piles up between a rank and whoever reads its output: it waits, and goes on when it is read.
#[test]
fn a_rank_that_nobody_reads_waits() -> Result<()> {
    const N_LINES: usize = 8192;
    const LINE_BYTES: usize = 16 << 10;
    let site = Site::new()?;
    let files = site.files()?;
    let mut command = site.cell(&format!("run --dir /files={}", files.display()));
    command
        .arg(compiled("flood")?)
        .args(["--", "/files/progress"])
        .args([N_LINES, LINE_BYTES].map(|n| n.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut process = command.spawn()?;
    let mut output = BufReader::new(process.stdout.take().context("it was piped")?);
    // The first byte is there, and is not taken: it has begun.
    ensure!(!output.fill_buf()?.is_empty(), "it writes nothing");
    let written = still(|| Ok(std::fs::read_to_string(files.join("progress"))?.len()))?;
    ensure!(
        (1..N_LINES).contains(&written),
        "{written} of {N_LINES} lines are written and none is read"
    );
    let mut n_lines = 0;
    for line in output.lines() {
        let line = line?;
        ensure!(
            line.len() == LINE_BYTES - 1 && line.starts_with(&format!("{n_lines} ")),
            "line {n_lines} is not in its place"
        );
        n_lines += 1;
    }
    ensure!(n_lines == N_LINES, "{n_lines} of {N_LINES} lines");
    let status = process.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// The host that has come in the place of one of these.
fn successor(site: &Site, hosts: &[u64]) -> Result<u64> {
    const ATTEMPTS_MAX: u32 = 500;
    for _ in 0..ATTEMPTS_MAX {
        let worlds = site.worlds()?;
        let world = worlds.first().context("the world has ended")?;
        if let Some(new) = hosts_of(world)?.iter().find(|host| !hosts.contains(host)) {
            return Ok(*new);
        }
    }
    bail!("there is no successor")
}

/// What is read again and again, once it stands still.
fn still(read: impl Fn() -> Result<usize>) -> Result<usize> {
    const SAME_MIN: u32 = 10_000;
    let (mut last, mut n_same) = (read()?, 0);
    while n_same < SAME_MIN {
        std::thread::yield_now();
        let now = read()?;
        n_same = if now == last { n_same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
