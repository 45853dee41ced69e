//! What a store does when nothing goes wrong, on each kind of disk.

use std::sync::Arc;
use std::time::Duration;

use wal::testing::CrashDisk;
use wal::{Directory, Disk, Position};

use super::support::{
    at_once, bytes_of, config, id, kind_of, log_of, open_quiet, open_wal, sums_of,
};
use crate::{Config, Drive, Kind, Store, Writer};

struct Places {
    data: Arc<dyn Disk>,
    log: Arc<dyn Disk>,
    _directory: Option<tempfile::TempDir>,
}

/// One that crashes, one with and one without rings.
fn all_places() -> Vec<Places> {
    let crash = CrashDisk::default();
    let mut places = vec![Places {
        data: Arc::new(crash.clone()),
        log: Arc::new(crash),
        _directory: None,
    }];
    for open in [Drive::open, Drive::open_without_rings] {
        let directory = tempfile::tempdir().expect("a directory");
        places.push(Places {
            data: Arc::new(open(directory.path()).expect("it opens")),
            log: Arc::new(Directory::open(directory.path()).expect("it opens")),
            _directory: Some(directory),
        });
    }
    places
}

const LENS: [usize; 10] = [
    0, 1, 4095, 4096, 4097, 60_000, 65_536, 65_537, 200_000, 1_500_000,
];

#[test]
fn what_is_put_is_there_also_after_a_restart() {
    let config = Config {
        small_bytes_max: 64 << 10,
        staged_bytes_max: 1 << 20,
        ..config(256, 8)
    };
    for places in all_places() {
        for round in 0..3_u64 {
            let wal = open_wal(Arc::clone(&places.log), 1 << 20);
            let store =
                Store::open(&config, Arc::clone(&places.data), log_of(&wal)).expect("it opens");
            let names = |round: u64| (0..).map(move |n| id(round * 100 + n)).zip(LENS);
            for old in 0..round {
                for (id, len) in names(old) {
                    assert_eq!(store.check(id).expect("it is there"), len);
                }
            }
            let tickets =
                names(round).map(|(id, len)| store.put_of(id, len).expect("there is room"));
            for ticket in tickets.collect::<Vec<_>>() {
                ticket.wait().expect("it works");
            }
            for (id, len) in names(round) {
                assert_eq!(store.check(id).expect("it is there"), len);
                assert_eq!(kind_of(store.put_of(id, len)), Kind::Conflict);
                assert_eq!(store.len_of(id), Some(len as u64));
            }
            assert_eq!(
                store.objects(None, 1000).len(),
                10 * (usize::try_from(round).expect("few") + 1)
            );
            assert_eq!(store.objects(Some(id(round * 100 + 7)), 1000).len(), 2);
            assert_eq!(kind_of(store.pin(id(99))), Kind::NotFound);
            assert_eq!(kind_of(store.free(id(99))), Kind::NotFound);
            assert!(!store.stats().has_failed);
        }
    }
}

#[test]
fn any_part_of_an_object_can_be_read() {
    for places in all_places() {
        let wal = open_wal(Arc::clone(&places.log), 1 << 20);
        let store = open_quiet(&config(128, 4), Arc::clone(&places.data), log_of(&wal));
        let store = Store::quiet(store.expect("it opens"));
        let bytes = bytes_of(id(1), 300_000);
        store.put_durably(id(1), 300_000).expect("there is room");
        store.put_durably(id(2), 3000).expect("there is room");
        let lens = [0, 1, 4096, 65_536, 70_000, 131_072, 300_000, 400_000];
        for position in [
            0, 1, 65_535, 65_536, 131_072, 234_464, 299_999, 300_000, 300_001,
        ] {
            for len in lens {
                let mut room = crate::aligned::Aligned::zeroed(len + 1);
                for shift in [0, 1] {
                    let into = &mut room[shift..shift + len];
                    let n = store.read_at(id(1), position, into).expect("it is there");
                    let start = bytes.len().min(usize::try_from(position).expect("short"));
                    let expected = &bytes[start..(start + len).min(bytes.len())];
                    assert!(into[..n] == *expected, "{position} {len}");
                }
            }
        }
        let mut into = [0; 10];
        assert_eq!(
            store.read_at(id(2), 2995, &mut into).expect("it is there"),
            5
        );
        assert_eq!(into[..5], bytes_of(id(2), 3000)[2995..]);
    }
}

#[test]
fn small_objects_move_to_their_places_and_the_log_is_shortened() {
    for places in all_places() {
        let wal = open_wal(Arc::clone(&places.log), 1 << 20);
        let open = || {
            open_quiet(&config(64, 4), Arc::clone(&places.data), log_of(&wal)).expect("it opens")
        };
        let store = Store::quiet(open());
        for n in 0..7 {
            store.put_durably(id(n), 4000).expect("there is room");
        }
        store.free(id(3)).expect("it is there");
        let inner = Arc::clone(&store.inner);
        assert_eq!(
            inner.flush(Position(u64::MAX), 2 * 4096).expect("it works"),
            2
        );
        assert_eq!(
            inner.flush(Position(u64::MAX), 1 << 20).expect("it works"),
            4
        );
        assert_eq!(store.stats().staged_bytes, 0);
        inner.checkpoint(&mut inner.keeping()).expect("it works");
        assert_eq!(store.stats().log_bytes, 0);
        store.put_durably(id(8), 10).expect("there is room");
        store.put_durably(id(9), 10_000).expect("there is room");
        inner.checkpoint(&mut inner.keeping()).expect("it works");
        drop((store, inner));
        let store = Store::quiet(open());
        let there: Vec<_> = store
            .objects(None, 100)
            .iter()
            .map(|(id, _)| id.serial)
            .collect();
        assert_eq!(there, [0, 1, 2, 4, 5, 6, 8, 9]);
        for n in there {
            store.check(id(n)).expect("it is there");
        }
        assert_eq!(store.stats().used_bytes, 10 * 4096);
    }
}

#[test]
fn what_comes_piece_by_piece_is_one_object_or_gone() {
    for places in all_places() {
        let wal = open_wal(Arc::clone(&places.log), 1 << 20);
        let open = || {
            let inner = open_quiet(&config(64, 3), Arc::clone(&places.data), log_of(&wal));
            Store::quiet(inner.expect("it opens"))
        };
        let store = open();
        for (n, len) in (1..).zip([0, 1, 65_536, 65_537, 300_000]) {
            let writer = store.written(id(n), len).expect("there is room");
            assert_eq!((writer.len(), writer.is_empty()), (len as u64, len == 0));
            let prepared = writer.finish().expect("it works");
            let mut found = vec![0; len];
            let pinned = prepared.pin().expect("it is on the disk");
            assert_eq!(pinned.read_at(0, &mut found).expect("it is there"), len);
            assert!(found == bytes_of(id(n), len));
            // Whoever reads it keeps it, and it is put all the same.
            let put = store.put_prepared(id(n), prepared).expect("there is none");
            put.wait().expect("durable");
            assert_eq!(store.check(id(n)).expect("it is there"), len);
        }
        let used_bytes = store.stats().used_bytes;
        let unsealed = store.written(id(9), 200_000).expect("there is room");
        assert_eq!(store.stats().used_bytes, used_bytes + 49 * 4096);
        drop(unsealed);
        let prepared = store.written(id(9), 200_000).and_then(Writer::finish);
        let pinned = prepared.expect("there is room").pin();
        assert_eq!(store.stats().used_bytes, used_bytes + 49 * 4096);
        drop(pinned);
        assert_eq!(store.stats().used_bytes, used_bytes);
        // As if it had been killed.
        std::mem::forget(store.written(id(9), 200_000).expect("there is room"));
        drop(store);
        let store = open();
        assert_eq!(store.stats().used_bytes, used_bytes);
        for (n, len) in (1..).zip([0, 1, 65_536, 65_537, 300_000]) {
            assert_eq!(store.check(id(n)).expect("it is there"), len);
        }
    }
}

#[test]
fn a_writer_says_what_it_cannot_do_and_has_what_it_had() {
    let disk = Arc::new(CrashDisk::default());
    let wal = open_wal(disk.clone(), 1 << 20);
    let store = Store::quiet(open_quiet(&config(32, 2), disk, log_of(&wal)).expect("it opens"));
    let bytes = bytes_of(id(1), 200_000);
    let mut writer = store.writer();
    let append = |writer: &mut Writer, from: usize, to: usize| {
        let piece = &bytes[from..to];
        writer.append(&[piece], &sums_of(piece), at_once())
    };
    append(&mut writer, 0, 131_072).expect("there is room");
    let rest = writer.truncate(70_000).expect("it is longer");
    assert!(rest == bytes[65_536..70_000]);
    assert_eq!((writer.len(), store.stats().used_bytes), (65_536, 65_536));
    let rest = writer.truncate(65_536).expect("it is as long");
    assert!(rest.is_empty());
    assert_eq!(kind_of(writer.truncate(65_537)), Kind::Invalid);
    assert_eq!(kind_of(writer.write_at(65_535, &[1, 2])), Kind::Invalid);
    writer
        .write_at(65_535, &bytes[65_535..65_536])
        .expect("the same");
    append(&mut writer, 65_536, 150_000).expect("there is room");
    assert_eq!(kind_of(append(&mut writer, 0, 1)), Kind::Invalid);
    writer.truncate(131_072).expect("it is longer");
    // There are 64 pages.
    let more = [7; 65_536];
    let sum = sums_of(&more);
    let two = [&more[..], &more];
    let sums = [sum[0], sum[0], sum[0]];
    assert_eq!(
        kind_of(writer.append(&[&more[..]; 3], &sums, at_once())),
        Kind::Exhausted
    );
    let others = store.written(id(2), 70_000).expect("there is room");
    assert_eq!(
        kind_of(writer.append(&two, &sums[..2], at_once())),
        Kind::Exhausted
    );
    drop(others);
    assert_eq!(
        kind_of(writer.append(&two, &sums[1..2], at_once())),
        Kind::Invalid
    );
    writer
        .append(&two, &sums[..2], at_once())
        .expect("there is room");
    let prepared = writer.finish().expect("it works");
    let put = store.put_prepared(id(1), prepared).expect("there is none");
    put.wait().expect("durable");
    let mut found = vec![0; 262_144];
    store.read_at(id(1), 0, &mut found).expect("it is there");
    assert!(found == [&bytes[..131_072], &more, &more].concat());
    store.free(id(1)).expect("it is there");
    store.wait_for_all().expect("it works");
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn what_does_not_fit_its_sums_is_refused() {
    let disk = Arc::new(CrashDisk::default());
    let wal = open_wal(disk.clone(), 1 << 20);
    let store = Store::quiet(open_quiet(&config(64, 2), disk, log_of(&wal)).expect("it opens"));
    let bytes = bytes_of(id(1), 140_000);
    let sums = sums_of(&bytes);
    let put = |sums: &[u32]| store.put(id(1), &[&bytes[..1], &bytes[1..]], sums, at_once());
    for block in 0..3 {
        let mut wrong = sums.clone();
        wrong[block] ^= 1;
        let error = put(&wrong).map(|_| ()).expect_err("that is another object");
        assert_eq!(
            error.to_string(),
            format!("block {block} does not have the checksum that comes with it")
        );
    }
    assert_eq!(kind_of(put(&sums[1..])), Kind::Invalid);
    assert_eq!(store.stats().used_bytes, 0);
    let ticket = put(&sums).expect("these are its own");
    ticket.wait().expect("it is durable");
    store.check(id(1)).expect("it is there");
}

#[test]
fn pages_are_used_again_but_not_while_somebody_reads() {
    let disk = Arc::new(CrashDisk::default());
    let wal = open_wal(disk.clone(), 1 << 20);
    let store = Store::quiet(open_quiet(&config(32, 1), disk, log_of(&wal)).expect("it opens"));
    store.put_durably(id(1), 32 * 4096).expect("there is room");
    assert_eq!(kind_of(store.put_of(id(2), 4096)), Kind::Exhausted);
    assert_eq!(kind_of(store.put_of(id(2), 33 * 4096)), Kind::Exhausted);
    let pinned = store.pin(id(1)).expect("it is there");
    store.free(id(1)).expect("it is there");
    assert_eq!(kind_of(store.pin(id(1))), Kind::NotFound);
    store.wait_for_all().expect("it works");
    assert_eq!(kind_of(store.put_of(id(2), 4096)), Kind::Exhausted);
    let mut found = vec![0; 32 * 4096];
    pinned.read_at(0, &mut found).expect("it is there");
    assert!(found == bytes_of(id(1), 32 * 4096));
    // Whoever waits is woken by the last reader.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let bytes = bytes_of(id(2), 20_000);
            let by = rt::now() + Duration::from_secs(60);
            store.put(id(2), &[&bytes], &sums_of(&bytes), by)
        });
        while store.stats().waiting == 0 {
            std::thread::yield_now();
        }
        drop(pinned);
        waiting
            .join()
            .expect("it works")
            .expect("there is room")
            .wait()
            .expect("it works");
    });
    store.check(id(2)).expect("it is there");
    // And by who frees.
    store.put_durably(id(3), 27 * 4096).expect("there is room");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let bytes = bytes_of(id(4), 20_000);
            let by = rt::now() + Duration::from_secs(60);
            store.put(id(4), &[&bytes], &sums_of(&bytes), by)
        });
        while store.stats().waiting == 0 {
            std::thread::yield_now();
        }
        store.free(id(2)).expect("it is there");
        waiting
            .join()
            .expect("it works")
            .expect("there is room")
            .wait()
            .expect("it works");
    });
    for n in [3, 4] {
        store.check(id(n)).expect("it is there");
        store.free(id(n)).expect("it is there");
    }
    store.wait_for_all().expect("it works");
    assert_eq!(store.stats().used_bytes, 0);
}

#[test]
fn a_config_that_makes_no_sense_is_refused() {
    let open = |config: &Config| {
        let disk = Arc::new(CrashDisk::default());
        let wal = open_wal(disk.clone(), 1 << 20);
        open_quiet(config, disk, log_of(&wal)).map(|_| ())
    };
    let with = |limit_bytes, segment_bytes| Config {
        limit_bytes,
        segment_bytes,
        ..Config::default()
    };
    assert_eq!(kind_of(open(&with(1 << 20, 0))), Kind::Invalid);
    assert_eq!(kind_of(open(&with(4096, 8192))), Kind::Invalid);
    open(&with(8192, 8192)).expect("one segment of two pages");
    // What a record cannot hold is not small.
    let huge = Config {
        small_bytes_max: u64::MAX,
        ..with(1 << 20, 1 << 20)
    };
    open(&huge).expect("it is taken as the most that is possible");
}
