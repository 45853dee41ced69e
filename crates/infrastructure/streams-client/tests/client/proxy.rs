//! Something between a client and a server: it cuts connections, or speaks TLS to the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use rt::Task;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    n_cuts: Arc<AtomicUsize>,
    _task: Task,
}

impl Proxy {
    pub(crate) fn n_cuts(&self) -> usize {
        self.n_cuts.load(Ordering::Relaxed)
    }

    /// Each connection ends after fewer than so many bytes in one direction or the other, in the middle of whatever it is.
    pub(crate) async fn cutting(to: SocketAddr, seed: u64, bytes_max: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let n_cuts = Arc::new(AtomicUsize::new(0));
        let counted = n_cuts.clone();
        let task = rt::spawn("test proxy", async move {
            let mut chance = Chance(seed);
            let mut connections = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                let there = chance.below(bytes_max);
                let back = chance.below(bytes_max);
                let n_cuts = counted.clone();
                connections.push(rt::spawn("test proxy", async move {
                    if let Ok(true) = forward(client, to, there, back).await {
                        n_cuts.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
        });
        Ok(Self {
            address,
            n_cuts,
            _task: task,
        })
    }

    pub(crate) async fn tls(to: SocketAddr, config: Arc<ServerConfig>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(config);
        let task = rt::spawn("test proxy", async move {
            let mut connections = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.push(rt::spawn("test proxy", async move {
                    if let Ok(mut client) = acceptor.accept(client).await
                        && let Ok(mut server) = TcpStream::connect(to).await
                    {
                        // However it ends.
                        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                    }
                }));
            }
        });
        Ok(Self {
            address,
            n_cuts: Arc::default(),
            _task: task,
        })
    }
}

/// Whether the connection was cut.
async fn forward(client: TcpStream, to: SocketAddr, there: u64, back: u64) -> Result<bool> {
    let server = TcpStream::connect(to).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        cut = copy(&mut from_client, &mut to_server, there) => cut,
        cut = copy(&mut from_server, &mut to_client, back) => cut,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut n_bytes: u64,
) -> Result<bool> {
    let mut buffer = vec![0; 4096];
    while n_bytes > 0 {
        let n_read = from.read(&mut buffer).await?;
        if n_read == 0 {
            return Ok(false);
        }
        let n_kept = n_read.min(usize::try_from(n_bytes)?);
        to.write_all(&buffer[..n_kept]).await?;
        n_bytes -= n_kept as u64;
    }
    Ok(true)
}
