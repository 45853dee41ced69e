//! How fast the arena is, against what the machine allows, both measured in the same run and in turns.
//!
//! One JSON object a line; `cargo run -p geds --example arena-bench`.

mod bench;
mod keeper;

fn main() -> bench::Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["client", path, scale] => bench::client(path.as_ref(), scale.parse()?),
        _ => bench::agent(1),
    }
}
