//! Servers of streams to measure: ours, in a process of its own, and another one that is running.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use platform::servers::Ready;
use serde_json::{Value, json};
use streams_client::Client;
use streams_client::client::Config as ClientConfig;
use streams_client::controller::{Address, Scaling, StreamConfig};
use streams_client::names::StreamName;
use tokio::runtime::Runtime;

use super::Peer;

const SCOPE: &str = "bench";

/// Nothing goes to long-term storage as long as a benchmark lasts.
pub(super) fn no_tiering() -> Value {
    json!({"flush_bytes": "1024Gi", "flush_after": "10h"})
}

/// Who can be asked for streams.
pub(super) struct Door {
    pub client: Client,
    pub controller: Address,
    /// Of the process whose time counts.
    pub pid: Option<u32>,
    // After what runs in it.
    pub runtime: Runtime,
}

/// Where a segment is, and what it is called there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub store: String,
    pub segment: String,
}

impl Door {
    fn new(controller: Address, pid: Option<u32>) -> anyhow::Result<Self> {
        let runtime = rt::runtime()?;
        let within = runtime.enter();
        let client = Client::new(ClientConfig::new(controller.clone()))?;
        drop(within);
        Ok(Self {
            client,
            controller,
            pid,
            runtime,
        })
    }

    /// Another server, in which the scope may be already.
    pub(super) fn of_peer(peer: &Peer) -> anyhow::Result<Self> {
        let door = Self::new(peer.controller.clone(), peer.pid)?;
        door.make_scope()?;
        Ok(door)
    }

    fn make_scope(&self) -> anyhow::Result<()> {
        let made = self
            .runtime
            .block_on(self.client.controller().create_scope(SCOPE));
        match made {
            Err(streams_client::Error::Exists(_)) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Makes a stream that nobody else has.
    pub(super) fn stream(&self, n_segments: i32) -> anyhow::Result<StreamName> {
        let name = StreamName::new(SCOPE, &format!("s{:016x}", rt::random_u64()))?;
        let config = StreamConfig {
            scaling: Scaling::Fixed { n_segments },
            ..StreamConfig::default()
        };
        let controller = self.client.controller();
        self.runtime
            .block_on(controller.create_stream(&name, &config))?;
        Ok(name)
    }

    pub(super) fn places(&self, stream: &StreamName) -> anyhow::Result<Vec<Place>> {
        let controller = self.client.controller();
        self.runtime.block_on(async {
            let mut places = Vec::new();
            for range in controller.current_segments(stream).await? {
                let segment = stream.segment(range.number);
                let at = controller.locate(&segment).await?;
                places.push(Place {
                    store: format!("{}:{}", at.host, at.port),
                    segment: segment.to_string(),
                });
            }
            Ok(places)
        })
    }

    /// A new stream of one segment.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        let stream = self.stream(1)?;
        let mut places = self.places(&stream)?;
        places.pop().context("a stream has a segment")
    }
}

/// Ours. It ends with this.
pub(super) struct Server {
    pub door: Door,
    pub ready: Ready,
    child: Child,
    /// What it was started with.
    command: Start,
}

#[derive(Clone, Debug)]
struct Start {
    dir: PathBuf,
    settings: PathBuf,
}

impl Server {
    /// With its long-term storage in its directory, if the settings name no other.
    pub(super) fn start(dir: &Path, settings: &Value) -> anyhow::Result<Self> {
        let mut settings = settings.clone();
        // Readers that wait see soon that nobody wants them any more.
        settings["store"]["read_wait"] = json!("1s");
        let command = Start {
            dir: dir.to_owned(),
            settings: dir.with_extension("json"),
        };
        fs::write(&command.settings, settings.to_string())?;
        let server = Self::spawn(command)?;
        server.door.make_scope()?;
        Ok(server)
    }

    fn spawn(command: Start) -> anyhow::Result<Self> {
        let mut child = command.run()?;
        let said = platform::first_line(&mut child, "a server of streams");
        let ready = said.and_then(|said| Ok(serde_json::from_str::<Ready>(&said)?));
        let door = ready.and_then(|ready| {
            let controller = format!("tcp://{}", ready.controller).parse()?;
            Ok((ready, Door::new(controller, Some(child.id()))?))
        });
        match door {
            Ok((ready, door)) => Ok(Self {
                door,
                ready,
                child,
                command,
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn store(&self) -> String {
        self.ready.store.to_string()
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.command.dir.join("log")
    }

    /// Kills it. How the next one is started.
    pub(super) fn kill(mut self) -> anyhow::Result<Killed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(Killed(self.command.clone()))
    }

    /// What it says of itself under that name, all labels together.
    pub(super) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let mut socket = TcpStream::connect(self.ready.metrics)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.filter(|rest| rest.starts_with([' ', '{']));
        let values: Vec<u64> = lines
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        anyhow::ensure!(!values.is_empty(), "the server does not tell {name}");
        Ok(values.iter().sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, or was killed. What it has is gone with the scratch directory.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// One that was killed, with what it had.
#[derive(Debug)]
pub(super) struct Killed(Start);

impl Killed {
    pub(super) fn start(self) -> anyhow::Result<Server> {
        Server::spawn(self.0)
    }
}

impl Start {
    fn run(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        let any = "127.0.0.1:0";
        command
            .args(["streams", "serve", "--json", "--with-parent"])
            .args([
                "--log",
                "warn",
                "--controller",
                any,
                "--store",
                any,
                "--rest",
                any,
            ])
            .arg("--dir")
            .arg(&self.dir)
            .arg("--config")
            .arg(&self.settings)
            // While it stands still, the end of the shell would end all of its group.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.spawn().context("start a server of streams")
    }
}
