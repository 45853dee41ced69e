//! A real store behind a real server, and the client that others use.

mod local;
mod moves;
mod stranger;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::s3::object::Tags;
use ::s3::users::{Secret, User, Users};
use bytes::Bytes;
use ids::Epoch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wal::testing::CrashDisk;

use self::stranger::Stranger;
use super::{Counters, Limits, Service, Setup, Shared, serve};
use crate::arena;
use crate::client::{Client, Credentials, Event, Position, Tls, Watched, Writer};
use crate::client::{Kind, Result};
use crate::front::s3::meta::Head;
use crate::index::{
    BucketName, Class, ConsumerId, Cursor, Folder, Item, Key, Name, NodeId, Placement,
    Precondition, Prefix, Residency, Revision, Scope,
};
use crate::store::{self, Disks, Remote, Store, Terms};
use crate::wire::{DATA_BYTES_MAX, HEADER_BYTES, Header, Op};

const ARENA_BYTES: u64 = 64 << 20;
const DISK_BYTES: u64 = 112 << 20;

struct World {
    store: Store,
    service: Service,
    acme: Client,
    other: Client,
}

fn setup(limits: Limits) -> Setup {
    setup_with(limits, None)
}

fn setup_with(limits: Limits, remote: Option<Remote>) -> Setup {
    setup_waiting(limits, remote, Duration::from_millis(100))
}

fn setup_waiting(limits: Limits, remote: Option<Remote>, room_wait: Duration) -> Setup {
    let config = store::Config {
        arena: arena::Config {
            limit_bytes: ARENA_BYTES,
            segment_bytes: 1 << 20,
            spare_segments: 1,
        },
        log: wal::Config {
            segment_bytes: 4 << 20,
            ..wal::Config::default()
        },
        tier1: crate::tier1::Config {
            limit_bytes: DISK_BYTES,
            segment_bytes: 4 << 20,
            ..crate::tier1::Config::default()
        },
        room_wait,
        remote,
        ..store::Config::default()
    };
    let disk = CrashDisk::default();
    let disks = Disks {
        log: Arc::new(disk.clone()),
        objects: Arc::new(disk),
    };
    let store = Store::open(&config, NodeId(1), disks).expect("it opens");
    let user = |access_key: &str, secret: &str, tenant| User {
        access_key: access_key.to_owned(),
        secret: Secret::new(secret.to_owned()),
        tenant: crate::front::s3::tenant(tenant).expect("a tenant"),
    };
    Setup {
        limits,
        peers: Users::default(),
        users: Users::new([user("ACME", "one", "acme"), user("OTHER", "two", "other")]),
        store,
        shared: Shared::default(),
        local: None,
        tls: None,
        counters: Counters::new(&telemetry::Metrics::new()),
    }
}

async fn start(setup: Setup) -> Service {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    serve(listener.expect("a port"), setup).expect("it serves")
}

async fn connect(addr: SocketAddr, access_key: &str, secret: &str) -> Result<Client> {
    let credentials = Credentials::new(access_key.to_owned(), secret.to_owned());
    Client::connect(addr, &credentials, None).await
}

/// With the bucket `data` of `acme`.
async fn world() -> World {
    world_with(Limits::default()).await
}

async fn world_with(limits: Limits) -> World {
    world_of(setup(limits)).await
}

async fn world_of(setup: Setup) -> World {
    let store = setup.store.clone();
    let service = start(setup).await;
    let client = async |access_key, secret| connect(service.addr, access_key, secret).await;
    let acme = client("ACME", "one").await.expect("it is let in");
    let other = client("OTHER", "two").await.expect("it is let in");
    acme.create_bucket(&bucket("data")).await.expect("a bucket");
    World {
        acme,
        other,
        store,
        service,
    }
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

fn terms(when: Precondition) -> Terms {
    Terms {
        when,
        ..Terms::default()
    }
}

/// Bytes that are nowhere the same.
fn noise(n_bytes: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    words.flatten().take(n_bytes).collect()
}

async fn put(client: &Client, key: &str, data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let name = name(key);
    let put = client.put(&name, data, Class::Ephemeral, Terms::default());
    put.await.expect("it is put");
}

async fn get(client: &Client, key: &str) -> Result<Bytes> {
    Ok(client.get(&name(key), 64 << 20).await?.1)
}

fn kind<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => unreachable!("it is an error"),
        Err(error) => error.kind,
    }
}

async fn keys(client: &Client, prefix: &str, delimiter: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut from: Option<Cursor> = None;
    loop {
        // Small, so that there are several.
        let folder = folder(prefix);
        let listed = client.list(&folder, delimiter, 2, from.as_ref());
        let (page, _) = listed.await.expect("a page");
        keys.extend(page.items.into_iter().map(|item| match item {
            Item::Object(key, _) => key.to_string(),
            Item::Folder(prefix) => prefix.to_string(),
        }));
        match page.next {
            Some(next) => from = Some(next),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn an_object_has_a_life() {
    let world = world().await;
    let client = &world.acme;
    assert_eq!(client.node(), world.store.identity());
    let mut writer = client.writer(0).await.expect("a writer");
    writer
        .append(Bytes::from_static(b"hello"))
        .await
        .expect("room");
    writer
        .write_at(8, Bytes::from_static(b"world!"))
        .await
        .expect("room");
    writer.truncate(13).await.expect("it is shorter");
    assert_eq!(kind(get(client, "a/x").await), Kind::NotFound);
    let terms = Terms {
        metadata: (*b"mine").into(),
        expires_at_ms: Some(1 << 50),
        readers: 2,
        ..Terms::default()
    };
    let sealed = writer.seal(&name("a/x"), Class::Ephemeral, terms).await;
    let sealed = sealed.expect("it is sealed");
    assert_eq!(sealed.lost_with, Some(world.store.identity()));
    assert_eq!(
        &*get(client, "a/x").await.expect("it is there"),
        b"hello\0\0\0world"
    );

    let status = client.status(&name("a/x")).await.expect("it is there");
    assert_eq!(status.entry, sealed.entry);
    assert_eq!(&*status.entry.metadata, b"mine");
    let here = Placement::At([Residency::Dram(NodeId(1))].into_iter().collect());
    assert_eq!(status.placement, here);
    client
        .consume(&name("a/x"), ConsumerId(7))
        .await
        .expect("consumed");
    client
        .consume(&name("a/x"), ConsumerId(7))
        .await
        .expect("consumed");
    client
        .set_metadata(&name("a/x"), (*b"new").into())
        .await
        .expect("it is set");
    let status = client.status(&name("a/x")).await.expect("it is there");
    assert_eq!(&*status.entry.metadata, b"new");
    assert_eq!(&*status.entry.hints.consumers, [ConsumerId(7)]);
    world.service.stop().await;
}

#[tokio::test]
async fn names_are_changed_and_listed() {
    let world = world().await;
    let client = &world.acme;
    put(client, "a/x", b"x").await;
    let [x, y] = ["a/x", "b/y"].map(name);
    client
        .copy([&x, &y], None, Precondition::Absent)
        .await
        .expect("a copy");
    put(client, "a/z", b"z").await;
    put(client, "c", b"").await;
    assert_eq!(keys(client, "", "").await, ["a/x", "a/z", "b/y", "c"]);
    assert_eq!(keys(client, "", "/").await, ["a/", "b/", "c"]);
    let to = folder("d/");
    client
        .rename_prefix([&folder("a/"), &to], Precondition::Absent)
        .await
        .expect("renamed");
    client
        .rename([&y, &name("e")], Precondition::None)
        .await
        .expect("renamed");
    assert_eq!(keys(client, "", "").await, ["c", "d/x", "d/z", "e"]);
    assert_eq!(&*get(client, "c").await.expect("it is there"), b"");
    client
        .delete(&name("c"), Precondition::None)
        .await
        .expect("deleted");
    let delete = client.delete_bucket(&bucket("data")).await;
    assert_eq!(kind(delete), Kind::Conflict);
    client.delete_prefix(&folder("")).await.expect("deleted");
    assert_eq!(keys(client, "", "").await, [""; 0]);
    client
        .delete_bucket(&bucket("data"))
        .await
        .expect("deleted");
    assert_eq!(client.buckets().await.expect("a list"), []);
    world.service.stop().await;
}

#[tokio::test]
async fn what_is_durable_says_so() {
    let world = world().await;
    let client = &world.acme;
    for (key, n_bytes) in [("small", 100), ("long", 3 << 20)] {
        let data = noise(n_bytes, 9);
        let name = name(key);
        let put = client.put(&name, data.clone(), Class::Durable, Terms::default());
        let sealed = put.await.expect("it is put");
        assert_eq!(sealed.lost_with, None);
        assert_eq!(sealed.entry.sealed.class, Class::Durable);
        let status = client.status(&name).await.expect("it is there");
        let on_disk = Residency::Disk(NodeId(1));
        assert!(status.placement.copies().contains(&on_disk), "{status:?}");
        assert!(get(client, key).await.expect("it is there") == data);
    }
}

#[tokio::test]
async fn what_s3_has_said_of_a_name_stays() {
    let world = world().await;
    let tags = vec![("a".to_owned(), "b".to_owned())];
    let head = Head {
        tags: Tags::new(tags, 10).expect("tags"),
        native: (*b"old").into(),
        ..Head::default()
    };
    let terms = Terms {
        metadata: head.encode(&[]),
        ..Terms::default()
    };
    let name = name("k");
    let put = world.acme.put(&name, Bytes::new(), Class::Ephemeral, terms);
    assert_eq!(&*put.await.expect("it is put").entry.metadata, b"old");
    let set = world.acme.set_metadata(&name, (*b"new").into());
    set.await.expect("it is set");
    let told = world.acme.status(&name).await.expect("it is there");
    assert_eq!(&*told.entry.metadata, b"new");
    let acme = store::tenant("acme").expect("a tenant");
    let kept = world.store.status(&acme, &name).expect("it is there");
    let kept = Head::decode(&kept.entry.metadata).expect("S3's own");
    assert_eq!((kept.tags, &*kept.native), (head.tags, &b"new"[..]));
}

#[tokio::test]
async fn preconditions_hold() {
    let world = world().await;
    let client = &world.acme;
    let put = async |when| {
        let data = Bytes::from_static(b"x");
        client
            .put(&name("k"), data, Class::Ephemeral, terms(when))
            .await
    };
    let first = put(Precondition::Absent).await.expect("it is new").entry;
    assert_eq!(kind(put(Precondition::Absent).await), Kind::Conflict);
    let second = put(Precondition::Generation(first.generation)).await;
    let second = second.expect("it is that").entry;
    let etag = || Precondition::Etag(first.sealed.etag.clone());
    assert_eq!(kind(put(etag()).await), Kind::Conflict);
    assert_eq!(
        kind(client.delete(&name("k"), etag()).await),
        Kind::Conflict
    );
    assert_eq!(kind(client.open(&name("k"), etag()).await), Kind::Conflict);
    let that = Precondition::Generation(second.generation);
    client.open(&name("k"), that).await.expect("it is that");
    let [k, l] = ["k", "l"].map(name);
    self::put(client, "l", b"l").await;
    let rename = client.rename([&k, &l], Precondition::Absent).await;
    assert_eq!(kind(rename), Kind::Conflict);
    assert_eq!(&*get(client, "l").await.expect("it is there"), b"l");
}

#[tokio::test]
async fn tenants_are_apart() {
    let world = world().await;
    let World { acme, other, .. } = &world;
    put(acme, "k", b"x").await;
    assert_eq!(acme.buckets().await.expect("a list").len(), 1);
    assert_eq!(other.buckets().await.expect("a list"), []);
    let (k, all) = (name("k"), folder(""));
    let writing = other.put(&k, Bytes::new(), Class::Ephemeral, Terms::default());
    let kinds = [
        kind(other.create_bucket(&bucket("data")).await),
        kind(other.delete_bucket(&bucket("data")).await),
        kind(other.status(&k).await),
        kind(other.open(&k, Precondition::None).await),
        kind(other.list(&all, "", 10, None).await),
        kind(writing.await),
        kind(other.delete(&k, Precondition::None).await),
        kind(other.delete_prefix(&all).await),
        kind(other.set_metadata(&k, Box::default()).await),
        kind(other.consume(&k, ConsumerId(1)).await),
        kind(
            other
                .watch(Scope::Name(k.clone()), None, Duration::ZERO)
                .await,
        ),
        kind(other.create_bucket(&bucket("geds..s3")).await),
    ];
    let mut expected = [Kind::Denied; 12];
    expected[0] = Kind::Conflict;
    expected[11] = Kind::Invalid;
    assert_eq!(kinds, expected);
    other
        .create_bucket(&bucket("theirs"))
        .await
        .expect("a bucket");
    let to = Name {
        bucket: bucket("theirs"),
        ..k.clone()
    };
    assert_eq!(
        kind(other.copy([&k, &to], None, Precondition::None).await),
        Kind::Denied
    );
    assert_eq!(
        kind(other.rename([&k, &to], Precondition::None).await),
        Kind::Denied
    );
    assert_eq!(&*get(acme, "k").await.expect("it is there"), b"x");
}

/// Names of a bucket that somebody else had before under the same name are not told, whatever revision is asked for.
#[tokio::test]
async fn the_past_of_a_bucket_belongs_to_who_had_it() {
    let world = world().await;
    let World { acme, other, .. } = &world;
    put(acme, "secret", b"x").await;
    let (_, revision) = acme.list(&folder(""), "", 10, None).await.expect("a page");
    acme.delete(&name("secret"), Precondition::None)
        .await
        .expect("deleted");
    acme.delete_bucket(&bucket("data")).await.expect("deleted");
    other
        .create_bucket(&bucket("data"))
        .await
        .expect("a bucket");
    let from = Cursor {
        revision,
        from: String::new(),
    };
    let listed = other.list(&folder(""), "", 10, Some(&from)).await;
    assert_eq!(kind(listed), Kind::NotFound);
    let from = Position {
        revision,
        n_more: 0,
    };
    let watched = other.watch(Scope::Folder(folder("")), Some(from), Duration::ZERO);
    assert!(matches!(
        watched.await.expect("it is told"),
        Watched::Compacted { .. }
    ));
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_refused_both_ways() {
    let world = world().await;
    let addr = world.service.addr;
    for (access_key, secret) in [("ACME", "two"), ("NOBODY", "one"), ("ACME", ""), ("", "")] {
        let refused = connect(addr, access_key, secret).await;
        assert_eq!(kind(refused), Kind::Denied, "{access_key}");
    }
    // A node that does not know it cannot pretend: here is one that welcomes everybody.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("it has one");
    let pretend = async {
        let (mut socket, _) = listener.accept().await.expect("a client");
        for (op, body) in [(Op::Hello, vec![7; 32]), (Op::Prove, vec![7; 34])] {
            let mut header = [0; HEADER_BYTES];
            socket.read_exact(&mut header).await.expect("a frame");
            let asked = Header::parse(&header).expect("a header");
            let mut said = vec![0; asked.body_bytes];
            socket.read_exact(&mut said).await.expect("a body");
            assert_eq!(asked.op, op.code());
            assert!(
                !said.windows(3).any(|part| part == b"one"),
                "the secret is not said"
            );
            let answer = Header {
                is_reply: true,
                body_bytes: body.len(),
                ..asked
            };
            socket
                .write_all(&answer.encode())
                .await
                .expect("it listens");
            socket.write_all(&body).await.expect("it listens");
        }
    };
    let (refused, ()) = tokio::join!(connect(addr, "ACME", "one"), pretend);
    let error = refused.expect_err("it is no node");
    assert_eq!(error.kind, Kind::Denied);
    assert!(
        error
            .to_string()
            .contains("the node does not know the secret"),
        "{error}"
    );
}

#[tokio::test]
async fn within_tls_it_is_the_same() {
    let authority = auth::Authority::new().expect("an authority");
    let identity = authority.identity("node-1").expect("an identity");
    let tls = auth::Tls::new(&identity).expect("it is whole");
    let setup = Setup {
        tls: Some(tls.server_config_admitting_anonymous()),
        ..setup(Limits::default())
    };
    let service = start(setup).await;
    let credentials = Credentials::new("ACME".to_owned(), "one".to_owned());
    let known = |name: &str| Tls {
        config: tls.configs().0,
        name: name.to_owned(),
    };
    let client = Client::connect(service.addr, &credentials, Some(&known("node-1"))).await;
    let client = client.expect("it is let in");
    client
        .create_bucket(&bucket("data"))
        .await
        .expect("a bucket");
    let data = noise(3 << 20, 1);
    put(&client, "k", &data).await;
    assert_eq!(get(&client, "k").await.expect("it is there"), data);
    let wrong = Client::connect(service.addr, &credentials, Some(&known("node-2"))).await;
    assert_eq!(kind(wrong), Kind::Unavailable);
    let bare = connect(service.addr, "ACME", "one").await;
    assert_eq!(kind(bare), Kind::Unavailable);
    service.stop().await;
}

#[tokio::test]
async fn long_objects_are_read_in_ranges_while_their_name_is_given_away() {
    let world = world().await;
    let client = &world.acme;
    let data = noise((9 << 20) + 17, 2);
    put(client, "k", &data).await;
    let object = client
        .open(&name("k"), Precondition::None)
        .await
        .expect("it is there");
    client
        .delete(&name("k"), Precondition::None)
        .await
        .expect("deleted");
    for range in [
        0..data.len(),
        0..1,
        5..(3 << 20),
        (2 << 20)..data.len(),
        7..7,
    ] {
        let bytes = object.read(range.start as u64..range.end as u64).await;
        assert!(bytes.expect("it stays") == data[range.clone()], "{range:?}");
    }
    let end = data.len() as u64;
    assert_eq!(
        &*object.read(end - 2..u64::MAX).await.expect("it stays"),
        &data[data.len() - 2..]
    );
    assert_eq!(&*object.read(end + 2..end + 3).await.expect("nothing"), b"");
    let mut copied = Vec::new();
    let n_bytes = object.copy_to(1..end, &mut copied).await.expect("it stays");
    assert_eq!(n_bytes, end - 1);
    assert!(copied == data[1..]);
}

#[tokio::test]
async fn what_was_not_sealed_is_gone_with_its_connection() {
    let world = world().await;
    let client = connect(world.service.addr, "ACME", "one").await;
    let client = client.expect("it is let in");
    let mut writer = client.writer(0).await.expect("a writer");
    for part in 0..3 {
        writer.append(noise(16 << 20, part)).await.expect("room");
    }
    // All of it is there.
    let begun = world.acme.writer(0).await.expect("a writer");
    let full = fill(begun).await;
    assert_eq!(full.expect_err("there is no room").kind, Kind::Exhausted);
    drop((client, writer));
    let again = async {
        while fill(world.acme.writer(0).await.expect("a writer"))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, again)
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn another_connection_goes_on_writing_and_fences_the_first() {
    let world = world().await;
    let first = connect(world.service.addr, "ACME", "one").await;
    let first = first.expect("it is let in");
    let mut writer = first.writer(0).await.expect("a writer");
    writer.append(noise(3 << 20, 1)).await.expect("room");
    let token = writer.detach().await.expect("there is room");
    writer.append(noise(1 << 20, 2)).await.expect("it has it");
    assert_eq!(writer.detach().await.expect("it has it"), token);
    let attached = world.acme.attach_writer(token, Epoch(2)).await;
    let (mut successor, len) = attached.expect("it is there");
    assert_eq!(len, 4 << 20);
    writer.append(noise(1, 3)).await.expect("it is sent");
    let k = name("k");
    let sealed = writer.seal(&k, Class::Durable, Terms::default()).await;
    assert_eq!(kind(sealed), Kind::Fenced);
    let zombie = first.attach_writer(token, Epoch(1)).await;
    assert_eq!(kind(zombie), Kind::Fenced);
    successor
        .append(noise(1 << 20, 4))
        .await
        .expect("it has it");
    let sealed = successor.seal(&k, Class::Durable, Terms::default()).await;
    sealed.expect("it has it");
    let written = [noise(3 << 20, 1), noise(1 << 20, 2), noise(1 << 20, 4)].concat();
    assert!(get(&world.acme, "k").await.expect("it is sealed") == written);
    let late = world.acme.attach_writer(token, Epoch(3)).await;
    assert_eq!(kind(late), Kind::NotFound);
}

#[tokio::test]
async fn what_was_detached_outlives_its_connection() {
    let world = world().await;
    let client = connect(world.service.addr, "ACME", "one").await;
    let client = client.expect("it is let in");
    let mut writer = client.writer(0).await.expect("a writer");
    writer.append(noise(1 << 20, 1)).await.expect("room");
    let token = writer.detach().await.expect("there is room");
    drop((client, writer));
    let thief = connect(world.service.addr, "OTHER", "two").await;
    let thief = thief.expect("it is let in");
    let stolen = thief.attach_writer(token, Epoch(9)).await;
    assert_eq!(kind(stolen), Kind::NotFound);
    // Over and over, with the same epoch: it is the same program.
    for _ in 0..3 {
        let (_, len) = world
            .acme
            .attach_writer(token, Epoch(1))
            .await
            .expect("it is there");
        assert_eq!(len, 1 << 20);
    }
    let (writer, _) = world
        .acme
        .attach_writer(token, Epoch(1))
        .await
        .expect("it is there");
    let sealed = writer
        .seal(&name("k"), Class::Ephemeral, Terms::default())
        .await;
    sealed.expect("it has it");
    assert!(get(&world.acme, "k").await.expect("it is sealed") == noise(1 << 20, 1));
}

/// Writes an object that is longer than half of the disk.
async fn fill(mut writer: Writer) -> Result<()> {
    for part in 0..6 {
        writer.append(noise(16 << 20, part)).await?;
    }
    writer
        .seal(&name("k"), Class::Ephemeral, Terms::default())
        .await
        .map(drop)
}

#[tokio::test]
async fn a_writer_that_is_dropped_is_given_up() {
    let world = world().await;
    // More in all than there is memory.
    for round in 0..8 {
        let mut writer = world.acme.writer(0).await.expect("a writer");
        writer.append(noise(16 << 20, round)).await.expect("room");
        if round % 2 == 0 {
            let name = name("k");
            let sealed = writer.seal(&name, Class::Ephemeral, Terms::default());
            sealed.await.expect("there is room");
        }
    }
}

#[tokio::test]
async fn a_writer_without_room_fails_and_says_so_when_it_is_sealed() {
    let world = world().await;
    let mut writer = world.acme.writer(0).await.expect("a writer");
    let mut failed = None;
    for part in 0..8 {
        if let Err(error) = writer.append(noise(16 << 20, part)).await {
            failed = Some(error.kind);
            break;
        }
    }
    assert_eq!(failed, Some(Kind::Exhausted));
    let sealed = writer
        .seal(&name("k"), Class::Ephemeral, Terms::default())
        .await;
    assert_eq!(kind(sealed), Kind::Exhausted);
    assert_eq!(kind(get(&world.acme, "k").await), Kind::NotFound);
    // Nobody else is kept from writing.
    put(&world.acme, "k", b"x").await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_does_not_hold_up_others() {
    let limits = Limits {
        connection_bytes: DATA_BYTES_MAX,
        ..Limits::default()
    };
    let world = world_with(limits).await;
    let data = noise(16 << 20, 5);
    put(&world.acme, "k", &data).await;
    // It asks for much more than sockets hold, and takes none of it.
    let mut slow = Stranger::let_in(world.service.addr).await;
    for request in 0..40 {
        slow.open(request + 3, "k", DATA_BYTES_MAX).await;
    }
    for _ in 0..4 {
        assert!(get(&world.acme, "k").await.expect("it is there") == data);
    }
    // And what it asked for is there when it does.
    for _ in 0..40 {
        let (header, _) = slow.hear().await.expect("an answer");
        assert_eq!((header.error, header.data_bytes), (None, DATA_BYTES_MAX));
    }
}

#[tokio::test]
async fn changes_are_told_without_a_gap() {
    let world = world().await;
    let client = &world.acme;
    let all = || Scope::Folder(folder(""));
    let now = |watched| match watched {
        Watched::Events { next, events, .. } => (next, events),
        Watched::Compacted { .. } => unreachable!("nothing is forgotten"),
    };
    let watched = client
        .watch(all(), None, Duration::ZERO)
        .await
        .expect("now");
    let (mut from, _) = now(watched);
    // One that waits, and one that comes too late and does not have to.
    let waiting = client.watch(all(), Some(from), Duration::from_secs(30));
    let (waited, ()) = tokio::join!(waiting, put(client, "a", b"1"));
    let (_, events) = now(waited.expect("it is told"));
    assert_eq!(events.len(), 1);
    for n in 0..1500 {
        let key = format!("k{n:04}");
        world
            .store
            .copy(
                &store::tenant("acme").expect("a tenant"),
                [&name("a"), &name(&key)],
                None,
                Precondition::None,
            )
            .map(drop)
            .or_else(|error| {
                // Data has a hundred names.
                assert_eq!(error.kind, Kind::Exhausted);
                let (from, to) = (folder("k"), folder("x"));
                let tenant = store::tenant("acme").expect("a tenant");
                world.store.delete_prefix(&tenant, &from)?;
                world.store.delete_prefix(&tenant, &to).map(drop)
            })
            .expect("it is done");
    }
    let mut names = std::collections::BTreeSet::new();
    let mut n_answers = 0;
    loop {
        let watched = client.watch(all(), Some(from), Duration::ZERO).await;
        let (next, events) = now(watched.expect("it is told"));
        if events.is_empty() {
            break;
        }
        assert!(next > from);
        (from, n_answers) = (next, n_answers + 1);
        for (_, event) in events {
            match event {
                Event::Named { name, .. } => assert!(names.insert(name.key)),
                Event::Removed(name) => assert!(names.remove(&name.key)),
                Event::Placed { .. } => unreachable!("nothing moves"),
            }
        }
    }
    assert!(n_answers > 1, "more than one answer has");
    let listed: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(keys(client, "", "").await, listed);
    let of_name = client.watch(Scope::Name(name("a")), Some(from), Duration::ZERO);
    assert_eq!(now(of_name.await.expect("nothing")).1, []);
    let future = Position {
        revision: Revision(1 << 40),
        n_more: 0,
    };
    let watched = client
        .watch(all(), Some(future), Duration::ZERO)
        .await
        .expect("told");
    assert!(matches!(watched, Watched::Compacted { .. }));
}

#[tokio::test]
async fn who_does_not_wait_any_more_makes_room_for_others() {
    let limits = Limits {
        watches: 1,
        ..Limits::default()
    };
    let world = world_with(limits).await;
    let client = &world.acme;
    let scope = || Scope::Folder(folder(""));
    let watched = client
        .watch(scope(), None, Duration::ZERO)
        .await
        .expect("now");
    let Watched::Events { next: from, .. } = watched else {
        unreachable!("nothing is forgotten")
    };
    let (mut n_arrived, mut n_refused) = (0, 0);
    while n_arrived < 3 {
        let mut watch = Box::pin(client.watch(scope(), Some(from), Duration::from_secs(60)));
        // The second is refused when the first has arrived.
        let arrived = loop {
            tokio::select! {
                biased;
                watched = &mut watch => break watched.map(drop),
                second = client.watch(scope(), Some(from), Duration::ZERO) => match second {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) if error.kind == Kind::Exhausted => break Ok(()),
                    Err(error) => unreachable!("{error}"),
                },
            }
        };
        match arrived {
            Ok(()) => n_arrived += 1,
            // What was dropped before is on its way out, or the second was sooner.
            Err(error) => {
                assert_eq!(error.kind, Kind::Exhausted);
                n_refused += 1;
                assert!(n_refused < 10_000, "there is room in the end");
            }
        }
    }
    world.service.stop().await;
}

#[tokio::test]
async fn a_server_that_is_stopped_answers_what_was_asked() {
    let world = world().await;
    let client = world.acme.clone();
    let scope = || Scope::Folder(folder(""));
    let watched = client
        .watch(scope(), None, Duration::ZERO)
        .await
        .expect("now");
    let Watched::Events { next: from, .. } = watched else {
        unreachable!("nothing is forgotten")
    };
    let mut watch = Box::pin(client.watch(scope(), Some(from), Duration::from_secs(60)));
    tokio::select! {
        biased;
        watched = &mut watch => unreachable!("{watched:?}"),
        stats = client.statistics() => assert!(stats.expect("numbers")["memory_bytes"] > 0),
    }
    let stop = world.service.stop();
    let (watched, ()) = tokio::join!(watch, stop);
    assert!(
        matches!(watched.expect("it is answered"), Watched::Events { events, .. } if events.is_empty())
    );
    assert_eq!(kind(client.buckets().await), Kind::Unavailable);
}
