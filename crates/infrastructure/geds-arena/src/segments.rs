//! Segments: made ahead, counted, and given up only when that frees their memory.
//!
//! A segment has one owner as long as it lives: the agent in one domain, or one client of one. Only who owns it writes to it. So what a
//! tenant has written is never in memory that another one gets, and who can alter an object is known.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;

use geds_core::extents::{PAGE_BYTES, SegmentNo};
use geds_core::{Error, Kind, Result};
use rustix::fs::OFlags;

use super::budget::{Budget, Charge};
use super::memory::{self, HugePages, Memory};
use super::pool::Pool;
use super::{NO_PANIC, lock};

const THREAD_STACK_BYTES: usize = 128 << 10;

/// Memory that nobody owns.
#[derive(Debug)]
struct Spare {
    fd: OwnedFd,
    memory: Memory,
    charge: Charge,
}

impl Spare {
    fn make(bytes: u64, charge: Charge, huge_pages: &HugePages) -> Result<Self> {
        let make = || {
            let fd = memory::create(bytes, huge_pages)?;
            let memory = Memory::of_ours(&fd, bytes)?;
            Ok(Self { fd, memory, charge })
        };
        make().map_err(|error: std::io::Error| Error::io("make a segment", error))
    }
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub no: SegmentNo,
    pub memory: Arc<Memory>,
    /// Never given away.
    fd: OwnedFd,
    /// For all readers; there is none before the memory is closed to writers.
    reader: Mutex<Option<OwnedFd>>,
    /// Of the arena and of the domain.
    charges: [Charge; 2],
}

impl Segment {
    fn new(owner: Owner, no: SegmentNo, spare: Spare, domain: Charge, bytes: u64) -> Result<Self> {
        let mut segment = Self {
            no,
            memory: Arc::new(spare.memory),
            fd: spare.fd,
            reader: Mutex::default(),
            charges: [spare.charge, domain],
        };
        match owner {
            Owner::Agent => segment.close_to_writers()?,
            Owner::Client => {
                let memory = Memory::of_others(&segment.fd, bytes);
                let memory = memory.map_err(|error| Error::io("map a client's segment", error));
                segment.memory = Arc::new(memory?);
            }
        }
        Ok(segment)
    }

    /// For its client, which has to map it before it seals something there.
    pub(crate) fn for_writer(&self) -> Result<OwnedFd> {
        let fd = memory::reopen(&self.fd, OFlags::RDWR);
        fd.map_err(|error| Error::io("open a segment for its writer", error))
    }

    pub(crate) fn for_reader(&self) -> Result<OwnedFd> {
        let reader = lock(&self.reader);
        let fd = reader.as_ref().map(OwnedFd::try_clone);
        let fd = fd.ok_or_else(|| Error::new(Kind::Invalid, "a segment has nothing to read"))?;
        fd.map_err(|error| Error::io("open a segment for a reader", error))
    }

    /// Who writes it has it mapped, and nobody else shall ever be able to.
    pub(crate) fn close_to_writers(&self) -> Result<()> {
        let mut reader = lock(&self.reader);
        if reader.is_none() {
            let close = || {
                memory::close_to_writers(&self.fd)?;
                memory::reopen(&self.fd, OFlags::RDONLY)
            };
            let closed = close().map_err(|error| Error::io("close a segment to writers", error));
            *reader = Some(closed?);
        }
        Ok(())
    }

    /// Its memory is freed when it is dropped: there is nobody else who has it mapped.
    pub(crate) fn is_alone(&self) -> bool {
        let mut reader = lock(&self.reader);
        let had_reader = reader.take().is_some();
        let is_alone = memory::alone(&self.fd);
        if had_reader {
            // Should that fail, nobody reads here any more, and it stays so.
            *reader = memory::reopen(&self.fd, OFlags::RDONLY).ok();
        }
        is_alone
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Agent,
    Client,
}

#[derive(Debug)]
pub(crate) struct Segments {
    pub segment_bytes: u64,
    pub budget: Arc<Budget>,
    last_no: AtomicU64,
    spares: Arc<Spares>,
    thread: Option<JoinHandle<()>>,
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Nobody owns them any more, but some process has them mapped: so they take memory, and count.
    left_over: Mutex<Vec<Segment>>,
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.spares.lock().is_over = true;
        self.spares.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes segments panicked");
        }
    }
}

impl Segments {
    pub(crate) fn start(limit_bytes: u64, segment_bytes: u64, spares: usize) -> Result<Self> {
        let budget = Budget::new(limit_bytes);
        let spares = Arc::new(Spares {
            state: Mutex::default(),
            changed: Condvar::new(),
            budget: Arc::clone(&budget),
            segment_bytes,
            wanted: spares,
            huge_pages: HugePages::default(),
        });
        let thread = rt::thread("geds-segments".to_owned(), THREAD_STACK_BYTES, {
            let spares = Arc::clone(&spares);
            move || spares.keep_filled()
        });
        let thread = thread.map_err(|error| Error::io("start a thread", error))?;
        Ok(Self {
            segment_bytes,
            budget,
            last_no: AtomicU64::new(0),
            spares,
            thread: Some(thread),
            pools: Mutex::default(),
            left_over: Mutex::default(),
        })
    }

    pub(crate) fn segment_pages(&self) -> u32 {
        u32::try_from(self.segment_bytes / PAGE_BYTES).expect("the config has been checked")
    }

    /// From now on its idle segments can be taken for other pools.
    pub(crate) fn enlist(&self, pool: &Arc<Pool>) {
        let mut pools = lock(&self.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    pub(crate) fn make(&self, owner: Owner, domain: &Arc<Budget>) -> Result<Segment> {
        self.find_room(self.segment_bytes, domain, || {
            let charge = domain.charge(self.segment_bytes)?;
            let spare = match self.spares.take() {
                Some(spare) => spare,
                None => {
                    let charge = self.budget.charge(self.segment_bytes)?;
                    Spare::make(self.segment_bytes, charge, &self.spares.huge_pages)?
                }
            };
            // A count orders nothing else.
            let no = SegmentNo(self.last_no.fetch_add(1, Ordering::Relaxed) + 1);
            Segment::new(owner, no, spare, charge, self.segment_bytes)
        })
    }

    /// Charges a domain for something small that is not a segment.
    pub(crate) fn charge(&self, bytes: u64, domain: &Arc<Budget>) -> Result<[Charge; 2]> {
        self.find_room(bytes, domain, || {
            Ok([domain.charge(bytes)?, self.budget.charge(bytes)?])
        })
    }

    /// Tries until there is nothing more that could be given up for it.
    fn find_room<T>(
        &self,
        bytes: u64,
        domain: &Arc<Budget>,
        attempt: impl Fn() -> Result<T>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Err(error) if error.kind == Kind::Exhausted && self.shrink(bytes, domain) => {}
                result => return result,
            }
        }
    }

    /// Gives up one segment that is ahead of need, or idle and mapped by nobody else. Was there any?
    fn shrink(&self, bytes: u64, domain: &Arc<Budget>) -> bool {
        // What others give up does not help a domain that has used its own share.
        let is_domain_full = domain.left_bytes() < bytes;
        if !is_domain_full && self.spares.take().is_some() {
            return true;
        }
        let pools: Vec<_> = lock(&self.pools).iter().filter_map(Weak::upgrade).collect();
        let mut pools = pools.iter();
        if pools.any(|pool| (!is_domain_full || pool.is_of(domain)) && pool.give_up_one()) {
            return true;
        }
        let mut left_over = lock(&self.left_over);
        let found = left_over.iter().position(|segment| {
            (!is_domain_full || segment.charges[1].is_of(domain)) && segment.is_alone()
        });
        found.map(|idx| left_over.swap_remove(idx)).is_some()
    }

    /// Of a segment whose owner is gone, and which nobody uses.
    pub(crate) fn give_up(&self, segment: Segment) {
        if segment.is_alone() {
            drop(segment);
            self.spares.changed.notify_all();
        } else {
            lock(&self.left_over).push(segment);
        }
    }
}

/// Segments that are made ahead of need, by a thread that has time.
#[derive(Debug)]
struct Spares {
    state: Mutex<Ahead>,
    changed: Condvar,
    budget: Arc<Budget>,
    segment_bytes: u64,
    wanted: usize,
    huge_pages: HugePages,
}

#[derive(Debug, Default)]
struct Ahead {
    ready: Vec<Spare>,
    /// One is being made. It is charged for already.
    is_making: bool,
    is_over: bool,
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Ahead> {
        lock(&self.state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, Ahead>) -> MutexGuard<'a, Ahead> {
        self.changed.wait(state).expect(NO_PANIC)
    }

    fn take(&self) -> Option<Spare> {
        let mut state = self.lock();
        // The one that is being made may be the last one within the limit.
        while state.ready.is_empty() && state.is_making {
            state = self.wait(state);
        }
        let spare = state.ready.pop();
        self.changed.notify_all();
        spare
    }

    fn keep_filled(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let charge =
                (state.ready.len() < self.wanted).then(|| self.budget.charge(self.segment_bytes));
            let Some(Ok(charge)) = charge else {
                state = self.wait(state);
                continue;
            };
            state.is_making = true;
            drop(state);
            let spare = Spare::make(self.segment_bytes, charge, &self.huge_pages);
            if let Ok(spare) = &spare {
                spare.memory.populate(0, self.segment_bytes);
            }
            state = self.lock();
            state.is_making = false;
            match spare {
                Ok(spare) => state.ready.push(spare),
                Err(error) => {
                    tracing::warn!(%error, "no segment is made ahead");
                    state.is_over = true;
                }
            }
            self.changed.notify_all();
        }
    }
}
