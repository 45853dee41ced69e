//! The way from a node to the S3 behind it, which spoils connections: answers 503 itself, is slow, ends in the middle of an answer, half or wholly,
//! and loses answers to what was done.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use super::chance::Random;

const PIECE_BYTES: usize = 16 << 10;
const SLOW: Duration = Duration::from_millis(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Whatever is asked.
    Busy,
    /// A piece at a time, in both directions.
    Slow,
    /// The answer ends after so many bytes, and the connection with it.
    Cut(u64),
    /// After so many bytes only the server's half ends.
    HalfClose(u64),
    /// What was asked is done, and nobody hears of it.
    Lose,
}

pub(super) struct Proxy {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    _task: rt::Task,
}

struct State {
    /// `None`: nobody is there.
    to: Option<SocketAddr>,
    random: Random,
    /// So many connections of a hundred.
    spoiled_percent: u64,
    n_spoiled: usize,
}

impl Proxy {
    /// Within a runtime.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            to: None,
            random: Random(0),
            spoiled_percent: 0,
            n_spoiled: 0,
        }));
        let accepting = accept(listener, Arc::clone(&state));
        Ok(Self {
            addr,
            state,
            _task: rt::spawn("proxy", accepting),
        })
    }

    /// Where S3 is from now on.
    pub(super) fn set_to(&self, to: Option<SocketAddr>) {
        self.state().to = to;
    }

    /// From now on spoils connections as a seed says.
    pub(super) fn spoil(&self, seed: u64, percent: u64) {
        let mut state = self.state();
        state.random = Random(seed);
        state.spoiled_percent = percent;
    }

    pub(super) fn n_spoiled(&self) -> usize {
        self.state().n_spoiled
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn fault(&mut self) -> Fault {
        let random = &mut self.random;
        if random.below(100) >= self.spoiled_percent {
            return Fault::None;
        }
        self.n_spoiled += 1;
        // In the head, in the body, or somewhere.
        let n_bytes = [
            random.below(400),
            random.below(4_000),
            random.below(1 << 20),
        ];
        let n_bytes = n_bytes[usize::try_from(random.below(3)).expect("few")];
        match random.below(5) {
            0 => Fault::Busy,
            1 => Fault::Slow,
            2 => Fault::Cut(n_bytes),
            3 => Fault::HalfClose(n_bytes),
            _ => Fault::Lose,
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = Vec::new();
    while let Ok((near, _)) = listener.accept().await {
        let (to, fault) = {
            let mut state = lock(&state);
            (state.to, state.fault())
        };
        // Without S3 the connection is closed.
        let Some(to) = to else { continue };
        connections.push(rt::spawn("proxied", async move {
            // A broken connection is what this is for.
            pass(near, to, fault).await.ok();
        }));
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr, fault: Fault) -> io::Result<()> {
    if fault == Fault::Busy {
        near.read_u8().await?;
        let answer = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        near.write_all(answer).await?;
        near.shutdown().await?;
        // Else what was sent and not read would take the answer with it.
        copy(&mut near, &mut tokio::io::sink()).await?;
        return Ok(());
    }
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let requests = async {
        match fault {
            Fault::Slow => slowly(&mut from_near, &mut to_far).await?,
            _ => drop(copy(&mut from_near, &mut to_far).await?),
        }
        to_far.shutdown().await
    };
    let answers = async {
        match fault {
            Fault::None | Fault::Busy => drop(copy(&mut from_far, &mut to_near).await?),
            Fault::Slow => slowly(&mut from_far, &mut to_near).await?,
            Fault::Cut(n_bytes) => drop(copy(&mut from_far.take(n_bytes), &mut to_near).await?),
            Fault::HalfClose(n_bytes) => {
                copy(&mut from_far.take(n_bytes), &mut to_near).await?;
                to_near.shutdown().await?;
                std::future::pending::<()>().await;
            }
            Fault::Lose => drop(from_far.read_u8().await?),
        }
        io::Result::Ok(())
    };
    // Whoever is over first ends the connection.
    tokio::select! {
        ended = answers => ended,
        ended = requests => ended,
    }
}

async fn slowly(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = from.read(&mut piece).await?;
        if n == 0 {
            return Ok(());
        }
        tokio::time::sleep(SLOW).await;
        to.write_all(&piece[..n]).await?;
    }
}
