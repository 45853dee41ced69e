//! Links: the one-way streams of frames between hosts.
//!
//! A link may break at any moment and lose what was on it. Nothing here remembers it: every frame stays with its endpoint until it is
//! acknowledged, and a new connection begins with sending all of that again. What waits in a queue is therefore bounded by the windows of the
//! endpoints.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::host_name;
use super::node::{Ack, Node};
use crate::wire::link::{self, Item};
use crate::wire::messages::{HostId, Rank, VERSION};
use crate::wire::{self, Hello, Purpose, Stream, Tls, socket};

/// An acknowledgement waits this long for a frame of the same link to travel with.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// As many different acknowledgements do not wait.
const ACKS_MAX: usize = 64;
/// So often an idle link looks whether the other side is still there.
const PROBE_DELAY: Duration = Duration::from_millis(200);
const REDIAL_DELAY: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 64 << 10;

/// The way from this host to another.
#[derive(Debug)]
pub(crate) struct Link {
    host: HostId,
    is_carried: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// (by, of) -> upto
type Acks = BTreeMap<(Rank, Rank), u64>;

#[derive(Debug, Default)]
struct State {
    address: Option<SocketAddr>,
    /// Counts the addresses: an older one is dialled no more.
    n_addresses: u64,
    queue: VecDeque<Item>,
    acks: Acks,
}

impl Link {
    pub(crate) fn new(host: HostId) -> Self {
        Self {
            host,
            is_carried: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, item: Item) {
        let mut state = self.lock();
        let was_empty = state.queue.is_empty();
        match item {
            Item::Ack { by, of, upto } => {
                let n_before = state.acks.len();
                let known = state.acks.entry((by, of)).or_default();
                *known = upto.max(*known);
                if n_before > 0 && n_before < ACKS_MAX {
                    return;
                }
            }
            frame @ Item::Frame { .. } => state.queue.push_back(frame),
        }
        if was_empty {
            self.changed.notify_one();
        }
    }

    /// Where the host is to be found from now on.
    pub(crate) fn redirect(&self, address: SocketAddr) {
        let mut state = self.lock();
        state.address = Some(address);
        state.n_addresses += 1;
        self.changed.notify_one();
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.lock().address
    }

    /// True once: whoever gets it runs the link.
    pub(crate) fn claim(&self) -> bool {
        !self.is_carried.swap(true, Ordering::Relaxed)
    }

    /// Carries what is pushed, for as long as the process lives.
    pub(crate) fn run(&self, node: &Node, tls: &Tls) {
        let hello = Hello {
            version: VERSION,
            world: node.spec.world,
            from: node.me,
            purpose: Purpose::Link,
        };
        loop {
            let (address, n_addresses) = self.next_address();
            match self.connect(address, &hello, tls) {
                Ok(mut stream) => {
                    self.lock().queue.clear();
                    node.reconnected(self.host, self);
                    let error = self.carry(&mut stream, n_addresses);
                    tracing::info!(host = self.host, %error, "link closed");
                }
                Err(error) => {
                    tracing::info!(host = self.host, %address, %error, "link not established");
                    let state = self.lock();
                    drop(self.changed.wait_timeout(state, REDIAL_DELAY));
                }
            }
        }
    }

    /// Waits for something to carry and an address to carry it to.
    fn next_address(&self) -> (SocketAddr, u64) {
        let mut state = self.lock();
        loop {
            let has_work = !state.queue.is_empty() || !state.acks.is_empty();
            if let (Some(address), true) = (state.address, has_work) {
                return (address, state.n_addresses);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
        hello: &Hello,
        tls: &Tls,
    ) -> io::Result<BufWriter<Stream>> {
        let mut stream = tls.connect(address, &host_name(self.host))?;
        socket::notice_cuts(stream.socket())?;
        wire::send(&mut stream, hello)?;
        Ok(BufWriter::with_capacity(BUFFER_BYTES, stream))
    }

    fn carry(&self, stream: &mut BufWriter<Stream>, n_addresses: u64) -> io::Error {
        loop {
            let (items, acks) = match self.next_batch(n_addresses) {
                Some(batch) => batch,
                None => return io::Error::other("the host is elsewhere now"),
            };
            // A write may not tell: what it wrote before the other side was gone is lost all the same.
            if is_closed(stream.get_ref().socket()) {
                return io::ErrorKind::ConnectionReset.into();
            }
            let acks = acks
                .into_iter()
                .map(|((by, of), upto)| Item::Ack { by, of, upto });
            let written = items
                .into_iter()
                .chain(acks)
                .try_for_each(|item| link::write(stream, &item))
                .and_then(|()| stream.flush());
            if let Err(error) = written {
                return error;
            }
        }
    }

    /// What goes out next, nothing after a while; acknowledgements alone wait a little for company. `None`: the address has changed.
    fn next_batch(&self, n_addresses: u64) -> Option<(VecDeque<Item>, Acks)> {
        let mut state = self.lock();
        let mut waited = false;
        loop {
            if state.n_addresses != n_addresses {
                return None;
            }
            let acks_due = !state.acks.is_empty() && (waited || state.acks.len() >= ACKS_MAX);
            if !state.queue.is_empty() || acks_due {
                return Some((
                    std::mem::take(&mut state.queue),
                    std::mem::take(&mut state.acks),
                ));
            }
            if waited {
                return Some((VecDeque::new(), Acks::new()));
            }
            let delay = if state.acks.is_empty() {
                PROBE_DELAY
            } else {
                ACK_DELAY
            };
            let result = self.changed.wait_timeout(state, delay);
            let (next, timeout) = result.unwrap_or_else(PoisonError::into_inner);
            (state, waited) = (next, timeout.timed_out());
        }
    }
}

/// Whether the other side has closed the connection, which otherwise sends nothing.
fn is_closed(socket: &TcpStream) -> bool {
    let events = PollFlags::IN | PollFlags::RDHUP;
    let mut polled = [PollFd::new(socket, events)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok_and(|n| n > 0)
}

/// Takes in what comes over a link that another host has dialled, until it breaks.
pub(crate) fn receive(node: &Arc<Node>, from: HostId, stream: Stream) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let mut acks: BTreeMap<(Rank, Rank), Ack> = BTreeMap::new();
    loop {
        if stream.buffer().is_empty() {
            for ack in std::mem::take(&mut acks).into_values() {
                node.acked(ack);
            }
            if stream.fill_buf()?.is_empty() {
                tracing::debug!(host = from, "a link ended");
                return Ok(());
            }
        }
        match link::read(&mut stream)? {
            Item::Ack { by, of, upto } => node.acked(Ack { by, of, upto }),
            Item::Frame {
                frame,
                from_epoch,
                to_epoch,
            } => {
                if let Some(ack) = node.arrived(frame, from_epoch, to_epoch)? {
                    acks.insert((ack.by, ack.of), ack);
                }
            }
        }
    }
}
