//! Other processes of the machine, for which this one stands: they come by the same socket.

use tempfile::TempDir;

use super::*;
use crate::arena::Client as Memory;
use crate::client::{Acknowledged, InPlace, Local};
use crate::front::local;
use crate::wire::Attached;

/// A world whose memory is shared, and a process of each tenant.
struct Shared {
    world: World,
    local: Local,
    theirs: Local,
    dir: TempDir,
}

async fn shared() -> Shared {
    // An address of a socket does not have so many bytes.
    let dir = tempfile::Builder::new().prefix(&"d".repeat(120)).tempdir();
    let dir = dir.expect("a directory");
    let mut setup = setup_waiting(Limits::default(), None, Duration::from_mins(1));
    let agent = local::Local::start(&dir.path().join("memory.sock"), setup.store.clone());
    setup.local = Some(Arc::new(agent.expect("it listens")));
    let world = world_of(setup).await;
    Shared {
        local: world.acme.attach().await.expect("it is let in"),
        theirs: world.other.attach().await.expect("it is let in"),
        world,
        dir,
    }
}

impl Shared {
    fn open(&self, key: &str) -> Result<Option<InPlace>> {
        self.local.open(&name(key))
    }

    /// What is in memory.
    fn bytes(&self, key: &str) -> Vec<u8> {
        bytes_of(&self.open(key).expect("it is there").expect("in memory"))
    }

    fn seal(&self, key: &str, data: &[u8], when: Precondition) -> Result<Acknowledged> {
        let mut writer = self.local.writer();
        writer.append(data).expect("room");
        self.local.seal(writer, &name(key), &terms(when))
    }
}

async fn attached(client: &Client) -> Attached {
    client.attached().await.expect("it is let in")
}

fn bytes_of(object: &InPlace) -> Vec<u8> {
    let bytes = object.views().flat_map(|view| view.to_vec());
    let bytes: Vec<u8> = bytes.collect();
    assert_eq!(object.len(), bytes.len() as u64);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_reads_where_it_lies_what_is_there_now() {
    let shared = shared().await;
    let acme = &shared.world.acme;
    let data = noise(3 << 20, 7);
    put(acme, "k", &data).await;
    let copied = shared.world.store.stats().copied_bytes;
    let old = shared.open("k").expect("it is there").expect("in memory");
    assert_eq!(bytes_of(&old), data);
    assert_eq!(old.entry().expect("one").sealed.size, 3 << 20);
    assert_eq!(shared.world.store.stats().copied_bytes, copied);
    // Each of these is seen by who opens it afterwards, and by nobody who has opened it before.
    put(acme, "k", b"new").await;
    assert_eq!(shared.bytes("k"), b"new");
    acme.set_metadata(&name("k"), (*b"m").into())
        .await
        .expect("it is there");
    let opened = shared.open("k").expect("it is there").expect("in memory");
    assert_eq!(&*opened.entry().expect("one").metadata, b"m");
    acme.rename([&name("k"), &name("to")], Precondition::None)
        .await
        .expect("it is there");
    assert_eq!(kind(shared.open("k")), Kind::NotFound);
    assert_eq!(shared.bytes("to"), b"new");
    acme.delete(&name("to"), Precondition::None)
        .await
        .expect("it is there");
    assert_eq!(kind(shared.open("to")), Kind::NotFound);
    assert_eq!(bytes_of(&old), data);
    shared.world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_seals_is_there_for_all_and_outlives_it() {
    let shared = shared().await;
    let acme = &shared.world.acme;
    let data = noise(3 << 20, 9);
    let sealed = shared
        .seal("k", &data, Precondition::Absent)
        .expect("it is absent");
    assert_eq!(sealed.lost_with, Some(acme.node()));
    assert_eq!(sealed.entry.sealed.class, Class::Ephemeral);
    assert_eq!(get(acme, "k").await.expect("it is there"), data);
    assert_eq!(shared.bytes("k"), data);
    let again = shared.seal("k", b"again", Precondition::Absent);
    assert_eq!(kind(again), Kind::Conflict);
    let nowhere = name("k");
    let nowhere = Name {
        bucket: bucket("none"),
        ..nowhere
    };
    let unknown = shared
        .local
        .seal(shared.local.writer(), &nowhere, &Terms::default());
    assert_eq!(kind(unknown), Kind::NotFound);
    // Parts of it are what was sealed, too, wherever they begin.
    let object = acme.open(&name("k"), Precondition::None).await;
    let object = object.expect("it is there");
    for range in [
        1..2,
        65_535..65_537,
        1_048_575..2_097_153,
        3_145_727..9_999_999,
    ] {
        let part = object.read(range.clone()).await.expect("it is read");
        let end = usize::try_from(range.end).expect("small").min(data.len());
        assert_eq!(
            part,
            data[usize::try_from(range.start).expect("small")..end]
        );
    }
    let Shared {
        world,
        local,
        theirs,
        ..
    } = shared;
    drop((local, theirs));
    assert_eq!(get(&world.acme, "k").await.expect("it is there"), data);
    // To the disk, from where a process had written.
    world
        .acme
        .relocate(&name("k"))
        .await
        .expect("there is room");
    assert_eq!(get(&world.acme, "k").await.expect("it is there"), data);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_comes_to_its_own_memory_only() {
    let shared = shared().await;
    put(&shared.world.acme, "k", b"x").await;
    assert_eq!(kind(shared.theirs.open(&name("k"))), Kind::Denied);
    let mut writer = shared.theirs.writer();
    writer.append(b"y").expect("room");
    let theirs = shared.theirs.seal(writer, &name("k"), &Terms::default());
    assert_eq!(kind(theirs), Kind::Denied);
    assert_eq!(shared.bytes("k"), b"x");
    let path = shared.dir.path().join("memory.sock");
    for token in [&b""[..], &[0; 16], &[0; 4096]] {
        let stranger = Memory::connect(&path, token).expect_err("nobody has given it");
        assert_eq!(stranger.kind, Kind::Denied);
    }
    for odd in ["", "data", "data/", "/k", "DATA/k"] {
        let given = attached(&shared.world.acme).await;
        let memory = Memory::connect(&path, &given.token.0).expect("it is let in");
        let opened = memory.open(odd.as_bytes()).expect_err("no name");
        assert_eq!(opened.kind, Kind::Invalid, "{odd}");
    }
    shared.world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_once() {
    let shared = shared().await;
    let agent = &shared.dir.path().join("memory.sock");
    let given = attached(&shared.world.acme).await;
    let first = Memory::connect(agent, &given.token.0);
    first.expect("it was given");
    let second = Memory::connect(agent, &given.token.0).expect_err("it was used");
    assert_eq!(second.kind, Kind::Denied);
    // So many are kept, and no more.
    let old = attached(&shared.world.acme).await;
    for _ in 0..64 {
        attached(&shared.world.acme).await;
    }
    let forgotten = Memory::connect(agent, &old.token.0).expect_err("it is too old");
    assert_eq!(forgotten.kind, Kind::Denied);
    shared.world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_memory_is_read_by_the_protocol_and_comes_back() {
    let shared = shared().await;
    let acme = &shared.world.acme;
    let data = noise(4 << 20, 3);
    // Twice as much as there is memory, through the hands of one process that may have an eighth of it at once.
    for n in 0..32 {
        let name = name(&format!("{n:02}"));
        let put = shared.local.put(&name, data.clone(), Terms::default());
        put.await.expect("there is room on the disk");
    }
    assert!(shared.open("00").expect("it is there").is_none());
    assert_eq!(get(acme, "00").await.expect("it is there"), data);
    // When there is room, it comes back.
    for key in ["29", "30", "31"] {
        let deleted = acme.delete(&name(key), Precondition::None).await;
        deleted.expect("it is there");
    }
    let store = shared.world.store.clone();
    let maintained = rt::blocking(move || store.maintain()).await;
    maintained.expect("a thread").expect("there is room");
    assert_eq!(shared.bytes("00"), data);
    shared.world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_only_so_many_processes_and_they_write_only_so_much() {
    let shared = shared().await;
    let path = shared.dir.path().join("memory.sock");
    let mut processes = Vec::new();
    let refused = loop {
        let given = attached(&shared.world.acme).await;
        match Memory::connect(&path, &given.token.0) {
            Ok(process) => processes.push(process),
            Err(error) => break error,
        }
    };
    // One was there before.
    assert_eq!((processes.len(), refused.kind), (127, Kind::Exhausted));
    shared.world.other.attach().await.expect("it has its own");
    let most = shared.local.object_bytes_max();
    assert_eq!(most, ARENA_BYTES / 8);
    let long = noise(usize::try_from(most).expect("little") + 1, 1);
    let put = shared.local.put(&name("k"), long, Terms::default()).await;
    assert_eq!(kind(put), Kind::Exhausted);
    assert_eq!(kind(shared.open("k")), Kind::NotFound);
    shared.world.service.stop().await;
}

#[tokio::test]
async fn a_node_that_shares_nothing_says_so() {
    let world = world().await;
    assert_eq!(kind(world.acme.attach().await), Kind::Unavailable);
    world.service.stop().await;
}
