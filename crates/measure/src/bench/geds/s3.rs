//! As much of a client of S3 as reads objects with one connection, and does not stand in the way of what it measures.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, ensure};
use ring::{digest, hmac};
use store::Credentials;

use super::data::KIB;
use super::network::sum_from;

const BUFFER_BYTES: usize = 256 * KIB;
/// What the body is, of which requests here have none.
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who asks, from a file as S3 clients have it.
pub(crate) fn keys(path: &Path) -> anyhow::Result<Credentials> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Credentials::parse(&text)?)
}

/// The headers that sign a request, whatever its body. `target`: a path and perhaps a query, both encoded, the query in order and each name with `=`.
pub(crate) fn sign(
    keys: &Credentials,
    host: &str,
    (method, target): (&str, &str),
) -> anyhow::Result<String> {
    let now = now()?;
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let canonical = format!(
        "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{now}\n\n{signed}\n{PAYLOAD}"
    );
    let scope = format!("{}/us-east-1/s3/aws4_request", &now[..8]);
    let canonical = digest::digest(&digest::SHA256, canonical.as_bytes());
    let text = format!(
        "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
        hex(canonical.as_ref())
    );
    let mut key = format!("AWS4{}", keys.secret.reveal()).into_bytes();
    for step in scope.split('/').chain([&*text]) {
        let with = hmac::Key::new(hmac::HMAC_SHA256, &key);
        key = hmac::sign(&with, step.as_bytes()).as_ref().to_vec();
    }
    Ok(format!(
        "x-amz-content-sha256: {PAYLOAD}\r\nx-amz-date: {now}\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential={}/{scope}, SignedHeaders={signed}, Signature={}\r\n",
        keys.access_key,
        hex(&key)
    ))
}

pub(super) struct Client {
    socket: TcpStream,
    host: String,
    /// `None`: everybody may read.
    keys: Option<Credentials>,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn connect(addr: SocketAddr, keys: Option<Credentials>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            host: addr.to_string(),
            keys,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Reads an object, and sums it as it comes.
    pub(super) fn sum(&mut self, path: &str) -> anyhow::Result<u64> {
        let signature = match &self.keys {
            Some(keys) => sign(keys, &self.host, ("GET", path))?,
            None => String::new(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n{signature}\r\n",
            self.host
        );
        self.socket.write_all(request.as_bytes())?;
        let (mut filled, mut seen) = (0, 0);
        let end = loop {
            ensure!(filled < self.buffer.len(), "the head of an answer is short");
            let n = self.socket.read(&mut self.buffer[filled..])?;
            ensure!(n > 0, "the server has closed");
            filled += n;
            let windows = self.buffer[seen..filled].windows(4);
            if let Some(end) = windows.into_iter().position(|four| four == b"\r\n\r\n") {
                break seen + end + 4;
            }
            seen = filled.saturating_sub(3);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        ensure!(
            head.starts_with("http/1.1 200 "),
            "GET {path}: {}",
            String::from_utf8_lossy(&self.buffer[..filled])
        );
        let mut lines = head.lines();
        let bytes = lines.find_map(|line| line.strip_prefix("content-length:"));
        let bytes = bytes
            .context("an answer says how long it is")?
            .trim()
            .parse()?;
        let first = self.buffer[end..filled].to_vec();
        sum_from(&mut self.socket, &mut self.buffer, &first, bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// As `20260102T030405Z`.
fn now() -> anyhow::Result<String> {
    let since_1970 = rt::wall().duration_since(UNIX_EPOCH)?;
    let time = ids::utc(u64::try_from(since_1970.as_millis())?);
    Ok(time.replace(' ', "T").replace(['-', ':'], "") + "Z")
}
