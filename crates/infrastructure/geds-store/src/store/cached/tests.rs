//! Against an S3 server over real HTTP, to which others write too.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wal::testing::CrashDisk;

use super::*;
use crate::core::index::{Folder, Item, Key, Precondition, Prefix, Query};
use crate::core::to_usize;
use crate::store::tests::{Sizes, bucket, content, name, put_as, read, store_of, tenant};
use crate::store::{Terms, Unnamed};
use crate::tier2::testing as s3;
use crate::tier2::testing::Fault;

const HOUR: Duration = Duration::from_secs(3600);
const BLOCK: u64 = 1 << 20;

struct World {
    s3: s3::World,
    store: Store,
}

fn cached(tier2: &Tier2, revalidate: Duration) -> Cached {
    let policy = Policy {
        owner: tenant("acme"),
        revalidate,
    };
    Cached {
        tier2: tier2.clone(),
        buckets: [(bucket("data"), policy)].into(),
        block_bytes: BLOCK,
        attributes: |entry| {
            let said = std::str::from_utf8(&entry.metadata)
                .expect("a text")
                .to_owned();
            let name = object_store::Attribute::Metadata("said".into());
            let said = (!said.is_empty()).then_some((name, said));
            said.into_iter().collect()
        },
        metadata: |attributes| {
            let said = attributes.get(&object_store::Attribute::Metadata("said".into()));
            said.map_or_else(Box::default, |said| said.as_bytes().into())
        },
        runtime: tokio::runtime::Handle::current(),
    }
}

impl World {
    async fn new(revalidate: Duration) -> Self {
        Self::of(s3::world(0).await, revalidate, Sizes::default())
    }

    fn of(s3: s3::World, revalidate: Duration, sizes: Sizes) -> Self {
        let cached = Some(cached(&s3.tier2, revalidate));
        let store = store_of(&CrashDisk::default(), &Sizes { cached, ..sizes });
        // What is not in S3.
        let made = store.create_bucket(&tenant("acme"), &bucket("here"));
        made.expect("there is none").wait().expect("kept");
        Self { s3, store }
    }

    /// As somebody else does.
    async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let bucket = self.s3.tier2.bucket(&name(key)).expect("a bucket");
        let bytes: Bytes = bytes.into();
        let put = bucket.objects().put(&Path::from(key), bytes.into()).await;
        put.expect("it is put");
    }

    async fn seen(&self, key: &str) -> Option<Bytes> {
        let bucket = self.s3.tier2.bucket(&name(key)).expect("a bucket");
        let got = bucket.objects().get(&Path::from(key)).await.ok()?;
        Some(got.bytes().await.expect("all of it"))
    }

    fn through(&self) -> Through<'_> {
        self.store.through(&bucket("data")).expect("it is S3's")
    }

    async fn open(&self, key: &str) -> Result<Reader> {
        self.through().open(&tenant("acme"), &name(key)).await
    }

    async fn read(&self, key: &str) -> Result<Bytes> {
        let reader = self.open(key).await?;
        all_of(&reader, 0..reader.len()).await
    }

    fn written(&self, bytes: &[u8]) -> Unnamed {
        let mut writer = self.store.writer(&tenant("acme")).expect("memory");
        writer.append(bytes).expect("room");
        self.store.finish(Class::Ephemeral, writer).expect("room")
    }

    async fn seal(&self, key: &str, bytes: &[u8], when: Precondition) -> Result<Arc<Entry>> {
        let terms = Terms {
            when,
            metadata: (*b"of it").into(),
            ..Terms::default()
        };
        let (acme, unnamed) = (tenant("acme"), self.written(bytes));
        self.through().seal(&acme, &name(key), unnamed, terms).await
    }

    fn stats(&self) -> InCache {
        self.store.stats().in_cache
    }

    /// Until nothing is under way.
    async fn settled(&self) -> InCache {
        loop {
            let stats = self.stats();
            if stats.under_way == 0 {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn list(&self, prefix: &str, delimiter: &str, items_max: usize) -> Vec<String> {
        let folder = Folder {
            bucket: bucket("data"),
            prefix: Prefix::new(prefix).expect("a prefix"),
        };
        let query = Query {
            folder: &folder,
            delimiter,
            items_max,
        };
        let (mut all, mut from) = (Vec::new(), String::new());
        loop {
            let page = self.through().list(&tenant("acme"), &query, &from).await;
            let page = page.expect("a page");
            assert!(page.items.len() <= items_max);
            all.extend(page.items.into_iter().map(|item| match item {
                Item::Object(key, entry) => format!("{key}:{}", entry.sealed.size),
                Item::Folder(prefix) => prefix.to_string(),
            }));
            match page.next {
                Some(next) => from = next.from,
                None => return all,
            }
        }
    }
}

async fn all_of(reader: &Reader, range: std::ops::Range<u64>) -> Result<Bytes> {
    let pieces: Vec<Bytes> = reader.stream(range).try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_is_not_fetched_again_until_it_is_overwritten() {
    let world = World::new(Duration::ZERO).await;
    let sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK / 2];
    for (no, size) in (0..).zip(sizes) {
        let content = content(usize::try_from(size).expect("few"), no);
        world.put("a", content.clone()).await;
        assert!(world.read("a").await.expect("read") == content, "{size}");
        let fetched = world.settled().await;
        for range in [0..size, size / 3..size, size / 2..size / 2] {
            let reader = world.open("a").await.expect("it is there");
            let part = all_of(&reader, range.clone()).await.expect("read");
            let range = to_usize(range.start)..to_usize(range.end);
            assert!(part == content[range.clone()], "{size} {range:?}");
        }
        let stats = world.settled().await;
        assert_eq!(stats.fetched_blocks, fetched.fetched_blocks, "{size}");
        assert_eq!(stats.revalidations, fetched.revalidations + 3);
    }
    let reader = world.open("a").await.expect("it is there");
    let (size, blocking) = (to_usize(reader.len()), reader.clone());
    let read = rt::blocking(move || {
        let mut bytes = vec![0; size + 10];
        let n = blocking.read_at(3, &mut bytes)?;
        let mut whole = Vec::new();
        for piece in blocking.pieces(0..u64::MAX) {
            whole.extend_from_slice(&piece?);
        }
        Ok::<_, Error>((bytes[..n].to_vec(), whole))
    });
    let (part, whole) = read.await.expect("a thread").expect("read");
    assert!(part == whole[3..] && whole.len() == size);
    assert_eq!(
        world.open("b").await.expect_err("none").kind,
        Kind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_lately_is_taken_and_versions_are_not_mixed() {
    let world = World::new(HOUR).await;
    let [old, new] = [1, 2].map(|no| content(3 << 20, no));
    world.put("a", old.clone()).await;
    let reader = world.open("a").await.expect("it is there");
    let begin = all_of(&reader, 0..100).await.expect("read");
    assert!(begin == old[..100]);
    world.settled().await;
    world.put("a", new.clone()).await;
    // It was asked an hour ago at most.
    let again = world.open("a").await.expect("it is there");
    assert!(all_of(&again, 0..BLOCK).await.expect("in memory") == old[..to_usize(BLOCK)]);
    assert_eq!(world.stats().revalidations, 1);
    // The rest is not to be had any more, and this is a reason to ask.
    let error = all_of(&again, 2 * BLOCK..3 * BLOCK).await;
    assert_eq!(error.expect_err("changed").kind, Kind::Conflict);
    assert!(world.read("a").await.expect("read") == new);
    assert_eq!(world.stats().revalidations, 2);
    // Without S3, what was read is read.
    world.settled().await;
    world.s3.proxy.set_down(true);
    assert!(world.read("a").await.expect("in memory") == new);
    let error = world.open("b").await.expect_err("nobody knows");
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_a_block_fetch_it_once() {
    let world = World::new(HOUR).await;
    let content = content(2 * to_usize(BLOCK), 1);
    world.put("a", content.clone()).await;
    let reader = world.open("a").await.expect("it is there");
    let reads = (0..200_u64).map(|no| {
        let (reader, at) = (reader.clone(), no * 5_000);
        async move { (at, all_of(&reader, at..at + 4096).await.expect("read")) }
    });
    let read: Vec<_> = futures_util::stream::iter(reads)
        .buffer_unordered(200)
        .collect()
        .await;
    for (at, bytes) in read {
        assert!(bytes == content[to_usize(at)..to_usize(at) + 4096], "{at}");
    }
    let stats = world.settled().await;
    assert_eq!((stats.fetched_blocks, stats.passed_blocks), (1, 0));
    assert_eq!(stats.hits + stats.misses, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_there_before_their_block_is() {
    let s3 = s3::world_with(0, s3::LITTLE_PATIENCE).await;
    let world = World::of(s3, HOUR, Sizes::default());
    let content = content(2 * to_usize(BLOCK), 1);
    world.put("a", content.clone()).await;
    let reader = world.open("a").await.expect("it is there");
    world.s3.proxy.spoil([Fault::Stall(600_000)]);
    for at in [0, 300_000] {
        let read = all_of(&reader, at..at + 4096).await.expect("it has come");
        assert!(read == content[to_usize(at)..to_usize(at) + 4096]);
    }
    assert_eq!(world.stats().fetched_blocks, 0);
    let error = all_of(&reader, 0..BLOCK).await.expect_err("it stalls");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(all_of(&reader, 0..BLOCK).await.expect("asked anew") == content[..to_usize(BLOCK)]);
    for fault in [
        Fault::Busy,
        Fault::Cut(0),
        Fault::Cut(600_000),
        Fault::HalfClose(600_000),
    ] {
        world.put("b", content.clone()).await;
        world.through().cache.forget(&name("b"));
        let reader = world.open("b").await.expect("it is there");
        world.store.0.residents.remove(id_of(&at(&reader), 0));
        world.s3.proxy.spoil([fault]);
        let error = all_of(&reader, 0..BLOCK).await.expect_err("it is cut");
        assert_eq!(error.kind, Kind::Unavailable, "{fault:?}");
        assert!(all_of(&reader, 0..BLOCK).await.expect("asked anew") == content[..to_usize(BLOCK)]);
    }
}

fn at(reader: &Reader) -> InS3 {
    InS3 {
        name: name("b"),
        etag: reader.entry().sealed.etag.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_leave_memory_before_what_is_nowhere_else() {
    let s3 = s3::world(0).await;
    let sizes = Sizes {
        arena_bytes: 32 << 20,
        ..Sizes::default()
    };
    let world = World::of(s3, HOUR, sizes);
    let large = content(40 << 20, 1);
    world.put("large", large.clone()).await;
    assert!(world.read("large").await.expect("read") == large);
    let here = |no: u64| Name {
        bucket: bucket("here"),
        key: Key::new(&no.to_string()).expect("a key"),
    };
    let acme = tenant("acme");
    for no in 0..10 {
        let mut writer = world.store.writer(&acme).expect("memory");
        writer.append(&content(500_000, no)).expect("room");
        let ephemeral = (Class::Ephemeral, writer);
        let sealed = world
            .store
            .seal(&acme, &here(no), ephemeral, Terms::default());
        drop(sealed.expect("sealed"));
    }
    // Blocks have made room for them, so that none was written to the disk.
    assert_eq!(world.store.moved().spilled_objects, 0);
    assert!(world.store.moved().forgotten_objects > 0);
    // Neither do blocks drive them out.
    assert!(world.read("large").await.expect("read") == large);
    world.settled().await;
    assert_eq!(world.store.moved().spilled_objects, 0);
    // Where there is no room at all, bytes pass by.
    let mut full = Vec::new();
    while let Ok(mut writer) = world.store.writer(&acme) {
        if writer.try_append(&[0; 100_000]).is_err() {
            break;
        }
        full.push(writer);
    }
    assert!(world.read("large").await.expect("read") == large);
    assert!(world.stats().passed_blocks > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_in_s3_and_seen_at_once() {
    let world = World::new(HOUR).await;
    for size in [0, 1_000, 3 << 20, 17 << 20] {
        let [one, two] = [1, 2].map(|no| content(size, no));
        let key = format!("of-{size}");
        let first = world.seal(&key, &one, Precondition::Absent).await;
        let first = first.expect("there is none");
        assert!(world.seen(&key).await.expect("it is there") == one);
        assert!(world.read(&key).await.expect("read") == one);
        let error = world.seal(&key, &two, Precondition::Absent).await;
        assert_eq!(error.expect_err("there is one").kind, Kind::Conflict);
        let same = Precondition::Etag(first.sealed.etag.clone());
        let second = world
            .seal(&key, &two, same.clone())
            .await
            .expect("it is that");
        assert!(world.read(&key).await.expect("read") == two);
        let status = world.through().status(&tenant("acme"), &name(&key)).await;
        let status = status.expect("it is there");
        assert_eq!(status.entry.sealed, second.sealed);
        assert_eq!(*status.entry.metadata, *b"of it");
        if size > 0 {
            let error = world
                .seal(&key, &one, same)
                .await
                .expect_err("it is another");
            assert_eq!(error.kind, Kind::Conflict);
        }
        let delete = async |when| {
            let name = name(&key);
            world.through().delete(&tenant("acme"), &name, &when).await
        };
        let other = Precondition::Etag(Etag::new("x").expect("an etag"));
        assert_eq!(
            delete(other).await.expect_err("it is another").kind,
            Kind::Conflict
        );
        delete(Precondition::None).await.expect("deleted");
        assert_eq!(world.seen(&key).await, None);
        let error = delete(Precondition::None).await.expect_err("it is gone");
        assert_eq!(error.kind, Kind::NotFound);
        assert_eq!(
            world.open(&key).await.expect_err("gone").kind,
            Kind::NotFound
        );
    }
    // What fits a block is one already.
    let before = world.settled().await.fetched_blocks;
    world
        .seal("small", b"small", Precondition::None)
        .await
        .expect("sealed");
    assert_eq!(world.read("small").await.expect("read"), "small");
    assert_eq!(world.stats().fetched_blocks, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_between_the_authorities() {
    let world = World::new(HOUR).await;
    let (acme, content) = (tenant("acme"), content(2_500_000, 1));
    world.put("a", content.clone()).await;
    let here = Name {
        bucket: bucket("here"),
        ..name("a")
    };
    for (from, to) in [
        (name("a"), here.clone()),
        (here.clone(), name("b")),
        (name("b"), name("c")),
    ] {
        let reader = world
            .store
            .open_anywhere(&acme, &from)
            .await
            .expect("it is there");
        for is_well in [true, false] {
            let copied =
                world
                    .store
                    .copy_content(&acme, (&reader, &to), None, Precondition::Absent);
            assert_eq!(copied.await.is_ok(), is_well, "{to:?}");
        }
        let copy = world
            .store
            .open_anywhere(&acme, &to)
            .await
            .expect("it is there");
        assert!(all_of(&copy, 0..copy.len()).await.expect("read") == content);
    }
    let through = world.through();
    let renamed = through
        .rename(&acme, [&name("c"), &name("d")], Precondition::Absent)
        .await;
    renamed.expect("there is none");
    assert!(world.seen("d").await.expect("it is there") == content);
    assert_eq!(world.seen("c").await, None);
    let taken = through
        .rename(&acme, [&name("a"), &name("d")], Precondition::Absent)
        .await;
    assert_eq!(taken.expect_err("there is one").kind, Kind::Conflict);
    assert!(world.seen("a").await.is_some());
    let away = through
        .rename(&acme, [&name("a"), &here], Precondition::None)
        .await;
    assert_eq!(away.expect_err("another authority").kind, Kind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_done_that_s3_has_not_done() {
    let s3 = s3::world_with(0, s3::LITTLE_PATIENCE).await;
    let world = World::of(s3, HOUR, Sizes::default());
    world
        .seal("a", b"one", Precondition::None)
        .await
        .expect("sealed");
    world.read("a").await.expect("read");
    // The answer is lost, and found out.
    world.s3.proxy.spoil([Fault::Lose]);
    world
        .seal("a", b"two", Precondition::None)
        .await
        .expect("found out");
    assert_eq!(world.read("a").await.expect("read"), "two");
    // It cannot be found out.
    world.s3.proxy.spoil([Fault::Lose, Fault::Busy]);
    let error = world.seal("a", b"three", Precondition::None).await;
    let error = error.expect_err("nobody knows");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(
        error.to_string().contains("it may be done, or not"),
        "{error}"
    );
    assert_eq!(world.read("a").await.expect("it is asked for"), "three");
    world.s3.proxy.set_down(true);
    let error = world.seal("a", b"four", Precondition::None).await;
    assert_eq!(error.expect_err("S3 is down").kind, Kind::Unavailable);
    let deleted = world
        .through()
        .delete(&tenant("acme"), &name("a"), &Precondition::None)
        .await;
    assert_eq!(deleted.expect_err("S3 is down").kind, Kind::Unavailable);
    world.s3.proxy.set_down(false);
    assert_eq!(world.seen("a").await.expect("it is there"), "three");
    for (key, metadata) in [
        ("a//b", "x"),
        ("a/", "x"),
        ("a", "\u{1}"),
        ("a", &*"x".repeat(2_000)),
    ] {
        let terms = Terms {
            metadata: metadata.as_bytes().into(),
            ..Terms::default()
        };
        let (acme, unnamed) = (tenant("acme"), world.written(b"five"));
        let refused = world
            .through()
            .seal(&acme, &name(key), unnamed, terms)
            .await;
        assert_eq!(
            refused.expect_err("S3 cannot be told").kind,
            Kind::Invalid,
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_those_of_s3() {
    let world = World::new(HOUR).await;
    for key in ["a", "b/1", "b/2", "b-c", "c d+é%/x", "d"] {
        world.put(key, key.to_owned()).await;
    }
    for items_max in [1, 2, 1_000] {
        let all = world.list("", "", items_max).await;
        let keys = ["a:1", "b-c:3", "b/1:3", "b/2:3"];
        assert_eq!(all[..4], keys, "{items_max}");
        assert_eq!(all.len(), 6);
        let level = world.list("", "/", items_max).await;
        assert_eq!(level.len(), 5, "{level:?}");
        assert!(level.contains(&"b/".to_owned()) && level.contains(&"d:1".to_owned()));
        assert_eq!(world.list("b/", "/", items_max).await, ["b/1:3", "b/2:3"]);
        assert_eq!(world.list("", "-c", items_max).await[1], "b-c");
        assert!(world.list("none", "", items_max).await.is_empty());
    }
    world.s3.proxy.set_down(true);
    let folder = Folder {
        bucket: bucket("data"),
        prefix: Prefix::new("").expect("a prefix"),
    };
    let query = Query {
        folder: &folder,
        delimiter: "",
        items_max: 10,
    };
    let error = world.through().list(&tenant("acme"), &query, "").await;
    assert_eq!(error.expect_err("S3 is down").kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_knows_nothing_of_what_is_s3s() {
    let s3 = s3::world(0).await;
    let disk = CrashDisk::default();
    let store = store_of(&disk, &Sizes::default());
    put_as(Class::Durable, &store, "a", b"one", Precondition::None)
        .expect("sealed")
        .1
        .wait()
        .expect("kept");
    let config = |owner: &str| {
        let mut cached = cached(&s3.tier2, HOUR);
        cached
            .buckets
            .values_mut()
            .for_each(|policy| policy.owner = tenant(owner));
        crate::store::Config {
            cached: Some(cached),
            ..crate::store::Config::default()
        }
    };
    let open = |owner: &str| {
        let disks = crate::store::Disks {
            log: Arc::new(disk.clone()),
            objects: Arc::new(disk.clone()),
        };
        Store::open(&config(owner), crate::core::index::NodeId(1), disks)
    };
    drop(store);
    let error = open("acme").expect_err("there is something");
    assert!(error.to_string().contains("has objects here"), "{error}");
    let store = store_of(&disk, &Sizes::default());
    assert_eq!(read(&store, "a").expect("it is there"), b"one");
    let deleted = store.delete(&tenant("acme"), &name("a"), Precondition::None);
    deleted.expect("it was there").wait().expect("kept");
    drop(store);
    let error = open("other").expect_err("it is acme's");
    assert!(error.to_string().contains("another tenant"), "{error}");
    let store = open("acme").expect("it opens");
    let acme = tenant("acme");
    assert_eq!(
        store.open_object(&acme, &name("a")).expect_err("S3's").kind,
        Kind::Invalid
    );
    let sealed = put_as(Class::Durable, &store, "a", b"two", Precondition::None);
    assert_eq!(sealed.expect_err("S3's").kind, Kind::Invalid);
    let deleted = store.delete_bucket(&acme, &bucket("data"));
    assert_eq!(deleted.expect_err("S3's").kind, Kind::Invalid);
    assert!(
        store
            .find_in_memory(&acme, &name("a"))
            .expect("well")
            .is_none()
    );
    let through = store.through(&bucket("data")).expect("it is S3's");
    let denied = through.open(&tenant("other"), &name("a")).await;
    assert_eq!(denied.expect_err("acme's").kind, Kind::Denied);
}

/// Answers each request, on a connection of its own, with the next of these texts.
async fn liar(answers: Vec<String>) -> (Tier2, rt::Task) {
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let task = rt::spawn("liar", async move {
        for answer in answers {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a request"));
            }
            client.write_all(answer.as_bytes()).await.ok();
        }
        std::future::pending::<()>().await;
    });
    (s3::tier2(&endpoint, 0, s3::LITTLE_PATIENCE), task)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_not_believed() {
    const DATE: &str = "last-modified: Mon, 12 Oct 2009 17:50:30 GMT\r\nconnection: close\r\n";
    let head = |etag: &str, size: u64| {
        format!("HTTP/1.1 200 OK\r\n{etag}content-length: {size}\r\n{DATE}\r\n")
    };
    let part = |etag: &str, range: &str, body: &str| {
        let len = body.len();
        format!(
            "HTTP/1.1 206 Partial Content\r\netag: {etag}\r\ncontent-range: bytes {range}\r\ncontent-length: {len}\r\n{DATE}\r\n{body}"
        )
    };
    let good = "etag: \"e\"\r\n";
    let block = "x".repeat(1 << 20);
    for (answers, kind) in [
        (vec![head("", 4)], Kind::Unavailable),
        (
            vec!["HTTP/1.1 200 OK\r\n\r\n".to_owned()],
            Kind::Unavailable,
        ),
        (
            vec![
                head(good, 2 * BLOCK),
                part("\"other\"", "0-1048575/2097152", &block),
            ],
            Kind::Conflict,
        ),
        (
            vec![head(good, 4), part("\"e\"", "1-3/4", "bcd")],
            Kind::Unavailable,
        ),
        (
            vec![head(good, 4), part("\"e\"", "0-3/4", "abc")],
            Kind::Unavailable,
        ),
        (
            vec![head(good, 4), head(good, 4) + "abcd"],
            Kind::Unavailable,
        ),
    ] {
        let shown: String = format!("{answers:?}").chars().take(300).collect();
        let (tier2, _task) = liar(answers).await;
        let cached = Some(cached(&tier2, HOUR));
        let store = store_of(
            &CrashDisk::default(),
            &Sizes {
                cached,
                ..Sizes::default()
            },
        );
        let through = store.through(&bucket("data")).expect("it is S3's");
        let read = async {
            let reader = through.open(&tenant("acme"), &name("a")).await?;
            all_of(&reader, 0..reader.len().min(10)).await
        };
        let error = read.await.expect_err(&shown);
        assert_eq!(error.kind, kind, "{shown}: {error}");
    }
}
