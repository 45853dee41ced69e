//! Reading in another process than the node's, out of the memory that the node shares.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use geds::client::Local;
use geds::index::Name;

use super::data::{self, KIB};
use super::network::put;
use super::node::{self, Served};
use super::{Measured, Setting, Side};

const PAGE: usize = 4 * KIB;
/// A process has so many names lent at most (`SLOTS` of the arena), and they are to be more than four caches together: each is longer than what is read of it.
const OBJECT_BYTES: usize = 16 * KIB;
/// So many times one side is measured before the other one is.
const BATCH: usize = 1_000;
/// About as long as what is said to a node of a name.
const ASKED_BYTES: usize = 64;

/// Opens objects by name in no order, and sums 4 KiB of each where they lie: again and again, and before that each for the first time. The peer of the first
/// time is a thread that answers on a Unix socket, and of the others a copy out of memory of this process.
pub(super) fn open_read_4k(setting: &Setting<'_>) -> anyhow::Result<Vec<Measured>> {
    let bytes = data::random_bytes(data::working_set(setting, OBJECT_BYTES));
    let n_objects = bytes.len() / OBJECT_BYTES;
    // A process may have an eighth of the memory lent.
    let served = Served::with_room(&setting.dir.join("node"), 4 * bytes.len())?;
    let runtime = rt::runtime()?;
    let client = runtime.block_on(served.first_client())?;
    let names = node::names(n_objects)?;
    runtime.block_on(async {
        for (name, bytes) in names.iter().zip(bytes.chunks_exact(OBJECT_BYTES)) {
            put(&client, name, bytes).await?;
        }
        anyhow::Ok(())
    })?;
    let local = runtime.block_on(client.attach())?;
    let (mut found, mut expected) = (0_u64, 0_u64);
    let (mut firsts, mut trips) = (Side::default(), Side::default());
    let mut echo = Echo::start()?;
    for first in (0..n_objects).step_by(BATCH) {
        let n_times = BATCH.min(n_objects - first);
        // No two neighbours in memory.
        let picked = |n| (first + n) * 7_919 % n_objects;
        firsts.turn_with(Some(served.pid()), n_times, |n| {
            found = found.wrapping_add(read(&local, &names[picked(n)], place(first + n))?);
            Ok(())
        })?;
        trips.turn_with(None, n_times, |_| echo.ask())?;
        for n in 0..n_times {
            let start = picked(n) * OBJECT_BYTES + place(first + n);
            expected = expected.wrapping_add(data::sum(&bytes[start..][..PAGE]));
        }
    }
    echo.end()?;
    let (mut ours, mut peer) = (Side::default(), Side::default());
    let n_rounds = if setting.is_quick { 1 } else { 200 };
    let mut into = [0; PAGE];
    for round in 0..n_rounds {
        let picked = |n| data::pick(round * BATCH + n, n_objects);
        ours.turn_with(Some(served.pid()), BATCH, |n| {
            found = found.wrapping_add(read(&local, &names[picked(n)], place(round * BATCH + n))?);
            Ok(())
        })?;
        peer.turn(BATCH, |n| {
            let start = picked(n) * OBJECT_BYTES + place(round * BATCH + n);
            into.copy_from_slice(&bytes[start..][..PAGE]);
            expected = expected.wrapping_add(data::sum(&into));
            Ok(())
        })?;
    }
    ensure!(found == expected, "what was read is not what was written");
    Ok(vec![ours.against(&peer), firsts.against(&trips)])
}

fn read(local: &Local, name: &Name, start: usize) -> anyhow::Result<u64> {
    let opened = local.open(name)?.context("it is in memory")?;
    let view = opened.view().context("it lies in one piece")?;
    Ok(data::sum(&view[start..][..PAGE]))
}

/// Which 4 KiB of an object are read, the time `n`.
fn place(n: usize) -> usize {
    n % (OBJECT_BYTES / PAGE) * PAGE
}

/// A thread that sends back what it gets, until the other end of its socket is closed.
struct Echo {
    socket: UnixStream,
    thread: JoinHandle<()>,
}

impl Echo {
    fn start() -> anyhow::Result<Self> {
        let (socket, mut theirs) = UnixStream::pair()?;
        let thread = rt::thread("bench".into(), 1 << 20, move || {
            let mut buffer = [0; ASKED_BYTES];
            while theirs.read_exact(&mut buffer).is_ok() && theirs.write_all(&buffer).is_ok() {}
        })?;
        Ok(Self { socket, thread })
    }

    fn ask(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; ASKED_BYTES];
        self.socket.write_all(&buffer)?;
        Ok(self.socket.read_exact(&mut buffer)?)
    }

    fn end(self) -> anyhow::Result<()> {
        drop(self.socket);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the thread has panicked"))
    }
}
