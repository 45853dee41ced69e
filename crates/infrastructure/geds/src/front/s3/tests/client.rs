//! A client of S3 that signs its requests, one connection each.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub(in crate::front) struct Client {
    pub addr: SocketAddr,
    pub access_key: &'static str,
    pub secret: &'static str,
}

#[derive(Debug)]
pub(in crate::front) struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub(in crate::front) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(header, _)| header == name);
        named.next().map(|(_, value)| value.as_str())
    }

    pub(in crate::front) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// What is in the elements of a name, in the order of the document.
    pub(in crate::front) fn elements(&self, name: &str) -> Vec<&str> {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let rest = self.text().split(&begin).skip(1);
        rest.map(|rest| rest.split(&end).next().expect("an end"))
            .collect()
    }

    pub(in crate::front) fn element(&self, name: &str) -> &str {
        let elements = self.elements(name);
        elements
            .first()
            .unwrap_or_else(|| panic!("no {name} in {}", self.text()))
    }

    #[track_caller]
    pub(in crate::front) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    #[track_caller]
    pub(in crate::front) fn expect_error(self, status: u16, code: &str) {
        let response = self.expect(status);
        assert_eq!(response.element("Code"), code, "{}", response.text());
    }
}

impl Client {
    pub(in crate::front) async fn get(&self, target: &str) -> Response {
        self.send("GET", target, &[], b"").await
    }

    pub(in crate::front) async fn put(&self, target: &str, body: &[u8]) -> Response {
        self.send("PUT", target, &[], body).await
    }

    pub(in crate::front) async fn delete(&self, target: &str) -> Response {
        self.send("DELETE", target, &[], b"").await
    }

    /// `target`: a path and perhaps a query, both encoded, the query in order and each name with `=`.
    pub(in crate::front) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let head = self.head(method, target, headers, body.len());
        let mut socket = TcpStream::connect(self.addr).await.expect("a server");
        socket
            .write_all(head.as_bytes())
            .await
            .expect("write a head");
        // A server that refuses may not read all of it.
        socket.write_all(body).await.ok();
        read(socket, method).await
    }

    /// All that comes before the body.
    pub(in crate::front) fn head(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        length: usize,
    ) -> String {
        let now = date(rt::wall());
        let day = &now[..8];
        let host = self.addr.to_string();
        let mut all = vec![
            ("host", host.as_str()),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("x-amz-date", &now),
        ];
        all.extend_from_slice(headers);
        all.sort_unstable();
        let signed = all
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(";");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut canonical = format!("{method}\n{path}\n{query}\n");
        for (name, value) in &all {
            writeln!(canonical, "{name}:{value}").expect("memory takes all");
        }
        write!(canonical, "\n{signed}\nUNSIGNED-PAYLOAD").expect("memory takes all");
        let scope = format!("{day}/local/s3/aws4_request");
        let digest = hex(&Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in [day, "local", "s3", "aws4_request"] {
            key = hmac(&key, step.as_bytes());
        }
        let signature = hex(&hmac(&key, text.as_bytes()));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &all {
            write!(head, "{name}: {value}\r\n").expect("memory takes all");
        }
        let key = self.access_key;
        write!(
            head,
            "authorization: AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, \
             Signature={signature}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
        .expect("memory takes all");
        head
    }
}

async fn read(mut socket: TcpStream, method: &str) -> Response {
    let mut bytes = Vec::new();
    socket
        .read_to_end(&mut bytes)
        .await
        .expect("read an answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {}", String::from_utf8_lossy(&bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    };
    let mut response = Response {
        status: status.expect("a status").parse().expect("a number"),
        headers: lines.map(header).collect(),
        body: bytes[end + 4..].to_vec(),
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunked(&response.body);
    } else if let Some(length) = response.header("content-length")
        && method != "HEAD"
    {
        let length: usize = length.parse().expect("a number");
        assert_eq!(response.body.len(), length, "all of it comes");
    }
    response
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n");
        let (size, rest) = bytes.split_at(end.expect("a size"));
        let size = std::str::from_utf8(size).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return all;
        }
        all.extend_from_slice(&rest[2..2 + size]);
        bytes = &rest[2 + size + 2..];
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner);
    outer.finalize().to_vec()
}

/// `20260101T000000Z`. From days to dates: the years begin in March.
fn date(time: std::time::SystemTime) -> String {
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .expect("it is later");
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
