//! What one client has been lent to read.

use std::collections::{HashMap, VecDeque};

use crate::budget::Charge;
use crate::memory::Words;
use crate::object::{Object, ObjectNo, Placement};
use crate::pins;

/// So many objects can be lent to a client at a time.
pub(crate) const SLOTS: u32 = 16 << 10;

/// Words of a client that are no slots. First, how many messages it has told; the agent only compares it.
pub(crate) const TOLD: usize = 0;
/// How many of them were refused; the client only compares it.
pub(crate) const REFUSED: usize = 1;
const FIRST_SLOT: usize = 8;
pub(crate) const WORDS: usize = FIRST_SLOT + SLOTS as usize;

/// The word of a slot.
pub(crate) fn word_of(slot: u32) -> usize {
    FIRST_SLOT + slot as usize
}

#[derive(Debug)]
pub(super) struct Lent {
    quota_bytes: u64,
    bytes: u64,
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    by_object: HashMap<ObjectNo, u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    lease: Option<Lease>,
}

/// As long as there is one, the pages of the object are not used for anything else.
#[derive(Debug)]
struct Lease {
    object: ObjectNo,
    placement: Placement,
    is_revoked: bool,
    _charge: Charge,
}

/// What to tell the client.
#[derive(Debug)]
pub(super) struct Grant {
    pub slot: u32,
    pub generation: u32,
    pub placement: Placement,
}

impl Lent {
    pub(super) fn new(quota_bytes: u64, words: &Words) -> Self {
        for slot in 0..SLOTS {
            // Nobody else has the words yet.
            words[word_of(slot)].store(pins::NOT_LENT, std::sync::atomic::Ordering::Relaxed);
        }
        Self {
            quota_bytes,
            bytes: 0,
            slots: Vec::new(),
            free: VecDeque::new(),
            by_object: HashMap::new(),
        }
    }

    /// Nothing is lent any more. Is something still open? Its pages are kept as long as this is.
    #[must_use]
    pub(super) fn end(&mut self, words: &Words) -> bool {
        self.quota_bytes = 0;
        for slot in std::mem::take(&mut self.by_object).into_values() {
            self.revoke_slot(words, slot);
        }
        self.is_reading(words)
    }

    /// Of one whose session is over: does it still read something? What it reads no more is free.
    pub(super) fn is_reading(&mut self, words: &Words) -> bool {
        for (slot, word) in (0..).zip(&words[word_of(0)..]).take(self.slots.len()) {
            if !pins::is_pinned(word) {
                self.free(slot);
            }
        }
        self.slots.iter().any(|slot| slot.lease.is_some())
    }

    /// Lends an object, if the quota allows it, and what all clients of the domain have been lent. What is lent already is lent once.
    pub(super) fn lend(&mut self, words: &Words, object: &Object) -> Option<Grant> {
        if let Some(&slot) = self.by_object.get(&object.no()) {
            let Slot { generation, lease } = &self.slots[slot as usize];
            return lease.as_ref().map(|lease| Grant {
                slot,
                generation: *generation,
                placement: lease.placement.clone(),
            });
        }
        let placement = object.placement();
        let bytes = self.bytes.checked_add(placement.bytes());
        let bytes = bytes.filter(|bytes| *bytes <= self.quota_bytes)?;
        let charge = object.domain().charge_lent(placement.bytes()).ok()?;
        let slot = self.free_slot(words)?;
        self.bytes = bytes;
        self.by_object.insert(object.no(), slot);
        self.slots[slot as usize].lease = Some(Lease {
            object: object.no(),
            placement: placement.clone(),
            is_revoked: false,
            _charge: charge,
        });
        Some(Grant {
            slot,
            generation: self.slots[slot as usize].generation,
            placement,
        })
    }

    /// Would it be lent if the client gave something back?
    pub(super) fn is_over_quota(&self, object: &Object) -> bool {
        let bytes = self.bytes.saturating_add(object.placement().bytes());
        bytes > self.quota_bytes || self.by_object.len() >= SLOTS as usize
    }

    /// The object is not to be had any more, or by this client.
    pub(super) fn revoke(&mut self, words: &Words, object: ObjectNo) {
        if let Some(slot) = self.by_object.remove(&object) {
            self.revoke_slot(words, slot);
        }
    }

    fn revoke_slot(&mut self, words: &Words, slot: u32) {
        if let Some(lease) = &mut self.slots[slot as usize].lease {
            lease.is_revoked = true;
            if pins::revoke(&words[word_of(slot)]) {
                self.free(slot);
            }
        }
    }

    /// The client says that it does not need what it was lent, or that it has done with what was revoked. It may be lying.
    pub(super) fn done(&mut self, words: &Words, slot: u32, generation: u32) {
        let place = self.slots.get(slot as usize);
        let Some(place) = place.filter(|place| place.generation == generation) else {
            return;
        };
        match &place.lease {
            Some(lease) if !lease.is_revoked => {
                let object = lease.object;
                self.revoke(words, object);
            }
            Some(_) if !pins::is_pinned(&words[word_of(slot)]) => self.free(slot),
            _ => {}
        }
    }

    fn free(&mut self, slot: u32) {
        if let Some(lease) = self.slots[slot as usize].lease.take() {
            self.bytes -= lease.placement.bytes();
            self.free.push_back(slot);
        }
    }

    fn free_slot(&mut self, words: &Words) -> Option<u32> {
        if self.free.is_empty() && self.slots.len() < SLOTS as usize {
            self.free.extend(u32::try_from(self.slots.len()));
            self.slots.push(Slot::default());
        }
        for _ in 0..self.free.len() {
            let slot = self.free.pop_front()?;
            let generation = self.slots[slot as usize].generation.checked_add(1);
            // One that has had all generations is used no more.
            let Some(generation) = generation else {
                continue;
            };
            if pins::lend(&words[word_of(slot)], generation) {
                self.slots[slot as usize].generation = generation;
                return Some(slot);
            }
            self.free.push_back(slot);
        }
        None
    }
}
