//! Logs in memory, for tests of what stands on a log: a record is durable at once, and gone with the last clone of the [`Memory`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ids::Epoch;

use crate::format::FIRST;
use crate::ticket::{Batch, Outcome};
use crate::{DurableLog, Error, LogId, Position, Ticket, Visit, lock};

const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Where the logs are. Shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Where the log ended when each owner but the last was fenced; their number is the epoch of the last one.
    ends: Vec<Position>,
    n_records: u64,
    logs: BTreeMap<LogId, Records>,
}

#[derive(Debug)]
struct Records {
    start: Position,
    records: BTreeMap<Position, Arc<[u8]>>,
}

/// The owner of the logs in a [`Memory`], until somebody else opens them. Dropping it closes them.
#[derive(Debug)]
pub struct MemoryWal(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    memory: Memory,
    epoch: usize,
    is_closed: AtomicBool,
}

/// One of the logs.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    owner: Arc<Owner>,
    id: LogId,
}

impl Memory {
    /// Becomes the owner, and fences the one before.
    #[must_use]
    pub fn open(&self) -> MemoryWal {
        let mut state = self.state();
        let end = state.end();
        state.ends.push(end);
        MemoryWal(Arc::new(Owner {
            memory: self.clone(),
            epoch: state.ends.len(),
            is_closed: AtomicBool::new(false),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn end(&self) -> Position {
        Position(FIRST.0 + self.n_records)
    }
}

impl MemoryWal {
    #[must_use]
    pub fn log(&self, id: LogId) -> MemoryLog {
        let owner = Arc::clone(&self.0);
        owner.memory.state().logs.entry(id).or_insert(Records {
            start: FIRST,
            records: BTreeMap::new(),
        });
        MemoryLog { owner, id }
    }
}

impl Drop for MemoryWal {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Owner {
    fn refusal(&self, state: &State) -> Result<(), Error> {
        if state.ends.len() > self.epoch {
            return Err(Error::Fenced);
        }
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Where the log ends for this owner.
    fn end(&self, state: &State) -> Position {
        let fenced = state.ends.get(self.epoch).copied();
        fenced.unwrap_or_else(|| state.end())
    }
}

fn ticket(position: Position, error: Option<Error>) -> Ticket {
    let batch = Batch::default();
    // No record that is refused is before that.
    let synced = FIRST;
    batch.finish(Outcome { synced, error });
    Ticket::new(Arc::new(batch), position, Position(position.0 + 1))
}

impl DurableLog for MemoryLog {
    fn epoch(&self) -> Epoch {
        Epoch(self.owner.epoch as u64)
    }

    fn append(&self, parts: &[&[u8]]) -> Result<Ticket, Error> {
        let record = parts.concat();
        if record.len() as u64 > RECORD_BYTES_MAX {
            let max = RECORD_BYTES_MAX;
            return Err(Error::TooLarge { max });
        }
        let mut state = self.owner.memory.state();
        self.owner.refusal(&state)?;
        let position = state.end();
        state.n_records += 1;
        let log = state.logs.get_mut(&self.id).expect("it is made with this");
        log.records.insert(position, record.into());
        Ok(ticket(position, None))
    }

    fn try_append(&self, parts: &[&[u8]]) -> Result<Ticket, Error> {
        self.append(parts)
    }

    fn barrier(&self) -> Ticket {
        let state = self.owner.memory.state();
        let refusal = self.owner.refusal(&state).err();
        let error = refusal.filter(|refusal| !matches!(refusal, Error::Closed));
        ticket(self.owner.end(&state), error)
    }

    fn read(&self, from: Position, visit: &mut Visit<'_>) -> Result<Position, Error> {
        let state = self.owner.memory.state();
        let Records { start, records } = &state.logs[&self.id];
        let (start, end) = (*start, self.owner.end(&state));
        if from < start {
            return Err(Error::Truncated { start });
        }
        if from > end {
            return Err(Error::Beyond { end });
        }
        let records = records.range(from..end);
        let records: Vec<_> = records
            .map(|(at, record)| (*at, Arc::clone(record)))
            .collect();
        drop(state);
        for (position, record) in records {
            if visit(position, &record).is_break() {
                return Ok(Position(position.0 + 1));
            }
        }
        Ok(end)
    }

    fn truncate(&self, before: Position) -> Result<(), Error> {
        let mut state = self.owner.memory.state();
        self.owner.refusal(&state)?;
        let before = before.min(state.end());
        let log = state.logs.get_mut(&self.id).expect("it is made with this");
        log.start = log.start.max(before);
        log.records = log.records.split_off(&log.start);
        Ok(())
    }

    fn start(&self) -> Position {
        self.owner.memory.state().logs[&self.id].start
    }

    fn end(&self) -> Position {
        self.owner.end(&self.owner.memory.state())
    }

    fn record_bytes_max(&self) -> u64 {
        RECORD_BYTES_MAX
    }
}
