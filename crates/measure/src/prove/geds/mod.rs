//! A node of the object store, the S3 behind it and clients, each a process of its own, any of which is killed at any moment. Nothing that was acknowledged
//! as durable is lost or altered, nobody reads what is not true any more, and what nobody names is gone.

mod client;
mod content;
mod history;
mod kill;
mod outage;
pub(super) mod s3;
pub(super) mod servers;

use super::Found;
use super::chance::{Random, wait};

pub(in crate::prove) use self::client::run as run_client;
pub(in crate::prove) use self::kill::Stage;
pub(in crate::prove) use self::outage::outage;

const TENANT: &str = "acme";
const BUCKET: &str = "data";
/// Names that are changed together, and judged together.
const GROUPS: u8 = 3;

fn mix(n: u64) -> u64 {
    Random(n).next()
}

/// Crashes of a recorded trace of a store, at each of its moments.
pub(in crate::prove) fn crashes(seed: u64) -> anyhow::Result<Found> {
    let visited = ::geds::testing::crashes(seed, 1);
    let (value, problem) = match visited {
        Ok(n_crashes) => (usize::try_from(n_crashes)?, None),
        Err(problem) => (0, Some(problem)),
    };
    Ok(Found {
        value,
        runs: 1,
        problem,
        note: None,
    })
}
