//! The host calls below the guest's MPI library: parse, call the endpoint, render. `docs/cell-abi.md` is their contract.

use wasm::wasi::Step;
use wasmtime::{Caller, Linker, Result};

use super::{Cell, diverged, enter, unwind};
use crate::core::endpoint::Endpoint;
use crate::core::endpoint::call::{Envelope, Mode, Source, Span, Status, Wanted};
use crate::core::endpoint::frame::Frame;
use crate::core::trace::{Matched, Outcome, Trace, mismatch};

const MODULE: &str = "cloudskin_mpi";
const STATUS_BYTES: usize = 24;
/// More requests than any rank can have.
const REQUESTS_MAX: u32 = 1 << 20;
const ERROR_TRUNCATED: i32 = 15;
/// No message has this tag: `MPI` tags are not negative.
const TAG_OF_NONE: i32 = i32::MIN;
/// Rounds of looking again before a waiting rank sleeps, where every rank can have a processor.
const SPINS: u32 = 300;

/// `MPI_Abort` was called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("MPI_Abort with code {0}")]
pub(super) struct Aborted(pub i32);

pub(super) fn add_to_linker(linker: &mut Linker<Cell>) -> Result<()> {
    linker
        .func_wrap(MODULE, "world", world)?
        .func_wrap(MODULE, "send", send)?
        .func_wrap(MODULE, "recv", recv)?
        .func_wrap(MODULE, "wait", wait)?
        .func_wrap(MODULE, "probe", probe)?
        .func_wrap(MODULE, "completed", completed)?
        .func_wrap(MODULE, "cancel", cancel)?
        .func_wrap(MODULE, "abort", abort)?
        .func_wrap(MODULE, "clock", clock)?
        .func_wrap(MODULE, "name", name)?
        .func_wrap(MODULE, "finalize", finalize)?;
    Ok(())
}

fn world(caller: Caller<'_, Cell>) -> i64 {
    let cell = caller.data();
    i64::from(cell.node.spec.size) << 32 | i64::from(cell.rank)
}

fn send(
    mut caller: Caller<'_, Cell>,
    ctx: u32,
    dest: u32,
    tag: i32,
    ptr: u32,
    len: u32,
    mode: u32,
) -> Result<u32> {
    if enter(&mut caller, "send", collective(ctx, tag)) == Step::Unwind {
        return Ok(0);
    }
    let mode = if mode == 0 {
        Mode::Standard
    } else {
        Mode::Synchronous
    };
    let (memory, cell) = parts(&mut caller);
    cell.in_context(ctx, tag);
    with_endpoint(memory, cell, |endpoint, memory, out| {
        let request = endpoint.send(
            Envelope { ctx, dest, tag },
            Span { ptr, len },
            mode,
            memory,
            out,
        )?;
        endpoint.progress(memory, out)?;
        Ok(request)
    })
}

fn recv(
    mut caller: Caller<'_, Cell>,
    ctx: u32,
    source: i32,
    tag: i32,
    ptr: u32,
    len: u32,
) -> Result<u32> {
    if enter(&mut caller, "recv", collective(ctx, tag)) == Step::Unwind {
        return Ok(0);
    }
    let (memory, cell) = parts(&mut caller);
    cell.in_context(ctx, tag);
    let replay = matches!(cell.trace, Trace::Replay(_));
    let mut wanted = Wanted {
        ctx,
        source: source_of(source),
        tag: (tag != -1).then_some(tag),
    };
    if replay && wanted.source == Source::Any {
        let ordinal = cell
            .mailbox()
            .lock()
            .as_ref()
            .map_or(0, Endpoint::next_wildcard);
        let none = Matched {
            source: cell.rank,
            tag: TAG_OF_NONE,
        };
        let matched = cell.trace.wildcard(ordinal).unwrap_or(none);
        wanted = Wanted {
            ctx,
            source: Source::Replay(matched.source),
            tag: Some(matched.tag),
        };
    }
    with_endpoint(memory, cell, |endpoint, memory, out| {
        let request = endpoint.recv(wanted, Span { ptr, len }, memory, out)?;
        endpoint.progress(memory, out)?;
        Ok(request)
    })
}

fn wait(mut caller: Caller<'_, Cell>, reqs: u32, n: u32, min: u32, statuses: u32) -> Result<u32> {
    // What a rank waits for is known only by its last send or receive; the collective is named by the last mark.
    let inside = caller.data().inside_collective.filter(|_| n > 0);
    if enter(&mut caller, "wait", inside) == Step::Unwind {
        return Ok(0);
    }
    let requests = read_requests(&mut caller, reqs, n)?;
    let goal = Goal::new(&caller.data().trace, min.min(n), &requests)?;
    let (memory, _) = parts(&mut caller);
    let statuses = Span {
        ptr: statuses,
        len: n * u32::try_from(STATUS_BYTES)?,
    };
    slice(memory, statuses)?;
    if n == 0 {
        // Not one of the answers "not yet", after some of which a guest lets others run: this is how a rank that is alone passes
        // through its collectives.
        let (memory, cell) = parts(&mut caller);
        return with_endpoint(memory, cell, |endpoint, memory, out| {
            endpoint.progress(memory, out)?;
            Ok(0)
        });
    }
    block(
        &mut caller,
        "wait",
        inside,
        |endpoint, memory, cell, out| {
            endpoint.progress(memory, out)?;
            let mut done = Vec::new();
            for (position, request) in (0..).zip(&requests) {
                if goal.wants(position) && endpoint.completed(*request)? {
                    done.push(position);
                }
            }
            if done.len() < goal.min() {
                return Ok(None);
            }
            slice(memory, statuses)?.fill(0);
            for position in &done {
                let status = endpoint.consume(requests[*position as usize], memory, out)?;
                if let Some(ordinal) = status.wildcard {
                    let matched = Matched {
                        source: status.source,
                        tag: status.tag,
                    };
                    cell.trace
                        .record_wildcard(ordinal, matched)
                        .map_err(diverged)?;
                }
                write_status(memory, statuses.ptr + position * 24, &status)?;
            }
            let consumed = u32::try_from(done.len())?;
            goal.pass(&mut cell.trace, done)?;
            cell.idle(consumed == 0);
            Ok(Some(consumed))
        },
    )
    .map(|consumed| consumed.unwrap_or(0))
}

/// What a `wait` waits for.
enum Goal {
    /// As many as the guest asked for; everything complete is consumed. Whether that can differ from run to run.
    AtLeast { min: usize, is_open: bool },
    /// Exactly these, as in the recorded run.
    These(Vec<u32>),
}

impl Goal {
    fn new(trace: &Trace, min: u32, requests: &[u32]) -> Result<Self> {
        let min = min as usize;
        let is_open = min < requests.len();
        if is_open && let Some(outcome) = trace.peek().map_err(diverged)? {
            let Outcome::Waited(positions) = outcome else {
                return Err(diverged(mismatch("wait", outcome)));
            };
            if !positions.iter().all(|at| (*at as usize) < requests.len()) {
                return Err(diverged(mismatch("wait", outcome)));
            }
            return Ok(Self::These(positions.clone()));
        }
        Ok(Self::AtLeast { min, is_open })
    }

    fn wants(&self, position: u32) -> bool {
        match self {
            Self::AtLeast { .. } => true,
            Self::These(positions) => positions.contains(&position),
        }
    }

    fn min(&self) -> usize {
        match self {
            Self::AtLeast { min, .. } => *min,
            Self::These(positions) => positions.len(),
        }
    }

    fn pass(&self, trace: &mut Trace, done: Vec<u32>) -> Result<()> {
        match self {
            Self::AtLeast { is_open: true, .. } => {
                trace.record(|| Outcome::Waited(done)).map_err(diverged)
            }
            Self::AtLeast { is_open: false, .. } => Ok(()),
            Self::These(_) => {
                trace.advance();
                Ok(())
            }
        }
    }
}

fn probe(
    mut caller: Caller<'_, Cell>,
    ctx: u32,
    source: i32,
    tag: i32,
    block_flag: u32,
    status: u32,
) -> Result<u32> {
    let inside = collective(ctx, tag);
    if enter(&mut caller, "probe", inside) == Step::Unwind {
        return Ok(0);
    }
    let mut wanted = Wanted {
        ctx,
        source: source_of(source),
        tag: (tag != -1).then_some(tag),
    };
    let mut must_find = block_flag != 0;
    match caller.data().trace.peek().map_err(diverged)? {
        None => {}
        Some(Outcome::Probed(None)) => {
            caller.data_mut().trace.advance();
            return Ok(0);
        }
        Some(Outcome::Probed(Some(Matched { source, tag }))) => {
            wanted = Wanted {
                ctx,
                source: Source::Rank(*source),
                tag: Some(*tag),
            };
            must_find = true;
        }
        Some(other) => return Err(diverged(mismatch("probe", other))),
    }
    let (memory, _) = parts(&mut caller);
    slice(
        memory,
        Span {
            ptr: status,
            len: 24,
        },
    )?;
    let found = block(
        &mut caller,
        "probe",
        inside,
        |endpoint, memory, cell, out| {
            endpoint.progress(memory, out)?;
            let found = endpoint.probe(wanted)?;
            if found.is_none() && must_find {
                return Ok(None);
            }
            let matched = found.map(|found| Matched {
                source: found.source,
                tag: found.tag,
            });
            cell.trace
                .record(|| Outcome::Probed(matched))
                .map_err(diverged)?;
            cell.trace.advance();
            cell.idle(found.is_none());
            if let Some(found) = &found {
                write_status(memory, status, found)?;
            }
            Ok(Some(u32::from(found.is_some())))
        },
    )?;
    Ok(found.unwrap_or(0))
}

fn completed(mut caller: Caller<'_, Cell>, call: u32, ctx: u32, tag: i32) {
    caller.data_mut().iterations.completed(call, ctx, tag);
}

fn cancel(mut caller: Caller<'_, Cell>, request: u32) -> Result<u32> {
    let (memory, cell) = parts(&mut caller);
    let recorded = cell.trace.peek().map_err(diverged)?.cloned();
    if recorded == Some(Outcome::Cancelled(false)) {
        // It matched then; it will match now.
        cell.trace.advance();
        return Ok(0);
    }
    let is_cancelled = with_endpoint(memory, cell, |endpoint, _, _| Ok(endpoint.cancel(request)?))?;
    let outcome = Outcome::Cancelled(is_cancelled);
    if recorded.is_some_and(|recorded| recorded != outcome) {
        return Err(diverged(mismatch("cancel", &outcome)));
    }
    cell.trace.advance();
    cell.trace.record(|| outcome).map_err(diverged)?;
    Ok(u32::from(is_cancelled))
}

fn abort(code: i32) -> Result<()> {
    Err(wasmtime::Error::new(Aborted(code)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a double holds ns of 100 days exactly, and this is a clock"
)]
fn clock(mut caller: Caller<'_, Cell>) -> Result<f64> {
    let cell = caller.data_mut();
    let now = cell.clock;
    match cell
        .trace
        .outcome(|| Outcome::Clock(now.now_ns()))
        .map_err(diverged)?
    {
        Outcome::Clock(ns) => Ok(ns as f64 / 1e9),
        other => Err(diverged(mismatch("clock", &other))),
    }
}

fn name(mut caller: Caller<'_, Cell>, ptr: u32, cap: u32) -> Result<u32> {
    let (memory, cell) = parts(&mut caller);
    let live = || Outcome::Name(crate::host::host_name(cell.node.me).into_bytes());
    let mut name = match cell.trace.outcome(live).map_err(diverged)? {
        Outcome::Name(name) => name,
        other => return Err(diverged(mismatch("name", &other))),
    };
    name.truncate(cap as usize);
    let len = u32::try_from(name.len())?;
    slice(memory, Span { ptr, len })?.copy_from_slice(&name);
    Ok(len)
}

/// Waits until everything that the rank has sent is at its peers. Their messages to it are still
/// acknowledged afterwards: the endpoint stays when the guest is gone.
fn finalize(mut caller: Caller<'_, Cell>) -> Result<()> {
    if enter(&mut caller, "finalize", None) == Step::Unwind {
        return Ok(());
    }
    caller.data().mailbox().drain();
    block(&mut caller, "finalize", None, |endpoint, memory, _, out| {
        endpoint.progress(memory, out)?;
        Ok((endpoint.pending().unacked_frames == 0).then_some(()))
    })?;
    Ok(())
}

/// Runs `attempt` until it has a result, sleeping while nothing changes. `None`: the rank stops, and the guest must return at once.
fn block<R>(
    caller: &mut Caller<'_, Cell>,
    call: &'static str,
    inside: Option<&'static str>,
    mut attempt: impl FnMut(&mut Endpoint, &mut [u8], &mut Cell, &mut Vec<Frame>) -> Result<Option<R>>,
) -> Result<Option<R>> {
    let mut out = Vec::new();
    let mut n_spins = 0;
    loop {
        let (memory, cell) = parts(caller);
        let node = std::sync::Arc::clone(&cell.node);
        let mailbox = node
            .mailbox(cell.rank)
            .expect("a cell is a rank of its world");
        let mut guard = mailbox.lock();
        let endpoint = guard
            .as_mut()
            .expect("the mailbox of a running cell is open");
        let result = attempt(endpoint, memory, cell, &mut out)?;
        if !out.is_empty() || result.is_some() {
            drop(guard);
            node.route(&mut out);
            if result.is_some() {
                return Ok(result);
            }
            continue;
        }
        if cell.must_stop(true) {
            drop(guard);
            unwind(caller, call, inside);
            return Ok(None);
        }
        if n_spins < SPINS && node.has_spare_processors() {
            drop(guard);
            n_spins += 1;
            std::hint::spin_loop();
        } else {
            drop(mailbox.wait(guard, None));
        }
    }
}

fn with_endpoint<R>(
    memory: &mut [u8],
    cell: &mut Cell,
    call: impl FnOnce(&mut Endpoint, &mut [u8], &mut Vec<Frame>) -> Result<R>,
) -> Result<R> {
    let mut out = Vec::new();
    let result = {
        let mut guard = cell.mailbox().lock();
        let endpoint = guard
            .as_mut()
            .expect("the mailbox of a running cell is open");
        call(endpoint, memory, &mut out)?
    };
    cell.node.route(&mut out);
    Ok(result)
}

fn parts<'a>(caller: &'a mut Caller<'_, Cell>) -> (&'a mut [u8], &'a mut Cell) {
    let memory = caller.data().memory.expect("set before the guest runs");
    memory.data_and_store_mut(caller)
}

fn slice(memory: &mut [u8], span: Span) -> Result<&mut [u8]> {
    let start = span.ptr as usize;
    memory
        .get_mut(start..start + span.len as usize)
        .ok_or_else(|| {
            wasmtime::Error::msg(format!("{} bytes at {} leave memory", span.len, span.ptr))
        })
}

fn read_requests(caller: &mut Caller<'_, Cell>, ptr: u32, n: u32) -> Result<Vec<u32>> {
    if n > REQUESTS_MAX {
        return Err(wasmtime::Error::msg(format!("a wait for {n} requests")));
    }
    let (memory, _) = parts(caller);
    let bytes = slice(memory, Span { ptr, len: n * 4 })?;
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|request| u32::from_le_bytes(*request))
        .collect())
}

fn write_status(memory: &mut [u8], ptr: u32, status: &Status) -> Result<()> {
    let bytes = slice(memory, Span { ptr, len: 24 })?;
    let error = if status.truncated { ERROR_TRUNCATED } else { 0 };
    bytes[..4].copy_from_slice(&1_u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&status.source.to_le_bytes());
    bytes[8..12].copy_from_slice(&status.tag.to_le_bytes());
    bytes[12..16].copy_from_slice(&error.to_le_bytes());
    bytes[16..24].copy_from_slice(&status.len.to_le_bytes());
    Ok(())
}

fn source_of(source: i32) -> Source {
    u32::try_from(source).map_or(Source::Any, Source::Rank)
}

impl Cell {
    /// Notes what the rank is doing, for observers.
    fn in_context(&mut self, ctx: u32, tag: i32) {
        self.inside_collective = collective(ctx, tag);
        if self.inside_collective.is_some() {
            self.mark(tag);
        }
    }
}

/// The collective that traffic with this tag belongs to; see the table of `docs/cell-abi.md`.
fn collective(ctx: u32, tag: i32) -> Option<&'static str> {
    const NAMES: [&str; 12] = [
        "barrier",
        "bcast",
        "reduce",
        "allreduce",
        "gather",
        "scatter",
        "allgather",
        "alltoall",
        "scan",
        "exscan",
        "reduce_scatter",
        "communicator",
    ];
    let op = usize::try_from(tag >> 24).ok()?;
    if ctx.is_multiple_of(2) {
        None
    } else {
        NAMES.get(op.checked_sub(1)?).copied()
    }
}
