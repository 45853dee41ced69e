//! Which objects leave memory first.
//!
//! ```text
//!   insert ──▶ small ── read twice ──▶ main ◀─┐ read since it was last looked at
//!                │                      │ └───┘
//!                ▼ not read             ▼ not read
//!             (victim)               (victim)          twice over: once for clean objects, once for dirty ones
//! ```
//!
//! 1. *Spent* objects, whose time is over or that nobody will read again, in the order in which they became so.
//! 2. *Clean* objects, of which there is another copy, as S3-FIFO has it (Yang and others, SOSP 2023). A new one is on probation in `small`,
//!    and what `small` has beyond a tenth of all bytes goes first: so what is read once passes by. A ghost remembers what has left `small`
//!    lately, and, unlike in the paper, whether it was read there: if so, it comes back to `main`; if not, to `small` with one read to its
//!    credit. On Zipf's distributions chance acquaintances fill `main` otherwise, which costs about 1.5 points of hits.
//! 3. *Dirty* objects, which are nowhere else and have to be written first, in S3-FIFO's order too. But what has stood its time in their `small`
//!    moves on as long as `main` has room. What is written once and read once, as in a shuffle, is wanted the sooner the older it is: so
//!    the old stays until it is read, and the last ones written go to the disk. In the order of time alone each would be written just before it
//!    is wanted.
//!
//! A byte of room costs the reload, times the probability that it is wanted, by the size: (access + size) / age / size, since what nobody
//! wanted for long is the less likely wanted next. Age is in bytes that came since. Dirty objects are in queues by size, and of the first
//! ones the cheapest goes: the large and the old.
//!
//! Clean ones go before dirty ones, unless one of these is [`DIRTY_COST`] times as cheap to lose. Without that, gigabytes that nobody reads
//! would stay for ever because they are dirty, while a small set that everybody reads is loaded again and again into what room is left.
//! It does not help clean objects that nobody has read twice: beyond their tenth they go first in any case, so a scan drives out no more dirty
//! ones than that.
//!
//! Reading is [`Heat::touch`], without a lock; all else is for the owner, under its lock. Nothing is searched: what a call passes over
//! was read since, and it passes over [`PASSED_MAX`] of a queue at most.

mod ghost;
mod queues;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hashbrown::HashTable;

use self::ghost::Ghost;
use self::queues::Queues;

/// So many reads of an object are counted, until it is looked at.
const HEAT_MAX: u8 = 3;
/// So many move it from `small` to `main`.
const HEAT_PROVEN: u8 = 2;
/// The part of all bytes that `small` has for itself, for clean objects: one in so many.
const SMALL_PART: u64 = 10;
/// For dirty ones. Less, because what is there is about to be written.
const DIRTY_SMALL_PART: u64 = 20;
/// How much older a dirty object is than a clean one of its size when it goes first.
const DIRTY_COST: f64 = 4.0;
/// What a disk transfers in the time of one access: 100 us at 1.3 GB/s.
const ACCESS_BYTES: f64 = 131_072.0;
/// So many warm objects of a queue are passed over in one call; then all of it is warm, and the next one goes.
const PASSED_MAX: usize = 1 << 10;
const NEVER_MS: u64 = u64::MAX;

const SPENT: u8 = 0;
const SMALL: u8 = 1;
const MAIN: u8 = 2;
/// From here on everything is dirty. One queue for each size, see [`size_class`].
const DIRTY_SMALL: u8 = 3;
const DIRTY_MAIN: u8 = DIRTY_SMALL + N_SIZES;
const SPENT_DIRTY: u8 = DIRTY_MAIN + N_SIZES;
const N_SIZES: u8 = 4;
const N_QUEUES: usize = SPENT_DIRTY as usize + 1;

/// How often an object was read lately. Keep it where the object is: to clone it counts references, to touch it does not.
#[derive(Clone, Debug, Default)]
pub struct Heat(Arc<AtomicU8>);

impl Heat {
    /// Notes a read. Of reads at the same moment one may be lost.
    pub fn touch(&self) {
        let heat = self.get();
        if heat < HEAT_MAX {
            self.set(heat + 1);
        }
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, heat: u8) {
        self.0.store(heat, Ordering::Relaxed);
    }
}

/// Is there another copy?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// On a disk or in S3.
    Clean,
    /// No.
    Dirty,
}

/// An object that is to leave memory, and is in no queue any more.
#[derive(Debug)]
pub struct Victim<K> {
    pub key: K,
    pub bytes: u64,
    /// It is nowhere else: unless it is spent, it has to be written first.
    pub is_dirty: bool,
    /// Its time is over, or nobody will read it again.
    pub is_spent: bool,
    entry: Entry<K>,
    queue: u8,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    bytes: u64,
    heat: Heat,
    /// The clock when it came to the end of its queue.
    since: u64,
    expires_at_ms: u64,
}

/// How much there may be, as far as one can tell: what there was when a victim was wanted. Victims are wanted in batches, after which there is
/// less, so it falls slowly.
#[derive(Clone, Copy, Debug, Default)]
struct Full {
    bytes: u64,
    at: u64,
}

impl Full {
    fn note(&mut self, bytes: u64, clock: u64) {
        let fallen = self.bytes.saturating_sub((clock - self.at) / 16);
        *self = Self {
            bytes: fallen.max(bytes),
            at: clock,
        };
    }
}

/// The objects in memory, each under a key that is not used again.
///
/// One takes 48 bytes beside its key, 6 to 12 in the table of keys, 16 to 32 in the ghost, and what its [`Heat`] allocates. The memory for
/// entries stays as large as the most that there were; that of the ghost shrinks.
#[derive(Debug)]
pub struct Victims<K> {
    queues: Queues<Entry<K>, N_QUEUES>,
    /// The slots of all, by key.
    slots: HashTable<u32>,
    /// Those that expire, and are not spent yet.
    expiring: BTreeSet<(u64, u32)>,
    ghost: Ghost,
    bytes: u64,
    bytes_of: [u64; N_QUEUES],
    full: Full,
    /// Counts the bytes that came.
    clock: u64,
}

impl<K> Default for Victims<K> {
    fn default() -> Self {
        Self {
            queues: Queues::default(),
            slots: HashTable::default(),
            expiring: BTreeSet::default(),
            ghost: Ghost::default(),
            bytes: 0,
            bytes_of: [0; N_QUEUES],
            full: Full::default(),
            clock: 0,
        }
    }
}

impl<K: Copy + Eq + Hash> Victims<K> {
    /// Adds an object of at least one byte, in the place of any that has this key.
    pub fn insert(&mut self, key: K, bytes: u64, backing: Backing) -> Heat {
        let hash = hash(&key);
        if let Some(slot) = self.find(hash, &key) {
            self.take(hash, slot);
        }
        self.clock += bytes;
        let heat = Heat::default();
        let queue = match backing {
            Backing::Clean => match self.ghost.recall(hash, self.full.bytes) {
                Some(true) => MAIN,
                Some(false) => {
                    heat.touch();
                    SMALL
                }
                None => SMALL,
            },
            Backing::Dirty => DIRTY_SMALL + size_class(bytes),
        };
        let entry = Entry {
            key,
            bytes,
            heat: heat.clone(),
            since: self.clock,
            expires_at_ms: NEVER_MS,
        };
        self.add(hash, entry, queue);
        heat
    }

    /// Notes a read.
    pub fn touch(&self, key: &K) {
        if let Some(slot) = self.find(hash(key), key) {
            self.queues.get(slot).heat.touch();
        }
    }

    /// There is another copy now.
    pub fn set_clean(&mut self, key: &K) {
        let Some(slot) = self.find(hash(key), key) else {
            return;
        };
        match self.queues.queue_of(slot) {
            SPENT_DIRTY => self.requeue(slot, SPENT),
            DIRTY_SMALL.. => {
                let since = self.queues.get(slot).since;
                let first = self.queues.first(SMALL);
                let is_oldest = first.is_none_or(|first| since < self.queues.get(first).since);
                self.requeue(slot, SMALL);
                // Its place by age is not found without a search. Most have just come, and belong to the end; the old ones were written to be
                // let go.
                if is_oldest {
                    self.queues.get_mut(slot).since = since;
                    self.queues.move_to_front(slot);
                }
            }
            _ => {}
        }
    }

    /// Nobody will read it again.
    pub fn set_spent(&mut self, key: &K) {
        if let Some(slot) = self.find(hash(key), key) {
            self.spend(slot);
        }
    }

    /// It is spent from that moment on; never with `None`.
    pub fn set_expiry(&mut self, key: &K, expires_at_ms: Option<u64>) {
        let Some(slot) = self.find(hash(key), key) else {
            return;
        };
        self.forget_expiry(slot);
        let expires_at_ms = expires_at_ms.unwrap_or(NEVER_MS);
        self.queues.get_mut(slot).expires_at_ms = expires_at_ms;
        if expires_at_ms != NEVER_MS && !is_spent(self.queues.queue_of(slot)) {
            self.expiring.insert((expires_at_ms, slot));
        }
    }

    /// Forgets an object that is gone. Was it here?
    pub fn remove(&mut self, key: &K) -> bool {
        let hash = hash(key);
        let slot = self.find(hash, key);
        slot.is_some_and(|slot| {
            self.take(hash, slot);
            true
        })
    }

    /// Takes the next one out of the queues. Who cannot let it go gives it to [`Self::put_back`].
    pub fn next_victim(&mut self, now_ms: u64) -> Option<Victim<K>> {
        self.full.note(self.bytes, self.clock);
        let expired = self.expiring.first();
        let expired = expired.filter(|(expires_at_ms, _)| *expires_at_ms <= now_ms);
        let spent = expired.map(|(_, slot)| *slot);
        let spent = spent.or_else(|| self.queues.first(SPENT));
        let spent = spent.or_else(|| self.queues.first(SPENT_DIRTY));
        let is_spent = spent.is_some();
        let slot = spent.or_else(|| self.best())?;
        let queue = self.queues.queue_of(slot);
        let hash = hash(&self.queues.get(slot).key);
        let entry = self.take(hash, slot);
        if !is_spent && queue != MAIN {
            let is_warm = entry.heat.get() > 0;
            self.ghost.remember(hash, is_warm, entry.bytes, self.len());
        }
        Some(Victim {
            key: entry.key,
            bytes: entry.bytes,
            is_dirty: queue >= DIRTY_SMALL,
            is_spent,
            entry,
            queue,
        })
    }

    /// Takes back one that could not go, at the end of the queue that it came from. A spent one is the next again as soon as there is no
    /// other spent one: so put back what is pinned when the round is over, or when it is pinned no more. Not for what has been removed meanwhile.
    pub fn put_back(&mut self, victim: Victim<K>) {
        let mut entry = victim.entry;
        let hash = hash(&entry.key);
        if self.find(hash, &entry.key).is_none() {
            entry.since = self.clock;
            let queue = match (victim.is_spent, victim.is_dirty) {
                (false, _) => victim.queue,
                (true, false) => SPENT,
                (true, true) => SPENT_DIRTY,
            };
            self.add(hash, entry, queue);
        }
    }

    /// Of all that are in the queues.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many are in the queues.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The best to let go of those that are not spent.
    fn best(&mut self) -> Option<u32> {
        let Some(clean) = self.clean() else {
            let first = if self.is_dirty_small_over() {
                DIRTY_SMALL
            } else {
                DIRTY_MAIN
            };
            let dirty = self.cheapest(first..first + N_SIZES);
            return dirty.or_else(|| self.cheapest(DIRTY_SMALL..SPENT_DIRTY));
        };
        if self.queues.queue_of(clean) == SMALL && self.is_small_over() {
            return Some(clean);
        }
        let dirty = self.cheapest(DIRTY_SMALL..SPENT_DIRTY);
        let dirty = dirty.filter(|dirty| self.gain(*dirty) > self.gain(clean) * DIRTY_COST);
        Some(dirty.unwrap_or(clean))
    }

    /// The clean one that S3-FIFO lets go.
    fn clean(&mut self) -> Option<u32> {
        for _ in 0..PASSED_MAX {
            if !self.is_small_over() && self.queues.first(MAIN).is_some() {
                return self.coldest(MAIN);
            }
            let slot = self.queues.first(SMALL)?;
            if self.queues.get(slot).heat.get() < HEAT_PROVEN {
                return Some(slot);
            }
            self.queues.get(slot).heat.set(0);
            self.requeue(slot, MAIN);
        }
        self.queues.first(SMALL)
    }

    /// Of the first ones of these queues that with the greatest gain.
    fn cheapest(&mut self, queues: Range<u8>) -> Option<u32> {
        let mut cheapest = None;
        for queue in queues {
            if let Some(slot) = self.coldest(queue) {
                let gain = self.gain(slot);
                if cheapest.is_none_or(|(_, most)| gain > most) {
                    cheapest = Some((slot, gain));
                }
            }
        }
        cheapest.map(|(slot, _)| slot)
    }

    /// The first one of a queue of `main`, or of a dirty one, that has no reason to stay.
    fn coldest(&mut self, queue: u8) -> Option<u32> {
        let is_small = (DIRTY_SMALL..DIRTY_MAIN).contains(&queue);
        for _ in 0..PASSED_MAX {
            let slot = self.queues.first(queue)?;
            let entry = self.queues.get(slot);
            let (heat, bytes) = (entry.heat.get(), entry.bytes);
            match heat {
                HEAT_PROVEN.. if is_small => {
                    entry.heat.set(0);
                    self.requeue(slot, queue + N_SIZES);
                }
                _ if is_small && self.has_room(bytes) => self.requeue(slot, queue + N_SIZES),
                1.. if !is_small => {
                    entry.heat.set(heat - 1);
                    self.requeue(slot, queue);
                }
                _ => return Some(slot),
            }
        }
        self.queues.first(queue)
    }

    /// Does `main` have room for one more?
    fn has_room(&self, bytes: u64) -> bool {
        let main_bytes = self.sum(MAIN..MAIN + 1) + self.sum(DIRTY_MAIN..SPENT_DIRTY);
        main_bytes + bytes <= self.full.bytes - self.full.bytes / DIRTY_SMALL_PART
    }

    /// Does the clean `small` have its part or more?
    fn is_small_over(&self) -> bool {
        let bytes = self.sum(SMALL..MAIN);
        bytes > 0 && bytes >= self.full.bytes / SMALL_PART
    }

    fn is_dirty_small_over(&self) -> bool {
        let bytes = self.sum(DIRTY_SMALL..DIRTY_MAIN);
        bytes > 0 && bytes >= self.full.bytes / DIRTY_SMALL_PART
    }

    fn sum(&self, queues: Range<u8>) -> u64 {
        let queues = usize::from(queues.start)..usize::from(queues.end);
        self.bytes_of[queues].iter().sum()
    }

    /// What it brings to let an object go: the inverse of the cost of a byte of its room.
    fn gain(&self, slot: u32) -> f64 {
        let entry = self.queues.get(slot);
        let age = (self.clock - entry.since).max(1) as f64;
        let bytes = entry.bytes.max(1) as f64;
        age * bytes / (ACCESS_BYTES + bytes)
    }

    fn spend(&mut self, slot: u32) {
        self.forget_expiry(slot);
        match self.queues.queue_of(slot) {
            SMALL | MAIN => self.requeue(slot, SPENT),
            DIRTY_SMALL..SPENT_DIRTY => self.requeue(slot, SPENT_DIRTY),
            _ => {}
        }
    }

    /// Puts it at the end of a queue.
    fn requeue(&mut self, slot: u32, queue: u8) {
        let from = self.queues.queue_of(slot);
        let entry = self.queues.get_mut(slot);
        entry.since = self.clock;
        self.bytes_of[usize::from(from)] -= entry.bytes;
        self.bytes_of[usize::from(queue)] += entry.bytes;
        self.queues.move_to_end(slot, queue);
    }

    fn add(&mut self, hash: u64, entry: Entry<K>, queue: u8) {
        let (bytes, expires_at_ms) = (entry.bytes, entry.expires_at_ms);
        self.bytes += bytes;
        self.bytes_of[usize::from(queue)] += bytes;
        let slot = self.queues.push(queue, entry);
        let queues = &self.queues;
        let rehash = |slot: &u32| self::hash(&queues.get(*slot).key);
        self.slots.insert_unique(hash, slot, rehash);
        if expires_at_ms != NEVER_MS && !is_spent(queue) {
            self.expiring.insert((expires_at_ms, slot));
        }
    }

    fn take(&mut self, hash: u64, slot: u32) -> Entry<K> {
        self.forget_expiry(slot);
        let queue = self.queues.queue_of(slot);
        let found = self.slots.find_entry(hash, |other| *other == slot);
        found.expect("each has its key in the table").remove();
        let entry = self.queues.take(slot);
        self.bytes -= entry.bytes;
        self.bytes_of[usize::from(queue)] -= entry.bytes;
        entry
    }

    fn find(&self, hash: u64, key: &K) -> Option<u32> {
        let is_it = |slot: &u32| self.queues.get(*slot).key == *key;
        self.slots.find(hash, is_it).copied()
    }

    fn forget_expiry(&mut self, slot: u32) {
        let expires_at_ms = self.queues.get(slot).expires_at_ms;
        if expires_at_ms != NEVER_MS {
            self.expiring.remove(&(expires_at_ms, slot));
        }
    }
}

fn is_spent(queue: u8) -> bool {
    matches!(queue, SPENT | SPENT_DIRTY)
}

/// Up to 16 KiB, 256 KiB, 4 MiB, and more: the cost of a byte hardly differs within one of these.
fn size_class(bytes: u64) -> u8 {
    match bytes {
        0..=0x4000 => 0,
        0x4001..=0x4_0000 => 1,
        0x4_0001..=0x40_0000 => 2,
        _ => 3,
    }
}

/// The same in every run. It does no harm that one could find keys that collide: the node makes them.
fn hash<K: Hash>(key: &K) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

#[cfg(test)]
mod tests;
