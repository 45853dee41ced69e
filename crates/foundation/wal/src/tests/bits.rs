//! Bytes that change on the disk.

use super::world::{Step, World, contents, open};
use crate::format::{self, Slot};
use crate::scan::scan;
use crate::testing::CrashDisk;
use crate::{Disk as _, Error, LogId, Position};
use Step::{Append, Commit, Reopen, Truncate};

/// One flip of each byte of each file: what was acknowledged is there and right, or the log refuses by name and place.
fn every_flip(steps: &[Step]) {
    let mut world = World::new(CrashDisk::default());
    world.run(steps).expect("it works");
    let right = contents(&world.engine).expect("it can be read");
    let names = world.disk.list().expect("listed");
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).collect();
    let mut n_refused = 0;
    for name in segments {
        let len = world
            .disk
            .open(name)
            .and_then(|file| file.size())
            .expect("there");
        for offset in 0..len {
            let disk = world.disk.fork();
            disk.flip(name, offset, 1 << (offset % 8));
            match open(&disk).map(|engine| contents(&engine)) {
                Ok(Ok(found)) => assert_eq!(found, right, "{name} {offset}"),
                Ok(Err(refusal)) => {
                    assert!(refusal.starts_with("Corrupt"), "{name} {offset}: {refusal}");
                    n_refused += 1;
                }
                Err(Error::Corrupt {
                    file, offset: at, ..
                }) => {
                    assert!(
                        file == *name && at <= offset,
                        "{name} {offset}: {file} {at}"
                    );
                    n_refused += 1;
                }
                Err(other) => panic!("{name} {offset}: {other:?}"),
            }
        }
    }
    // All that is in records and their headers.
    let bodies = right.values().flatten().map(|(_, body)| body.len() + 32);
    assert!(n_refused >= bodies.sum::<usize>());
}

#[test]
fn every_flipped_byte_is_harmless_or_refused() {
    every_flip(&[Append(1, 40), Commit]);
    every_flip(&[
        Append(1, 40),
        Append(2, 0),
        Commit,
        Append(1, 100),
        Append(1, 4),
        Commit,
    ]);
    every_flip(&[
        Append(1, 900),
        Commit,
        Append(2, 900),
        Commit,
        Append(1, 5),
        Commit,
    ]);
    every_flip(&[
        Append(1, 300),
        Commit,
        Reopen,
        Append(2, 30),
        Commit,
        Reopen,
    ]);
    every_flip(&[
        Append(1, 900),
        Commit,
        Append(1, 800),
        Commit,
        Truncate(1, 1),
        Commit,
        Append(1, 700),
        Commit,
        Append(1, 60),
        Commit,
    ]);
}

/// A tail that was never synced is cut, however it is damaged.
#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let mut world = World::new(CrashDisk::default());
    world.run(&[Append(1, 40), Commit]).expect("it works");
    let names = world.disk.list().expect("listed");
    let name = names
        .iter()
        .find(|name| name.ends_with(".wal"))
        .expect("a segment");
    let right = contents(&world.engine).expect("it can be read");
    let tail = world.disk.fork();
    let before = read(&tail, name);
    world
        .run(&[Append(1, 50), Append(2, 60), Commit])
        .expect("it works");
    let after = read(&world.disk, name);
    let whole = contents(&world.engine).expect("it can be read");
    let mark = after.len() - after.iter().rev().take_while(|byte| **byte == 0).count();
    for cut in 0..mark - 32 {
        let disk = tail.fork();
        let file = disk.open(name).expect("there");
        file.write_at(&after[..cut], 0).expect("written");
        let found = contents(&open(&disk).expect("it is no damage")).expect("it can be read");
        let is_prefix = found[&1] == right[&1] || found[&1] == whole[&1];
        assert!(
            is_prefix && found.get(&2).is_none_or(|two| *two == whole[&2]),
            "{cut}"
        );
    }
    assert!(before != after);
}

/// A guest that puts headers into its records cannot make a torn tail look like damage.
#[test]
fn a_forged_header_is_no_proof() {
    let slot = Slot {
        salt: 0x1234_5678,
        ..Slot::default()
    };
    for forged_salt in [0, slot.salt] {
        // It says that the log is synced far beyond the record that it lies in.
        let forged = format::mark(Position(32 + 100), forged_salt, 0);
        let body = [&[7; 100][..], &forged, &[7; 100]].concat();
        let mut records = Vec::new();
        let measure = (
            u32::try_from(body.len()).expect("short"),
            format::body_crc(&[&body]),
        );
        format::push(&mut records, (LogId(1), Position(0)), measure, &[&body]);
        format::seal(&mut records, (slot.salt, 0), Position(0), |_, _, _| {});
        records.resize(600, 0);
        assert_eq!(
            scan(&records, &slot).expect("sound").end,
            Position(32 + 232)
        );
        // Torn.
        records[..32].fill(0);
        let is_refused = scan(&records, &slot).is_err();
        assert_eq!(is_refused, forged_salt == slot.salt);
    }
}

/// What has been truncated had been synced: a segment that ends before is damaged, even if no record is left to prove it.
#[test]
fn a_truncation_is_a_proof() {
    let mut slot = Slot::default();
    slot.id.base = format::FIRST;
    let end = Position(50);
    slot.table.note(LogId(1), format::FIRST, end);
    let torn = [0; 600];
    assert_eq!(scan(&torn, &slot).expect("torn").end, format::FIRST);
    slot.table.truncate(LogId(1), end);
    assert_eq!(scan(&torn, &slot), Err(0));
}

/// Of two histories that part, the records of one do not go on with those of the other, though they are sound and in their places.
#[test]
fn records_of_another_history_are_not_taken() {
    let history = |bodies: [&[u8]; 2]| {
        let mut records = Vec::new();
        for body in bodies {
            let position = Position(records.len() as u64);
            let measure = (3, format::body_crc(&[body]));
            format::push(&mut records, (LogId(1), position), measure, &[body]);
        }
        format::seal(&mut records, (0, 0), Position(0), |_, _, _| {});
        records
    };
    let [one, two] =
        [[b"one", b"two"], [b"eno", b"owt"]].map(|bodies| history(bodies.map(|body| &body[..])));
    let end = |records: &[u8]| scan(records, &Slot::default()).expect("no damage").end;
    assert_eq!(end(&one), Position(70));
    assert_eq!(end(&[&one[..35], &two[35..]].concat()), Position(35));
    // In another place.
    let mut moved = Slot::default();
    moved.id.base = Position(8);
    let scan = scan(&one, &moved).expect("no damage");
    assert_eq!(scan.end, Position(8));
}

/// The same for who reads what has been taken for whole before.
#[test]
fn a_record_of_another_history_is_not_read() {
    let mut world = World::new(CrashDisk::default());
    let steps = [Append(1, 40), Commit, Append(1, 40), Commit];
    world.run(&steps).expect("it works");
    let found = contents(&world.engine).expect("it can be read");
    let (position, body) = &found[&1][1];
    let names = world.disk.list().expect("listed");
    let names = names.iter().filter(|name| name.ends_with(".wal"));
    let file = world
        .disk
        .open(names.max().expect("a segment"))
        .expect("there");
    let mut head = vec![0; format::SLOT_BYTES];
    file.read_at(&mut head, 0).expect("there");
    let salt = u32::from_le_bytes(head[60..64].try_into().expect("4 bytes"));
    let mut other = Vec::new();
    let measure = (40, format::body_crc(&[body]));
    format::push(&mut other, (LogId(1), *position), measure, &[body]);
    format::seal(&mut other, (salt, 0x1234), *position, |_, _, _| {});
    let offset = format::HEAD_BYTES + position.0 - format::FIRST.0;
    file.write_at(&other, offset).expect("written");
    let refusal = contents(&world.engine).expect_err("it follows no other");
    assert!(refusal.starts_with("Corrupt"), "{refusal}");
}

fn read(disk: &CrashDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("there");
    let mut bytes = vec![0; usize::try_from(file.size().expect("there")).expect("small")];
    file.read_at(&mut bytes, 0).expect("read");
    bytes
}
