//! What is found when something has changed, and that nothing is found otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use streams_core::{Op, SegmentName};

use super::world::World;
use super::{append, create, name};
use crate::check::{Check, Finding, Told};
use crate::{Error, Store, dump};

/// With it ends all that was begun in it: then no server has the directory.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// A directory with something of everything in it, and no server.
fn world() -> World {
    let world = World::new();
    run(write(&world));
    world
}

async fn write(world: &World) {
    let store = world.open().await;
    let (segment, txn) = (name("a/b/0.#epoch.0"), of_txn());
    create(&store, &segment).await;
    create(&store, &txn).await;
    fill(&store, &segment, 20).await;
    fill(&store, &txn, 3).await;
    store.flush().await.expect("flushed");
    let merge = Op::Merge {
        target: segment.clone(),
        source: txn,
        attributes: Vec::new(),
    };
    store.execute(merge).await.expect("merged");
    let truncate = Op::Truncate {
        segment: segment.clone(),
        offset: 70_000,
    };
    store.execute(truncate).await.expect("truncated");
    // What is behind that is in the log only.
    fill(&store, &segment, 20).await;
    store.close().await;
}

fn of_txn() -> SegmentName {
    name("a/b/0.#epoch.0#transaction.00000000000000000000000000000001")
}

async fn fill(store: &Store, segment: &SegmentName, n_pieces: u8) {
    for piece in 0..n_pieces {
        let data = vec![piece; 60_000];
        store
            .execute(append(segment, &data))
            .await
            .expect("appended");
    }
}

fn findings(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |told| {
        if let Told::Finding(finding) = told {
            findings.push(finding);
        }
    };
    let mut check = Check::read(&world.dir(), &mut tell).expect("it is a directory");
    run(check.look_behind(&world.lts())).expect("it answers");
    let n_findings = check.finish().expect("nobody writes");
    assert_eq!(n_findings, findings.len());
    findings
}

/// All files below.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                files.insert(path, bytes);
            }
        }
    }
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

/// Each of these bytes, one after the other.
fn finds(world: &World, path: &Path, places: impl Iterator<Item = usize>) {
    for at in places {
        flip(path, at);
        let found = findings(world);
        assert!(!found.is_empty(), "byte {at} of {}", path.display());
        flip(path, at);
    }
}

#[test]
fn nothing_is_wrong_and_nothing_is_written() {
    let world = world();
    let before = [files(&world.dir()), files(&world.behind())];
    assert_eq!(findings(&world), []);
    assert!([files(&world.dir()), files(&world.behind())] == before);
    let empty = World::new();
    run(async { empty.open().await.close().await });
    assert_eq!(findings(&empty), []);
}

#[test]
fn who_writes_meanwhile_is_noticed() {
    let world = world();
    let mut check = Check::read(&world.dir(), |_| {}).expect("it is a directory");
    run(async { world.open().await.close().await });
    run(check.look_behind(&world.lts())).expect("it answers");
    let finished = check.finish();
    assert!(
        matches!(finished, Err(Error::Unavailable(_))),
        "{finished:?}"
    );
}

#[test]
fn a_changed_record_is_found() {
    let world = world();
    let log = files(&world.dir().join("log")).into_iter();
    let log = log.filter(|(path, _)| path.extension().is_some_and(|it| it == "wal"));
    let mut n_records = 0;
    for (path, _) in log {
        let mut places = Vec::new();
        let mut each = |line: dump::Line| {
            let number = |name| match line.iter().find(|(it, _)| *it == name) {
                Some((_, dump::Field::Number(number))) => usize::try_from(*number).ok(),
                _ => None,
            };
            if let (Some(at), Some(n_bytes)) = (number("at"), number("record_bytes")) {
                places.push((at, n_bytes));
            }
        };
        dump::log(&path, &mut each).expect("it is sound");
        n_records += places.len();
        for (at, n_bytes) in places.into_iter().step_by(7) {
            // In its header, at the begin of its body, and at its end.
            finds(
                &world,
                &path,
                [at, at + 31, at + 32, at + 31 + n_bytes].into_iter(),
            );
        }
    }
    assert!(n_records > 20, "{n_records}");
}

#[test]
fn a_changed_checkpoint_is_found() {
    let world = world();
    let checkpoints = files(&world.dir().join("containers"));
    assert_eq!(checkpoints.len(), 3, "each container has one");
    for (path, bytes) in checkpoints {
        finds(&world, &path, (0..bytes.len()).step_by(bytes.len() / 30));
        let mut lines = 0;
        dump::checkpoint(&path, &mut |_| lines += 1).expect("it is sound");
        assert!(lines > 1);
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
        assert!(!findings(&world).is_empty(), "it is cut off");
        fs::write(&path, &bytes).expect("written");
    }
}

#[test]
fn a_changed_chunk_or_manifest_is_found() {
    let world = world();
    let (mut n_chunks, mut n_manifests) = (0, 0);
    for (path, bytes) in files(&world.behind()) {
        let is_manifest = path.parent().is_some_and(|it| it.ends_with("manifest"));
        let step = if is_manifest { 3 } else { bytes.len() / 10 };
        finds(&world, &path, (0..bytes.len()).step_by(step));
        // Its footer, too.
        finds(
            &world,
            &path,
            (bytes.len().saturating_sub(100)..bytes.len()).step_by(9),
        );
        fs::remove_file(&path).expect("removed");
        assert!(!findings(&world).is_empty(), "{} is gone", path.display());
        fs::write(&path, &bytes).expect("written");
        if is_manifest {
            n_manifests += 1;
            continue;
        }
        n_chunks += 1;
        let mut lines = 0;
        dump::chunk(&path, &mut |_| lines += 1).expect("it is sound");
        assert!(lines > 1);
        flip(&path, 0);
        dump::chunk(&path, &mut |_| {}).expect_err("a block has changed");
        flip(&path, 0);
    }
    assert!(
        n_chunks >= 2 && n_manifests == 3,
        "{n_chunks} and {n_manifests}"
    );
}

#[test]
fn a_log_that_is_gone_is_found() {
    let world = world();
    let log = world.dir().join("log");
    let mut segments = files(&log);
    segments.retain(|path, _| path.extension().is_some_and(|it| it == "wal"));
    let (path, bytes) = segments.pop_last().expect("there is one");
    fs::remove_file(&path).expect("removed");
    assert!(!findings(&world).is_empty());
    fs::write(&path, bytes).expect("written");
    assert_eq!(findings(&world), []);
}

#[tokio::test]
async fn chunks_are_told_of() {
    let world = World::new();
    let store = world.open().await;
    let segment = name("a/b/0.#epoch.0");
    create(&store, &segment).await;
    assert_eq!(store.chunks(&segment).await.expect("none"), []);
    fill(&store, &segment, 2).await;
    for number in 0..=2 {
        store.flush_container(number).await.expect("flushed");
    }
    store.flush_container(3).await.expect_err("there is none");
    fill(&store, &segment, 1).await;
    store.flush().await.expect("flushed");
    let chunks = store.chunks(&segment).await.expect("two");
    let told: Vec<_> = chunks
        .iter()
        .map(|it| (it.start_offset, it.n_bytes, it.n_stored_bytes))
        .collect();
    assert_eq!(
        told,
        [(0, 120_000, Some(120_000)), (120_000, 60_000, Some(60_000))]
    );
    let first = world
        .behind()
        .join(format!("streams-{}", world.store()))
        .join("1");
    let other = world
        .behind()
        .join(format!("streams-{}", world.store()))
        .join("2");
    let [first, other] = [first, other].map(|it| it.join(&chunks[0].name));
    fs::remove_file(&first)
        .or_else(|_| fs::remove_file(&other))
        .expect("removed");
    let chunks = store.chunks(&segment).await.expect("two");
    assert_eq!(chunks[0].n_stored_bytes, None);
}
