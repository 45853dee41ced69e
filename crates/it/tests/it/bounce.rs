//! Programs that are moved again and again compute what they compute unmoved.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::programs::{PROGRAMS, Program, compiled, reference};
use crate::site::Site;

/// At least fifty are wanted of each program.
const N_MOVES: u32 = 60;
/// Of each kind, over all programs.
const KIND_MOVES_MIN: u32 = 10;
const KINDS: [&str; 4] = [
    "in a collective",
    "with posted receives",
    "with unexpected messages",
    "with frames in flight",
];

#[test]
fn programs_that_move_all_the_time_compute_the_same() -> Result<()> {
    let mut of_kind = [0; KINDS.len()];
    for (n, program) in PROGRAMS.iter().enumerate() {
        let wanted = &reference(n)?.result;
        let moves = bounce(program, n, wanted).with_context(|| program.name())?;
        for (count, more) in of_kind.iter_mut().zip(moves) {
            *count += more;
        }
    }
    for (kind, count) in KINDS.iter().zip(of_kind) {
        ensure!(
            count >= KIND_MOVES_MIN,
            "only {count} moves happened {kind}"
        );
    }
    Ok(())
}

/// A collective of one rank has no messages, and is a control point all the same.
#[test]
fn a_rank_that_is_alone_moves_from_any_collective() -> Result<()> {
    const N_MOVES: usize = 3;
    const KINDS: &str = "barrier bcast reduce allreduce gather scatterv allgatherv alltoall alltoallw scan exscan \
                         reduce_scatter dup";
    let program = compiled("alone")?;
    for kind in KINDS.split_whitespace() {
        let site = Site::new()?;
        let files = site.files()?;
        let options = format!(
            "-n 1 --hosts 2 --dir /files={} --bounce {N_MOVES}",
            files.display()
        );
        let process = site.start(&options, &program, kind)?;
        process.wait_until(kind, |output| output.stderr.lines().count() >= N_MOVES)?;
        std::fs::write(files.join("open"), "")?;
        let ended = process.finish()?;
        ensure!(
            ended.code == Some(0) && ended.stdout == format!("{kind} did well\n"),
            "{kind}: {ended:?}"
        );
        let is_move = |line: &str| line.starts_with("move ") && line.contains(" at=wait ");
        ensure!(ended.stderr.lines().all(is_move), "{kind}: {ended:?}");
    }
    Ok(())
}

/// Bounces a program. Returns how many of its moves were of each of the [`KINDS`].
fn bounce(program: &Program, seed: usize, wanted: &str) -> Result<[u32; KINDS.len()]> {
    let site = Site::new()?;
    let ended = program.run_well(
        &site,
        &format!("--bounce {N_MOVES} --seed {seed}"),
        program.args,
    )?;
    ensure!(
        ended.stdout.trim_end() == wanted,
        "{} is not {wanted}",
        ended.stdout
    );
    let mut of_kind = [0; KINDS.len()];
    let mut n_moves = 0;
    for line in ended.stderr.lines() {
        n_moves += 1;
        let line = line
            .strip_prefix(&format!("move {n_moves}: "))
            .with_context(|| format!("`{line}`"))?;
        for (count, is_so) in of_kind.iter_mut().zip(kinds_of(line)?) {
            *count += u32::from(is_so);
        }
    }
    // One line for each, and nothing else.
    ensure!(
        n_moves == N_MOVES,
        "{n_moves} lines tell of {N_MOVES} moves:\n{}",
        ended.stderr
    );
    Ok(of_kind)
}

/// Which of the [`KINDS`] a move was.
fn kinds_of(line: &str) -> Result<[bool; KINDS.len()]> {
    let fields: BTreeMap<_, _> = line
        .split_whitespace()
        .filter_map(|field| field.split_once('='))
        .collect();
    let field = |name: &str| {
        fields
            .get(name)
            .with_context(|| format!("no {name} in `{line}`"))
    };
    let is_some = |name: &str| Ok::<_, anyhow::Error>(field(name)?.parse::<u32>()? > 0);
    ensure!(
        matches!(*field("host")?, "0->1" | "1->0"),
        "where to, in `{line}`"
    );
    ensure!(
        field("bytes")?.parse::<u64>()? > 0 && field("pause")?.ends_with("ms"),
        "what and how long, in `{line}`"
    );
    Ok([
        field("at")?.contains('/'),
        is_some("posted")?,
        is_some("unexpected")?,
        is_some("in_flight")?,
    ])
}
