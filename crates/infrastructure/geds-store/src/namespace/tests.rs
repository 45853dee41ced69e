use std::collections::BTreeMap;
use std::sync::Arc;

use ids::Epoch;
use wal::Wal;
use wal::testing::{Choices, CrashDisk, Memory, MemoryWal};

use super::*;
use crate::core::index::{
    BucketName, By, Class, Etag, Folder, Key, Name, NodeId, ObjectId, Op, Piece, Precondition,
    Prefix, Residency, Seal, Sealed,
};
use crate::error::Kind;

const NODE: NodeId = NodeId(1);

fn bucket() -> BucketName {
    BucketName::new("data").expect("a bucket")
}

fn name(key: &str) -> Name {
    let (bucket, key) = (bucket(), Key::new(key).expect("a key"));
    Name { bucket, key }
}

fn command(op: Op) -> Command {
    Command {
        by: By::Owner,
        when: Precondition::None,
        op,
    }
}

fn create_bucket() -> Op {
    Op::CreateBucket {
        bucket: bucket(),
        owner: "acme".parse().expect("a name"),
        created_at_ms: 1,
    }
}

fn seal(key: &str, serial: u64) -> Command {
    let epoch = Epoch(1);
    let id = ObjectId {
        node: NODE,
        epoch,
        serial,
    };
    command(Op::Seal(Box::new(Seal {
        name: name(key),
        sealed: Sealed {
            id,
            size: serial,
            etag: Etag::new(&format!("{serial:032x}")).expect("an etag"),
            class: Class::Ephemeral,
        },
        modified_at_ms: 1,
        metadata: Box::default(),
        expires_at_ms: None,
        readers: 0,
        copies: [Residency::Dram(NODE)].into_iter().collect(),
    })))
}

/// Some changes, the same for the same seed, beginning with what others need.
fn commands(seed: u64, n: u64) -> impl Iterator<Item = Command> {
    let mut state = seed;
    let mut random = move |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    let first = [create_bucket(), Op::NodeJoined(NODE, Epoch(1))];
    let others = (0..n).map(move |serial| {
        let key = format!("{}/{}", random(3), random(6));
        match random(6) {
            0 => command(Op::Delete(name(&key))),
            1 => command(Op::RenamePrefix {
                from: folder(&format!("{}/", random(3))),
                to: folder(&format!("{}/", random(3))),
            }),
            2 => command(Op::SetMetadata(name(&key), Box::new([7; 100]))),
            _ => seal(&key, serial),
        }
    });
    first.into_iter().map(command).chain(others)
}

fn folder(prefix: &str) -> Folder {
    let (bucket, prefix) = (bucket(), Prefix::new(prefix).expect("a prefix"));
    Folder { bucket, prefix }
}

fn in_memory(memory: &Memory) -> (MemoryWal, Namespace) {
    let wal = memory.open();
    let logs = [RECORDS, SNAPSHOTS].map(|id| Box::new(wal.log(id)));
    let [records, snapshots] = logs;
    let config = Config {
        snapshot_after_bytes: 1,
        ..Config::default()
    };
    let namespace =
        Namespace::open(config, records, snapshots, Box::new(|_, _| ())).expect("it opens");
    (wal, namespace)
}

fn on_disk(disk: &CrashDisk) -> Result<(Wal, Namespace)> {
    let small = wal::Config {
        segment_bytes: wal::Config::SEGMENT_BYTES_MIN,
        queue_bytes: wal::Config::QUEUE_BYTES_MIN,
    };
    let wal = Wal::open(Arc::new(disk.clone()), small)?;
    let (records, snapshots) = (wal.log(RECORDS)?, wal.log(SNAPSHOTS)?);
    let config = Config::default();
    let namespace = Namespace::open(
        config,
        Box::new(records),
        Box::new(snapshots),
        Box::new(|_, _| ()),
    )?;
    Ok((wal, namespace))
}

fn pieces(namespace: &Namespace) -> Vec<Piece> {
    namespace.read(|index| index.pieces().collect())
}

fn resume(namespace: &Namespace, wal: &Wal) -> Result<()> {
    let resume = || {
        wal.resume();
        Ok(())
    };
    namespace.resume(|| wal.stats().is_full, resume)
}

#[test]
fn it_is_there_again_with_and_without_a_snapshot() {
    let memory = Memory::default();
    let mut before = Vec::new();
    for round in 0..4 {
        let (_wal, namespace) = in_memory(&memory);
        assert!(round == 0 || pieces(&namespace) == before, "round {round}");
        for command in commands(round, 100).skip(if round == 0 { 0 } else { 2 }) {
            // Some are refused, such as serials that are used.
            namespace.commit(command).ok();
        }
        if round > 1 {
            assert!(namespace.wants_snapshot());
            namespace.snapshot().expect("it can be made");
            assert!(!namespace.wants_snapshot());
            namespace
                .commit(seal("after", 1_000 + round))
                .expect("taken");
        }
        before = pieces(&namespace);
    }
    let (_wal, namespace) = in_memory(&memory);
    assert_eq!(pieces(&namespace), before);
    let home = namespace.home.as_ref().expect("it owns its log");
    assert!(home.records.start() > memory_start());
}

fn memory_start() -> Position {
    Memory::default().open().log(RECORDS).start()
}

#[test]
fn what_is_refused_or_true_already_changes_nothing() {
    let (_wal, namespace) = in_memory(&Memory::default());
    let bucket = command(create_bucket());
    let mut revisions = namespace.revisions();
    let done = namespace.commit(bucket.clone()).expect("there is none");
    assert!(done.commit.is_some());
    done.ticket.wait().expect("it is durable");
    assert_eq!(*revisions.borrow_and_update(), Revision(1));
    let again = namespace.commit(bucket).expect_err("there is one");
    assert_eq!(again.kind, Kind::Conflict);
    let nothing = command(Op::DeletePrefix(folder("none")));
    let nothing = namespace.commit(nothing).expect("that is true");
    assert!(nothing.commit.is_none());
    nothing.ticket.wait().expect("it is durable");
    assert_eq!(revisions.has_changed().ok(), Some(false));
}

#[derive(Debug)]
struct Past {
    /// After each revision.
    states: BTreeMap<u64, Vec<Piece>>,
    /// After so many operations of the disk, so many revisions.
    acknowledged: Vec<(usize, u64)>,
}

/// Runs commands, with snapshots in between.
fn past(disk: &CrashDisk, seed: u64) -> Past {
    let (_wal, namespace) = on_disk(disk).expect("nothing is there");
    let mut states = BTreeMap::from([(0, pieces(&namespace))]);
    let mut acknowledged = Vec::new();
    for (n, command) in commands(seed, 60).enumerate() {
        let Ok(done) = namespace.commit(command) else {
            continue;
        };
        let revision = namespace.read(Index::revision).0;
        states.insert(revision, pieces(&namespace));
        if n % 3 == 0 {
            done.ticket.wait().expect("it is durable");
            acknowledged.push((disk.n_ops(), revision));
        }
        if n % 20 == 19 {
            namespace.snapshot().expect("it can be made");
        }
    }
    Past {
        states,
        acknowledged,
    }
}

#[test]
fn after_a_crash_it_is_as_it_was_once_and_what_was_acknowledged_is_there() {
    for seed in 0..60 {
        let disk = CrashDisk::default();
        let past = past(&disk, seed);
        let n_ops = disk.n_ops();
        for at in (0..=n_ops).step_by(7) {
            let crashed = disk.crash(at, &mut Choices::random(seed * 1_000 + at as u64));
            let (_wal, namespace) = on_disk(&crashed).expect("it opens");
            let revision = namespace.read(Index::revision).0;
            let due = past.acknowledged.iter().rev().find(|(then, _)| *then <= at);
            let due = due.map_or(0, |(_, revision)| *revision);
            assert!(revision >= due, "seed {seed} at {at}: {revision} < {due}");
            assert_eq!(
                pieces(&namespace),
                past.states[&revision],
                "seed {seed} at {at}"
            );
        }
    }
}

#[test]
fn while_the_disk_is_full_nothing_is_committed_and_then_nothing_is_missing() {
    let disk = CrashDisk::default();
    let (wal, namespace) = on_disk(&disk).expect("nothing is there");
    let mut commands = commands(1, 10_000);
    for command in commands.by_ref().take(20) {
        namespace.commit(command).ok();
    }
    disk.set_room(0);
    let full = commands.by_ref().take(5_000).find_map(|command| {
        let error = namespace.commit(command).err()?;
        (error.kind == Kind::Exhausted).then_some(error)
    });
    assert!(full.is_some(), "the disk is full");
    let before = pieces(&namespace);
    let still = resume(&namespace, &wal);
    assert_eq!(still.expect_err("it still is").kind, Kind::Exhausted);
    let refused = namespace.commit(seal("refused", 100_000));
    assert_eq!(refused.expect_err("it still is").kind, Kind::Exhausted);
    assert_eq!(pieces(&namespace), before);
    disk.set_room(u64::MAX);
    resume(&namespace, &wal).expect("there is room");
    let done = namespace.commit(seal("after", 100_001)).expect("taken");
    done.ticket.wait().expect("durable");
    let after = pieces(&namespace);
    drop((namespace, wal));
    let (_wal, again) = on_disk(&disk).expect("it opens");
    assert_eq!(pieces(&again), after);
}

/// Positions are those of all logs of a directory: what another log appends meanwhile must not pass for what this one has not written.
#[test]
fn what_a_full_disk_refused_is_written_however_often_it_fills_again() {
    let disk = CrashDisk::default();
    let (wal, namespace) = on_disk(&disk).expect("nothing is there");
    let other = wal.log(LogId(9)).expect("another log");
    let mut commands = commands(2, 10_000);
    for command in commands.by_ref().take(20) {
        namespace.commit(command).ok();
    }
    let mut room = 0;
    let mut n_refused = 0;
    disk.set_room(room);
    for command in commands.take(2_000) {
        if !matches!(namespace.commit(command), Err(error) if error.kind == Kind::Exhausted) {
            continue;
        }
        loop {
            room += 4 << 10;
            disk.set_room(room);
            let resumed = namespace.resume(
                || wal.stats().is_full,
                || {
                    wal.resume();
                    if let Ok(ticket) = other.append(&[&[7; 700]]) {
                        ticket.wait().ok();
                    }
                    Ok(())
                },
            );
            if resumed.is_ok() {
                break;
            }
            n_refused += 1;
        }
    }
    assert!(n_refused > 10, "{n_refused}");
    disk.set_room(u64::MAX);
    resume(&namespace, &wal).expect("there is room");
    let done = namespace.commit(seal("after", 100_001)).expect("taken");
    done.ticket.wait().expect("durable");
    let after = pieces(&namespace);
    drop((namespace, other, wal));
    let (_wal, again) = on_disk(&disk).expect("it opens");
    assert_eq!(pieces(&again), after);
}
