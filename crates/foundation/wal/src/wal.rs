//! The queue before the engine, and who empties it.
//!
//! "Sync when idle": as soon as somebody wants to know a record durable and nothing is being written, it is written and synced. What is appended
//! meanwhile waits and goes with the next sync, all logs together. So one appender waits for one sync, and many share one, without any timer.
//!
//! Who waits with nothing else to do writes one batch itself, if nobody does: two threads that wake each other would take as long again as some disks
//! take to sync. What is queued after that, and what nobody waits for, is for the thread of the log.
//!
//! ```text
//!            │ the engine is free              │ somebody writes
//!  wait      │ write and sync, on this thread  │ wait for the batch
//!  poll,drop │ wake the thread of the log      │ (who writes wakes it at the end)
//! ```

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use ids::Epoch;

use crate::disk::Disk;
use crate::engine::{Engine, View};
use crate::error::during;
use crate::format::{self, FIRST, HEAD_BYTES, MARK_BYTES, RECORD_HEAD_BYTES};
use crate::spares::Spares;
use crate::ticket::{Batch, Outcome, Ticket};
use crate::{
    Config, DurableLog, Error, LOGS_MAX, LogId, Position, Stats, Visit, VisitAll, lock, wait,
};

const STACK_BYTES: usize = 256 << 10;

/// The logs of one directory, and their owner. Dropping it makes what is queued durable first.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    spare_maker: Option<JoinHandle<()>>,
    syncer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    epoch: Epoch,
    view: Arc<View>,
    queue_bytes: usize,
    record_bytes_max: u64,
    queue: Mutex<Queue>,
    /// There is something to do for the thread of the log.
    work: Condvar,
    /// There may be room in the queue, or an end to waiting for it.
    room: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// Whole records from the end of what is being written to `tail`.
    records: Vec<u8>,
    tail: Position,
    synced: Position,
    batch: Arc<Batch>,
    /// The batch that the engine has.
    writing: Option<Arc<Batch>>,
    /// As long as nobody writes, and the owner has not ended.
    writer: Option<Box<Writer>>,
    /// Where each log begins; every [`Log`] is in it.
    starts: BTreeMap<LogId, Position>,
    /// Of `starts`, what the engine has not been told.
    truncations: BTreeMap<LogId, Position>,
    /// Why nothing is appended any more.
    refusal: Option<Error>,
    is_closing: bool,
    /// The thread of the log waits for something to do.
    is_syncer_idle: bool,
    n_syncs: u64,
    /// Threads that wait for room.
    n_waiting: usize,
}

/// Who has it writes.
#[derive(Debug)]
struct Writer {
    engine: Engine,
    /// Of the batch that is being written.
    records: Vec<u8>,
    ask_for_spare: SyncSender<()>,
}

impl Writer {
    /// Has the next segment made, if it is time for it.
    fn want_spare(&mut self) {
        if self.engine.wants_spare() {
            // If the channel is full, it has been asked.
            self.ask_for_spare.try_send(()).ok();
        }
    }
}

impl Queue {
    fn has_work(&self) -> bool {
        !self.records.is_empty() || !self.truncations.is_empty()
    }

    /// Is there nobody any more who could write?
    fn has_ended(&self) -> bool {
        !matches!(self.refusal, None | Some(Error::Full | Error::Closed))
    }
}

impl Wal {
    /// Becomes the owner of the logs in `disk`, and ends whoever was, even if it then fails. A torn tail, which was never acknowledged, is cut.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when something that was synced has changed; [`Error::Full`] when there is no room to begin with;
    /// [`Error::Fenced`] when somebody else was faster; [`Error::Failed`].
    pub fn open(disk: Arc<dyn Disk>, config: Config) -> Result<Self, Error> {
        let segment_bytes = config.segment_bytes.max(Config::SEGMENT_BYTES_MIN);
        let queue_bytes = config
            .queue_bytes
            .clamp(Config::QUEUE_BYTES_MIN, Config::QUEUE_BYTES_MAX);
        let engine = Engine::open(disk, segment_bytes)?;
        let starts = engine.table().0.iter();
        let head_bytes = RECORD_HEAD_BYTES as u64;
        let room = (segment_bytes - HEAD_BYTES - MARK_BYTES).min(queue_bytes as u64);
        let queue = Queue {
            records: Vec::with_capacity(queue_bytes),
            tail: engine.synced(),
            synced: engine.synced(),
            batch: Arc::default(),
            writing: None,
            writer: None,
            starts: starts.map(|(log, kept)| (*log, kept.start)).collect(),
            truncations: BTreeMap::new(),
            refusal: None,
            is_closing: false,
            is_syncer_idle: false,
            n_syncs: 0,
            n_waiting: 0,
        };
        let shared = Arc::new(Shared {
            epoch: Epoch(engine.epoch()),
            view: Arc::clone(engine.view()),
            queue_bytes,
            record_bytes_max: room - head_bytes,
            queue: Mutex::new(queue),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let mut wal = Self {
            shared,
            spares: Arc::clone(engine.spares()),
            spare_maker: None,
            syncer: None,
        };
        during("start a thread of the log", wal.start(engine))?;
        Ok(wal)
    }

    fn start(&mut self, engine: Engine) -> std::io::Result<()> {
        let (ask, asked) = sync_channel(1);
        let spares = Arc::clone(&self.spares);
        let body = move || make_spares(&spares, &asked);
        self.spare_maker = Some(rt::thread("wal-spares".into(), STACK_BYTES, body)?);
        let mut writer = Writer {
            engine,
            records: Vec::with_capacity(self.shared.queue_bytes),
            ask_for_spare: ask,
        };
        writer.want_spare();
        self.shared.queue().writer = Some(Box::new(writer));
        let shared = Arc::clone(&self.shared);
        let body = move || shared.keep_writing();
        self.syncer = Some(rt::thread("wal-sync".into(), STACK_BYTES, body)?);
        Ok(())
    }

    /// One of the logs; it exists as soon as something is appended.
    ///
    /// # Errors
    /// [`Error::TooManyLogs`].
    pub fn log(&self, id: LogId) -> Result<Log, Error> {
        let mut queue = self.shared.queue();
        if id == LogId::RESERVED
            || queue.starts.len() >= LOGS_MAX && !queue.starts.contains_key(&id)
        {
            return Err(Error::TooManyLogs);
        }
        queue.starts.entry(id).or_insert(FIRST);
        let shared = Arc::clone(&self.shared);
        Ok(Log { id, shared })
    }

    /// Counts the owners. Who has a higher one has fenced this one.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Visits what is kept of all logs, in one pass: for who recovers many at once.
    ///
    /// # Errors
    /// As [`DurableLog::read`].
    pub fn read_all(&self, visit: &mut VisitAll<'_>) -> Result<(), Error> {
        let queue = self.shared.queue();
        let (parts, synced) = (self.shared.view.parts(), queue.synced);
        let starts = queue.starts.clone();
        drop(queue);
        crate::read::read(&parts, (Position(0), synced), &mut |log, position, body| {
            if position >= starts[&log] {
                visit(log, position, body)
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(())
    }

    /// Has what is queued written now: for who lets another thread or task wait for it.
    pub fn start_writing(&self) {
        let queue = self.shared.queue();
        if queue.has_work() {
            self.shared.wake_syncer(&queue);
        }
    }

    /// Goes on after [`Error::Full`]. To be called by who has seen that error, and has seen to it that nobody goes on appending as if
    /// the records that were refused were there.
    pub fn resume(&self) {
        let mut queue = self.shared.queue();
        if let Some(Error::Full) = queue.refusal {
            queue.refusal = None;
        }
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let queue = self.shared.queue();
        let parts = self.shared.view.parts();
        let first = parts.first().map_or(queue.synced.0, |part| part.id.base.0);
        Stats {
            queued_bytes: queue.tail.0 - queue.synced.0,
            queue_bytes_max: 2 * self.shared.queue_bytes as u64,
            n_syncs: queue.n_syncs,
            n_segments: parts.len(),
            kept_bytes: queue.tail.0 - first,
            is_full: matches!(queue.refusal, Some(Error::Full)),
            has_ended: (queue.refusal.as_ref()).is_some_and(|why| !matches!(why, Error::Full)),
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.spares.close();
        let mut queue = self.shared.queue();
        queue.is_closing = true;
        queue.refusal.get_or_insert(Error::Closed);
        drop(queue);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        // One that has panicked has said so, and has ended the owner.
        if let Some(syncer) = self.syncer.take() {
            syncer.join().ok();
        }
        // If there was no thread to be had, it is still there. With it goes the channel that the other thread waits for.
        let writer = self.shared.queue().writer.take();
        drop(writer);
        if let Some(spare_maker) = self.spare_maker.take() {
            spare_maker.join().ok();
        }
    }
}

fn make_spares(spares: &Spares, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        // If that fails, it is tried again when the segment is needed, where there is somebody to tell.
        spares.make_ready().ok();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// What the thread of the log does: writes what others leave to it, until the log is closed or its owner has ended.
    fn keep_writing(&self) {
        loop {
            let mut queue = self.queue();
            let writer = loop {
                let is_wanted = queue.has_work() || queue.is_closing;
                if is_wanted && let Some(writer) = queue.writer.take() {
                    break writer;
                }
                if queue.has_ended() {
                    return;
                }
                queue.is_syncer_idle = true;
                queue = wait(&self.work, queue);
                queue.is_syncer_idle = false;
            };
            if !queue.has_work() {
                drop(queue);
                // If that fails, they are as after a crash.
                writer.engine.close().ok();
                return;
            }
            self.write(writer, queue);
        }
    }

    /// Writes the batch if nobody writes. It is over then, or somebody else is at it.
    pub(crate) fn lead(&self, batch: &Arc<Batch>) {
        let mut queue = self.queue();
        if !Arc::ptr_eq(&queue.batch, batch) {
            return;
        }
        if let Some(writer) = queue.writer.take() {
            self.write(writer, queue);
        }
    }

    /// Somebody wants to know what becomes of the batch, or does not, and will not wait for it.
    pub(crate) fn call(&self, batch: &Arc<Batch>) {
        let queue = self.queue();
        if Arc::ptr_eq(&queue.batch, batch) {
            self.wake_syncer(&queue);
        }
    }

    /// Writes and syncs what is queued.
    fn write(&self, mut writer: Box<Writer>, mut queue: MutexGuard<'_, Queue>) {
        writer.records.clear();
        mem::swap(&mut writer.records, &mut queue.records);
        queue.writing = Some(mem::take(&mut queue.batch));
        let truncations = mem::take(&mut queue.truncations);
        let is_waited_for = queue.n_waiting > 0;
        drop(queue);
        if is_waited_for {
            self.room.notify_all();
        }
        // Nobody is left waiting, whatever happens.
        let result = catch_unwind(AssertUnwindSafe(|| {
            for (log, before) in truncations {
                writer.engine.truncate(log, before);
            }
            let result = writer.engine.commit(&mut writer.records);
            writer.want_spare();
            result
        }));
        let result = result.unwrap_or_else(|_| {
            let cause = std::io::Error::other("a thread has panicked");
            during("sync the log", Err(cause))
        });
        self.finish(writer, result);
    }

    /// Tells what has become of the batch that was written. After an error that is also the fate of all that is queued.
    fn finish(&self, writer: Box<Writer>, result: Result<(), Error>) {
        let synced = writer.engine.synced();
        let mut queue = self.queue();
        queue.synced = synced;
        queue.n_syncs += u64::from(result.is_ok());
        let batch = queue.writing.take();
        let mut refused = None;
        if let Err(error) = &result {
            // The first one that ended the owner counts.
            if !matches!(queue.refusal, Some(Error::Fenced | Error::Failed { .. })) {
                queue.refusal = Some(error.clone());
            }
            queue.records.clear();
            queue.tail = synced;
            refused = Some(mem::take(&mut queue.batch));
        }
        let mut ended = None;
        match &result {
            Ok(()) | Err(Error::Full) => queue.writer = Some(writer),
            Err(_) => ended = Some(writer),
        }
        if queue.has_work() || queue.is_closing || ended.is_some() {
            self.wake_syncer(&queue);
        }
        drop(queue);
        // What it closes is not closed under the lock.
        drop(ended);
        if refused.is_some() {
            self.room.notify_all();
        }
        let error = result.err();
        for batch in batch.into_iter().chain(refused) {
            let error = error.clone();
            batch.finish(Outcome { synced, error });
        }
    }

    fn has_room(&self, queue: &Queue, n_bytes: usize) -> bool {
        queue.records.len() + n_bytes <= self.queue_bytes
    }

    fn wake_syncer(&self, queue: &Queue) {
        if queue.is_syncer_idle {
            self.work.notify_one();
        }
    }
}

/// One log of a [`Wal`].
#[derive(Clone, Debug)]
pub struct Log {
    id: LogId,
    shared: Arc<Shared>,
}

impl Log {
    /// Length and checksum, looked at before the lock is taken, and the bytes in the queue.
    fn measure(&self, parts: &[&[u8]]) -> Result<((u32, u32), usize), Error> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let max = self.shared.record_bytes_max;
        match u32::try_from(len) {
            Ok(short) if u64::from(short) <= max => {
                Ok(((short, format::body_crc(parts)), RECORD_HEAD_BYTES + len))
            }
            _ => Err(Error::TooLarge { max }),
        }
    }

    fn push(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        (len, crc): (u32, u32),
        parts: &[&[u8]],
    ) -> Result<Ticket, Error> {
        if let Some(refusal) = &queue.refusal {
            return Err(refusal.clone());
        }
        let position = queue.tail;
        format::push(&mut queue.records, (self.id, position), (len, crc), parts);
        let end = Position(position.0 + RECORD_HEAD_BYTES as u64 + u64::from(len));
        queue.tail = end;
        let batch = Arc::clone(&queue.batch);
        Ok(Ticket::queued(&self.shared, batch, position, end))
    }
}

impl DurableLog for Log {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn append(&self, parts: &[&[u8]]) -> Result<Ticket, Error> {
        let (measure, n_bytes) = self.measure(parts)?;
        let mut queue = self.shared.queue();
        while queue.refusal.is_none() && !self.shared.has_room(&queue, n_bytes) {
            self.shared.wake_syncer(&queue);
            queue.n_waiting += 1;
            queue = wait(&self.shared.room, queue);
            queue.n_waiting -= 1;
        }
        self.push(queue, measure, parts)
    }

    fn try_append(&self, parts: &[&[u8]]) -> Result<Ticket, Error> {
        let (measure, n_bytes) = self.measure(parts)?;
        let queue = self.shared.queue();
        if queue.refusal.is_none() && !self.shared.has_room(&queue, n_bytes) {
            self.shared.wake_syncer(&queue);
            return Err(Error::Busy);
        }
        self.push(queue, measure, parts)
    }

    fn barrier(&self) -> Ticket {
        let queue = self.shared.queue();
        let batch = match &queue.writing {
            _ if !queue.records.is_empty() => {
                let batch = Arc::clone(&queue.batch);
                return Ticket::queued(&self.shared, batch, queue.tail, queue.tail);
            }
            Some(writing) => Arc::clone(writing),
            None => {
                let batch = Batch::default();
                let (synced, error) = match &queue.refusal {
                    None | Some(Error::Closed) => (queue.tail, None),
                    refusal => (Position(0), refusal.clone()),
                };
                batch.finish(Outcome { synced, error });
                Arc::new(batch)
            }
        };
        Ticket::new(batch, queue.tail, queue.tail)
    }

    fn read(&self, from: Position, visit: &mut Visit<'_>) -> Result<Position, Error> {
        let queue = self.shared.queue();
        let (start, end) = (queue.starts[&self.id], queue.synced);
        // Taken together: segments go only after `start` has come.
        let parts = self.shared.view.parts();
        drop(queue);
        if from < start {
            return Err(Error::Truncated { start });
        }
        if from > end {
            return Err(Error::Beyond { end });
        }
        crate::read::read(&parts, (from, end), &mut |log, position, body| {
            if log == self.id {
                visit(position, body)
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn truncate(&self, before: Position) -> Result<(), Error> {
        let mut queue = self.shared.queue();
        match &queue.refusal {
            None | Some(Error::Full) => {}
            Some(refusal) => return Err(refusal.clone()),
        }
        let before = before.min(queue.synced);
        if before > queue.starts[&self.id] {
            queue.starts.insert(self.id, before);
            queue.truncations.insert(self.id, before);
            self.shared.wake_syncer(&queue);
        }
        Ok(())
    }

    fn start(&self) -> Position {
        self.shared.queue().starts[&self.id]
    }

    fn end(&self) -> Position {
        self.shared.queue().synced
    }

    fn record_bytes_max(&self) -> u64 {
        self.shared.record_bytes_max
    }
}
