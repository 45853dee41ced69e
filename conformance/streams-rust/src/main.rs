//! Programs on Pravega's client in Rust, one for each thing that it can do. Each checks what it says in its first lines, and `run.sh` runs them.
//!
//! `streams-rust` prints their names; `streams-rust PROGRAM CONTROLLER [LOG]` runs one, and its last line is `ok` or `FAILED: why`.
#![forbid(unsafe_code)]

mod byte_streams;
mod index_streams;
mod lab;
mod large_events;
mod reader_groups;
mod readers;
mod scaling;
mod sealing;
mod sharing;
mod streams;
mod synchronizers;
mod tables;
mod transactions;
mod writers;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use pravega_client::client_factory::ClientFactory;
use pravega_client_config::ClientConfigBuilder;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::lab::{Lab, Outcome};

type Program = fn(Lab) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

const PROGRAMS: [(&str, Program); 13] = [
    ("ByteStreams", |lab| Box::pin(byte_streams::run(lab))),
    ("IndexStreams", |lab| Box::pin(index_streams::run(lab))),
    ("LargeEvents", |lab| Box::pin(large_events::run(lab))),
    ("ReaderGroups", |lab| Box::pin(reader_groups::run(lab))),
    ("Readers", |lab| Box::pin(readers::run(lab))),
    ("Scaling", |lab| Box::pin(scaling::run(lab))),
    ("Sealing", |lab| Box::pin(sealing::run(lab))),
    ("Sharing", |lab| Box::pin(sharing::run(lab))),
    ("Streams", |lab| Box::pin(streams::run(lab))),
    ("Synchronizers", |lab| Box::pin(synchronizers::run(lab))),
    ("Tables", |lab| Box::pin(tables::run(lab))),
    ("Transactions", |lab| Box::pin(transactions::run(lab))),
    ("Writers", |lab| Box::pin(writers::run(lab))),
];

/// The client tries again for ever, whatever the server answers.
const LIMIT: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, controller, ..] = &arguments[..] else {
        for (name, _) in PROGRAMS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((name, program)) = PROGRAMS.iter().find(|(known, _)| known == name) else {
        println!("FAILED: there is no program `{name}`");
        return ExitCode::from(2);
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(
            arguments.get(2).map_or("error", |filter| filter),
        ))
        .with_writer(std::io::stderr)
        .init();
    match run(name, *program, controller) {
        Ok(()) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAILED: {}", why.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, program: Program, controller: &str) -> Outcome {
    let config = ClientConfigBuilder::default()
        .controller_uri(controller)
        .build()?;
    let factory = ClientFactory::new(config);
    let client = factory.to_async();
    let scope = format!("{name}-{}", std::process::id());
    // The client panics where it does not know what to do: what it says then is the reason.
    factory.runtime().block_on(async {
        let running = tokio::spawn(async move { program(Lab::new(client, scope).await?).await });
        match timeout(LIMIT, running).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(panic.to_string().into()),
            Err(_) => Err(format!("it takes more than {} s", LIMIT.as_secs()).into()),
        }
    })
}
