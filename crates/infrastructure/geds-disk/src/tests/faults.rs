//! A disk that fails, and one that is full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wal::testing::{Call, Choices, CrashDisk};
use wal::{Disk as _, Position};

use super::support::{config, id, kind_of, log_of, open_quiet, open_wal};
use super::world::{Step, World};
use crate::{Error, Kind, Store};
use Step::{Begin, Checkpoint, Drop, Flush, Free, Join, Put, Repair, Wait, Write};

const STEPS: &[Step] = &[
    Put(1000),
    Put(9000),
    Begin(1500),
    Free(0),
    Wait,
    Flush(1 << 20),
    Repair(0),
    Put(40_000),
    Checkpoint,
    Free(0),
    Drop(20_000),
    Write(65_536),
    Join(2, 2),
    Free(2),
    Put(12_000),
    Put(1800),
    Flush(1 << 20),
    Checkpoint,
    Put(500),
];

/// Fails one call of a kind, or all from there on. Returns how many there were.
fn fail(kind: Call, nth: usize, is_for_good: bool) -> usize {
    let mut world = World::new(CrashDisk::default());
    let n_calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_calls);
    world.disk.hook(move |call| {
        let n = counter.fetch_add(usize::from(call == kind), Ordering::Relaxed);
        let is_due = call == kind && (n == nth || is_for_good && n > nth);
        if is_due {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    });
    let what = format!("{kind:?} {nth} {is_for_good}");
    for step in STEPS {
        if let Err(error) = world.step(*step) {
            assert_eq!(
                error.kind(),
                Kind::Unavailable,
                "{what}, {step:?}: {error:?}"
            );
            break;
        }
    }
    let n_seen = n_calls.load(Ordering::Relaxed);
    world.disk.hook(|_| Ok(()));
    world.check_durable();
    let n_ops = world.disk.n_ops();
    for seed in 0..4 {
        let after = world.after_crash(n_ops, &mut Choices::random(seed));
        let mut after = after.unwrap_or_else(|error| panic!("{what}: {error}"));
        after.run(&[Put(3000), Checkpoint]).expect("it works again");
        after
            .free_all()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    n_seen
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    let kinds = [
        Call::Write,
        Call::SyncFile,
        Call::Read,
        Call::Create,
        Call::Rename,
        Call::SyncDirectory,
        Call::Allocate,
        Call::Size,
        Call::Remove,
        Call::IsLinked,
    ];
    for kind in kinds {
        for is_for_good in [false, true] {
            let mut nth = 0;
            while fail(kind, nth, is_for_good) > nth {
                nth += 1;
            }
        }
    }
}

#[test]
fn a_failed_sync_ends_the_owner_and_reading_goes_on() {
    let disk = CrashDisk::default();
    let wal = open_wal(Arc::new(disk.clone()), 64 << 10);
    let inner = open_quiet(&config(32, 2), Arc::new(disk.clone()), log_of(&wal));
    let store = Store::quiet(inner.expect("it opens"));
    store.put_durably(id(1), 9000).expect("there is room");
    let mut is_first = true;
    disk.hook(move |call| {
        let fails = call == Call::SyncFile && std::mem::take(&mut is_first);
        if fails {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    });
    let first = store
        .put_of(id(2), 9000)
        .map(|_| ())
        .expect_err("it was not synced");
    assert_eq!(first.kind(), Kind::Unavailable);
    for result in [
        store.put_of(id(3), 9000).map(|_| ()),
        store.put_of(id(3), 10).map(|_| ()),
        store.free(id(1)),
        store.inner.checkpoint(&mut store.inner.keeping()),
    ] {
        let later = result.expect_err("the owner has ended");
        assert_eq!(later.to_string(), first.to_string());
    }
    assert!(store.stats().has_failed);
    store.check(id(1)).expect("it can be read");
}

#[test]
fn pages_where_writing_fails_are_not_used_again() {
    let disk = CrashDisk::default();
    let wal = open_wal(Arc::new(disk.clone()), 64 << 10);
    let open = || {
        let inner = open_quiet(&config(32, 1), Arc::new(disk.clone()), log_of(&wal));
        Store::quiet(inner.expect("it opens"))
    };
    let store = open();
    store.put_durably(id(1), 9000).expect("there is room");
    let fail_once = || {
        let mut is_first = true;
        disk.hook(move |call| {
            let fails = call == Call::Write && std::mem::take(&mut is_first);
            if fails {
                Err(io::Error::from_raw_os_error(5))
            } else {
                Ok(())
            }
        });
    };
    fail_once();
    assert_eq!(kind_of(store.put_of(id(2), 9000)), Kind::Unavailable);
    assert_eq!(store.stats().apart_bytes, 3 * 4096);
    store.put_durably(id(2), 9000).expect("elsewhere it works");
    store.put_durably(id(3), 4000).expect("it is in the log");
    fail_once();
    let flushed = store.inner.flush(Position(u64::MAX), 1 << 20);
    assert_eq!(kind_of(flushed), Kind::Unavailable);
    assert_eq!(store.stats().apart_bytes, 4 * 4096);
    assert_eq!(
        store
            .inner
            .flush(Position(u64::MAX), 1 << 20)
            .expect("elsewhere it works"),
        1
    );
    for n in [1, 2, 3] {
        store.check(id(n)).expect("it is there");
    }
    drop(store);
    let store = open();
    assert_eq!(store.stats().apart_bytes, 0, "a new owner tries them again");
    assert_eq!(store.stats().used_bytes, 7 * 4096);
}

#[test]
fn what_cannot_be_read_is_not_called_damaged() {
    let disk = CrashDisk::default();
    let wal = open_wal(Arc::new(disk.clone()), 64 << 10);
    let inner = open_quiet(&config(64, 1), Arc::new(disk.clone()), log_of(&wal));
    let store = Store::quiet(inner.expect("it opens"));
    store.put_durably(id(1), 200_000).expect("there is room");
    disk.hook(|call| match call {
        Call::Read => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    let error = store.check(id(1)).expect_err("it cannot be read");
    assert!(matches!(&error, Error::Unreadable { id: which, block: 0, .. } if *which == id(1)));
    assert_eq!(error.kind(), Kind::Unavailable);
    disk.hook(|_| Ok(()));
    store.check(id(1)).expect("now it can");
    store.free(id(1)).expect("it is there");
    store.wait_for_all().expect("it works");
    assert_eq!(store.stats().apart_bytes, 0);
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_it_is_not() {
    let first = World::new(CrashDisk::default());
    let files = first.disk.list().expect("it works").into_iter();
    let sizes = files.map(|name| first.disk.open(&name).and_then(|file| file.size()));
    let used: u64 = sizes.sum::<io::Result<u64>>().expect("it works");
    let mut n_refused = 0;
    for more in 0..60 {
        let mut world = World::new(CrashDisk::default());
        world.disk.set_room(used + more * 4096);
        for step in [STEPS, &[Begin(1990); 8], STEPS].concat() {
            if let Err(error) = world.step(step) {
                assert_eq!(error.kind(), Kind::Exhausted, "{more}, {step:?}: {error:?}");
                n_refused += 1;
                world.resume();
            }
        }
        world.check_durable();
        let n_ops = world.disk.n_ops();
        for seed in 0..4 {
            let after = world.after_crash(n_ops, &mut Choices::random(seed));
            after.unwrap_or_else(|error| panic!("{more}: {error}"));
        }
        world.disk.set_room(u64::MAX);
        world
            .step(Wait)
            .or_else(|_| {
                world.resume();
                world.step(Wait)
            })
            .expect("there is room");
        world.compare().expect("nothing is lost");
        world
            .run(&[Put(30_000), Put(100), Checkpoint])
            .expect("there is room");
        world
            .free_all()
            .unwrap_or_else(|error| panic!("{more}: {error}"));
    }
    assert!(n_refused > 20, "only {n_refused} times");
}
