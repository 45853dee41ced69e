//! A bucket whose authority is S3, through each face, with somebody else who writes to it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ::s3::users::{Secret, User, Users};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStoreExt as _, integration};
use tokio::net::TcpListener;
use wal::testing::CrashDisk;

use super::object_store::{Bucket, all_attributes_of, metadata_of};
use super::s3::S3;
use super::s3::tests::client::Client;
use crate::client;
use crate::error::Kind;
use crate::index::{
    BucketName, Class, Folder, Item, Key, Name, NodeId, Precondition, Prefix, Revision,
};
use crate::store::{Cached, Disks, Policy, Store, Terms};
use crate::tier2::testing as behind;

struct World {
    behind: behind::World,
    store: Store,
    face: Arc<S3>,
    s3: Client,
    _serving: ::s3::Service,
    node: client::Client,
    _door: super::node::Service,
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

fn store_of(behind: &behind::World, revalidate: Duration) -> Store {
    let mut config = crate::Config::default();
    config.disk.segment = ids::ByteSize(1 << 20);
    config.log.segment = ids::ByteSize(4 << 20);
    let mut config = config.store();
    let policy = Policy {
        owner: "acme".parse().expect("a tenant"),
        revalidate,
    };
    config.cached = Some(Cached {
        tier2: behind.tier2.clone(),
        buckets: [(bucket("data"), policy)].into(),
        block_bytes: 1 << 20,
        attributes: all_attributes_of,
        metadata: metadata_of,
        runtime: tokio::runtime::Handle::current(),
    });
    let disk = CrashDisk::default();
    let disks = Disks {
        log: Arc::new(disk.clone()),
        objects: Arc::new(disk),
    };
    Store::open(&config, NodeId(1), disks).expect("it opens")
}

impl World {
    async fn new(revalidate: Duration) -> Self {
        let behind = behind::world(0).await;
        let store = store_of(&behind, revalidate);
        let face = Arc::new(S3::open(store.clone()).expect("it opens"));
        let users = Users::new([User {
            access_key: "ACME".to_owned(),
            secret: Secret::new("one".to_owned()),
            tenant: super::s3::tenant("acme").expect("a tenant"),
        }]);
        let listen = async || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            listener.expect("a port")
        };
        let setup = ::s3::Setup {
            config: ::s3::Config {
                region: "local".to_owned(),
                ..::s3::Config::default()
            },
            users: users.clone(),
            backend: Arc::<S3>::clone(&face),
            tls: None,
            counters: ::s3::Counters::new(&telemetry::Metrics::new()),
        };
        let serving = ::s3::serve(listen().await, setup).expect("it serves");
        let setup = super::node::Setup {
            limits: super::node::Limits::default(),
            users,
            peers: Users::default(),
            store: store.clone(),
            shared: super::node::Shared::default(),
            local: None,
            tls: None,
            counters: super::node::Counters::new(&telemetry::Metrics::new()),
        };
        let door = super::node::serve(listen().await, setup).expect("it serves");
        let credentials = client::Credentials::new("ACME".to_owned(), "one".to_owned());
        let node = client::Client::connect(door.addr, &credentials, None).await;
        Self {
            behind,
            store,
            face,
            s3: Client {
                addr: serving.addr,
                access_key: "ACME",
                secret: "one",
            },
            _serving: serving,
            node: node.expect("it is let in"),
            _door: door,
        }
    }

    /// As somebody else does.
    async fn put(&self, key: &str, bytes: &[u8]) {
        let bucket = self.behind.tier2.bucket(&name(key)).expect("a bucket");
        let bytes = Bytes::copy_from_slice(bytes);
        let put = bucket.objects().put(&Path::from(key), bytes.into()).await;
        put.expect("it is put");
    }

    async fn seen(&self, key: &str) -> Option<Bytes> {
        let bucket = self.behind.tier2.bucket(&name(key)).expect("a bucket");
        let got = bucket.objects().get(&Path::from(key)).await.ok()?;
        Some(got.bytes().await.expect("all of it"))
    }

    fn bucket(&self) -> Bucket {
        let tenant = "acme".parse().expect("a tenant");
        Bucket::new(Arc::clone(&self.face), tenant, bucket("data"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3s_clients_see_and_change_what_is_there() {
    let world = World::new(Duration::ZERO).await;
    let s3 = &world.s3;
    let large: Vec<u8> = (0..800_000_u32).flat_map(u32::to_le_bytes).collect();
    world.put("theirs", &large).await;
    assert!(s3.get("/data/theirs").await.expect(200).body == large);
    let part = [("range", "bytes=1048570-1048589")];
    let part = s3.send("GET", "/data/theirs", &part, b"").await.expect(206);
    assert!(part.body == large[1_048_570..1_048_590]);
    let said = [("x-amz-meta-of", "acme"), ("content-type", "text/plain")];
    let put = s3
        .send("PUT", "/data/a/ours", &said, b"one")
        .await
        .expect(200);
    let etag = put.header("etag").expect("an etag").to_owned();
    assert_eq!(world.seen("a/ours").await.expect("it is there"), "one");
    let head = s3.send("HEAD", "/data/a/ours", &[], b"").await.expect(200);
    assert_eq!(head.header("etag"), Some(&*etag));
    assert_eq!(head.header("x-amz-meta-of"), Some("acme"));
    assert_eq!(head.header("content-type"), Some("text/plain"));
    assert!(head.header("x-amz-meta-geds-object").is_none());
    let put = async |when: (&str, &str), status| {
        let answer = s3.send("PUT", "/data/a/ours", &[when], b"two").await;
        answer.expect(status);
    };
    put(("if-none-match", "*"), 412).await;
    put(("if-match", "\"other\""), 412).await;
    put(("if-match", &etag), 200).await;
    put(("if-match", &etag), 412).await;
    world.put("a/ours", b"three").await;
    assert_eq!(s3.get("/data/a/ours").await.expect(200).body, b"three");
    let copied = [
        ("x-amz-copy-source", "/data/a/ours"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-meta-copy", "yes"),
    ];
    s3.send("PUT", "/data/b/copy", &copied, b"")
        .await
        .expect(200);
    let head = s3.send("HEAD", "/data/b/copy", &[], b"").await.expect(200);
    assert_eq!(head.header("x-amz-meta-copy"), Some("yes"));
    list_and_be_refused(&world).await;
}

/// With `a/ours`, `b/copy` and `theirs`.
async fn list_and_be_refused(world: &World) {
    let s3 = &world.s3;
    let mut keys = Vec::new();
    let mut token = String::new();
    loop {
        let target = format!("/data?{token}delimiter=%2F&list-type=2&max-keys=1");
        let page = s3.get(&target).await.expect(200);
        keys.extend(
            [page.elements("Key"), page.elements("Prefix")]
                .concat()
                .iter()
                .map(|&key| key.to_owned()),
        );
        match page.elements("NextContinuationToken").first() {
            Some(next) => token = format!("continuation-token={next}&"),
            None => break,
        }
    }
    keys.retain(|key| !key.is_empty());
    assert_eq!(keys, ["a/", "b/", "theirs"]);
    s3.delete("/data/b/copy").await.expect(204);
    s3.delete("/data/b/copy").await.expect(204);
    s3.get("/data/b/copy").await.expect_error(404, "NoSuchKey");
    s3.delete("/data").await.expect_error(501, "NotImplemented");
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let tagged = s3.send("PUT", "/data/theirs?tagging=", &[], tags).await;
    tagged.expect_error(501, "NotImplemented");
    s3.get("/data/a/").await.expect_error(501, "NotImplemented");
    s3.put("/data", b"").await.expect(200);
    world.behind.proxy.set_down(true);
    s3.put("/data/d", b"")
        .await
        .expect_error(503, "ServiceUnavailable");
    s3.get("/data/theirs")
        .await
        .expect_error(503, "ServiceUnavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_is_there_when_it_is_completed() {
    let world = World::new(Duration::ZERO).await;
    let s3 = &world.s3;
    let part: Vec<u8> = (0..1_400_000_u32).flat_map(u32::to_le_bytes).collect();
    let begun = s3
        .send("POST", "/data/large?uploads=", &[], b"")
        .await
        .expect(200);
    let id = begun.element("UploadId").to_owned();
    let mut parts = String::new();
    for number in 1..=4 {
        let target = format!("/data/large?partNumber={number}&uploadId={id}");
        let put = s3.put(&target, &part).await.expect(200);
        let etag = put.header("etag").expect("an etag");
        parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    assert_eq!(world.seen("large").await, None);
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let complete = async |when: &[(&str, &str)]| {
        let target = format!("/data/large?uploadId={id}");
        s3.send("POST", &target, when, document.as_bytes()).await
    };
    world.put("large", b"theirs").await;
    let refused = complete(&[("if-none-match", "*")]).await;
    assert!(
        refused.text().contains("PreconditionFailed"),
        "{}",
        refused.text()
    );
    assert_eq!(world.seen("large").await.expect("it is there"), "theirs");
    let completed = complete(&[]).await.expect(200);
    assert!(completed.text().contains("ETag"), "{}", completed.text());
    let whole = part.repeat(4);
    assert!(world.seen("large").await.expect("it is there") == whole);
    assert!(s3.get("/data/large").await.expect(200).body == whole);
    complete(&[]).await.expect_error(404, "NoSuchUpload");
}

async fn put_natively(
    node: &client::Client,
    key: &str,
    data: &'static str,
    when: Precondition,
) -> client::Result<client::Acknowledged> {
    let terms = Terms {
        when,
        metadata: (*b"\x00\xff native").into(),
        ..Terms::default()
    };
    let data = Bytes::from(data);
    node.put(&name(key), data, Class::Durable, terms).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_protocol_says_what_s3_says() {
    let world = World::new(Duration::from_secs(3600)).await;
    let node = &world.node;
    let put = async |key, data, when| put_natively(node, key, data, when).await;
    let sealed = put("a", "one", Precondition::Absent)
        .await
        .expect("there is none");
    assert_eq!(world.seen("a").await.expect("it is there"), "one");
    let (entry, data) = node.get(&name("a"), 100).await.expect("it is there");
    assert_eq!(
        (&*entry.metadata, &*data),
        (&b"\x00\xff native"[..], &b"one"[..])
    );
    let error = put("a", "two", Precondition::Absent)
        .await
        .expect_err("there is one");
    assert_eq!(error.kind, Kind::Conflict);
    let error = put("a", "two", Precondition::Generation(Revision(0))).await;
    assert_eq!(error.expect_err("S3 does not count").kind, Kind::Invalid);
    let same = Precondition::Etag(sealed.entry.sealed.etag.clone());
    put("a", "two", same.clone()).await.expect("it was that");
    assert_eq!(
        put("a", "three", same).await.expect_err("another").kind,
        Kind::Conflict
    );
    assert_eq!(
        node.get(&name("a"), 100).await.expect("it is there").1,
        "two"
    );
    let status = node.status(&name("a")).await.expect("it is there");
    assert!(
        status
            .placement
            .copies()
            .iter()
            .all(|copy| copy.node().is_none())
    );
    node.persist(&name("a")).await.expect("it is there");
    copy_list_and_be_refused(node).await;
}

/// With `a`, of which a copy is made.
async fn copy_list_and_be_refused(node: &client::Client) {
    node.copy([&name("a"), &name("b/1")], None, Precondition::Absent)
        .await
        .expect("copied");
    node.rename([&name("b/1"), &name("b/2")], Precondition::None)
        .await
        .expect("renamed");
    let (entry, data) = node.get(&name("b/2"), 100).await.expect("it is there");
    assert_eq!(
        (&*entry.metadata, &*data),
        (&b"\x00\xff native"[..], &b"two"[..])
    );
    let (page, _) = node.list(&folder(""), "/", 1, None).await.expect("a page");
    let (next, _) = node
        .list(&folder(""), "/", 1, page.next.as_ref())
        .await
        .expect("a page");
    let items = [page.items, next.items].concat();
    assert!(
        matches!(&*items, [Item::Object(..), Item::Folder(_)]),
        "{items:?}"
    );
    for refused in [
        node.rename_prefix([&folder("b/"), &folder("c/")], Precondition::None)
            .await,
        node.delete_prefix(&folder("b/")).await,
        node.set_metadata(&name("a"), Box::default()).await,
        node.relocate(&name("a")).await,
        node.delete_bucket(&bucket("data")).await,
    ] {
        assert_eq!(refused.expect_err("S3 cannot").kind, Kind::Invalid);
    }
    node.delete(&name("b/2"), Precondition::None)
        .await
        .expect("deleted");
    let error = node.delete(&name("b/2"), Precondition::None).await;
    assert_eq!(error.expect_err("it is gone").kind, Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_protocol_reads_what_is_there_now_and_what_was_opened() {
    let world = World::new(Duration::from_secs(3600)).await;
    let node = &world.node;
    // What was overwritten is read as it is now if nothing of it is here.
    let large = [1_u8, 2].map(|byte| vec![byte; 3 << 20]);
    world.put("large", &large[0]).await;
    node.status(&name("large")).await.expect("it is there");
    world.put("large", &large[1]).await;
    let (_, data) = node
        .get(&name("large"), 4 << 20)
        .await
        .expect("it is there");
    assert!(data == large[1]);
    assert!(world.store.stats().in_cache.changes > 0);
    // An object that is open stays what it was, or fails.
    let open = node
        .open(&name("large"), Precondition::None)
        .await
        .expect("it is there");
    world.put("large", &large[0]).await;
    world.behind.proxy.set_down(true);
    assert!(open.read(0..3 << 20).await.expect("in memory") == large[1]);
    assert_eq!(
        node.status(&name("other")).await.expect_err("down").kind,
        Kind::Unavailable
    );
    assert_eq!(
        put_natively(node, "a", "four", Precondition::None)
            .await
            .expect_err("down")
            .kind,
        Kind::Unavailable
    );
}

/// What every store must do.
#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_node_have_a_store_as_any_other() {
    let bucket = async || World::new(Duration::ZERO).await;
    integration::put_get_delete_list(&bucket().await.bucket()).await;
    integration::put_get_attributes(&bucket().await.bucket()).await;
    integration::get_opts(&bucket().await.bucket()).await;
    integration::put_opts(&bucket().await.bucket(), true).await;
    integration::stream_get(&bucket().await.bucket()).await;
    integration::list_uses_directories_correctly(&bucket().await.bucket()).await;
    integration::list_with_delimiter(&bucket().await.bucket()).await;
    integration::list_with_offset_exclusivity(&bucket().await.bucket()).await;
    integration::rename_and_copy(&bucket().await.bucket()).await;
    integration::copy_if_not_exists(&bucket().await.bucket()).await;
    integration::copy_rename_nonexistent_object(&bucket().await.bucket()).await;
    let world = bucket().await;
    integration::multipart(&world.bucket(), &world.bucket()).await;
}

#[test]
fn what_s3_says_of_an_object_is_kept_as_far_as_it_can_be() {
    let user = |name: &'static str| Attribute::Metadata(name.into());
    let said = Attributes::from_iter([
        (Attribute::ContentType, "text/plain"),
        (Attribute::StorageClass, "GLACIER"),
        (user("of"), "acme"),
        (user("other"), "not\nvisible"),
        (user("geds-native"), "AP8"),
    ]);
    let metadata = metadata_of(&said);
    assert_eq!(*super::s3::native_metadata(&metadata), [0, 255]);
    let none = metadata_of(&Attributes::new());
    assert!(none.is_empty());
    let native = metadata_of(&Attributes::from_iter([(user("geds-native"), "AP8")]));
    assert_eq!(*native, [0, 255]);
}
