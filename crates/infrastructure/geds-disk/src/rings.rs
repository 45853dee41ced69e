//! Reading and writing with io_uring: the pieces of a large transfer are under way together. The only unsafe code of tier 1.
//!
//! A transfer is a call that returns when the kernel is done with all of its pieces, whatever became of them. So the memory is borrowed for
//! exactly as long as the kernel may use it; that is the whole argument, and [`Flight`] keeps it.
#![expect(
    unsafe_code,
    reason = "the kernel is given pointers; Flight says why they stay good"
)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process;
use std::sync::{Condvar, Mutex, PoisonError};

use io_uring::{IoUring, Probe, opcode, squeue, types};

/// So many pieces of a transfer are under way at once.
const DEPTH: u32 = 32;
const PIECE_BYTES: usize = 128 << 10;
/// So many transfers are under way at once; others wait.
const RINGS: usize = 4;

/// A few rings, for whoever comes first.
pub(crate) struct Rings {
    idle: Mutex<Vec<IoUring>>,
    returned: Condvar,
}

impl fmt::Debug for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rings").finish_non_exhaustive()
    }
}

impl Rings {
    /// An error if the kernel has no rings, or does not let us have them.
    pub(crate) fn new() -> io::Result<Self> {
        let rings = (0..RINGS).map(|_| IoUring::new(DEPTH));
        let rings: Vec<_> = rings.collect::<io::Result<_>>()?;
        let mut probe = Probe::new();
        rings[0].submitter().register_probe(&mut probe)?;
        let codes = [opcode::Read::CODE, opcode::Write::CODE];
        if codes.iter().any(|code| !probe.is_supported(*code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            idle: Mutex::new(rings),
            returned: Condvar::new(),
        })
    }

    /// Whether it is worth a ring.
    pub(crate) fn is_long(len: usize) -> bool {
        len > PIECE_BYTES
    }

    pub(crate) fn read(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let (start, len) = (into.as_mut_ptr(), into.len());
        self.with_ring(|ring| {
            Flight::new(ring, len).run(io::ErrorKind::UnexpectedEof, |from, n| {
                let n = u32::try_from(n).expect("a piece is short");
                // `from` is inside of `into`, so the pointer is in it too.
                let read = opcode::Read::new(fd, start.wrapping_add(from), n);
                read.offset(offset + from as u64).build()
            })
        })
    }

    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let (start, len) = (bytes.as_ptr(), bytes.len());
        self.with_ring(|ring| {
            Flight::new(ring, len).run(io::ErrorKind::WriteZero, |from, n| {
                let n = u32::try_from(n).expect("a piece is short");
                let write = opcode::Write::new(fd, start.wrapping_add(from), n);
                write.offset(offset + from as u64).build()
            })
        })
    }

    fn with_ring<T>(&self, run: impl FnOnce(&mut IoUring) -> T) -> T {
        let lock = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = lock();
        let mut ring = loop {
            match idle.pop() {
                Some(ring) => break ring,
                None => {
                    idle = self
                        .returned
                        .wait(idle)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(idle);
        let result = run(&mut ring);
        lock().push(ring);
        self.returned.notify_one();
        result
    }
}

/// One transfer. It does not end while the kernel has pieces of it: [`run`](Self::run) returns when there are none, and if it panicked before, or
/// could not get them back, the process would end in `drop`.
struct Flight<'a> {
    ring: &'a mut IoUring,
    len: usize,
    /// Up to here pieces were begun.
    begun: usize,
    /// Where pieces begin that have to be begun again.
    again: Vec<usize>,
    n_flying: usize,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.n_flying > 0 {
            process::abort();
        }
    }
}

impl<'a> Flight<'a> {
    fn new(ring: &'a mut IoUring, len: usize) -> Self {
        Self {
            ring,
            len,
            begun: 0,
            again: Vec::with_capacity(DEPTH as usize),
            n_flying: 0,
        }
    }

    /// Transfers all. `piece` makes the order to transfer so many bytes from there on; `ended` is what it means when nothing is.
    fn run(
        mut self,
        ended: io::ErrorKind,
        piece: impl Fn(usize, usize) -> squeue::Entry,
    ) -> io::Result<()> {
        let mut result = Ok(());
        loop {
            while self.n_flying < DEPTH as usize && result.is_ok() {
                let Some(from) = self.next() else { break };
                let order = piece(from, self.end_of(from) - from);
                let order = order.user_data(from as u64);
                // SAFETY: the order is to transfer bytes from `from` to the end of its piece, which are inside of the memory that the
                // caller of `read` or `write` has lent us, for reading or for writing, until we return; and so is the file. We
                // return when `n_flying` is 0, and it counts this one until the kernel has said that it is done.
                let pushed = unsafe { self.ring.submission().push(&order) };
                pushed.expect("no more fly than the ring has places");
                self.n_flying += 1;
            }
            if self.n_flying == 0 {
                return result;
            }
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                // Nobody knows whether the kernel has our memory. What has `n_flying` above 0 never returns.
                Err(_) => process::abort(),
            }
            loop {
                let done = self.ring.completion().next();
                let Some(done) = done else { break };
                self.n_flying -= 1;
                let from = usize::try_from(done.user_data()).expect("it was made of one");
                if let Err(error) = self.note(from, done.result(), ended) {
                    result = result.and(Err(error));
                }
            }
        }
    }

    fn next(&mut self) -> Option<usize> {
        if let Some(from) = self.again.pop() {
            return Some(from);
        }
        let from = self.begun;
        if from == self.len {
            return None;
        }
        self.begun = self.end_of(from);
        Some(from)
    }

    /// Pieces lie at multiples of their size, also when their beginning was transferred before.
    fn end_of(&self, from: usize) -> usize {
        self.len.min((from / PIECE_BYTES + 1) * PIECE_BYTES)
    }

    /// What has become of the piece from `from` on.
    fn note(&mut self, from: usize, result: i32, ended: io::ErrorKind) -> io::Result<()> {
        match usize::try_from(result) {
            Err(_) => {
                let error = io::Error::from_raw_os_error(-result);
                if !is_passing(&error) {
                    return Err(error);
                }
                self.again.push(from);
            }
            Ok(0) => return Err(ended.into()),
            Ok(n) if from + n < self.end_of(from) => self.again.push(from + n),
            Ok(_) => {}
        }
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}
