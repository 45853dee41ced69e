//! The network to a store that is far away: what goes through here comes later, and no more of it than a line has room for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::data::KIB;

/// The line to a far store, as an edge may have it: 100 Mbit/s, and so much longer is a round trip.
pub(super) const LINE_BYTES_PER_S: f64 = 100e6 / 8.0;
pub(super) const LINE_DELAY: Duration = Duration::from_millis(10);

const PIECE_BYTES: usize = 64 * KIB;
/// Pieces of one direction that are on their way.
const PIECES_MAX: usize = 32;

/// What the line to the far store runs in: it is to be elsewhere, and here it has a processor when nobody else wants it.
pub(super) fn of_far_away() -> io::Result<Runtime> {
    let idle = rt::Priority::Idle;
    let lower = move || rt::lower_priority(idle).expect("a thread may become less important");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(lower)
        .enable_all()
        .build()
}

/// It ends with this, and the connections through it.
pub(super) struct Proxy {
    pub addr: SocketAddr,
    line: Arc<Line>,
    _task: rt::Task,
}

/// What all connections share.
struct Line {
    bytes_per_s: f64,
    /// What goes to the far store comes so much later, and what comes back does not: so much longer is a round trip.
    delay: Duration,
    /// From when on there is room for more.
    free_at: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Proxy {
    /// Within a runtime.
    pub(super) async fn start(
        to: SocketAddr,
        bytes_per_s: f64,
        delay: Duration,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let line = Arc::new(Line {
            bytes_per_s,
            delay,
            free_at: Mutex::new(rt::now()),
            bytes: AtomicU64::new(0),
        });
        let accepting = accept(listener, to, Arc::clone(&line));
        Ok(Self {
            addr,
            line,
            _task: rt::spawn("bench proxy", accepting),
        })
    }

    /// So many have gone through.
    pub(super) fn bytes(&self) -> u64 {
        self.line.bytes.load(Ordering::Relaxed)
    }
}

impl Line {
    /// When so many bytes have gone through that come now.
    fn through_at(&self, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        *free_at = (*free_at).max(rt::now()) + takes;
        // It is looked at when everything is over.
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        *free_at
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, line: Arc<Line>) {
    let mut connections = Vec::new();
    // Whoever connects when there are no descriptors left waits for ever: a benchmark has few.
    while let Ok((near, _)) = listener.accept().await {
        let line = Arc::clone(&line);
        let connection = async move {
            // Both ends see that the other one has gone.
            connect(near, to, &line).await.ok();
        };
        connections.push(rt::spawn("bench proxy connection", connection));
    }
}

async fn connect(near: TcpStream, to: SocketAddr, line: &Line) -> io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(
        carry(near_read, far_write, line, line.delay),
        carry(far_read, near_write, line, Duration::ZERO),
    )?;
    Ok(())
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: &Line,
    delay: Duration,
) -> io::Result<()> {
    let (way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let n = from.read(&mut piece).await?;
            if n == 0 {
                return io::Result::Ok(());
            }
            piece.truncate(n);
            let due = line.through_at(n) + delay;
            if way.send((due, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due.into()).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}
