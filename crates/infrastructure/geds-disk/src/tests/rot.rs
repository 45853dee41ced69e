//! Bits that change on the disk, and files that go.

use std::sync::Arc;

use proptest::prelude::*;
use wal::testing::CrashDisk;
use wal::{Disk as _, Position, Wal};

use super::support::{at_once, bytes_of, config, id, kind_of, log_of, open_quiet, open_wal};
use crate::testing::locate;
use crate::{Error, Kind, Result, Store};

struct World {
    disk: CrashDisk,
    wal: Wal,
    store: Option<Store>,
}

impl World {
    fn new() -> Self {
        let disk = CrashDisk::default();
        let wal = open_wal(Arc::new(disk.clone()), 1 << 20);
        let mut world = Self {
            disk,
            wal,
            store: None,
        };
        world.reopen().expect("there is nothing to be damaged");
        world
    }

    fn reopen(&mut self) -> Result<()> {
        self.store = None;
        let disk = Arc::new(self.disk.clone());
        let inner = open_quiet(&config(64, 4), disk, log_of(&self.wal))?;
        self.store = Some(Store::quiet(inner));
        Ok(())
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn checkpoint(&self) {
        let inner = &self.store().inner;
        inner.checkpoint(&mut inner.keeping()).expect("it works");
    }

    /// Changes bits of an object where it lies.
    fn flip(&self, serial: u64, offset: u64, bits: u8) {
        let (name, offset) = locate(self.store(), id(serial), offset);
        self.disk.flip(&name, offset, bits);
    }

    fn repair(&self, serial: u64, len: usize) -> Result<()> {
        let bytes = bytes_of(id(serial), len);
        self.store()
            .repair(id(serial), &[&bytes[..1], &bytes[1..]], at_once())?
            .wait()?;
        Ok(())
    }

    /// All that is damaged, found in pieces.
    fn scrub(&self, bytes_max: u64) -> Vec<(u64, u64)> {
        let (mut damages, mut from) = (Vec::new(), None);
        loop {
            let scrubbed = self.store().scrub(from, bytes_max).expect("it works");
            for damage in scrubbed.damages {
                assert!(matches!(damage.error, Error::Corrupt { .. }));
                damages.push((damage.id.serial, damage.block));
            }
            from = scrubbed.next;
            if from.is_none() {
                return damages;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bit it is: that block is refused, the others are read, a scrub finds it, and it can be repaired.
    #[test]
    fn a_flipped_bit_is_found_and_repaired(
        offset in prop_oneof![Just(0_u64), Just(65_535), Just(65_536), Just(149_999), 0_u64..150_000],
        bit in 0..8_u8,
        bytes_max in prop_oneof![Just(1_u64), Just(100_000), Just(1 << 30)],
    ) {
        let world = World::new();
        for serial in 1..4 {
            world.store().put_durably(id(serial), 150_000).expect("there is room");
        }
        world.flip(2, offset, 1 << bit);
        let damaged = offset / 65_536;
        for block in 0..3 {
            let mut into = [0; 10];
            let read = world.store().read_at(id(2), block * 65_536 + 5, &mut into);
            match read {
                Err(Error::Corrupt { id: which, block: n }) => {
                    prop_assert_eq!((which, n, block), (id(2), damaged, damaged));
                }
                read => {
                    prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(10));
                    prop_assert!(block != damaged);
                }
            }
        }
        prop_assert_eq!(world.scrub(bytes_max), [(2, damaged)]);
        prop_assert!(world.store().check(id(1)).is_ok() && world.store().check(id(3)).is_ok());
        prop_assert_eq!(kind_of(world.repair(3, 100_000)), Kind::Invalid);
        let another = bytes_of(id(9), 150_000);
        let refused = world.store().repair(id(2), &[&another], at_once());
        prop_assert_eq!(kind_of(refused), Kind::Corrupt);
        world.repair(2, 150_000).expect("these are its bytes");
        prop_assert_eq!(world.store().check(id(2)).expect("it is whole"), 150_000);
        prop_assert_eq!(world.scrub(bytes_max), []);
        prop_assert_eq!(world.store().stats().apart_bytes, 37 * 4096, "where it was");
    }
}

#[test]
fn what_was_repaired_stays_so() {
    let mut world = World::new();
    world
        .store()
        .put_durably(id(1), 100_000)
        .expect("there is room");
    world.flip(1, 70_000, 1);
    world.repair(1, 100_000).expect("these are its bytes");
    world.reopen().expect("nothing is damaged");
    world.store().check(id(1)).expect("it is whole");
    world.checkpoint();
    world.reopen().expect("nothing is damaged");
    world.store().check(id(1)).expect("it is whole");
    assert_eq!(kind_of(world.repair(2, 10)), Kind::NotFound);
    world.store().put_durably(id(2), 10).expect("there is room");
    world.repair(2, 10).expect("it is in memory");
}

#[test]
fn a_damaged_object_that_is_freed_leaves_its_pages_unused() {
    let world = World::new();
    world
        .store()
        .put_durably(id(1), 100_000)
        .expect("there is room");
    world.flip(1, 0, 1);
    assert_eq!(kind_of(world.store().check(id(1))), Kind::Corrupt);
    world.store().free(id(1)).expect("it is there");
    world.store().wait_for_all().expect("it works");
    let stats = world.store().stats();
    assert_eq!((stats.used_bytes, stats.apart_bytes), (0, 25 * 4096));
}

/// Every bit of a byte here and there in the catalogue: the other copy has it; if both are damaged, that is said.
#[test]
fn one_damaged_copy_of_the_catalogue_does_no_harm() {
    let mut world = World::new();
    for serial in 0..20 {
        world
            .store()
            .put_durably(id(serial), 5000)
            .expect("there is room");
    }
    world
        .store()
        .put_durably(id(20), 50)
        .expect("there is room");
    world.checkpoint();
    let names = ["tier1-catalogue-0", "tier1-catalogue-1"];
    for name in names {
        for offset in [0, 9, 20, 30, 40, 50, 4096, 4100, 4104, 4300, 4096 + 65_535] {
            world.disk.flip(name, offset, 0x10);
            world.reopen().expect("the other one is whole");
            assert_eq!(world.store().objects(None, 100).len(), 21);
            for serial in 0..21 {
                world.store().check(id(serial)).expect("it is there");
            }
            world.disk.flip(name, offset, 0x10);
        }
        // Written anew by a scrub.
        world.disk.flip(name, 4300, 0x10);
        let before = world.store().stats().checkpoints;
        assert_eq!(world.scrub(1 << 20), []);
        assert_eq!(world.store().stats().checkpoints, before + 1);
        assert_eq!(world.scrub(1 << 20), []);
        assert_eq!(world.store().stats().checkpoints, before + 1);
    }
    for name in names {
        world.disk.flip(name, 4300, 0x10);
    }
    assert_eq!(kind_of(world.reopen()), Kind::Corrupt);
    for name in names {
        world.disk.remove(name).expect("it is there");
    }
    assert_eq!(kind_of(world.reopen()), Kind::Corrupt);
}

#[test]
fn an_older_directory_or_another_log_is_refused() {
    let mut world = World::new();
    world
        .store()
        .put_durably(id(1), 5000)
        .expect("there is room");
    let old = world.disk.fork();
    for round in 0..3 {
        world
            .store()
            .put_durably(id(10 + round), 500)
            .expect("there is room");
        world.checkpoint();
    }
    // The log was shortened since.
    let inner = open_quiet(&config(64, 4), Arc::new(old), log_of(&world.wal));
    assert_eq!(kind_of(inner), Kind::Corrupt);
    let other = open_wal(Arc::new(CrashDisk::default()), 1 << 20);
    let inner = open_quiet(&config(64, 4), Arc::new(world.disk.clone()), log_of(&other));
    assert_eq!(kind_of(inner), Kind::Corrupt);
    world.reopen().expect("this is the one that it belongs to");
}

#[test]
fn objects_of_a_segment_that_is_gone_are_damaged_and_no_others() {
    let mut world = World::new();
    // Of 64 pages; the third one lies in two segments.
    for serial in 0..4 {
        world
            .store()
            .put_durably(id(serial), 25 * 4096)
            .expect("there is room");
    }
    world
        .store()
        .put_durably(id(4), 100)
        .expect("there is room");
    world
        .store()
        .inner
        .flush(Position(u64::MAX), 1 << 20)
        .expect("it works");
    let name = "tier1-segment-0000000000000002";
    world.disk.remove(name).expect("it is there");
    world.reopen().expect("the catalogue is whole");
    let damaged = |world: &World| {
        let all = 0..5;
        let damaged = all.filter(|serial| world.store().check(id(*serial)).is_err());
        damaged.collect::<Vec<_>>()
    };
    assert_eq!(damaged(&world), [2, 3]);
    let kinds = [2, 3].map(|serial| kind_of(world.store().check(id(serial))));
    assert_eq!(kinds, [Kind::Corrupt; 2]);
    assert_eq!(
        world
            .scrub(1 << 30)
            .iter()
            .map(|(serial, _)| *serial)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    // Its number is not used again.
    world
        .store()
        .put_durably(id(5), 60 * 4096)
        .expect("there is room");
    assert!(
        !world
            .disk
            .list()
            .expect("it works")
            .iter()
            .any(|there| there == name)
    );
    world.repair(2, 25 * 4096).expect("there is room");
    world.store().free(id(3)).expect("it is there");
    world.checkpoint();
    world.reopen().expect("nothing is damaged any more");
    assert_eq!(damaged(&world), [3]);
    assert_eq!(kind_of(world.store().check(id(3))), Kind::NotFound);
}
