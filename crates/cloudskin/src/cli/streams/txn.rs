//! Transactions.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use streams_client::Client;
use streams_client::controller::{Ping, TransactionState};
use streams_client::names::StreamName;
use streams_client::writer::Transaction;

use super::Server;
use super::events::Lines;
use crate::cli::say;

/// So often it is asked what has become of a transaction that ends,
const PERIOD: Duration = Duration::from_millis(50);
/// and for so long.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Txn {
    /// Begin one, and print its id.
    Begin(Begin),
    /// Write the lines of standard input, or of files, as events of a transaction; each is durable when this ends.
    Write(Write),
    /// Let what was written become part of the stream, and wait until it is.
    Commit(Ended),
    /// Give up what was written, and wait until it is gone.
    Abort(Ended),
    /// List those that have ended of late, the last one first.
    Ls(Ls),
    /// Print what has become of one.
    State(State),
}

#[derive(Debug, Args)]
pub(crate) struct Begin {
    stream: StreamName,
    #[command(flatten)]
    lease: Lease,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    lines: Lines,
    #[command(flatten)]
    lease: Lease,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Ended {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    stream: StreamName,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(flatten)]
    which: Which,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Which transaction.
#[derive(Debug, Args)]
struct Which {
    stream: StreamName,
    /// As `txn begin` has printed it.
    #[arg(value_parser = parse_id)]
    id: u128,
}

#[derive(Debug, Args)]
struct Lease {
    /// The transaction is aborted when nothing has been heard of it for so long: from 10s to 10m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = ids::parse_duration)]
    lease: Duration,
}

/// 32 hexadecimal digits, with dashes between them or not.
fn parse_id(text: &str) -> Result<u128, String> {
    let digits = text.replace('-', "");
    let is_id = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let id = u128::from_str_radix(&digits, 16).ok();
    id.filter(|_| is_id)
        .ok_or_else(|| "the id of a transaction has 32 hexadecimal digits".to_owned())
}

impl Txn {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Begin(begin) => begin.run().await,
            Self::Write(write) => write.run().await,
            Self::Commit(Ended { which, server }) => {
                let client = server.client()?;
                client.controller().commit(&which.stream, which.id).await?;
                let states = [TransactionState::Committing, TransactionState::Committed];
                settled(&client, &which, states).await
            }
            Self::Abort(Ended { which, server }) => {
                let client = server.client()?;
                client.controller().abort(&which.stream, which.id).await?;
                let states = [TransactionState::Aborting, TransactionState::Aborted];
                settled(&client, &which, states).await
            }
            Self::Ls(ls) => ls.run().await,
            Self::State(state) => state.run().await,
        }
    }
}

impl Begin {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let started = client.controller().begin(&self.stream, self.lease.lease);
        let id = format!("{:032x}", started.await?.id);
        if self.json {
            let stream = self.stream.to_string();
            return say(&json!({"stream": stream, "id": id}).to_string());
        }
        say(&id)
    }
}

impl Write {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let (Which { stream, id }, lease) = (self.which, self.lease.lease);
        let mut transaction = Transaction::resume(&client, stream, id, lease).await?;
        let mut prolonged = rt::now();
        let written = self.lines.each(async |key, event| {
            if prolonged.elapsed() >= lease / 3 {
                if transaction.prolong(lease).await? != Ping::Prolonged {
                    bail!("the transaction is over: `txn state` says how it has ended");
                }
                prolonged = rt::now();
            }
            // `flush` says what has become of it.
            drop(transaction.write(&key, event).await?);
            Ok(())
        });
        written.await?;
        Ok(transaction.flush().await?)
    }
}

/// Waits until it has come to that.
async fn settled(
    client: &Client,
    Which { stream, id }: &Which,
    [passing, last]: [TransactionState; 2],
) -> anyhow::Result<()> {
    let settled = async {
        loop {
            match client.controller().transaction_state(stream, *id).await? {
                state if state == last => return Ok(()),
                state if state == passing => tokio::time::sleep(PERIOD).await,
                other => bail!("the transaction is {} all the same", word(other)),
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, settled).await;
    waited.context("it is certain, but not done yet: `txn state` says when it is")?
}

impl Ls {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let ended = client.controller().ended_transactions(&self.stream);
        let ended = ended.await?.into_iter().map(|(id, is_committed)| {
            let state = if is_committed { "committed" } else { "aborted" };
            (format!("{id:032x}"), state)
        });
        if self.json {
            let ended: Vec<_> = ended
                .map(|(id, state)| json!({"id": id, "state": state}))
                .collect();
            return say(&serde_json::to_string(&ended)?);
        }
        ended
            .into_iter()
            .try_for_each(|(id, state)| say(&format!("{id}  {state}")))
    }
}

impl State {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let Which { stream, id } = self.which;
        let state = client.controller().transaction_state(&stream, id).await?;
        let state = word(state);
        if self.json {
            let id = format!("{id:032x}");
            let told = json!({"stream": stream.to_string(), "id": id, "state": state});
            return say(&told.to_string());
        }
        say(state)
    }
}

fn word(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Unknown => "unknown",
        TransactionState::Open => "open",
        TransactionState::Committing => "committing",
        TransactionState::Committed => "committed",
        TransactionState::Aborting => "aborting",
        TransactionState::Aborted => "aborted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_32_digits() {
        let id = parse_id("0000000200000abc0000000000000def").expect("an id");
        let dashed = parse_id("00000002-0000-0abc-0000-000000000def").expect("an id");
        assert_eq!(
            (id, dashed),
            (0x0000_0002_0000_0abc_0000_0000_0000_0def, id)
        );
        for wrong in [
            "",
            "2",
            "0000000200000abc0000000000000deg",
            "+000000200000abc0000000000000def",
        ] {
            parse_id(wrong).expect_err(wrong);
        }
    }
}
