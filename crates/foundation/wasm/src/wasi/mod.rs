//! WASI preview 1 for cells.
//!
//! It is all of preview 1 that a C program linked with wasi-libc can call: sockets are refused,
//! everything else works on a [`Vfs`]. What makes it ours is that a guest can leave in the middle
//! of it:
//!
//! - Everything that lives between two calls is in [`Wasi`], and [`Wasi::save`] turns it into plain
//!   data. Nothing hides in the host's file descriptions: the position in a file is ours, and so is
//!   "append".
//! - Clock, randomness and output come from the [`Host`], which can record and replay them.
//! - `poll_oneoff` and `sched_yield` are control points: they ask the host first, and may return
//!   early with nothing consumed.
//!
//! A guest is hostile. No argument makes a call panic, trap or allocate more than a bounded amount;
//! bad pointers are `EFAULT`.
//!
//! Reading order: this file; `call` (the guest's memory); `table` (its descriptors); `files`,
//! `paths`, `process`, `poll` (the calls); `state` (leaving and coming back).

mod call;
mod directory;
mod files;
mod paths;
mod poll;
mod process;
mod register;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::{Caller, Memory};

pub use crate::vfs::Errno;
use crate::vfs::Vfs;
pub use register::add_to_linker;
pub use state::{CannotSave, RestoreError, State};

/// What a guest's calls need from outside. It is the data of the guest's store.
pub trait Host: Send + 'static {
    /// The guest's own state.
    fn wasi(&mut self) -> &mut Wasi;

    /// Reads a clock, nanoseconds. The monotonic clock never goes back, also across moves.
    fn clock(&mut self, clock: Clock) -> u64;

    /// Fills `buffer` with randomness.
    fn random(&mut self, buffer: &mut [u8]);

    /// Takes what the guest writes. It may block while nobody reads.
    ///
    /// # Errors
    /// What the guest is to see, [`Errno::Pipe`] when nobody will ever read.
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Errno>;

    /// Comes first in every control point.
    fn enter(caller: &mut Caller<'_, Self>) -> Step
    where
        Self: Sized;

    /// Sleeps until the monotonic clock has reached `deadline_ns`, or the guest must unwind.
    fn sleep_until(caller: &mut Caller<'_, Self>, deadline_ns: u64) -> Step
    where
        Self: Sized;
}

/// The clocks of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Since 1970.
    Realtime,
    /// Since some moment in the past.
    Monotonic,
    /// Processor time of the guest.
    ProcessCpu,
    /// Processor time of the guest's thread, which is its only one.
    ThreadCpu,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a control point does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Proceed,
    /// Return zero to the guest at once; it unwinds, and will make the same call again after its
    /// rewind.
    Unwind,
}

/// The guest has called `proc_exit` with this code. It comes out of the guest as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program exited with code {0}")]
pub struct Exit(pub u32);

/// The state of one guest.
#[derive(Debug)]
pub struct Wasi {
    args: Vec<String>,
    env: Vec<(String, String)>,
    mounts: Vec<Mount>,
    table: table::Table,
    /// The start of a wait that is not over.
    pending: Option<poll::Start>,
    /// The directory that is being read. One is enough: a program that reads two in turns pays with
    /// time.
    listing: Option<directory::Listing>,
    /// Looking up the export takes longer than most calls.
    memory: Option<Memory>,
}

#[derive(Clone, Debug)]
struct Mount {
    /// What the guest calls it.
    guest: String,
    vfs: Arc<dyn Vfs>,
}

impl Wasi {
    /// A guest that starts, with an empty standard input and with `mounts` (the guest's name of
    /// each, and what is there).
    #[must_use]
    pub fn new(
        args: Vec<String>,
        env: Vec<(String, String)>,
        mounts: Vec<(String, Arc<dyn Vfs>)>,
    ) -> Self {
        let mounts: Vec<Mount> = mounts
            .into_iter()
            .map(|(guest, vfs)| Mount { guest, vfs })
            .collect();
        let table = table::Table::new(mounts.len());
        Self {
            args,
            env,
            mounts,
            table,
            pending: None,
            listing: None,
            memory: None,
        }
    }

    /// Says which memory is the guest's; else the export `memory` is looked up at the first call.
    /// It must be of the store of this guest.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = Some(memory);
    }
}
