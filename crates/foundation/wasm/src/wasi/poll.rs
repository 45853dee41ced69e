//! The control points: `poll_oneoff` and `sched_yield`.
//!
//! A wait can end early because the cell unwinds, and is then made again from its beginning, maybe
//! on another host. What it has to remember is when it began: every deadline of it follows from
//! that.

use serde::{Deserialize, Serialize};
use wasmtime::Caller;

use super::call::{Call, with_call};
use super::table::Descriptor;
use super::types;
use super::{Clock, Errno, Host, Step};

const SUBSCRIPTIONS_MAX: u32 = 1024;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// The flag in an event for what will never have more to read.
const HANGUP: u16 = 1;

/// What is said to be writable at once, where nothing limits it.
const WRITABLE_BYTES: u64 = 64 << 10;

/// When a wait began, by the two clocks that one can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    monotonic_ns: u64,
    realtime_ns: u64,
}

pub(super) fn sched_yield<T: Host>(caller: &mut Caller<'_, T>) -> Result<(), Errno> {
    if T::enter(caller) == Step::Proceed {
        std::thread::yield_now();
    }
    Ok(())
}

pub(super) fn poll_oneoff<T: Host>(
    caller: &mut Caller<'_, T>,
    input: u32,
    output: u32,
    count: u32,
    result: u32,
) -> Result<(), Errno> {
    if T::enter(caller) == Step::Unwind {
        return Ok(());
    }
    let mut plan = with_call(caller, |call| call.plan(input, output, count, result))?;
    if plan.ready.is_empty()
        && let Some(deadline_ns) = plan.timers.iter().map(|timer| timer.deadline_ns).min()
    {
        if T::sleep_until(caller, deadline_ns) == Step::Unwind {
            return Ok(());
        }
        let due = plan
            .timers
            .iter()
            .filter(|timer| timer.deadline_ns == deadline_ns);
        plan.ready
            .extend(due.map(|timer| Event::clock(timer.userdata)));
    }
    with_call(caller, |call| call.finish(&plan.ready, output, result))
}

/// What a wait is for.
#[derive(Debug, Default)]
struct Plan {
    /// What need not be waited for.
    ready: Vec<Event>,
    timers: Vec<Timer>,
}

#[derive(Debug)]
struct Timer {
    userdata: u64,
    /// By the monotonic clock.
    deadline_ns: u64,
}

#[derive(Debug)]
struct Event {
    userdata: u64,
    error: u16,
    kind: u8,
    bytes: u64,
    flags: u16,
}

impl Event {
    fn clock(userdata: u64) -> Self {
        Self {
            userdata,
            error: 0,
            kind: CLOCK,
            bytes: 0,
            flags: 0,
        }
    }

    fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.userdata.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.error.to_le_bytes());
        bytes[10] = self.kind;
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

impl Call<'_> {
    /// Reads the subscriptions, and notes the start of the wait if it is not the rest of one.
    fn plan(&mut self, input: u32, output: u32, count: u32, result: u32) -> Result<Plan, Errno> {
        let plan = self.read_plan(input, output, count, result);
        if plan.is_err() {
            self.host.wasi().pending = None;
        }
        plan
    }

    fn read_plan(
        &mut self,
        input: u32,
        output: u32,
        count: u32,
        result: u32,
    ) -> Result<Plan, Errno> {
        if count == 0 || count > SUBSCRIPTIONS_MAX {
            return Err(Errno::Inval);
        }
        self.memory.get(output, count * EVENT_BYTES)?;
        self.memory.get(result, 4)?;
        let subscriptions = self.memory.get(input, count * SUBSCRIPTION_BYTES)?.to_vec();
        let mut plan = Plan::default();
        for subscription in subscriptions.as_chunks::<48>().0 {
            let fields = Fields(subscription);
            let userdata = fields.u64_at(0);
            match subscription[8] {
                CLOCK => match self.deadline(&fields) {
                    Ok(deadline_ns) => plan.timers.push(Timer {
                        userdata,
                        deadline_ns,
                    }),
                    Err(errno) => plan.ready.push(Event {
                        error: errno.code(),
                        ..Event::clock(userdata)
                    }),
                },
                kind @ (FD_READ | FD_WRITE) => {
                    let event = match self.readiness(fields.u32_at(16), kind) {
                        Ok((bytes, flags)) => Event {
                            userdata,
                            error: 0,
                            kind,
                            bytes,
                            flags,
                        },
                        Err(errno) => Event {
                            userdata,
                            error: errno.code(),
                            kind,
                            bytes: 0,
                            flags: 0,
                        },
                    };
                    plan.ready.push(event);
                }
                _ => return Err(Errno::Inval),
            }
        }
        Ok(plan)
    }

    /// By the monotonic clock.
    fn deadline(&mut self, fields: &Fields<'_>) -> Result<u64, Errno> {
        let (id, timeout_ns, flags) = (fields.u32_at(16), fields.u64_at(24), fields.u16_at(40));
        let clock = types::clock(id)?;
        if flags > 1 || !matches!(clock, Clock::Monotonic | Clock::Realtime) {
            return Err(Errno::Inval);
        }
        let start = self.start();
        Ok(match (clock, flags == 1) {
            (_, false) => start.monotonic_ns.saturating_add(timeout_ns),
            (Clock::Realtime, true) => start
                .monotonic_ns
                .saturating_add(timeout_ns.saturating_sub(start.realtime_ns)),
            (_, true) => timeout_ns,
        })
    }

    fn start(&mut self) -> Start {
        if let Some(start) = self.host.wasi().pending {
            return start;
        }
        let monotonic_ns = self.host.clock(Clock::Monotonic);
        let realtime_ns = self.host.clock(Clock::Realtime);
        let start = Start {
            monotonic_ns,
            realtime_ns,
        };
        self.host.wasi().pending = Some(start);
        start
    }

    /// How much can be read or written. Files and streams never let anybody wait.
    fn readiness(&mut self, fd: u32, kind: u8) -> Result<(u64, u16), Errno> {
        match (self.host.wasi().table.get(fd)?, kind) {
            (Descriptor::Stdin, FD_READ) => Ok((0, HANGUP)),
            (Descriptor::Output(_), FD_WRITE) => Ok((WRITABLE_BYTES, 0)),
            (Descriptor::File(file), FD_READ) if file.read => {
                Ok((file.file.stat()?.size.saturating_sub(file.offset), 0))
            }
            (Descriptor::File(file), FD_WRITE) if file.write => Ok((WRITABLE_BYTES, 0)),
            _ => Err(Errno::Badf),
        }
    }

    /// Reports, and forgets the wait.
    fn finish(&mut self, events: &[Event], output: u32, result: u32) -> Result<(), Errno> {
        self.host.wasi().pending = None;
        let bytes: Vec<u8> = events.iter().flat_map(Event::encode).collect();
        self.memory.put(output, &bytes)?;
        self.memory.put_len(result, events.len())
    }
}

/// A subscription: `userdata` at 0, the kind at 8; then of a clock its number at 16, the time at 24
/// and flags at 40; of a descriptor its number at 16.
struct Fields<'a>(&'a [u8; 48]);

impl Fields<'_> {
    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|index| self.0[at + index])
    }
}
