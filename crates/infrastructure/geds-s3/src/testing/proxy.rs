//! A proxy between a client and a server of HTTP, which spoils one connection after the other as it is told.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The request is not passed on, and answered with 503.
    Busy,
    /// The connection ends after so many bytes of the answer.
    Cut(u64),
    /// After so many bytes of the answer nothing comes any more.
    Stall(u64),
    /// After so many bytes of the answer the server's half ends; the client's stays open.
    HalfClose(u64),
    /// The request is carried out, and its answer lost.
    Lose,
    /// The server does not hear of this header of a POST: that of other requests is signed.
    Deaf(&'static str),
}

#[derive(Debug)]
pub struct Proxy {
    pub addr: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    is_down: Arc<AtomicBool>,
    _task: rt::Task,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let faults = Arc::<Mutex<VecDeque<Fault>>>::default();
        let next = Arc::clone(&faults);
        let is_down = Arc::<AtomicBool>::default();
        let down = Arc::clone(&is_down);
        let addr = listener.local_addr().expect("an address");
        let task = rt::spawn("proxy", async move {
            let mut connections = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                if down.load(Ordering::SeqCst) {
                    continue;
                }
                let fault = lock(&next).pop_front().unwrap_or(Fault::None);
                connections.push(rt::spawn("proxied", async move {
                    // A broken connection is what this is for.
                    pass(client, server, fault).await.ok();
                }));
            }
        });
        Self {
            addr,
            faults,
            is_down,
            _task: task,
        }
    }

    /// Of the next connections. Those after them are not spoiled.
    pub fn spoil(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut queue = lock(&self.faults);
        assert!(
            queue.is_empty(),
            "there were fewer connections than faults: {queue:?}"
        );
        queue.extend(faults);
    }

    /// Nobody is answered until it is up again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    pub fn n_left(&self) -> usize {
        lock(&self.faults).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass(mut client: TcpStream, server: SocketAddr, fault: Fault) -> std::io::Result<()> {
    if fault == Fault::Busy {
        swallow(&mut client).await?;
        let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(answer).await?;
        return client.shutdown().await;
    }
    let server = TcpStream::connect(server).await?;
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let requests = async {
        if let Fault::Deaf(header) = fault {
            let head = head(&mut from_client).await?;
            let said = String::from_utf8_lossy(&head);
            let is_post = said.starts_with("POST");
            let header = if is_post { header } else { "none" };
            let heard = said.replace(&format!("\r\n{header}:"), "\r\nx-other:");
            to_server.write_all(heard.as_bytes()).await?;
        }
        copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let answers = async {
        match fault {
            Fault::None | Fault::Busy | Fault::Deaf(_) => {
                copy(&mut from_server, &mut to_client).await?;
                to_client.shutdown().await?;
            }
            Fault::Cut(n_bytes) => {
                copy(&mut from_server.take(n_bytes), &mut to_client).await?;
            }
            Fault::Stall(n_bytes) => {
                copy(&mut from_server.take(n_bytes), &mut to_client).await?;
                std::future::pending::<()>().await;
            }
            Fault::HalfClose(n_bytes) => {
                copy(&mut from_server.take(n_bytes), &mut to_client).await?;
                to_client.shutdown().await?;
                std::future::pending::<()>().await;
            }
            Fault::Lose => {
                from_server.read_u8().await?;
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever is over first ends the connection.
    tokio::select! {
        ended = answers => ended,
        ended = async { requests.await?; std::future::pending().await } => ended,
    }
}

/// A request to its end: one that is answered before would be cut.
async fn swallow(client: &mut TcpStream) -> std::io::Result<()> {
    let head = head(client).await?;
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(0);
    copy(&mut client.take(length), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn head(client: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(head)
}
