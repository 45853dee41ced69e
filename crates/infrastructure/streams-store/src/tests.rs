//! The store as its callers see it, over files in a directory and long-term storage in memory or in another directory.

mod check;
mod faults;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use streams_core::attributes::AttributeId;
use streams_core::op::{Append, EventNumbers, Outcome};
use streams_core::segment::Kind;
use streams_core::{Op, Refusal, SegmentName};

use self::world::World;
use crate::{Error, Gate, Read, Result, Store, Unwritten};

const WRITER: AttributeId = AttributeId(7);

fn name(text: &str) -> SegmentName {
    SegmentName::new(text).expect("a name")
}

async fn create(store: &Store, segment: &SegmentName) {
    let op = Op::Create {
        segment: segment.clone(),
        kind: Kind::Stream,
        attributes: Vec::new(),
    };
    let created = store.execute(op).await.expect("created");
    assert!(matches!(created, Outcome::Created(_)));
}

fn append(segment: &SegmentName, data: &[u8]) -> Op {
    Op::Append(Append {
        segment: segment.clone(),
        data: Bytes::copy_from_slice(data),
        attributes: Vec::new(),
        expected_offset: None,
    })
}

fn event(segment: &SegmentName, data: &[u8], (previous, last): (i64, i64)) -> Op {
    let numbers = EventNumbers {
        writer: WRITER,
        previous,
        last,
        n_events: 1,
    };
    Op::Append(Append::events(
        segment.clone(),
        Bytes::copy_from_slice(data),
        numbers,
    ))
}

/// Lets everything pass.
struct Open;

impl Gate for Open {
    type Permit = ();

    async fn room(&self) {}

    async fn permit(&self) {}
}

async fn read(store: &Store, segment: &SegmentName, offset: u64) -> Result<Read, Error> {
    let read = store
        .read(segment, offset, 1 << 20, Duration::ZERO, &Open)
        .await;
    read.map(|(read, _)| read)
}

/// All of it, from an offset on.
async fn read_all(store: &Store, segment: &SegmentName, from: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match read(store, segment, from + all.len() as u64)
            .await
            .expect("read")
        {
            Read::Bytes(bytes) => all.extend_from_slice(&bytes),
            Read::AtTail | Read::End => return all,
        }
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let first = event(&segment, b"one", (EventNumbers::NO_EVENT, 1));
    assert_eq!(
        store.execute(first.clone()).await.expect("appended"),
        Outcome::Appended { length: 3 }
    );
    let again = store.execute(first).await;
    assert!(matches!(
        again,
        Err(Error::Refused(Refusal::BadAttribute { .. }))
    ));
    for _ in 0..2 {
        // Nobody closes it.
        let store = world.open().await;
        assert_eq!(read_all(&store, &segment, 0).await, b"one");
        let number = store
            .ask(&segment, |it| it.attribute(&segment, WRITER))
            .await;
        assert_eq!(number.expect("answered"), 1);
        store.close().await;
    }
}

#[tokio::test]
async fn who_waits_at_the_tail_is_told_of_more_and_of_the_end() {
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let patience = Duration::from_secs(60);
    let wait = async |offset| {
        store
            .read(&segment, offset, 100, patience, &Open)
            .await
            .map(|(read, _)| read)
    };
    let (read, _) = tokio::join!(wait(0), store.execute(append(&segment, b"more")));
    assert_eq!(
        read.expect("read"),
        Read::Bytes(Bytes::from_static(b"more"))
    );
    let (end, _) = tokio::join!(wait(4), store.execute(Op::Seal(segment.clone())));
    assert_eq!(end.expect("read"), Read::End);
    let other = name("a/c/0.#epoch.0");
    create(&store, &other).await;
    let wait_other = async {
        store
            .read(&other, 0, 100, patience, &Open)
            .await
            .map(|(read, _)| read)
    };
    let (gone, _) = tokio::join!(wait_other, store.execute(Op::Delete(other.clone())));
    assert!(matches!(
        gone,
        Err(Error::Refused(Refusal::NoSuchSegment(_)))
    ));
}

#[tokio::test]
async fn many_appends_at_once_share_syncs_and_are_told_in_order() {
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(2_000);
    for n in 0..1_000u32 {
        let tell = tell.clone();
        let op = append(&segment, &n.to_be_bytes());
        let tell = move |outcome: Result<_>| {
            tell.try_send((n, outcome.is_ok())).expect("there is room");
        };
        assert!(store.submit(&op, tell, &mut Unwritten::default()).await);
    }
    for n in 0..1_000 {
        assert_eq!(told.recv().await, Some((n, true)));
    }
    let all: Vec<u8> = (0..1_000u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(read_all(&store, &segment, 0).await, all);
    assert!(
        store.stats().log.n_syncs < 900,
        "every record has been synced by itself"
    );
}

/// Who has submitted something and waits for nothing else writes it; what others leave is for the thread of the container.
#[tokio::test]
async fn what_was_submitted_is_written_by_who_has_nothing_else_to_do() {
    const N: usize = 20;
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let n_told = Arc::new(AtomicUsize::new(0));
    let submit = async |unwritten: &mut Unwritten| {
        let n_told = Arc::clone(&n_told);
        let tell = move |outcome: Result<_>| {
            outcome.expect("it is appended");
            n_told.fetch_add(1, Ordering::SeqCst);
        };
        let op = append(&segment, b"it");
        assert!(store.submit(&op, tell, unwritten).await);
    };
    let mut n_at_once = 0;
    for n in 1..=N {
        let mut unwritten = Unwritten::default();
        submit(&mut unwritten).await;
        unwritten.write();
        // If somebody else writes to the log, it is for the thread nevertheless.
        n_at_once += usize::from(n_told.load(Ordering::SeqCst) == n);
        let info = store.info(&segment).await.expect("it is there");
        assert_eq!(info.length, 2 * n as u64);
    }
    assert!(n_at_once > N / 2, "{n_at_once} of {N}");
    let mut unwritten = Unwritten::default();
    submit(&mut unwritten).await;
    submit(&mut unwritten).await;
    drop(unwritten);
    let info = store.info(&segment).await.expect("it is there");
    assert_eq!(info.length, 2 * (N as u64 + 2));
}

#[tokio::test]
async fn what_is_in_the_log_goes_to_long_term_storage_and_is_read_from_there() {
    let world = World::eager();
    let segment = name("a/b/0.#epoch.0");
    let all: Vec<u8> = (0..300_000u32).flat_map(u32::to_be_bytes).collect();
    {
        let store = world.open().await;
        create(&store, &segment).await;
        for some in all.chunks(100_000) {
            store
                .execute(append(&segment, some))
                .await
                .expect("appended");
        }
        store.flush().await.expect("flushed");
        assert_eq!(read_all(&store, &segment, 0).await, all);
        store.close().await;
    }
    let store = world.open().await;
    assert_eq!(read_all(&store, &segment, 0).await, all);
    assert_eq!(read_all(&store, &segment, 400_001).await, all[400_001..]);
    store
        .execute(Op::Truncate {
            segment: segment.clone(),
            offset: 700_000,
        })
        .await
        .expect("truncated");
    let before = read(&store, &segment, 0).await;
    assert!(matches!(
        before,
        Err(Error::Refused(Refusal::BadOffset { expected: 700_000 }))
    ));
    assert_eq!(read_all(&store, &segment, 700_000).await, all[700_000..]);
    store
        .execute(Op::Delete(segment.clone()))
        .await
        .expect("deleted");
    store.flush().await.expect("flushed");
    assert_eq!(world.n_chunks(), 0);
}

#[tokio::test]
async fn the_log_is_truncated_behind_what_is_stored() {
    let world = World::eager();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let some = vec![7; 256 << 10];
    let mut length = 0;
    for _ in 0..64 {
        store
            .execute(append(&segment, &some))
            .await
            .expect("appended");
        length += some.len() as u64;
    }
    store.flush().await.expect("flushed");
    // A start reads nothing of it.
    let store = world.open().await;
    assert!(store.stats().log_bytes < length / 2);
    assert_eq!(read_all(&store, &segment, length - 5).await, [7; 5]);
}

#[tokio::test]
async fn a_flush_does_not_wait_for_what_is_written_meanwhile() {
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let write = async || {
        let appended = store.execute(append(&segment, &[7; 1_000])).await;
        appended.expect("appended")
    };
    write().await;
    let many = async {
        for _ in 0..20_000 {
            write().await;
        }
    };
    tokio::select! {
        flushed = store.flush() => flushed.expect("flushed"),
        () = many => panic!("it is still waiting"),
    }
    let chunks = store.chunks(&segment).await.expect("listed");
    assert!(!chunks.is_empty());
}

#[tokio::test]
async fn who_opens_the_directory_ends_the_owner_before() {
    let world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let first = world.open().await;
    create(&first, &segment).await;
    first
        .execute(append(&segment, b"one"))
        .await
        .expect("appended");
    let second = world.open().await;
    // If it was on its way to the log, only who has that now knows what has become of it.
    let late = first.execute(append(&segment, b"late")).await;
    assert!(
        matches!(late, Err(Error::Ended(_) | Error::Fenced)),
        "{late:?}"
    );
    let later = first.execute(append(&segment, b"later")).await;
    assert!(matches!(later, Err(Error::Fenced)), "{later:?}");
    assert!(matches!(first.failed().await, Error::Fenced));
    second
        .execute(append(&segment, b"two"))
        .await
        .expect("appended");
    assert_eq!(read_all(&second, &segment, 0).await, b"onetwo");
}

#[tokio::test]
async fn transient_segments_go_with_their_connection() {
    let world = World::new();
    let parent = "a/b/0.#epoch.0";
    let store = world.open().await;
    create(&store, &name(parent)).await;
    let connection = store.connection();
    let transient = name(&format!("{parent}#transient.1"));
    let op = Op::Create {
        segment: transient.clone(),
        kind: Kind::Transient(connection),
        attributes: Vec::new(),
    };
    store.execute(op).await.expect("created");
    store.disconnected(connection).await;
    let info = store.info(&transient).await;
    assert!(matches!(
        info,
        Err(Error::Refused(Refusal::NoSuchSegment(_)))
    ));
}

#[tokio::test]
async fn what_the_log_cannot_take_is_refused_and_nothing_ends() {
    let mut world = World::new();
    world.config.log.queue = ids::ByteSize(1 << 20);
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    let long = vec![0; 1 << 20];
    let refused = store.execute(append(&segment, &long)).await;
    assert!(
        matches!(refused, Err(Error::Refused(Refusal::Limit { .. }))),
        "{refused:?}"
    );
    let appended = store.execute(append(&segment, &long[..1 << 19])).await;
    assert_eq!(
        appended.expect("appended"),
        Outcome::Appended { length: 1 << 19 }
    );
}
