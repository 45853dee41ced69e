//! What lies where on the disk of a node: the state machine of tier 1.
//!
//! Whoever changes something appends the change to a log first, and then tells it here with the position that it has there. It counts at
//! once, and is *pending* until the log is durable ([`Catalogue::settle`]) or has refused it ([`Catalogue::refuse`]).
//!
//! ```text
//!               stage                place: moved to extents
//!   (nothing) ────────▶ Staged ─────────────────────────────▶ Lying ◀─┐ place: repaired
//!       │                  │                                 ▲  │  │  │
//!       │  lay             │                                 │  │  └──┘
//!       └──────────────────┼─────────────────────────────────┘  │
//!                          └───────────────┬────────────────────┘
//!                                          ▼ leave
//!                                       leaving ───▶ (nothing)
//!                                               free: pages are used again when that is durable and nobody reads there
//! ```
//!
//! A *staged* object lies whole in the log, and in memory; pages are promised to it. A *lying* one has its pages, and the log, or the last
//! snapshot of the catalogue, says which. Two rules make every crash come out right:
//!
//! 1. Pages are given to nobody else while any end of the log that a crash may leave says that something lies there.
//!    Of pages that several objects have, so long as that is said of one of them.
//! 2. A snapshot holds what lies durably, also when it is leaving. What is not durable is behind the position that the snapshot is of.
//!
//! `room.rs` says which pages are whose, `replay.rs` makes a catalogue of a snapshot and a log.

mod few;
mod replay;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use geds_core::extents::{Extent, PAGE_BYTES, SegmentNo};
use wal::Position;

pub(crate) use self::few::Few;
pub(crate) use self::replay::{Clash, Replay};
pub(crate) use self::room::Room;

/// What one checksum is of; the last block of an object may be shorter.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

/// What an object is called, by its maker, once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub node: u32,
    pub epoch: u64,
    pub serial: u64,
}

impl Id {
    /// Of what has none yet.
    pub(crate) const NONE: Self = Self {
        node: 0,
        epoch: 0,
        serial: 0,
    };
}

/// Pages that somebody says are somebody's. An [`Extent`] is the right to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub segment: SegmentNo,
    pub first: u32,
    /// Never 0.
    pub pages: u32,
}

impl Place {
    pub(crate) fn of(extent: &Extent) -> Self {
        Self {
            segment: extent.segment,
            first: extent.first,
            pages: extent.pages,
        }
    }
}

pub(crate) fn pages_of(len: u64) -> u64 {
    len.div_ceil(PAGE_BYTES)
}

pub(crate) fn blocks_of(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES)
}

/// An object as the log and snapshots tell of it. It has as many pages and sums as its length needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: Id,
    pub len: u64,
    pub places: Few<Place>,
    pub sums: Few<u32>,
    /// Others may lie in its places too, of which it was made: each of the places is one of theirs.
    pub is_joined: bool,
}

/// An object in extents. Who has it open keeps it where it is.
#[derive(Debug)]
pub(crate) struct Lying {
    pub len: u64,
    pub extents: Few<Extent>,
    /// CRC32C of each block.
    pub sums: Few<u32>,
    /// It was made of others, and has extents of theirs.
    is_joined: bool,
    is_damaged: AtomicBool,
}

impl Lying {
    pub(crate) fn new(len: u64, extents: Few<Extent>, sums: Few<u32>) -> Self {
        Self {
            len,
            extents,
            sums,
            is_joined: false,
            is_damaged: AtomicBool::new(false),
        }
    }

    /// What others are one after the other, where they lie. `None`: one of them ends within a block, and is not the last.
    pub(crate) fn join(parts: &[Arc<Self>], room: &mut Room) -> Option<Self> {
        let (last, others) = parts.split_last()?;
        let is_cut = |part: &Arc<Self>| !part.len.is_multiple_of(BLOCK_BYTES);
        let is_damaged = |part: &Arc<Self>| part.is_damaged.load(Ordering::Relaxed);
        if others.iter().any(is_cut) || parts.iter().any(is_damaged) {
            return None;
        }
        let extents = parts.iter().flat_map(|part| part.extents.iter());
        let extents = extents.map(|extent| room.share(extent)).collect();
        let sums = parts.iter().flat_map(|part| part.sums.iter().copied());
        let len = last.len + others.iter().map(|part| part.len).sum::<u64>();
        Some(Self {
            is_joined: true,
            ..Self::new(len, extents, sums.collect())
        })
    }

    /// Its pages will not be used again.
    pub(crate) fn note_damage(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    pub(crate) fn entry(&self, id: Id) -> Entry {
        Entry {
            id,
            len: self.len,
            places: self.extents.iter().map(Place::of).collect(),
            sums: self.sums.iter().copied().collect(),
            is_joined: self.is_joined,
        }
    }
}

/// An object in memory and in the log.
#[derive(Debug)]
pub(crate) struct Staged {
    pub bytes: Bytes,
    pub sums: Few<u32>,
    /// Of its record.
    position: Position,
}

impl Staged {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Staged(Arc<Staged>),
    Lying(Arc<Lying>),
}

impl What {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Staged(staged) => staged.len(),
            Self::Lying(lying) => lying.len,
        }
    }
}

#[derive(Debug)]
struct Slot {
    what: What,
    /// That it is there is durable.
    is_durable: bool,
    is_leaving: bool,
    /// Staged, and somebody has pages for it instead of a promise.
    is_picked: bool,
}

#[derive(Debug)]
struct Pending {
    position: Position,
    id: Id,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Put,
    Place(Arc<Lying>),
    Free,
}

/// A staged object on its way to its pages.
#[derive(Debug)]
pub(crate) struct Picked {
    pub id: Id,
    pub staged: Arc<Staged>,
    pub extents: Vec<Extent>,
}

/// How much a snapshot will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub entries: u64,
    pub places: u64,
    pub sums: u64,
}

impl Weight {
    /// At most: nobody knows in how many pieces a staged object will lie.
    fn of(what: &What) -> Self {
        let (places, sums) = match what {
            What::Staged(staged) => (pages_of(staged.len()), staged.sums.len() as u64),
            What::Lying(lying) => (lying.extents.len() as u64, lying.sums.len() as u64),
        };
        Self {
            entries: 1,
            places,
            sums,
        }
    }

    fn add(&mut self, what: &What) {
        let more = Self::of(what);
        self.entries += more.entries;
        self.places += more.places;
        self.sums += more.sums;
    }

    fn sub(&mut self, what: &What) {
        let less = Self::of(what);
        self.entries -= less.entries;
        self.places -= less.places;
        self.sums -= less.sums;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    slots: BTreeMap<Id, Slot>,
    /// In the order of their positions; some may share one.
    pending: VecDeque<Pending>,
    /// They are leaving, and the log has not been told.
    unsaid: VecDeque<Id>,
    /// Durably not in the catalogue any more, but somebody may still read them.
    buried: Vec<Arc<Lying>>,
    /// The staged ones, by their records.
    journal: BTreeMap<Position, Id>,
    staged_bytes: u64,
    weight: Weight,
    room: Room,
}

impl Catalogue {
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn room_mut(&mut self) -> &mut Room {
        &mut self.room
    }

    pub(crate) fn staged_bytes(&self) -> u64 {
        self.staged_bytes
    }

    pub(crate) fn weight(&self) -> Weight {
        self.weight
    }

    /// Also those that are leaving.
    pub(crate) fn objects(&self) -> u64 {
        self.slots.len() as u64
    }

    /// There is nothing to settle.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.buried.is_empty()
    }

    /// Changes are on their way that give pages back.
    pub(crate) fn is_freeing(&self) -> bool {
        let gives = |pending: &Pending| !matches!(pending.change, Change::Put);
        !self.unsaid.is_empty() || self.pending.iter().any(gives)
    }

    /// Also one that is leaving.
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.slots.contains_key(&id)
    }

    /// Not one that is leaving.
    pub(crate) fn find(&self, id: Id) -> Option<&What> {
        let slot = self.slots.get(&id).filter(|slot| !slot.is_leaving)?;
        Some(&slot.what)
    }

    /// The next objects in the order of their names that are not leaving.
    pub(crate) fn after(&self, after: Option<Id>) -> impl Iterator<Item = (Id, &What)> {
        let slots = self.slots_after(after);
        let there = slots.filter(|(_, slot)| !slot.is_leaving);
        there.map(|(id, slot)| (id, &slot.what))
    }

    /// Those that a snapshot holds.
    pub(crate) fn lying_after(&self, after: Option<Id>) -> impl Iterator<Item = (Id, &Arc<Lying>)> {
        let slots = self.slots_after(after);
        slots.filter_map(|(id, slot)| match &slot.what {
            What::Lying(lying) if slot.is_durable => Some((id, lying)),
            _ => None,
        })
    }

    fn slots_after(&self, after: Option<Id>) -> impl Iterator<Item = (Id, &Slot)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.slots.range((from, Bound::Unbounded));
        slots.map(|(id, slot)| (*id, slot))
    }

    /// What the log must keep for staged objects begins here.
    pub(crate) fn oldest_staged(&self) -> Option<Position> {
        self.journal.keys().next().copied()
    }

    /// A new object lies whole in the log, at that position. Its pages have been promised.
    pub(crate) fn stage(&mut self, id: Id, bytes: Bytes, sums: Few<u32>, position: Position) {
        let staged = Staged {
            bytes,
            sums,
            position,
        };
        self.insert(id, What::Staged(Arc::new(staged)), false);
        self.push(position, id, Change::Put);
    }

    /// The log says, at that position, that a new object lies there.
    pub(crate) fn lay(&mut self, id: Id, lying: Arc<Lying>, position: Position) {
        self.insert(id, What::Lying(lying), false);
        self.push(position, id, Change::Put);
    }

    fn insert(&mut self, id: Id, what: What, is_durable: bool) {
        self.weight.add(&what);
        if let What::Staged(staged) = &what {
            self.staged_bytes += staged.len();
            self.journal.insert(staged.position, id);
        }
        let slot = Slot {
            what,
            is_durable,
            is_leaving: false,
            is_picked: false,
        };
        let before = self.slots.insert(id, slot);
        assert!(before.is_none(), "a name is used once");
    }

    fn push(&mut self, position: Position, id: Id, change: Change) {
        let last = self.pending.back().map(|last| last.position);
        assert!(last <= Some(position), "the log grows");
        self.pending.push_back(Pending {
            position,
            id,
            change,
        });
    }

    /// Gives pages to the staged objects whose records are the oldest, and before that position: at most so many bytes of them.
    pub(crate) fn pick(&mut self, before: Position, bytes_max: u64) -> Vec<Picked> {
        let mut bytes = 0;
        let mut picked = Vec::new();
        for id in self.journal.range(..before).map(|(_, id)| *id) {
            let slot = self.slots.get_mut(&id).expect("the journal tells of it");
            let What::Staged(staged) = &slot.what else {
                unreachable!("the journal tells of staged objects");
            };
            if slot.is_picked || slot.is_leaving {
                continue;
            }
            bytes += staged.len();
            if bytes > bytes_max && !picked.is_empty() {
                break;
            }
            slot.is_picked = true;
            picked.push(Picked {
                id,
                staged: Arc::clone(staged),
                extents: Vec::new(),
            });
        }
        self.give_pages(&mut picked);
        picked
    }

    /// In one piece, if there is one, so that they can be written at once.
    fn give_pages(&mut self, picked: &mut Vec<Picked>) {
        let pages = picked.iter().map(|one| pages_of(one.staged.len())).sum();
        let Some(taken) = self.room.take(pages) else {
            for one in picked.drain(..) {
                self.give_up(one.id, &one.staged);
            }
            return;
        };
        let mut taken = taken.into_iter();
        let mut rest = None;
        for one in picked {
            let mut left = pages_of(one.staged.len());
            while left > 0 {
                let next = rest.take().or_else(|| taken.next());
                let mut extent = next.expect("as many pages were taken");
                rest = extent.cut(u32::try_from(left).unwrap_or(u32::MAX));
                left -= u64::from(extent.pages);
                one.extents.push(extent);
            }
        }
    }

    /// Whether it is still there and not leaving, so that it may be [placed](Self::place).
    pub(crate) fn wants(&self, id: Id, staged: &Arc<Staged>) -> bool {
        // Neither the name nor the position tells: what was refused may have been tried again.
        matches!(self.find(id), Some(What::Staged(there)) if Arc::ptr_eq(there, staged))
    }

    /// A picked object does not get to its pages, which [`room_mut`](Self::room_mut) has to be told.
    pub(crate) fn give_up(&mut self, id: Id, staged: &Arc<Staged>) {
        let slot = self.slots.get_mut(&id);
        // If it has been freed, it is owed nothing.
        if let Some(Slot {
            what, is_picked, ..
        }) = slot
            && matches!(what, What::Staged(there) if Arc::ptr_eq(there, staged))
        {
            *is_picked = false;
            self.room.promise_again(pages_of(staged.len()));
        }
    }

    /// It is there, perhaps leaving, and may yet be refused.
    pub(crate) fn is_undecided(&self, id: Id) -> bool {
        self.slots.get(&id).is_some_and(|slot| !slot.is_durable)
    }

    pub(crate) fn is_durable(&self, id: Id) -> bool {
        let slot = self.slots.get(&id);
        slot.is_some_and(|slot| slot.is_durable && !slot.is_leaving)
    }

    /// The log says, at that position, that an object which is there, and not leaving, lies somewhere else.
    pub(crate) fn place(&mut self, id: Id, lying: Arc<Lying>, position: Position) {
        assert!(self.find(id).is_some(), "it is there");
        self.push(position, id, Change::Place(lying));
    }

    /// An object which is there, and not leaving, is not needed any more. The log may be told later.
    pub(crate) fn leave(&mut self, id: Id) {
        let slot = self.slots.get_mut(&id).filter(|slot| !slot.is_leaving);
        slot.expect("it is there").is_leaving = true;
        self.unsaid.push_back(id);
    }

    /// Those of which the log has not been told that they are leaving, at most so many.
    pub(crate) fn unsaid(&self, n_max: usize) -> Vec<Id> {
        self.unsaid.iter().take(n_max).copied().collect()
    }

    /// The log says, at that position, that the first `n` of these are leaving.
    pub(crate) fn free(&mut self, n: usize, position: Position) {
        for id in self.unsaid.drain(..n).collect::<Vec<_>>() {
            self.push(position, id, Change::Free);
        }
    }

    /// All that is before `end` is durable. Says whether there may be more room than before.
    pub(crate) fn settle(&mut self, end: Position) -> bool {
        let before = (self.room.available(), self.staged_bytes);
        while let Some(pending) = self.pending.pop_front_if(|first| first.position < end) {
            match pending.change {
                Change::Put => self.slot(pending.id).is_durable = true,
                Change::Place(lying) => {
                    let slot = self.slot(pending.id);
                    slot.is_picked = false;
                    let what = What::Lying(lying);
                    self.weight.add(&what);
                    let old = mem::replace(&mut self.slot(pending.id).what, what);
                    let old = self.drop_what(old, true);
                    self.buried.extend(old);
                }
                Change::Free => {
                    let old = self.remove(pending.id);
                    self.buried.extend(old);
                }
            }
        }
        self.dig();
        before != (self.room.available(), self.staged_bytes)
    }

    /// Nothing that is pending will ever be in the log. Gives what is not there therefore, also of those that were leaving: whoever has it puts it
    /// again, or [buries](Self::bury) it.
    pub(crate) fn refuse(&mut self) -> Vec<(Id, Option<Arc<Lying>>)> {
        let mut refused = Vec::new();
        while let Some(pending) = self.pending.pop_back() {
            match pending.change {
                Change::Put => {
                    self.unsaid.retain(|id| *id != pending.id);
                    refused.push((pending.id, self.remove(pending.id)));
                }
                Change::Place(lying) => {
                    if let What::Staged(staged) = self.slot(pending.id).what.clone() {
                        self.give_up(pending.id, &staged);
                    }
                    self.buried.push(lying);
                }
                Change::Free => self.unsaid.push_front(pending.id),
            }
        }
        self.dig();
        refused
    }

    fn slot(&mut self, id: Id) -> &mut Slot {
        self.slots.get_mut(&id).expect("something of it is pending")
    }

    fn remove(&mut self, id: Id) -> Option<Arc<Lying>> {
        let slot = self.slots.remove(&id).expect("something of it is pending");
        self.drop_what(slot.what, slot.is_picked)
    }

    /// `has_pages`: nothing is promised to it if it is staged. Gives what has pages of its own.
    fn drop_what(&mut self, what: What, has_pages: bool) -> Option<Arc<Lying>> {
        self.weight.sub(&what);
        match what {
            What::Staged(staged) => {
                self.staged_bytes -= staged.len();
                self.journal.remove(&staged.position);
                if !has_pages {
                    self.room.release(pages_of(staged.len()));
                }
                None
            }
            What::Lying(lying) => Some(lying),
        }
    }

    /// Takes back the pages of what never was in the log, when nobody reads there any more.
    pub(crate) fn bury(&mut self, lying: Arc<Lying>) {
        self.buried.push(lying);
        self.dig();
    }

    /// Takes back the pages of those that nobody reads any more.
    fn dig(&mut self) {
        for lying in mem::take(&mut self.buried) {
            match Arc::try_unwrap(lying) {
                Ok(lying) if lying.is_damaged.load(Ordering::Relaxed) => {
                    self.room.set_apart(lying.extents.into_vec());
                }
                Ok(lying) => self.room.give(lying.extents.into_vec()),
                Err(lying) => self.buried.push(lying),
            }
        }
    }
}

#[cfg(test)]
mod tests;
