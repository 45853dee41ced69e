//! When pages that a client may read can be used again: one word in memory that the client and the agent share, for each object that is
//! lent to it.
//!
//! ```text
//!     generation (32 bits) · revoked (1 bit) · pins (31 bits)
//!
//!              lend: another generation            revoke: no pins
//!   revoked, 0 ────────────────────────▶ lent, n ─────────────────────▶ revoked, 0: the pages are free
//!       ▲                                │   ▲ pin, unpin                    ▲
//!       │                                ▼   │                               │ the last unpin, which the client tells the agent
//!       └── (the agent lends the slot)  lent, n ───── revoke: pins ─────▶ revoked, n
//! ```
//!
//! So a client pins what it has been lent without asking, and the agent takes back what is not pinned without waiting. All of it is in one
//! word, so there is one order of everything that happens to it. A client that writes nonsense there reads pages that are used for
//! something else of its domain, or never gives its own quota back; the agent believes the word only as to when this client has done.

use std::sync::atomic::{AtomicU64, Ordering};

const REVOKED: u64 = 1 << 31;
const PINS: u64 = REVOKED - 1;

/// What a slot begins with.
pub(crate) const NOT_LENT: u64 = REVOKED;

/// A word of memory that processes share. Every operation is ordered with every other one.
pub(crate) trait Word {
    fn get(&self) -> u64;
    fn add(&self, n: u64) -> u64;
    fn sub(&self, n: u64) -> u64;
    fn or(&self, bits: u64) -> u64;
    /// Did it have the value `old`?
    fn replace(&self, old: u64, new: u64) -> bool;
}

impl Word for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn add(&self, n: u64) -> u64 {
        self.fetch_add(n, Ordering::SeqCst)
    }

    fn sub(&self, n: u64) -> u64 {
        self.fetch_sub(n, Ordering::SeqCst)
    }

    fn or(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::SeqCst)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// What came of trying to pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    Pinned,
    /// It is not lent any more. If there is a generation, the agent waits to hear that nobody has pinned it.
    Gone(Option<u32>),
}

/// The client pins what it was lent as `generation`.
pub(crate) fn pin(word: &impl Word, generation: u32) -> Pin {
    let before = word.add(1);
    if before & REVOKED == 0 && generation_of(before) == generation {
        Pin::Pinned
    } else {
        Pin::Gone(unpin(word))
    }
}

/// If that was the last pin of something that has been revoked, gives its generation: the agent waits to hear of it.
pub(crate) fn unpin(word: &impl Word) -> Option<u32> {
    let before = word.sub(1);
    (before & (REVOKED | PINS) == REVOKED | 1).then(|| generation_of(before))
}

/// The agent lends the slot as `generation`. Not if the client is just trying to pin what it had there before.
#[must_use]
pub(crate) fn lend(word: &impl Word, generation: u32) -> bool {
    let now = word.get();
    now & (REVOKED | PINS) == REVOKED && word.replace(now, u64::from(generation) << 32)
}

/// The agent takes back what it has lent. Is it free? Else the client tells when it is.
#[must_use]
pub(crate) fn revoke(word: &impl Word) -> bool {
    word.or(REVOKED) & PINS == 0
}

pub(crate) fn is_pinned(word: &impl Word) -> bool {
    word.get() & PINS != 0
}

fn generation_of(word: u64) -> u32 {
    u32::try_from(word >> 32).expect("32 bits are left")
}

#[cfg(test)]
mod tests;
