//! The MPI library on real hosts: programs that check its functions themselves.

use anyhow::{Result, ensure};

use crate::programs::compiled;
use crate::site::Site;

fn check(source: &str, n_parts: usize) -> Result<()> {
    let site = Site::new()?;
    let module = compiled(source)?;
    for n_ranks in [1, 2, 5] {
        let ended = site.run(&format!("-n {n_ranks} --hosts 2"), &module, "")?;
        ensure!(ended.code == Some(0), "{source} on {n_ranks}: {ended:?}");
        let n_passed = ended
            .stdout
            .lines()
            .filter(|line| line.starts_with("PASS "))
            .count();
        ensure!(
            n_passed >= n_parts,
            "{source} on {n_ranks}: {}",
            ended.stdout
        );
    }
    Ok(())
}

#[test]
fn point_to_point() -> Result<()> {
    check("p2p", 5)
}

#[test]
fn requests() -> Result<()> {
    check("requests", 5)
}

#[test]
fn types_and_operations() -> Result<()> {
    check("types_ops", 3)
}

#[test]
fn collectives() -> Result<()> {
    check("collective", 5)
}
