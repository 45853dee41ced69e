//! Guests that mean harm, and files that are no guests: none of them kills a host.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use it::Ended;

use crate::programs::{compiled, compiled_with};
use crate::site::Site;

/// What `cell run` exits with when a rank traps.
const TRAP_CODE: i32 = 134;

#[test]
fn memory_has_an_end_that_the_guest_sees() -> Result<()> {
    let site = Site::new()?;
    let program = compiled("membomb")?;
    let Ended { stdout, stderr, .. } =
        site.run_well("-n 2 --hosts 2 --memory-max 64", &program, "--stay")?;
    for rank in 0..2 {
        let line = stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("rank {rank} got ")));
        let mib: u32 = line
            .and_then(|line| line.strip_suffix(" MiB"))
            .with_context(|| stdout.clone())?
            .parse()?;
        ensure!((1..=64).contains(&mib), "rank {rank} got {mib} MiB of 64");
    }
    ensure!(stderr.is_empty(), "{stderr}");
    let ended = site.run("--memory-max 64", &program, "")?;
    ensure!(ended.code == Some(3), "the guest's own code: {ended:?}");
    Ok(())
}

#[test]
fn endless_recursion_is_a_trap_of_its_rank() -> Result<()> {
    let site = Site::new()?;
    for args in ["", "--array"] {
        for engine in ["", "--interpret"] {
            let ended = site.run(
                &format!("-n 2 --hosts 2 {engine}"),
                &compiled("deep")?,
                args,
            )?;
            expect_trap(&ended).with_context(|| format!("{args} {engine}"))?;
        }
    }
    Ok(())
}

/// Stretches of vectors: each goes on to its end or to the first trap, whichever comes first.
#[test]
fn garbage_for_the_host_calls_harms_nobody() -> Result<()> {
    const STRETCH: usize = 19;
    let site = Site::new()?;
    let listed = site.run_well("", &compiled("garbage")?, "")?.stdout;
    let program = compiled("garbage_all")?;
    let (mut n_vectors, mut n_traps) = (0, 0);
    for line in listed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [call, name, count] = fields[..] else {
            anyhow::bail!("`{line}`")
        };
        for first in (0..count.parse()?).step_by(STRETCH) {
            let args = format!("{call} {first} {STRETCH}");
            let ended = site.run("", &program, &args)?;
            let Ended {
                code,
                stdout,
                stderr,
            } = &ended;
            ensure!(
                !stderr.contains("died") && !stdout.contains("damaged"),
                "{name} {args}: {ended:?}"
            );
            n_vectors += stdout
                .lines()
                .filter(|line| line.starts_with("vector "))
                .count();
            match code {
                Some(TRAP_CODE) => {
                    n_traps += 1;
                    expect_trap(&ended).with_context(|| format!("{name} {args}"))?;
                }
                Some(_) if name == "abort" => {}
                _ => ensure!(
                    *code == Some(0) && stdout.ends_with("done\n"),
                    "{name} {args}: {ended:?}"
                ),
            }
        }
    }
    // Both kinds of answers were seen, and so it was garbage that they were given.
    ensure!(
        n_vectors > 100 && n_traps > 20,
        "{n_vectors} vectors and {n_traps} traps"
    );
    Ok(())
}

#[test]
fn a_damaged_module_is_refused_with_a_reason() -> Result<()> {
    let site = Site::new()?;
    let whole = fs::read(compiled("counting")?)?;
    let damaged = site.files()?.join("damaged.wasm");
    let mut variants: Vec<_> = [0, 3, 7, 9, whole.len() / 2, whole.len() - 1]
        .map(|n_bytes| whole[..n_bytes].to_vec())
        .into();
    for at in [2, 5, 9, 200, whole.len() / 3] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes[at + 1] ^= 0xff;
        variants.push(bytes);
    }
    for (n, bytes) in variants.iter().enumerate() {
        fs::write(&damaged, bytes)?;
        let Ended {
            code,
            stdout,
            stderr,
        } = site.run("-n 2 --hosts 2", &damaged, "1 10")?;
        ensure!(
            code == Some(1) && stdout.is_empty(),
            "variant {n}: {code:?}\n{stdout}{stderr}"
        );
        let line = stderr.trim_end();
        let says_why = line.starts_with("cloudskin: ") && line != "cloudskin: read the module";
        ensure!(says_why, "variant {n} fails without a reason: {stderr}");
    }
    Ok(())
}

#[test]
fn a_module_without_a_program_is_refused() -> Result<()> {
    let site = Site::new()?;
    let module = site.files()?.join("module.wasm");
    // One page of memory, exported as `memory`, and nothing else.
    let with_memory = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x0a\x01\x06memory\x02\0";
    for (bytes, missing) in [
        (&b"\0asm\x01\0\0\0"[..], "memory"),
        (&with_memory[..], "_start"),
    ] {
        fs::write(&module, bytes)?;
        let Ended { code, stderr, .. } = site.run("-n 2 --hosts 2", &module, "")?;
        ensure!(code.is_some_and(|code| code != 0), "{code:?}: {stderr}");
        ensure!(
            stderr.contains(missing) && !stderr.contains("died"),
            "{missing} is not named: {stderr}"
        );
    }
    Ok(())
}

#[test]
fn a_module_that_cannot_move_runs_and_says_why_it_stays() -> Result<()> {
    let plain = compiled_with("halo", "--no-instrument")?;
    expect_fixed(&plain, "100 3000", "not instrumented")?;
    expect_fixed(&compiled("table")?, "", "function `main` mutates table 0")
}

/// The program ends well without moving, and fails only if it was to move.
fn expect_fixed(program: &Path, args: &str, reason: &str) -> Result<()> {
    let site = Site::new()?;
    let wanted = site.run_well("-n 2 --hosts 2", program, args)?.stdout;
    let Ended {
        code,
        stdout,
        stderr,
    } = site.run("-n 2 --hosts 2 --bounce 1", program, args)?;
    ensure!(stdout == wanted, "{stdout}, not {wanted}");
    ensure!(code == Some(1), "{code:?} although nothing moved: {stderr}");
    ensure!(
        stderr.contains("cannot move") && stderr.contains(reason),
        "{reason} is not said: {stderr}"
    );
    Ok(())
}

fn expect_trap(ended: &Ended) -> Result<()> {
    let Ended { code, stderr, .. } = ended;
    ensure!(*code == Some(TRAP_CODE), "{code:?}: {stderr}");
    ensure!(
        stderr.starts_with("rank ") && stderr.lines().count() <= 2,
        "the trap is not all: {stderr}"
    );
    ensure!(!stderr.contains("died"), "{stderr}");
    Ok(())
}
