use wal::testing::CrashDisk;

use super::*;
use crate::core::index::{Item, Key, Prefix};

fn tenant(name: &str) -> Tenant {
    name.parse().expect("a tenant")
}

fn bucket(name: &str) -> BucketName {
    BucketName::new(name).expect("a bucket")
}

fn name(key: &str) -> Name {
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

/// With the bucket `data` of `acme`.
fn store(disk: &CrashDisk) -> Store {
    let config = Config {
        arena: arena::Config {
            limit_bytes: 64 << 20,
            segment_bytes: 1 << 20,
            spare_segments: 1,
        },
        log: wal::Config {
            segment_bytes: 1 << 20,
            ..wal::Config::default()
        },
        ..Config::default()
    };
    let store = Store::open(&config, NodeId(1), Arc::new(disk.clone())).expect("it opens");
    match store.create_bucket(&tenant("acme"), &bucket("data")) {
        Ok(ack) => ack.wait().expect("durable"),
        Err(error) => assert_eq!(error.kind, Kind::Conflict),
    }
    store
}

fn put(store: &Store, key: &str, bytes: &[u8], when: Precondition) -> Result<Arc<Entry>> {
    let acme = tenant("acme");
    let mut writer = store.writer(&acme)?;
    writer.append(bytes)?;
    let terms = Terms {
        when,
        ..Terms::default()
    };
    let (entry, _) = store.seal(&acme, &name(key), writer, terms)?;
    Ok(entry)
}

fn read(store: &Store, key: &str) -> Result<Vec<u8>> {
    let reader = store.open_object(&tenant("acme"), &name(key))?;
    let view = reader.view().expect("one piece");
    assert_eq!(reader.len(), view.len() as u64);
    Ok(view.to_vec())
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
    assert_eq!(&*reader.view().expect("one piece"), b"one");
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
            .seal(&other, &name("a"), writer, Terms::default())
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
