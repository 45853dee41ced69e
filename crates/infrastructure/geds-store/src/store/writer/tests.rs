use std::time::Duration;

use proptest::prelude::*;
use wal::testing::{Call, Choices, CrashDisk};

use crate::core::index::{Class, Precondition};
use crate::core::to_usize;
use crate::error::{Error, Kind};
use crate::store::tests::{Sizes, content, name, put_as, read, store_of, tenant};
use crate::store::{Ack, Residency, Store, Terms, Writer};

const MIB: u64 = 1 << 20;

/// 8 MiB of memory, of which an object has at most 2, and 64 of disk.
fn small() -> Sizes {
    Sizes {
        arena_bytes: 8 * MIB,
        ..Sizes::default()
    }
}

fn writer(store: &Store) -> Writer {
    store.writer(&tenant("acme")).expect("memory")
}

/// Of the disk.
fn used_bytes(store: &Store) -> u64 {
    store.stats().disk.used_bytes
}

#[test]
fn what_is_longer_than_memory_is_written_as_it_comes_and_kept() {
    let disk = CrashDisk::default();
    let store = store_of(&disk, &small());
    let bytes = content(20 << 20, 3);
    let before = store.0.arena.used_bytes();
    for (key, class) in [("durable", Class::Durable), ("ephemeral", Class::Ephemeral)] {
        let mut writer = writer(&store);
        for piece in bytes.chunks(1_000_003) {
            writer.append(piece).expect("there is room");
            let memory = store.0.arena.used_bytes() - before;
            assert!(memory <= 3 * MIB, "{memory}");
        }
        assert_eq!(writer.len(), 20 * MIB);
        let terms = Terms::default();
        let sealed = store.seal(&tenant("acme"), &name(key), (class, writer), terms);
        let (entry, ack) = sealed.expect("there is room");
        // It is what it says that it is.
        assert_eq!(entry.sealed.class, Class::Durable);
        ack.wait().expect("durable");
        let reader = store.open_object(&tenant("acme"), &name(key));
        assert!(!reader.expect("it is there").is_in_memory());
        let status = store.status(&tenant("acme"), &name(key));
        let copies = status.expect("it is there").placement;
        assert_eq!(copies.copies(), [Residency::Disk(store.0.node)]);
        assert!(read(&store, key).expect("it is there") == bytes);
        store.maintain().expect("there is room");
        assert_eq!(store.0.residents.len(), 0);
    }
    drop(store);
    let again = store_of(&disk, &small());
    for key in ["durable", "ephemeral"] {
        assert!(read(&again, key).expect("it is there") == bytes);
        let gone = again.delete(&tenant("acme"), &name(key), Precondition::None);
        gone.and_then(Ack::wait).expect("it is there");
    }
}

#[test]
fn where_the_disk_is_the_smaller_one_what_is_long_stays_in_memory() {
    let disk = CrashDisk::default();
    let sizes = Sizes {
        arena_bytes: 16 * MIB,
        disk_bytes: 8 * MIB,
        ..Sizes::default()
    };
    let store = store_of(&disk, &sizes);
    let bytes = content(12 << 20, 3);
    let put = put_as(Class::Ephemeral, &store, "k", &bytes, Precondition::None);
    assert_eq!(put.expect("there is room").0.sealed.class, Class::Ephemeral);
    assert!(read(&store, "k").expect("it is there") == bytes);
}

#[test]
fn what_is_not_sealed_is_gone_also_from_the_disk() {
    let disk = CrashDisk::default();
    let store = store_of(&disk, &small());
    let before = used_bytes(&store);
    let begun = || {
        let mut writer = writer(&store);
        writer.append(&content(20 << 20, 1)).expect("there is room");
        assert!(used_bytes(&store) >= before + 18 * MIB);
        writer
    };
    drop(begun());
    assert_eq!(used_bytes(&store), before);
    let unnamed = store.finish(Class::Durable, begun());
    drop(unnamed.expect("there is room"));
    assert_eq!(used_bytes(&store), before);
    // Somebody is faster.
    put_as(Class::Durable, &store, "k", b"x", Precondition::None).expect("there is room");
    let before = used_bytes(&store);
    let terms = Terms {
        when: Precondition::Absent,
        ..Terms::default()
    };
    let sealed = store.seal(
        &tenant("acme"),
        &name("k"),
        (Class::Durable, begun()),
        terms,
    );
    assert_eq!(sealed.expect_err("it is there").kind, Kind::Conflict);
    assert_eq!(used_bytes(&store), before);
    // And who is killed has sealed nothing.
    std::mem::forget(begun());
    let again = store_of(&disk.crash(disk.n_ops(), &mut Choices::every()), &small());
    assert_eq!(used_bytes(&again), before);
}

#[test]
fn writers_that_fill_memory_go_on_the_disk() {
    let store = store_of(&CrashDisk::default(), &small());
    // None of them is long, and none can be moved away.
    let mut writers: Vec<_> = (0..12).map(|_| writer(&store)).collect();
    let bytes = content(1 << 20, 5);
    for _ in 0..2 {
        for writer in &mut writers {
            writer.append(&bytes).expect("there is room on the disk");
            assert!(store.0.arena.used_bytes() <= 8 * MIB);
        }
    }
    for (n, writer) in writers.into_iter().enumerate() {
        let key = format!("key-{n}");
        let written = (Class::Durable, writer);
        let sealed = store.seal(&tenant("acme"), &name(&key), written, Terms::default());
        sealed.expect("there is room").1.wait().expect("durable");
        assert!(read(&store, &key).expect("it is there") == bytes.repeat(2));
    }
}

#[test]
fn what_is_written_over_when_memory_is_full_is_written_over_on_the_disk() {
    // What lies between is zero, and what is behind the end comes there with a piece of its own.
    for (position, len) in [(10_000, 2_000_000), (3_000_000, 5), (100_000, 1_000_000)] {
        let store = store_of(&CrashDisk::default(), &small());
        let mut writer = writer(&store);
        let mut expected = content(100_000, 1).to_vec();
        writer.append(&expected).expect("there is room");
        // Nothing of this can leave.
        let mut others: Vec<_> = (0..4).map(|_| self::writer(&store)).collect();
        let piece = content(256 << 10, 2);
        for other in &mut others {
            while other.try_append(&piece).is_ok() {}
        }
        let bytes = content(len, 3);
        writer
            .write_at(position, &bytes)
            .expect("there is room on the disk");
        let position = to_usize(position);
        expected.resize(expected.len().max(position + len), 0);
        expected[position..position + len].copy_from_slice(&bytes);
        let written = (Class::Durable, writer);
        let sealed = store.seal(&tenant("acme"), &name("k"), written, Terms::default());
        sealed.expect("there is room").1.wait().expect("durable");
        assert!(
            read(&store, "k").expect("it is there") == expected,
            "{position}"
        );
    }
}

#[test]
fn who_finds_room_nowhere_is_told_in_time_and_has_kept_none() {
    let sizes = Sizes {
        disk_bytes: 16 * MIB,
        room_wait: Duration::from_millis(200),
        ..small()
    };
    let store = store_of(&CrashDisk::default(), &sizes);
    let before = used_bytes(&store);
    let never = writer(&store).reserve(17 * MIB).expect_err("of 16 MiB");
    assert_eq!(never.kind, Kind::Exhausted);
    assert!(never.to_string().contains("17825792"), "{never}");
    let mut other = writer(&store);
    other.reserve(6 * MIB).expect("there is room");
    other.append(&content(6 << 20, 1)).expect("there is room");
    let mut writer = writer(&store);
    let bytes = content(1 << 20, 2);
    let error = loop {
        if let Err(error) = writer.append(&bytes) {
            break error;
        }
    };
    assert_eq!(error.kind, Kind::Exhausted);
    assert!(writer.len() >= 9 * MIB, "{}", writer.len());
    drop((other, writer));
    assert_eq!(used_bytes(&store), before);
    let again = put_as(
        Class::Durable,
        &store,
        "k",
        &content(15 << 20, 3),
        Precondition::None,
    );
    again.expect("there is room again");
}

/// Its record is refused when its bytes are on the disk and nowhere else.
#[test]
fn a_long_object_that_a_full_log_has_refused_is_not_lost() {
    let disk = CrashDisk::default();
    let now = store_of(&disk, &small());
    let long = |n| {
        let mut writer = writer(&now);
        writer.append(&content(3 << 20, n)).expect("there is room");
        now.finish(Class::Durable, writer).expect("there is room")
    };
    let [first, second, third] = [1, 2, 3].map(long);
    put_as(Class::Durable, &now, "a", b"old", Precondition::None)
        .and_then(|(_, ack)| ack.wait())
        .expect("there is room");
    // While the disk is busy, all others come to the log at once, which refuses most.
    let (go_on, busy) = std::sync::mpsc::sync_channel::<()>(0);
    disk.hook(move |call| {
        if call == Call::SyncFile {
            // It ends when `go_on` is dropped.
            busy.recv().ok();
        }
        Ok(())
    });
    disk.set_room(0);
    for _ in 0..200 {
        let mut writer = writer(&now);
        writer.append(b"small").expect("there is room");
        let terms = Terms {
            metadata: vec![7; 16_000].into(),
            ..Terms::default()
        };
        let small = (Class::Durable, writer);
        let sealed = now.seal(&tenant("acme"), &name("small"), small, terms);
        sealed.expect("it waits");
    }
    let seal = |key: &str, unnamed| {
        let sealed = now.seal_with::<Error>(&name(key), unnamed, |_| Ok(Terms::default()));
        sealed.expect("it waits").1
    };
    // Nobody names the second any more when the log hears of it.
    let acks = [seal("a", first), seal("b", second), seal("b", third)];
    drop(go_on);
    for ack in acks {
        assert_eq!(ack.wait().expect_err("it is full").kind, Kind::Exhausted);
    }
    assert!(now.0.wal.stats().is_full);
    // Not yet.
    assert_eq!(
        now.maintain().expect_err("it is full").kind,
        Kind::Exhausted
    );
    disk.set_room(u64::MAX);
    now.maintain().expect("there is room");
    let check = |store: &Store| {
        assert!(read(store, "a").expect("it is there") == content(3 << 20, 1));
        assert!(read(store, "b").expect("it is there") == content(3 << 20, 3));
    };
    check(&now);
    put_as(Class::Durable, &now, "after", b"", Precondition::None)
        .and_then(|(_, ack)| ack.wait())
        .expect("there is room");
    now.delete(&tenant("acme"), &name("after"), Precondition::None)
        .and_then(Ack::wait)
        .expect("it is there");
    drop(now);
    let again = store_of(&disk, &small());
    check(&again);
    assert_eq!(again.n_on_disk(), 3, "and the small one");
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    WriteAt(prop::sample::Index, usize),
    Truncate(prop::sample::Index),
    Reserve(usize),
    TryAppend(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![0..200_usize, 60_000..70_000_usize, 0..3_000_000_usize];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => len().prop_map(Step::Append),
        4 => (index(), len()).prop_map(|(at, len)| Step::WriteAt(at, len)),
        2 => index().prop_map(Step::Truncate),
        1 => (0..8_000_000_usize).prop_map(Step::Reserve),
        2 => len().prop_map(Step::TryAppend),
    ]
}

/// Whether it is in memory or not, it has the bytes of a vector.
fn is_like_a_vector(store: &Store, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut writer, mut model) = (writer(store), Vec::new());
    for (n, step) in (1..).zip(steps) {
        match step {
            Step::Append(len) => {
                writer.append(&content(len, n)).expect("there is room");
                model.extend(content(len, n));
            }
            Step::WriteAt(at, len) => {
                let at = at.index(model.len() + 200_000);
                let written = writer.write_at(at as u64, &content(len, n));
                written.expect("there is room");
                if len == 0 {
                    continue;
                }
                model.resize(model.len().max(at + len), 0);
                model[at..at + len].copy_from_slice(&content(len, n));
            }
            Step::Truncate(at) => {
                let len = at.index(model.len() + 200_000);
                writer.truncate(len as u64).expect("there is room");
                model.resize(len, 0);
            }
            Step::Reserve(len) => writer.reserve(len as u64).expect("there is room"),
            Step::TryAppend(len) => match writer.try_append(&content(len, n)) {
                Ok(()) => model.extend(content(len, n)),
                Err(error) => prop_assert_eq!(error.kind, Kind::Exhausted),
            },
        }
        prop_assert_eq!(writer.len(), model.len() as u64);
    }
    let sealed = store.seal(
        &tenant("acme"),
        &name("k"),
        (Class::Ephemeral, writer),
        Terms::default(),
    );
    sealed.expect("there is room");
    prop_assert!(read(store, "k").expect("it is there") == model);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_vector_does(steps in prop::collection::vec(step(), 0..16)) {
        let sizes = Sizes { disk_bytes: 256 * MIB, ..small() };
        is_like_a_vector(&store_of(&CrashDisk::default(), &sizes), steps)?;
    }
}
