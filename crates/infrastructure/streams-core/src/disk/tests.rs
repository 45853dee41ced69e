//! Golden bytes, and bytes that are something else.

use bytes::Bytes;
use ids::Epoch;
use proptest::prelude::*;

use super::*;
use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::content::{Place, Run};
use crate::names::{ConnectionId, Position, SegmentId, SegmentName, Seq};
use crate::op::{Append, EventNumbers, Op, Put, Remove, Version};
use crate::record::{Body, Record};
use crate::segment::{KeyLength, Kind, LENGTH_MAX};
use crate::{Container, Limits, Recovery, Refusal};

const RECORDS: &str = include_str!("../../tests/golden/records-1.txt");
const CHECKPOINT: &str = include_str!("../../tests/golden/checkpoint-1.txt");

const AT_MS: u64 = 1_790_000_000_000;

fn name(text: &str) -> SegmentName {
    SegmentName::new(text).expect("a name")
}

fn create(segment: &str, kind: Kind) -> Op {
    let creation_time = AttributeUpdate {
        id: AttributeId::CREATION_TIME,
        value: i64::try_from(AT_MS).expect("it is small"),
        kind: UpdateKind::None,
    };
    Op::Create {
        segment: name(segment),
        kind,
        attributes: vec![creation_time],
    }
}

fn events(segment: &str, data: &'static [u8], previous: i64) -> Op {
    let numbers = EventNumbers {
        writer: AttributeId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        previous,
        last: previous.max(0) + 3,
        n_events: 3,
    };
    Op::Append(Append::events(
        name(segment),
        Bytes::from_static(data),
        numbers,
    ))
}

/// Each kind of record at least once.
fn ops() -> Vec<Op> {
    let (main, part) = (
        "scope/stream/0.#epoch.0",
        "scope/stream/0.#epoch.0#transient.1",
    );
    let (table, sorted) = ("_system/t/0.#epoch.0", "_system/sorted/0.#epoch.0");
    let put = |key: &'static [u8], value: &'static [u8], when| Put {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
        when,
    };
    vec![
        create(main, Kind::Stream),
        create(part, Kind::Transient(ConnectionId(7))),
        create(table, Kind::Table(KeyLength::Any)),
        create(sorted, Kind::Table(KeyLength::Bytes(2))),
        events(main, b"one two three", NO_VALUE),
        events(main, b" four", 3),
        events(part, b" and more", NO_VALUE),
        Op::Merge {
            target: name(main),
            source: name(part),
            attributes: Vec::new(),
        },
        Op::PutEntries {
            table: name(table),
            entries: vec![
                put(b"key", b"value", Version::Absent),
                put(b"another key", b"", Version::Any),
            ],
            expected_length: Some(0),
        },
        Op::RemoveEntries {
            table: name(table),
            keys: vec![Remove {
                key: Bytes::from_static(b"another key"),
                when: Version::Is(25),
            }],
            expected_length: None,
        },
        Op::PutEntries {
            table: name(sorted),
            entries: vec![put(b"k1", b"v", Version::Any)],
            expected_length: None,
        },
        Op::Store {
            segment: SegmentId(1),
            to: 15,
        },
        Op::Truncate {
            segment: name(main),
            offset: 2,
        },
        Op::UpdateAttributes {
            segment: name(main),
            updates: vec![AttributeUpdate {
                id: AttributeId(5),
                value: -1,
                kind: UpdateKind::Replace,
            }],
        },
        create("deleted", Kind::Stream),
        Op::Delete(name("deleted")),
        create("sealed", Kind::Stream),
        Op::Seal(name("sealed")),
        create(part, Kind::Transient(ConnectionId(8))),
    ]
}

/// The records of all that, and what they come to.
fn history() -> (Vec<Bytes>, Container) {
    let opened = Recovery::new().open(Limits::default(), Epoch(5), AT_MS);
    let (mut container, first) = opened.expect("it is the first owner");
    let mut records = vec![first.record.parts().concat().into()];
    container.durable(Position(1000));
    for op in ops() {
        let proposal = container.propose(&op, AT_MS + 1).expect("it is allowed");
        records.push(proposal.record.parts().concat().into());
        container.durable(Position(1000 * proposal.seq.0));
    }
    (records, container)
}

fn checkpoint(container: &mut Container) -> Vec<Vec<u8>> {
    let mut pieces: Vec<_> = container.checkpoint().collect();
    pieces.extend(container.positions(container.proposed_to()));
    pieces
}

fn replay(records: &[Bytes]) -> Recovery {
    let mut recovery = Recovery::new();
    for (seq, record) in (1..).zip(records) {
        let done = recovery.replay(Position(1000 * seq), record);
        done.expect("it is one");
    }
    recovery
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden() {
    let (records, mut container) = history();
    let records: Vec<_> = records.iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(records, RECORDS.lines().collect::<Vec<_>>());
    let pieces: Vec<_> = checkpoint(&mut container)
        .iter()
        .map(|bytes| hex(bytes))
        .collect();
    assert_eq!(pieces, CHECKPOINT.lines().collect::<Vec<_>>());
}

#[test]
fn what_was_written_is_read() {
    let (records, mut container) = history();
    let mut kinds = std::collections::HashSet::new();
    for bytes in &records {
        let (record, at) = Record::decode(bytes).expect("it is one");
        let encoded = record.encode();
        assert_eq!(encoded.parts().concat(), bytes[..]);
        assert_eq!(encoded.payload_at(), at);
        kinds.insert(std::mem::discriminant(&record.body));
    }
    assert_eq!(kinds.len(), 10, "each kind is in the history");
    let replayed = replay(&records);
    assert_eq!(replayed.state, container.state);
    let loaded = Recovery::load(checkpoint(&mut container)).expect("it is one");
    assert_eq!(loaded, replayed);
}

#[test]
fn the_header_of_an_append_is_small() {
    let (records, _) = history();
    let (record, at) = Record::decode(&records[6]).expect("it is one");
    assert!(matches!(record.body, Body::Appended { .. }));
    assert!(at <= 64, "{at}");
}

#[test]
fn what_is_cut_or_too_long_or_of_another_version_is_refused() {
    let (records, mut container) = history();
    let is_refused = |bytes: &[u8]| {
        let record = Record::decode(&Bytes::copy_from_slice(bytes));
        assert!(record.is_err(), "{bytes:?}");
    };
    for record in &records {
        let mut bytes = record.to_vec();
        for cut in 0..bytes.len() {
            is_refused(&bytes[..cut]);
        }
        bytes.push(0);
        is_refused(&bytes);
        bytes.pop();
        bytes[0] = VERSION + 1;
        is_refused(&bytes);
    }
    let pieces = checkpoint(&mut container);
    for idx in 0..pieces.len() {
        let mut without = pieces.clone();
        without.remove(idx);
        assert!(Recovery::load(without).is_err(), "without {idx}");
        let mut with = pieces.clone();
        for cut in 0..pieces[idx].len() {
            with[idx] = pieces[idx][..cut].to_vec();
            assert!(Recovery::load(&with).is_err(), "{idx} cut to {cut}");
        }
        with[idx] = [&pieces[idx][..], b"\0"].concat();
        assert!(Recovery::load(&with).is_err(), "{idx} is longer");
    }
}

#[test]
fn a_log_without_one_of_its_records_is_refused() {
    let (records, _) = history();
    for missing in 1..records.len() - 1 {
        let mut recovery = replay(&records[..missing]);
        let next = &records[missing + 1];
        assert!(recovery.replay(Position(1), next).is_err());
    }
}

/// Whatever it says, it is refused, or a state that can go on and be kept.
fn is_refused_or_goes_on(recovery: Result<Recovery, Corrupt>) {
    let Ok(recovery) = recovery else { return };
    let epoch = Epoch(recovery.state.epoch.0.saturating_add(1));
    let Ok((mut container, _)) = recovery.open(Limits::default(), epoch, AT_MS) else {
        return;
    };
    container.durable(Position(u64::MAX));
    for op in ops() {
        if container.propose(&op, AT_MS).is_ok() {
            container.durable(Position(u64::MAX));
        }
    }
    for tiering in container.tiering().collect::<Vec<_>>() {
        let sources = container.locate(tiering.id, 0, u64::MAX);
        assert!(sources.len() <= container.usage().n_runs);
    }
    let loaded = Recovery::load(checkpoint(&mut container)).expect("it was just drawn");
    assert_eq!(loaded.state, container.state);
}

/// Each byte another one, gone, or followed by the largest number.
fn nearly(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    const LARGEST: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    (0..bytes.len()).flat_map(move |at| {
        let byte = bytes[at];
        let with = [
            vec![0],
            vec![1],
            vec![byte ^ 1],
            vec![byte ^ 0x80],
            vec![byte.wrapping_add(1)],
            Vec::new(),
            LARGEST.to_vec(),
        ];
        with.into_iter().map(move |with| {
            let mut nearly = bytes.to_vec();
            nearly.splice(at..=at, with);
            nearly
        })
    })
}

#[test]
fn what_is_nearly_a_record_or_a_checkpoint_is_refused_or_goes_on() {
    let (records, mut container) = history();
    for (idx, record) in records.iter().enumerate() {
        let before = replay(&records[..idx]);
        for bytes in nearly(record) {
            let mut recovery = before.clone();
            let replayed = recovery.replay(Position(1), &bytes.into());
            is_refused_or_goes_on(replayed.map(|()| recovery));
        }
    }
    let pieces = checkpoint(&mut container);
    for idx in 0..pieces.len() {
        for bytes in nearly(&pieces[idx]) {
            let mut pieces = pieces.clone();
            pieces[idx] = bytes;
            is_refused_or_goes_on(Recovery::load(pieces));
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_or_goes_on(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let (records, _) = history();
        let which = which.index(records.len());
        let mut damaged = records[which].to_vec();
        let at = at.index(damaged.len());
        damaged.splice(at.., bytes.iter().copied());
        for bytes in [bytes, damaged] {
            let mut recovery = replay(&records[..which]);
            let replayed = recovery.replay(Position(1), &bytes.into());
            is_refused_or_goes_on(replayed.map(|()| recovery));
        }
    }
}

const NUMBERS: [u64; 9] = [
    0,
    1,
    7,
    LENGTH_MAX / 2,
    LENGTH_MAX - 1,
    LENGTH_MAX,
    LENGTH_MAX + 1,
    u64::MAX / 2,
    u64::MAX,
];

/// Segments that are as long as these numbers say, each with one run that begins so far behind where it lies.
fn long(numbers: &[(u64, u64)]) -> Vec<Vec<u8>> {
    let opened = Recovery::new().open(Limits::default(), Epoch(5), AT_MS);
    let (mut container, _) = opened.expect("it is the first owner");
    container.durable(Position(1));
    let mut gone = Vec::new();
    for idx in 0..numbers.len() * 2 {
        let created = container.propose(&create(&idx.to_string(), Kind::Stream), AT_MS);
        container.durable(Position(1 + created.expect("it is new").seq.0));
        if idx % 2 == 1 {
            gone.push(Op::Delete(name(&idx.to_string())));
        }
    }
    for op in gone {
        container.propose(&op, AT_MS).expect("it is there");
        container.durable(Position(1000));
    }
    for (segment, (bytes, offset)) in container.state.segments.values_mut().zip(numbers) {
        let of = SegmentId(container.state.names[&segment.name].0 + 1);
        let (bytes, offset) = (*bytes, *offset);
        let place = Place::Stored { of, offset };
        segment.length = bytes;
        segment.content = [(0, Run { bytes, place })].into_iter().collect();
    }
    checkpoint(&mut container)
}

#[test]
fn what_is_too_long_to_be_merged_is_refused() {
    let pieces = long(&[(LENGTH_MAX, 0); 6]);
    let recovery = Recovery::load(pieces).expect("none is too long");
    let opened = recovery.open(Limits::default(), Epoch(6), AT_MS);
    let (mut container, _) = opened.expect("it is a later owner");
    let merge = Op::MergeBatch {
        target: name("0"),
        sources: ["2", "4", "6", "8", "10"].map(name).to_vec(),
    };
    let refused = container
        .propose(&merge, AT_MS)
        .expect_err("it is too long");
    let what = "bytes of a segment";
    assert_eq!(refused.why, Refusal::Limit { what });
}

proptest! {
    #[test]
    fn lengths_that_nobody_has_are_refused_or_go_on(
        numbers in prop::collection::vec(
            (prop::sample::select(&NUMBERS[..]), prop::sample::select(&NUMBERS[..])),
            3..6,
        ),
        to in prop::sample::select(&NUMBERS[..]),
        which in any::<prop::sample::Index>(),
        bits in prop::option::of((any::<prop::sample::Index>(), 0..8)),
    ) {
        let mut pieces = long(&numbers);
        if let Some((at, bit)) = bits {
            let which = which.index(pieces.len());
            let at = at.index(pieces[which].len());
            pieces[which][at] ^= 1_u8 << bit;
        }
        let Ok(recovery) = Recovery::load(pieces) else { return Ok(()) };
        is_refused_or_goes_on(Ok(recovery.clone()));
        let Ok((mut container, _)) = recovery.open(Limits::default(), Epoch(6), AT_MS) else {
            return Ok(());
        };
        container.durable(Position(u64::MAX));
        let merge = |target: &str, sources: &[&str]| Op::MergeBatch {
            target: name(target),
            sources: sources.iter().copied().map(name).collect(),
        };
        for op in [
            merge("0", &["2"]),
            merge("0", &["4", "6", "8"]),
            Op::Truncate { segment: name("0"), offset: to },
            Op::Store { segment: SegmentId(1), to },
            events("0", b"abc", NO_VALUE),
        ] {
            if container.propose(&op, AT_MS).is_ok() {
                container.durable(Position(u64::MAX));
            }
            let loaded = Recovery::load(checkpoint(&mut container)).expect("it was just drawn");
            prop_assert_eq!(&loaded.state, &container.state);
        }
    }
}

#[test]
fn records_that_are_known_are_passed_over() {
    let (records, mut container) = history();
    let mut loaded = Recovery::load(checkpoint(&mut container)).expect("it is one");
    let before = loaded.clone();
    for record in &records {
        loaded.replay(Position(9), record).expect("it is one");
    }
    assert_eq!(loaded, before);
    assert_eq!(loaded.seq(), Seq(records.len() as u64));
}
