//! The contract of S3's stores, and the same over real HTTP.

pub(in crate::front) mod client;

use std::net::Ipv4Addr;
use std::sync::Arc;

use ::s3::users::{Secret, User, Users};
use ::s3::{Config, Counters, Service, Setup};
use tokio::net::TcpListener;
use wal::testing::{Choices, CrashDisk};

use self::client::Client;
use super::*;
use crate::arena;
use crate::index::{self, Class, NodeId, Precondition};
use crate::store::{self, Disks, Terms};

const ARENA_BYTES: u64 = 64 << 20;

fn config(arena_bytes: u64) -> store::Config {
    let mut config = store::Config {
        arena: arena::Config {
            limit_bytes: arena_bytes,
            segment_bytes: 1 << 20,
            spare_segments: 1,
        },
        log: wal::Config {
            segment_bytes: 4 << 20,
            ..wal::Config::default()
        },
        tier1: crate::tier1::Config {
            limit_bytes: 4 * arena_bytes,
            segment_bytes: 1 << 20,
            ..crate::tier1::Config::default()
        },
        ..store::Config::default()
    };
    config.namespace.limits.metadata_bytes_max = METADATA_BYTES_MAX;
    config
}

fn disks(disk: &CrashDisk) -> Disks {
    Disks {
        log: Arc::new(disk.clone()),
        objects: Arc::new(disk.clone()),
    }
}

/// A store whose arena has `arena_bytes`.
fn store(disk: &CrashDisk, arena_bytes: u64) -> Store {
    let config = config(arena_bytes);
    Store::open(&config, NodeId(1), disks(disk)).expect("it opens")
}

/// A server, and a client of each of two tenants.
pub(in crate::front) struct World {
    pub store: Store,
    pub face: Arc<S3>,
    service: Service,
    pub acme: Client,
    other: Client,
}

pub(in crate::front) async fn world_with(disk: &CrashDisk, arena_bytes: u64) -> World {
    let store = store(disk, arena_bytes);
    let face = Arc::new(S3::open(store.clone()).expect("it opens"));
    let user = |access_key: &'static str, secret: &str, text| User {
        access_key: access_key.to_owned(),
        secret: Secret::new(secret.to_owned()),
        tenant: tenant(text).expect("a tenant"),
    };
    let setup = Setup {
        config: Config {
            region: "local".to_owned(),
            ..Config::default()
        },
        users: Users::new([user("ACME", "one", "acme"), user("OTHER", "two", "other")]),
        backend: Arc::<S3>::clone(&face),
        tls: None,
        counters: Counters::new(&telemetry::Metrics::new()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let service = ::s3::serve(listener.expect("a port"), setup).expect("it serves");
    let client = |access_key, secret| Client {
        addr: service.addr,
        access_key,
        secret,
    };
    World {
        acme: client("ACME", "one"),
        other: client("OTHER", "two"),
        store,
        face,
        service,
    }
}

/// With the bucket `data` of `acme`.
async fn world() -> World {
    let world = world_with(&CrashDisk::default(), ARENA_BYTES).await;
    world.acme.put("/data", b"").await.expect(200);
    world
}

impl World {
    /// All of it, and whoever holds its store: then another may have the disk.
    async fn end(self) {
        self.service.stop().await;
        drop(self.face);
    }

    async fn begin(&self, key: &str) -> String {
        let target = format!("/data/{key}?uploads=");
        let begun = self.acme.send("POST", &target, &[], b"").await.expect(200);
        begun.element("UploadId").to_owned()
    }

    async fn put_part(&self, key: &str, id: &str, number: u16, content: &[u8]) -> String {
        let target = format!("/data/{key}?partNumber={number}&uploadId={id}");
        let put = self.acme.put(&target, content).await.expect(200);
        put.header("etag").expect("an etag").to_owned()
    }

    async fn complete(
        &self,
        key: &str,
        id: &str,
        parts: &[(u16, &str)],
        headers: &[(&str, &str)],
    ) -> client::Response {
        let part = |(number, etag): &(u16, &str)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let parts: String = parts.iter().map(part).collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let target = format!("/data/{key}?uploadId={id}");
        self.acme
            .send("POST", &target, headers, document.as_bytes())
            .await
    }

    /// What is known of the store's own bucket.
    fn own_keys(&self) -> Vec<String> {
        let bucket = &self.face.places.bucket;
        self.store.namespace().read(|index| {
            let names = index.names(bucket).expect("it is there");
            names.keys().map(ToString::to_string).collect()
        })
    }
}

fn name(key: &str) -> index::Name {
    index::Name {
        bucket: index::BucketName::new("data").expect("a bucket"),
        key: index::Key::new(key).expect("a key"),
    }
}

fn random(n_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes];
    rt::fill_random(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let face = S3::open(store(&CrashDisk::default(), ARENA_BYTES)).expect("it opens");
    ::s3::contract(&face).await;
    let left = face.store.namespace().read(|index| {
        let names = index.names(&face.places.bucket).expect("it is there");
        names.len()
    });
    assert_eq!(left, 0, "all is let go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_is_got_whole_and_in_ranges() {
    let world = world().await;
    let acme = &world.acme;
    // More than a segment.
    let content = random(3_000_001);
    let headers = [
        ("content-type", "text/plain"),
        ("x-amz-meta-who", "me"),
        ("x-amz-tagging", "a=b"),
    ];
    let put = acme
        .send("PUT", "/data/a/%C3%A9", &headers, &content)
        .await
        .expect(200);
    let etag = put.header("etag").expect("an etag").to_owned();
    let got = acme.get("/data/a/%C3%A9").await.expect(200);
    assert!(got.body == content);
    assert_eq!(got.header("etag"), Some(&*etag));
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert_eq!(got.header("x-amz-meta-who"), Some("me"));
    for (range, wanted) in [
        ("bytes=0-0", 0..1),
        ("bytes=1048575-2097152", 1_048_575..2_097_153),
        ("bytes=-5", 2_999_996..3_000_001),
    ] {
        let got = acme
            .send("GET", "/data/a/%C3%A9", &[("range", range)], b"")
            .await
            .expect(206);
        assert!(got.body == content[wanted], "{range}");
    }
    let behind = acme
        .send("GET", "/data/a/%C3%A9", &[("range", "bytes=3000001-")], b"")
        .await;
    behind.expect_error(416, "InvalidRange");
    acme.put("/data/empty", b"").await.expect(200);
    assert_eq!(acme.get("/data/empty").await.expect(200).body, b"");
    acme.get("/data/none").await.expect_error(404, "NoSuchKey");
    acme.get("/none/a").await.expect_error(404, "NoSuchBucket");
    acme.delete("/data/a/%C3%A9").await.expect(204);
    acme.delete("/data/a/%C3%A9").await.expect(204);
    acme.get("/data/a/%C3%A9")
        .await
        .expect_error(404, "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_checked_with_the_write() {
    let world = world().await;
    let acme = &world.acme;
    let when = async |header: (&str, &str)| acme.send("PUT", "/data/c", &[header], b"other").await;
    when(("if-match", "*")).await.expect_error(404, "NoSuchKey");
    when(("if-none-match", "*")).await.expect(200);
    when(("if-none-match", "*"))
        .await
        .expect_error(412, "PreconditionFailed");
    let etag = acme.put("/data/c", b"one").await.expect(200);
    let etag = etag.header("etag").expect("an etag");
    when(("if-match", "\"00\""))
        .await
        .expect_error(412, "PreconditionFailed");
    when(("if-match", etag)).await.expect(200);
    when(("if-match", etag))
        .await
        .expect_error(412, "PreconditionFailed");
    let found = acme.get("/data/c").await.expect(200);
    assert_eq!(found.body, b"other");
    let etag = found.header("etag").expect("an etag");
    let same = acme
        .send("GET", "/data/c", &[("if-none-match", etag)], b"")
        .await;
    same.expect(304);
    let both = tokio::join!(
        acme.send("PUT", "/data/d", &[("if-none-match", "*")], b"1"),
        acme.send("PUT", "/data/d", &[("if-none-match", "*")], b"2"),
    );
    let mut told = [both.0.status, both.1.status];
    told.sort_unstable();
    assert_eq!(told, [200, 412]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_where_they_ended() {
    let world = world().await;
    let acme = &world.acme;
    for key in ["a", "b/1", "b/2", "c%01", "d"] {
        acme.put(&format!("/data/{key}"), b"x").await.expect(200);
    }
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let target = format!("/data?{token}delimiter=%2F&encoding-type=url&list-type=2&max-keys=1");
        let page = acme.get(&target).await.expect(200);
        let prefixes = page
            .elements("CommonPrefixes")
            .into_iter()
            .map(str::to_owned);
        found.extend(
            page.elements("Key")
                .into_iter()
                .map(str::to_owned)
                .chain(prefixes),
        );
        if page.element("IsTruncated") == "false" {
            break;
        }
        token = format!(
            "continuation-token={}&",
            page.element("NextContinuationToken")
        );
        // A page is of the revision of the first one.
        acme.put("/data/a0", b"late").await.expect(200);
    }
    assert_eq!(found, ["a", "<Prefix>b/</Prefix>", "c%01", "d"]);
    let hostile = acme.get("/data?continuation-token=1.zz&list-type=2").await;
    hostile.expect_error(400, "InvalidArgument");
}

/// A revision that is long gone, or one that an index has lost, is listed as it is now.
#[test]
fn a_list_goes_on_when_its_revision_is_forgotten() {
    let mut config = config(ARENA_BYTES);
    config.namespace.limits.history_bytes_max = 0;
    let store = Store::open(&config, NodeId(1), disks(&CrashDisk::default())).expect("it opens");
    let acme = "acme".parse().expect("a tenant");
    store
        .create_bucket(&acme, &name("a").bucket)
        .expect("there is none");
    for key in ["a", "b", "c"] {
        let writer = store.writer(&acme).expect("memory");
        store
            .seal(
                &acme,
                &name(key),
                (Class::Ephemeral, writer),
                Terms::default(),
            )
            .expect("sealed");
    }
    let face = S3::open(store).expect("it opens");
    let bucket = BucketName::new("data").expect("a bucket");
    for cursor in ["1.62", "999.62"] {
        let query = ListQuery {
            prefix: "",
            delimiter: "",
            from: ::s3::backend::ListFrom::Cursor(cursor),
            items_max: 10,
        };
        let page = face.list(&bucket, query).expect("a page");
        assert_eq!(page.items.len(), 2, "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_share_data_until_there_are_many() {
    let world = world().await;
    let acme = &world.acme;
    let content = random(100_000);
    acme.send("PUT", "/data/from", &[("x-amz-meta-who", "me")], &content)
        .await
        .expect(200);
    let limit = index::Limits::default().names_max;
    for n in 0..limit + 2 {
        let source = [("x-amz-copy-source", "/data/from")];
        acme.send("PUT", &format!("/data/to{n}"), &source, b"")
            .await
            .expect(200);
    }
    let id = |key: &str| {
        let entry = world
            .store
            .namespace()
            .read(|index| index.entry(&name(key)).cloned());
        entry.expect("it is there").sealed.id
    };
    assert_eq!(id("to0"), id("from"));
    let last = format!("to{}", limit + 1);
    assert_ne!(id(&last), id("from"));
    acme.delete("/data/from").await.expect(204);
    for key in ["to0", &last] {
        let got = acme.get(&format!("/data/{key}")).await.expect(200);
        assert!(got.body == content);
        assert_eq!(got.header("x-amz-meta-who"), Some("me"));
    }
    let headers = [
        ("x-amz-copy-source", "/data/to0"),
        ("x-amz-copy-source-if-match", "\"00\""),
    ];
    let changed = acme.send("PUT", "/data/never", &headers, b"").await;
    changed.expect_error(412, "PreconditionFailed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_one_object() {
    let world = world().await;
    let first = random(5 << 20);
    let id = world.begin("m").await;
    let last = world.put_part("m", &id, 10, b"last").await;
    world.put_part("m", &id, 1, b"never").await;
    let one = world.put_part("m", &id, 1, &first).await;
    world.put_part("m", &id, 5, b"not used").await;
    let going_on = world.acme.get("/data?uploads=").await.expect(200);
    assert_eq!(going_on.elements("UploadId"), [&id]);
    let parts = world
        .acme
        .get(&format!("/data/m?uploadId={id}"))
        .await
        .expect(200);
    assert_eq!(parts.elements("PartNumber"), ["1", "5", "10"]);
    let parts = [(1, &*one), (10, &*last)];
    let done = world.complete("m", &id, &parts, &[]).await.expect(200);
    let etag = done.element("ETag").replace("&quot;", "\"");
    assert!(etag.ends_with("-2\""), "{etag}");
    let got = world.acme.get("/data/m").await.expect(200);
    assert!(got.body == [&first, &b"last"[..]].concat());
    let got = world.acme.get("/data/m?partNumber=10").await.expect(206);
    assert_eq!(got.body, b"last");
    // Once more is the same; nothing of it is left.
    let again = world.complete("m", &id, &parts, &[]).await.expect(200);
    assert_eq!(again.element("ETag").replace("&quot;", "\""), etag);
    assert_eq!(world.own_keys(), [""; 0]);
    let late = format!("/data/m?partNumber=1&uploadId={id}");
    world
        .acme
        .put(&late, b"late")
        .await
        .expect_error(404, "NoSuchUpload");

    let id = world.begin("n").await;
    world.put_part("n", &id, 1, b"x").await;
    world
        .acme
        .delete(&format!("/data/n?uploadId={id}"))
        .await
        .expect(204);
    assert_eq!(world.own_keys(), [""; 0]);
    // A part of a place is no upload.
    let id = world.begin("n").await;
    world.put_part("n", &id, 1, b"x").await;
    for hostile in [
        format!("{id}%2F00001"),
        id[1..].to_owned(),
        "%2F".to_owned(),
    ] {
        let aborted = world
            .acme
            .delete(&format!("/data/n?uploadId={hostile}"))
            .await;
        aborted.expect_error(404, "NoSuchUpload");
    }
    assert_eq!(world.own_keys().len(), 2);
    world.acme.delete("/data/m").await.expect(204);
    world.acme.delete("/data").await.expect(204);
    assert_eq!(world.own_keys(), [""; 0], "uploads go with their bucket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_uploads_for_an_absent_object_one_is_completed() {
    let world = world().await;
    let mut uploads = Vec::new();
    for content in [b"1", b"2"] {
        let id = world.begin("m").await;
        let etag = world.put_part("m", &id, 1, content).await;
        uploads.push((id, etag));
    }
    let [one, other] = &uploads[..] else {
        panic!("there are two");
    };
    let absent = [("if-none-match", "*")];
    let (first, second) = ([(1, &*one.1)], [(1, &*other.1)]);
    let both = tokio::join!(
        world.complete("m", &one.0, &first, &absent),
        world.complete("m", &other.0, &second, &absent),
    );
    let (winner, loser, content) = match both.0.status {
        200 => (both.0, both.1, b"1"),
        _ => (both.1, both.0, b"2"),
    };
    winner.expect(200);
    loser.expect_error(412, "PreconditionFailed");
    assert_eq!(world.acme.get("/data/m").await.expect(200).body, content);
    let left = world.acme.get("/data?uploads=").await.expect(200);
    assert_eq!(
        left.elements("UploadId").len(),
        1,
        "the other one is as it was"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_all_is_there_but_what_was_ephemeral() {
    let disk = CrashDisk::default();
    let before = world_with(&disk, ARENA_BYTES).await;
    before.acme.put("/data", b"").await.expect(200);
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    before.acme.put("/data?tagging=", tags).await.expect(200);
    let headers = [("x-amz-meta-who", "me")];
    before
        .acme
        .send("PUT", "/data/a", &headers, b"content")
        .await
        .expect(200);
    let ephemeral = [("x-cloudskin-acknowledgement", "ephemeral")];
    let put = before.acme.send("PUT", "/data/e", &ephemeral, b"e").await;
    let class = put.expect(200);
    assert_eq!(
        class.header("x-cloudskin-acknowledgement"),
        Some("ephemeral")
    );
    let id = before.begin("m").await;
    let etag = before.put_part("m", &id, 1, b"part").await;
    before.end().await;

    let world = world_with(&disk, ARENA_BYTES).await;
    let acme = &world.acme;
    let listed = acme.get("/data?list-type=2").await.expect(200);
    assert_eq!(
        (listed.elements("Key"), listed.elements("Size")),
        (vec!["a", "e"], vec!["7", "1"])
    );
    let head = acme.send("HEAD", "/data/a", &[], b"").await.expect(200);
    assert_eq!(head.header("x-amz-meta-who"), Some("me"));
    let found = acme.get("/data/a").await.expect(200);
    assert_eq!(found.body, b"content");
    assert_eq!(found.header("x-cloudskin-acknowledgement"), None);
    acme.get("/data/e").await.expect_error(410, "ObjectLost");
    let copy = acme
        .send("PUT", "/data/b", &[("x-amz-copy-source", "/data/e")], b"")
        .await;
    copy.expect_error(410, "ObjectLost");
    assert_eq!(
        acme.get("/data?tagging=")
            .await
            .expect(200)
            .element("Value"),
        "b"
    );
    let going_on = acme.get("/data?uploads=").await.expect(200);
    assert_eq!(going_on.elements("UploadId"), [&id]);
    let whole = world.complete("m", &id, &[(1, &etag)], &[]).await;
    whole.expect(200);
    assert_eq!(acme.get("/data/m").await.expect(200).body, b"part");
    acme.put("/data/a", b"anew").await.expect(200);
    assert_eq!(acme.get("/data/a").await.expect(200).body, b"anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_do_not_see_each_other() {
    let world = world().await;
    let (acme, other) = (&world.acme, &world.other);
    acme.put("/data/a", b"secret").await.expect(200);
    other.put("/theirs", b"").await.expect(200);
    let denied = [
        other.get("/data/a").await,
        other.get("/data?list-type=2").await,
        other.put("/data/a", b"x").await,
        other.delete("/data/a").await,
        other.delete("/data").await,
        other
            .send("PUT", "/theirs/a", &[("x-amz-copy-source", "/data/a")], b"")
            .await,
        acme.send("PUT", "/theirs/a", &[("x-amz-copy-source", "/data/a")], b"")
            .await,
    ];
    for response in denied {
        response.expect_error(403, "AccessDenied");
    }
    other
        .put("/data", b"")
        .await
        .expect_error(409, "BucketAlreadyExists");
    assert_eq!(
        other.get("/").await.expect(200).elements("Name"),
        ["theirs"]
    );
    assert_eq!(acme.get("/").await.expect(200).elements("Name"), ["data"]);
    // The store's own bucket is no name of S3.
    acme.get("/geds..s3?list-type=2").await.expect(400);
    for text in [store::OWN, "a_b", "A", ""] {
        assert_eq!(tenant(text).expect_err(text).kind, Kind::Invalid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_no_room_for_is_refused_and_the_rest_makes_room() {
    let world = world_with(&CrashDisk::default(), 20 << 20).await;
    let acme = &world.acme;
    acme.put("/data", b"").await.expect(200);
    let content = random(3 << 20);
    acme.put("/data/kept", &content).await.expect(200);
    let id = world.begin("m").await;
    // Longer than the disk.
    let large = random(81 << 20);
    acme.put("/data/kept", &large)
        .await
        .expect_error(503, "SlowDown");
    acme.put("/data/new", &large)
        .await
        .expect_error(503, "SlowDown");
    let part = format!("/data/m?partNumber=1&uploadId={id}");
    acme.put(&part, &large).await.expect_error(503, "SlowDown");
    assert!(acme.get("/data/kept").await.expect(200).body == content);
    acme.get("/data/new").await.expect_error(404, "NoSuchKey");
    let parts = [random(5 << 20), random(5 << 20)];
    let mut etags = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        etags.push((number, world.put_part("m", &id, number, part).await));
    }
    let listed: Vec<_> = etags.iter().map(|(n, etag)| (*n, etag.as_str())).collect();
    let whole = world.complete("m", &id, &listed, &[]).await;
    whole.expect(200);
    // From memory or from the disk.
    assert!(acme.get("/data/kept").await.expect(200).body == content);
    assert!(acme.get("/data/m").await.expect(200).body == parts.concat());
    let range = [("range", "bytes=5242870-5242889")];
    let part = acme.send("GET", "/data/m", &range, b"").await.expect(206);
    assert!(part.body == parts.concat()[5_242_870..5_242_890]);
}

/// A client that goes away in the middle of its object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_object_is_none() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = world().await;
    let head = world.acme.head("PUT", "/data/half", &[], 1 << 20);
    let socket = tokio::net::TcpStream::connect(world.acme.addr).await;
    let mut socket = socket.expect("a server");
    socket
        .write_all(head.as_bytes())
        .await
        .expect("write a head");
    socket
        .write_all(&[7; 1000])
        .await
        .expect("write a part of the body");
    socket.shutdown().await.expect("say no more");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an end");
    world
        .acme
        .get("/data/half")
        .await
        .expect_error(404, "NoSuchKey");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_objects_are_objects_and_keep_their_metadata() {
    let world = world().await;
    let owner = "acme".parse().expect("a tenant");
    let mut writer = world.store.writer(&owner).expect("memory");
    writer.append(b"native").expect("memory");
    let terms = Terms {
        metadata: Box::from(*b"their own"),
        ..Terms::default()
    };
    world
        .store
        .seal(&owner, &name("n"), (Class::Ephemeral, writer), terms)
        .expect("sealed");
    let got = world.acme.get("/data/n").await.expect(200);
    assert_eq!(got.body, b"native");
    assert!(got.header("etag").is_some());
    let native = |key: &str| {
        let status = world.store.status(&owner, &name(key)).expect("there");
        native_metadata(&status.entry.metadata)
    };
    assert_eq!(&*native("n"), b"their own");
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    world.acme.put("/data/n?tagging=", tags).await.expect(200);
    assert_eq!(
        world
            .acme
            .get("/data/n?tagging=")
            .await
            .expect(200)
            .element("Value"),
        "b"
    );
    assert_eq!(&*native("n"), b"their own");
    let source = [("x-amz-copy-source", "/data/n")];
    world
        .acme
        .send("PUT", "/data/copy", &source, b"")
        .await
        .expect(200);
    assert_eq!(&*native("copy"), b"their own");
    // And the other way round.
    world.acme.put("/data/s", b"from s3").await.expect(200);
    let reader = world.store.open_object(&owner, &name("s")).expect("there");
    assert_eq!(&**reader.view().expect("one piece"), b"from s3");
    assert_eq!(&*native("s"), b"");
    let when = Precondition::Etag(reader.entry().sealed.etag.clone());
    world
        .store
        .delete(&owner, &name("s"), when)
        .expect("it has that etag");
}

/// Buckets that native users delete leave uploads and tags behind, which are nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_bucket_is_not_that_of_another() {
    let disk = CrashDisk::default();
    let world = world_with(&disk, ARENA_BYTES).await;
    world.acme.put("/data", b"").await.expect(200);
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    world.acme.put("/data?tagging=", tags).await.expect(200);
    let id = world.begin("m").await;
    world.put_part("m", &id, 1, b"x").await;
    let owner = "acme".parse().expect("a tenant");
    let gone = world
        .store
        .delete_bucket(&owner, &name("m").bucket)
        .expect("it is empty");
    gone.wait().expect("durable");
    world.other.put("/data", b"").await.expect(200);
    let uploads = world.other.get("/data?uploads=").await.expect(200);
    assert_eq!(uploads.elements("UploadId"), [""; 0]);
    let target = format!("/data/m?partNumber=1&uploadId={id}");
    world
        .other
        .put(&target, b"y")
        .await
        .expect_error(404, "NoSuchUpload");
    world
        .other
        .get("/data?tagging=")
        .await
        .expect_error(404, "NoSuchTagSet");
    assert_eq!(world.own_keys().len(), 3);
    world.end().await;
    let world = world_with(&disk, ARENA_BYTES).await;
    assert_eq!(world.own_keys(), [""; 0]);
}

fn put(key: &str) -> Put {
    Put {
        name: Name {
            bucket: BucketName::new("data").expect("a bucket"),
            key: ::s3::names::Key::new(key).expect("a key"),
        },
        attributes: ::s3::object::Attributes::default(),
        tags: Tags::default(),
        when: ::s3::object::Precondition::None,
        class: ::s3::object::Class::Durable,
    }
}

fn body(content: &'static [u8]) -> Body {
    let pieces = [bytes::Bytes::from_static(content)];
    Body::inside(::s3::Chunks::memory(pieces), content.len() as u64, None)
}

/// What was answered is there after a crash, and an upload goes on or has become its object, whenever the crash comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_takes_back_no_answer() {
    use ::s3::checksum::{Algorithm, Coverage};
    let disk = CrashDisk::default();
    let face = S3::open(store(&disk, ARENA_BYTES)).expect("it opens");
    let Put { name, .. } = put("m");
    let owner = tenant("acme").expect("a tenant");
    face.create_bucket(&name.bucket, &owner)
        .await
        .expect("there is none");
    let object = face.put(put("a"), body(b"content")).await.expect("put");
    let new = NewUpload {
        name: name.clone(),
        attributes: object.attributes.clone(),
        tags: Tags::default(),
        checksum: ::s3::object::UploadChecksum {
            algorithm: Algorithm::Crc64Nvme,
            coverage: Coverage::Whole,
            is_asked: false,
        },
    };
    let upload = face.create_upload(new).await.expect("begun");
    let number = PartNumber::new(1).expect("a number");
    let part = face
        .put_part(&upload, number, body(b"part"))
        .await
        .expect("put");
    let before = disk.n_ops();
    let complete = Complete {
        upload: upload.clone(),
        size: part.size,
        parts: vec![part],
        etag: Etag::new("whole-1").expect("an etag"),
        checksum: None,
        when: ::s3::object::Precondition::Absent,
    };
    face.complete(complete).await.expect("completed");
    let after = disk.n_ops();
    let mut seen = [false; 2];
    for n_ops in before..=after {
        for seed in 0..8 {
            let crashed = disk.crash(n_ops, &mut Choices::random(seed));
            let face = S3::open(store(&crashed, ARENA_BYTES)).expect("it opens");
            let found = face.head(&put("a").name).expect("it was answered");
            assert_eq!(found, object, "{n_ops} {seed}");
            let is_completed = face.head(&name).is_ok();
            let going_on = face.upload(&upload);
            assert_eq!(
                is_completed,
                going_on.is_err(),
                "{n_ops} {seed}: {going_on:?}"
            );
            assert!(is_completed || n_ops < after, "{seed}");
            seen[usize::from(is_completed)] = true;
        }
    }
    assert_eq!(seen, [true; 2], "a crash comes before and after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_until_there_is_room() {
    let disk = CrashDisk::default();
    let world = world_with(&disk, ARENA_BYTES).await;
    let acme = &world.acme;
    acme.put("/data", b"").await.expect(200);
    acme.put("/data/kept", b"kept").await.expect(200);
    disk.set_room(0);
    // There is some room left in the segment.
    let value = "v".repeat(2_000);
    let ephemeral = ("x-cloudskin-acknowledgement", "ephemeral");
    let headers = [("x-amz-meta-long", value.as_str()), ephemeral];
    let mut n_put = 0;
    while n_put < 10_000 {
        let target = format!("/data/{n_put:05}");
        let put = acme.send("PUT", &target, &headers, b"x").await;
        if put.status != 200 {
            put.expect_error(503, "SlowDown");
            break;
        }
        n_put += 1;
    }
    assert!(n_put < 10_000, "the disk is full");
    let put = acme.send("PUT", "/data/new", &headers, b"x").await;
    put.expect_error(503, "SlowDown");
    acme.get("/data/new").await.expect_error(404, "NoSuchKey");
    acme.delete("/data/kept")
        .await
        .expect_error(503, "SlowDown");
    assert_eq!(acme.get("/data/kept").await.expect(200).body, b"kept");
    disk.set_room(u64::MAX);
    world.store.maintain().expect("there is room");
    acme.put("/data/new", b"x").await.expect(200);
    acme.delete("/data/kept").await.expect(204);
}

#[test]
fn a_store_that_cannot_hold_what_s3_knows_is_refused() {
    let store = Store::open(
        &store::Config::default(),
        NodeId(1),
        disks(&CrashDisk::default()),
    );
    let refused = S3::open(store.expect("it opens")).expect_err("16 KiB are too few");
    assert_eq!(refused.kind, Kind::Invalid);
}

/// Who goes away before its turn has come has changed nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_waits_for_is_not_made() {
    let face = S3::open(store(&CrashDisk::default(), ARENA_BYTES)).expect("it opens");
    let name = put("a").name;
    let owner = tenant("acme").expect("a tenant");
    let made = face.create_bucket(&name.bucket, &owner).await;
    made.expect("there is none");
    let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
    // It ends when `go_on` is dropped.
    let mut busy = Box::pin(face.commits.run(move |_| Ok(wait.recv().is_err())));
    let mut gone = Box::pin(face.put(put("a"), body(b"content")));
    std::future::poll_fn(|context| {
        assert!(busy.as_mut().poll(context).is_pending());
        assert!(gone.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(gone);
    drop(go_on);
    assert!(busy.await.expect("it is done"));
    // Commits have one order.
    let made = face.put(put("b"), body(b"content")).await;
    made.expect("put");
    let found = face.head(&name);
    assert!(matches!(found, Err(Error::NoSuchKey)), "{found:?}");
}
