//! `cloudskin streams`: streams of a server, from the command line.

mod events;
mod offline;
mod password;
mod scopes;
mod stream;
mod txn;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use streams_client::Client;
use streams_client::client::Config as ClientConfig;
use streams_client::controller::{Address, Credentials, trust};

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
    /// Read a password from standard input, and print the line of a user for the server's file of passwords.
    Password(password::Password),
    /// Write events that become part of a stream together, or not at all.
    #[command(subcommand)]
    Txn(txn::Txn),
    /// Look whether all that a server has kept is what it has written. The server must not run, and nothing is written. Status 1 if not.
    Check(offline::Check),
    /// Print what is in a file of a server.
    #[command(subcommand)]
    Dump(offline::Dump),
}

/// Which server is asked.
#[derive(Debug, Args)]
struct Server {
    /// Where the controller is: `tcp://HOST:PORT`, or `tls://…`.
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:9090")]
    controller: Address,
    /// Certificates of the authorities to trust, as PEM, for tls.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A user and a password, separated by blanks, or a token alone.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
}

impl Server {
    fn client(&self) -> anyhow::Result<Client> {
        let mut config = ClientConfig::new(self.controller.clone());
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            config.tls = Some(std::sync::Arc::new(trust(&pem)?));
        }
        if let Some(path) = &self.credentials {
            let doing = || format!("read the credentials in {}", path.display());
            let text = std::fs::read_to_string(path).with_context(doing)?;
            config.credentials = Some(Credentials::parse(&text).with_context(doing)?);
        }
        Ok(Client::new(config)?)
    }
}

impl Streams {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(serve) => return serve.run(),
            Self::Password(password) => return password.run(),
            _ => {}
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the runtime")?;
        let running = async {
            match self {
                Self::Serve(_) | Self::Password(_) => unreachable!("it needs no runtime of ours"),
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
                Self::Txn(txn) => txn.run().await,
                Self::Check(check) => return check.run().await,
                Self::Dump(dump) => dump.run(),
            }
            .map(|()| ExitCode::SUCCESS)
        };
        match runtime.block_on(Box::pin(running)) {
            // Whoever reads has had enough.
            Err(error) if super::geds::is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result,
        }
    }
}
