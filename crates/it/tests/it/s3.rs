//! A client of S3 that signs its requests, one connection each.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use it::DEADLINE;
use sha2::{Digest as _, Sha256};

#[derive(Debug)]
pub(crate) struct Client {
    addr: String,
    access_key: String,
    secret: String,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{}: {}", self.status, self.text());
        Ok(self)
    }
}

/// What any HTTP server answers.
pub(crate) fn fetch(addr: &str, path: &str) -> Result<Response> {
    exchange(
        addr,
        &format!("GET {path} HTTP/1.0\r\nhost: {addr}\r\n\r\n"),
        b"",
    )
}

impl Client {
    /// `credentials` as in the file that S3 clients read.
    pub(crate) fn new(url: &str, credentials: &str) -> Result<Self> {
        let value = |name: &str| {
            let mut lines = credentials.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
            let found = found.with_context(|| format!("no {name} in the credentials"))?;
            anyhow::Ok(found.trim().to_owned())
        };
        Ok(Self {
            addr: url
                .strip_prefix("http://")
                .context("plain HTTP")?
                .to_owned(),
            access_key: value("aws_access_key_id")?,
            secret: value("aws_secret_access_key")?,
        })
    }

    /// `HOST:PORT`
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    pub(crate) fn get(&self, target: &str) -> Result<Response> {
        self.send("GET", target, &[], b"")
    }

    pub(crate) fn put(&self, target: &str, body: &[u8]) -> Result<Response> {
        self.send("PUT", target, &[], body)
    }

    pub(crate) fn delete(&self, target: &str) -> Result<Response> {
        self.send("DELETE", target, &[], b"")
    }

    pub(crate) fn post(&self, target: &str, body: &[u8]) -> Result<Response> {
        self.send("POST", target, &[], body)
    }

    /// Sends the head of an upload, and half of what it is of.
    pub(crate) fn put_half(&self, target: &str, body: &[u8]) -> Result<TcpStream> {
        let head = self.head("PUT", target, &[], body)?;
        let mut socket = TcpStream::connect(&self.addr)?;
        socket.write_all(head.as_bytes())?;
        socket.write_all(&body[..body.len() / 2])?;
        Ok(socket)
    }

    /// What the end of the server may lose.
    pub(crate) fn put_ephemeral(&self, target: &str, body: &[u8]) -> Result<Response> {
        let class = ("x-cloudskin-acknowledgement", "ephemeral");
        self.send("PUT", target, &[class], body)
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        exchange(&self.addr, &self.head(method, target, more, body)?, body)
    }

    /// `target`: a path and perhaps a query, both encoded, the query in order and each name with `=`. `more` headers come after `x-amz-date` in the
    /// alphabet.
    fn head(
        &self,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Result<String> {
        let now = date(rt::wall().duration_since(UNIX_EPOCH)?);
        let day = now.split('T').next().context("a day")?;
        let digest = hex(&Sha256::digest(body));
        let mut headers = vec![
            ("host", &*self.addr),
            ("x-amz-content-sha256", &digest),
            ("x-amz-date", &now),
        ];
        headers.extend_from_slice(more);
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let signed = names.join(";");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut canonical = format!("{method}\n{path}\n{query}\n");
        for (name, value) in &headers {
            writeln!(canonical, "{name}:{value}")?;
        }
        write!(canonical, "\n{signed}\n{digest}")?;
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        let text = hex(&Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{text}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in scope.split('/').chain([&*text]) {
            key = hmac(&key, step.as_bytes())?;
        }
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        write!(
            head,
            "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.access_key,
            hex(&key),
            body.len()
        )?;
        Ok(head)
    }
}

fn exchange(addr: &str, head: &str, body: &[u8]) -> Result<Response> {
    let mut socket = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.write_all(head.as_bytes())?;
    // A server that refuses may not read all of it.
    socket.write_all(body).ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = answer.split_off(end.context("an answer has a head")? + 4);
    let head = String::from_utf8(answer)?.to_lowercase();
    let status = head.split(' ').nth(1).context("an answer has a status")?;
    Ok(Response {
        status: status.parse()?,
        body: if head.contains("\r\ntransfer-encoding: chunked\r\n") {
            unchunked(&body)?
        } else {
            body
        },
    })
}

fn unchunked(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n");
        let (size, rest) = bytes.split_at(end.context("a chunk has a size")?);
        let size = usize::from_str_radix(std::str::from_utf8(size)?, 16)?;
        if size == 0 {
            return Ok(all);
        }
        let Some((chunk, rest)) = rest[2..].split_at_checked(size) else {
            bail!("a chunk is cut");
        };
        all.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n").context("a chunk has an end")?;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    let mut block = [0; 64];
    let (begin, _) = block
        .split_at_mut_checked(key.len())
        .context("a short key")?;
    begin.copy_from_slice(key);
    let pad = |with: u8| Sha256::new().chain_update(block.map(|byte| byte ^ with));
    let inner = pad(0x36).chain_update(text).finalize();
    Ok(pad(0x5c).chain_update(inner).finalize().to_vec())
}

/// `20260101T000000Z`, of a time since 1970. From days to dates: the years begin in March.
fn date(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + later;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}
