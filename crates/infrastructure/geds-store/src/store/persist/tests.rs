//! Against an S3 server over real HTTP.

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use tokio::runtime::Runtime;
use wal::testing::{Choices, CrashDisk};

use super::*;
use crate::core::index::{Class, Residency};
use crate::store::objects::on_disk;
use crate::store::tests::{Sizes, bucket, content, name, put_as, read, store_of, tenant};
use crate::store::write_back::Taken;
use crate::store::{InRemote, Remote, Scrubbing};
use crate::tier1;
use crate::tier2::Background;
use crate::tier2::testing as s3;
use crate::tier2::testing::Fault;

struct World {
    runtime: Runtime,
    s3: s3::World,
}

/// A store whose requests are made.
struct Node {
    store: Store,
    requests: Option<rt::Task>,
    runtime: tokio::runtime::Handle,
}

impl Drop for Node {
    fn drop(&mut self) {
        // The store is to be closed when this is over.
        if let Some(requests) = self.requests.take() {
            self.runtime.block_on(requests.cancel());
        }
    }
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let s3 = runtime.block_on(s3::world(0));
        Self { runtime, s3 }
    }

    fn remote(&self, owner: &str, writes_back: bool) -> Remote {
        Remote {
            tier2: self.s3.tier2.clone(),
            background: Background::start(&self.s3.tier2).expect("a thread"),
            // Such as no header can say.
            attributes: |_| {
                let name = object_store::Attribute::Metadata("a\nb".into());
                object_store::Attributes::from_iter([(name, "c\nd")])
            },
            // One of them is not there.
            buckets: ["missing", "data"]
                .map(|name| (bucket(name), tenant(owner)))
                .into(),
            writes_back,
            runtime: self.runtime.handle().clone(),
        }
    }

    fn node(&self, disk: &CrashDisk, sizes: Sizes) -> Node {
        let _guard = self.runtime.enter();
        self.running(store_of(disk, &sizes))
    }

    fn running(&self, store: Store) -> Node {
        let _guard = self.runtime.enter();
        let running = store.clone();
        Node {
            store,
            requests: Some(rt::spawn("requests", async move {
                running.run_requests().await
            })),
            runtime: self.runtime.handle().clone(),
        }
    }

    fn writing_back(&self, disk: &CrashDisk) -> Node {
        let remote = Some(self.remote("acme", true));
        self.node(
            disk,
            Sizes {
                remote,
                ..Sizes::default()
            },
        )
    }

    /// As other tools see it.
    fn seen(&self, key: &str) -> Option<Bytes> {
        let bucket = self.s3.tier2.bucket(&name(key)).expect("a bucket");
        let path = object_store::path::Path::from(key);
        self.runtime.block_on(async {
            match bucket.objects().get(&path).await {
                Ok(got) => Some(got.bytes().await.expect("all of it")),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
    }

    fn overwrite(&self, key: &str, with: &str) {
        let bucket = self.s3.tier2.bucket(&name(key)).expect("a bucket");
        let path = object_store::path::Path::from(key);
        let put = bucket.objects().put(&path, with.to_owned().into());
        self.runtime.block_on(put).expect("it is put");
    }

    fn persist(&self, store: &Store, key: &str) -> Result<()> {
        let (acme, name) = (tenant("acme"), name(key));
        self.runtime
            .block_on(async { store.persist(&acme, &name).await?.await })
    }
}

impl Node {
    fn until(&self, is_so: impl Fn(&InRemote) -> bool) -> InRemote {
        let begin = rt::now();
        loop {
            let stats = self.store.in_remote().expect("there is S3");
            if is_so(&stats) {
                return stats;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{stats:?}");
            // Whoever is waited for has a processor only when nobody else wants it.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn until_done(&self) -> InRemote {
        self.until(|stats| stats.waiting_objects + stats.doomed_objects == 0)
    }

    fn put(&self, class: Class, key: &str, bytes: &[u8]) {
        let put = put_as(class, &self.store, key, bytes, Precondition::None);
        put.expect("sealed").1.wait().expect("kept");
    }

    /// From where it is now.
    fn is_in_memory(&self, key: &str) -> bool {
        let reader = self.store.open_object(&tenant("acme"), &name(key));
        reader.expect("it is there").is_in_memory()
    }

    fn delete(&self, key: &str) {
        let deleted = self
            .store
            .delete(&tenant("acme"), &name(key), Precondition::None);
        deleted.expect("it was there").wait().expect("kept");
    }
}

#[test]
fn what_is_in_s3_follows_names_and_outlives_memory() {
    let world = World::new();
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    let large = content(17 << 20, 1);
    node.put(Class::Ephemeral, "small", b"one");
    node.put(Class::Ephemeral, "large", &large);
    node.put(Class::Durable, "gone", b"two");
    node.put(Class::Durable, "empty", b"");
    assert_eq!(node.until_done().persisted_objects, 4);
    assert!(world.seen("small").expect("it is there") == b"one"[..]);
    assert!(world.seen("large").expect("it is there") == large);
    assert!(world.seen("empty").expect("it is there").is_empty());
    node.delete("gone");
    node.put(Class::Ephemeral, "small", b"another");
    node.until_done();
    assert_eq!(world.seen("gone"), None);
    assert!(world.seen("small").expect("it is there") == b"another"[..]);
    drop(node);
    // What was in memory only is gone, and read from S3.
    let node = world.writing_back(&disk);
    assert!(read(&node.store, "small").expect("it is there") == b"another");
    assert!(read(&node.store, "large").expect("it is there") == large);
    let mut part = vec![0; 100];
    let opened = node.store.open_object(&tenant("acme"), &name("large"));
    let n = opened.expect("it is there").read_at(5_000_000, &mut part);
    assert!(n.expect("read") == 100 && part == large[5_000_000..5_000_100]);
    // What is not too large is brought back.
    node.until(|stats| stats.fetched_objects == 1);
    assert!(node.is_in_memory("small") && !node.is_in_memory("large"));
    assert!(read(&node.store, "small").expect("it is there") == b"another");
}

#[test]
fn a_disk_that_is_short_of_room_is_that_of_s3() {
    let world = World::new();
    for writes_back in [true, false] {
        let disk = CrashDisk::default();
        let sizes = || Sizes {
            arena_bytes: 8 << 20,
            disk_bytes: 8 << 20,
            remote: Some(world.remote("acme", writes_back)),
            ..Sizes::default()
        };
        let node = world.node(&disk, sizes());
        let all = |n: u64| (format!("{writes_back}/{n}"), content(300_000, n));
        for n in 0..100 {
            let (key, bytes) = all(n);
            node.put(Class::Durable, &key, &bytes);
        }
        let moved = node.store.moved();
        assert!(moved.left_disk_objects > 50, "{moved:?}");
        for n in 0..100 {
            let (key, bytes) = all(n);
            assert!(
                read(&node.store, &key).expect("it is there") == bytes,
                "{n}"
            );
        }
        drop(node);
        let node = world.node(&disk, sizes());
        for n in 0..100 {
            let (key, bytes) = all(n);
            assert!(
                read(&node.store, &key).expect("it is there") == bytes,
                "{n}"
            );
        }
    }
}

#[test]
fn what_others_have_put_there_stays() {
    let world = World::new();
    let node = world.writing_back(&CrashDisk::default());
    world.overwrite("theirs", "theirs");
    node.put(Class::Ephemeral, "theirs", b"ours");
    node.put(Class::Ephemeral, "ours", b"ours");
    let stats = node.until_done();
    assert_eq!((stats.persisted_objects, stats.conflicts), (2, 1));
    assert!(world.seen("theirs").expect("it stays") == b"theirs"[..]);
    let status = node.store.status(&tenant("acme"), &name("theirs"));
    let placement = status.expect("it is there").placement;
    let at = in_s3(&placement).expect("it is in S3");
    assert!(world.seen(at.name.key.as_str()).expect("it is there") == b"ours"[..]);
    // Neither is it deleted, nor what they have put over what was ours.
    world.overwrite("ours", "theirs");
    node.delete("theirs");
    node.delete("ours");
    node.until_done();
    assert!(world.seen("theirs").expect("it stays") == b"theirs"[..]);
    assert!(world.seen("ours").expect("it stays") == b"theirs"[..]);
    assert_eq!(world.seen(at.name.key.as_str()), None);
}

#[test]
fn what_is_asked_for_again_on_its_way_does_not_wait_for_ever() {
    let world = World::new();
    let node = world.writing_back(&CrashDisk::default());
    let requests = node.store.0.requests.as_ref().expect("there is S3");
    let changing = requests.changing(&name("a"));
    let alone = world.runtime.block_on(changing.lock());
    node.put(Class::Durable, "a", b"one");
    node.put(Class::Durable, "b", b"two");
    node.until(|stats| stats.persisted_objects == 1);
    // It is on its way, and waits.
    let status = node.store.status(&tenant("acme"), &name("a"));
    let sealed = &status.expect("it is there").entry.sealed;
    requests.bring(sealed.id, sealed.size);
    node.put(Class::Durable, "c", b"three");
    node.until(|stats| stats.persisted_objects == 2);
    drop(alone);
    assert_eq!(node.until_done().persisted_objects, 3);
}

#[test]
fn what_the_index_knows_of_s3_is_not_asked_for() {
    const REQUESTS: usize = 8;
    let world = World::new();
    let node = world.writing_back(&CrashDisk::default());
    node.put(Class::Ephemeral, "a", b"one");
    node.until_done();
    // Each request has one of them.
    world.s3.proxy.spoil([Fault::None; REQUESTS]);
    node.put(Class::Ephemeral, "a", b"two");
    node.until_done();
    assert_eq!(world.s3.proxy.n_left(), REQUESTS - 1);
    assert!(world.seen("a").expect("it is there") == b"two"[..]);
    world.overwrite("a", "theirs");
    node.put(Class::Ephemeral, "a", b"three");
    assert_eq!(node.until_done().conflicts, 1);
    assert!(world.seen("a").expect("it stays") == b"theirs"[..]);
}

#[test]
fn many_objects_wait_for_the_log_together() {
    let world = World::new();
    let sizes = Sizes {
        remote: Some(world.remote("acme", true)),
        ..Sizes::default()
    };
    // No requests are made of it.
    let store = store_of(&CrashDisk::default(), &sizes);
    let requests = store.0.requests.as_ref().expect("there is S3");
    requests.set_checked(&name("0").bucket);
    for n in 0..20 {
        put_as(
            Class::Ephemeral,
            &store,
            &format!("{n}"),
            b"one",
            Precondition::None,
        )
        .expect("sealed");
    }
    store.barrier().and_then(Ack::wait).expect("kept");
    let n_syncs = store.stats().log.n_syncs;
    let chosen = store.take_turn(Vec::new(), requests.next_dirty(20, |_| true));
    assert!(
        chosen
            .iter()
            .all(|(_, taken)| matches!(taken, Taken::Chosen(_)))
    );
    assert_eq!((chosen.len(), store.stats().log.n_syncs), (20, n_syncs));
    // They are nobody else's until they are there.
    let again = store.take_turn(
        Vec::new(),
        chosen.iter().map(|(wanted, _)| *wanted).collect(),
    );
    assert!(again.iter().all(|(_, taken)| matches!(taken, Taken::Later)));
}

#[test]
fn what_is_gone_before_it_came_to_s3_does_not_wait() {
    let world = World::new();
    let sizes = Sizes {
        remote: Some(world.remote("acme", true)),
        ..Sizes::default()
    };
    let store = store_of(&CrashDisk::default(), &sizes);
    for _ in 0..20 {
        put_as(Class::Ephemeral, &store, "a", b"one", Precondition::None).expect("sealed");
    }
    assert_eq!(store.in_remote().expect("there is S3").waiting_objects, 1);
}

#[test]
fn a_copy_that_others_have_made_is_theirs() {
    let world = World::new();
    let node = world.writing_back(&CrashDisk::default());
    node.put(Class::Ephemeral, "a", b"ours");
    node.until_done();
    let there = world.s3.tier2.bucket(&name("a")).expect("a bucket");
    let [from, to] = ["a", "b"].map(object_store::path::Path::from);
    let copied = world.runtime.block_on(there.objects().copy(&from, &to));
    copied.expect("copied");
    node.put(Class::Ephemeral, "b", b"other");
    assert_eq!(node.until_done().conflicts, 1);
    assert!(world.seen("b").expect("it stays") == b"ours"[..]);
    node.delete("a");
    node.delete("b");
    node.until_done();
    assert_eq!(world.seen("a"), None);
    assert!(world.seen("b").expect("it stays") == b"ours"[..]);
}

#[test]
fn what_was_to_be_deleted_is_so_after_a_restart() {
    let world = World::new();
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    node.put(Class::Durable, "gone", b"one");
    node.put(Class::Durable, "replaced", b"two");
    node.put(Class::Durable, "kept", b"three");
    node.until_done();
    world.s3.proxy.set_down(true);
    node.delete("gone");
    node.put(Class::Durable, "replaced", b"four");
    drop(node);
    world.s3.proxy.set_down(false);
    assert!(world.seen("gone").is_some());
    let node = world.writing_back(&disk);
    node.until_done();
    assert_eq!(world.seen("gone"), None);
    assert!(world.seen("replaced").expect("it is there") == b"four"[..]);
    assert!(world.seen("kept").expect("it is there") == b"three"[..]);
    let namespace = node.store.namespace();
    namespace.read(|index| assert!(index.doomed().next().is_none()));
}

#[test]
fn what_was_perhaps_put_goes_with_its_name() {
    let world = World::new();
    let node = world.writing_back(&CrashDisk::default());
    node.put(Class::Ephemeral, "before", b"one");
    node.until_done();
    // It is put, and nobody hears of it.
    world.s3.proxy.spoil([Fault::Lose, Fault::Busy]);
    node.put(Class::Ephemeral, "a", b"one");
    node.until(|_| world.s3.proxy.n_left() == 0);
    node.delete("a");
    node.until_done();
    assert_eq!(world.seen("a"), None);
}

#[test]
fn what_was_perhaps_put_for_who_has_asked_goes_with_its_name() {
    let world = World::new();
    let sizes = Sizes {
        remote: Some(world.remote("acme", false)),
        ..Sizes::default()
    };
    // No request but those that are asked for, until all faults are used.
    let store = store_of(&CrashDisk::default(), &sizes);
    for key in ["before", "a"] {
        put_as(Class::Ephemeral, &store, key, b"one", Precondition::None).expect("sealed");
    }
    world.persist(&store, "before").expect("it is put");
    world.s3.proxy.spoil([Fault::Lose, Fault::Busy]);
    world.persist(&store, "a").expect_err("nobody knows");
    assert!(world.seen("a").expect("it was put") == b"one"[..]);
    let node = world.running(store);
    // Nothing is written back here: nobody tries again.
    node.delete("a");
    node.until_done();
    assert_eq!(world.seen("a"), None);
}

#[test]
fn who_reads_from_s3_reads_on() {
    let world = World::new();
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    let [before, after] = [content(17 << 20, 1), content(100, 2)];
    node.put(Class::Ephemeral, "a", &before);
    node.until_done();
    drop(node);
    let node = world.writing_back(&disk);
    let opened = node.store.open_object(&tenant("acme"), &name("a"));
    let reader = opened.expect("it is there");
    node.put(Class::Ephemeral, "a", &after);
    assert!(read(&node.store, "a").expect("it is there") == after);
    let pieces: Result<Vec<_>> = reader.pieces(0..u64::MAX).collect();
    let pieces = pieces.expect("it stays");
    assert!(pieces.iter().flat_map(|piece| piece.iter()).eq(&before));
    assert!(node.store.in_remote().expect("there is S3").waiting_objects > 0);
    drop(reader);
    node.until_done();
    assert!(world.seen("a").expect("it is there") == after);
}

#[test]
fn a_name_that_moves_keeps_its_object() {
    let world = World::new();
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    node.put(Class::Ephemeral, "a", b"first");
    node.until_done();
    let acme = tenant("acme");
    let rename = |from: &str, to: &str| {
        let renamed = node
            .store
            .rename(&acme, [&name(from), &name(to)], Precondition::None);
        renamed.expect("it is there").wait().expect("kept");
    };
    rename("a", "b");
    // The key in S3 is still that of the other.
    node.put(Class::Ephemeral, "a", b"second");
    let stats = node.until_done();
    assert_eq!((stats.persisted_objects, stats.conflicts), (2, 1));
    world.persist(&node.store, "b").expect("it is moved");
    node.until_done();
    assert!(world.seen("b").expect("it is there") == b"first"[..]);
    assert_eq!(world.seen("a"), None);
    world.persist(&node.store, "a").expect("it is moved");
    node.until_done();
    assert!(world.seen("a").expect("it is there") == b"second"[..]);
    drop(node);
    let node = world.writing_back(&disk);
    assert!(read(&node.store, "a").expect("it is there") == b"second");
    assert!(read(&node.store, "b").expect("it is there") == b"first");
}

/// A node with an object that is on its disk, with a flipped bit, and in S3.
fn with_damage(world: &World, bytes: &[u8]) -> Node {
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    node.put(Class::Durable, "a", bytes);
    node.until_done();
    drop(node);
    let node = world.writing_back(&disk);
    let status = node.store.status(&tenant("acme"), &name("a"));
    let id = on_disk(status.expect("it is there").entry.sealed.id);
    let (file, offset) = tier1::testing::locate(&node.store.0.disk, id, 100_000);
    disk.flip(&file, offset, 4);
    node
}

#[test]
fn who_reads_what_is_damaged_on_the_disk_is_given_what_is_in_s3() {
    let world = World::new();
    let bytes = content(200_000, 1);
    let node = with_damage(&world, &bytes);
    let reader = node.store.open_object(&tenant("acme"), &name("a"));
    let reader = reader.expect("it is there");
    let mut part = vec![0; 150_000];
    world.s3.proxy.set_down(true);
    let unread = reader
        .read_at(70_000, &mut part)
        .expect_err("nobody has it");
    assert_eq!(unread.kind, Kind::Unavailable);
    world.s3.proxy.set_down(false);
    for _ in 0..2 {
        let n = reader.read_at(70_000, &mut part).expect("it is in S3");
        assert!(part[..n] == bytes[70_000..]);
    }
    let status = node.store.status(&tenant("acme"), &name("a"));
    let copies = status.expect("it is there").placement.copies().to_vec();
    assert!(matches!(&copies[..], [Residency::S3(_)]), "{copies:?}");
    assert!(read(&node.store, "a").expect("it is there") == bytes);
}

#[test]
fn what_is_damaged_on_the_disk_is_read_from_s3() {
    let world = World::new();
    let bytes = content(200_000, 1);
    let node = with_damage(&world, &bytes);
    let scrubbed = node.store.scrub(&mut Scrubbing::default(), u64::MAX);
    let scrubbed = scrubbed.expect("it works");
    assert_eq!((scrubbed.repaired.len(), scrubbed.lost.len()), (1, 0));
    assert!(read(&node.store, "a").expect("it is there") == bytes);
}

#[test]
fn nobody_needs_s3_to_write_and_what_waits_comes_there_at_last() {
    let world = World::new();
    let disk = CrashDisk::default();
    let node = world.writing_back(&disk);
    world.s3.proxy.set_down(true);
    for n in 0..50 {
        node.put(Class::Durable, &format!("{n}"), &content(10_000, n));
    }
    node.delete("0");
    // It changes its name while it waits.
    let acme = tenant("acme");
    let renamed = node
        .store
        .rename(&acme, [&name("49"), &name("last")], Precondition::None);
    renamed.expect("it is there").wait().expect("kept");
    node.until(|stats| stats.failures > 0);
    world.persist(&node.store, "1").expect_err("nobody answers");
    drop(node);
    // A restart finds what was to be done.
    let node = world.writing_back(&disk);
    assert!(node.store.in_remote().expect("there is S3").waiting_objects > 0);
    world.s3.proxy.set_down(false);
    node.until_done();
    for n in 1..50 {
        let key = if n == 49 {
            "last".to_owned()
        } else {
            format!("{n}")
        };
        let seen = world.seen(&key).expect("it is there");
        assert!(seen == content(10_000, n), "{n}");
    }
    assert_eq!(world.seen("0"), None);
    assert_eq!(world.seen("49"), None);
}

#[test]
fn only_its_owners_bucket_is_in_s3() {
    let world = World::new();
    let remote = Some(world.remote("emca", true));
    let node = world.node(
        &CrashDisk::default(),
        Sizes {
            remote,
            ..Sizes::default()
        },
    );
    node.put(Class::Durable, "a", b"one");
    let stats = node.until_done();
    assert_eq!(stats.persisted_objects, 0);
    assert_eq!(world.seen("a"), None);
    let error = world
        .persist(&node.store, "a")
        .expect_err("it is not theirs");
    assert_eq!(error.kind, Kind::Invalid);
}

#[test]
fn a_crash_loses_nothing_that_left_the_disk() {
    let world = World::new();
    let disk = CrashDisk::default();
    let sizes = || Sizes {
        arena_bytes: 8 << 20,
        disk_bytes: 8 << 20,
        remote: Some(world.remote("acme", true)),
        ..Sizes::default()
    };
    let node = world.node(&disk, sizes());
    let mut kept = std::collections::BTreeMap::new();
    for round in 0..6_u64 {
        for n in 0..30 {
            let key = format!("{}", (7 * n + round) % 20);
            let bytes = content(400_000, 100 * round + n);
            node.put(Class::Durable, &key, &bytes);
            kept.insert(key, bytes);
        }
        let gone = format!("{round}");
        if kept.remove(&gone).is_some() {
            node.delete(&gone);
        }
        for seed in 0..4 {
            // S3 is as it is at this moment, whatever the disk has not kept.
            let crashed = disk.crash(disk.n_ops(), &mut Choices::random(seed));
            let mut sizes = sizes();
            if let Some(remote) = &mut sizes.remote {
                remote.writes_back = false;
            }
            let again = store_of(&crashed, &sizes);
            for (key, bytes) in &kept {
                let found = read(&again, key);
                let found = found.unwrap_or_else(|error| panic!("{round} {seed} {key}: {error}"));
                assert!(found == *bytes, "{round} {seed} {key}");
            }
        }
    }
    assert!(node.store.moved().left_disk_objects > 0);
}
