//! Long-term storage that is away.

use streams_core::{Op, SegmentName};

use super::world::World;
use super::{append, create, name, read_all};
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
    fill(&store, &segment, 1).await;
    assert_eq!(
        read_all(&store, &segment, offset).await,
        PIECE.repeat(n_pieces)
    );
}
