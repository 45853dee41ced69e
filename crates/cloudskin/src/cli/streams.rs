//! `cloudskin streams`: streams of a server, from the command line.

mod events;
mod scopes;
mod stream;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use streams_client::Client;
use streams_client::client::Config as ClientConfig;
use streams_client::controller::{Address, trust};

use crate::roles;

#[derive(Debug, Subcommand)]
pub(super) enum Streams {
    /// Be a server of streams: Pravega's protocol, on a log in a directory, with long-term storage behind it.
    Serve(roles::streams::Serve),
    /// Make, list and delete scopes, in which streams are.
    #[command(subcommand)]
    Scope(scopes::Scope),
    /// Make a stream.
    Create(stream::Create),
    /// List the streams of a scope.
    Ls(stream::Ls),
    /// Show what a stream is made of, and how long its segments are.
    Info(stream::Info),
    /// Divide the keys of a stream into so many equal parts.
    Scale(stream::Scale),
    /// Give up what is before a position.
    Truncate(stream::Truncate),
    /// Let nothing more be written to a stream.
    Seal(stream::Seal),
    /// Delete a sealed stream.
    Rm(stream::Rm),
    /// Write the lines of standard input, or of files, as events; each is durable when this ends.
    Write(events::Write),
    /// Print events, each as a line.
    Read(events::Read),
}

/// Which server is asked.
#[derive(Debug, Args)]
struct Server {
    /// Where the controller is: `tcp://HOST:PORT`, or `tls://…`.
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:9090")]
    controller: Address,
    /// Certificates of the authorities to trust, as PEM, for tls.
    #[arg(long, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
}

impl Server {
    fn client(&self) -> anyhow::Result<Client> {
        let mut config = ClientConfig::new(self.controller.clone());
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            config.tls = Some(std::sync::Arc::new(trust(&pem)?));
        }
        Ok(Client::new(config)?)
    }
}

impl Streams {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Self::Serve(serve) = self {
            return serve.run();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the runtime")?;
        let running = async {
            match self {
                Self::Serve(_) => unreachable!("it has a runtime of its own"),
                Self::Scope(scope) => scope.run().await,
                Self::Create(create) => create.run().await,
                Self::Ls(ls) => ls.run().await,
                Self::Info(info) => info.run().await,
                Self::Scale(scale) => scale.run().await,
                Self::Truncate(truncate) => truncate.run().await,
                Self::Seal(seal) => seal.run().await,
                Self::Rm(rm) => rm.run().await,
                Self::Write(write) => write.run().await,
                Self::Read(read) => read.run().await,
            }
        };
        match runtime.block_on(Box::pin(running)) {
            // Whoever reads has had enough.
            Err(error) if super::geds::is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS),
        }
    }
}
