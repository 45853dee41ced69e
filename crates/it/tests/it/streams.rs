//! Streams from outside: `streams serve` as an operator calls it, its commands, and a client whose server is killed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use it::Process;
use serde_json::Value;
use streams_client::client::Config;
use streams_client::reader::Until;
use streams_client::{Client, EventWriter, StreamReader};
use tempfile::TempDir;

use crate::s3::fetch;

/// A running server.
struct Server {
    process: Process,
    controller: String,
    store: String,
    metrics: String,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        Self::start_at(dir, ["127.0.0.1:0"; 2])
    }

    fn start_at(dir: &Path, [controller, store]: [&str; 2]) -> Result<Self> {
        let mut command = Command::new(it::cloudskin());
        command
            .args(["streams", "serve", "--json", "--dir"])
            .arg(dir);
        command.args(["--controller", controller, "--store", store]);
        let process = Process::start(&mut command)?;
        let said = process.wait_until("the server", |output| output.stdout.ends_with('\n'))?;
        let ready: Value = serde_json::from_str(&said.stdout)?;
        let address = |of: &str| {
            let address = ready[of].as_str().map(str::to_owned);
            address.with_context(|| said.stdout.clone())
        };
        Ok(Self {
            controller: address("controller")?,
            store: address("store")?,
            metrics: address("metrics")?,
            process,
        })
    }

    /// In the same place.
    fn killed_and_started(mut self, dir: &Path) -> Result<Self> {
        self.process.kill()?;
        self.process.finish()?;
        Self::start_at(dir, [&self.controller, &self.store])
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(it::cloudskin());
        command.arg("streams").args(words.split_whitespace());
        let controller = format!("tcp://{}", self.controller);
        command.args(["--controller", &controller]);
        command
    }

    /// What a command says that ends well.
    fn run(&self, words: &str) -> Result<String> {
        let ended = Process::start(&mut self.command(words))?.finish()?;
        ensure!(ended.code == Some(0), "streams {words}: {ended:?}");
        Ok(ended.stdout)
    }

    fn write(&self, words: &str, lines: &str) -> Result<()> {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("it was piped")?;
        stdin.write_all(lines.as_bytes())?;
        drop(stdin);
        ensure!(child.wait()?.success(), "streams {words}");
        Ok(())
    }

    fn end(self) -> Result<()> {
        it::signal(u64::from(self.process.id()), "TERM")?;
        let ended = self.process.finish()?;
        let is_calm = !ended.stderr.contains("WARN") && !ended.stderr.contains("ERROR");
        ensure!(ended.code == Some(0) && is_calm, "{ended:?}");
        Ok(())
    }
}

#[test]
fn what_commands_write_is_read_after_the_server_was_killed() -> Result<()> {
    let dir = TempDir::new()?;
    let dir = dir.path().join("streams");
    let server = Server::start(&dir)?;
    server.run("scope create lab")?;
    server.run("create lab/video --segments 2 --tag camera")?;
    server.write("write lab/video --key a", "one\ntwo\n")?;
    server.run("scale lab/video 3")?;
    server.write("write lab/video --key a", "three\n")?;
    let written = fetch(&server.metrics, "/metrics")?.expect(200)?.text();
    let counted = "pravega_segmentstore_segment_write_events_global 3";
    ensure!(written.lines().any(|line| line == counted), "{written}");

    let server = server.killed_and_started(&dir)?;
    ensure!(server.run("scope ls")? == "lab\n_system\n", "the scopes");
    ensure!(server.run("ls lab")? == "video\n", "the streams");
    ensure!(
        server.run("read lab/video")? == "one\ntwo\nthree\n",
        "the events"
    );
    let info: Value = serde_json::from_str(&server.run("info lab/video --json")?)?;
    let segments = info["segments"].as_array().context("segments")?;
    ensure!(segments.len() == 3 && info["tags"][0] == "camera", "{info}");
    let tail = info["tail"].as_str().context("a tail")?.to_owned();
    server.write("write lab/video --key a", "four\n")?;
    ensure!(
        server.run(&format!("read {tail}"))? == "four\n",
        "behind the tail"
    );
    server.run(&format!("truncate {tail}"))?;
    ensure!(server.run("read lab/video")? == "four\n", "what is left");
    server.run("seal lab/video")?;
    let ended = Process::start(&mut server.command("write lab/video none"))?.finish()?;
    ensure!(ended.code == Some(1), "it is sealed: {ended:?}");
    server.run("rm lab/video")?;
    server.run("scope rm lab")?;
    server.end()
}

#[test]
fn a_writer_whose_server_is_killed_again_and_again_writes_each_event_once() -> Result<()> {
    let dir = TempDir::new()?;
    let dir = dir.path().join("streams");
    let mut server = Server::start(&dir)?;
    server.run("scope create lab")?;
    server.run("create lab/events --segments 2")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let address = format!("tcp://{}", server.controller);
    let client = runtime.block_on(async { Client::new(Config::new(address.parse()?)) })?;
    let name = "lab/events".parse()?;
    let (n_kills, n_events) = (5, 400);
    let writer = runtime.block_on(EventWriter::open(&client, name))?;
    let mut receipts = Vec::new();
    for kill in 0..n_kills {
        for n in 0..n_events {
            let (key, event) = ((n % 7).to_string(), format!("{kill} {n}"));
            let written = runtime.block_on(writer.write(&key, event.into()));
            receipts.push(written?);
        }
        // Some are acknowledged, and some are under way.
        let half = receipts.split_off(receipts.len() / 2);
        for receipt in std::mem::replace(&mut receipts, half) {
            runtime.block_on(receipt.wait())?;
        }
        server = server.killed_and_started(&dir)?;
    }
    runtime.block_on(writer.flush())?;
    let name = "lab/events".parse()?;
    let mut events: Vec<Vec<String>> = vec![Vec::new(); 7];
    runtime.block_on(async {
        let mut reader = StreamReader::open(&client, &name, Until::Tail).await?;
        while let Some(event) = reader.next().await? {
            let text = String::from_utf8(event.data.to_vec())?;
            let (_, n) = text.split_once(' ').context("an event")?;
            events[n.parse::<usize>()? % 7].push(text);
        }
        Ok::<(), anyhow::Error>(())
    })?;
    for (key, found) in events.iter().enumerate() {
        let all = (0..n_kills).flat_map(|kill| (0..n_events).map(move |n| (kill, n)));
        let of_key = all.filter(|(_, n)| n % 7 == key);
        let wanted: Vec<_> = of_key.map(|(kill, n)| format!("{kill} {n}")).collect();
        ensure!(*found == wanted, "the events of key {key} are others");
    }
    server.end()
}
