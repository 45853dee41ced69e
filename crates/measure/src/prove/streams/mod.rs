//! A server of streams that is killed, stopped and cut off from what is behind it, under clients. Each event that was acknowledged is there once, those of
//! a key in order; transactions are whole or nowhere; who replaces a value in a table has replaced it alone.

mod clients;
mod history;
mod journal;
mod kill;
mod outage;
mod server;

pub(in crate::prove) use self::kill::{Harm, Stage, TIMES};
pub(in crate::prove) use self::outage::outage;

use super::Found;

/// Crashes of a recorded trace of a store.
pub(in crate::prove) fn crashes(seed: u64) -> anyhow::Result<Found> {
    let visited = ::streams::testing::crashes(seed, 1);
    Ok(match visited {
        Ok(n_crashes) => found(usize::try_from(n_crashes)?, None),
        Err(problem) => found(0, Some(problem)),
    })
}

/// Histories of the simulator, each from a seed of its own.
pub(in crate::prove) fn simulations(seed: u64, n: u32) -> anyhow::Result<Found> {
    let began = rt::now();
    let (mut n_crashes, mut n_events) = (0, 0);
    for (n_well, seed) in (seed..).take(n as usize).enumerate() {
        match ::streams::testing::simulate(seed, None) {
            Ok(summary) => {
                n_crashes += summary.n_crashes;
                n_events += summary.n_events;
            }
            Err(violation) => {
                return Ok(found(n_well, Some(format!("seed {seed}: {violation}"))));
            }
        }
    }
    let time = began.elapsed();
    Ok(Found {
        note: Some(format!(
            "{n_crashes} crashes, {n_events} events in {:.0} s",
            time.as_secs_f64()
        )),
        ..found(n as usize, None)
    })
}

/// Disks and long-term storage that fail, bits that change.
pub(in crate::prove) fn faults(seed: u64) -> anyhow::Result<Found> {
    Ok(match ::streams::testing::faults(seed) {
        Ok(faults) => Found {
            note: Some(faults.to_string()),
            ..found(faults.total(), None)
        },
        Err(problem) => found(0, Some(problem)),
    })
}

fn found(value: usize, problem: Option<String>) -> Found {
    Found {
        value,
        runs: 1,
        problem,
        note: None,
    }
}
