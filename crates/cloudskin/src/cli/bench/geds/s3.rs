//! As much of a client of S3 as reads objects with one connection, and does not stand in the way of what it measures.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, ensure};
use ring::{digest, hmac};

use super::data::KIB;
use super::network::sum_from;

const BUFFER_BYTES: usize = 256 * KIB;
/// What the body is, of which requests here have none.
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who asks.
pub(super) struct Keys {
    access_key: String,
    secret: String,
}

impl Keys {
    /// From a file as S3 clients have it.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let value = |name: &str| {
            let mut values = text.lines().filter_map(|line| line.split_once('='));
            let found = values.find_map(|(key, value)| (key.trim() == name).then_some(value));
            let found = found.with_context(|| format!("find {name} in {}", path.display()))?;
            anyhow::Ok(found.trim().to_owned())
        };
        Ok(Self {
            access_key: value("aws_access_key_id")?,
            secret: value("aws_secret_access_key")?,
        })
    }

    /// The headers that sign a request without a body.
    fn sign(&self, host: &str, path: &str) -> anyhow::Result<String> {
        let now = date(rt::wall().duration_since(UNIX_EPOCH)?.as_secs());
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "GET\n{path}\n\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{now}\n\n{signed}\n{PAYLOAD}"
        );
        let scope = format!("{}/us-east-1/s3/aws4_request", &now[..8]);
        let canonical = digest::digest(&digest::SHA256, canonical.as_bytes());
        let text = format!(
            "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
            hex(canonical.as_ref())
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in scope.split('/').chain([&*text]) {
            let with = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&with, step.as_bytes()).as_ref().to_vec();
        }
        Ok(format!(
            "x-amz-content-sha256: {PAYLOAD}\r\nx-amz-date: {now}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential={}/{scope}, SignedHeaders={signed}, Signature={}\r\n",
            self.access_key,
            hex(&key)
        ))
    }
}

pub(super) struct Client {
    socket: TcpStream,
    host: String,
    /// `None`: everybody may read.
    keys: Option<Keys>,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn connect(addr: SocketAddr, keys: Option<Keys>) -> anyhow::Result<Self> {
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
            Some(keys) => keys.sign(&self.host, path)?,
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

/// As `20260102T030405Z`, of so many seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that is not always there is the last: see Hinnant, chrono-compatible low-level date algorithms.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
