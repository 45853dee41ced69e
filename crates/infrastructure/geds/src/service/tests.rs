//! Whole nodes in one process, over real sockets.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::client::{Client, Tls};
use crate::index::{BucketName, Class, Folder, Key, Name, Precondition, Prefix, Residency};
use crate::store::Terms;
use crate::users;

const PATIENCE: Duration = Duration::from_secs(60);

fn name(key: &str) -> Name {
    Name {
        bucket: bucket(),
        key: Key::new(key).expect("a key"),
    }
}

fn bucket() -> BucketName {
    BucketName::new("data").expect("a bucket")
}

struct World {
    dir: TempDir,
    acme: Credentials,
    owner: Option<Service>,
    members: Vec<Service>,
}

async fn start(config: Config) -> Result<Service> {
    let deps = Deps {
        metrics: telemetry::Metrics::new(),
        health: telemetry::Health::starting("starting"),
    };
    super::start(config, deps).await
}

fn config(dir: &Path, node: u32, index: Option<SocketAddr>) -> Config {
    let mut config = Config {
        dir: dir.join(format!("node-{node}")),
        users: Some(dir.join("users")),
        site: index.map(|index| config::Site {
            index,
            node,
            credentials: dir.join("peer.ini"),
            address: None,
        }),
        ..Config::default()
    };
    config.memory.limit = ids::ByteSize(64 << 20);
    config.disk.segment = ids::ByteSize(4 << 20);
    config.log.segment = ids::ByteSize(4 << 20);
    config
}

/// Who may use the nodes that are in a directory, and a user.
fn admit(dir: &Path) -> Credentials {
    let users = dir.join("users");
    let acme = users::add(&users, "acme").expect("a user").ini("here");
    let peer = users::add_peer(&users).expect("a credential");
    peer.write(&dir.join("peer.ini"), "here").expect("written");
    Credentials::parse(&acme).expect("credentials")
}

impl World {
    async fn new(n_members: u32) -> Self {
        let dir = TempDir::new().expect("a directory");
        let acme = admit(dir.path());
        let owner = start(config(dir.path(), 1, None)).await.expect("an owner");
        let mut world = Self {
            acme,
            members: Vec::new(),
            owner: Some(owner),
            dir,
        };
        for node in 2..2 + n_members {
            world.add(node).await;
        }
        let owner = world.client(0).await;
        owner.create_bucket(&bucket()).await.expect("made");
        world
    }

    fn index(&self) -> SocketAddr {
        self.owner.as_ref().expect("there is one").node
    }

    async fn add(&mut self, node: u32) {
        let index = self.index();
        let member = start(config(self.dir.path(), node, Some(index))).await;
        let member = member.expect("a member");
        until_live(&member).await;
        self.members.push(member);
    }

    /// Of the owner, or of a member.
    fn node(&self, n: usize) -> &Service {
        match n {
            0 => self.owner.as_ref().expect("there is one"),
            n => &self.members[n - 1],
        }
    }

    async fn client(&self, n: usize) -> Client {
        let client = Client::connect(self.node(n).node, &self.acme, None).await;
        client.expect("connected")
    }

    async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for n in 0..=self.members.len() {
            clients.push(self.client(n).await);
        }
        clients
    }

    async fn stop(mut self) -> TempDir {
        for member in self.members.drain(..) {
            member.stop().await.expect("stopped");
        }
        let owner = self.owner.take().expect("there is one");
        owner.stop().await.expect("stopped");
        self.dir
    }
}

async fn until_live(node: &Service) {
    until(async || node.store().live().is_ok()).await;
}

/// Looks again and again.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it comes to that");
}

async fn put(client: &Client, key: &str, text: &str, class: Class) {
    let data = Bytes::copy_from_slice(text.as_bytes());
    let put = client.put(&name(key), data, class, Terms::default()).await;
    put.expect("put");
}

async fn get(client: &Client, key: &str) -> crate::client::Result<Bytes> {
    client
        .get(&name(key), 64 << 20)
        .await
        .map(|(_, bytes)| bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_at_one_node_is_got_at_all_and_never_stale() {
    let world = World::new(2).await;
    let clients = world.clients().await;
    let mut n = 0;
    for class in [Class::Ephemeral, Class::Durable] {
        for writer in &clients {
            for key in ["a", "b"] {
                n += 1;
                let text = format!("{key} {n}");
                put(writer, key, &text, class).await;
                for reader in &clients {
                    assert_eq!(get(reader, key).await.expect("it is there"), text);
                }
            }
        }
    }
    let large =
        Bytes::from_iter((0..5_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]));
    let (writer, name_of) = (&clients[1], name("large"));
    let put_large = writer.put(&name_of, large.clone(), Class::Durable, Terms::default());
    put_large.await.expect("put");
    for reader in &clients {
        assert_eq!(get(reader, "large").await.expect("it is there"), large);
    }
    let status = clients[2].status(&name("large")).await.expect("known");
    let copies = status.placement.copies().to_vec();
    assert_eq!(copies, [Residency::Disk(NodeId(2))]);
    world.stop().await;
}

/// Readers at all nodes go on while the writer goes from node to node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_is_behind_what_was_acknowledged_before_it_began() {
    const ROUNDS: u64 = 200;
    let world = World::new(2).await;
    let clients = world.clients().await;
    let acknowledged = AtomicU64::new(0);
    put(&clients[0], "n", "0", Class::Ephemeral).await;
    let write = async {
        for n in 1..=ROUNDS {
            let writer = &clients[usize::try_from(n % 3).expect("few")];
            let class = match n % 5 {
                0 => Class::Durable,
                _ => Class::Ephemeral,
            };
            put(writer, "n", &n.to_string(), class).await;
            acknowledged.store(n, Ordering::SeqCst);
        }
    };
    let read = |reader: &Client| {
        let (reader, acknowledged) = (reader.clone(), &acknowledged);
        async move {
            let mut n_reads = 0;
            loop {
                let least = acknowledged.load(Ordering::SeqCst);
                let found = get(&reader, "n").await.expect("it is always there");
                let found: u64 = String::from_utf8_lossy(&found).parse().expect("a number");
                assert!(
                    found >= least,
                    "{found} is read, but {least} was acknowledged"
                );
                n_reads += 1;
                if least == ROUNDS {
                    return n_reads;
                }
            }
        }
    };
    let reads = futures_util::future::join_all(clients.iter().map(read));
    let ((), n_reads) = tokio::join!(write, reads);
    assert!(n_reads.iter().all(|n: &u64| *n > 10), "{n_reads:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_all_nodes_are_decided_once() {
    let world = World::new(2).await;
    let clients = world.clients().await;
    let absent = || Terms {
        when: Precondition::Absent,
        ..Terms::default()
    };
    for round in 0..20 {
        let name = name(&format!("round-{round}"));
        let puts = clients
            .iter()
            .map(|client| client.put(&name, Bytes::from_static(b"x"), Class::Ephemeral, absent()));
        let puts = futures_util::future::join_all(puts).await;
        let n_done = puts.iter().filter(|put| put.is_ok()).count();
        assert_eq!(n_done, 1, "{puts:?}");
        for put in puts {
            assert!(put.is_ok() || put.is_err_and(|error| error.kind == Kind::Conflict));
        }
    }
    // Of one member, many at a time.
    let many = (0..100).map(|n| {
        let key = format!("many-{n}");
        let client = &clients[1];
        async move { put(client, &key, &key, Class::Durable).await }
    });
    futures_util::future::join_all(many).await;
    let [from, to] = ["many-", "moved-"].map(|prefix| Folder {
        bucket: bucket(),
        prefix: Prefix::new(prefix).expect("a prefix"),
    });
    let renamed = clients[2].rename_prefix([&from, &to], Precondition::Absent);
    renamed.await.expect("renamed");
    for client in &clients {
        assert_eq!(get(client, "moved-99").await.expect("there"), "many-99");
        assert!(get(client, "many-99").await.is_err());
        let (page, _) = client.list(&to, "", 1000, None).await.expect("listed");
        assert_eq!(page.items.len(), 100);
    }
    clients[1]
        .delete(&name("moved-0"), Precondition::None)
        .await
        .expect("deleted");
    assert!(get(&clients[0], "moved-0").await.is_err());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_ends_takes_what_only_it_had_and_brings_its_disk_back() {
    let mut world = World::new(2).await;
    let clients = world.clients().await;
    put(&clients[1], "brief", "brief", Class::Ephemeral).await;
    put(&clients[1], "lasting", "lasting", Class::Durable).await;
    put(&clients[2], "other", "other", Class::Ephemeral).await;
    let member = world.members.remove(0);
    member.stop().await.expect("stopped");
    for client in [&clients[0], &clients[2]] {
        for key in ["brief", "lasting"] {
            let error = get(client, key).await.expect_err("it is lost");
            assert_eq!(error.kind, Kind::Lost, "{error}");
        }
        assert_eq!(get(client, "other").await.expect("it is there"), "other");
    }
    world.add(2).await;
    for client in [&clients[0], &clients[2]] {
        assert_eq!(get(client, "lasting").await.expect("it is back"), "lasting");
        let error = get(client, "brief").await.expect_err("it is lost");
        assert_eq!(error.kind, Kind::Lost);
    }
    put(&clients[0], "brief", "again", Class::Ephemeral).await;
    let again = world.client(2).await;
    assert_eq!(get(&again, "brief").await.expect("anew"), "again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_back_to_an_owner_that_was_started_again() {
    let mut world = World::new(1).await;
    let member = world.client(1).await;
    put(&member, "durable", "durable", Class::Durable).await;
    put(&member, "kept", "kept", Class::Ephemeral).await;
    let index = world.index();
    let owner = world.owner.take().expect("there is one");
    owner.stop().await.expect("stopped");
    let live = world.members[0].store();
    until(async || live.live().is_err()).await;
    let error = get(&member, "durable").await.expect_err("who knows");
    assert_eq!(error.kind, Kind::Unavailable);
    let mut again = config(world.dir.path(), 1, None);
    again.node.listen = index;
    world.owner = Some(start(again).await.expect("an owner"));
    until_live(&world.members[0]).await;
    let owner = world.client(0).await;
    for client in [&owner, &member] {
        for key in ["durable", "kept"] {
            assert_eq!(get(client, key).await.expect("it is there"), key);
        }
    }
    put(&owner, "kept", "new", Class::Ephemeral).await;
    assert_eq!(get(&member, "kept").await.expect("it is there"), "new");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_no_nodes_and_nodes_no_tenants() {
    let world = World::new(1).await;
    let acme = world.client(0).await;
    put(&acme, "a", "a", Class::Ephemeral).await;
    let member = (NodeId(9), ids::Epoch(9));
    let leave = crate::wire::Site::Leave { member };
    let denied = acme.tell::<()>(leave.clone()).await.expect_err("a tenant");
    assert_eq!(denied.kind, Kind::Denied);
    let text = fs::read_to_string(world.dir.path().join("peer.ini")).expect("there");
    let credentials = Credentials::parse(&text).expect("credentials");
    let peer = Client::connect(world.index(), &credentials, None).await;
    let peer = peer.expect("connected");
    let denied = get(&peer, "a").await.expect_err("a node");
    assert_eq!(denied.kind, Kind::Denied);
    let fenced = peer.tell::<()>(leave).await.expect_err("nobody knows it");
    assert_eq!(fenced.kind, Kind::Fenced);
    // It asks for what another tenant has.
    let (entry, _) = acme.get(&name("a"), 10).await.expect("there");
    for (tenant, expected) in [("other", Some(Kind::Denied)), ("acme", None)] {
        let tenant = tenant.parse().expect("a tenant");
        let held = peer.hold(&entry, &tenant, 0..1).await;
        assert_eq!(held.err().map(|error| error.kind), expected);
    }
    // A second one with a number that is taken waits for the first.
    let second = tempfile::tempdir().expect("a directory");
    let mut config = config(world.dir.path(), 2, Some(world.index()));
    config.dir = second.path().to_owned();
    let second = start(config).await.expect("it starts");
    assert!(second.store().live().is_err());
    second.stop().await.expect("stopped");
    assert!(world.members[0].store().live().is_ok());
    world.stop().await;
}

#[tokio::test]
async fn a_directory_stays_what_it_is() {
    let world = World::new(1).await;
    let index = world.index();
    let dir = world.stop().await;
    for (node, index) in [(1, Some(index)), (2, None)] {
        let mut config = config(dir.path(), node, index);
        if let Some(site) = &mut config.site {
            site.node = 3;
        }
        let error = start(config).await.expect_err("it is of another kind");
        assert_eq!(error.kind, Kind::Invalid, "{error}");
    }
}

/// Writes a certificate for this machine, which is its own authority, and says who trusts it.
fn issue(dir: &Path, name: &str) -> Tls {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("issued");
    let [certificate, key] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    fs::write(&certificate, issued.cert.pem()).expect("written");
    fs::write(key, issued.signing_key.serialize_pem()).expect("written");
    Tls {
        config: auth::anonymous_client(&issued.cert.pem()).expect("a certificate"),
        name: "127.0.0.1".to_owned(),
    }
}

#[tokio::test]
async fn nodes_with_certificates_speak_tls() {
    let dir = TempDir::new().expect("a directory");
    let acme = admit(dir.path());
    let ours = issue(dir.path(), "ours");
    let others = issue(dir.path(), "others");
    let secure = |node, index| Config {
        tls: Some(config::Tls {
            certificate: dir.path().join("ours.pem"),
            key: dir.path().join("ours.key"),
            authority: Some(dir.path().join("ours.pem")),
        }),
        ..config(dir.path(), node, index)
    };
    let owner = start(secure(1, None)).await.expect("an owner");
    let index = owner.node_tls.expect("it has a certificate");
    let member = start(secure(2, Some(index))).await.expect("a member");
    until_live(&member).await;
    let at = [index, member.node_tls.expect("it has a certificate")];
    let connect = async |addr| Client::connect(addr, &acme, Some(&ours)).await;
    let first = connect(at[0]).await.expect("it is let in");
    let second = connect(at[1]).await.expect("it is let in");
    first.create_bucket(&bucket()).await.expect("made");
    put(&second, "k", "there", Class::Ephemeral).await;
    // From the member.
    assert_eq!(get(&first, "k").await.expect("it is there"), "there");
    assert_eq!(owner.store().stats().site.received_bytes, 5);
    // Neither believes a certificate of somebody else, nor speaks in the clear there.
    let fooled = Client::connect(index, &acme, Some(&others)).await;
    assert_eq!(
        fooled.expect_err("it is not theirs").kind,
        Kind::Unavailable
    );
    let clear = Client::connect(index, &acme, None).await;
    assert_eq!(clear.expect_err("it is TLS").kind, Kind::Unavailable);
    member.stop().await.expect("stopped");
    owner.stop().await.expect("stopped");
}
