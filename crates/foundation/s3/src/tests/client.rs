//! A client that signs as the documentation of S3 says, and then sends what it is told.

use std::net::SocketAddr;

use s3s::dto::{Timestamp, TimestampFormat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::checksum::sha256;
use crate::signing::hmac;
use crate::text::hex;

pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const SCOPE_END: &str = "anywhere/s3/aws4_request";

#[derive(Clone)]
pub(super) struct Client {
    pub addr: SocketAddr,
    pub access_key: &'static str,
    pub secret: &'static str,
}

pub(super) struct Call<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// As it is sent, in order.
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// What `x-amz-content-sha256` is to say.
    pub payload: &'a str,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'a str, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: "",
            headers: &[],
            payload: UNSIGNED,
        }
    }
}

/// The head of a request, and what its chunks are signed with.
pub(super) struct Head {
    pub text: String,
    pub chunks: ChunkSigner,
}

pub(super) struct ChunkSigner {
    key: [u8; 32],
    date: String,
    previous: String,
}

impl ChunkSigner {
    fn sign(&mut self, kind: &str, rest: &str) -> String {
        let (date, day) = (&self.date, &self.date[..8]);
        let text = format!(
            "AWS4-HMAC-SHA256-{kind}\n{date}\n{day}/{SCOPE_END}\n{}\n{rest}",
            self.previous
        );
        self.previous = hex(&hmac(&self.key, text.as_bytes()));
        self.previous.clone()
    }

    pub(super) fn chunk(&mut self, data: &[u8]) -> Vec<u8> {
        let rest = format!("{}\n{}", hex(&sha256(b"")), hex(&sha256(data)));
        let signature = self.sign("PAYLOAD", &rest);
        let head = format!("{:x};chunk-signature={signature}\r\n", data.len());
        let end: &[u8] = if data.is_empty() { b"" } else { b"\r\n" };
        [head.as_bytes(), data, end].concat()
    }

    pub(super) fn trailer(&mut self, name: &str, value: &str) -> Vec<u8> {
        let digest = hex(&sha256(format!("{name}:{value}\n").as_bytes()));
        let signature = self.sign("TRAILER", &digest);
        format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into_bytes()
    }
}

pub(super) struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// S3's name for what is wrong, or the status.
    pub(super) fn code(&self) -> String {
        let text = self.text();
        let code = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map_or_else(|| self.status.to_string(), |(code, _)| code.to_owned())
    }
}

impl Client {
    pub(super) fn head(&self, call: &Call<'_>) -> Head {
        let mut time = Vec::new();
        let written = Timestamp::from(rt::wall()).format(TimestampFormat::DateTime, &mut time);
        written.expect("a date");
        let time = String::from_utf8(time)
            .expect("text")
            .replace(['-', ':'], "");
        let date = format!("{}Z", time.split('.').next().expect("there is a first"));
        let day = &date[..8];
        let host = self.addr.to_string();
        let mut headers = vec![
            ("host", host.as_str()),
            ("x-amz-content-sha256", call.payload),
            ("x-amz-date", &date),
        ];
        for (name, value) in call.headers {
            headers.retain(|(other, _)| other != name);
            headers.push((name, value));
        }
        headers.sort_unstable();
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let mut query: Vec<_> = call
            .query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .collect();
        query.sort_unstable();
        let query = query.iter().map(|pair| {
            if pair.contains('=') {
                (*pair).to_owned()
            } else {
                format!("{pair}=")
            }
        });
        let query = query.collect::<Vec<_>>().join("&");
        let (method, path, payload) = (call.method, call.path, call.payload);
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in std::iter::once(day).chain(SCOPE_END.split('/')) {
            key = hmac(&key, step.as_bytes()).to_vec();
        }
        let key = <[u8; 32]>::try_from(key).expect("32 bytes");
        let digest = hex(&sha256(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{SCOPE_END}\n{digest}");
        let signature = hex(&hmac(&key, text.as_bytes()));
        let mark = if call.query.is_empty() { "" } else { "?" };
        let mut text = format!(
            "{method} {path}{mark}{} HTTP/1.1\r\nConnection: close\r\n",
            call.query
        );
        for (name, value) in &headers {
            text += &format!("{name}: {value}\r\n");
        }
        let credential = format!("{}/{day}/{SCOPE_END}", self.access_key);
        text += &format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}\r\n\r\n"
        );
        Head {
            text,
            chunks: ChunkSigner {
                key,
                date: date.clone(),
                previous: signature,
            },
        }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr)
            .await
            .expect("the server listens")
    }

    /// Sends these bytes and no more, and reads what comes.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        // Who is refused may find the connection closed before all is sent.
        stream.write_all(bytes).await.ok();
        stream.shutdown().await.ok();
        read(&mut stream).await
    }

    /// A request with all of its body.
    pub(super) async fn call(&self, call: Call<'_>, body: &[u8]) -> Reply {
        let length = body.len().to_string();
        let mut headers = call.headers.to_vec();
        headers.push(("content-length", &length));
        let head = self.head(&Call {
            headers: &headers,
            ..call
        });
        self.exchange(&[head.text.as_bytes(), body].concat()).await
    }

    pub(super) async fn put(&self, path: &str, body: &[u8]) -> Reply {
        self.call(Call::new("PUT", path), body).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Call::new("GET", path), b"").await
    }
}

/// To the end of the connection.
pub(super) async fn read(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection may be reset after the answer.
    stream.read_to_end(&mut bytes).await.ok();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Reply {
            status: 0,
            head: String::new(),
            body: bytes,
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Reply {
        status: status.expect("a status"),
        body: bytes.split_off(end + 4),
        head,
    }
}
