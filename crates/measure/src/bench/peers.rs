//! Programs of others that do the same, if they are here: Redis, Ray's Plasma, s3s-fs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::Setting;
use super::process::Running;
use super::side::Side;

/// Looks for a program in PATH, and then where `./x bench` and its user put what is needed for this only.
fn find(setting: &Setting<'_>, program: &str) -> anyhow::Result<Option<PathBuf>> {
    Ok(all(setting, program)?.into_iter().next())
}

/// All programs of that name.
pub(super) fn all(setting: &Setting<'_>, program: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dirs = std::env::split_paths(&setting.config.path);
    let homes = homes(setting)?.map(|home| home.join("bin"));
    let paths = dirs.chain(homes).map(|dir| dir.join(program));
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// For programs that nothing else on the machine needs: of the user, and of the repository whose program this is.
pub(super) fn homes(setting: &Setting<'_>) -> anyhow::Result<[PathBuf; 2]> {
    let of_user = setting.config.cache_dir.join("peers");
    let program = std::env::current_exe().context("find this program")?;
    Ok([of_user, program.with_file_name("../tools")])
}

/// One that nobody has now. Others may take it before it is used; then what was to have it ends, and says so.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// A server, and a client for each way to it.
pub(super) struct Redis {
    pub addr: SocketAddr,
    pub unix: RedisClient<UnixStream>,
    pub tcp: RedisClient<TcpStream>,
    server: Running,
}

impl Redis {
    /// One that keeps nothing on the disk.
    pub(super) fn start(setting: &Setting<'_>) -> anyhow::Result<Self> {
        Self::start_with(setting, &["--appendonly", "no"])
    }

    /// One that answers when what it was given is synced.
    pub(super) fn start_synced(setting: &Setting<'_>) -> anyhow::Result<Self> {
        Self::start_with(setting, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn start_with(setting: &Setting<'_>, durability: &[&str]) -> anyhow::Result<Self> {
        // In Debian's redis-tools it has another name, by which it checks files instead.
        let found = match find(setting, "redis-server")? {
            None => find(setting, "redis-check-rdb")?,
            found => found,
        };
        let program = found.context("redis-server is missing: `apt-get install redis-tools`")?;
        let socket = setting.dir.join("redis");
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .arg0("redis-server")
            .args(["--save", "", "--bind", "127.0.0.1"])
            .args(durability)
            .args(["--port", &port.to_string(), "--unixsocket"])
            .arg(&socket)
            .current_dir(setting.dir);
        let mut server = Running::start(&mut command)?;
        let unix = server.wait_for(|| UnixStream::connect(&socket))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tcp = server.wait_for(|| TcpStream::connect(addr))?;
        tcp.set_nodelay(true)?;
        Ok(Self {
            addr,
            unix: RedisClient::new(unix),
            tcp: RedisClient::new(tcp),
            server,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }
}

/// As little as a client can be.
pub(super) struct RedisClient<S> {
    socket: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> RedisClient<S> {
    /// The length of a value, and what surrounds it, at most.
    const FRAME_BYTES: usize = 32;

    fn new(socket: S) -> Self {
        let buffer = Vec::new();
        Self { socket, buffer }
    }

    pub(super) fn set(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let n = key.len();
        let head = format!("*3\r\n$3\r\nSET\r\n${n}\r\n{key}\r\n${}\r\n", value.len());
        self.socket.write_all(head.as_bytes())?;
        self.socket.write_all(value)?;
        self.socket.write_all(b"\r\n")?;
        let mut answer = [0; 5];
        self.socket.read_exact(&mut answer)?;
        ensure!(answer == *b"+OK\r\n", "Redis does not take a value");
        Ok(())
    }

    /// A value of so many bytes.
    pub(super) fn get(&mut self, key: &str, bytes: usize) -> anyhow::Result<&[u8]> {
        let n = key.len();
        let request = format!("*2\r\n$3\r\nGET\r\n${n}\r\n{key}\r\n");
        self.socket.write_all(request.as_bytes())?;
        self.buffer.resize(bytes + Self::FRAME_BYTES, 0);
        let head = format!("${bytes}\r\n");
        let end = head.len() + bytes + 2;
        let mut filled = 0;
        while filled < end {
            let n = self.socket.read(&mut self.buffer[filled..end])?;
            ensure!(n > 0, "Redis has closed the connection");
            filled += n;
            let known = filled.min(head.len());
            ensure!(
                self.buffer[..known] == head.as_bytes()[..known],
                "Redis has another value"
            );
        }
        Ok(&self.buffer[head.len()..end - 2])
    }
}

/// A program in Python that has the same bytes in Ray's object store, and reads them.
pub(super) struct Plasma {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Batch {
    ns: Vec<u64>,
    cpu_ns: u64,
    sum: u64,
}

impl Plasma {
    pub(super) fn start(
        setting: &Setting<'_>,
        contents: &[u8],
        bytes: usize,
    ) -> anyhow::Result<Self> {
        const PROGRAM: &str = include_str!("plasma.py");
        let venvs = homes(setting)?.map(|home| home.join("ray"));
        let pythons = venvs.iter().map(|venv| venv.join("bin/python"));
        let found = pythons.into_iter().find(|python| python.exists());
        let python = found.unwrap_or_else(|| "python3".into());
        let path = setting.dir.join("contents");
        File::create(&path)?.write_all(contents)?;
        let mut command = Command::new(&python);
        command
            .args(["-c", PROGRAM])
            .arg(&path)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", python.display()))?;
        let stdin = child.stdin.take().expect("it was piped");
        let stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut plasma = Self {
            child,
            stdin,
            stdout,
        };
        let venv = venvs[0].display();
        let first = plasma.line().unwrap_or_default();
        ensure!(
            first.trim() == "ready",
            "Ray is missing: `python3 -m venv {venv} && {venv}/bin/pip install ray numpy`"
        );
        Ok(plasma)
    }

    /// Reads objects by their numbers; gives the sum of all.
    pub(super) fn read(&mut self, side: &mut Side, objects: &[usize]) -> anyhow::Result<u64> {
        writeln!(self.stdin, "{}", serde_json::to_string(objects)?)?;
        let batch: Batch = serde_json::from_str(&self.line()?).context("understand Python")?;
        let times = batch.ns.into_iter().map(Duration::from_nanos);
        side.times.extend(times);
        side.cpu += Duration::from_nanos(batch.cpu_ns);
        Ok(batch.sum)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let n = self.stdout.read_line(&mut line)?;
        ensure!(n > 0, "the program in Python has ended");
        Ok(line)
    }

    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let status = self.child.wait()?;
        ensure!(status.success(), "Ray has ended with {status}");
        Ok(())
    }
}

/// A server of S3 over a directory, without a signature on anything.
pub(super) struct S3sFs {
    pub addr: SocketAddr,
    server: Running,
}

impl S3sFs {
    /// Serves the directories in `root` as buckets.
    pub(super) fn start(setting: &Setting<'_>, root: &Path) -> anyhow::Result<Self> {
        let [home, _] = homes(setting)?;
        let found = find(setting, "s3s-fs")?.with_context(|| {
            let home = home.display();
            format!("s3s-fs is missing: `cargo install s3s-fs --features binary --root {home}`")
        })?;
        fs::create_dir_all(root)?;
        let port = free_port()?;
        let mut command = Command::new(found);
        command
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg(root);
        let mut server = Running::start(&mut command)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        server.wait_for(|| TcpStream::connect(addr))?;
        Ok(Self { addr, server })
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }
}
