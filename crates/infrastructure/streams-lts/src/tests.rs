//! Over stores that keep what they say, and one between that does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ids::Epoch;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use store::{Class, Opened};
use streams_core::{SegmentId, SegmentName};
use tempfile::TempDir;

use crate::chunk::{BLOCK_BYTES, Chunk};
use crate::events::{Cursor, Index};
use crate::fence::{Owner, Taken};
use crate::names::ContainerId;
use crate::testing::{Fault, Faulty, Verb};
use crate::*;

struct World {
    inner: Arc<dyn ObjectStore>,
    faulty: Faulty,
    config: Config,
    _dir: Option<TempDir>,
}

/// In memory, and in a directory.
fn worlds() -> [World; 2] {
    let dir = tempfile::tempdir().expect("a directory");
    let local = LocalFileSystem::new_with_prefix(dir.path()).expect("it is there");
    let world = |inner: Arc<dyn ObjectStore>, dir| World {
        faulty: Faulty::new(Arc::clone(&inner)),
        inner,
        config: Config {
            grace: Duration::ZERO,
            ..Config::default()
        },
        _dir: dir,
    };
    [
        world(Arc::new(InMemory::new()), None),
        world(Arc::new(local), Some(dir)),
    ]
}

fn owner(epoch: u64) -> Owner {
    Owner {
        epoch: Epoch(epoch),
        id: epoch + 1000,
    }
}

fn put(segment: u64, offset: u64, data: &[u8]) -> Put {
    Put {
        scope: "scope".into(),
        stream: "stream".into(),
        name: SegmentName::new("scope/stream/0.#epoch.0").expect("a name"),
        segment: SegmentId(segment),
        offset,
        data: vec![Bytes::copy_from_slice(data)],
        events: Index::default(),
    }
}

/// Two blocks and a part of one, all different.
fn much() -> Vec<u8> {
    let n_bytes = u32::try_from(2 * BLOCK_BYTES + 1000).expect("few");
    let bytes = (0..n_bytes).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    bytes.collect()
}

impl World {
    fn opened(&self) -> Opened {
        Opened {
            store: Arc::new(self.faulty.clone()),
            class: Class::Durable,
        }
    }

    async fn try_open(&self, owner: Owner, known: u64) -> Result<Lts> {
        let config = self.config.clone();
        Lts::open(config, self.opened(), ContainerId(1), owner, known).await
    }

    async fn open(&self, epoch: u64) -> Lts {
        let opened = self.try_open(owner(epoch), 0).await;
        opened.expect("it opens")
    }

    /// All objects but manifests.
    async fn chunks(&self) -> Vec<String> {
        let all = self.inner.list(None).map_ok(|meta| meta.location);
        let all: Vec<_> = all.try_collect().await.expect("a list");
        let chunks = all
            .iter()
            .filter(|path| !path.as_ref().contains("manifest"));
        let mut chunks: Vec<_> = chunks.map(ToString::to_string).collect();
        chunks.sort();
        chunks
    }
}

/// Lists all, and deletes what is not in the list of chunks.
async fn collect(collector: &mut Collector, lts: &Lts, list: &ChunkList) -> Result<()> {
    loop {
        let page = collector.page(lts).await?;
        collector.delete(&page.orphans(list));
        if page.is_last {
            break;
        }
    }
    while collector.tick(lts).await?.n_waiting > 0 {}
    Ok(())
}

fn paths(lts: &Lts, chunks: &[&Chunk]) -> Vec<String> {
    let path = |chunk: &&Chunk| lts.layout.chunk(chunk.name()).to_string();
    let mut paths: Vec<_> = chunks.iter().map(path).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_is_put_is_read() {
    for world in worlds() {
        let lts = world.open(1).await;
        let bytes = much();
        let (left, right) = bytes.split_at(700_000);
        let data = vec![Bytes::copy_from_slice(left), Bytes::copy_from_slice(right)];
        let events = Index {
            begins: vec![1001, 90_000],
            next: Some(1000 + bytes.len() as u64),
        };
        let put = Put {
            data,
            events: events.clone(),
            ..put(7, 1000, &[])
        };
        let chunk = lts.put(put.clone()).await.expect("put");
        let read = Chunk::from_entry(&chunk.key(), &chunk.value());
        assert_eq!(read.expect("an entry"), chunk);

        let blocks = lts.read_blocks(&chunk, 0..=2).await.expect("blocks");
        assert_eq!(blocks.concat(), bytes);
        lts.read_blocks(&chunk, 0..=3).await.expect_err("no block");
        let end = chunk.range().end;
        for (from, to) in [
            (1000, 1001),
            (1000, end),
            (500_000, 2_000_000),
            (end - 1, end),
        ] {
            let read = lts.read(&chunk, from..to).await.expect("bytes");
            let at = |at: u64| usize::try_from(at - 1000).expect("small");
            assert_eq!(read.concat(), bytes[at(from)..at(to)], "{from}..{to}");
        }
        for (from, to) in [(999, 1001), (1000, end + 1), (1000, 1000), (0, 0), (9, 0)] {
            let read = lts.read(&chunk, from..to).await;
            assert!(matches!(read, Err(Error::Invalid(_))), "{from}..{to}");
        }

        let footer = lts.footer(chunk.name()).await.expect("a footer");
        assert_eq!((&footer.chunk, footer.events), (&chunk, events.begins));
        assert_eq!((footer.scope, footer.segment), (put.scope, put.name));
        // Other tools find the bytes as they are.
        let object = world.inner.get(&lts.layout.chunk(chunk.name())).await;
        let object = object.expect("it is there").bytes().await.expect("bytes");
        assert_eq!(object[..bytes.len()], bytes);
    }
}

#[tokio::test]
async fn what_makes_no_chunk_is_refused() {
    let [mut world, _] = worlds();
    world.config.chunk_bytes_max = 10;
    let lts = world.open(1).await;
    lts.put(put(1, 0, &[0; 10])).await.expect("put");
    let events = Index {
        begins: vec![10],
        next: None,
    };
    let elsewhere = Put {
        events,
        ..put(1, 0, &[0; 10])
    };
    let long = Put {
        scope: "s".repeat(1025).into(),
        ..put(1, 0, &[0; 10])
    };
    for put in [
        put(1, 0, &[0; 11]),
        put(1, 0, &[]),
        put(1, u64::MAX, &[0]),
        elsewhere,
        long,
    ] {
        let refused = lts.put(put).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert_eq!(world.chunks().await.len(), 1);
}

#[tokio::test]
async fn a_promise_that_a_crash_breaks_is_none() {
    let [mut world, _] = worlds();
    let opened = Opened {
        class: Class::Ephemeral,
        ..world.opened()
    };
    let open =
        |config: &Config| Lts::open(config.clone(), opened.clone(), ContainerId(1), owner(1), 0);
    let refused = open(&world.config).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    world.config.accepts_ephemeral = true;
    let lts = open(&world.config).await.expect("it opens");
    lts.put(put(1, 0, b"abc")).await.expect("put");
}

#[tokio::test]
async fn a_put_without_an_answer_costs_an_orphan_and_no_name_is_used_twice() {
    for mut world in worlds() {
        world.config.deadline = Duration::from_millis(300);
        let lts = world.open(1).await;
        let faults = [
            Fault::LoseAnswer,
            Fault::SendAgain,
            Fault::Refuse,
            Fault::Hang,
        ];
        for fault in faults {
            world.faulty.plan(Verb::Put, fault);
            let lost = lts.put(put(1, 0, b"abc")).await;
            assert!(matches!(lost, Err(Error::Unavailable { .. })), "{fault:?}");
        }
        let chunk = lts.put(put(1, 0, b"abc")).await.expect("put");
        let unsettled = lts.put(put(1, 3, b"def")).await.expect("put");
        assert_eq!(world.chunks().await.len(), 4);
        let list = ChunkList::from_iter([chunk.clone()]);
        lts.settled(chunk.name());
        let mut collector = Collector::new(&world.config);
        collect(&mut collector, &lts, &list).await.expect("it does");
        assert_eq!(world.chunks().await, paths(&lts, &[&chunk, &unsettled]));
        lts.settled(unsettled.name());
        collect(&mut collector, &lts, &list).await.expect("it does");
        assert_eq!(world.chunks().await, paths(&lts, &[&chunk]));
    }
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_is_not_under_way() {
    let [world, _] = worlds();
    let lts = world.open(1).await;
    world.faulty.plan(Verb::Put, Fault::Hang);
    let dropped = tokio::time::timeout(Duration::ZERO, lts.put(put(1, 0, b"abc"))).await;
    dropped.expect_err("it hangs");
    assert!(lts.under_way().is_empty());
}

/// Tasks of the shell move between threads.
#[test]
fn calls_may_be_made_in_any_task() {
    fn may(_: &impl Send) {}
    fn all(lts: &Lts, collector: &mut Collector, chunk: &Chunk, put: Put) {
        may(&lts.check());
        may(&lts.put(put));
        may(&lts.read(chunk, 0..1));
        may(&lts.footer(chunk.name()));
        may(&lts.cursor(chunk));
        may(&collector.tick(lts));
        may(&collector.page(lts));
    }
    let _: fn(&Lts, &mut Collector, &Chunk, Put) = all;
}

#[tokio::test]
async fn damaged_bytes_are_found() {
    for world in worlds() {
        let lts = world.open(1).await;
        let chunk = lts.put(put(1, 0, &much())).await.expect("put");
        for fault in [Fault::Flip, Fault::Cut] {
            world.faulty.plan(Verb::Get, fault);
            let read = lts.read_blocks(&chunk, 1..=1).await;
            let is_found = matches!(&read, Err(Error::Corrupt { block: Some(1), .. }));
            assert!(is_found, "{fault:?} {read:?}");
            lts.read_blocks(&chunk, 1..=1)
                .await
                .expect("it was the way");
            world.faulty.plan(Verb::Get, fault);
            let read = lts.footer(chunk.name()).await;
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
        }
        world.faulty.plan(Verb::Get, Fault::Refuse);
        let read = lts.read_blocks(&chunk, 1..=1).await;
        assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");

        let path = lts.layout.chunk(chunk.name());
        for kept in [BLOCK_BYTES + 10, 10] {
            let some = much()[..usize::try_from(kept).expect("few")].to_vec();
            world.inner.put(&path, some.into()).await.expect("put");
            let read = lts.read_blocks(&chunk, 1..=1).await;
            let is_found = matches!(&read, Err(Error::Corrupt { block: Some(1), .. }));
            assert!(is_found, "{kept} {read:?}");
        }
        world.inner.delete(&path).await.expect("deleted");
        let read = lts.read_blocks(&chunk, 0..=0).await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
        let read = lts.footer(chunk.name()).await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    }
}

#[tokio::test]
async fn an_owner_ends_when_another_comes() {
    for world in worlds() {
        let first = world.open(1).await;
        let chunk = first.put(put(1, 0, b"abc")).await.expect("put");
        first.check().await.expect("it is the owner");
        let second = world.open(2).await;
        // It does not know it yet: what it puts, nobody will need.
        first.put(put(1, 3, b"def")).await.expect("put");
        let mut collector = Collector::new(&world.config);
        collector.delete([chunk.name()]);
        let ticked = collector.tick(&first).await;
        assert!(matches!(ticked, Err(Error::Fenced { manifest: 2 })));
        let refused = first.put(put(1, 3, b"def")).await;
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
        for late in [owner(1), Owner { id: 7, ..owner(2) }] {
            let refused = world.try_open(late, 1).await;
            assert!(matches!(refused, Err(Error::Fenced { manifest: 2 })));
        }

        second.check().await.expect("it is the owner");
        let list = ChunkList::from_iter([chunk.clone()]);
        let mut collector = Collector::new(&world.config);
        let done = collect(&mut collector, &second, &list).await;
        done.expect("it does");
        assert_eq!(world.chunks().await, paths(&second, &[&chunk]));
    }
}

#[tokio::test]
async fn an_owner_knows_its_manifest_again() {
    for world in worlds() {
        for fault in [Fault::Refuse, Fault::LoseAnswer] {
            world.faulty.plan(Verb::Put, fault);
            let lost = world.try_open(owner(1), 0).await;
            assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
        }
        let taken = Taken {
            number: 1,
            n_unknown: 0,
        };
        assert_eq!(world.open(1).await.taken(), taken);
        world.faulty.plan(Verb::Put, Fault::SendAgain);
        assert_eq!(world.open(2).await.taken().number, 2);
    }
}

#[tokio::test]
async fn the_end_of_a_long_chain_is_found_with_few_requests() {
    let [world, _] = worlds();
    for epoch in 1..=200 {
        let known = epoch - 1;
        let opened = world.try_open(owner(epoch), known).await;
        assert_eq!(opened.expect("it opens").taken().n_unknown, 0);
    }
    let before = world.faulty.n_requests();
    let opened = world.try_open(owner(201), 3).await.expect("it opens");
    let taken = Taken {
        number: 201,
        n_unknown: 197,
    };
    assert_eq!(opened.taken(), taken);
    assert!(world.faulty.n_requests() - before <= 20);
    let gone = world.try_open(owner(202), 1000).await;
    assert!(matches!(gone, Err(Error::Corrupt { .. })), "{gone:?}");
}

#[tokio::test]
async fn of_two_who_come_at_once_the_later_one_stays() {
    for world in worlds() {
        for round in 1..10 {
            let [early, late] = [2 * round, 2 * round + 1];
            let opening = async |epoch| world.try_open(owner(epoch), 0).await;
            let (early, late) = futures_util::join!(opening(early), opening(late));
            late.expect("it opens").check().await.expect("it stays");
            if let Ok(early) = early {
                early.check().await.expect_err("it is fenced");
            }
        }
    }
}

#[tokio::test]
async fn deletions_are_tried_again() {
    for world in worlds() {
        let lts = world.open(1).await;
        let mut chunks = Vec::new();
        for offset in 0..5 {
            chunks.push(lts.put(put(1, offset, b"a")).await.expect("put"));
        }
        let config = Config {
            deletions_max: 4,
            ..world.config.clone()
        };
        let mut collector = Collector::new(&config);
        assert_eq!(collector.delete(chunks.iter().map(Chunk::name)), 1);
        assert_eq!(collector.delete(chunks[..4].iter().map(Chunk::name)), 0);
        world.faulty.plan(Verb::Delete, Fault::Refuse);
        world.faulty.plan(Verb::Delete, Fault::LoseAnswer);
        let ticked = collector.tick(&lts).await.expect("it does");
        assert_eq!((ticked.n_deleted, ticked.n_failed), (2, 2));
        let ticked = collector.tick(&lts).await.expect("it does");
        assert_eq!((ticked.n_deleted, ticked.n_waiting), (2, 0));
        assert_eq!(world.chunks().await, paths(&lts, &[&chunks[4]]));
    }
}

#[tokio::test]
async fn nothing_is_deleted_that_is_foreign_young_or_listed_by_halves() {
    for mut world in worlds() {
        let lts = world.open(1).await;
        let orphan = lts.put(put(1, 0, b"abc")).await.expect("put");
        lts.settled(orphan.name());
        for foreign in ["streams/1/x", "streams/1/00/1.E1.O0.00", "streams/2/a"] {
            let put = world.inner.put(&foreign.into(), "x".into()).await;
            put.expect("put");
        }
        let mut collector = Collector::new(&world.config);
        world.faulty.plan(Verb::List, Fault::Refuse);
        collector.page(&lts).await.expect_err("no list");
        let page = collector.page(&lts).await.expect("a list");
        let counts = (
            page.counts.listed,
            page.counts.foreign,
            page.counts.manifests,
        );
        assert_eq!((counts, page.is_last), ((4, 2, 1), true));
        assert_eq!(page.orphans(&ChunkList::default()), [*orphan.name()]);

        world.config.grace = Duration::from_secs(3600);
        let lts = world.open(2).await;
        let page = collector.page(&lts).await.expect("a list");
        assert_eq!(page.counts.young, 1);
        assert_eq!(page.orphans(&ChunkList::default()), []);
    }
}

#[tokio::test]
async fn the_index_of_events_goes_on_with_another_owner() {
    let [world, _] = worlds();
    let event = [&[0, 0, 0, 0, 0, 0, 0, 5][..], b"abcde"].concat();
    let bytes = event.repeat(10);
    for cut in [13, 14, 20, 21, 25] {
        let lts = world.open(cut as u64).await;
        let (first, second) = bytes.split_at(cut);
        let put = put(cut as u64, 0, first);
        let (events, next) = Cursor::at(0).index(0, &put.data);
        let chunk = lts.put(Put { events, ..put }).await.expect("put");
        let cursor = lts.cursor(&chunk).await.expect("a cursor");
        assert_eq!(cursor, next);
        let (index, _) = cursor.index(cut as u64, &[Bytes::copy_from_slice(second)]);
        let begin = if cut == 13 { 13 } else { 26 };
        assert_eq!(index.begins, [begin]);
        assert_eq!(index.next, Some(130));
    }
}

/// What a log keeps.
#[derive(Default)]
struct Table(BTreeMap<Vec<u8>, Vec<u8>>);

impl Table {
    fn list(&self) -> ChunkList {
        let entries = self.0.iter();
        let chunks = entries.map(|(key, value)| Chunk::from_entry(key, value).expect("an entry"));
        chunks.collect()
    }

    fn write(&mut self, chunk: &Chunk) {
        self.0.insert(chunk.key().to_vec(), chunk.value());
    }
}

/// An owner puts, frees and deletes, and ends with an error when the store is gone.
async fn live(world: &World, epoch: u64, table: &mut Table) -> Result<()> {
    let lts = world.try_open(owner(epoch), 0).await?;
    let mut list = table.list();
    let mut collector = Collector::new(&world.config);
    for offset in [0, 3, 6] {
        lts.check().await?;
        let chunk = lts.put(put(epoch / 2 % 2, offset, b"abc")).await?;
        table.write(&chunk);
        let replaced = list.insert(chunk.clone());
        lts.settled(chunk.name());
        collector.delete(replaced.iter().map(Chunk::name));
    }
    for chunk in list.free_before(SegmentId(0), 6) {
        table.0.remove(&chunk.key()[..]);
        collector.delete([chunk.name()]);
    }
    collect(&mut collector, &lts, &list).await
}

#[tokio::test]
async fn whatever_crashes_what_is_needed_stays_and_all_else_goes() {
    for world in worlds() {
        let (mut table, mut epoch) = (Table::default(), 0);
        for is_done in [false, true] {
            for after in 0.. {
                epoch += 1;
                world.faulty.crash(after, is_done);
                let lived = live(&world, epoch, &mut table).await;
                let has_crashed = world.faulty.recover();
                assert!(lived.is_ok() || has_crashed, "{lived:?}");

                epoch += 1;
                let (lts, list) = (world.open(epoch).await, table.list());
                let mut collector = Collector::new(&world.config);
                let done = collect(&mut collector, &lts, &list).await;
                done.expect("it does");
                let chunks: Vec<_> = list.iter().collect();
                assert_eq!(world.chunks().await, paths(&lts, &chunks));
                for chunk in chunks {
                    let read = lts.read(chunk, chunk.range()).await;
                    assert_eq!(read.expect("it is there").concat(), b"abc");
                }
                if !has_crashed {
                    break;
                }
            }
        }
    }
}
