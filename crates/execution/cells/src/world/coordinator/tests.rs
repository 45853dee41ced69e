use std::path::Path;

use super::*;
use crate::disk::log::Log;

/// The host of all ranks; others count from 0.
const HOME: HostId = 1 << 30;

/// The coordinator of two ranks, and no process.
fn coordinator(dir: &Path) -> Coordinator<'static> {
    let world = World {
        name: "test".into(),
        module: Vec::new(),
        n_ranks: 2,
        n_hosts: 1,
        args: Vec::new(),
        env: Vec::new(),
        mounts: Vec::new(),
        memory_bytes_max: 1 << 20,
        hash_memory: false,
        proof: Proof::None,
        schedule: crate::world::Schedule::None,
        checkpoint_every: None,
        marks: false,
        interpret: false,
        report_moves: false,
        fail_point: None,
        host_program: "/nowhere".into(),
        log: String::new(),
        state_dir: dir.to_owned(),
        code_dir: dir.to_owned(),
    };
    let setting = Setting::temporary("test".into(), dir.to_owned(), 1 << 16);
    let out = Out::Log(Log::open(&dir.join("log"), 0).expect("a log"));
    let mut coordinator = Coordinator::new(world, setting, out).expect("it listens");
    let rank = || RankState {
        host: HOME,
        speakers: [HOME].into(),
        epoch: 1,
        ended: None,
        outputs: 0,
        trace: (0, Vec::new()),
    };
    coordinator.ranks = vec![rank(), rank()];
    coordinator
}

/// A host that others have started, and that has no rank.
fn stranger(coordinator: &mut Coordinator<'_>) -> HostId {
    let key = auth::KeyRequest::new()
        .expect("a key")
        .public_key()
        .to_vec();
    let admitted = coordinator
        .starter
        .admit(coordinator.id, "edge", key, false);
    let host = admitted.expect("a key on the curve");
    let id = host.id;
    coordinator.hosts.insert(id, host);
    id
}

#[test]
fn a_coordinator_rests_while_what_is_due_cannot_begin() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = coordinator(dir.path());
    let now = rt::now();
    assert_eq!(coordinator.patience(now), Duration::from_secs(1));
    // It was looked at and is still to be done: what it waits for is none of its own.
    coordinator.next_checkpoint = Some(now);
    assert_eq!(coordinator.patience(now), BLOCKED_PERIOD);
    coordinator.retry_output_at = Some(now);
    assert_eq!(coordinator.patience(now), BLOCKED_PERIOD);
    // It has become due since.
    let before = now.checked_sub(Duration::from_millis(1)).expect("it is");
    assert_eq!(coordinator.patience(before), Duration::ZERO);
    (coordinator.next_checkpoint, coordinator.retry_output_at) =
        (Some(now + Duration::from_secs(3600)), None);
    assert!(coordinator.patience(now) > Duration::from_secs(3000));
}

#[test]
fn a_host_that_speaks_of_a_rank_that_it_never_had_is_not_heard_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = coordinator(dir.path());
    let bytes = || b"lies\n".to_vec();
    for rank in [0, 1, 2, u32::MAX] {
        let events = [
            Event::Output {
                rank,
                seq: 0,
                stderr: false,
                bytes: bytes(),
            },
            Event::Piece {
                id: 0,
                rank,
                bytes: bytes(),
            },
            Event::Marks {
                rank,
                marks: vec![(1, 1)],
            },
            Event::Exited {
                rank,
                ended: Ended::Abort(3),
                outputs: 0,
                hash: None,
            },
            Event::Trace {
                rank,
                bytes: bytes(),
            },
        ];
        for event in events {
            let id = stranger(&mut coordinator);
            let input = Input::Event(id, event.clone());
            coordinator.take(input).expect("nothing is broken");
            assert!(coordinator.hosts[&id].is_distrusted, "{event:?}");
            let reason = "it says so".into();
            let input = Input::Event(id, Event::Broken { reason });
            coordinator.take(input).expect("it is not heard");
        }
    }
    assert!(coordinator.verdict.is_none() && coordinator.report.marks.is_empty());
    for state in &coordinator.ranks {
        assert!(state.ended.is_none() && state.trace.1.is_empty());
    }
    let (_, text) = crate::disk::log::read(&dir.path().join("log"), 0, 100).expect("read");
    assert_eq!(text, b"");
}

/// The host that has a rank is heard, and not twice.
#[test]
fn a_host_is_heard_of_its_own_ranks_and_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = coordinator(dir.path());
    let id = stranger(&mut coordinator);
    coordinator.ranks[1].speakers.insert(id);
    for code in [3, 4] {
        let output = Event::Output {
            rank: 1,
            seq: 0,
            stderr: false,
            bytes: b"true\n".to_vec(),
        };
        let exited = Event::Exited {
            rank: 1,
            ended: Ended::Exit(code),
            outputs: 1,
            hash: None,
        };
        for event in [output, exited] {
            let input = Input::Event(id, event);
            coordinator.take(input).expect("it is heard");
        }
    }
    assert!(matches!(coordinator.verdict, Some(Ok(3))));
    let (_, text) = crate::disk::log::read(&dir.path().join("log"), 0, 100).expect("read");
    assert_eq!(text, b"true\n");
}
