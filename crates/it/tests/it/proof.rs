//! With the same outcomes of whatever may differ, a moved program has the same memory at its end, bit for bit.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use it::Ended;

use crate::programs::{PROGRAMS, Program, Reference, reference, split_hashes};
use crate::site::Site;

#[test]
fn a_moved_replay_ends_with_the_same_memory() -> Result<()> {
    for (n, program) in PROGRAMS.iter().enumerate() {
        check(
            program,
            program.args,
            &format!("--bounce 50 --seed {}", n + 100),
            reference(n)?,
        )?;
    }
    Ok(())
}

#[test]
fn the_interpreter_replays_to_the_same_memory() -> Result<()> {
    for program in &PROGRAMS {
        check(
            program,
            program.tiny_args,
            "--interpret",
            &program.record(program.tiny_args)?,
        )?;
    }
    Ok(())
}

/// A canary: what proves that memories are equal must see when they are not.
#[test]
fn other_arguments_end_with_another_memory() -> Result<()> {
    for (n, program) in PROGRAMS.iter().enumerate() {
        let (one, other) = (reference(n)?, program.record(program.tiny_args)?);
        for (one, other) in one.hashes.iter().zip(&other.hashes) {
            ensure!(
                one != other,
                "{}: {one} with other arguments",
                program.name()
            );
        }
    }
    Ok(())
}

/// Rank 0 of the ring asks for whoever comes first: longer or shorter, it does not fit what was recorded.
#[test]
fn a_recording_of_another_run_is_refused() -> Result<()> {
    let ring = &PROGRAMS[1];
    assert_eq!(ring.source, "ring");
    let recording = ring.record("400 20")?;
    for args in ["40 20", "1000 20"] {
        let Ended { code, stderr, .. } = replay(ring, args, "", &recording)?;
        ensure!(
            code.is_some_and(|code| code != 0),
            "{args}: a recording of another run was replayed"
        );
        ensure!(
            stderr.contains("record"),
            "{args}: what is wrong is not said: {stderr}"
        );
    }
    Ok(())
}

#[test]
fn a_file_that_is_no_recording_is_refused() -> Result<()> {
    let ring = &PROGRAMS[1];
    let Reference { recording, .. } = ring.record(ring.tiny_args)?;
    let cut = recording[..recording.len() / 2].to_vec();
    for recording in [Vec::new(), b"hello".to_vec(), cut] {
        let reference = Reference {
            result: String::new(),
            hashes: Vec::new(),
            recording,
        };
        let Ended { code, stderr, .. } = replay(ring, ring.tiny_args, "", &reference)?;
        ensure!(
            code == Some(1) && stderr.contains("recording"),
            "{code:?}: {stderr}"
        );
    }
    Ok(())
}

fn check(program: &Program, args: &str, options: &str, recorded: &Reference) -> Result<()> {
    let Ended {
        code,
        stdout,
        stderr,
    } = replay(program, args, options, recorded)?;
    ensure!(
        code == Some(0),
        "{} {options}: {code:?}\n{stdout}{stderr}",
        program.name()
    );
    let (result, hashes) = split_hashes(&stdout);
    ensure!(
        result == recorded.result,
        "{} {options}: {result}, not {}",
        program.name(),
        recorded.result
    );
    let wanted = &recorded.hashes;
    ensure!(
        &hashes == wanted,
        "{} {options}: {hashes:#?}, not {wanted:#?}",
        program.name()
    );
    Ok(())
}

fn replay(program: &Program, args: &str, options: &str, recorded: &Reference) -> Result<Ended> {
    let site = Site::new()?;
    let file = site.files()?.join("recording");
    fs::write(&file, &recorded.recording)?;
    let options = format!("--hash-memory --replay {} {options}", file.display());
    program
        .run(&site, &options, args)
        .with_context(|| program.name())
}
