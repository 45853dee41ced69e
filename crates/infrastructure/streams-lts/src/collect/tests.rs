//! A world of names, in which owners put, free, list, delete and crash in any order: never is an object missing that the table has, and in the end
//! there is no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use ids::Epoch;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use streams_core::SegmentId;

use super::orphans::{Judge, Page};
use super::queue::Queue;
use crate::list::ChunkList;
use crate::names::{ChunkName, Found};
use crate::{Chunk, collect};

#[derive(Clone, Copy, Debug)]
enum Step {
    Put {
        segment: u64,
        offset: u64,
    },
    /// The object is there, of a put that may have been given up long ago.
    Land(usize),
    /// The answer has come, so the object is there.
    Answer(usize),
    /// There was no answer in time.
    GiveUp(usize),
    /// The entry is durable, and the owner is told.
    Enter(usize),
    /// The entry is durable, and the owner is not told.
    EnterUntold(usize),
    /// There will not be an entry.
    Settle(usize),
    Free {
        segment: u64,
        before: u64,
    },
    List,
    Judge,
    Delete,
    Crash,
}

/// Mistakes that the world has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    None,
    ForgetWhatIsUnderWay,
    ForgetTheList,
    JudgeByAnOldList,
}

#[derive(Debug)]
struct World {
    plant: Plant,
    // What lasts.
    objects: BTreeSet<ChunkName>,
    table: BTreeMap<[u8; 16], Chunk>,
    /// Sent, and not there yet.
    sent: BTreeSet<ChunkName>,
    // Of the owner.
    epoch: Epoch,
    n_puts: u64,
    under_way: BTreeSet<ChunkName>,
    unanswered: Vec<ChunkName>,
    answered: Vec<ChunkName>,
    untold: Vec<ChunkName>,
    list: ChunkList,
    old_list: ChunkList,
    page: Option<Page>,
    queue: Queue,
}

fn chunk(name: ChunkName) -> Chunk {
    Chunk::new(name, 10, vec![0], None).expect("a chunk")
}

fn take<T>(from: &mut Vec<T>, idx: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(idx % from.len()))
}

impl World {
    fn new(plant: Plant) -> Self {
        Self {
            plant,
            objects: BTreeSet::new(),
            table: BTreeMap::new(),
            sent: BTreeSet::new(),
            epoch: Epoch(1),
            n_puts: 0,
            under_way: BTreeSet::new(),
            unanswered: Vec::new(),
            answered: Vec::new(),
            untold: Vec::new(),
            list: ChunkList::default(),
            old_list: ChunkList::default(),
            page: None,
            queue: Queue::new(4),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { segment, offset } => self.put(SegmentId(segment), offset * 10),
            Step::Land(idx) => {
                if let Some(&name) = self.sent.iter().nth(idx % self.sent.len().max(1)) {
                    self.sent.remove(&name);
                    self.objects.insert(name);
                }
            }
            Step::Answer(idx) => {
                if let Some(name) = take(&mut self.unanswered, idx) {
                    self.sent.remove(&name);
                    self.objects.insert(name);
                    self.answered.push(name);
                }
            }
            Step::GiveUp(idx) => {
                if let Some(name) = take(&mut self.unanswered, idx) {
                    self.under_way.remove(&name);
                }
            }
            Step::Enter(idx) => {
                if let Some(name) = take(&mut self.answered, idx) {
                    self.table.insert(chunk(name).key(), chunk(name));
                    if let Some(replaced) = self.list.insert(chunk(name)) {
                        self.queue.push(*replaced.name());
                    }
                    self.under_way.remove(&name);
                }
            }
            Step::EnterUntold(idx) => {
                if let Some(name) = take(&mut self.answered, idx) {
                    self.table.insert(chunk(name).key(), chunk(name));
                    self.untold.push(name);
                }
            }
            Step::Settle(idx) => {
                if let Some(name) = take(&mut self.answered, idx) {
                    self.under_way.remove(&name);
                }
            }
            Step::Free { segment, before } => self.free(SegmentId(segment), before * 10),
            Step::List => self.list_objects(),
            Step::Judge => self.judge(),
            Step::Delete => self.delete(),
            Step::Crash => self.crash(),
        }
    }

    fn put(&mut self, segment: SegmentId, offset: u64) {
        self.n_puts += 1;
        let name = ChunkName {
            segment,
            offset,
            epoch: self.epoch,
            random: self.n_puts,
        };
        self.sent.insert(name);
        self.unanswered.push(name);
        self.under_way.insert(name);
    }

    /// No log lets anybody remove what was written behind its back: after `EnterUntold` the owner has ended.
    fn free(&mut self, segment: SegmentId, before: u64) {
        if !self.untold.is_empty() {
            return;
        }
        for chunk in self.list.free_before(segment, before) {
            self.table.remove(&chunk.key());
            self.queue.push(*chunk.name());
        }
    }

    fn list_objects(&mut self) {
        let none = BTreeSet::new();
        let forgets = self.plant == Plant::ForgetWhatIsUnderWay;
        let judge = Judge {
            epoch: self.epoch,
            under_way: if forgets { &none } else { &self.under_way },
            now: SystemTime::UNIX_EPOCH,
            grace: Duration::ZERO,
        };
        let mut page = Page::default();
        for name in &self.objects {
            judge.judge(&mut page, Found::Chunk(*name), SystemTime::UNIX_EPOCH);
        }
        self.page = Some(page);
    }

    fn judge(&mut self) {
        let nothing = ChunkList::default();
        let list = match self.plant {
            Plant::ForgetTheList => &nothing,
            Plant::JudgeByAnOldList => &self.old_list,
            Plant::None | Plant::ForgetWhatIsUnderWay => &self.list,
        };
        let orphans = self.page.take().map(|page| page.orphans(list));
        for name in orphans.unwrap_or_default() {
            self.queue.push(name);
        }
        self.old_list = self.list.clone();
    }

    fn delete(&mut self) {
        let next = self.queue.next(2).into_iter().collect();
        self.objects = &self.objects - &next;
        self.queue.done(&next);
    }

    fn crash(&mut self) {
        let objects = std::mem::take(&mut self.objects);
        let table = std::mem::take(&mut self.table);
        let list: ChunkList = table.values().cloned().collect();
        *self = Self {
            objects,
            sent: std::mem::take(&mut self.sent),
            epoch: self.epoch.next(),
            n_puts: self.n_puts,
            old_list: list.clone(),
            list,
            table,
            ..Self::new(self.plant)
        };
    }

    fn needed(&self) -> BTreeSet<ChunkName> {
        self.table.values().map(|chunk| *chunk.name()).collect()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let lost = &self.needed() - &self.objects;
        prop_assert!(lost.is_empty(), "{lost:?} are lost");
        Ok(())
    }

    /// What is sent comes or does not, and an owner lists and deletes for some time.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        let n_objects = self.objects.len() + self.sent.len();
        self.objects.append(&mut self.sent);
        if !self.untold.is_empty() {
            self.crash();
        }
        while let Some(name) = self.unanswered.pop().or_else(|| self.answered.pop()) {
            self.under_way.remove(&name);
        }
        for _ in 0..=n_objects {
            for step in [Step::List, Step::Judge, Step::Delete, Step::Delete] {
                self.step(step);
                self.check()?;
            }
        }
        prop_assert_eq!(&self.objects, &self.needed());
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0u64..2, 0u64..4);
    prop_oneof![
        4 => place().prop_map(|(segment, offset)| Step::Put { segment, offset }),
        2 => (0usize..8).prop_map(Step::Land),
        4 => (0usize..8).prop_map(Step::Answer),
        1 => (0usize..8).prop_map(Step::GiveUp),
        4 => (0usize..8).prop_map(Step::Enter),
        1 => (0usize..8).prop_map(Step::EnterUntold),
        1 => (0usize..8).prop_map(Step::Settle),
        2 => place().prop_map(|(segment, before)| Step::Free { segment, before }),
        3 => Just(Step::List),
        3 => Just(Step::Judge),
        4 => Just(Step::Delete),
        1 => Just(Step::Crash),
    ]
}

fn run(plant: Plant, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new(plant);
    for step in steps {
        world.step(step);
        world.check()?;
    }
    world.rest()
}

proptest! {
    #[test]
    fn nothing_that_is_needed_is_deleted_and_all_else_is(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(Plant::None, steps)?;
    }
}

#[test]
fn the_world_finds_mistakes() {
    for plant in [
        Plant::ForgetWhatIsUnderWay,
        Plant::ForgetTheList,
        Plant::JudgeByAnOldList,
    ] {
        let config = Config {
            cases: 2000,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let steps = prop::collection::vec(step(), 0..120);
        let found = runner.run(&steps, |steps| run(plant, steps));
        found.expect_err(&format!("{plant:?} was not found"));
    }
}

#[test]
fn what_is_young_newer_or_foreign_stays() {
    let name = |epoch| ChunkName {
        segment: SegmentId(1),
        offset: 0,
        epoch: Epoch(epoch),
        random: 1,
    };
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let judge = Judge {
        epoch: Epoch(2),
        under_way: &BTreeSet::from([name(2)]),
        now: at(100),
        grace: Duration::from_secs(10),
    };
    let mut page = Page::default();
    for (found, modified_at) in [
        (Found::Foreign, 0),
        (Found::Manifest(1), 0),
        (Found::Chunk(name(3)), 0),
        (Found::Chunk(name(2)), 0),
        (Found::Chunk(name(1)), 91),
        (Found::Chunk(name(1)), 101),
        (Found::Chunk(name(1)), 90),
    ] {
        judge.judge(&mut page, found, at(modified_at));
    }
    let counts = collect::Counts {
        listed: 7,
        foreign: 1,
        manifests: 1,
        newer: 1,
        under_way: 1,
        young: 2,
    };
    assert_eq!(page.counts, counts);
    assert_eq!(page.orphans(&ChunkList::default()), [name(1)]);
    let list = ChunkList::from_iter([chunk(name(1))]);
    assert_eq!(page.orphans(&list), []);
}
