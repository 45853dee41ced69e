//! Any history of operations, of records that become durable, of checkpoints and crashes: what can be seen is what the model says.

use bytes::Bytes;
use proptest::prelude::*;

use super::world::World;
use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::names::ConnectionId;
use crate::op::{Append, EventNumbers, Op, Put, Remove, Version};
use crate::segment::{KeyLength, Kind};
use crate::{Limits, SegmentName};

/// Choices out of one number, so that a history that fails is made shorter by leaving out steps.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, some: &[T]) -> T {
        let idx = usize::try_from(self.below(some.len() as u64)).expect("it is small");
        some[idx].clone()
    }

    fn small(&mut self, n: u64) -> i64 {
        i64::try_from(self.below(n)).expect("it is small")
    }

    fn bytes(&mut self) -> Bytes {
        let n_bytes = self.below(12);
        (0..n_bytes)
            .map(|_| u8::try_from(self.below(256)).expect("it is a byte"))
            .collect()
    }

    fn stream(&mut self) -> SegmentName {
        let name = self.of(&["a", "b", "c", "d"]);
        SegmentName::new(name).expect("a name")
    }

    fn table(&mut self) -> SegmentName {
        let name = if self.one_in(20) {
            "a"
        } else {
            self.of(&["t", "u"])
        };
        SegmentName::new(name).expect("a name")
    }

    fn any(&mut self) -> SegmentName {
        if self.one_in(3) {
            self.table()
        } else {
            self.stream()
        }
    }

    fn update(&mut self) -> AttributeUpdate {
        let kinds = [
            UpdateKind::None,
            UpdateKind::Replace,
            UpdateKind::ReplaceIfGreater,
            UpdateKind::Accumulate,
            UpdateKind::ReplaceIfEquals(self.small(3)),
            UpdateKind::ReplaceIfEquals(NO_VALUE),
        ];
        let value = if self.one_in(8) {
            NO_VALUE
        } else {
            self.small(4)
        };
        AttributeUpdate {
            id: AttributeId(u128::from(100 + self.below(2))),
            value,
            kind: self.of(&kinds),
        }
    }

    fn updates(&mut self) -> Vec<AttributeUpdate> {
        (0..self.below(3)).map(|_| self.update()).collect()
    }

    fn append(&mut self, world: &World) -> Op {
        let segment = self.any();
        let writer = AttributeId(u128::from(1 + self.below(2)));
        let info = world.model().segments.get(&segment);
        let last = info.and_then(|info| info.attributes.get(&writer).copied());
        // Now and then a writer that sends again, or has missed something.
        let previous = if self.one_in(5) {
            Some(self.small(9))
        } else {
            last
        };
        let numbers = EventNumbers {
            writer,
            previous: previous.unwrap_or(EventNumbers::NO_EVENT),
            last: previous.unwrap_or(0) + 1 + self.small(2),
            n_events: 1 + self.small(3),
        };
        let length = info.map_or(0, |info| info.bytes.len() as u64);
        let append = Append::events(segment, self.bytes(), numbers);
        let is_conditional = self.one_in(4);
        Op::Append(match is_conditional {
            true => append.at(length + self.below(2)),
            false => append,
        })
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.of(&[b"k0", b"k1", b"k2", b"k3"]))
    }

    fn when(&mut self, world: &World, table: &SegmentName, key: &[u8]) -> Version {
        let table = world.model().segments.get(table);
        let found = table.and_then(|table| table.entries.get(key));
        match (self.below(4), found) {
            (0 | 1, _) => Version::Any,
            (2, Some((version, _))) => Version::Is(*version),
            (2, None) => Version::Absent,
            (_, _) if self.one_in(2) => Version::Absent,
            _ => Version::Is(self.small(40)),
        }
    }

    fn change_table(&mut self, world: &World) -> Op {
        let table = self.table();
        let info = world.model().segments.get(&table);
        let length = info.map_or(0, |info| info.bytes.len() as u64);
        let expected_length = self.one_in(4).then(|| length + self.below(2));
        let n_keys = 1 + self.below(3);
        if self.one_in(3) {
            let mut remove = || {
                let key = self.key();
                let when = self.when(world, &table, &key);
                Remove { key, when }
            };
            let keys = (0..n_keys).map(|_| remove()).collect();
            return Op::RemoveEntries {
                table,
                keys,
                expected_length,
            };
        }
        let mut put = || {
            let key = self.key();
            let when = self.when(world, &table, &key);
            let value = self.bytes();
            Put { key, value, when }
        };
        let entries = (0..n_keys).map(|_| put()).collect();
        Op::PutEntries {
            table,
            entries,
            expected_length,
        }
    }

    fn create(&mut self) -> Op {
        let segment = self.any();
        let kinds = match segment.as_str() {
            "t" => [Kind::Table(KeyLength::Any); 2],
            "u" => [Kind::Table(KeyLength::Bytes(2)); 2],
            _ => [Kind::Stream, Kind::Transient(ConnectionId(self.below(2)))],
        };
        Op::Create {
            segment,
            kind: self.of(&kinds),
            attributes: self.updates(),
        }
    }

    fn truncate(&mut self, world: &World) -> Op {
        let segment = self.any();
        let info = world.model().segments.get(&segment);
        let length = info.map_or(0, |info| info.bytes.len() as u64);
        Op::Truncate {
            segment,
            offset: self.below(length + 2),
        }
    }

    fn op(&mut self, world: &World) -> Op {
        let n_missing = 6 - (world.model().segments.len() as u64).min(5);
        match self.below(40) {
            _ if self.below(20) < n_missing * 2 => self.create(),
            0..=3 => self.create(),
            4..=15 => self.append(world),
            16 if self.one_in(2) => Op::Seal(self.any()),
            16..=19 => self.truncate(world),
            20 | 21 => Op::Merge {
                target: self.stream(),
                source: self.any(),
                attributes: self.updates(),
            },
            22 | 23 => Op::MergeBatch {
                target: self.stream(),
                sources: (0..self.below(4)).map(|_| self.stream()).collect(),
            },
            24..=26 => Op::UpdateAttributes {
                segment: self.any(),
                updates: self.updates(),
            },
            27 if self.one_in(2) => Op::Delete(self.any()),
            27 | 28 => Op::DeleteEmptyTable(self.any()),
            _ => self.change_table(world),
        }
    }
}

fn limits() -> Limits {
    Limits {
        pending_max: 10,
        ..Limits::default()
    }
}

fn step(world: &mut World, seed: u64) {
    let mut choices = Choices(seed);
    match choices.below(30) {
        0 => world.crash(usize::try_from(choices.below(5)).expect("it is small")),
        1 => world.draw_checkpoint(),
        2..=6 => world.durable(usize::try_from(choices.below(6)).expect("it is small")),
        7..=9 => {
            let name = choices.any();
            let length = world.model().segments.get(&name);
            let length = length.map_or(0, |segment| segment.bytes.len() as u64);
            world.store(&name, choices.below(length + 1));
        }
        _ => {
            let op = choices.op(world);
            world.propose(&op);
        }
    }
    world.check();
}

fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        // More with the environment variable of proptest.
        cases: default.cases.max(3000),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_container_is_its_model(seeds in prop::collection::vec(any::<u64>(), 1..200)) {
        let mut world = World::new(limits());
        for seed in seeds {
            step(&mut world, seed);
        }
        world.crash(0);
        world.crash(usize::MAX);
        world.check();
    }
}

/// The histories above are about something.
#[test]
fn histories_do_and_refuse_every_operation() {
    let mut done = std::collections::BTreeMap::new();
    for history in 0..150 {
        let mut world = World::new(limits());
        for number in 0..200 {
            step(&mut world, history * 1_000_000_007 + number);
        }
        for (what, n) in world.counts {
            *done.entry(what).or_insert(0) += n;
        }
    }
    for what in WANTED {
        let n = done.get(what).copied().unwrap_or(0);
        assert!(n >= 2, "{what}: {n} times of {done:?}");
    }
}

const WANTED: [&str; 45] = [
    "Append BadAttribute",
    "Append BadOffset",
    "Append NoSuchSegment",
    "Append Sealed",
    "Append WrongKind",
    "Append done",
    "Create BadAttribute",
    "Create Exists",
    "Create done",
    "Delete NoSuchSegment",
    "Delete done",
    "DeleteEmptyTable NotEmpty",
    "DeleteEmptyTable WrongKind",
    "DeleteEmptyTable done",
    "Merge BadAttribute",
    "Merge Invalid",
    "Merge NoSuchSegment",
    "Merge Sealed",
    "Merge Truncated",
    "Merge WrongKind",
    "Merge done",
    "MergeBatch Invalid",
    "MergeBatch NoSuchSegment",
    "MergeBatch Sealed",
    "MergeBatch Truncated",
    "MergeBatch done",
    "PutEntries BadOffset",
    "PutEntries KeyBadVersion",
    "PutEntries KeyDoesNotExist",
    "PutEntries NoSuchSegment",
    "PutEntries Sealed",
    "PutEntries WrongKind",
    "PutEntries done",
    "RemoveEntries BadOffset",
    "RemoveEntries KeyBadVersion",
    "RemoveEntries KeyDoesNotExist",
    "RemoveEntries done",
    "Seal Sealed",
    "Seal done",
    "Store WrongKind",
    "Store done",
    "Truncate BadOffset",
    "Truncate done",
    "UpdateAttributes BadAttribute",
    "UpdateAttributes done",
];
