//! Long-term storage that is away, disks that are full, crashes, and what else fails.

use streams_core::{Op, SegmentName};
use wal::testing::CrashDisk;

use super::world::World;
use super::{append, create, name, read_all};
use crate::testing::{Faults, crashes, crashes_on, faults};
use crate::{Error, Store};

static PIECE: [u8; 64 << 10] = [5; 64 << 10];

async fn fill(store: &Store, segment: &SegmentName, n_pieces: usize) {
    for _ in 0..n_pieces {
        store
            .execute(append(segment, &PIECE))
            .await
            .expect("appended");
    }
}

#[tokio::test]
async fn without_long_term_storage_it_is_written_and_read_and_started() {
    let world = World::eager();
    let segment = name("a/b/0.#epoch.0");
    world.take_away();
    let store = world.open().await;
    create(&store, &segment).await;
    fill(&store, &segment, 40).await;
    let flushed = store.flush().await;
    assert!(matches!(flushed, Err(Error::Unavailable(_))), "{flushed:?}");
    let store = world.open().await;
    assert_eq!(read_all(&store, &segment, 0).await, PIECE.repeat(40));
    world.bring_back();
    store.flush().await.expect("flushed");
    assert!(world.n_chunks() > 0);
    let store = world.open().await;
    fill(&store, &segment, 1).await;
    assert_eq!(read_all(&store, &segment, 0).await, PIECE.repeat(41));
}

#[tokio::test]
async fn a_full_log_refuses_until_long_term_storage_is_back() {
    let mut world = World::eager();
    world.config.log.limit = ids::ByteSize(6 << 20);
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    fill(&store, &segment, 1).await;
    store.flush().await.expect("flushed");
    world.take_away();
    let mut n_pieces = 1;
    let refused = loop {
        match store.execute(append(&segment, &PIECE)).await {
            Ok(_) => n_pieces += 1,
            Err(error) => break error,
        }
        assert!(n_pieces < 1_000, "the log has no limit");
        // It is measured with each round.
        store.flush().await.expect_err("it is away");
    };
    assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    let recent = read_all(&store, &segment, PIECE.len() as u64).await;
    assert_eq!(recent, PIECE.repeat(n_pieces - 1));
    // What makes room is taken.
    let offset = PIECE.len() as u64;
    let segment_of = segment.clone();
    let truncate = Op::Truncate {
        segment: segment_of,
        offset,
    };
    store.execute(truncate).await.expect("truncated");
    world.bring_back();
    store.flush().await.expect("flushed");
    let mut n_tries = 0;
    // The log lets go of what it needs no more beside that.
    while let Err(error) = store.execute(append(&segment, &PIECE)).await {
        assert!(n_tries < 10_000, "{error}");
        n_tries += 1;
    }
    assert_eq!(
        read_all(&store, &segment, offset).await,
        PIECE.repeat(n_pieces)
    );
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_read_and_not_filled() {
    let mut world = World::new();
    let segment = name("a/b/0.#epoch.0");
    let store = world.open().await;
    create(&store, &segment).await;
    fill(&store, &segment, 2).await;
    store.close().await;
    world.config.log.reserve = ids::ByteSize(u64::MAX);
    let store = world.open().await;
    let refused = store.execute(append(&segment, &PIECE)).await;
    let why = refused.expect_err("there is no room").to_string();
    assert!(why.contains("`log.reserve`"), "{why}");
    assert!(store.stats().is_full);
    assert_eq!(read_all(&store, &segment, 0).await, PIECE.repeat(2));
    let truncate = Op::Truncate {
        segment: segment.clone(),
        offset: 1,
    };
    store.execute(truncate).await.expect("truncated");
    store.flush().await.expect("flushed");
    store.close().await;
    world.config.log.reserve = ids::ByteSize(0);
    let store = world.open().await;
    fill(&store, &segment, 1).await;
    assert_eq!(read_all(&store, &segment, 1).await, PIECE.repeat(3)[1..]);
}

#[test]
fn crashes_lose_nothing_that_was_acknowledged() {
    for seed in 0..2 {
        let n_crashes = crashes(seed, 4).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(n_crashes > 40, "{n_crashes} crashes");
    }
}

/// Whether that would be noticed.
#[test]
fn a_disk_that_lies_is_found_out() {
    let disk = CrashDisk::default();
    disk.lie();
    crashes_on(&disk, 1, 4).expect_err("what was acknowledged was not synced");
}

#[test]
fn what_fails_or_changes_loses_nothing_silently() {
    let found = faults(1).unwrap_or_else(|problem| panic!("{problem}"));
    let Faults {
        n_disk,
        n_full,
        n_requests,
        n_flips,
        n_harmless,
    } = found;
    assert!(n_disk >= 2 && n_full == 1 && n_requests > 8, "{found}");
    assert!(n_flips > 20 && n_flips > n_harmless, "{found}");
}
