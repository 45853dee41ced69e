//! Reading from another process: over the node protocol, and over S3.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use anyhow::ensure;
use geds::client::Client;
use geds::index::{Class, Name, Precondition};
use geds::store::Terms;
use rustix::fs::MemfdFlags;

use super::data::{self, KIB, MIB};
use super::node::{self, Served};
use super::s3;
use super::{Measured, Setting, Side};

/// So much is taken from a socket at a time: it stays in a cache until it is summed.
const READ_BYTES: usize = 256 * KIB;

/// A client of a node in another process reads objects of 16 MiB to their ends, by name. The peer is the least that a node could do.
pub(super) fn peer_16m(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = object_bytes(setting, 16 * MIB);
    let contents = data::random_bytes(data::working_set(setting, bytes));
    let n_objects = contents.len() / bytes;
    let served = Served::with_room(&setting.dir.join("node"), contents.len())?;
    let runtime = rt::runtime()?;
    let client = runtime.block_on(served.first_client())?;
    let names = node::names(n_objects)?;
    for (name, content) in names.iter().zip(contents.chunks_exact(bytes)) {
        runtime.block_on(put(&client, name, content))?;
    }
    let mut sender = Sender::sendfile(&contents, bytes)?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for n in 0..n_rounds(setting) {
        let n = n % n_objects;
        let expected = data::sum(&contents[n * bytes..][..bytes]);
        ours.turn_with(Some(served.pid()), 1, |_| {
            let found = runtime.block_on(read(&client, &names[n]))?;
            ensure!(found == expected, "another object was read");
            Ok(())
        })?;
        peer.turn_with(None, 1, |_| sender.check(n, bytes, expected))?;
    }
    sender.end()?;
    drop(client);
    Ok(vec![ours.rate_against(&peer, bytes)])
}

/// A client of S3 reads objects of 64 MiB to their ends. The peer is a socket, and nothing else.
pub(super) fn s3_get_64m(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = object_bytes(setting, 64 * MIB);
    let contents = data::random_bytes(data::working_set(setting, bytes));
    let n_objects = contents.len() / bytes;
    let served = Served::with_room(&setting.dir.join("node"), contents.len())?;
    let runtime = rt::runtime()?;
    let client = runtime.block_on(served.first_client())?;
    for (n, content) in contents.chunks_exact(bytes).enumerate() {
        runtime.block_on(put(&client, &node::name(&n.to_string())?, content))?;
    }
    let keys = s3::keys(&served.credentials)?;
    let mut s3 = s3::Client::connect(served.ready.s3, Some(keys))?;
    let mut sender = Sender::write(contents.clone(), bytes)?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    for n in 0..n_rounds(setting) {
        let n = n % n_objects;
        let expected = data::sum(&contents[n * bytes..][..bytes]);
        let path = format!("/{}/{n}", node::BUCKET);
        ours.turn_with(Some(served.pid()), 1, |_| {
            ensure!(s3.sum(&path)? == expected, "another object was read");
            Ok(())
        })?;
        peer.turn_with(None, 1, |_| sender.check(n, bytes, expected))?;
    }
    sender.end()?;
    Ok(vec![ours.rate_against(&peer, bytes)])
}

/// One so large that a fast path shows, or one that is written quickly.
pub(super) fn object_bytes(setting: &Setting<'_>, bytes: usize) -> usize {
    if setting.is_quick { 2 * MIB } else { bytes }
}

pub(super) fn n_rounds(setting: &Setting<'_>) -> usize {
    if setting.is_quick { 2 } else { 60 }
}

/// Writes what the end of the node loses.
pub(super) async fn put(client: &Client, name: &Name, content: &[u8]) -> anyhow::Result<()> {
    let mut writer = client.writer(content.len() as u64).await?;
    for piece in content.chunks(MIB) {
        writer.append(piece.to_vec().into()).await?;
    }
    writer
        .seal(name, Class::Ephemeral, Terms::default())
        .await?;
    Ok(())
}

async fn read(client: &Client, name: &Name) -> anyhow::Result<u64> {
    let object = client.open(name, Precondition::None).await?;
    let mut pieces = object.pieces(0..object.len());
    let mut found = 0_u64;
    while let Some(piece) = pieces.next().await? {
        found = found.wrapping_add(data::sum(&piece));
    }
    Ok(found)
}

/// A thread that sends what it is asked for, with as little as possible between the memory and the socket.
struct Sender {
    socket: TcpStream,
    thread: JoinHandle<io::Result<()>>,
    buffer: Vec<u8>,
}

impl Sender {
    fn sendfile(contents: &[u8], bytes: usize) -> anyhow::Result<Self> {
        let fd = rustix::fs::memfd_create(c"bench", MemfdFlags::CLOEXEC)?;
        std::fs::File::from(fd.try_clone()?).write_all(contents)?;
        Self::start(move |socket, n| send_file(socket, &fd, n * bytes, bytes))
    }

    fn write(contents: Vec<u8>, bytes: usize) -> anyhow::Result<Self> {
        Self::start(move |mut socket, n| socket.write_all(&contents[n * bytes..][..bytes]))
    }

    fn start(
        mut send: impl FnMut(&TcpStream, usize) -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        socket.set_nodelay(true)?;
        let (mut peer, _) = listener.accept()?;
        peer.set_nodelay(true)?;
        let thread = rt::thread("bench".into(), 1 << 20, move || {
            let mut asked = [0];
            while peer.read(&mut asked)? > 0 {
                send(&peer, asked[0].into())?;
            }
            Ok(())
        })?;
        Ok(Self {
            socket,
            thread,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Sums what comes.
    fn check(&mut self, n: usize, bytes: usize, expected: u64) -> anyhow::Result<()> {
        self.socket.write_all(&[u8::try_from(n)?])?;
        let found = sum_from(&mut self.socket, &mut self.buffer, &[], bytes)?;
        ensure!(found == expected, "something else was sent");
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        drop(self.socket);
        let ended = self.thread.join();
        Ok(ended.map_err(|_| anyhow::anyhow!("the sender has panicked"))??)
    }
}

fn send_file(socket: &TcpStream, file: &OwnedFd, start: usize, bytes: usize) -> io::Result<()> {
    let (mut position, end) = (start as u64, (start + bytes) as u64);
    while position < end {
        let left = usize::try_from(end - position).expect("it is less than a usize");
        if rustix::fs::sendfile(socket, file, Some(&mut position), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Sums so many bytes, of which the first have come already, as words. There are no others behind them.
pub(super) fn sum_from(
    socket: &mut TcpStream,
    buffer: &mut [u8],
    first: &[u8],
    bytes: usize,
) -> anyhow::Result<u64> {
    let mut found = 0_u64;
    buffer[..first.len()].copy_from_slice(first);
    let (mut filled, mut left) = (first.len(), bytes - first.len());
    loop {
        // What is not a whole word waits for its rest.
        let whole = filled - filled % 8;
        found = found.wrapping_add(data::sum(&buffer[..whole]));
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        if left == 0 {
            return Ok(found);
        }
        let room = (buffer.len() - filled).min(left);
        let n = socket.read(&mut buffer[filled..filled + room])?;
        ensure!(n > 0, "the other end has closed");
        filled += n;
        left -= n;
    }
}
