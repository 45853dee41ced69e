//! What a host and its coordinator say to each other, across all connections between them.
//!
//! Everything that is pushed has a number and is kept until the other side has acknowledged it; a new connection begins with all of it.
//! So it arrives exactly once and in order, however often the network is cut. Each direction has a connection of its own, and the
//! acknowledgements of one travel on the other:
//!
//! ```text
//!   host                                  coordinator
//!   push(event)  ── Item 7, Item 8 ────▶  receive          one connection, dialled by the host
//!   receive      ◀──── Ack 9, Item 3 ───  push(command)    the other
//! ```
//! A side that has nothing to say sends a beat now and then: that is how a process that is stopped can be told from one that is busy.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::{IntCounter, IntGauge};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{encode, invalid, receive};

/// So often a side that has nothing to say sends a beat.
const BEAT: Duration = Duration::from_millis(500);
/// A side that has not been heard for so long, on a connection that stands, hangs.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// So much is taken out of the queue at once, bytes.
const BATCH_BYTES: usize = 1 << 20;
/// So many items may wait beyond the limits.
const RESERVE_ITEMS: usize = 64;
const REDIAL_MIN: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
enum Packet<T> {
    Item {
        seq: u64,
        item: T,
    },
    /// All before this number have come.
    Ack(u64),
    Beat,
    /// There is nothing more to say, ever.
    Over,
}

/// How much may wait for its acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub items_max: usize,
    /// A single item may be larger.
    pub bytes_max: usize,
}

/// What is kept for the other side, as metrics show it.
#[derive(Clone, Debug)]
pub(crate) struct Depth {
    pub items: IntGauge,
    pub bytes: IntGauge,
    /// Items for which there was no room at first.
    pub waited: IntCounter,
}

/// One side of the conversation.
#[derive(Debug)]
pub(crate) struct Session {
    limits: Limits,
    depth: Option<Depth>,
    state: Mutex<State>,
    changed: Condvar,
    /// The number of the next item from the other side. Held while one is passed on, for two connections may bring the same.
    incoming: Mutex<u64>,
}

#[derive(Debug)]
struct State {
    /// Encoded, oldest first.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// The number of the oldest.
    first: u64,
    /// How many of them this connection has carried.
    n_written: usize,
    /// Counts the connections that items go out on; only the last one counts.
    n_connections: u64,
    is_carried: bool,
    /// Connections that are read from.
    n_readers: u32,
    received: u64,
    ack_written: Option<u64>,
    /// Nothing is acknowledged.
    is_holding: bool,
    heard: Instant,
    phase: Phase,
    barriers: Vec<(u64, SyncSender<()>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// To be ended: the other side has to hear it.
    Ending,
    Closed,
}

/// Whether the other side can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Connected,
    /// The connections stand, but nothing comes.
    Unresponsive,
    Unreachable,
}

/// How a connection that was read from came to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The other side has nothing more to say, ever.
    Over,
    /// What came cannot be obeyed.
    Refused(io::Error),
    Cut(io::Error),
}

impl Session {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            kept: VecDeque::new(),
            kept_bytes: 0,
            first: 0,
            n_written: 0,
            n_connections: 0,
            is_carried: false,
            n_readers: 0,
            received: 0,
            ack_written: None,
            is_holding: false,
            heard: rt::now(),
            phase: Phase::Open,
            barriers: Vec::new(),
        };
        Self {
            limits,
            depth: None,
            state: Mutex::new(state),
            changed: Condvar::new(),
            incoming: Mutex::new(0),
        }
    }

    /// One whose queue is to be seen.
    pub(crate) fn measured(limits: Limits, depth: Depth) -> Self {
        let depth = Some(depth);
        Self {
            depth,
            ..Self::new(limits)
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item if there is room. What is pushed after the end goes nowhere.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn try_push<T: Serialize>(&self, item: &T) -> io::Result<()> {
        let mut state = self.lock();
        if state.is_full(self.limits) && state.phase == Phase::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.add(&mut state, item)
    }

    /// Queues an item, and waits for room.
    pub(crate) fn push<T: Serialize>(&self, item: &T) -> io::Result<()> {
        let mut state = self.lock();
        if state.is_full(self.limits) && state.phase == Phase::Open {
            self.depth.iter().for_each(|depth| depth.waited.inc());
        }
        while state.is_full(self.limits) && state.phase == Phase::Open {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.add(&mut state, item)
    }

    /// Queues a small item, though it be beyond the limits: for whoever reads acknowledgements, without which there will be no room.
    ///
    /// # Errors
    /// When the reserve is full, too.
    pub(crate) fn push_beyond<T: Serialize>(&self, item: &T) -> io::Result<()> {
        let mut state = self.lock();
        let n_max = self.limits.items_max + RESERVE_ITEMS;
        if state.kept.len() >= n_max && state.phase == Phase::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.add(&mut state, item)
    }

    fn add<T: Serialize>(&self, state: &mut State, item: &T) -> io::Result<()> {
        if state.phase != Phase::Open {
            return Ok(());
        }
        let seq = state.next();
        let bytes = Bytes::from(encode(&Packet::Item { seq, item })?);
        state.kept_bytes += bytes.len();
        state.kept.push_back(bytes);
        self.show(state);
        self.changed.notify_all();
        Ok(())
    }

    fn show(&self, state: &State) {
        if let Some(depth) = &self.depth {
            let number = |n| i64::try_from(n).unwrap_or(i64::MAX);
            depth.items.set(number(state.kept.len()));
            depth.bytes.set(number(state.kept_bytes));
        }
    }

    /// What it returns hears when all that is queued now has arrived, or never will.
    pub(crate) fn barrier(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        let mut state = self.lock();
        let upto = state.next();
        state.barriers.push((upto, sender));
        state.answer_barriers();
        receiver
    }

    /// A connection for items is there: it begins with all that is not acknowledged.
    pub(crate) fn connected(&self) -> u64 {
        let mut state = self.lock();
        state.n_connections += 1;
        state.n_written = 0;
        state.ack_written = None;
        state.is_carried = true;
        state.heard = rt::now();
        self.changed.notify_all();
        state.n_connections
    }

    /// Writes what is queued to the connection, until it breaks or another takes its place. `Ok`: the end has been said.
    pub(crate) fn carry(&self, connection: u64, stream: &mut impl Write) -> io::Result<()> {
        let ended = self.carry_all(connection, stream);
        let mut state = self.lock();
        if state.n_connections == connection {
            state.is_carried = false;
        }
        if ended.is_ok() {
            state.close();
            self.show(&state);
        }
        self.changed.notify_all();
        ended
    }

    fn carry_all(&self, connection: u64, stream: &mut impl Write) -> io::Result<()> {
        loop {
            let (batch, phase) = self.next_batch(connection)?;
            if phase != Phase::Open {
                stream.write_all(&encode(&Packet::<()>::Over)?)?;
                return stream.flush();
            }
            for bytes in batch {
                stream.write_all(&bytes)?;
            }
            stream.flush()?;
        }
    }

    /// What is to be written next; a beat after a while.
    fn next_batch(&self, connection: u64) -> io::Result<(Vec<Bytes>, Phase)> {
        let mut state = self.lock();
        let mut has_waited = false;
        loop {
            if state.n_connections != connection {
                return Err(io::Error::other("another connection took its place"));
            }
            let mut batch = Vec::new();
            if !state.is_holding && state.ack_written != Some(state.received) {
                state.ack_written = Some(state.received);
                batch.push(encode(&Packet::<()>::Ack(state.received))?.into());
            }
            let mut n_bytes = 0;
            while let Some(bytes) = state.kept.get(state.n_written).cloned()
                && n_bytes < BATCH_BYTES
            {
                n_bytes += bytes.len();
                batch.push(bytes);
                state.n_written += 1;
            }
            if has_waited && batch.is_empty() {
                batch.push(encode(&Packet::<()>::Beat)?.into());
            }
            if !batch.is_empty() || state.phase != Phase::Open {
                return Ok((batch, state.phase));
            }
            let waited = self.changed.wait_timeout(state, BEAT);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            (state, has_waited) = (next, timeout.timed_out());
        }
    }

    /// From now on, and until this is dropped, there is a connection that is read from.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let mut state = self.lock();
        state.n_readers += 1;
        state.heard = rt::now();
        Reader(self)
    }

    fn take<T>(
        &self,
        seq: u64,
        item: T,
        pass: &mut impl FnMut(T) -> io::Result<()>,
    ) -> Result<(), Broken> {
        let mut next = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if seq > *next {
            return Err(Broken::Cut(invalid("something is missing in between")));
        }
        if seq == *next {
            pass(item).map_err(Broken::Refused)?;
            *next += 1;
        }
        let mut state = self.lock();
        state.received = *next;
        // What came twice is acknowledged twice.
        state.ack_written = state.ack_written.filter(|_| seq + 1 == *next);
        state.heard = rt::now();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// From now on, or no longer, what comes is passed on and not acknowledged: the other side goes on until its queue is full.
    pub(crate) fn hold(&self, is_holding: bool) {
        let mut state = self.lock();
        if state.is_holding != is_holding {
            state.is_holding = is_holding;
            drop(state);
            self.changed.notify_all();
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        let state = self.lock();
        if !state.is_carried || state.n_readers == 0 {
            Reach::Unreachable
        } else if state.heard.elapsed() > SILENCE_MAX {
            Reach::Unresponsive
        } else {
            Reach::Connected
        }
    }

    /// Tells the other side, now or when it dials again, that this is the end.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Ending;
        }
        self.changed.notify_all();
    }

    /// Waits until a side that is connected has been told of the end.
    pub(crate) fn wait_for_end(&self, at_most: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), at_most, |state| {
                state.is_carried && state.phase != Phase::Closed
            });
        drop(waited);
    }

    /// Keeps nothing more, and lets everybody go who waits for room.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.close();
        self.show(&state);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits before the `attempt`th dialling in a row, longer each time.
    pub(crate) fn wait_to_redial(&self, attempt: u32) {
        let limit = REDIAL_MIN
            .saturating_mul(1 << attempt.min(10))
            .min(REDIAL_MAX);
        // Between a half and the whole of it: many hosts shall not dial at once.
        let jitter = 512 + u32::try_from(rt::random_u64() % 512).unwrap_or(0);
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit * jitter / 1024, |state| {
                state.phase == Phase::Open
            });
        drop(waited);
    }
}

/// Reads from one connection.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a Session);

impl Reader<'_> {
    /// Takes in what comes over the connection, until that breaks: passes on each item, once.
    pub(crate) fn receive<T: DeserializeOwned>(
        self,
        stream: &mut impl Read,
        mut pass: impl FnMut(T) -> io::Result<()>,
    ) -> Broken {
        let session = self.0;
        loop {
            let packet = match receive(stream) {
                Ok(packet) => packet,
                Err(error) => return Broken::Cut(error),
            };
            match packet {
                Packet::Item { seq, item } => {
                    if let Err(broken) = session.take(seq, item, &mut pass) {
                        return broken;
                    }
                }
                Packet::Ack(upto) => {
                    let mut state = session.lock();
                    state.heard = rt::now();
                    if let Err(error) = state.acknowledged(upto) {
                        return Broken::Cut(error);
                    }
                    session.show(&state);
                    session.changed.notify_all();
                }
                Packet::Beat => session.lock().heard = rt::now(),
                Packet::Over => return Broken::Over,
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.lock().n_readers -= 1;
        self.0.changed.notify_all();
    }
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.kept.len() >= limits.items_max || self.kept_bytes >= limits.bytes_max
    }

    fn acknowledged(&mut self, upto: u64) -> io::Result<()> {
        if upto > self.next() {
            return Err(invalid("what was never sent is acknowledged"));
        }
        while self.first < upto {
            let bytes = self.kept.pop_front().expect("it was sent");
            self.kept_bytes -= bytes.len();
            self.first += 1;
            self.n_written = self.n_written.saturating_sub(1);
        }
        self.answer_barriers();
        Ok(())
    }

    fn answer_barriers(&mut self) {
        let first = self.first;
        self.barriers.retain(|(upto, answer)| {
            let has_arrived = *upto <= first;
            if has_arrived {
                // Who asked may have given up.
                answer.send(()).ok();
            }
            !has_arrived
        });
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        // What had been sent may still be acknowledged.
        self.first = self.next();
        self.n_written = 0;
        self.kept.clear();
        self.kept_bytes = 0;
        self.barriers.clear();
    }
}

#[cfg(test)]
mod tests;
