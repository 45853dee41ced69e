//! What the black-box tests share: where the program is, and how to run it.
#![forbid(unsafe_code)]

mod process;

use std::path::PathBuf;

pub use process::{DEADLINE, Ended, Output, Process, is_alive, kill, signal};

/// The program under test, as `cargo build --workspace` has made it beside the tests.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn cloudskin() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let directory = test
        .ancestors()
        .nth(2)
        .expect("tests stand in target/PROFILE/deps");
    let program = directory.join("cloudskin");
    assert!(
        program.exists(),
        "{} is missing: run `./x test`, or cargo build --workspace",
        program.display()
    );
    program
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
