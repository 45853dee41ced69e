//! Streams from outside: `streams serve` as an operator calls it, its commands, and a client whose server is killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
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
    rest: String,
    metrics: String,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        Self::start_at(dir, ["127.0.0.1:0"; 3])
    }

    fn start_at(dir: &Path, addresses: [&str; 3]) -> Result<Self> {
        Self::start_with(dir, addresses, &[])
    }

    fn start_with(
        dir: &Path,
        [controller, store, rest]: [&str; 3],
        options: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(it::cloudskin());
        command
            .args(["streams", "serve", "--json", "--dir"])
            .arg(dir);
        command.args(["--controller", controller, "--store", store]);
        command.args(["--rest", rest]).args(options);
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
            rest: address("rest")?,
            metrics: address("metrics")?,
            process,
        })
    }

    /// In the same place.
    fn killed_and_started(mut self, dir: &Path) -> Result<Self> {
        self.process.kill()?;
        self.process.finish()?;
        Self::start_at(dir, [&self.controller, &self.store, &self.rest])
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
    let listed = fetch(&server.rest, "/v1/scopes/lab/streams")?;
    let listed: Value = serde_json::from_str(&listed.expect(200)?.text())?;
    ensure!(listed["streams"][0]["tags"][0] == "camera", "{listed}");
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
fn a_transaction_is_read_when_it_is_committed() -> Result<()> {
    let dir = TempDir::new()?;
    let dir = dir.path().join("streams");
    let server = Server::start(&dir)?;
    server.run("scope create lab")?;
    server.run("create lab/video --segments 2")?;
    server.write("write lab/video --key a", "before\n")?;
    let id = server.run("txn begin lab/video")?;
    let id = id.trim_end();
    server.write(&format!("txn write lab/video {id} --key a"), "one\n")?;
    let server = server.killed_and_started(&dir)?;
    // Also when the stream is divided otherwise by then.
    server.run("scale lab/video 3")?;
    server.write(&format!("txn write lab/video {id} --key a"), "two\n")?;
    ensure!(server.run("read lab/video")? == "before\n", "it is open");
    ensure!(
        server.run(&format!("txn state lab/video {id}"))? == "open\n",
        "its state"
    );
    server.run(&format!("txn commit lab/video {id}"))?;
    ensure!(
        server.run("read lab/video")? == "before\none\ntwo\n",
        "it is committed"
    );
    let given_up: Value = serde_json::from_str(&server.run("txn begin lab/video --json")?)?;
    let given_up = given_up["id"].as_str().context("an id")?;
    server.write(
        &format!("txn write lab/video {given_up} --key a"),
        "three\n",
    )?;
    server.run(&format!("txn abort lab/video {given_up}"))?;
    ensure!(
        server.run("read lab/video")? == "before\none\ntwo\n",
        "it is aborted"
    );
    let ended: Value = serde_json::from_str(&server.run("txn ls lab/video --json")?)?;
    let ids = [&ended[0]["id"], &ended[1]["id"]];
    ensure!(
        ids == [given_up, id] && ended[1]["state"] == "committed",
        "{ended}"
    );
    for words in [
        format!("txn write lab/video {id} /dev/null"),
        "txn write lab/video x".into(),
    ] {
        let refused = Process::start(&mut server.command(&words))?.finish()?;
        ensure!(refused.code != Some(0), "{words}: {refused:?}");
    }
    server.end()
}

/// What a command says that needs no server, and its status.
fn offline(words: &str, path: &Path) -> Result<(i32, String)> {
    let mut command = Command::new(it::cloudskin());
    command
        .arg("streams")
        .args(words.split_whitespace())
        .arg(path);
    let ended = Process::start(&mut command)?.finish()?;
    let code = ended.code.with_context(|| format!("{ended:?}"))?;
    Ok((code, ended.stdout))
}

/// The largest file below that has this in its path.
fn largest(dir: &Path, part: &str) -> Result<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().to_string_lossy().contains(part) {
                files.push((entry.metadata()?.len(), entry.path()));
            }
        }
    }
    let (_, path) = files.into_iter().max().context("a file")?;
    Ok(path)
}

/// Until something is in long-term storage.
fn wait_for_chunks(server: &Server) -> Result<()> {
    for _ in 0..10_000 {
        let told = fetch(&server.metrics, "/metrics")?.expect(200)?.text();
        if !told.lines().any(|line| line == "streams_chunks 0") {
            return Ok(());
        }
    }
    bail!("nothing goes to long-term storage")
}

#[test]
fn what_has_changed_on_the_disk_is_found() -> Result<()> {
    let temp = TempDir::new()?;
    let (dir, settings) = (
        temp.path().join("streams"),
        temp.path().join("streams.yaml"),
    );
    let eager = "segments: {tiering: {flush_bytes: 1, flush_after: 1ms}}\n";
    std::fs::write(&settings, eager)?;
    let settings = settings.to_string_lossy();
    let server = Server::start_with(&dir, ["127.0.0.1:0"; 3], &["--config", &settings])?;
    server.run("scope create lab")?;
    server.run("create lab/video --segments 2")?;
    let lines: String = (0..5_000).map(|n| format!("event {n}\n")).collect();
    server.write("write lab/video --key a", &lines)?;
    server.run("scale lab/video 3")?;
    server.write("write lab/video --key a", &lines)?;
    wait_for_chunks(&server)?;
    // It may say that a server runs, and harms none.
    offline("check --dir", &dir)?;
    ensure!(
        server.run("read lab/video")?.lines().count() == 10_000,
        "the events"
    );
    server.end()?;
    let (code, said) = offline("check --dir", &dir)?;
    ensure!(
        (code, &*said) == (0, "all is as it was written\n"),
        "{code}: {said}"
    );
    for (words, part, told) in [
        ("dump log --json", "/log/", "\"op\":\"appended\""),
        ("dump log", "/log/", "op created"),
        (
            "dump checkpoint --json",
            "/containers/0/",
            "\"piece\":\"segment\"",
        ),
        ("dump chunk", "/lts/streams-", "checksum right"),
    ] {
        let path = largest(&dir, part)?;
        let (code, said) = offline(words, &path)?;
        ensure!(
            code == 0 && said.contains(told),
            "{words} of {}: {code}: {said}",
            path.display()
        );
    }
    for part in ["/containers/0/", "/lts/streams-", "/manifest/"] {
        let path = largest(&dir, part)?;
        let bytes = std::fs::read(&path)?;
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 4;
        std::fs::write(&path, changed)?;
        let (code, said) = offline("check --json --dir", &dir)?;
        let first: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
        ensure!(
            code == 1 && first["finding"].is_string(),
            "{part}: {code}: {said}"
        );
        std::fs::write(&path, bytes)?;
    }
    let (code, said) = offline("check --json --dir", &dir)?;
    ensure!(
        (code, &*said) == (0, "{\"findings\":0}\n"),
        "{code}: {said}"
    );
    let (code, _) = offline("check --dir", temp.path())?;
    ensure!(code == 1, "it is no directory of a server");
    Ok(())
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
