//! Prints the OpenAPI document: `cargo run -p orchestrator --example openapi > openapi/v1.json`.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

fn main() {
    println!("{:#}", orchestrator::openapi());
}
