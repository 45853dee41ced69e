//! As much of a client of S3 as a proof needs: one request a connection, and nothing is tried again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use store::Credentials;

use crate::bench::geds::s3::sign;

/// Longer nobody waits for a piece of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

pub(super) struct S3 {
    addr: SocketAddr,
    keys: Credentials,
}

pub(super) struct Response {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Vec<u8>,
}

pub(super) enum Failure {
    NotSent,
    /// It may have been done.
    Cut(String),
}

impl S3 {
    pub(super) fn new(addr: SocketAddr, keys: Credentials) -> Self {
        Self { addr, keys }
    }

    /// `target`: see [`sign`].
    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, Failure> {
        let socket = TcpStream::connect(self.addr).map_err(|_| Failure::NotSent)?;
        let exchanged = self.exchange(socket, (method, target), headers, body);
        exchanged.map_err(|error| Failure::Cut(format!("{error:#}")))
    }

    fn exchange(
        &self,
        mut socket: TcpStream,
        (method, target): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Response> {
        socket.set_read_timeout(Some(ANSWER_TIME))?;
        socket.set_write_timeout(Some(ANSWER_TIME))?;
        let host = self.addr.to_string();
        let signature = sign(&self.keys, &host, (method, target))?;
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{signature}");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes())?;
        // A server that refuses may not read all of it.
        socket.write_all(body).ok();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        understand(answer)
    }
}

/// What any HTTP server says of a path.
pub(in crate::prove) fn fetch(addr: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(ANSWER_TIME))?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let response = understand(answer)?;
    ensure!(response.status == 200, "GET {path}: {}", response.status);
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

fn understand(mut answer: Vec<u8>) -> anyhow::Result<Response> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(end.context("an answer has a head")? + 4);
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let header = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let status = head.split(' ').nth(1).context("an answer has a status")?;
    let body = match header("content-length") {
        Some(len) => {
            let len: usize = len.trim().parse()?;
            ensure!(body.len() == len, "{} bytes of {len}", body.len());
            body
        }
        None if header("transfer-encoding").is_some() => whole(&body)?,
        None => body,
    };
    Ok(Response {
        status: status.parse()?,
        etag: header("etag").map(|etag| etag.trim().trim_matches('"').to_owned()),
        body,
    })
}

/// Of a body that comes in chunks.
fn whole(mut bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n");
        let (size, rest) = bytes.split_at(end.context("a chunk has a size")?);
        let size = usize::from_str_radix(std::str::from_utf8(size)?, 16)?;
        if size == 0 {
            return Ok(all);
        }
        let (chunk, rest) = rest[2..].split_at_checked(size).context("a chunk is cut")?;
        all.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n").context("a chunk has an end")?;
    }
}
