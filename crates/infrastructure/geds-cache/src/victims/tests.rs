use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::ghost::Ghost;
use super::queues::Queues;
use super::{
    Backing, DIRTY_SMALL, Entry, HEAT_MAX, Heat, MAIN, N_QUEUES, NEVER_MS, PASSED_MAX, SMALL,
    SPENT_DIRTY, Victim, Victims, is_spent,
};

const MIB: u64 = 1 << 20;

/// What is known of an object from outside.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    is_dirty: bool,
    is_spent: bool,
    expires_at_ms: u64,
}

impl Known {
    fn is_spent_at(self, now_ms: u64) -> bool {
        self.is_spent || self.expires_at_ms <= now_ms
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u64, bool),
    Touch(u16, u8),
    SetClean(u16),
    SetSpent(u16),
    SetExpiry(u16, Option<u64>),
    Remove(u16),
    Wait(u64),
    Next { is_kept: bool },
    PutBack,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..40_u16;
    let bytes = prop_oneof![1..100_u64, 1..100_000_u64, 1..8_000_000_u64];
    prop_oneof![
        8 => (key(), bytes, any::<bool>()).prop_map(|(key, bytes, is_dirty)| Step::Insert(key, bytes, is_dirty)),
        6 => (key(), 1..4_u8).prop_map(|(key, times)| Step::Touch(key, times)),
        2 => key().prop_map(Step::SetClean),
        2 => key().prop_map(Step::SetSpent),
        2 => (key(), prop::option::of(0..50_u64)).prop_map(|(key, at_ms)| Step::SetExpiry(key, at_ms)),
        2 => key().prop_map(Step::Remove),
        1 => (1..5_u64).prop_map(Step::Wait),
        8 => any::<bool>().prop_map(|is_kept| Step::Next { is_kept }),
        2 => Just(Step::PutBack),
    ]
}

#[derive(Debug, Default)]
struct World {
    victims: Victims<u16>,
    known: BTreeMap<u16, Known>,
    heats: BTreeMap<u16, Heat>,
    /// What left, and may come back.
    kept: Vec<(Victim<u16>, Known, Heat)>,
    now_ms: u64,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(key, bytes, is_dirty) => {
                // Keys are not used again while somebody may put one back.
                self.kept.retain(|(victim, ..)| victim.key != key);
                let backing = if is_dirty {
                    Backing::Dirty
                } else {
                    Backing::Clean
                };
                let heat = self.victims.insert(key, bytes, backing);
                let known = Known {
                    bytes,
                    is_dirty,
                    is_spent: false,
                    expires_at_ms: NEVER_MS,
                };
                self.known.insert(key, known);
                self.heats.insert(key, heat);
            }
            Step::Touch(key, times) => {
                if let Some(heat) = self.heats.get(&key) {
                    (0..times).for_each(|_| heat.touch());
                }
            }
            Step::SetClean(key) => {
                self.victims.set_clean(&key);
                self.known.entry(key).and_modify(|it| it.is_dirty = false);
            }
            Step::SetSpent(key) => {
                self.victims.set_spent(&key);
                self.known.entry(key).and_modify(|it| it.is_spent = true);
            }
            Step::SetExpiry(key, at_ms) => {
                self.victims.set_expiry(&key, at_ms);
                let at_ms = at_ms.unwrap_or(NEVER_MS);
                self.known
                    .entry(key)
                    .and_modify(|it| it.expires_at_ms = at_ms);
            }
            Step::Remove(key) => {
                let was_here = self.known.remove(&key).is_some();
                assert_eq!(self.victims.remove(&key), was_here);
            }
            Step::Wait(ms) => self.now_ms += ms,
            Step::Next { is_kept } => {
                if let Some((victim, known, heat)) = self.next()
                    && is_kept
                {
                    self.kept.push((victim, known, heat));
                }
            }
            Step::PutBack => {
                if let Some((victim, mut known, heat)) = self.kept.pop() {
                    let key = victim.key;
                    known.is_spent = victim.is_spent;
                    self.victims.put_back(victim);
                    self.known.insert(key, known);
                    self.heats.insert(key, heat);
                }
            }
        }
    }

    fn next(&mut self) -> Option<(Victim<u16>, Known, Heat)> {
        let now_ms = self.now_ms;
        let victim = self.victims.next_victim(now_ms);
        let Some(victim) = victim else {
            assert!(
                self.known.is_empty(),
                "there is one as long as there is any"
            );
            return None;
        };
        let known = self.known.remove(&victim.key);
        let known = known.expect("it is there, and was not given before");
        let heat = self.heats.remove(&victim.key).expect("it was inserted");
        assert_eq!(
            (victim.bytes, victim.is_dirty),
            (known.bytes, known.is_dirty)
        );
        assert_eq!(victim.is_spent, known.is_spent_at(now_ms));
        if !victim.is_spent {
            let is_any_spent = self.known.values().any(|it| it.is_spent_at(now_ms));
            assert!(!is_any_spent, "what is spent goes first");
        }
        if victim.is_dirty && !victim.is_spent {
            self.check_dirty(&victim);
        }
        Some((victim, known, heat))
    }

    /// A dirty one goes when there is nothing clean, or much younger clean ones.
    fn check_dirty(&self, victim: &Victim<u16>) {
        let age = |since: u64| (self.victims.clock - since).max(1);
        let gain = |entry: &Entry<u16>| {
            age(entry.since) as f64 * entry.bytes as f64 / (131_072.0 + entry.bytes as f64)
        };
        let clean = [SMALL, MAIN].map(|queue| self.victims.queues.items(queue));
        let mut clean = clean.iter().flatten().peekable();
        assert!(
            clean.peek().is_none() || clean.any(|it| gain(it) * 4.0 < gain(&victim.entry)),
            "clean ones go first"
        );
    }

    fn check(&self) {
        let Self { victims, known, .. } = self;
        assert_eq!(victims.len(), known.len());
        assert_eq!(
            victims.bytes(),
            known.values().map(|it| it.bytes).sum::<u64>()
        );
        let mut expiring = Vec::new();
        let mut n_found = 0;
        for queue in 0..=SPENT_DIRTY {
            let items = victims.queues.items(queue);
            let bytes: u64 = items.iter().map(|entry| entry.bytes).sum();
            assert_eq!(victims.bytes_of[usize::from(queue)], bytes);
            n_found += items.len();
            for entry in items {
                let slot = victims.find(super::hash(&entry.key), &entry.key);
                let slot = slot.expect("the table has all keys");
                assert_eq!(victims.queues.get(slot).since, entry.since);
                assert_eq!(known[&entry.key].is_dirty, queue >= DIRTY_SMALL);
                if entry.expires_at_ms != NEVER_MS && !is_spent(queue) {
                    expiring.push((entry.expires_at_ms, slot));
                }
            }
        }
        assert_eq!(n_found, known.len());
        expiring.sort_unstable();
        assert_eq!(Vec::from_iter(victims.expiring.iter().copied()), expiring);
    }
}

proptest! {
    #[test]
    fn the_books_are_right(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
            world.check();
        }
        while world.next().is_some() {
            world.check();
        }
        prop_assert_eq!((world.victims.len(), world.victims.bytes()), (0, 0));
    }

    #[test]
    fn clean_objects_leave_as_s3_fifo_says(reads in prop::collection::vec(0..30_u8, 1..400)) {
        let mut victims = Victims::default();
        let mut heats = BTreeMap::new();
        let mut model = Model::default();
        for key in reads {
            if let Some(heat) = heats.get(&key) {
                let heat: &Heat = heat;
                heat.touch();
                model.touch(key);
                continue;
            }
            if heats.len() == Model::ROOM {
                let victim = victims.next_victim(0).expect("it is full").key;
                heats.remove(&victim);
                prop_assert_eq!(victim, model.evict());
            }
            heats.insert(key, victims.insert(key, 1, Backing::Clean));
            model.insert(key);
        }
    }
}

/// S3-FIFO of so few objects of one byte that `small` is for one of them, and the ghost for as many as there are.
#[derive(Default)]
struct Model {
    small: VecDeque<(u8, u8)>,
    main: VecDeque<(u8, u8)>,
    ghost: VecDeque<(u8, bool, usize)>,
    n_left: usize,
}

impl Model {
    const ROOM: usize = 8;

    fn touch(&mut self, key: u8) {
        let mut all = self.small.iter_mut().chain(&mut self.main);
        let (_, heat) = all.find(|(other, _)| *other == key).expect("it is there");
        *heat = (*heat + 1).min(3);
    }

    fn insert(&mut self, key: u8) {
        let is_it =
            |(other, _, at): &(u8, bool, usize)| *other == key && at + Self::ROOM >= self.n_left;
        let idx = self.ghost.iter().position(is_it);
        match idx.and_then(|idx| self.ghost.remove(idx)) {
            Some((_, true, _)) => self.main.push_back((key, 0)),
            Some((_, false, _)) => self.small.push_back((key, 1)),
            None => self.small.push_back((key, 0)),
        }
    }

    fn evict(&mut self) -> u8 {
        loop {
            if let Some((key, heat)) = self.small.pop_front() {
                if heat >= 2 {
                    self.main.push_back((key, 0));
                    continue;
                }
                self.n_left += 1;
                self.ghost.retain(|(other, ..)| *other != key);
                self.ghost.push_back((key, heat > 0, self.n_left));
                if self.ghost.len() > Self::ROOM {
                    self.ghost.pop_front();
                }
                return key;
            }
            let (key, heat) = self.main.pop_front().expect("it is full");
            if heat == 0 {
                return key;
            }
            self.main.push_back((key, heat - 1));
        }
    }
}

/// Objects of 1 MiB, and room for so many.
struct Memory {
    victims: Victims<u32>,
    heats: BTreeMap<u32, Heat>,
    room: usize,
    n_written: usize,
}

impl Memory {
    fn new(room: usize) -> Self {
        Self {
            victims: Victims::default(),
            heats: BTreeMap::new(),
            room,
            n_written: 0,
        }
    }

    fn insert(&mut self, key: u32, backing: Backing) {
        while self.victims.len() >= self.room {
            let victim = self.victims.next_victim(0).expect("it is full");
            self.heats.remove(&victim.key);
            self.n_written += usize::from(victim.is_dirty && !victim.is_spent);
        }
        let heat = self.victims.insert(key, MIB, backing);
        self.heats.insert(key, heat);
    }

    /// Is it there?
    fn read(&mut self, key: u32) -> bool {
        if let Some(heat) = self.heats.get(&key) {
            heat.touch();
            return true;
        }
        self.insert(key, Backing::Clean);
        false
    }
}

/// With `room` dirty objects that nobody reads.
fn full_of_dirty(room: u32) -> Memory {
    let mut memory = Memory::new(room as usize);
    (0..room).for_each(|key| memory.insert(key, Backing::Dirty));
    memory
}

#[test]
fn a_set_that_is_read_again_gets_room_from_cold_dirty_objects() {
    let mut memory = full_of_dirty(1_000);
    let round = |memory: &mut Memory| (5_000..5_500).filter(|key| memory.read(*key)).count();
    let rounds: Vec<usize> = (0..10).map(|_| round(&mut memory)).collect();
    assert_eq!(rounds[9], 500, "{rounds:?}");
}

#[test]
fn a_scan_drives_out_few_dirty_objects() {
    let mut memory = full_of_dirty(1_000);
    (5_000..25_000).for_each(|key| assert!(!memory.read(key)));
    assert_eq!(memory.n_written, 100, "as many as `small` is for");
}

#[test]
fn clean_objects_go_before_dirty_ones_of_their_age() {
    let mut memory = Memory::new(1_000);
    for key in 0..1_000 {
        let backing = if key % 2 == 0 {
            Backing::Dirty
        } else {
            Backing::Clean
        };
        memory.insert(key, backing);
    }
    let mut order = Vec::new();
    while let Some(victim) = memory.victims.next_victim(0) {
        order.push(victim.is_dirty);
    }
    let first_dirty = order.iter().position(|is_dirty| *is_dirty);
    assert_eq!((order.len(), first_dirty), (1_000, Some(500)));
}

#[test]
fn of_dirty_objects_the_large_and_the_old_go_first() {
    let mut victims = Victims::default();
    let sizes = [4 << 10, 64 << 10, MIB, 64 * MIB, MIB, 4 << 10];
    for (key, bytes) in sizes.into_iter().enumerate() {
        victims.insert(key, bytes, Backing::Dirty);
    }
    // What came after all, so that the others have an age.
    victims.insert(9, MIB, Backing::Dirty);
    let order = std::iter::from_fn(|| victims.next_victim(0));
    let order: Vec<usize> = order.map(|victim| victim.key).collect();
    let place = |key| order.iter().position(|other| *other == key);
    assert!(place(2) < place(4), "the older of two of a size: {order:?}");
    assert!(place(2) < place(1) && place(1) < place(0), "{order:?}");
    assert!(place(0) < place(5), "{order:?}");
}

#[test]
fn what_is_written_once_and_read_once_stays_until_it_is_read() {
    let mut memory = full_of_dirty(1_000);
    (1_000..3_000).for_each(|key| memory.insert(key, Backing::Dirty));
    let n_first = (0..1_000).filter(|key| memory.heats.contains_key(key));
    assert_eq!(n_first.count(), 950);
}

#[test]
fn a_dirty_object_that_was_written_has_its_place_by_age() {
    let mut victims = Victims::default();
    for key in 0..4 {
        let backing = if key == 1 {
            Backing::Clean
        } else {
            Backing::Dirty
        };
        victims.insert(key, 1, backing);
    }
    victims.set_clean(&2);
    victims.set_clean(&0);
    let order = std::iter::from_fn(|| victims.next_victim(0));
    let order: Vec<(i32, bool)> = order.map(|victim| (victim.key, victim.is_dirty)).collect();
    assert_eq!(order, [(0, false), (1, false), (2, false), (3, true)]);
}

#[test]
fn who_gets_more_time_before_it_leaves_is_not_spent() {
    let mut victims = Victims::default();
    for key in 0..3 {
        victims.insert(key, 1, Backing::Dirty);
        victims.set_expiry(&key, Some(key));
    }
    let first = victims.next_victim(2).expect("all three have expired");
    assert_eq!((first.key, first.is_spent), (0, true));
    victims.set_expiry(&1, None);
    let order = std::iter::from_fn(|| victims.next_victim(2));
    let order: Vec<(u64, bool)> = order.map(|victim| (victim.key, victim.is_spent)).collect();
    assert_eq!(order, [(2, true), (1, false)]);
}

#[test]
fn what_is_put_back_goes_behind_the_others() {
    let mut victims = Victims::default();
    for key in 0..3 {
        victims.insert(key, 1, Backing::Clean);
    }
    let pinned = victims.next_victim(0).expect("there are three");
    assert_eq!(pinned.key, 0);
    victims.put_back(pinned);
    let order = std::iter::from_fn(|| victims.next_victim(0));
    let order: Vec<i32> = order.map(|victim| victim.key).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn a_call_passes_over_a_bounded_number_of_warm_objects() {
    let mut victims = Victims::default();
    let n = u32::try_from(3 * PASSED_MAX).expect("few");
    let heats: Vec<Heat> = (0..n)
        .map(|key| victims.insert(key, 1, Backing::Dirty))
        .collect();
    for _ in 0..2 * HEAT_MAX {
        heats.iter().for_each(Heat::touch);
    }
    victims.next_victim(0).expect("there are many");
    let heat: u32 = heats.iter().map(|heat| u32::from(heat.get())).sum();
    let all = n * u32::from(HEAT_MAX);
    // Of `small`, and of `main`.
    let n_passed = u32::try_from(2 * PASSED_MAX).expect("few");
    assert!(
        heat < all && all - heat <= n_passed * u32::from(HEAT_MAX),
        "{heat} of {all}"
    );
}

#[test]
fn a_ghost_is_bounded_and_forgets_in_order() {
    let mut ghost = Ghost::default();
    let mix = |n: u64| super::hash(&n);
    for n in 0..10_000 {
        ghost.remember(mix(n), n % 4 < 2, 10, 100);
    }
    assert_eq!(ghost.places(), 128);
    let found = (0..10_000).filter(|n| ghost.recall(mix(*n), 500).is_some());
    let found: Vec<u64> = found.collect();
    assert!(found.iter().all(|n| *n >= 9_949), "{found:?}");
    assert!(found.len() >= 45, "{found:?}");
    for n in 0..8 {
        ghost.remember(mix(n), n % 2 == 0, 10, 10_000);
    }
    assert_eq!(ghost.places(), 16_384);
    for n in 0..8 {
        assert_eq!(ghost.recall(mix(n), 80), Some(n % 2 == 0));
        assert_eq!(ghost.recall(mix(n), 80), None, "once");
    }
    ghost.remember(mix(1), true, 10, 1);
    assert_eq!(ghost.places(), 8);
}

#[test]
fn an_entry_is_small() {
    type Key = (u64, u64, u64);
    let bytes = Queues::<Entry<Key>, N_QUEUES>::slot_bytes();
    assert_eq!(bytes, size_of::<Key>() + 48);
}
