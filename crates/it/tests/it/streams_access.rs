//! Streams with TLS, passwords and tokens, from outside: who may does, who may not does not, and tokens are replaced while a writer writes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use it::{Ended, Process};
use serde_json::Value;
use streams_client::client::Config;
use streams_client::controller::{Credentials, trust};
use streams_client::reader::Until;
use streams_client::{Client, EventWriter, StreamReader};
use tempfile::TempDir;

/// What an operator has prepared.
struct Files {
    dir: TempDir,
}

/// A running server.
struct Server {
    process: Process,
    controller: String,
    ca: PathBuf,
    dir: PathBuf,
}

impl Files {
    /// Two users, `admin` and `reader`, and a certificate for `localhost`.
    fn new() -> Result<Self> {
        let files = Self {
            dir: TempDir::new()?,
        };
        let issuer = auth::Authority::new()?;
        let key = auth::KeyRequest::new()?;
        let certificate = issuer.sign("localhost", &key.public_key())?;
        let of_key = auth::pem(&key.key()).replace("CERTIFICATE", "PRIVATE KEY");
        files.write("ca.pem", &auth::pem(issuer.certificate()))?;
        files.write("server.pem", &auth::pem(&certificate))?;
        files.write("server.key", &of_key)?;
        let admin = password("admin", "1111_aaaa", &["prn::*,READ_UPDATE"])?;
        let rules = [
            "prn::/,READ",
            "prn::/scope:lab,READ",
            "prn::/scope:lab/*,READ",
        ];
        let reader = password("reader", "2222_bbbb", &rules)?;
        files.write("passwd", &format!("# users\n{admin}{reader}"))?;
        files.write("admin", "admin 1111_aaaa\n")?;
        files.write("reader", "reader 2222_bbbb\n")?;
        files.write("wrong", "admin 2222_bbbb\n")?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    fn start(&self, settings: &Path) -> Result<Server> {
        let mut command = Command::new(it::cloudskin());
        command.current_dir(self.dir.path());
        command.args(["streams", "serve", "--json", "--dir", "streams"]);
        let any = "127.0.0.1:0";
        command.args(["--controller", any, "--store", any, "--rest", any]);
        command.arg("--config").arg(settings);
        let process = Process::start(&mut command)?;
        let said = process.wait_until("the server", |output| output.stdout.ends_with('\n'))?;
        let ready: Value = serde_json::from_str(&said.stdout)?;
        let controller = ready["controller"].as_str().context("an address")?;
        let (_, port) = controller.rsplit_once(':').context("a port")?;
        Ok(Server {
            controller: format!("tls://localhost:{port}"),
            ca: self.path("ca.pem"),
            dir: self.dir.path().to_owned(),
            process,
        })
    }
}

/// A line for a file of users.
fn password(user: &str, password: &str, rules: &[&str]) -> Result<String> {
    let mut command = Command::new(it::cloudskin());
    command.args(["streams", "password", user]);
    for rule in rules {
        command.args(["--allow", rule]);
    }
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("it was piped")?;
    writeln!(stdin, "{password}")?;
    drop(stdin);
    let ended = child.wait_with_output()?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(String::from_utf8(ended.stdout)?)
}

impl Server {
    fn command(&self, user: &str, words: &str) -> Command {
        let mut command = Command::new(it::cloudskin());
        command.arg("streams").args(words.split_whitespace());
        command.args(["--controller", &self.controller]);
        command.arg("--ca").arg(&self.ca);
        command.arg("--credentials").arg(self.dir.join(user));
        command
    }

    fn ended(&self, user: &str, words: &str) -> Result<Ended> {
        Ok(Process::start(&mut self.command(user, words))?.finish()?)
    }

    /// What a command says that ends well.
    fn run(&self, user: &str, words: &str) -> Result<String> {
        let ended = self.ended(user, words)?;
        ensure!(ended.code == Some(0), "{user}: streams {words}: {ended:?}");
        Ok(ended.stdout)
    }

    fn refuses(&self, user: &str, words: &str) -> Result<()> {
        let ended = self.ended(user, words)?;
        let is_refused = ended.code == Some(1) && ended.stderr.contains("not allowed");
        ensure!(is_refused, "{user}: streams {words}: {ended:?}");
        Ok(())
    }

    fn write(&self, user: &str, words: &str, lines: &str) -> Result<bool> {
        let mut command = self.command(user, words);
        let command = command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("it was piped")?;
        // Who is refused does not read it all.
        stdin.write_all(lines.as_bytes()).ok();
        drop(stdin);
        Ok(child.wait()?.success())
    }

    fn end(self) -> Result<Ended> {
        it::signal(u64::from(self.process.id()), "TERM")?;
        let ended = self.process.finish()?;
        ensure!(ended.code == Some(0), "{ended:?}");
        for secret in ["1111_aaaa", "2222_bbbb", "eyJ"] {
            ensure!(
                !ended.stderr.contains(secret),
                "a secret is said: {ended:?}"
            );
        }
        Ok(ended)
    }
}

const SETTINGS: &str = "
tls:
  certificate: server.pem
  key: server.key
auth:
  passwords: passwd
  token_ttl: 1s
";

#[test]
fn users_do_what_they_may_and_nothing_else() -> Result<()> {
    let files = Files::new()?;
    files.write("settings.yaml", SETTINGS)?;
    let server = files.start(Path::new("settings.yaml"))?;
    server.run("admin", "scope create lab")?;
    server.run("admin", "create lab/video --segments 2")?;
    ensure!(server.write("admin", "write lab/video --key a", "one\ntwo\n")?);
    for user in ["admin", "reader"] {
        let read = server.run(user, "read lab/video")?;
        ensure!(read == "one\ntwo\n", "{user}: {read}");
    }
    ensure!(server.run("reader", "ls lab")? == "video\n", "the streams");
    server.run("reader", "info lab/video")?;
    ensure!(!server.write("reader", "write lab/video", "three\n")?);
    for words in [
        "scope create other",
        "create lab/other",
        "seal lab/video",
        "scale lab/video 3",
    ] {
        server.refuses("reader", words)?;
        server.refuses("wrong", words)?;
    }
    server.refuses("wrong", "read lab/video")?;
    let mut stranger = Command::new(it::cloudskin());
    stranger.args(["streams", "scope", "ls", "--controller", &server.controller]);
    stranger.arg("--ca").arg(&server.ca);
    let ended = Process::start(&mut stranger)?.finish()?;
    ensure!(ended.code == Some(1), "who says nothing: {ended:?}");
    ensure!(
        server.run("admin", "read lab/video")? == "one\ntwo\n",
        "all"
    );
    let ended = server.end()?;
    let is_calm = !ended.stderr.contains("WARN") && !ended.stderr.contains("ERROR");
    ensure!(is_calm, "{ended:?}");
    Ok(())
}

#[test]
fn a_writer_and_a_reader_go_on_when_their_tokens_end() -> Result<()> {
    let files = Files::new()?;
    files.write("settings.yaml", SETTINGS)?;
    let server = files.start(Path::new("settings.yaml"))?;
    server.run("admin", "scope create lab")?;
    server.run("admin", "create lab/events")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut config = Config::new(server.controller.parse()?);
    config.tls = Some(Arc::new(trust(&fs::read(&server.ca)?)?));
    config.credentials = Some(Credentials::Basic {
        user: "admin".to_owned(),
        password: "1111_aaaa".to_owned(),
    });
    let client = runtime.block_on(async { Client::new(config) })?;
    runtime.block_on(async {
        let name: streams_client::names::StreamName = "lab/events".parse()?;
        let writer = EventWriter::open(&client, name.clone()).await?;
        let mut reader = StreamReader::open(&client, &name, Until::Sealed).await?;
        let began = rt::now();
        let mut n_written = 0;
        // A token is good for a second at most.
        while began.elapsed() < Duration::from_secs(4) {
            let event = n_written.to_string();
            writer
                .write("key", event.clone().into())
                .await?
                .wait()
                .await?;
            let found = reader.next().await?.context("an event")?;
            ensure!(found.data == event, "{found:?}");
            n_written += 1;
        }
        ensure!(n_written > 10, "{n_written}");
        Ok::<(), anyhow::Error>(())
    })?;
    server.end()?;
    Ok(())
}

/// As the tests of upstream's client in Rust write it.
#[test]
fn the_settings_of_upstream_are_taken() -> Result<()> {
    let files = Files::new()?;
    let properties = "
singlenode.security.auth.enable=true
singlenode.security.auth.pwdAuthHandler.accountsDb.location=./passwd
singlenode.security.auth.credentials.username=admin
singlenode.security.auth.credentials.pwd=1111_aaaa
singlenode.security.tls.enable=true
singlenode.security.tls.privateKey.location=./server.key
singlenode.security.tls.certificate.location=./server.pem
singlenode.security.tls.trustStore.location=./client.truststore.jks
";
    files.write("standalone-config.properties", properties)?;
    let server = files.start(Path::new("standalone-config.properties"))?;
    server.run("admin", "scope create lab")?;
    server.refuses("reader", "create lab/video")?;
    server.run("admin", "create lab/video")?;
    ensure!(server.write("admin", "write lab/video", "one\n")?);
    ensure!(
        server.run("reader", "read lab/video")? == "one\n",
        "the event"
    );
    let ended = server.end()?;
    let warned = ended.stderr.matches("this property means nothing here");
    ensure!(warned.count() == 1, "{ended:?}");
    ensure!(
        ended.stderr.contains("tls.trustStore.location"),
        "{ended:?}"
    );
    Ok(())
}
