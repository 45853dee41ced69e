//! A rank that has left needs nothing of the host that it left.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::programs::compiled;
use crate::site::{Site, expect_same, hosts_of};

#[test]
fn a_moved_rank_needs_neither_the_files_nor_the_process_it_came_from() -> Result<()> {
    const ARGS: &str = "150 300000";
    let program = compiled("counting")?;
    let wanted = Site::new()?.run_well("-n 1", &program, ARGS)?.stdout;
    let site = Site::new()?;
    let process = site.start("-n 1 --hosts 2", &program, ARGS)?;
    process.wait_until("the first line", |output| !output.stdout.is_empty())?;
    let world = site.world(1, 2)?;
    let moved = site.move_rank(&world, 0, 1)?;
    ensure!(moved.code == Some(0), "{moved:?}");
    // Stopped first: what a process has mapped must not be taken from under it. The host that takes its place uses its directory.
    let source = hosts_of(&world)?[0];
    it::signal(source, "STOP")?;
    let dir = site.world_dir()?.join("host-0-0");
    ensure!(spoil(&dir)? > 0, "the source has no files");
    it::kill(source)?;
    let ended = process.finish()?;
    expect_same(&ended, &wanted)?;
    let stderr = &ended.stderr;
    ensure!(stderr.contains("a host died"), "the source lives: {stderr}");
    Ok(())
}

#[test]
fn ranks_go_on_moving_when_the_files_of_a_host_are_gone() -> Result<()> {
    const ARGS: &str = "250 60000";
    let program = compiled("counting")?;
    let wanted = Site::new()?.run_well("-n 4", &program, ARGS)?.stdout;
    let site = Site::new()?;
    let process = site.start("-n 4 --hosts 2 --bounce 15", &program, ARGS)?;
    let output = process.wait_until("the first move", |output| output.stderr.contains("move "))?;
    let source = if output.stderr.contains("host=0->1") {
        "host-0-0"
    } else {
        "host-0-1"
    };
    fs::remove_dir_all(site.world_dir()?.join(source))?;
    expect_same(&process.finish()?, &wanted)
}

/// Overwrites all files below a directory, and then removes them. Returns how many there were.
fn spoil(dir: &Path) -> Result<usize> {
    let mut n_files = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            n_files += spoil(&path)?;
            fs::remove_dir(&path)?;
        } else {
            fs::write(&path, "this was a file of the source")?;
            fs::remove_file(&path)?;
            n_files += 1;
        }
    }
    Ok(n_files)
}
