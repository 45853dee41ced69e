//! Where bytes lie, and where none lie any more.

use super::{all_durable, append, container, create, done, name, put, why};
use crate::attributes::NO_VALUE;
use crate::container::Tiering;
use crate::names::{ConnectionId, Position, Seq};
use crate::op::Version;
use crate::segment::{KeyLength, Kind};
use crate::{Container, Limits, Op, Recovery, Refusal, SegmentId};

const ALL: u64 = u64::MAX;

fn free(container: &mut Container, op: &Op) -> Vec<(SegmentId, u64)> {
    done(container, op);
    let effects = all_durable(container);
    effects.into_iter().flat_map(|it| it.free).collect()
}

fn store(segment: SegmentId, to: u64) -> Op {
    Op::Store { segment, to }
}

fn truncate(segment: &str, offset: u64) -> Op {
    let segment = name(segment);
    Op::Truncate { segment, offset }
}

fn merge(target: &str, sources: &[&str]) -> Op {
    Op::MergeBatch {
        target: name(target),
        sources: sources.iter().copied().map(name).collect(),
    }
}

fn checkpoint(container: &mut Container) -> Vec<Vec<u8>> {
    let mut pieces: Vec<_> = container.checkpoint().collect();
    pieces.extend(container.positions(container.proposed_to()));
    pieces
}

#[test]
fn what_nobody_needs_in_long_term_storage_is_told() {
    let mut container = container(Limits::default());
    let (a, b, c) = (SegmentId(1), SegmentId(2), SegmentId(3));
    for segment in ["a", "b", "c"] {
        done(&mut container, &create(segment, Kind::Stream));
        done(&mut container, &append(segment, 1, NO_VALUE, b"0123456789"));
    }
    all_durable(&mut container);
    let steps = [
        (store(a, 4), vec![]),
        (truncate("a", 2), vec![(a, 2)]),
        (truncate("a", 2), vec![]),
        // All that is stored of it, and more; it may go on.
        (truncate("a", 10), vec![(a, 10)]),
        (store(b, 6), vec![]),
        // Nothing is stored of the last one.
        (merge("a", &["b", "c"]), vec![(c, ALL)]),
        (truncate("a", 13), vec![(b, 3), (a, 13)]),
        (store(a, 14), vec![(b, 4)]),
        (store(a, 25), vec![(b, ALL)]),
        (truncate("a", 20), vec![(a, 20)]),
        (Op::Delete(name("a")), vec![(a, ALL)]),
    ];
    for (op, wanted) in steps {
        assert_eq!(free(&mut container, &op), wanted, "{op:?}");
    }
    assert_eq!(container.needs(), None);
    assert_eq!(container.references(), [].into());
}

#[test]
fn positions_are_kept_of_records_that_are_needed() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &append("a", 1, NO_VALUE, b"x"));
    for previous in 1..100 {
        done(&mut container, &append("a", 1, previous, b"x"));
    }
    all_durable(&mut container);
    assert_eq!(container.needs(), Some(Seq(3)));
    assert_eq!(container.position(Seq(3)), Some(Position(3)));
    done(&mut container, &store(SegmentId(1), 50));
    assert_eq!(container.needs(), Some(Seq(53)));
    assert_eq!(container.position(Seq(52)), None);
    // One that is not durable is needed as well.
    done(&mut container, &truncate("a", 100));
    done(&mut container, &append("a", 1, 100, b"x"));
    assert_eq!(container.needs(), Some(Seq(105)));
    assert_eq!(container.position(Seq(105)), None);
    done(&mut container, &truncate("a", 101));
    assert_eq!(container.needs(), None);
    all_durable(&mut container);
    assert_eq!(container.position(Seq(105)), None);
    assert!(container.records.is_empty() && container.kept.is_empty());
}

#[test]
fn a_checkpoint_has_the_positions_that_it_needs_when_it_is_kept_later() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &append("a", 1, NO_VALUE, b"one"));
    all_durable(&mut container);
    done(&mut container, &append("a", 1, 1, b"two"));
    let (seq, needs) = (container.proposed_to(), container.needs());
    let mut pieces: Vec<_> = container.checkpoint().collect();
    let before = container.state.clone();
    done(&mut container, &truncate("a", 6));
    done(&mut container, &append("a", 1, 2, b"three"));
    all_durable(&mut container);
    assert_eq!(needs, Some(Seq(3)));
    assert_eq!(container.position(Seq(3)), Some(Position(3)));
    pieces.extend(container.positions(seq));
    let loaded = Recovery::load(pieces).expect("it is one");
    assert_eq!(loaded.state, before);
    container.truncated(Position(3));
    assert_eq!(container.position(Seq(4)), Some(Position(4)));
    container.truncated(Position(5));
    assert_eq!(container.position(Seq(4)), None);
    // The next one does not need them.
    let loaded = Recovery::load(checkpoint(&mut container)).expect("it is one");
    let needed: Vec<_> = loaded.positions.into_iter().collect();
    assert_eq!(needed, [(Seq(6), Position(6))]);
}

#[test]
fn only_what_is_to_be_stored_is_listed() {
    let mut container = container(Limits::default());
    let table = Kind::Table(KeyLength::Any);
    done(&mut container, &create("t", table));
    done(&mut container, &create("a", Kind::Stream));
    let transient = Kind::Transient(ConnectionId(1));
    done(&mut container, &create("b", transient));
    done(&mut container, &append("a", 1, NO_VALUE, b"one"));
    done(&mut container, &append("b", 1, NO_VALUE, b"one"));
    done(&mut container, &append("a", 1, 1, b"two"));
    done(&mut container, &Op::Seal(name("a")));
    all_durable(&mut container);
    done(&mut container, &store(SegmentId(2), 3));
    let mut wanted = Tiering {
        id: SegmentId(2),
        name: name("a"),
        kind: Kind::Stream,
        is_sealed: true,
        start_offset: 0,
        stored_to: 3,
        durable_to: 6,
        oldest: Some(Seq(7)),
    };
    assert_eq!(container.tiering().collect::<Vec<_>>(), [wanted.clone()]);
    done(&mut container, &truncate("a", 4));
    (wanted.start_offset, wanted.stored_to) = (4, 4);
    assert_eq!(container.tiering().collect::<Vec<_>>(), [wanted]);
    all_durable(&mut container);
    let loaded = Recovery::load(checkpoint(&mut container)).expect("it is one");
    assert_eq!(loaded.state.unstored, [SegmentId(2)].into());
    done(&mut container, &store(SegmentId(2), 6));
    assert_eq!(container.tiering().count(), 0);
}

#[test]
fn nothing_is_kept_of_a_table_but_its_entries() {
    let mut container = container(Limits::default());
    done(&mut container, &create("t", Kind::Table(KeyLength::Any)));
    let written = done(&mut container, &put("t", b"key", b"value", Version::Any));
    done(&mut container, &put("t", b"key", b"another", Version::Any));
    assert_eq!(container.needs(), None);
    all_durable(&mut container);
    let id = SegmentId(1);
    assert_eq!(container.position(written.seq), None);
    assert_eq!(container.usage().n_runs, 0);
    assert_eq!(container.tiering().count(), 0);
    assert_eq!(container.locate(id, 0, ALL), []);
    assert_eq!(container.references(), [].into());
    let other = Refusal::WrongKind(name("t"));
    let read = container.read(&name("t"), 0, 1);
    assert_eq!(read.expect_err("it is a table").why, other);
    assert_eq!(why(&mut container, &store(id, 25)), other);
    assert_eq!(why(&mut container, &truncate("t", 0)), other);
    let loaded = Recovery::load(checkpoint(&mut container)).expect("it is one");
    assert_eq!(loaded.state, container.state);
    assert_eq!(loaded.positions, [].into());
}

/// It took a step for each two of them.
#[test]
fn many_that_were_merged_are_stored_anew() {
    const N: u64 = 10_000;
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    for id in 2..N + 2 {
        done(&mut container, &create("b", Kind::Stream));
        done(&mut container, &append("b", 1, NO_VALUE, b"x"));
        all_durable(&mut container);
        done(&mut container, &store(SegmentId(id), 1));
        done(&mut container, &merge("a", &["b"]));
        all_durable(&mut container);
    }
    assert_eq!(container.usage().n_runs as u64, N);
    let freed = free(&mut container, &store(SegmentId(1), N));
    let wanted: Vec<_> = (2..N + 2).map(|id| (SegmentId(id), ALL)).collect();
    assert_eq!(freed, wanted);
    assert_eq!(container.usage().n_runs, 1);
}
