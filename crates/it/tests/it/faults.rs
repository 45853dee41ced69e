//! Hosts that die at each step of a move: what may come of it, step by step.
//!
//! The decision is the source's record. A source that dies before it takes its rank with it; one that dies after it is not missed. A target
//! that dies before it is not missed either, for the rank stays; one that dies after it takes the rank with it.

use anyhow::{Context as _, Result, bail, ensure};
use it::{Ended, Process};
use serde_json::Value;

use crate::programs::compiled;
use crate::site::{Site, expect_same};

/// What comes of a world without checkpoints whose only rank moves from host 0 to host 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The rank has died with this host, and that is what the user hears.
    Lost { with: u32 },
    /// The program ends as if nothing had happened: at the target.
    Arrives,
    /// The same, at the source: and then another host can take the rank.
    Stays,
    /// The source may have heard of the target before its death, or not.
    StaysOrLost,
}

const STEPS: [(u32, &str, Outcome); 8] = [
    (0, "source-frozen", Outcome::Lost { with: 0 }),
    (0, "source-offered", Outcome::Lost { with: 0 }),
    (0, "source-recorded", Outcome::Arrives),
    (0, "source-committed", Outcome::Arrives),
    (1, "target-offered", Outcome::Stays),
    (1, "target-received", Outcome::Stays),
    (1, "target-held", Outcome::StaysOrLost),
    (1, "target-committed", Outcome::Lost { with: 1 }),
];

/// For a run of two seconds of one rank, and one of four seconds of four, which is to see checkpoints.
const ALONE: &str = "150 600000";
const FOUR: &str = "300 100000";

#[test]
fn the_only_rank_is_lost_or_goes_on_as_its_step_says() -> Result<()> {
    let program = compiled("counting")?;
    let wanted = Site::new()?.run_well("-n 1", &program, ALONE)?.stdout;
    for (host, step, outcome) in STEPS {
        check_alone(host, step, outcome, &wanted).with_context(|| step)?;
    }
    Ok(())
}

#[test]
fn a_world_that_loses_ranks_without_a_checkpoint_says_which() -> Result<()> {
    for (host, step, _) in STEPS {
        let site = Site::new()?;
        let (process, world) = start(&site, 4, &format!("--fail {host}:{step}"), |site, line| {
            site.world_dir().is_ok() && !line.is_empty()
        })?;
        site.move_rank(&world, 0, 1)?;
        let ended = process.finish()?;
        // Both hosts have more ranks than the one that moves.
        let rank = if host == 0 { "1" } else { "2, 3" };
        expect_lost(&ended, host, rank).with_context(|| step)?;
    }
    Ok(())
}

#[test]
fn a_world_with_a_checkpoint_begins_again_whatever_dies() -> Result<()> {
    let program = compiled("counting")?;
    let wanted = Site::new()?
        .run_well("-n 4 --hosts 2", &program, FOUR)?
        .stdout;
    for (host, step, _) in STEPS {
        let site = Site::new()?;
        let options = format!("--checkpoint-every 0.2 --fail {host}:{step}");
        let (process, world) = start(&site, 4, &options, |site, _| site.has_checkpoint())?;
        let moved = site.move_rank(&world, 0, 1)?;
        let ended = process.finish()?;
        expect_same(&ended, &wanted).with_context(|| step)?;
        let stderr = &ended.stderr;
        ensure!(
            stderr.contains("the world begins again"),
            "{step}: no host died: {stderr}{moved:?}"
        );
    }
    Ok(())
}

fn check_alone(host: u32, step: &str, outcome: Outcome, wanted: &str) -> Result<()> {
    let site = Site::new()?;
    let (process, world) = start(&site, 1, &format!("--fail {host}:{step}"), |_, stdout| {
        !stdout.is_empty()
    })?;
    let moved = site.move_rank(&world, 0, 1)?;
    match outcome {
        Outcome::Arrives => expect_moved(&moved)?,
        Outcome::Stays => {
            ensure!(
                moved.code == Some(1),
                "a move to a dead host succeeds: {moved:?}"
            );
            // The host that died has a successor, which is as good as any.
            expect_moved(&move_to_successor(&site, &world)?)?;
        }
        Outcome::StaysOrLost | Outcome::Lost { .. } => {}
    }
    let ended = process.finish()?;
    ensure!(
        ended.stderr.contains("a host died"),
        "no host died: {}",
        ended.stderr
    );
    match outcome {
        Outcome::Lost { with } => expect_lost(&ended, with, "0"),
        Outcome::StaysOrLost if ended.code == Some(1) => expect_lost(&ended, 1, "0"),
        Outcome::Arrives | Outcome::Stays | Outcome::StaysOrLost => expect_same(&ended, wanted),
    }
}

/// Starts a world on two hosts and waits until it is as wanted.
fn start(
    site: &Site,
    n_ranks: usize,
    options: &str,
    is_so: impl Fn(&Site, &str) -> bool,
) -> Result<(Process, Value)> {
    let options = format!("-n {n_ranks} --hosts 2 {options}");
    let args = if n_ranks == 1 { ALONE } else { FOUR };
    let process = site.start(&options, &compiled("counting")?, args)?;
    process.wait_until("the program", |output| is_so(site, &output.stdout))?;
    let world = site.world(n_ranks, 2)?;
    Ok((process, world))
}

/// Moves the rank to the host that takes the place of one that died. It needs a moment to begin.
fn move_to_successor(site: &Site, world: &Value) -> Result<Ended> {
    const ATTEMPTS_MAX: u32 = 200;
    for _ in 0..ATTEMPTS_MAX {
        let moved = site.move_rank(world, 0, 2)?;
        if !moved.stderr.contains("there is no host 2") {
            return Ok(moved);
        }
    }
    bail!("nobody takes the place of the dead host")
}

fn expect_moved(moved: &Ended) -> Result<()> {
    ensure!(
        moved.code == Some(0) && moved.stdout.contains("rank=0 host=0->"),
        "{moved:?}"
    );
    Ok(())
}

fn expect_lost(ended: &Ended, host: u32, ranks: &str) -> Result<()> {
    let Ended { code, stderr, .. } = ended;
    ensure!(
        *code == Some(1),
        "{code:?} although a rank is lost:\n{stderr}"
    );
    let Some(verdict) = stderr.lines().find(|line| line.starts_with("cloudskin: ")) else {
        bail!("the loss is not reported: {stderr}");
    };
    let (names_host, names_ranks) = (
        verdict.contains(&format!("host {host} died")),
        verdict.contains(ranks),
    );
    ensure!(
        names_host && names_ranks,
        "host {host} and rank {ranks} are not named: {verdict}"
    );
    Ok(())
}
