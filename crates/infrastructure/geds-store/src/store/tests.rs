use wal::testing::{Call, Choices, CrashDisk};

use super::*;
use crate::core::index::{Item, Key, Prefix};

impl Disks {
    fn both(disk: &CrashDisk) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Self {
            log: Arc::clone(&disk),
            objects: disk,
        }
    }
}

pub(super) fn tenant(name: &str) -> Tenant {
    name.parse().expect("a tenant")
}

pub(super) fn bucket(name: &str) -> BucketName {
    BucketName::new(name).expect("a bucket")
}

pub(super) fn name(key: &str) -> Name {
    Name {
        bucket: bucket("data"),
        key: Key::new(key).expect("a key"),
    }
}

fn folder(prefix: &str) -> Folder {
    Folder {
        bucket: bucket("data"),
        prefix: Prefix::new(prefix).expect("a prefix"),
    }
}

pub(super) struct Sizes {
    pub arena_bytes: u64,
    pub tenant_bytes: u64,
    pub owned_bytes_max: u64,
    pub disk_bytes: u64,
    pub room_wait: Duration,
    pub remote: Option<Remote>,
    pub cached: Option<Cached>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            arena_bytes: 64 << 20,
            tenant_bytes: 0,
            owned_bytes_max: u64::MAX,
            disk_bytes: 64 << 20,
            room_wait: Duration::from_secs(60),
            remote: None,
            cached: None,
        }
    }
}

/// With the bucket `data` of `acme`.
pub(super) fn store_of(disk: &CrashDisk, sizes: &Sizes) -> Store {
    let mut config = Config {
        arena: arena::Config {
            limit_bytes: sizes.arena_bytes,
            segment_bytes: 1 << 20,
            spare_segments: 1,
        },
        log: wal::Config {
            segment_bytes: 1 << 20,
            ..wal::Config::default()
        },
        tier1: tier1::Config {
            limit_bytes: sizes.disk_bytes,
            segment_bytes: 1 << 20,
            ..tier1::Config::default()
        },
        tenant_bytes: sizes.tenant_bytes,
        room_wait: sizes.room_wait,
        remote: sizes.remote.clone(),
        cached: sizes.cached.clone(),
        ..Config::default()
    };
    config.namespace.limits.owned_bytes_max = sizes.owned_bytes_max;
    let store = Store::open(&config, NodeId(1), Disks::both(disk)).expect("it opens");
    match store.create_bucket(&tenant("acme"), &bucket("data")) {
        Ok(ack) => ack.wait().expect("durable"),
        Err(error) => assert_eq!(error.kind, Kind::Conflict),
    }
    store
}

fn store(disk: &CrashDisk) -> Store {
    store_of(disk, &Sizes::default())
}

/// Ephemeral.
fn put(store: &Store, key: &str, bytes: &[u8], when: Precondition) -> Result<Arc<Entry>> {
    let (entry, _) = put_as(Class::Ephemeral, store, key, bytes, when)?;
    Ok(entry)
}

pub(super) fn put_as(
    class: Class,
    store: &Store,
    key: &str,
    bytes: &[u8],
    when: Precondition,
) -> Result<(Arc<Entry>, Ack)> {
    let acme = tenant("acme");
    let mut writer = store.writer(&acme)?;
    writer.append(bytes)?;
    let terms = Terms {
        when,
        ..Terms::default()
    };
    store.seal(&acme, &name(key), (class, writer), terms)
}

pub(super) fn read(store: &Store, key: &str) -> Result<Vec<u8>> {
    let reader = store.open_object(&tenant("acme"), &name(key))?;
    let mut bytes = Vec::new();
    for piece in reader.pieces(0..u64::MAX) {
        bytes.extend_from_slice(&piece?);
    }
    assert_eq!(reader.len(), bytes.len() as u64);
    Ok(bytes)
}

fn keys(store: &Store) -> Vec<String> {
    let query = Query {
        folder: &folder(""),
        delimiter: "",
        items_max: 1_000,
    };
    let page = store.list(&tenant("acme"), &query, None).expect("a page");
    let keys = page.items.into_iter().map(|item| match item {
        Item::Object(key, _) => key.to_string(),
        Item::Folder(prefix) => prefix.to_string(),
    });
    keys.collect()
}

#[test]
fn what_is_sealed_is_read_and_what_is_replaced_is_read_on() {
    let store = store(&CrashDisk::default());
    let first = put(&store, "a", b"one", Precondition::None).expect("sealed");
    let reader = store
        .open_object(&tenant("acme"), &name("a"))
        .expect("there");
    let second = put(&store, "a", b"other", Precondition::None).expect("sealed");
    assert!(second.generation > first.generation && second.sealed.etag != first.sealed.etag);
    assert_eq!(read(&store, "a").expect("there"), b"other");
    assert_eq!(&**reader.view().expect("one piece"), b"one");
    assert_eq!(reader.entry(), &first);
    put(&store, "empty", b"", Precondition::None).expect("sealed");
    assert_eq!(read(&store, "empty").expect("there"), b"");
}

#[test]
fn memory_comes_back_when_nobody_names_or_reads_it() {
    let store = store(&CrashDisk::default());
    let large = vec![7; 16 << 20];
    // More than there is, if nothing came back.
    for round in 0..20 {
        put(&store, "large", &large, Precondition::None).expect("there is room");
        if round % 3 == 0 {
            let gone = store.delete(&tenant("acme"), &name("large"), Precondition::None);
            gone.expect("it is there");
        }
    }
    let kept = put(&store, "kept", &large, Precondition::Absent).expect("there is room");
    let refused = put(&store, "kept", &large, Precondition::Absent);
    assert_eq!(refused.expect_err("it is there").kind, Kind::Conflict);
    let etag = Precondition::Etag(kept.sealed.etag.clone());
    put(&store, "kept", &large, etag.clone()).expect("it is so");
    assert_eq!(
        put(&store, "kept", &large, etag).expect_err("it was").kind,
        Kind::Conflict
    );
    assert_eq!(store.0.residents.len(), 2);
}

#[test]
fn names_are_renamed_copied_and_deleted_without_touching_data() {
    let store = store(&CrashDisk::default());
    let acme = tenant("acme");
    for key in ["a/1", "a/2", "b/1"] {
        put(&store, key, key.as_bytes(), Precondition::None).expect("sealed");
    }
    let folders = [&folder("a/"), &folder("b/")];
    let refused = store.rename_prefix(&acme, folders, Precondition::Absent);
    assert_eq!(refused.expect_err("b/1 is there").kind, Kind::Conflict);
    let folders = [&folder("a/"), &folder("c/")];
    store
        .rename_prefix(&acme, folders, Precondition::Absent)
        .expect("none is there");
    let names = [&name("c/1"), &name("copy")];
    store
        .copy(&acme, names, None, Precondition::None)
        .expect("it is there");
    let gone = store
        .delete_prefix(&acme, &folder("c/"))
        .expect("there are some");
    gone.wait().expect("durable");
    assert_eq!(keys(&store), ["b/1", "copy"]);
    assert_eq!(read(&store, "copy").expect("there"), b"a/1");
    assert_eq!(read(&store, "c/1").expect_err("gone").kind, Kind::NotFound);
}

#[test]
fn a_tenant_sees_and_changes_only_its_own() {
    let store = store(&CrashDisk::default());
    put(&store, "a", b"secret", Precondition::None).expect("sealed");
    let other = tenant("other");
    let writer = store.writer(&other).expect("memory");
    let refused = [
        store.open_object(&other, &name("a")).map(drop),
        store.status(&other, &name("a")).map(drop),
        store
            .delete(&other, &name("a"), Precondition::None)
            .map(drop),
        store.delete_bucket(&other, &bucket("data")).map(drop),
        store.consume(&other, &name("a"), ConsumerId(1)).map(drop),
        store
            .seal(
                &other,
                &name("a"),
                (Class::Ephemeral, writer),
                Terms::default(),
            )
            .map(drop),
        store
            .changes_since(&other, Revision(0), &Scope::All)
            .map(drop),
    ];
    for result in refused {
        assert_eq!(result.expect_err("it is not its own").kind, Kind::Denied);
    }
    assert_eq!(store.buckets(&other), []);
    assert_eq!(store.buckets(&tenant("acme")).len(), 1);
    let own = [
        &name("a"),
        &Name {
            bucket: bucket("theirs"),
            ..name("a")
        },
    ];
    store
        .create_bucket(&other, &bucket("theirs"))
        .expect("there is none");
    let across = store.copy(&tenant("acme"), own, None, Precondition::None);
    assert_eq!(across.expect_err("not into theirs").kind, Kind::Denied);
}

#[test]
fn after_a_restart_names_are_there_and_what_was_in_memory_is_lost() {
    let disk = CrashDisk::default();
    let before = store(&disk);
    put(&before, "a", b"bytes", Precondition::None).expect("sealed");
    drop(before);
    let again = store(&disk);
    assert_eq!(keys(&again), ["a"]);
    assert_eq!(read(&again, "a").expect_err("it is gone").kind, Kind::Lost);
    put(&again, "a", b"again", Precondition::None).expect("sealed");
    assert_eq!(read(&again, "a").expect("there"), b"again");
}

#[test]
fn changes_are_told_without_a_gap() {
    let store = store(&CrashDisk::default());
    let acme = tenant("acme");
    let start = store.namespace().read(crate::core::index::Index::revision);
    put(&store, "in/1", b"1", Precondition::None).expect("sealed");
    put(&store, "out", b"2", Precondition::None).expect("sealed");
    let scope = Scope::Folder(folder("in/"));
    let (changes, at) = store.changes_since(&acme, start, &scope).expect("known");
    assert_eq!(changes.len(), 1);
    store
        .delete(&acme, &name("in/1"), Precondition::None)
        .expect("there");
    let (changes, _) = store.changes_since(&acme, at, &scope).expect("known");
    assert!(
        matches!(&changes[..], [(_, Change::Named { after: None, .. })]),
        "{changes:?}"
    );
}

#[test]
fn a_full_disk_stops_changes_until_there_is_room() {
    let disk = CrashDisk::default();
    let store = store(&disk);
    disk.set_room(0);
    let full = (0..100_000).find_map(|n| {
        let error = put(&store, &format!("key-{n:060}"), b"x", Precondition::None).err()?;
        Some((n, error))
    });
    let (n, error) = full.expect("the disk is full");
    assert_eq!(error.kind, Kind::Exhausted, "{error}");
    assert_eq!(store.maintain().expect_err("it is").kind, Kind::Exhausted);
    let last = format!("key-{:060}", n - 1);
    assert_eq!(read(&store, &last).expect("it is in memory"), b"x");
    assert_eq!(store.0.residents.len(), n);
    disk.set_room(u64::MAX);
    store.maintain().expect("there is room");
    put(&store, "after", b"y", Precondition::None).expect("there is room");
}

/// Of so many bytes.
pub(super) fn content(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|n| (n.wrapping_mul(seed | 1) >> 7).to_le_bytes()[0])
        .collect()
}

#[test]
fn what_is_durable_is_there_after_a_restart_and_read_from_the_disk() {
    let disk = CrashDisk::default();
    let before = store(&disk);
    let sizes = [0, 1, 4096, 64 << 10, (64 << 10) + 1, (3 << 20) + 17];
    for len in sizes {
        let (key, bytes) = (len.to_string(), content(len, 77));
        let sealed = put_as(Class::Durable, &before, &key, &bytes, Precondition::None);
        let (entry, ack) = sealed.expect("sealed");
        assert_eq!(entry.sealed.class, Class::Durable);
        ack.wait().expect("durable");
        assert_eq!(read(&before, &key).expect("in memory"), bytes);
    }
    drop(before);
    let again = store(&disk);
    for len in sizes {
        let (key, bytes) = (len.to_string(), content(len, 77));
        let reader = again.open_object(&tenant("acme"), &name(&key));
        let reader = reader.expect("it is there");
        assert!(!reader.is_in_memory() && reader.view().is_none());
        assert!(read(&again, &key).expect("it is there") == bytes, "{len}");
        let mut part = [0; 100];
        let from = len.saturating_sub(50);
        let n = reader.read_at(from as u64, &mut part).expect("it is there");
        assert_eq!(&part[..n], &bytes[from..]);
    }
}

#[test]
fn what_nobody_names_frees_the_disk() {
    let disk = CrashDisk::default();
    let store_now = store(&disk);
    let used = |store: &Store| store.0.disk.stats().objects;
    for round in 0..3 {
        let bytes = content(100_000, round);
        put_as(Class::Durable, &store_now, "a", &bytes, Precondition::None).expect("sealed");
    }
    let refused = put_as(Class::Durable, &store_now, "a", b"x", Precondition::Absent);
    assert_eq!(refused.expect_err("it is there").kind, Kind::Conflict);
    let (_, ack) =
        put_as(Class::Durable, &store_now, "b", b"y", Precondition::None).expect("sealed");
    ack.wait().expect("durable");
    drop(store_now);
    let again = store(&disk);
    assert_eq!(used(&again), 2);
    assert!(read(&again, "a").expect("there") == content(100_000, 2));
    again
        .delete(&tenant("acme"), &name("a"), Precondition::None)
        .expect("there");
    drop(again);
    assert_eq!(used(&store(&disk)), 1);
}

/// Whenever the crash comes: what was acknowledged as durable is there with its bytes, and what is there is whole.
#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let disk = CrashDisk::default();
    let before = store(&disk);
    let mut acknowledged = Vec::new();
    for (n, len) in [100, 70_000, 0, 5_000, 200_000].into_iter().enumerate() {
        let key = format!("key-{}", n % 4);
        let bytes = content(len, n as u64);
        let (_, ack) =
            put_as(Class::Durable, &before, &key, &bytes, Precondition::None).expect("sealed");
        ack.wait().expect("durable");
        acknowledged.push((disk.n_ops(), key, bytes));
    }
    let first = acknowledged[0].0;
    for n_ops in (first..=disk.n_ops()).step_by(3) {
        for seed in 0..3 {
            let crashed = disk.crash(n_ops, &mut Choices::random(seed));
            let after = store(&crashed);
            for n in 0..4 {
                let key = format!("key-{n}");
                let found = read(&after, &key).ok();
                let mut last = None;
                let mut begun = Vec::new();
                for (at, of, bytes) in &acknowledged {
                    if *of == key {
                        if *at <= n_ops {
                            last = Some(bytes)
                        } else {
                            begun.push(bytes)
                        }
                    }
                }
                let is_right = found.as_ref() == last
                    || begun.iter().any(|bytes| found.as_ref() == Some(*bytes));
                assert!(
                    is_right,
                    "{n_ops} {seed} {key}: {:?}",
                    found.map(|found| found.len())
                );
            }
        }
    }
}

#[test]
fn what_a_full_disk_has_refused_is_put_when_there_is_room() {
    let disk = CrashDisk::default();
    let now = store(&disk);
    // There is room where objects lie, and none in the log.
    put_as(
        Class::Durable,
        &now,
        "large",
        &content(4 << 20, 0),
        Precondition::None,
    )
    .and_then(|(_, ack)| ack.wait())
    .expect("there is room");
    let gone = now.delete(&tenant("acme"), &name("large"), Precondition::None);
    gone.and_then(Ack::wait).expect("it is there");
    disk.set_room(0);
    let mut n = 0;
    let error = loop {
        let (key, bytes) = (format!("key-{n:060}"), content(3_000, n));
        let sealed = put_as(Class::Durable, &now, &key, &bytes, Precondition::None);
        match sealed.and_then(|(_, ack)| ack.wait()) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
        assert!(n < 100_000, "the disk is full");
    };
    assert_eq!(error.kind, Kind::Exhausted, "{error}");
    assert!(n > 0 && now.0.wal.stats().is_full, "{n}");
    disk.set_room(u64::MAX);
    now.maintain().expect("there is room");
    let keys = keys(&now);
    // Those that were answered, and perhaps the one that was not.
    assert!(
        keys.len() as u64 == n || keys.len() as u64 == n + 1,
        "{} {n}",
        keys.len()
    );
    drop(now);
    let again = store(&disk);
    for (n, key) in keys.iter().enumerate() {
        assert!(
            read(&again, key).expect("it is there") == content(3_000, n as u64),
            "{key}"
        );
    }
}

#[test]
fn a_full_disk_goes_on_although_something_could_leave_it() {
    let disk = CrashDisk::default();
    let sizes = Sizes {
        disk_bytes: 8 << 20,
        ..Sizes::default()
    };
    let now = store_of(&disk, &sizes);
    let acme = tenant("acme");
    let put = |key: &str, bytes: &[u8], terms: Terms| {
        let mut writer = now.writer(&acme)?;
        writer.append(bytes)?;
        let sealed = now.seal(&acme, &name(key), (Class::Durable, writer), terms);
        sealed.map(|(_, ack)| ack)
    };
    let used = || {
        let stats = now.0.disk.stats();
        stats.used_bytes * 100 / stats.limit_bytes
    };
    // They can go when they are expired, and that is when nothing can be written any more.
    let expires_at_ms = Some(now_ms() + 2_000);
    for n in 0..25 {
        let terms = Terms {
            expires_at_ms,
            ..Terms::default()
        };
        let sealed = put(&format!("spent/{n}"), &content(300_000, n), terms);
        sealed.and_then(Ack::wait).expect("there is room");
    }
    assert!(used() >= 90, "{}", used());
    // While the disk is busy, they come to the log at once, which refuses most.
    let (go_on, busy) = std::sync::mpsc::sync_channel::<()>(0);
    disk.hook(move |call| {
        if call == Call::SyncFile {
            // It ends when `go_on` is dropped.
            busy.recv().ok();
        }
        Ok(())
    });
    disk.set_room(0);
    let puts = (0..150).map(|n| {
        let terms = Terms {
            metadata: vec![7; 16_000].into(),
            ..Terms::default()
        };
        put(&format!("key-{n}"), &content(100, n), terms)
    });
    let puts: Vec<_> = puts.collect();
    drop(go_on);
    let n_refused = puts.into_iter().filter_map(Result::ok).map(Ack::wait);
    let n_refused = n_refused.filter(Result::is_err).count();
    assert!(n_refused > 1, "{n_refused}");
    while expires_at_ms.is_some_and(|at| at > now_ms()) {
        std::thread::yield_now();
    }
    disk.set_room(u64::MAX);
    now.maintain().expect("there is room");
    let after = put("after", &content(1 << 20, 0), Terms::default());
    after.and_then(Ack::wait).expect("there is room");
}

/// Each of eight names stands for bytes that it was given in turn, but the one that was deleted, perhaps. Is it?
fn each_is_given(store: &Store, n_put: u64) -> bool {
    let found = (0..8).map(|first| read(store, &format!("key-{first}")));
    let found: Vec<_> = found.collect();
    for (first, found) in (0..8).zip(&found) {
        match found {
            Err(error) => assert_eq!((error.kind, first), (Kind::NotFound, 3), "{error}"),
            Ok(found) => {
                let mut given = (first..n_put).step_by(8);
                assert!(given.any(|n| content(3_000, n) == *found), "{first}");
            }
        }
    }
    found[3].is_err()
}

/// Names are given other bytes, or taken away, and then the disk turns out to be full; then there is room, and whenever the crash comes, each
/// name stands for bytes that it was given.
#[test]
fn a_crash_after_a_full_disk_loses_nothing_that_was_acknowledged() {
    let disk = CrashDisk::default();
    let now = store(&disk);
    let n_put = 800;
    let key = |n: u64| format!("key-{}", n % 8);
    let put = |n| {
        put_as(
            Class::Durable,
            &now,
            &key(n),
            &content(3_000, n),
            Precondition::None,
        )
    };
    // There is room where objects lie, and for what is known of them, and none in the log.
    for n in 0..n_put {
        let key = format!("before/{n}");
        let bytes = content(3_000, n);
        put_as(Class::Durable, &now, &key, &bytes, Precondition::None).expect("there is room");
    }
    let gone = now.delete_prefix(&tenant("acme"), &folder("before/"));
    gone.and_then(Ack::wait).expect("they are there");
    for n in 0..8 {
        put(n).expect("there is room").1.wait().expect("durable");
    }
    // While the disk is busy with the first of them, all others are seen, and come to the log at once.
    let (go_on, busy) = std::sync::mpsc::sync_channel::<()>(0);
    disk.hook(move |call| {
        if call == Call::SyncFile {
            // It ends when `go_on` is dropped.
            busy.recv().ok();
        }
        Ok(())
    });
    disk.set_room(0);
    let acks: Vec<_> = (8..n_put).map(|n| put(n).expect("it waits").1).collect();
    let gone = now.delete(&tenant("acme"), &name("key-3"), Precondition::None);
    drop(go_on);
    let n_kept = acks
        .into_iter()
        .map(Ack::wait)
        .filter(Result::is_ok)
        .count();
    assert!(n_kept < 700, "some are refused: {n_kept}");
    let refused = gone.and_then(Ack::wait).expect_err("the log is full");
    assert_eq!(refused.kind, Kind::Exhausted);
    disk.set_room(u64::MAX);
    let before = disk.n_ops();
    now.maintain().expect("there is room");
    let after = disk.n_ops();
    let mut is_gone = [false; 2];
    // How many there are depends on how the disk was shared; all of them would take minutes sometimes.
    let step = (after - before).div_ceil(40).max(1);
    for n_ops in (before..after).step_by(step).chain([after]) {
        for seed in 0..6 {
            let again = store(&disk.crash(n_ops, &mut Choices::random(seed)));
            is_gone[usize::from(each_is_given(&again, n_put))] = true;
        }
    }
    assert_eq!(is_gone, [true; 2], "a crash comes before and after");
    for last in n_put - 8..n_put {
        let found = read(&now, &key(last));
        match found {
            Err(error) => assert_eq!((error.kind, last % 8), (Kind::NotFound, 3)),
            Ok(found) => assert!(found == content(3_000, last)),
        }
    }
}
