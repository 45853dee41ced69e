//! What is said of the platform, measured and proven: the commands `cloudskin bench` and `cloudskin prove`.
//!
//! - [`Bench`]: what things cost, as ratios to a peer or a physical limit that is measured in the same run, each with a goal.
//! - [`Prove`]: the long proofs, which move programs all the time, and kill, stop and cut off processes under their users.
//!
//! Both run what they look at: mostly as a user does, in processes of the program that calls this, which must be `cloudskin` and is started again
//! with other commands; where a process would be what is measured, in this one. `platform` starts a whole continuum for them.
//!
//! # What it is not
//! It is no part of what it looks at: no other command needs it, and nothing but its figures come out of it. It does not look at its environment:
//! [`Config`] tells it where things are.
//!
//! # What it guarantees
//! - Every benchmark and every proof that is chosen is told of, as a text or a line of JSON; the exit code says whether all of them are well. What could
//!   not be measured or played counts as failed.
//! - What it has made and started is gone at its end.
//!
//! Read in this order: `bench/mod.rs`, which has the groups, goals and lines; `prove.rs`, which has the jobs; then the folder of the subsystem that you
//! want to know of.
#![forbid(unsafe_code)]

mod bench;
mod prove;

use std::ffi::OsString;
use std::path::PathBuf;

pub use self::bench::Bench;
pub use self::prove::Prove;

/// Where things are.
#[derive(Debug)]
pub struct Config {
    /// `PATH`: there are programs of others to compare with.
    pub path: OsString,
    /// For what can be made again; `peers` in it has programs of others, too.
    pub cache_dir: PathBuf,
    /// For compiled programs.
    pub code_dir: PathBuf,
    /// For running worlds, private to the user.
    pub state_dir: PathBuf,
    /// How programs for cells are compiled.
    pub cc: cells::cc::Config,
}

/// Prints a line to standard output.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    std::io::Write::write_fmt(&mut out, format_args!("{line}\n"))?;
    Ok(())
}
