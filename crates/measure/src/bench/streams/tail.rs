//! Events that say when they were due, and those who wait for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use streams_wire::replies::Reply;

use super::load::{Pace, joined, thread};
use super::server::Place;
use super::wire::{Batch, Reader, Writer, stamp};

/// What those who write and those who read have in common. It ends with all of them, who are waited for.
pub(super) struct Tails {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

struct Shared {
    /// From which stamps count, in ns.
    start: Instant,
    is_over: AtomicBool,
    /// How long after it was due each event was read.
    times: Mutex<Vec<Duration>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Tails {
    pub(super) fn new() -> Self {
        let shared = Shared {
            start: rt::now(),
            is_over: AtomicBool::new(false),
            times: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
        }
    }

    /// Writes what is due: the batches, again and again, each of whose events has the first's stamp at its front.
    pub(super) fn write(
        &mut self,
        place: &Place,
        every: Duration,
        batches: impl Fn(u128) -> anyhow::Result<Vec<Batch>>,
    ) -> anyhow::Result<()> {
        let Writer { id, mut link } = Writer::open(&place.store, &place.segment)?;
        let mut batches = batches(id)?;
        let (mut socket, shared) = (link.again()?, Arc::clone(&self.shared));
        let pace = Pace {
            first: rt::now(),
            every,
        };
        let over = Arc::clone(&self.shared);
        self.threads.push(thread("bench acks", move || {
            loop {
                match link.reply() {
                    Ok(Reply::DataAppended(_)) => {}
                    Ok(other) => bail!("the store says {other:?}"),
                    Err(_) if over.is_over() => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        })?);
        self.threads.push(thread("bench writer", move || {
            let n_batches = batches.len() as u64;
            let mut n = 0;
            while !shared.is_over() {
                let due = pace.wait(n).saturating_duration_since(shared.start);
                let batch = &mut batches[usize::try_from(n % n_batches)?];
                batch.set_stamp(u64::try_from(due.as_nanos())?);
                std::io::Write::write_all(&mut socket, batch.numbered(n))?;
                n += 1;
            }
            Ok(socket.shutdown(std::net::Shutdown::Both)?)
        })?);
        Ok(())
    }

    /// Reads what comes, of whose events every `n`th has a stamp.
    pub(super) fn read(&mut self, place: &Place, n: usize) -> anyhow::Result<()> {
        let mut reader = Reader::open(&place.store, &place.segment)?;
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread("bench reader", move || {
            let mut n_read = 0;
            while !shared.is_over() {
                let events = reader.events()?;
                let now = rt::now().saturating_duration_since(shared.start);
                let mut times = Vec::new();
                for event in events {
                    if n_read % n == 0 {
                        let due = stamp(&event).context("an event has its stamp")?;
                        times.push(now.saturating_sub(Duration::from_nanos(due)));
                    }
                    n_read += 1;
                }
                lock(&shared.times).extend(times);
            }
            Ok(())
        })?);
        Ok(())
    }

    /// What was read since the last call.
    pub(super) fn taken(&self) -> Vec<Duration> {
        std::mem::take(&mut *lock(&self.shared.times))
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().try_for_each(joined)
    }
}

/// Reads all that is there, from the beginning to an offset and again, until it is told to end. How many bytes. Who reads that would be elsewhere, so
/// it has the processors when nobody else wants them.
pub(super) struct Historic {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<u64>>>,
}

impl Historic {
    pub(super) fn start(places: &[Place], to: i64) -> anyhow::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = places.iter().map(|place| {
            let mut reader = Reader::open(&place.store, &place.segment)?;
            let is_over = Arc::clone(&is_over);
            thread("bench historic reader", move || {
                rt::lower_priority(rt::Priority::Idle)?;
                let mut n_bytes = 0;
                while !is_over.load(Ordering::Relaxed) {
                    if reader.offset >= to {
                        reader.offset = 0;
                    }
                    n_bytes += reader.bytes()?.len() as u64;
                }
                Ok(n_bytes)
            })
        });
        let threads = threads.collect::<anyhow::Result<_>>()?;
        Ok(Self { is_over, threads })
    }

    pub(super) fn end(self) -> anyhow::Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut total = 0;
        for thread in self.threads {
            total += joined(thread)?;
        }
        Ok(total)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
