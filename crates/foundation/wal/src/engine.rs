//! The owner of a directory: writes batches, begins segments, lets go of them. It has no thread and no queue: one call after the other.
//!
//! ```text
//!   parts (oldest first)          current                     unlinked, or renamed to be the next
//!   [1 ··· 80) [80 ··· 200) [200 ··· synced) room             ◀── [·, ·) [·, ·) wholly below the floor
//!         ▲ floor: the oldest record that some log keeps
//! ```
//! Three rules make every crash come out right:
//!
//! 1. A segment is begun when all before it is synced: its slots are written and synced, then it gets its name, then that is synced.
//!    So a name says that the slots are whole, and they prove where the segment before ends.
//! 2. Nothing is acknowledged before the sync of its file, and a look at the claim after that.
//! 3. A segment is let go only when the slot that says that nothing in it is kept is synced, and the claim was there after that. So
//!    whoever owns the log next knows it too, and a late removal by an owner that was stopped in between does no harm.

use std::mem;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile};
use crate::error::during;
use crate::format::{self, HEAD_BYTES, MARK_BYTES, SegmentId, Slot, Table};
use crate::recover::{self, Found, Part, remove_if_there};
use crate::spares::{Spare, Spares};
use crate::{Error, LogId, Position, lock};

/// So many segments that were let go are kept to be used again: to fill a new one with zeros costs as much as to write to it.
const FREED_MAX: usize = 8;

/// The first segment of an owner is not larger, lest opening wait for a large one.
const FIRST_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Engine {
    disk: Arc<dyn Disk>,
    epoch: u64,
    claim: Arc<dyn DiskFile>,
    spares: Arc<Spares>,
    /// Let go, and to be used again when nobody reads them any more.
    freed: Vec<Arc<Part>>,
    /// Files to remove after the next sync.
    garbage: Vec<String>,
    /// The last one is the current one, of `slot`.
    parts: Vec<Arc<Part>>,
    view: Arc<View>,
    slot: Slot,
    /// Whether the table has truncations that no slot has.
    has_truncated: bool,
    /// How many bytes of records the current segment takes.
    room: u64,
    /// Of what is written, and of what is synced too.
    end: Position,
    synced: Position,
    /// The head of the last record.
    chain: u32,
    /// For a spare.
    has_asked: bool,
}

/// The segments, for readers.
#[derive(Debug, Default)]
pub(crate) struct View(Mutex<Arc<[Arc<Part>]>>);

impl View {
    pub(crate) fn parts(&self) -> Arc<[Arc<Part>]> {
        Arc::clone(&lock(&self.0))
    }

    fn set(&self, parts: &[Arc<Part>]) {
        *lock(&self.0) = parts.into();
    }
}

impl Engine {
    /// Takes over what is in the directory.
    pub(crate) fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<Self, Error> {
        let opened = recover::claim(&*disk).and_then(|(epoch, claim)| {
            let opened = Self::take_over(disk, (epoch, Arc::clone(&claim)), segment_bytes);
            unless_fenced(&*claim, opened)
        });
        match opened {
            // Whatever there was no room for: nobody has become the owner, and what was there still is.
            Err(Error::Failed { source, .. }) if durable::is_full(&source) => Err(Error::Full),
            opened => opened,
        }
    }

    fn take_over(
        disk: Arc<dyn Disk>,
        (epoch, claim): (u64, Arc<dyn DiskFile>),
        segment_bytes: u64,
    ) -> Result<Self, Error> {
        let (found, garbage) = recover::find(&*disk)?;
        let found = found.unwrap_or_else(Found::nothing);
        let scan = found.scan;
        let mut engine = Self {
            spares: Arc::new(Spares::new(Arc::clone(&disk), epoch, segment_bytes)),
            disk,
            epoch,
            claim,
            freed: Vec::new(),
            garbage,
            parts: found.parts,
            view: Arc::default(),
            slot: Slot {
                table: scan.table,
                ..found.slot
            },
            has_truncated: false,
            room: 0,
            end: scan.synced,
            synced: scan.synced,
            chain: scan.synced_chain,
            has_asked: false,
        };
        let last = engine.parts.last().filter(|_| !engine.is_empty()).cloned();
        // What may not have been synced is written again: a sync that failed may have left it in the kernel's memory only, where no later
        // sync of that file would look for it. It is there before the segment has a name: it may well have been acknowledged.
        let least = HEAD_BYTES + found.unsynced.len() as u64 + MARK_BYTES;
        let bytes = segment_bytes.min(FIRST_BYTES).max(least);
        let spare = engine.spares.take_first(bytes, least)?;
        let again = spare.file.write_at(&found.unsynced, HEAD_BYTES);
        during("write what was not synced again", again)?;
        engine.begin_next(spare)?;
        (engine.end, engine.chain) = (scan.end, scan.chain);
        engine.confirm()?;
        if let Some(last) = last {
            let used = HEAD_BYTES + (engine.end.0 - last.id.base.0);
            during("trim a segment file", last.file.set_len(used))?;
        }
        Ok(engine)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Up to here everything is durable.
    pub(crate) fn synced(&self) -> Position {
        self.synced
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn table(&self) -> &Table {
        &self.slot.table
    }

    pub(crate) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// Whether it is time to make another segment, so that nobody waits for one. Asked once for each.
    pub(crate) fn wants_spare(&mut self) -> bool {
        let left = self.room - self.used();
        let is_time = !self.freed.iter().any(is_unread) && left < self.spares.segment_bytes() / 2;
        is_time && !mem::replace(&mut self.has_asked, true)
    }

    /// From the next commit on, what `log` has before that position is not kept. That is durable with the next record, or when it lets a
    /// segment go, or with [`close`](Self::close): it is not worth a sync.
    pub(crate) fn truncate(&mut self, log: LogId, before: Position) {
        self.slot.table.truncate(log, before);
        self.has_truncated = true;
    }

    /// Makes truncations durable, and the mark, and removes what is kept to be used again: the next owner may need its room.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.write_table()?;
        during("sync the log", self.current().sync())?;
        let freed = self.freed.iter().map(|part| part.id.file_name());
        let ready = self.spares.take_ready().map(|spare| spare.name);
        for name in freed.chain(ready) {
            remove_if_there(&*self.disk, &name)?;
        }
        Ok(())
    }

    /// Appends `records`, made by [`format::push`] for positions from [`synced`](Self::synced) on. Afterwards that says how many of them are
    /// durable. After any error but [`Error::Full`] it must not be called again.
    pub(crate) fn commit(&mut self, records: &mut [u8]) -> Result<(), Error> {
        let result = self.try_commit(records);
        unless_fenced(&*self.claim, result)
    }

    fn try_commit(&mut self, records: &mut [u8]) -> Result<(), Error> {
        let mut rest = records;
        while !rest.is_empty() {
            let mut n_bytes = format::fitting(rest, self.room - self.used());
            if n_bytes == 0 {
                self.sync()?;
                let spare = match self.take_freed() {
                    Some(spare) => spare,
                    None => self.spares.take()?,
                };
                self.begin_next(spare)?;
                n_bytes = format::fitting(rest, self.room);
                assert!(n_bytes > 0, "no record is larger than a segment");
            }
            let (now, later) = rest.split_at_mut(n_bytes);
            let link = (self.slot.salt, self.chain);
            let table = &mut self.slot.table;
            let note = |log, position, end| table.note(log, position, end);
            self.chain = format::seal(now, link, self.synced, note);
            self.write(now)?;
            rest = later;
        }
        self.sync()
    }

    fn used(&self) -> u64 {
        self.end.0 - self.slot.id.base.0
    }

    fn is_empty(&self) -> bool {
        self.used() == 0
    }

    fn write(&mut self, records: &[u8]) -> Result<(), Error> {
        let offset = HEAD_BYTES + self.used();
        during("write to the log", self.current().write_at(records, offset))?;
        self.end.0 += records.len() as u64;
        Ok(())
    }

    fn current(&self) -> &dyn DiskFile {
        &*self.parts.last().expect("there is a current one").file
    }

    /// Makes all that is written durable.
    fn sync(&mut self) -> Result<(), Error> {
        let floor = self.slot.table.floor(self.end);
        let lets_go = self.parts.get(1).is_some_and(|next| next.id.base <= floor);
        if self.end == self.synced && !lets_go {
            return Ok(());
        }
        self.write_table()?;
        during("sync the log", self.current().sync())?;
        self.confirm()?;
        if lets_go { self.let_go(floor) } else { Ok(()) }
    }

    fn write_table(&mut self) -> Result<(), Error> {
        if mem::replace(&mut self.has_truncated, false) {
            self.slot.edition += 1;
            let (bytes, offset) = (self.slot.encode(), self.slot.offset());
            let written = self.current().write_at(&bytes, offset);
            during("write the head of a segment", written)?;
        }
        Ok(())
    }

    /// All that is written is synced. It may be acknowledged unless somebody else has come.
    fn confirm(&mut self) -> Result<(), Error> {
        if !during("look at the claim", self.claim.is_linked())? {
            return Err(Error::Fenced);
        }
        self.synced = self.end;
        let mark = format::mark(self.end, self.slot.salt, self.chain);
        let offset = HEAD_BYTES + self.used();
        during("write to the log", self.current().write_at(&mark, offset))?;
        for name in self.garbage.drain(..) {
            remove_if_there(&*self.disk, &name)?;
        }
        Ok(())
    }

    /// Begins the next segment. All before it is synced.
    fn begin_next(&mut self, spare: Spare) -> Result<(), Error> {
        let last = self.slot.id;
        let mut slot = self.slot.clone();
        slot.id = SegmentId {
            epoch: self.epoch,
            seq: if last.epoch == self.epoch {
                last.seq + 1
            } else {
                0
            },
            base: self.end,
        };
        slot.chain = self.chain;
        slot.edition = 0;
        if self.is_empty() {
            // It holds nothing, so the one before it is followed by this one.
            self.parts.pop();
            self.garbage.push(last.file_name());
        } else {
            slot.prev = Some(last);
        }
        let both = slot.encode().repeat(2);
        during("write the head of a segment", spare.file.write_at(&both, 0))?;
        during("sync the head of a segment", spare.file.sync())?;
        let renamed = self.disk.rename(&spare.name, &slot.id.file_name());
        during("name a segment file", renamed)?;
        during("sync the log's directory", self.disk.sync())?;
        self.parts.push(Part::new(spare.file, &slot));
        self.view.set(&self.parts);
        self.room = spare.bytes - HEAD_BYTES - MARK_BYTES;
        self.slot = slot;
        self.has_truncated = false;
        self.has_asked = false;
        Ok(())
    }

    /// Lets segments wholly below `floor` go: they become spares, or are removed.
    fn let_go(&mut self, floor: Position) -> Result<(), Error> {
        let later = self.parts[1..].iter();
        let n_dead = later.take_while(|next| next.id.base <= floor).count();
        let dead: Vec<_> = self.parts.drain(..n_dead).collect();
        self.view.set(&self.parts);
        for part in dead {
            // Nobody else writes to it.
            let is_ours = part.id.epoch == self.epoch;
            let bytes = self.spares.segment_bytes();
            if is_ours
                && self.freed.len() < FREED_MAX
                && part.file.size().is_ok_and(|size| size == bytes)
            {
                self.freed.push(part);
            } else {
                remove_if_there(&*self.disk, &part.id.file_name())?;
            }
        }
        Ok(())
    }

    /// One that nobody reads any more.
    fn take_freed(&mut self) -> Option<Spare> {
        let idx = self.freed.iter().position(is_unread)?;
        let part = self.freed.swap_remove(idx);
        let name = part.id.file_name();
        let bytes = self.spares.segment_bytes();
        let file = Arc::into_inner(part)?.file;
        Some(Spare { name, file, bytes })
    }
}

/// Of one that readers find no more: who had found it before has it.
fn is_unread(part: &Arc<Part>) -> bool {
    Arc::strong_count(part) == 1
}

/// Whoever has taken over changes files under the hands of the owner before, who must not take that for damage.
fn unless_fenced<T>(claim: &dyn DiskFile, result: Result<T, Error>) -> Result<T, Error> {
    match result {
        Err(Error::Failed { .. } | Error::Corrupt { .. }) if !claim.is_linked().unwrap_or(true) => {
            Err(Error::Fenced)
        }
        result => result,
    }
}
