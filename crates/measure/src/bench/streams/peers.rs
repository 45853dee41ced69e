//! Programs of others that acknowledge what is synced: Redis, NATS, and Pravega's client in Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, str};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::load::{Ask, Lane, counted};
use super::server::Door;
use super::wire::PATIENCE;
use crate::bench::peers::{Redis, all, free_port, homes};
use crate::bench::process::Running;
use crate::bench::{Setting, data};

/// One that is running, and what counts its time.
pub(super) enum Peer {
    Redis(Redis),
    Nats(Nats),
}

impl Peer {
    pub(super) fn redis(setting: &Setting<'_>) -> anyhow::Result<Self> {
        Ok(Self::Redis(Redis::start_synced(setting)?))
    }

    pub(super) fn nats(setting: &Setting<'_>) -> anyhow::Result<Self> {
        Ok(Self::Nats(Nats::start(setting)?))
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Redis(redis) => redis.pid(),
            Self::Nats(nats) => nats.server.pid(),
        }
    }

    /// Appends events, so many at a time.
    pub(super) fn lane(&self, event_bytes: usize, n_events: usize) -> anyhow::Result<Lane> {
        let payload = data::random_bytes(event_bytes);
        match self {
            Self::Redis(redis) => redis_lane(redis.addr, &payload, n_events),
            Self::Nats(nats) => nats.lane(&payload, n_events),
        }
    }
}

fn redis_lane(addr: SocketAddr, payload: &[u8], n_events: usize) -> anyhow::Result<Lane> {
    let (send, mut lines) = connect(addr, {
        let head = format!(
            "*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nd\r\n${}\r\n",
            payload.len()
        );
        [head.as_bytes(), payload, b"\r\n"]
            .concat()
            .repeat(n_events)
    })?;
    Ok(counted(send, n_events as u64, move || {
        // An id, behind its length.
        let head = line(&mut lines)?;
        ensure!(head.starts_with('$'), "Redis says {head}");
        line(&mut lines)?;
        Ok(1)
    }))
}

fn line(lines: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut line = String::new();
    let n = lines.read_line(&mut line)?;
    ensure!(n > 0, "the server has closed the connection");
    Ok(line)
}

/// A connection on which the same bytes are sent again and again.
fn connect(addr: SocketAddr, bytes: Vec<u8>) -> anyhow::Result<(Ask, BufReader<TcpStream>)> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let lines = BufReader::new(socket.try_clone()?);
    let send: Ask = Box::new(move |_| Ok(socket.write_all(&bytes)?));
    Ok((send, lines))
}

/// A server with `JetStream` in files that are synced with each message.
pub(super) struct Nats {
    addr: SocketAddr,
    server: Running,
}

impl Nats {
    fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        let dir = setting.dir.join("nats");
        let port = free_port()?;
        let settings = setting.dir.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nping_interval: \"1h\"\n\
             jetstream {{ store_dir: {}, sync_interval: always }}\n",
            json!(dir.display().to_string())
        );
        fs::write(&settings, text)?;
        let program = Self::program(setting, &settings)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&settings).stderr(Stdio::null());
        let mut server = Running::start(&mut command)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        server.wait_for(|| TcpStream::connect(addr))?;
        let nats = Self { addr, server };
        nats.make_stream()?;
        Ok(nats)
    }

    /// One that can sync always: Debian 12's is too old.
    fn program(setting: &Setting<'_>, settings: &Path) -> anyhow::Result<PathBuf> {
        for program in all(setting, "nats-server")? {
            let mut check = Command::new(&program);
            check.arg("-t").arg("-c").arg(settings);
            let checked = check.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if checked.is_ok_and(|status| status.success()) {
                return Ok(program);
            }
        }
        let [home, _] = homes(setting)?;
        bail!(
            "a nats-server with `sync_interval: always` (2.10 or later) is missing: \
             `GOBIN={}/bin go install github.com/nats-io/nats-server/v2@v2.10.22`",
            home.display()
        )
    }

    fn make_stream(&self) -> anyhow::Result<()> {
        let (mut socket, mut lines) = self.connect()?;
        let config = json!({"name": "bench", "subjects": ["bench"], "storage": "file"}).to_string();
        let bytes = config.len();
        write!(
            socket,
            "PUB $JS.API.STREAM.CREATE.bench inbox {bytes}\r\n{config}\r\n"
        )?;
        let made = message(&mut lines)?;
        ensure!(!made.contains("\"error\""), "NATS says {made}");
        Ok(())
    }

    /// It hears what is sent to `inbox`.
    fn connect(&self) -> anyhow::Result<(TcpStream, BufReader<TcpStream>)> {
        let mut socket = TcpStream::connect(self.addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(socket.try_clone()?);
        let inbox = "inbox";
        write!(
            socket,
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\n"
        )?;
        Ok((socket, lines))
    }

    fn lane(&self, payload: &[u8], n_events: usize) -> anyhow::Result<Lane> {
        let (mut socket, mut lines) = self.connect()?;
        let head = format!("PUB bench inbox {}\r\n", payload.len());
        let bytes = [head.as_bytes(), payload, b"\r\n"]
            .concat()
            .repeat(n_events);
        let send: Ask = Box::new(move |_| Ok(socket.write_all(&bytes)?));
        Ok(counted(send, n_events as u64, move || {
            let told = message(&mut lines)?;
            ensure!(told.contains("\"seq\""), "NATS says {told}");
            Ok(1)
        }))
    }
}

/// What the next message says. The server asks once whether anybody is there, and need not be answered as long as a benchmark lasts.
fn message(lines: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    loop {
        let head = line(lines)?;
        if head.starts_with("-ERR") {
            bail!("NATS says {head}");
        }
        if head.starts_with("MSG") {
            return line(lines);
        }
    }
}

/// How long writes of Pravega's client in Python take, in seconds, each from when it was due.
pub(super) fn python(
    setting: &Setting<'_>,
    door: &Door,
    (n_times, every_s): (u64, f64),
) -> anyhow::Result<Vec<f64>> {
    const PROGRAM: &str = include_str!("ack.py");
    let [home, _] = homes(setting)?;
    let venv = home.join("pravega");
    let python = venv.join("bin/python");
    let venv = venv.display();
    ensure!(
        python.exists(),
        "Pravega's client is missing: `python3 -m venv {venv} && {venv}/bin/pip install pravega==0.3.8`"
    );
    let stream = door.stream(1)?;
    let endpoint = &door.controller.endpoint;
    let output = Command::new(python)
        .args(["-c", PROGRAM])
        .arg(format!("tcp://{}:{}", endpoint.host, endpoint.port))
        .args([stream.scope(), stream.stream()])
        .args([n_times.to_string(), every_s.to_string()])
        .stderr(Stdio::null())
        .output()
        .context("run Python")?;
    ensure!(
        output.status.success(),
        "Python has ended with {}",
        output.status
    );
    let text = str::from_utf8(&output.stdout)?;
    let last = text.lines().last().context("Python says something")?;
    serde_json::from_str(last).context("understand Python")
}
