//! Every interleaving that shuttle finds: pages that are pinned are not used again, and what is revoked comes free.

use std::collections::VecDeque;

use geds_core::extents::{Extent, Extents, SegmentNo};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use super::{NOT_LENT, Pin, Word, is_pinned, lend, pin, revoke, unpin};

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
        let replaced = self.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        replaced.is_ok()
    }
}

/// Two pages, two slots. What is in a page is the number of the object that it was written for.
struct Node {
    words: [AtomicU64; 2],
    pages: [AtomicU64; 2],
    agent: Mutex<Agent>,
}

struct Agent {
    extents: Extents,
    lent: [Option<Lent>; 2],
    generation: u32,
}

struct Lent {
    extent: Extent,
    generation: u32,
    is_revoked: bool,
}

/// What a client knows of something that it was lent.
#[derive(Clone, Copy)]
struct Known {
    slot: usize,
    generation: u32,
    page: usize,
}

impl Node {
    fn new() -> Self {
        let mut extents = Extents::default();
        extents.add(SegmentNo(1), 2);
        Self {
            words: [AtomicU64::new(NOT_LENT), AtomicU64::new(NOT_LENT)],
            pages: [AtomicU64::new(0), AtomicU64::new(0)],
            agent: Mutex::new(Agent {
                extents,
                lent: [None, None],
                generation: 0,
            }),
        }
    }

    /// The agent writes an object where there is room, and lends it. Its generation is what is in its page.
    fn lend(&self) -> Option<Known> {
        let mut agent = self.agent.lock().expect("nobody panics");
        let slot = agent.lent.iter().position(Option::is_none)?;
        let extent = agent.extents.take(1)?;
        agent.generation += 1;
        let generation = agent.generation;
        let page = extent.first as usize;
        self.pages[page].store(u64::from(generation), Ordering::SeqCst);
        if !lend(&self.words[slot], generation) {
            agent.extents.give(extent);
            return None;
        }
        agent.lent[slot] = Some(Lent {
            extent,
            generation,
            is_revoked: false,
        });
        Some(Known {
            slot,
            generation,
            page,
        })
    }

    fn revoke(&self, slot: usize) {
        let mut agent = self.agent.lock().expect("nobody panics");
        let Some(lent) = &mut agent.lent[slot] else {
            return;
        };
        lent.is_revoked = true;
        if revoke(&self.words[slot]) {
            agent.free(slot);
        }
    }

    /// The client tells that it has done.
    fn told(&self, slot: usize, generation: u32) {
        let mut agent = self.agent.lock().expect("nobody panics");
        let lent = agent.lent[slot].as_ref();
        let is_waiting = lent.is_some_and(|lent| lent.is_revoked && lent.generation == generation);
        if is_waiting && !is_pinned(&self.words[slot]) {
            agent.free(slot);
        }
    }

    /// The client reads, if it still may.
    fn read(&self, known: Known) {
        let done = match pin(&self.words[known.slot], known.generation) {
            Pin::Pinned => {
                for _ in 0..2 {
                    let found = self.pages[known.page].load(Ordering::SeqCst);
                    assert_eq!(
                        found,
                        u64::from(known.generation),
                        "a pinned page is used again"
                    );
                }
                unpin(&self.words[known.slot])
            }
            Pin::Gone(done) => done,
        };
        if let Some(generation) = done {
            self.told(known.slot, generation);
        }
    }
}

impl Agent {
    fn free(&mut self, slot: usize) {
        let lent = self.lent[slot].take().expect("it is lent");
        self.extents.give(lent.extent);
    }
}

fn agent_against_clients(node: &Arc<Node>, n_objects: usize) {
    let known: Arc<Mutex<VecDeque<Known>>> = Arc::default();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (node, known) = (Arc::clone(node), Arc::clone(&known));
            thread::spawn(move || {
                for _ in 0..3 {
                    let last = known.lock().expect("nobody panics").iter().last().copied();
                    // What was lent first may be gone, and its slot lent again: it is still tried.
                    let first = known.lock().expect("nobody panics").front().copied();
                    for known in [last, first].into_iter().flatten() {
                        node.read(known);
                    }
                }
            })
        })
        .collect();
    for _ in 0..n_objects {
        if let Some(lent) = node.lend() {
            known.lock().expect("nobody panics").push_back(lent);
            thread::yield_now();
            node.revoke(lent.slot);
        }
    }
    for client in clients {
        client.join().expect("nobody panics");
    }
    // Everything was revoked and nobody reads: nothing is held.
    let agent = node.agent.lock().expect("nobody panics");
    assert!(
        agent.lent.iter().all(Option::is_none),
        "what is revoked comes free"
    );
}

#[test]
fn what_is_pinned_is_not_used_again_and_what_is_revoked_comes_free() {
    shuttle::check_random(|| agent_against_clients(&Arc::new(Node::new()), 4), 5_000);
    shuttle::check_pct(
        || agent_against_clients(&Arc::new(Node::new()), 4),
        5_000,
        3,
    );
}

#[test]
fn shuttle_finds_pages_that_are_used_again_too_early() {
    // The same, with an agent that does not look whether somebody has pinned what it revokes.
    let careless = || {
        let node = Arc::new(Node::new());
        let known = node.lend().expect("there is room");
        let reader = {
            let node = Arc::clone(&node);
            thread::spawn(move || node.read(known))
        };
        let page = &node.pages[known.page];
        let _is_free = revoke(&node.words[known.slot]);
        page.store(u64::MAX, Ordering::SeqCst);
        reader.join().expect("nobody panics");
    };
    let found = std::panic::catch_unwind(|| shuttle::check_random(careless, 5_000));
    assert!(found.is_err());
}

#[test]
fn nonsense_in_a_word_is_survived() {
    let word = std::sync::atomic::AtomicU64::new(NOT_LENT);
    for nonsense in [0, 1, u64::MAX, 1 << 31, (1 << 31) - 1, 7 << 32] {
        word.store(nonsense, Ordering::SeqCst);
        let _ = (revoke(&word), is_pinned(&word), lend(&word, 9));
        let _ = (pin(&word, 9), unpin(&word));
    }
}
