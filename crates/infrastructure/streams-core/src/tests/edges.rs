//! Limits, when what may be told, and what upstream's clients rely on.

use bytes::Bytes;
use ids::Epoch;

use super::{ALL, all_durable, append, container, create, done, name, put, why};
use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::container::{Proposal, Readable};
use crate::names::{ConnectionId, Position, Seq};
use crate::op::{Outcome, Refused, Remove, Version};
use crate::segment::{KeyLength, Kind};
use crate::table::{Bounds, Page};
use crate::{Limits, Op, Recovery, Refusal, SegmentId};

#[test]
fn so_many_attributes_change_at_once_and_no_more() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    let count = AttributeUpdate {
        id: AttributeId::EVENT_COUNT,
        value: 0,
        kind: UpdateKind::Accumulate,
    };
    let update = |n| Op::UpdateAttributes {
        segment: name("a"),
        updates: vec![count; n],
    };
    done(&mut container, &update(4_096));
    let what = "updates of attributes at once";
    let many = Refusal::Limit { what };
    assert_eq!(why(&mut container, &update(4_097)), many);
}

#[test]
fn each_limit_is_one() {
    let limits = Limits {
        segments_max: 2,
        segment_attributes_max: 3,
        attributes_max: 5,
        runs_max: 3,
        // One small entry, and not two.
        tables_bytes_max: 300,
        table_batch_bytes_max: 90,
        sources_max: 2,
        ..Limits::default()
    };
    let mut container = container(limits);
    let limit = |what| Refusal::Limit { what };
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &create("t", Kind::Table(KeyLength::Any)));
    let third = create("b", Kind::Stream);
    assert_eq!(why(&mut container, &third), limit("segments"));
    // Each writer is an attribute, and the count of events is one.
    done(&mut container, &append("a", 1, NO_VALUE, b"1"));
    done(&mut container, &append("a", 2, NO_VALUE, b"2"));
    let third = append("a", 3, NO_VALUE, b"3");
    assert_eq!(
        why(&mut container, &third),
        limit("attributes of a segment")
    );
    done(&mut container, &append("a", 1, 1, b"4"));
    let large = put("t", b"k", &[0; 80], Version::Any);
    assert_eq!(why(&mut container, &large), limit("bytes of entries"));
    done(&mut container, &put("t", b"k", &[0; 50], Version::Any));
    let more = put("t", b"l", b"", Version::Any);
    assert_eq!(why(&mut container, &more), limit("bytes of entries"));
    let runs = limit("bytes that are not in long-term storage");
    assert_eq!(why(&mut container, &append("a", 1, 2, b"5")), runs);
    let merge = Op::MergeBatch {
        target: name("a"),
        sources: vec![name("x"); 3],
    };
    assert_eq!(why(&mut container, &merge), limit("segments to be merged"));
    let key = Op::RemoveEntries {
        table: name("t"),
        keys: vec![
            Remove {
                key: Bytes::from_static(b"k"),
                when: Version::Any
            };
            6
        ],
        expected_length: None,
    };
    assert_eq!(why(&mut container, &key), limit("bytes of keys"));
}

#[test]
fn what_is_under_way_is_limited() {
    let mut container = container(Limits {
        pending_max: 2,
        pending_bytes_max: 1000,
        ..Limits::default()
    });
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &create("b", Kind::Stream));
    assert_eq!(
        why(&mut container, &create("c", Kind::Stream)),
        Refusal::Busy
    );
    container.durable(Position(2));
    // One record is let in however large it is.
    done(&mut container, &append("a", 1, NO_VALUE, &[0; 5000]));
    container.durable(Position(3));
    assert_eq!(why(&mut container, &append("a", 1, 1, b"x")), Refusal::Busy);
    container.durable(Position(4));
    done(&mut container, &append("a", 1, 1, b"x"));
    assert!(container.usage().pending_bytes < 100);
}

#[test]
fn bytes_are_read_when_they_are_durable_and_all_else_says_when() {
    let mut container = container(Limits::default());
    let created = done(&mut container, &create("a", Kind::Stream));
    let appended = done(&mut container, &append("a", 1, NO_VALUE, b"hello"));
    assert_eq!(appended.outcome, Outcome::Appended { length: 5 });
    let Outcome::Created(id) = created.outcome else {
        panic!("it is created");
    };
    let tail = Ok(Readable::AtTail(id));
    assert_eq!(container.read(&name("a"), 0, 10), tail);
    let number = container.attribute(&name("a"), AttributeId(1));
    let number = number.expect("it is there");
    assert_eq!((number.value, number.as_of), (1, appended.seq));
    let effects = all_durable(&mut container);
    assert_eq!(effects[1].changed, Some(id));
    let Ok(Readable::Bytes(sources)) = container.read(&name("a"), 1, 3) else {
        panic!("there are bytes");
    };
    assert_eq!(sources.len(), 1);
    // Sealing and deleting are seen at once by what comes behind, and by readers when they are durable.
    done(&mut container, &Op::Seal(name("a")));
    assert_eq!(container.read(&name("a"), 5, 1), tail);
    assert_eq!(
        why(&mut container, &append("a", 1, 1, b"x")),
        Refusal::Sealed(name("a"))
    );
    container.durable(Position(9));
    assert_eq!(container.read(&name("a"), 5, 1), Ok(Readable::End));
    let deleted = done(&mut container, &Op::Delete(name("a")));
    let refused = container.read(&name("a"), 0, 1);
    let wanted = Refused {
        why: Refusal::NoSuchSegment(name("a")),
        as_of: deleted.seq,
    };
    assert_eq!(refused, Err(wanted));
    assert_eq!(all_durable(&mut container)[0].gone, [id]);
}

#[test]
fn an_append_that_fails_its_condition_does_not_hurt_those_behind_it() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &append("a", 1, NO_VALUE, b"one"));
    let Op::Append(second) = append("a", 1, 1, b"two") else {
        panic!("it is an append");
    };
    let conditional = Op::Append(second.clone().at(2));
    assert_eq!(
        why(&mut container, &conditional),
        Refusal::BadOffset { expected: 3 }
    );
    done(&mut container, &Op::Append(second.clone().at(3)));
    // The same again is a duplicate, whatever the offset is.
    let id = AttributeId(1);
    let duplicate = Refusal::BadAttribute { id, found: 2 };
    assert_eq!(why(&mut container, &Op::Append(second.at(6))), duplicate);
}

#[test]
fn transient_segments_are_gone_with_their_owner() {
    let mut container = container(Limits::default());
    let mine = ConnectionId(5);
    done(&mut container, &create("a", Kind::Transient(mine)));
    done(
        &mut container,
        &create("b", Kind::Transient(ConnectionId(6))),
    );
    let found: Vec<_> = container.transient(mine).cloned().collect();
    assert_eq!(found, [name("a")]);
    all_durable(&mut container);
    let pieces: Vec<_> = container.checkpoint().collect();
    let recovery = Recovery::load(pieces).expect("it is one");
    let same = recovery.clone().open(Limits::default(), Epoch(1), 0);
    assert!(same.is_err(), "an owner that is not later");
    let opened = recovery.open(Limits::default(), Epoch(2), 0);
    let (mut next, _) = opened.expect("it is a later owner");
    assert_eq!(next.usage().n_segments, 0);
    // The records say so, too: a name is free again in the log.
    done(&mut next, &create("a", Kind::Stream));
    let ids = [SegmentId(1), SegmentId(2)];
    assert_eq!(all_durable(&mut next)[0].gone, ids);
}

#[test]
fn entries_are_where_upstream_has_them() {
    let mut container = container(Limits::default());
    done(&mut container, &create("t", Kind::Table(KeyLength::Any)));
    let first = done(&mut container, &put("t", b"key", b"value", Version::Absent));
    let second = done(&mut container, &put("t", b"k", b"", Version::Any));
    let versions = |proposal: Proposal| match proposal.outcome {
        Outcome::Put { versions } => versions,
        other => panic!("{other:?}"),
    };
    assert_eq!(versions(first), [0]);
    assert_eq!(versions(second), [25]);
    let info = container.info(&name("t")).expect("it is there").value;
    assert_eq!((info.length, info.n_entries), (43, 2));
    let offset = Op::PutEntries {
        table: name("t"),
        entries: Vec::new(),
        expected_length: Some(42),
    };
    assert_eq!(
        why(&mut container, &offset),
        Refusal::BadOffset { expected: 43 }
    );
    for (when, refusal) in [
        (Version::Absent, Refusal::KeyBadVersion),
        (Version::Is(3), Refusal::KeyBadVersion),
    ] {
        assert_eq!(why(&mut container, &put("t", b"key", b"", when)), refusal);
    }
    let missing = put("t", b"no", b"", Version::Is(0));
    assert_eq!(why(&mut container, &missing), Refusal::KeyDoesNotExist);
}

#[test]
fn a_delta_goes_on_over_what_was_removed() {
    let mut container = container(Limits::default());
    done(&mut container, &create("t", Kind::Table(KeyLength::Any)));
    done(&mut container, &put("t", b"a", b"1", Version::Any));
    done(&mut container, &put("t", b"b", b"2", Version::Any));
    let position = container
        .info(&name("t"))
        .expect("it is there")
        .value
        .length;
    let remove = Op::RemoveEntries {
        table: name("t"),
        keys: vec![Remove {
            key: Bytes::from_static(b"b"),
            when: Version::Is(19),
        }],
        expected_length: None,
    };
    done(&mut container, &remove);
    let delta = container.delta(&name("t"), position, ALL);
    let delta = delta.expect("it is a table").value;
    assert_eq!(delta.entries, []);
    assert_eq!((delta.last_position, delta.reached_end), (56, true));
    let beyond = container.delta(&name("t"), 1000, ALL);
    assert!(matches!(
        beyond.expect_err("too far").why,
        Refusal::Invalid(_)
    ));
}

#[test]
fn an_iteration_goes_on_whatever_changes() {
    let mut container = container(Limits::default());
    let fixed = Kind::Table(KeyLength::Bytes(1));
    done(&mut container, &create("t", fixed));
    for key in [b"c", b"a", b"e", b"d"] {
        done(&mut container, &put("t", key, b"v", Version::Any));
    }
    let page = Page {
        items_max: 2,
        ..ALL
    };
    let mut bounds = Bounds {
        from: Bytes::from_static(b"b"),
        to: Bytes::from_static(b"d"),
        token: Bytes::new(),
    };
    let keys = container.keys(&name("t"), &bounds, page).expect("so").value;
    let found: Vec<_> = keys.keys.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!(found, [b"c", b"d"]);
    // What it ended with is gone when it goes on.
    let remove = Op::RemoveEntries {
        table: name("t"),
        keys: vec![Remove {
            key: Bytes::from_static(b"d"),
            when: Version::Any,
        }],
        expected_length: None,
    };
    done(&mut container, &remove);
    bounds.to = Bytes::new();
    bounds.token = keys.token;
    let pages = container.entries(&name("t"), &bounds, page);
    let pages = pages.expect("so").value;
    assert_eq!(pages.entries.len(), 1);
    assert_eq!(&pages.entries[0].key[..], b"e");
    bounds.token = Bytes::from_static(b"\x07what");
    let refused = container.entries(&name("t"), &bounds, page);
    assert!(matches!(
        refused.expect_err("no token").why,
        Refusal::Invalid(_)
    ));
    let long = put("t", b"ab", b"", Version::Any);
    assert!(matches!(why(&mut container, &long), Refusal::Invalid(_)));
}

#[test]
fn segments_are_listed_by_their_names() {
    let mut container = container(Limits::default());
    for segment in ["c", "a", "b"] {
        done(&mut container, &create(segment, Kind::Stream));
    }
    let page = |after: Option<&str>, n| {
        let after = after.map(name);
        let answer = container.segments(after.as_ref(), n);
        assert_eq!(answer.as_of, Seq(4));
        let listed = answer.value.into_iter();
        listed
            .map(|(name, info)| (name.to_string(), info.id.0))
            .collect::<Vec<_>>()
    };
    let of = |names: &[(&str, u64)]| {
        names
            .iter()
            .map(|(name, id)| ((*name).to_owned(), *id))
            .collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2), of(&[("a", 2), ("b", 3)]));
    assert_eq!(page(Some("aa"), 9), of(&[("b", 3), ("c", 1)]));
    assert_eq!(page(Some("c"), 9), of(&[]));
}

#[test]
fn one_answer_has_so_many_entries_and_no_more() {
    let mut container = container(Limits::default());
    done(&mut container, &create("t", Kind::Table(KeyLength::Any)));
    // With key and header it is a MiB.
    let value = vec![0; (1 << 20) - 18];
    done(&mut container, &put("t", b"k", &value, Version::Any));
    let get = |n, key| container.entries_of(&name("t"), &vec![Bytes::from_static(key); n]);
    assert_eq!(get(8, b"k").expect("it is little").value.len(), 8);
    let what = "bytes of entries in an answer";
    let limit = Refusal::Limit { what };
    assert_eq!(get(9, b"k").expect_err("it is much").why, limit);
    // One that is not there is told with its key.
    let absent = get(1 << 19, b"x").expect_err("it is much");
    assert_eq!(absent.why, limit);
}

#[test]
fn merges_keep_what_long_term_storage_has_as_long_as_it_is_needed() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    done(&mut container, &create("b", Kind::Stream));
    done(&mut container, &append("a", 1, NO_VALUE, b"one"));
    done(&mut container, &append("b", 1, NO_VALUE, b"two"));
    all_durable(&mut container);
    let (a, b) = (SegmentId(1), SegmentId(2));
    let store = |segment, to| Op::Store { segment, to };
    done(&mut container, &store(b, 3));
    let merge = Op::MergeBatch {
        target: name("a"),
        sources: vec![name("b"), name("b"), name("nobody")],
    };
    let merged = done(&mut container, &merge);
    let lengths = vec![6, 6, 6];
    assert_eq!(merged.outcome, Outcome::Merged { lengths });
    let effects = all_durable(&mut container);
    assert_eq!(effects[1].gone, [b]);
    assert_eq!(effects[1].free, []);
    assert_eq!(container.needs(), Some(Seq(4)));
    done(&mut container, &store(a, 6));
    assert_eq!(all_durable(&mut container)[0].free, [(b, u64::MAX)]);
    assert_eq!(container.needs(), None);
    assert_eq!(container.references(), [(a, 0)].into());
    done(&mut container, &Op::Delete(name("a")));
    assert_eq!(all_durable(&mut container)[0].free, [(a, u64::MAX)]);
}

#[test]
fn fixed_attributes_do_not_change() {
    let mut container = container(Limits::default());
    done(&mut container, &create("a", Kind::Stream));
    let update = Op::UpdateAttributes {
        segment: name("a"),
        updates: vec![AttributeUpdate {
            id: AttributeId(1 << 127 | 9),
            value: 1,
            kind: UpdateKind::Replace,
        }],
    };
    assert!(matches!(why(&mut container, &update), Refusal::Invalid(_)));
}
