//! Against an S3 server over real HTTP, with a proxy in between that spoils connections.

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use geds_core::index::{BucketName, Etag, InS3, Key, NodeId, ObjectId, Precondition};
use ids::Epoch;
use object_store::{Attribute, Attributes, ObjectStoreExt as _};

use super::testing::{Fault, LITTLE_PATIENCE, World, world, world_with};
use super::*;

fn name(key: &str) -> Name {
    Name {
        bucket: BucketName::new("data").expect("a bucket"),
        key: Key::new(key).expect("a key"),
    }
}

/// Of which none is like another.
fn content(size: usize) -> Bytes {
    let mut state = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.take(size).collect()
}

fn object(key: &str, serial: u64, size: usize, when: Precondition) -> Persist {
    Persist {
        name: name(key),
        id: ObjectId {
            node: NodeId(1),
            epoch: Epoch(2),
            serial,
        },
        size: size as u64,
        attributes: Attributes::from_iter([(Attribute::ContentType, "text/plain")]),
        when,
    }
}

impl World {
    async fn persist(&self, what: &Persist, content: &Bytes) -> Result<InS3> {
        let pieces = (0..content.len()).step_by(1 << 20);
        let pieces = pieces.map(|at| Ok(content.slice(at..content.len().min(at + (1 << 20)))));
        self.tier2
            .persist(what, stream::iter(pieces.collect::<Vec<_>>()))
            .await
    }

    async fn read(&self, of: &InS3, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let pieces: Vec<Bytes> = self.tier2.read(of, range).await?.try_collect().await?;
        Ok(pieces.concat())
    }
}

#[tokio::test]
async fn objects_are_there_for_everybody() {
    let world = world(3).await;
    for (serial, size) in [0, 1, 100_000, 33 << 20].into_iter().enumerate() {
        let content = content(size);
        let what = object("a/b", serial as u64, size, Precondition::None);
        let in_s3 = world.persist(&what, &content).await.expect("persisted");
        let all = world.read(&in_s3, 0..size as u64).await.expect("read");
        assert!(all == content, "{size}");
        if let Some(end) = size.checked_sub(1) {
            let part = size / 3..end;
            let read = world.read(&in_s3, part.start as u64..part.end as u64).await;
            assert!(read.expect("read") == content[part], "{size}");
        }
        let bucket = world.tier2.bucket(&what.name).expect("a bucket");
        let path = object_store::path::Path::from("a/b");
        let seen = bucket.objects().get(&path).await.expect("it is there");
        assert_eq!(seen.meta.size, size as u64);
        let content_type = seen.attributes.get(&Attribute::ContentType);
        assert_eq!(content_type, Some(&"text/plain".into()));
    }
    let last = object("a/b", 3, 0, Precondition::None);
    let find = || world.tier2.find(&last.name);
    let found = find().await.expect("it is looked for");
    assert_eq!(found.and_then(|found| found.id), Some(last.id));
    // A copy of it is not ours.
    let bucket = world.tier2.bucket(&last.name).expect("a bucket");
    let [from, to] = ["a/b", "copy"].map(object_store::path::Path::from);
    let copied = bucket.objects().copy(&from, &to).await;
    copied.expect("copied");
    let found = world.tier2.find(&name("copy")).await;
    let found = found.expect("it is looked for").expect("it is there");
    assert_eq!(found.id, None);
    for _ in 0..2 {
        world
            .tier2
            .delete(&last.name)
            .await
            .expect("it goes, or is gone");
        assert_eq!(find().await.expect("it is looked for"), None);
    }
}

#[tokio::test]
async fn only_what_may_be_replaced_is() {
    let world = world(3).await;
    for size in [1000, 17 << 20] {
        let content = content(size);
        let key = format!("of-{size}");
        let object = |serial, when| object(&key, serial, size, when);
        let first = object(1, Precondition::Absent);
        let first = world
            .persist(&first, &content)
            .await
            .expect("there is none");
        let again = object(1, Precondition::Absent);
        let again = world
            .persist(&again, &content)
            .await
            .expect("it is the same");
        assert_eq!(first, again);
        let other = object(2, Precondition::Absent);
        let error = world
            .persist(&other, &content)
            .await
            .expect_err("there is one");
        assert_eq!(error.kind, Kind::Conflict);
        let next = object(3, Precondition::Etag(first.etag.clone()));
        // The same content has the same etag, and is another object.
        let content = Bytes::from([&content[1..], b"x"].concat());
        let next = world.persist(&next, &content).await.expect("it is the one");
        let late = object(4, Precondition::Etag(first.etag.clone()));
        let error = world
            .persist(&late, &content)
            .await
            .expect_err("it is another");
        assert_eq!(error.kind, Kind::Conflict);
        let error = world
            .read(&first, 0..10)
            .await
            .expect_err("it was replaced");
        assert_eq!(error.kind, Kind::Conflict);
        world.read(&next, 0..10).await.expect("it is there");
        let deleted = world.tier2.delete(&next.name).await;
        deleted.expect("it is deleted");
        let error = world.read(&next, 0..10).await.expect_err("it is gone");
        assert_eq!(error.kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn what_is_read_is_whole_however_connections_end() {
    let world = world_with(4, LITTLE_PATIENCE).await;
    let content = content(3 << 20);
    let what = object("a", 1, content.len(), Precondition::None);
    let in_s3 = world.persist(&what, &content).await.expect("persisted");
    for faults in [
        &[Fault::Busy][..],
        &[Fault::Cut(0)],
        &[Fault::Cut(100)],
        &[Fault::Cut(1 << 20)],
        &[Fault::HalfClose(1 << 20)],
        &[Fault::Stall(1 << 20)],
        &[Fault::Cut(1 << 20), Fault::Busy, Fault::Cut(1 << 20)],
    ] {
        world.proxy.spoil(faults.iter().copied());
        let read = world.read(&in_s3, 5..content.len() as u64).await;
        assert!(read.expect("read") == content[5..], "{faults:?}");
        assert_eq!(world.proxy.n_left(), 0, "{faults:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    let world = world_with(0, LITTLE_PATIENCE).await;
    let content = content(3 << 20);
    let what = object("a", 1, content.len(), Precondition::None);
    let in_s3 = world.persist(&what, &content).await.expect("persisted");
    for fault in [
        Fault::Busy,
        Fault::Cut(0),
        Fault::Cut(1 << 20),
        Fault::HalfClose(1 << 20),
        Fault::Stall(0),
        Fault::Stall(1 << 20),
    ] {
        world.proxy.spoil([fault]);
        let error = world.read(&in_s3, 0..content.len() as u64).await;
        let error = error.expect_err("it is not all there");
        assert_eq!(error.kind, Kind::Unavailable, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_written_is_there_once_however_connections_end() {
    let world = world_with(4, LITTLE_PATIENCE).await;
    let faults = [Fault::Busy, Fault::Cut(20), Fault::Stall(0), Fault::Lose];
    // One request.
    survives(&world, 1000, 1, &faults).await;
    // Those that begin an upload, put two parts, and end it. They take their time.
    let world = self::world(4).await;
    survives(
        &world,
        17 << 20,
        4,
        &[Fault::Busy, Fault::Cut(20), Fault::Lose],
    )
    .await;
}

/// Each of the faults, in each of the requests.
async fn survives(world: &World, size: usize, n_requests: usize, faults: &[Fault]) {
    let content = content(size);
    for at in 0..n_requests {
        for fault in faults {
            let key = format!("{at}-{fault:?}");
            let what = object(&key, 1, size, Precondition::Absent);
            let before = std::iter::repeat_n(Fault::None, at);
            world.proxy.spoil(before.chain([*fault]));
            let in_s3 = world.persist(&what, &content).await.expect("persisted");
            assert_eq!(world.proxy.n_left(), 0, "{at} {fault:?}");
            let all = world.read(&in_s3, 0..size as u64).await.expect("read");
            assert!(all == content, "{at} {fault:?}");
        }
    }
}

#[tokio::test]
async fn keys_that_http_cannot_have_are_mapped() {
    let world = world(3).await;
    let long = "//".repeat(512);
    for key in ["a//b", "../a", "a/", "é \u{1}", "!geds-key/a", &long] {
        let content = content(10);
        let what = object(key, 1, 10, Precondition::Absent);
        let in_s3 = world.persist(&what, &content).await.expect("persisted");
        assert_eq!(in_s3.name, what.name);
        assert!(world.read(&in_s3, 0..10).await.expect("read") == content);
        let path = keys::path(&what.name.key);
        let bucket = world.tier2.bucket(&what.name).expect("a bucket");
        let seen = bucket.objects().get(&path).await.expect("it is there");
        let said = seen.attributes.get(&Attribute::Metadata(KEY.into()));
        let said = said.expect("the exact key");
        assert_eq!(keys::exact(&path, said), Some(what.name.key));
    }
}

#[tokio::test]
async fn sizes_and_etags_are_not_guessed() {
    let world = world(0).await;
    let content = content(10);
    for size in [9, 11] {
        let what = object("a", 1, size, Precondition::None);
        let error = world
            .persist(&what, &content)
            .await
            .expect_err("another size");
        assert_eq!(error.kind, Kind::Internal);
    }
    let nothing = InS3 {
        name: name("a"),
        etag: Etag::new("x").expect("an etag"),
    };
    let error = world
        .read(&nothing, 0..1)
        .await
        .expect_err("nothing was written");
    assert_eq!(error.kind, Kind::NotFound);
    let generation = object("a", 1, 10, Precondition::Generation(Default::default()));
    let error = world
        .persist(&generation, &content)
        .await
        .expect_err("none of S3's");
    assert_eq!(error.kind, Kind::Invalid);
}

#[tokio::test]
async fn only_stores_that_know_conditions_are_used() {
    let world = world(0).await;
    let data = name("a").bucket;
    for _ in 0..2 {
        world.tier2.check(&data).await.expect("it knows them");
    }
    for header in ["if-match", "if-none-match"] {
        world.proxy.spoil([Fault::Deaf(header); 12]);
        let error = world.tier2.check(&data).await;
        let error = error.expect_err("a condition was not minded");
        assert_eq!(error.kind, Kind::Invalid, "{header}: {error}");
        assert_eq!(world.proxy.n_left(), 0, "{header}");
    }
    let other = BucketName::new("other").expect("a bucket");
    world
        .tier2
        .check(&other)
        .await
        .expect_err("it is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_conditions_does_not_disturb_who_asks_at_the_same_time() {
    let world = world(0).await;
    let data = BucketName::new("data").expect("a bucket");
    // Each is somewhere else when another one begins.
    let ask = async |n_looks: usize| {
        for _ in 0..10 {
            for _ in 0..n_looks {
                world.tier2.find(&name("any")).await.expect("it answers");
            }
            world.tier2.check(&data).await.expect("it knows them");
        }
    };
    tokio::join!(ask(0), ask(1), ask(3));
    let left = world.tier2.bucket(&name("any")).expect("a bucket");
    let left = left.objects().list(None).try_collect::<Vec<_>>().await;
    assert!(left.expect("a list").is_empty(), "nothing is left of it");
}

/// Nodes look for what was put there before them.
#[tokio::test]
async fn what_is_said_of_objects_there_is_that_of_version_1() {
    let world = world(0).await;
    let what = object("a", 300, 1, Precondition::None);
    let said = world.tier2.text_of(what.id, &what.name);
    assert_eq!(
        said,
        "here-0000000100000002000000000000012c-8baa5b1089e9250a"
    );
    let key = Key::new("a//b").expect("a key");
    assert_eq!(keys::mapped(&key).as_deref(), Some("YS8vYg"));
    assert_eq!(keys::path(&key).as_ref(), "!geds-key/a%2F%2Fb");
}
