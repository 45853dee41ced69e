//! Open files and moves. That they move along in all modes, `bounce` shows with a program of its own.

use std::fs;

use anyhow::{Result, ensure};
use it::Ended;

use crate::programs::compiled;
use crate::site::Site;

/// A target can only open a file that is there; a rank with one that is not stays where it is.
#[test]
fn a_rank_with_a_removed_file_stays_and_reads_on() -> Result<()> {
    let site = Site::new()?;
    let file = site.files()?.join("removed.txt");
    fs::write(&file, "abc")?;
    let options = format!("-n 1 --hosts 2 --dir /files={}", site.files()?.display());
    let process = site.start(&options, &compiled("reading")?, "/files/removed.txt 60000")?;
    process.wait_until("the open file", |output| output.stdout.contains("open a"))?;
    let world = site.world(1, 2)?;
    let moved = site.move_rank(&world, 0, 1)?;
    ensure!(moved.code == Some(0), "with its file it moves: {moved:?}");
    fs::remove_file(&file)?;
    let refused = site.move_rank(&world, 0, 0)?;
    ensure!(
        refused.code == Some(1),
        "without its file it moves: {refused:?}"
    );
    ensure!(
        refused.stderr.contains("removed.txt"),
        "the file is not named: {}",
        refused.stderr
    );
    let Ended {
        code,
        stdout,
        stderr,
    } = process.finish()?;
    ensure!(
        code == Some(0) && stdout == "open a\nthen b\n",
        "{code:?}\n{stdout}{stderr}"
    );
    Ok(())
}
