use std::time::Duration;

use wal::testing::CrashDisk;

use crate::core::index::{Class, ConsumerId, Precondition};
use crate::error::{Error, Kind};
use crate::store::tests::{Sizes, content, name, put_as, read, store_of, tenant};
use crate::store::{Store, Terms};

const MIB: u64 = 1 << 20;

/// 8 MiB of memory, and 64 of disk.
fn small() -> Sizes {
    Sizes {
        arena_bytes: 8 * MIB,
        ..Sizes::default()
    }
}

fn put(store: &Store, n: u64, len: usize) -> Result<(), Error> {
    let bytes = content(len, n);
    put_as(
        Class::Ephemeral,
        store,
        &format!("key-{n}"),
        &bytes,
        Precondition::None,
    )
    .map(drop)
}

fn expect_whole(store: &Store, n: u64, len: usize) {
    let found = read(store, &format!("key-{n}")).expect("it is there");
    assert!(found == content(len, n), "{n}");
}

#[test]
fn four_times_as_much_as_memory_has_room_for_is_kept() {
    let disk = CrashDisk::default();
    let store = store_of(&disk, &small());
    let sizes = [100_000, 300, 1_500_000, 70_000];
    let len = |n: u64| sizes[usize::try_from(n % 4).expect("few")];
    let n_objects = 80;
    for n in 0..n_objects {
        put(&store, n, len(n)).expect("there is room on the disk");
        assert!(store.0.arena.used_bytes() <= 8 * MIB);
        if n % 5 == 0 {
            store.maintain().expect("there is room");
        }
    }
    assert!(
        store.moved().spilled_bytes > 20 * MIB,
        "{:?}",
        store.moved()
    );
    for n in 0..n_objects {
        expect_whole(&store, n, len(n));
    }
    for n in 0..n_objects {
        let gone = store.delete(
            &tenant("acme"),
            &name(&format!("key-{n}")),
            Precondition::None,
        );
        gone.expect("it is there");
    }
    assert_eq!(store.0.residents.len(), 0);
    assert!(
        store
            .shares()
            .iter()
            .all(|share| share.victims().bytes() == 0)
    );
    drop(store);
    assert_eq!(store_of(&disk, &small()).0.disk.stats().objects, 0);
}

#[test]
fn what_is_on_the_disk_is_forgotten_and_comes_back_when_it_is_read() {
    let store = store_of(&CrashDisk::default(), &small());
    for n in 0..20 {
        let sealed = put_as(
            Class::Durable,
            &store,
            &format!("key-{n}"),
            &content(1 << 20, n),
            Precondition::None,
        );
        sealed.expect("there is room").1.wait().expect("durable");
    }
    assert_eq!(store.moved().spilled_objects, 0);
    assert!(store.moved().forgotten_objects >= 12, "{:?}", store.moved());
    let open = || {
        store
            .open_object(&tenant("acme"), &name("key-0"))
            .expect("it is there")
    };
    let before = open();
    assert!(!before.is_in_memory());
    store.maintain().expect("there is room");
    assert!(open().is_in_memory());
    assert_eq!(store.moved().promoted_bytes, MIB);
    // Both are the same.
    expect_whole(&store, 0, 1 << 20);
    assert_eq!(before.pieces(0..u64::MAX).count(), 1);
}

#[test]
fn what_was_read_to_its_end_goes_first_and_not_before_room_is_needed() {
    let store = store_of(&CrashDisk::default(), &small());
    let acme = tenant("acme");
    for n in 0..6 {
        let mut writer = store.writer(&acme).expect("memory");
        writer.append(&content(1 << 20, n)).expect("there is room");
        let terms = Terms {
            readers: 1,
            ..Terms::default()
        };
        let name = name(&format!("key-{n}"));
        store
            .seal(&acme, &name, (Class::Ephemeral, writer), terms)
            .expect("sealed");
    }
    for n in [2, 4] {
        let consumed = store.consume(&acme, &name(&format!("key-{n}")), ConsumerId(1));
        consumed.expect("it is there");
        // Once more is no other.
        let again = store.consume(&acme, &name(&format!("key-{n}")), ConsumerId(1));
        again.expect("it is there");
    }
    store.maintain().expect("there is room");
    for n in 0..6 {
        expect_whole(&store, n, 1 << 20);
    }
    for n in 10..13 {
        put(&store, n, 1 << 20).expect("there is room");
    }
    for n in [2, 4] {
        let error = read(&store, &format!("key-{n}")).expect_err("it went first");
        assert_eq!(error.kind, Kind::NotFound);
    }
    assert_eq!(store.moved().deleted_objects, 2);
    for n in [0, 1, 3, 5, 10, 11, 12] {
        expect_whole(&store, n, 1 << 20);
    }
}

#[test]
fn who_finds_no_room_in_time_is_told_and_has_changed_nothing() {
    let disk = CrashDisk::default();
    let sizes = Sizes {
        disk_bytes: 2 * MIB,
        room_wait: Duration::from_millis(200),
        ..small()
    };
    let store = store_of(&disk, &sizes);
    let mut n = 0;
    let error = loop {
        match put(&store, n, 500_000) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, Kind::Exhausted);
    assert!(n >= 16, "memory and disk are used: {n}");
    for n in 0..n {
        expect_whole(&store, n, 500_000);
    }
    let gone = store.delete(&tenant("acme"), &name("key-0"), Precondition::None);
    gone.expect("it is there");
    put(&store, n, 400_000).expect("there is room again");
    let too_long = put(&store, n, 9 << 20).expect_err("memory is smaller");
    assert_eq!(too_long.kind, Kind::Exhausted);
}

#[test]
fn a_tenant_at_its_limit_moves_its_own() {
    let sizes = Sizes {
        tenant_bytes: 4 * MIB,
        ..small()
    };
    let store = store_of(&CrashDisk::default(), &sizes);
    let other = tenant("other");
    let theirs = crate::core::index::Name {
        bucket: crate::core::index::BucketName::new("theirs").expect("a bucket"),
        ..name("kept")
    };
    store
        .create_bucket(&other, &theirs.bucket)
        .expect("there is none");
    let mut writer = store.writer(&other).expect("memory");
    writer.append(&content(1 << 20, 1)).expect("there is room");
    let sealed = store.seal(
        &other,
        &theirs,
        (Class::Ephemeral, writer),
        Terms::default(),
    );
    sealed.expect("sealed");
    for n in 0..30 {
        put(&store, n, 400_000).expect("there is room on the disk");
    }
    assert!(store.moved().spilled_objects > 0);
    let reader = store.open_object(&other, &theirs).expect("it is there");
    assert!(reader.is_in_memory());
}

#[test]
fn a_tenant_has_no_more_than_it_may() {
    let sizes = Sizes {
        owned_bytes_max: 1_000_000,
        ..small()
    };
    let store = store_of(&CrashDisk::default(), &sizes);
    put(&store, 1, 600_000).expect("within the limit");
    let refused = put(&store, 2, 400_001).expect_err("one byte too much");
    assert_eq!(refused.kind, Kind::Exhausted);
    assert!(refused.to_string().contains("acme"), "{refused}");
    put(&store, 2, 400_000).expect("within the limit");
    let deleted = store.delete(&tenant("acme"), &name("key-1"), Precondition::None);
    deleted.expect("it is there").wait().expect("durable");
    put(&store, 3, 600_000).expect("there is room again");
    // What is spent makes room when the store is next looked after.
    let consumed = store.consume(&tenant("acme"), &name("key-3"), ConsumerId(1));
    consumed.expect("it is there").wait().expect("durable");
    store.maintain().expect("it works");
    put(&store, 4, 600_000).expect_err("nobody has said that it is read once");
}

#[test]
fn what_is_spent_makes_room_for_its_tenant() {
    let sizes = Sizes {
        owned_bytes_max: 1_000_000,
        ..small()
    };
    let store = store_of(&CrashDisk::default(), &sizes);
    let mut writer = store.writer(&tenant("acme")).expect("memory");
    writer.append(&content(900_000, 1)).expect("there is room");
    let terms = Terms {
        readers: 1,
        ..Terms::default()
    };
    let written = (Class::Ephemeral, writer);
    let sealed = store.seal(&tenant("acme"), &name("once"), written, terms);
    drop(sealed.expect("within the limit"));
    store.maintain().expect("it works");
    put(&store, 2, 200_000).expect_err("it was not read yet");
    let consumed = store.consume(&tenant("acme"), &name("once"), ConsumerId(1));
    consumed.expect("it is there").wait().expect("durable");
    put(&store, 2, 200_000).expect_err("it is not looked for each time");
    store.maintain().expect("it works");
    put(&store, 2, 200_000).expect("there is room");
}

#[test]
fn what_is_relocated_outlives_the_node() {
    let disk = CrashDisk::default();
    let before = store_of(&disk, &small());
    put(&before, 1, 200_000).expect("there is room");
    for _ in 0..2 {
        let moved = before.relocate(&tenant("acme"), &name("key-1"));
        moved.expect("it is there").wait().expect("durable");
    }
    assert_eq!(before.moved().spilled_objects, 1);
    let reader = before.open_object(&tenant("acme"), &name("key-1"));
    assert!(reader.expect("it is there").is_in_memory());
    drop(before);
    expect_whole(&store_of(&disk, &small()), 1, 200_000);
}

/// Many write, read, replace and delete at once in far too little memory, while it is kept.
#[test]
fn in_a_crowd_everybody_reads_what_was_written() {
    let store = store_of(&CrashDisk::default(), &small());
    let acme = tenant("acme");
    let len = |n: u64| 20_000 + usize::try_from(n * 7_919 % 300_000).expect("short");
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (store, acme) = (&store, &acme);
            scope.spawn(move || {
                for round in 0..60 {
                    // Each has its own names, and writes some of them again.
                    let n = worker * 1_000 + round % 40;
                    put(store, n, len(n)).expect("there is room on the disk");
                    let seen = worker * 1_000 + round * 13 % (round % 40 + 1);
                    match read(store, &format!("key-{seen}")) {
                        Ok(found) => assert!(found == content(len(seen), seen)),
                        Err(error) => assert_eq!(error.kind, Kind::NotFound, "{error}"),
                    }
                    if round % 9 == 8 {
                        let gone = name(&format!("key-{seen}"));
                        store.delete(acme, &gone, Precondition::None).ok();
                    }
                    if round % 16 == 0 {
                        store.maintain().expect("it works");
                    }
                }
            });
        }
    });
    let moved = store.moved();
    assert!(
        moved.spilled_objects > 10 && moved.forgotten_objects > 0,
        "{moved:?}"
    );
}
