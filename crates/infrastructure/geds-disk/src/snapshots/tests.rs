use std::sync::Arc;

use geds_core::extents::SegmentNo;
use wal::testing::CrashDisk;
use wal::{Disk as _, Position};

use super::{Snapshots, Weight};
use crate::core::catalogue::{Entry, Id, Place};

fn entry(serial: u64) -> Entry {
    Entry {
        id: Id {
            node: 1,
            epoch: 2,
            serial,
        },
        len: 100_000,
        places: vec![Place {
            segment: SegmentNo(1),
            first: 0,
            pages: 25,
        }]
        .into(),
        sums: vec![1, 2].into(),
        is_joined: false,
    }
}

fn write(snapshots: &Snapshots, copy: usize, edition: u64, n: u64) {
    let mut writing = snapshots.begin(copy, edition);
    for serial in 0..n {
        writing.push(&entry(serial)).expect("it works");
    }
    writing.finish(Position(edition), 3).expect("it works");
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let disk = CrashDisk::default();
    let (snapshots, heads) = Snapshots::open(&disk).expect("it works");
    assert_eq!(heads, [None; 2]);
    let weight = Weight {
        entries: 5000,
        places: 5000,
        sums: 10_000,
    };
    assert!(!snapshots.has_room(weight));
    snapshots.grow(weight).expect("it works");
    assert!(snapshots.has_room(weight));
    for (edition, n) in [(1, 0), (2, 5000), (3, 7)] {
        write(&snapshots, 0, edition, n);
        write(&snapshots, 1, edition, n);
        let (again, heads) = Snapshots::open(&disk).expect("it works");
        assert!(again.has_room(weight));
        for (copy, head) in heads.into_iter().enumerate() {
            let head = head.expect("it is there");
            assert_eq!((head.edition, head.entries), (edition, n));
            let loaded = again
                .load(copy, head)
                .expect("it works")
                .expect("it is whole");
            assert!(loaded.eq((0..n).map(entry)));
        }
    }
}

#[test]
fn what_is_damaged_or_half_written_over_is_no_snapshot() {
    let disk = CrashDisk::default();
    let (snapshots, _) = Snapshots::open(&disk).expect("it works");
    write(&snapshots, 0, 1, 40);
    write(&snapshots, 1, 1, 40);
    disk.flip(super::NAMES[0], 4096 + 1000, 4);
    disk.flip(super::NAMES[1], 20, 4);
    let (again, heads) = Snapshots::open(&disk).expect("it works");
    let head = heads[0].expect("the head is whole");
    assert!(again.load(0, head).expect("it works").is_none());
    assert_eq!(heads[1], None);
    // The blocks are those of the next edition, the head is not.
    write(&snapshots, 1, 1, 900);
    let before = disk.n_ops();
    write(&snapshots, 1, 2, 900);
    let mut choices = wal::testing::Choices::every();
    let after = disk.crash(before + 1, &mut choices);
    let (again, heads) = Snapshots::open(&after).expect("it works");
    let head = heads[1].expect("it is that of edition 1");
    assert_eq!(head.edition, 1);
    assert!(again.load(1, head).expect("it works").is_none());
    let room = Arc::new(disk);
    room.set_room(1 << 10);
    let weight = Weight {
        entries: 50_000,
        places: 0,
        sums: 0,
    };
    assert!(snapshots.grow(weight).is_err());
    assert!(room.list().expect("it works").len() == 2);
}
