//! Agent and clients, in one process: the clients are threads of it, but all that they share goes through sockets and descriptors.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use geds_core::extents::{Extent, PAGE_BYTES, SegmentNo};
use geds_core::{Error, Kind, Result};
use proptest::prelude::*;
use tempfile::TempDir;

use super::lent::{SLOTS, WORDS, word_of};
use super::{Admission, ClientNo, Found, Keeper, Share};
use crate::domain::BOARD_WORDS;
use crate::memory::{Home, Memory, Pages, Words};
use crate::pins;
use crate::wire::{self, Place, Reply, Request, Seal, Tell, VERSION};
use crate::{Arena, Client, Config, Domain, Object, socket};

const PAGE: usize = 4096;
const SEGMENT: usize = 256 * PAGE;
const LONG: Duration = Duration::from_secs(30);

/// A token, and what is called so in its domain.
type Key = (Vec<u8>, Vec<u8>);

/// Knows names, in one domain for each token that is two bytes long.
#[derive(Debug)]
struct Names {
    arena: Arena,
    domains: Mutex<BTreeMap<Vec<u8>, Domain>>,
    members: Mutex<BTreeMap<ClientNo, Vec<u8>>>,
    named: Mutex<BTreeMap<Key, Found>>,
    quota_bytes: u64,
    left: SyncSender<ClientNo>,
}

impl Names {
    fn domain(&self, token: &[u8]) -> Domain {
        let mut domains = self.domains.lock().expect("nobody panics");
        let domain = domains
            .entry(token.to_vec())
            .or_insert_with(|| self.arena.domain(u64::MAX).expect("there is memory"));
        domain.clone()
    }

    fn key(&self, client: ClientNo, name: &[u8]) -> Key {
        let members = self.members.lock().expect("nobody panics");
        (members[&client].clone(), name.to_vec())
    }

    fn object(&self, token: &[u8], name: &[u8]) -> Option<Object> {
        let named = self.named.lock().expect("nobody panics");
        let found = named.get(&(token.to_vec(), name.to_vec()));
        found.map(|found| found.object.clone())
    }

    fn set(&self, key: Key, found: Option<Found>) {
        let mut named = self.named.lock().expect("nobody panics");
        let before = match found {
            Some(found) => named.insert(key, found),
            None => named.remove(&key),
        };
        if let Some(before) = before {
            before.object.revoke();
        }
    }

    fn forget(&self, token: &[u8], name: &[u8]) {
        self.set((token.to_vec(), name.to_vec()), None);
        self.domain(token).touch(name);
    }
}

impl Keeper for Names {
    fn admit(&self, client: ClientNo, _uid: u32, token: &[u8]) -> Result<Admission> {
        if token.len() != 2 {
            return Err(Error::new(Kind::Conflict, "who are you?"));
        }
        let mut members = self.members.lock().expect("nobody panics");
        members.insert(client, token.to_vec());
        Ok(Admission {
            domain: self.domain(token),
            quota_bytes: self.quota_bytes,
            unsealed_bytes_max: 8 * SEGMENT as u64,
        })
    }

    fn sealed(
        &self,
        client: ClientNo,
        name: &[u8],
        meta: &[u8],
        object: Object,
    ) -> Result<Vec<u8>> {
        if name == b"refused" {
            return Err(Error::new(Kind::Conflict, "not this name"));
        }
        let answer = object.len().to_le_bytes().to_vec();
        let meta = meta.to_vec();
        self.set(self.key(client, name), Some(Found { object, meta }));
        Ok(answer)
    }

    fn find(&self, client: ClientNo, name: &[u8]) -> Result<Found> {
        let key = self.key(client, name);
        let named = self.named.lock().expect("nobody panics");
        let found = named.get(&key).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, "there is no such name"))
    }

    fn ask(&self, _client: ClientNo, question: &[u8]) -> Result<Vec<u8>> {
        Ok(question.iter().rev().copied().collect())
    }

    fn left(&self, client: ClientNo) {
        self.members.lock().expect("nobody panics").remove(&client);
        self.left.send(client).expect("the test waits");
    }
}

struct Node {
    names: Arc<Names>,
    share: Share,
    left: Receiver<ClientNo>,
    path: PathBuf,
    _folder: TempDir,
}

impl Node {
    fn start(n_segments: usize, quota_bytes: usize) -> Self {
        let config = Config {
            // There is some room for what is not pages of objects, but not for a segment.
            limit_bytes: (n_segments * SEGMENT + SEGMENT * 3 / 4) as u64,
            segment_bytes: SEGMENT as u64,
            spare_segments: 0,
        };
        let (send, left) = sync_channel(64);
        let names = Arc::new(Names {
            arena: Arena::start(&config).expect("it starts"),
            domains: Mutex::default(),
            members: Mutex::default(),
            named: Mutex::default(),
            quota_bytes: quota_bytes as u64,
            left: send,
        });
        let folder = tempfile::tempdir().expect("there is a folder");
        let path = folder.path().join("socket");
        let keeper: Arc<dyn Keeper> = Arc::<Names>::clone(&names);
        Self {
            share: Share::start(&path, keeper, 8).expect("it listens"),
            names,
            left,
            path,
            _folder: folder,
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path, b"me").expect("it is admitted")
    }

    fn object(&self, name: &[u8]) -> Object {
        self.share.catch_up(&self.names.domain(b"me"));
        self.names.object(b"me", name).expect("it is there")
    }

    fn wait_for_one_to_leave(&self) {
        self.left.recv_timeout(LONG).expect("the session ends");
    }

    /// All pages can be had: nothing has leaked. Objects of a client that is gone may just be copied to a better place.
    fn check_all_free(&self, n_segments: usize) {
        let mut writer = self.names.domain(b"me").writer();
        wait_until(|| writer.reserve((n_segments * SEGMENT) as u64).is_ok());
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begin = rt::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG);
        std::thread::yield_now();
    }
}

fn put(client: &Client, name: &[u8], bytes: &[u8]) -> Result<()> {
    let mut writer = client.writer();
    writer.append(bytes)?;
    client.seal(writer, name, b"meta")
}

fn get(client: &Client, name: &[u8]) -> Result<Vec<u8>> {
    let (opened, _) = client.open(name)?;
    Ok(opened.views().flat_map(|view| view.to_vec()).collect())
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let byte = |n: usize| ((seed * 131 + n) * 2_654_435_761).to_le_bytes()[1];
    (0..len).map(byte).collect()
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind)
}

#[test]
fn what_one_client_seals_another_reads_where_it_lies() {
    let node = Node::start(4, usize::MAX >> 1);
    let (writer, reader) = (node.client(), node.client());
    let bytes = pattern(1, 5 * PAGE + 3);
    put(&writer, b"a", &bytes).expect("there is room");
    for _ in 0..2 {
        let (opened, meta) = reader.open(b"a").expect("it is there");
        assert_eq!(*meta, *b"meta");
        let view = opened.view().expect("it is in one piece");
        let place = view.as_ptr();
        let bytes_of_view = Bytes::from(view);
        assert_eq!((bytes_of_view.as_ptr(), &*bytes_of_view), (place, &*bytes));
    }
    assert_eq!(get(&writer, b"a").expect("its own, too"), bytes);
    let object = node.object(b"a");
    assert!(!object.is_settled());
    assert_eq!(node.names.arena.copied_bytes(), 0);
    let mut part = [0; 100];
    assert_eq!(object.read_at(PAGE as u64, &mut part).ok(), Some(100));
    assert_eq!(part, bytes[PAGE..PAGE + 100]);
    // In the agent it is copied once, since its writer lives.
    let opened = object.open().expect("it is what was sealed");
    assert_eq!(opened.view().as_deref(), Some(&*bytes));
    assert!(object.is_settled());
    assert_eq!(get(&reader, b"a").expect("it is where it was lent"), bytes);
}

#[test]
fn objects_of_the_agent_and_of_several_pieces_are_read_in_place() {
    let node = Node::start(6, usize::MAX >> 1);
    let domain = node.names.domain(b"me");
    let bytes = pattern(2, 2 * SEGMENT + 77);
    let mut writer = domain.writer();
    writer.append(&bytes).expect("there is room");
    let object = domain.seal(writer).expect("there is room");
    let meta = Vec::new();
    node.names.set(
        (b"me".to_vec(), b"b".to_vec()),
        Some(Found { object, meta }),
    );
    let client = node.client();
    let (opened, _) = client.open(b"b").expect("it is there");
    assert_eq!(opened.views().count(), 3);
    assert_eq!(get(&client, b"b").expect("it is there"), bytes);
    put(&client, b"c", &bytes[..SEGMENT + 1]).expect("there is room");
    assert_eq!(
        get(&node.client(), b"c").expect("it is there"),
        bytes[..SEGMENT + 1]
    );
}

#[test]
fn a_name_that_is_sealed_again_is_never_read_as_it_was() {
    let node = Node::start(8, usize::MAX >> 1);
    let (writer, reader) = (node.client(), node.client());
    for n in 0..500_u32 {
        put(&writer, b"same", &n.to_le_bytes()).expect("there is room");
        for _ in 0..2 {
            assert_eq!(
                get(&reader, b"same").ok().as_deref(),
                Some(&n.to_le_bytes()[..])
            );
        }
    }
    node.names.forget(b"me", b"same");
    assert_eq!(kind(reader.open(b"same")), Some(Kind::NotFound));
}

#[test]
fn more_is_told_than_fits_a_socket() {
    let node = Node::start(8, usize::MAX >> 1);
    let client = node.client();
    for n in 0..2000_u32 {
        put(&client, &(n % 100).to_le_bytes(), &n.to_le_bytes()).expect("there is room");
    }
    client.catch_up().expect("nothing is refused");
    for n in 1900..2000_u32 {
        let found = get(&client, &(n % 100).to_le_bytes());
        assert_eq!(found.ok().as_deref(), Some(&n.to_le_bytes()[..]));
    }
}

#[test]
fn above_the_quota_objects_are_copied_and_below_it_they_keep_their_pages() {
    let node = Node::start(3, 4 * PAGE);
    let (writer, reader) = (node.client(), node.client());
    let (small, large) = (pattern(3, 3 * PAGE), pattern(4, 5 * PAGE));
    put(&writer, b"small", &small).expect("there is room");
    put(&writer, b"other", &small[1..]).expect("there is room");
    put(&writer, b"large", &large).expect("there is room");
    let held = reader.open(b"small").expect("it is there").0;
    // The first is open, so it cannot be given back for the second.
    let in_place = reader.open_in_place(b"other").expect("it is there");
    assert!(in_place.is_none());
    let copied = reader.open(b"other").expect("it is copied").0;
    assert_eq!(get(&reader, b"large").ok(), Some(large));
    for name in [&b"small"[..], b"other", b"large"] {
        node.names.forget(b"me", name);
    }
    drop(writer);
    node.wait_for_one_to_leave();
    // One segment is kept by what is held, and the client has no other.
    node.check_all_free(2);
    assert_eq!(held.view().as_deref(), Some(&small[..]));
    assert_eq!(copied.view().as_deref(), Some(&small[1..]));
    drop((held, copied));
    drop(reader);
    node.wait_for_one_to_leave();
    node.check_all_free(3);
}

#[test]
fn what_is_not_open_is_given_back_for_something_else() {
    let node = Node::start(3, 4 * PAGE);
    let (writer, reader) = (node.client(), node.client());
    for n in 0..8_u8 {
        put(&writer, &[n], &[n; 2 * PAGE]).expect("there is room");
    }
    for n in (0..8_u8).chain(0..8) {
        let (opened, _) = reader.open(&[n]).expect("it is there");
        let view = opened.view().expect("it is in one piece");
        assert_eq!(*view, [n; 2 * PAGE]);
    }
}

#[test]
fn a_client_hears_of_limits_and_refusals() {
    let node = Node::start(2, 0);
    let client = node.client();
    assert_eq!(
        kind(put(&client, b"x", &vec![1; 3 * SEGMENT])),
        Some(Kind::Exhausted)
    );
    put(&client, b"x", &vec![1; 2 * SEGMENT]).expect("there is as much");
    assert_eq!(kind(put(&client, b"y", &[1])), Some(Kind::Exhausted));
    node.names.forget(b"me", b"x");
    put(&client, b"y", &vec![2; SEGMENT]).expect("there is room again");
    put(&client, b"refused", &[1]).expect("that is not known yet");
    assert_eq!(kind(client.catch_up()), Some(Kind::Conflict));
    let mut writer = client.writer();
    writer.append(&[1; 10]).expect("there is room");
    let answer = client.seal_and_wait(writer, b"z", &[]);
    assert_eq!(answer.ok(), Some(10_u64.to_le_bytes().to_vec()));
    assert_eq!(
        kind(client.seal_and_wait(client.writer(), b"refused", &[])),
        Some(Kind::Conflict)
    );
    assert_eq!(client.ask(b"abc").ok().as_deref(), Some(&b"cba"[..]));
    assert_eq!(
        kind(client.seal(client.writer(), &[0; 5000], &[])),
        Some(Kind::Invalid)
    );
    assert_eq!(
        kind(Client::connect(&node.path, b"who")),
        Some(Kind::Conflict)
    );
}

#[test]
fn clients_of_one_domain_do_not_see_those_of_another() {
    let node = Node::start(4, usize::MAX >> 1);
    let ours = node.client();
    let theirs = Client::connect(&node.path, b"yo").expect("it is admitted");
    put(&ours, b"a", b"ours").expect("there is room");
    assert_eq!(kind(theirs.open(b"a")), Some(Kind::NotFound));
    // If the keeper of names makes a mistake, the arena still does not give it out.
    let object = node.object(b"a");
    let meta = Vec::new();
    node.names.set(
        (b"yo".to_vec(), b"a".to_vec()),
        Some(Found {
            object: object.clone(),
            meta: meta.clone(),
        }),
    );
    assert_eq!(kind(theirs.open(b"a")), Some(Kind::Internal));
    let copy = node
        .names
        .domain(b"yo")
        .copy(&object)
        .expect("there is room");
    node.names.set(
        (b"yo".to_vec(), b"a".to_vec()),
        Some(Found { object: copy, meta }),
    );
    assert_eq!(get(&theirs, b"a").ok().as_deref(), Some(&b"ours"[..]));
}

#[test]
fn a_client_that_ends_leaves_what_it_has_sealed_and_nothing_else() {
    let node = Node::start(4, usize::MAX >> 1);
    let client = node.client();
    put(&client, b"kept", &pattern(5, PAGE)).expect("there is room");
    let mut writer = client.writer();
    writer.append(&[1; 2 * SEGMENT]).expect("there is room");
    drop((writer, client));
    node.wait_for_one_to_leave();
    // Its segments are almost empty: what is left is copied to where it does not keep all of one.
    let object = node.object(b"kept");
    wait_until(|| object.is_settled());
    assert_eq!(get(&node.client(), b"kept").ok(), Some(pattern(5, PAGE)));
    node.wait_for_one_to_leave();
    drop(object);
    node.names.forget(b"me", b"kept");
    node.check_all_free(4);
}

/// Puts something else wherever it can.
fn fill(names: &Names) -> Vec<crate::Writer> {
    let fill_one = || {
        let mut writer = names.domain(b"me").writer();
        writer.append(&[0xff; PAGE]).ok().map(|()| writer)
    };
    std::iter::from_fn(fill_one).collect()
}

#[test]
fn what_is_read_stays_when_the_agent_ends_the_session() {
    let node = Node::start(3, usize::MAX >> 1);
    let (writer, reader) = (node.client(), node.client());
    for name in [b"a", b"b"] {
        put(&writer, name, &pattern(6, 5 * PAGE)).expect("there is room");
    }
    let held = reader.open(b"a").expect("it is there").0;
    get(&reader, b"b").expect("it is there");
    let sessions: Vec<_> = node.share.state.lock().by_no.values().cloned().collect();
    for session in &sessions {
        rustix::net::shutdown(&session.requests, rustix::net::Shutdown::Both).expect("it is open");
    }
    drop(sessions);
    // The other one reads.
    node.wait_for_one_to_leave();
    wait_until(|| kind(reader.catch_up()) == Some(Kind::Unavailable));
    for name in [b"a", b"b"] {
        node.names.forget(b"me", name);
    }
    let filled = fill(&node.names);
    assert_eq!(held.view().as_deref(), Some(&*pattern(6, 5 * PAGE)));
    // What was known is not opened as it was.
    for name in [b"a", b"b"] {
        assert_eq!(kind(reader.open(name)), Some(Kind::Unavailable));
    }
    // What it does not read any more is free, although it lives.
    drop((filled, held));
    node.wait_for_one_to_leave();
    node.check_all_free(2);
    drop((reader, writer));
    node.check_all_free(3);
}

#[test]
fn what_is_read_stays_when_the_agent_ends() {
    let node = Node::start(3, usize::MAX >> 1);
    let client = node.client();
    put(&client, b"a", &pattern(6, 5 * PAGE)).expect("there is room");
    let held = client.open(b"a").expect("it is there").0;
    let Node {
        share,
        names,
        _folder,
        ..
    } = node;
    drop(share);
    names.forget(b"me", b"a");
    let _filled = fill(&names);
    assert_eq!(held.view().as_deref(), Some(&*pattern(6, 5 * PAGE)));
    wait_until(|| kind(client.open(b"a")) == Some(Kind::Unavailable));
}

/// An agent of one name, which is killed: its sockets are closed, and its words stay as they were.
fn be_killed(listener: std::os::fd::OwnedFd, until: Receiver<()>) {
    let socket = rustix::net::accept(&listener).expect("a client");
    let mut buffer = vec![0; socket::PACKET_BYTES_MAX];
    let (words, words_fd) = Words::create(WORDS).expect("there is memory");
    let (_board, board_fd) = Words::create(BOARD_WORDS).expect("there is memory");
    let (_told, tell) = socket::pair().expect("a pair");
    words[word_of(0)].store(pins::NOT_LENT, Ordering::SeqCst);
    assert!(pins::lend(&words[word_of(0)], 1));
    let welcome = Reply::Welcome {
        version: VERSION,
        segment_bytes: SEGMENT as u64,
        n_slots: SLOTS,
        quota_bytes: 0,
    };
    let opened = Reply::Opened {
        slot: 0,
        generation: 1,
        len: 0,
        meta: b"old",
        places: Vec::new(),
        segments: Vec::new(),
    };
    let shared = [tell.as_fd(), words_fd.as_fd(), board_fd.as_fd()];
    for (reply, fds) in [(welcome, &shared[..]), (opened, &[])] {
        socket::recv_with_fds(&socket, &mut buffer).expect("a request");
        socket::send(&socket, [&wire::packet(&reply), &[]], fds).expect("it is heard");
    }
    drop(tell);
    until.recv().expect("the test ends it");
}

#[test]
fn what_was_known_is_not_opened_when_the_agent_was_killed() {
    let folder = tempfile::tempdir().expect("there is a folder");
    let path = folder.path().join("socket");
    let listener = socket::listen(&path).expect("it listens");
    let (kill, killed) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| be_killed(listener, killed));
        let client = Client::connect(&path, b"me").expect("it is admitted");
        // The second time the agent is not asked.
        for _ in 0..2 {
            let (opened, meta) = client.open(b"a").expect("it is there");
            assert_eq!((opened.len(), &*meta), (0, &b"old"[..]));
        }
        kill.send(()).expect("it waits");
        wait_until(|| kind(client.open(b"a")) == Some(Kind::Unavailable));
    });
}

#[test]
fn all_clients_are_lent_half_of_the_memory() {
    let node = Node::start(4, usize::MAX >> 1);
    let domain = node.names.arena.domain(2 * SEGMENT as u64);
    let mut domains = node.names.domains.lock().expect("nobody panics");
    domains.insert(b"li".to_vec(), domain.expect("there is memory"));
    drop(domains);
    let clients = [(); 2].map(|()| Client::connect(&node.path, b"li").expect("it is admitted"));
    for name in [b"a", b"b"] {
        put(&clients[0], name, &pattern(1, SEGMENT / 2)).expect("there is room");
    }
    let lent = |client: &Client, name| client.open_in_place(name).expect("it is there");
    let held = [lent(&clients[0], b"a"), lent(&clients[0], b"b")];
    assert!(held.iter().all(Option::is_some));
    // The other one has a quota of its own, and gets a copy.
    assert!(lent(&clients[1], b"a").is_none());
    assert_eq!(get(&clients[1], b"a").ok(), Some(pattern(1, SEGMENT / 2)));
    let [first, second] = clients;
    drop((held, first));
    node.wait_for_one_to_leave();
    assert!(lent(&second, b"a").is_some());
}

#[test]
fn an_object_without_content_is_refused_when_there_is_no_room() {
    let node = Node::start(1, usize::MAX >> 1);
    let client = node.client();
    let domain = node.names.domain(b"me");
    let mut charges = Vec::new();
    for bytes in (0..=30).rev().map(|n| 1 << n) {
        while let Ok(charge) = domain.charge(bytes) {
            charges.push(charge);
        }
    }
    let sealed = client.seal_and_wait(client.writer(), b"empty", b"");
    assert_eq!(kind(sealed), Some(Kind::Exhausted));
    drop(charges);
    let sealed = client.seal_and_wait(client.writer(), b"empty", b"");
    sealed.expect("it is the same session, and there is room");
}

#[test]
fn there_are_only_so_many_clients() {
    let node = Node::start(1, 0);
    let clients: Vec<Client> = (0..8).map(|_| node.client()).collect();
    assert_eq!(
        kind(Client::connect(&node.path, b"me")),
        Some(Kind::Unavailable)
    );
    drop(clients);
    for _ in 0..8 {
        node.wait_for_one_to_leave();
    }
    node.client();
}

/// Bytes that tell whether they are what was written: a seed, and what follows from it.
fn self_evident(seed: usize) -> Vec<u8> {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend(pattern(seed, seed % (3 * PAGE)));
    bytes
}

fn is_self_evident(bytes: &[u8]) -> bool {
    let seed = bytes.first_chunk().map(|seed| usize::from_le_bytes(*seed));
    seed.is_some_and(|seed| bytes == self_evident(seed))
}

#[test]
fn threads_of_several_clients_and_the_agent_get_only_what_was_sealed() {
    let node = Node::start(6, 200 * PAGE);
    let clients = [node.client(), node.client()];
    let name = |n: usize| [u8::try_from(n % 20).expect("small")];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = &clients[thread % 2];
            scope.spawn(move || {
                let mut kept = std::collections::VecDeque::new();
                for n in (0..6000).map(|n| n * 7919 + thread) {
                    if n % 3 == 0 {
                        let put = put(client, &name(n), &self_evident(n));
                        assert!(matches!(kind(put), None | Some(Kind::Exhausted)));
                        continue;
                    }
                    match client.open(&name(n)) {
                        Ok((opened, _)) => kept.push_back(opened),
                        Err(error) => assert_eq!(error.kind, Kind::NotFound),
                    }
                    if kept.len() > 30 {
                        let opened = kept.pop_front().expect("there are some");
                        let bytes: Vec<u8> =
                            opened.views().flat_map(|view| view.to_vec()).collect();
                        assert!(is_self_evident(&bytes));
                    }
                }
            });
        }
        scope.spawn(|| {
            for n in (0..6000).map(|n| n * 104_729) {
                match node.names.object(b"me", &name(n)) {
                    Some(_) if n % 4 == 0 => node.names.forget(b"me", &name(n)),
                    Some(object) if n % 4 == 1 => match object.open() {
                        Ok(opened) => {
                            assert!(is_self_evident(&opened.view().expect("it is short")))
                        }
                        Err(error) => assert_eq!(error.kind, Kind::Exhausted),
                    },
                    _ => node.share.catch_up(&node.names.domain(b"me")),
                }
            }
        });
    });
    drop(clients);
    for _ in 0..2 {
        node.wait_for_one_to_leave();
    }
    (0..20).for_each(|n| node.names.forget(b"me", &name(n)));
    node.check_all_free(6);
}

#[test]
fn what_is_copied_to_a_better_place_is_lent_from_there() {
    let node = Node::start(2, usize::MAX >> 1);
    let (writer, reader) = (node.client(), node.client());
    put(&writer, b"a", &pattern(8, PAGE)).expect("there is room");
    drop(reader.open(b"a").expect("it is there"));
    node.object(b"a").settle().expect("there is room");
    let copied_bytes = node.names.arena.copied_bytes();
    assert_eq!(get(&reader, b"a").ok(), Some(pattern(8, PAGE)));
    assert_eq!(node.names.arena.copied_bytes(), copied_bytes);
    // Nothing is left where it was, although the reader has not closed its connection.
    put(&writer, b"b", &vec![1; SEGMENT]).expect("all of its segment is free");
}

/// A client that does as it likes.
struct Liar {
    requests: std::os::fd::OwnedFd,
    told: std::os::fd::OwnedFd,
    words: Words,
    buffer: Vec<u8>,
}

impl Liar {
    fn connect(node: &Node) -> Self {
        let requests = socket::connect(&node.path).expect("it connects");
        let hello = Request::Hello {
            version: VERSION,
            token: b"me",
        };
        send(&requests, &wire::packet(&hello));
        let mut buffer = vec![0; 1 << 16];
        let (_, fds) = socket::recv_with_fds(&requests, &mut buffer).expect("it is answered");
        let mut fds = fds.into_iter();
        let told = fds.next().expect("a socket");
        let words = Words::map(fds.next().expect("the words"), super::lent::WORDS);
        Self {
            requests,
            told,
            words: words.expect("they are mapped"),
            buffer,
        }
    }

    fn ask(&mut self, request: &Request<'_>) -> Option<Reply<'_>> {
        send(&self.requests, &wire::packet(request));
        let heard = socket::recv_with_fds(&self.requests, &mut self.buffer);
        match heard {
            Ok((packet, _)) if !packet.is_empty() => {
                wire::parse_first(packet).ok().map(|(reply, _)| reply)
            }
            _ => None,
        }
    }

    fn lease(&mut self) -> Place {
        match self.ask(&Request::Lease { least: 4, most: 4 }) {
            Some(Reply::Leased(place)) => place,
            other => unreachable!("{other:?}"),
        }
    }

    fn tell(&self, packet: &[u8]) {
        send(&self.told, packet);
        self.words[super::lent::TOLD].fetch_add(1, Ordering::SeqCst);
    }

    /// It hears nothing more.
    fn is_out(&mut self) -> bool {
        self.ask(&Request::CatchUp).is_none()
    }
}

fn send(socket: &std::os::fd::OwnedFd, packet: &[u8]) {
    // The agent may have closed it by now.
    let _gone = socket::send(socket, [packet, &[]], &[]);
}

fn seal_of(place: Place) -> Seal<'static> {
    Seal {
        name: b"lie",
        meta: &[],
        len: u64::from(place.pages) * PAGE_BYTES,
        places: vec![place],
        sums: vec![0],
    }
}

/// Says something to the agent, after which it hears nothing more, and nothing of it is left.
fn check_put_out(node: &Node, what: &str, lie: impl FnOnce(Place) -> Vec<u8>) {
    let mut liar = Liar::connect(node);
    let place = liar.lease();
    liar.tell(&lie(place));
    assert!(liar.is_out(), "{what}");
    node.wait_for_one_to_leave();
    drop(liar);
    node.check_all_free(2);
}

#[test]
fn a_client_that_lies_about_its_pages_is_put_out() {
    type Lie = fn(&mut Seal<'static>);
    let lies: &[(&str, Lie)] = &[
        ("another segment", |seal| seal.places[0].segment = 77),
        ("pages behind its own", |seal| seal.places[0].first += 1),
        ("pages behind all", |seal| seal.places[0].first = u32::MAX),
        ("pages twice", |seal| {
            seal.places[0].pages = 2;
            seal.places.push(seal.places[0]);
        }),
        ("no pages", |seal| {
            (seal.places[0].pages, seal.len) = (0, 0);
            seal.sums.clear();
        }),
        ("fewer pages than bytes", |seal| seal.len += 1),
        ("more pages than bytes", |seal| seal.len = PAGE_BYTES),
        ("more bytes than there are", |seal| seal.len = u64::MAX),
        ("no sums", |seal| seal.sums.clear()),
        ("a long name", |seal| seal.name = &[7; 5000]),
    ];
    let node = Node::start(2, usize::MAX >> 1);
    for (what, lie) in lies {
        check_put_out(&node, what, |place| {
            let mut seal = seal_of(place);
            lie(&mut seal);
            tell(seal)
        });
    }
}

#[test]
fn a_client_that_is_not_understood_is_put_out() {
    let node = Node::start(2, usize::MAX >> 1);
    check_put_out(&node, "nonsense", |_| vec![0xff; 100]);
    check_put_out(&node, "more than a packet", |_| vec![0; 1 << 17]);
    check_put_out(&node, "something behind", |place| {
        [tell(seal_of(place)), vec![0]].concat()
    });
}

fn tell(seal: Seal<'_>) -> Vec<u8> {
    wire::packet(&Tell::Seal(seal))
}

#[test]
fn requests_that_make_no_sense_are_refused_or_end_the_session() {
    let node = Node::start(1, usize::MAX >> 1);
    let mut liar = Liar::connect(&node);
    for request in [
        Request::Hello {
            version: VERSION,
            token: b"me",
        },
        Request::Open { name: &[0; 5000] },
        Request::Copy {
            name: b"nothing",
            position: 0,
        },
        Request::Lease { least: 0, most: 0 },
    ] {
        let is_refused = matches!(liar.ask(&request), Some(Reply::Refused { .. }));
        assert!(is_refused, "{request:?}");
    }
    let answered = liar.ask(&Request::Unmapped {
        segments: vec![1, 99, u64::MAX],
    });
    assert_eq!(answered, Some(Reply::Answer { answer: &[] }));
    for done in [(0, 0), (5, 1), (SLOTS, 0), (u32::MAX, u32::MAX)] {
        liar.tell(&wire::packet(&Tell::Done {
            slot: done.0,
            generation: done.1,
        }));
    }
    let place = match liar.ask(&Request::Lease {
        least: u32::MAX,
        most: u32::MAX,
    }) {
        Some(Reply::Leased(place)) => place,
        other => unreachable!("{other:?}"),
    };
    assert_eq!(place.pages, 256, "no more than a segment");
    send(&liar.requests, &[0xee]);
    assert!(liar.is_out());
    node.wait_for_one_to_leave();
    // Before it has said who it is, a client is answered nothing else; and another version is told which is spoken here.
    let stranger = socket::connect(&node.path).expect("it connects");
    send(&stranger, &wire::packet(&Request::Open { name: b"a" }));
    node.wait_for_one_to_leave();
    let newer = socket::connect(&node.path).expect("it connects");
    send(
        &newer,
        &wire::packet(&Request::Hello {
            version: 99,
            token: &[],
        }),
    );
    let mut buffer = [0; 1000];
    let (packet, _) = socket::recv_with_fds(&newer, &mut buffer).expect("it is answered");
    let what = match wire::parse(packet) {
        Ok(Reply::Refused { what, .. }) => what.to_owned(),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(what, format!("this agent speaks version {VERSION}"));
}

#[test]
fn a_client_that_asks_and_does_not_listen_is_put_out() {
    let node = Node::start(1, 0);
    let liar = Liar::connect(&node);
    wait_until(|| {
        send(&liar.requests, &wire::packet(&Request::CatchUp));
        node.left.try_recv().is_ok()
    });
}

#[derive(Clone, Debug)]
enum Lie {
    Lease(u32, u32),
    /// Of the pages that were leased last, moved and cut.
    Seal(i8, u32, u64),
    Open(u8),
    Copy(u8, u64),
    Done(u32, u32),
    Word(u32, u64),
    Unmapped(u64),
    Noise(Vec<u8>),
    Leave,
}

fn lie() -> impl Strategy<Value = Lie> {
    let few = || prop_oneof![0..5_u32, any::<u32>()];
    prop_oneof![
        6 => (few(), few()).prop_map(|(least, most)| Lie::Lease(least, most)),
        6 => (-1..3_i8, 0..4_u32, 0..9000_u64).prop_map(|(at, pages, len)| Lie::Seal(at, pages, len)),
        6 => (0..4_u8).prop_map(Lie::Open),
        2 => (0..4_u8, any::<u64>()).prop_map(|(name, position)| Lie::Copy(name, position)),
        4 => (few(), few()).prop_map(|(slot, generation)| Lie::Done(slot, generation)),
        4 => (0..4_u32, any::<u64>()).prop_map(|(slot, word)| Lie::Word(slot, word)),
        1 => (0..9_u64).prop_map(Lie::Unmapped),
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Lie::Noise),
        1 => Just(Lie::Leave),
    ]
}

impl Liar {
    /// Is it still heard?
    fn tell_lie(&mut self, lie: &Lie, last: &mut Place) -> bool {
        let reply = match lie {
            Lie::Lease(least, most) => {
                let (least, most) = (*least, *most);
                let reply = self.ask(&Request::Lease { least, most });
                if let Some(Reply::Leased(place)) = reply {
                    *last = place;
                }
                return reply.is_some();
            }
            Lie::Seal(at, pages, len) => {
                let place = Place {
                    first: last.first.wrapping_add_signed((*at).into()),
                    pages: *pages,
                    ..*last
                };
                let seal = Seal {
                    len: *len,
                    ..seal_of(place)
                };
                self.ask(&Request::Seal(seal))
            }
            Lie::Open(name) => self.ask(&Request::Open { name: &[*name] }),
            Lie::Copy(name, position) => self.ask(&Request::Copy {
                name: &[*name],
                position: *position,
            }),
            Lie::Done(slot, generation) => {
                let (slot, generation) = (*slot, *generation);
                self.tell(&wire::packet(&Tell::Done { slot, generation }));
                self.ask(&Request::CatchUp)
            }
            Lie::Word(slot, word) => {
                self.words[word_of(*slot)].store(*word, Ordering::SeqCst);
                return true;
            }
            Lie::Unmapped(segment) => self.ask(&Request::Unmapped {
                segments: vec![*segment],
            }),
            Lie::Noise(noise) => {
                self.tell(noise);
                self.ask(&Request::CatchUp)
            }
            Lie::Leave => None,
        };
        reply.is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_client_may_say_what_it_likes(lies in prop::collection::vec(lie(), 1..40)) {
        let node = Node::start(3, 8 * PAGE);
        let honest = node.client();
        let mut liar = Liar::connect(&node);
        let mut last = Place { segment: 1, first: 0, pages: 1 };
        for (n, lie) in lies.iter().enumerate() {
            if !liar.tell_lie(lie, &mut last) {
                drop(std::mem::replace(&mut liar, Liar::connect(&node)));
                node.wait_for_one_to_leave();
            }
            let name = [u8::try_from(n % 4).expect("small")];
            if put(&honest, &name, &self_evident(n)).is_ok() {
                let found = get(&honest, &name);
                prop_assert!(found.is_ok_and(|bytes| is_self_evident(&bytes)), "after {lie:?}");
            }
        }
        drop((liar, honest));
        for _ in 0..2 {
            node.wait_for_one_to_leave();
        }
        (0..4).for_each(|n| node.names.forget(b"me", &[n]));
        node.names.forget(b"me", b"lie");
        node.check_all_free(3);
    }
}

#[test]
fn nonsense_in_the_words_hurts_only_its_writer() {
    let node = Node::start(2, usize::MAX >> 1);
    let honest = node.client();
    put(&honest, b"a", &pattern(6, PAGE)).expect("there is room");
    let mut liar = Liar::connect(&node);
    for nonsense in [0, u64::MAX, 1 << 31, 5] {
        for n in 0..4 {
            let slot = match liar.ask(&Request::Open { name: b"a" }) {
                Some(Reply::Opened { slot, .. }) => slot,
                Some(Reply::NotLent { .. }) => n,
                other => unreachable!("{other:?}"),
            };
            liar.words[word_of(slot)].store(nonsense, Ordering::SeqCst);
            put(&honest, b"a", &pattern(6, PAGE)).expect("there is room");
            assert_eq!(get(&honest, b"a").ok(), Some(pattern(6, PAGE)));
        }
    }
    drop(liar);
    node.wait_for_one_to_leave();
    node.names.forget(b"me", b"a");
    drop(honest);
    node.wait_for_one_to_leave();
    node.check_all_free(2);
}

#[test]
fn what_its_writer_alters_after_the_seal_is_corrupt_wherever_it_is_copied() {
    let node = Node::start(4, 0);
    let mut liar = Liar::connect(&node);
    send(
        &liar.requests,
        &wire::packet(&Request::Lease { least: 4, most: 4 }),
    );
    let (packet, fds) =
        socket::recv_with_fds(&liar.requests, &mut liar.buffer).expect("it is answered");
    let place = match wire::parse(packet) {
        Ok(Reply::Leased(place)) => place,
        other => unreachable!("{other:?}"),
    };
    let mapped = Memory::of_ours(&fds[0], SEGMENT as u64).expect("it is mapped");
    rustix::io::pwrite(&fds[0], b"honest", 0).expect("it is not sealed yet");
    let honest = [&b"honest"[..], &vec![0; 4 * PAGE - 6]].concat();
    let seal = Seal {
        sums: vec![crc32c::crc32c(&honest)],
        ..seal_of(place)
    };
    liar.tell(&wire::packet(&Tell::Seal(seal)));
    let object = node.object(b"lie");
    let mut bytes = vec![0; 4 * PAGE];
    object
        .read_at(0, &mut bytes)
        .expect("it is what was sealed");
    assert_eq!(bytes, honest);
    // Through a mapping that it has had before.
    assert!(rustix::io::pwrite(&fds[0], b"altered", 0).is_err());
    let extent = Extent {
        segment: SegmentNo(place.segment),
        first: place.first,
        pages: place.pages,
    };
    let mut pages = Pages::new(Arc::new(mapped), extent, Arc::new(Nowhere));
    pages.bytes_mut()[..7].copy_from_slice(b"altered");
    assert_eq!(kind(object.read_at(0, &mut bytes)), Some(Kind::Corrupt));
    assert_eq!(kind(object.open()), Some(Kind::Corrupt));
    assert_eq!(
        kind(node.names.domain(b"yo").copy(&object)),
        Some(Kind::Corrupt)
    );
}

#[derive(Debug)]
struct Nowhere;

impl Home for Nowhere {
    fn take(self: Arc<Self>, _pages: u32) -> Result<Pages> {
        Err(Error::new(Kind::Exhausted, "there is nothing"))
    }

    fn grow(&self, _extent: &mut Extent, _pages: u32) {}

    fn give(&self, _extent: Extent) {}

    fn for_reader(&self, _segment: SegmentNo) -> Result<std::os::fd::OwnedFd> {
        Err(Error::new(Kind::Invalid, "there is nothing"))
    }
}
