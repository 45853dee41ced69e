//! One rank as a running guest.
//!
//! A cell is a Wasm instance and the thread that runs it. All that lives between two of its calls is in the guest's memories and globals and
//! in [`Cell`], as plain data: so a cell that stands still can be written down ([`image`]) and go on elsewhere.
//!
//! Reading order: this file (the state, and how a call may end early); `calls` (the host calls of `docs/cell-abi.md`); `image` (capture and
//! restore); `life` (the thread); `iterations` (how fast the guest gets on).

mod calls;
pub(crate) mod clock;
pub(crate) mod image;
mod iterations;
pub(crate) mod life;
pub(crate) mod stop;
mod sys;

use std::sync::Arc;

use wasm::wasi::{self, Errno, Step, Wasi};
use wasmtime::{Caller, Global, Linker, Memory, ResourceLimiter, Val};

use crate::core::endpoint::call::Pending;
use crate::core::trace::{self, Outcome, Trace};
use crate::host::node::{Mailbox, Node};
use crate::wire::messages::{Event, FreezeReport};
use clock::{Clock, wall_now_ns};
use iterations::Iterations;
use stop::Stop;

/// The guest is unwinding, or rewinding: values of the global `cloudskin:state`.
const NORMAL: i32 = 0;
const UNWINDING: i32 = 1;
const REWINDING: i32 = 2;

/// Output travels in pieces of this size.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Recorded randomness is taken in pieces of this size.
const RANDOM_BYTES_MAX: usize = 64 << 10;
/// So many beginnings of collectives are reported at once.
const MARKS_MAX: usize = 256;

/// The data of a guest's store.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) rank: u32,
    pub(crate) node: Arc<Node>,
    wasi: Wasi,
    trace: Trace,
    clock: Clock,
    /// Memory 0; set before the guest runs.
    memory: Option<Memory>,
    /// The global `cloudskin:state` of an instrumented guest.
    state: Option<Global>,
    is_rewinding: bool,
    /// Control points passed since the cell began here.
    n_calls: u64,
    stop: Option<Stop>,
    /// What the guest was doing when it began to unwind.
    frozen: Option<Frozen>,
    /// Answers "not yet" in a row: a guest that polls lets others run.
    n_idle: u32,
    output_seq: u64,
    marks: Marks,
    iterations: Iterations,
    /// The collective that the last send or receive belonged to.
    inside_collective: Option<&'static str>,
    memory_bytes_max: u64,
    /// A call that cannot fail has met another outcome than it was recorded with.
    has_diverged: bool,
    /// The first instruction after a move is to be reported for this epoch.
    resuming: Option<u32>,
}

#[derive(Debug)]
struct Frozen {
    call: &'static str,
    collective: Option<&'static str>,
    wall_ns: u64,
}

#[derive(Debug, Default)]
struct Marks {
    is_on: bool,
    last_tag: Option<i32>,
    marks: Vec<(u8, u64)>,
}

impl Cell {
    fn mailbox(&self) -> &Mailbox {
        self.node
            .mailbox(self.rank)
            .expect("a cell is a rank of its world")
    }

    /// Whether the guest has to stop here.
    fn must_stop(&mut self, is_blocked: bool) -> bool {
        if self.stop.is_none()
            && let Some(request) = self.mailbox().take_stop()
        {
            self.stop = Some(Stop::new(request, self.n_calls));
        }
        self.stop
            .as_ref()
            .is_some_and(|stop| stop.is_due(self.n_calls, is_blocked))
    }

    fn report(&self, pending: Pending, bytes: u64) -> FreezeReport {
        let frozen = self.frozen.as_ref().expect("the guest has unwound");
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        FreezeReport {
            call: frozen.call.to_owned(),
            collective: frozen.collective.map(str::to_owned),
            posted: count(pending.posted),
            unexpected: count(pending.unexpected),
            in_flight: count(pending.unacked_frames),
            bytes,
            frozen_ns: frozen.wall_ns,
        }
    }

    /// Notes that a collective begins, if these times are asked for.
    fn mark(&mut self, tag: i32) {
        if !self.marks.is_on || self.marks.last_tag == Some(tag) {
            return;
        }
        self.marks.last_tag = Some(tag);
        let op = u8::try_from(tag >> 24).unwrap_or(0);
        self.marks.marks.push((op, wall_now_ns()));
        if self.marks.marks.len() >= MARKS_MAX {
            self.flush_marks();
        }
    }

    fn flush_marks(&mut self) {
        let marks = std::mem::take(&mut self.marks.marks);
        if !marks.is_empty() {
            self.node.up.send(Event::Marks {
                rank: self.rank,
                marks,
            });
        }
    }

    /// Lets others run after some answers "not yet" in a row.
    fn idle(&mut self, is_idle: bool) {
        self.n_idle = if is_idle { self.n_idle + 1 } else { 0 };
        if self.n_idle > 8 {
            self.n_idle = 0;
            std::thread::yield_now();
        }
    }
}

/// Begins a control point: ends a rewind, or begins an unwind if the rank is to stop.
fn enter(
    caller: &mut Caller<'_, Cell>,
    call: &'static str,
    collective: Option<&'static str>,
) -> Step {
    let cell = caller.data_mut();
    if cell.is_rewinding {
        cell.is_rewinding = false;
        set_state(caller, NORMAL);
        resumed(caller.data_mut());
        return Step::Proceed;
    }
    cell.n_calls += 1;
    if cell.must_stop(false) {
        unwind(caller, call, collective)
    } else {
        Step::Proceed
    }
}

fn resumed(cell: &mut Cell) {
    if let Some(epoch) = cell.resuming.take() {
        cell.node.metrics.resumed_ranks.inc();
        cell.node.up.send(Event::Running {
            rank: cell.rank,
            epoch,
            resumed_ns: wall_now_ns(),
        });
    }
}

/// Begins to unwind: the caller returns zero to the guest.
fn unwind(
    caller: &mut Caller<'_, Cell>,
    call: &'static str,
    collective: Option<&'static str>,
) -> Step {
    set_state(caller, UNWINDING);
    caller.data_mut().frozen = Some(Frozen {
        call,
        collective,
        wall_ns: wall_now_ns(),
    });
    Step::Unwind
}

fn set_state(caller: &mut Caller<'_, Cell>, state: i32) {
    let global = caller
        .data()
        .state
        .expect("only instrumented guests unwind");
    global
        .set(caller, Val::I32(state))
        .expect("the state is a mutable i32");
}

impl wasi::Host for Cell {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn clock(&mut self, clock: wasi::Clock) -> u64 {
        let now = self.clock;
        let outcome = self.trace.outcome(|| {
            Outcome::Clock(match clock {
                wasi::Clock::Realtime => wall_now_ns(),
                wasi::Clock::Monotonic | wasi::Clock::ProcessCpu | wasi::Clock::ThreadCpu => {
                    now.now_ns()
                }
            })
        });
        match outcome {
            Ok(Outcome::Clock(ns)) => ns,
            Ok(_) | Err(_) => {
                self.has_diverged = true;
                0
            }
        }
    }

    fn random(&mut self, buffer: &mut [u8]) {
        if matches!(self.trace, Trace::Off) {
            return rt::fill_random(buffer);
        }
        for piece in buffer.chunks_mut(RANDOM_BYTES_MAX) {
            let outcome = self.trace.outcome(|| {
                let mut bytes = vec![0; piece.len()];
                rt::fill_random(&mut bytes);
                Outcome::Random(bytes)
            });
            match outcome {
                Ok(Outcome::Random(bytes)) if bytes.len() == piece.len() => {
                    piece.copy_from_slice(&bytes);
                }
                Ok(_) | Err(_) => self.has_diverged = true,
            }
        }
    }

    fn output(&mut self, stream: wasi::Stream, bytes: &[u8]) -> Result<(), Errno> {
        for piece in bytes.chunks(OUTPUT_BYTES_MAX) {
            self.node.up.send(Event::Output {
                rank: self.rank,
                seq: self.output_seq,
                stderr: stream == wasi::Stream::Stderr,
                bytes: piece.to_vec(),
            });
            self.output_seq += 1;
        }
        Ok(())
    }

    fn enter(caller: &mut Caller<'_, Self>) -> Step {
        enter(caller, "wasi", None)
    }

    fn sleep_until(caller: &mut Caller<'_, Self>, deadline_ns: u64) -> Step {
        loop {
            let cell = caller.data_mut();
            if matches!(cell.trace, Trace::Replay(_)) {
                return Step::Proceed;
            }
            let now = cell.clock.now_ns();
            if now >= deadline_ns {
                return Step::Proceed;
            }
            if cell.must_stop(true) {
                return unwind(caller, "sleep", None);
            }
            let mailbox = cell.mailbox();
            let guard = mailbox.lock();
            if !mailbox.has_stop() {
                let rest = std::time::Duration::from_nanos(deadline_ns - now);
                drop(mailbox.wait(guard, Some(rest)));
            }
        }
    }
}

impl ResourceLimiter for Cell {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_allowed = desired as u64 <= self.memory_bytes_max;
        // Of the two memories only memory 0 grows after its beginning.
        if is_allowed && current > 0 {
            self.mailbox().note_memory(desired as u64);
        }
        Ok(is_allowed)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 1 << 20)
    }
}

/// Defines all imports that a cell may have.
///
/// # Errors
/// When two have one name: our own mistake.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Cell>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    calls::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The replay went another way than the recording, as an error that ends the guest.
fn diverged(error: trace::Diverged) -> wasmtime::Error {
    wasmtime::Error::new(error)
}
