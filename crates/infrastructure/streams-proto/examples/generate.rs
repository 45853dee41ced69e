//! Prints the code of `controller.rs`, as `lib.rs` says.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::fs;

use anyhow::{Context as _, Result};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto/streams");
/// Is named after the package.
const FILE: &str = "io.pravega.controller.stream.api.grpc.v1.rs";

fn main() -> Result<()> {
    print!("{}", generated()?);
    Ok(())
}

fn generated() -> Result<String> {
    let files = protox::compile(["controller.proto"], [FOLDER]).context("compile the interface")?;
    let folder = tempfile::tempdir().context("make a folder")?;
    tonic_prost_build::configure()
        .out_dir(folder.path())
        // It would open connections without TLS of the platform.
        .build_transport(false)
        .compile_fds(files)
        .context("generate the code")?;
    fs::read_to_string(folder.path().join(FILE)).context("read the code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_one_that_is_checked_in() {
        let generated = generated().expect("it can be generated");
        assert!(
            generated == include_str!("../src/controller.rs"),
            "controller.rs is not what controller.proto says; look at the difference after\n    \
             cargo run -p streams-proto --example generate > crates/infrastructure/streams-proto/src/controller.rs"
        );
    }
}
