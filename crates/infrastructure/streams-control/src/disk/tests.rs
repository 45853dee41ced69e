//! Golden bytes, and bytes that are something else.

use super::*;
use crate::epochs::tests::{epoch, id};

/// Of the first who wrote them.
const FIRST: &str = include_str!("golden/rows-1.txt");
/// As they are written.
const GOLDEN: &str = include_str!("golden/rows-2.txt");

fn name() -> StreamName {
    StreamName::new("lab", "video").expect("names")
}

fn config() -> Config {
    Config {
        scaling: Scaling {
            rate: Rate::Events(300),
            factor: 2,
            segments_min: 3,
        },
        retention: Some(Retention::Time {
            min_ms: 1,
            max_ms: 300,
        }),
        tags: ["a".to_owned(), "é".to_owned()].into(),
        timestamp_aggregation_timeout_ms: 7,
        rollover_size_bytes: 1 << 20,
    }
}

fn txn(low: u64) -> TxnId {
    TxnId {
        high: (2 << 32) | 5,
        low,
    }
}

fn at() -> Stamp {
    Stamp {
        counted_ms: 300,
        wall_ms: 1_790_000_000_000,
    }
}

fn streams() -> Vec<StreamRow> {
    let plain = StreamRow {
        config: config(),
        created_at_ms: 300,
        state: State::Active,
        active: Epoch(2),
        commit: None,
        head: None,
    };
    let commit = |is_rolling| {
        Some(Commit {
            epoch: Epoch(2),
            txns: vec![txn(1), txn(0)],
            is_rolling,
        })
    };
    let head = Some(Head {
        cut: [(id(0, 1), 7), (id(2, 4), -1)].into(),
        size: 300,
    });
    let segment = Segment {
        id: id(3, 5),
        range: Range::new(0.25, 0.5).expect("a range"),
    };
    let in_state = |state| StreamRow {
        state,
        ..plain.clone()
    };
    let mut sized = in_state(State::Creating);
    sized.config.scaling.rate = Rate::Kilobytes(1);
    sized.config.retention = Some(Retention::Size {
        min_bytes: 1,
        max_bytes: 2,
    });
    let mut fixed = in_state(State::Updating(config()));
    fixed.config.scaling.rate = Rate::Fixed;
    fixed.config.retention = None;
    vec![
        plain.clone(),
        sized,
        fixed,
        in_state(State::Scaling(Replacement {
            sealed: vec![id(2, 4)],
            created: vec![segment],
        })),
        StreamRow {
            head,
            ..in_state(State::Truncating([(id(0, 0), 3)].into()))
        },
        StreamRow {
            commit: commit(true),
            ..in_state(State::Committing)
        },
        StreamRow {
            commit: commit(false),
            ..in_state(State::Sealing)
        },
        in_state(State::Sealed),
        in_state(State::Deleting),
    ]
}

/// Each kind, in each state.
fn rows() -> Vec<(Key, Row)> {
    let mut sealed = epoch(1, &[(0, 1, 0.5, 1.0), (1, 2, 0.0, 0.5)]);
    sealed.sealed.insert(id(0, 0), 300);
    let txn_row = |state| {
        let row = TxnRow {
            state,
            lease_ms: 10_000,
            execution_ms_max: 300,
            executed_ms: 2,
        };
        (Key::Txn(name(), txn(9)), Row::Txn(row))
    };
    let ended = |is_committed| {
        let at = at();
        let row = EndedRow { is_committed, at };
        (Key::Ended(name(), txn(9)), Row::Ended(row))
    };
    let tail = Tail {
        at: at(),
        size: 300,
        cut: [(id(0, 1), 7)].into(),
    };
    let scope = |is_deleted| {
        let key = Key::Scope(Name::new("_lab").expect("a name"));
        (key, Row::Scope(ScopeRow { is_deleted }))
    };
    let mut rows = vec![scope(false), scope(true)];
    let streams = streams().into_iter();
    rows.extend(streams.map(|row| (Key::Stream(name()), Row::Stream(Box::new(row)))));
    rows.push((Key::Epoch(name(), Epoch(1)), Row::Epoch(sealed)));
    rows.push(txn_row(TxnState::Open));
    rows.push(txn_row(TxnState::Committing(Committed {
        order: 1,
        writer: "w".to_owned(),
        timestamp: Some(-1),
    })));
    rows.push(txn_row(TxnState::Aborting));
    rows.extend([ended(false), ended(true)]);
    let tails = vec![tail.clone(), tail];
    rows.push((
        Key::Retention(name()),
        Row::Retention(RetentionRow { tails }),
    ));
    rows.push((Key::Grave(name()), Row::Grave(300)));
    rows.push((Key::Floor, Row::Floor(300)));
    let group = Group {
        id: 1 << 100,
        generation: 3,
        refresh_ms: 3_000,
        checkpoint_ms: 30_000,
        checkpoints_max: 2,
        retention: Subscription::Manual,
        from: [(name(), [(id(0, 1), 7)].into())].into(),
        to: [(name(), Cut::new())].into(),
        rollover_size_bytes: 300,
    };
    rows.push((Key::Group(name()), Row::Group(Box::new(group))));
    rows
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let line = |(key, row): &(Key, Row)| {
        let key = String::from_utf8(key.encode()).expect("text");
        format!("{key} {}\n", hex(&row.encode()))
    };
    let written: String = rows().iter().map(line).collect();
    assert_eq!(written, GOLDEN);
}

#[test]
fn an_epoch_has_its_time_since_version_2() {
    let key = Key::Epoch(name(), Epoch(1));
    let mut segments = epoch(1, &[(0, 1, 0.5, 1.0), (1, 2, 0.0, 0.5)]);
    let first = hex(&Row::Epoch(segments.clone()).encode());
    segments.created_at_ms = 300;
    let row = Row::Epoch(segments);
    let bytes = row.encode();
    assert_eq!(hex(&bytes), format!("02{}ac02", &first[2..]));
    assert_eq!(Row::decode(&key, &bytes), Ok(row));
    for end in 0..bytes.len() {
        Row::decode(&key, &bytes[..end]).expect_err("it is cut off");
    }
}

#[test]
fn what_was_written_first_is_still_read() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
        let bytes = digits.map(|it| u8::from_str_radix(it, 16).expect("hex"));
        bytes.collect()
    };
    let parse = |line: &str| {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        let key = Key::decode(key.as_bytes()).expect("a key");
        let row = Row::decode(&key, &bytes(value)).expect("a row");
        (key, row)
    };
    let mut expected = rows();
    expected.retain(|(key, _)| !matches!(key, Key::Floor | Key::Group(_)));
    for (_, row) in &mut expected {
        if let Row::Stream(stream) = row
            && let State::Truncating(from) = &mut stream.state
        {
            from.clear();
        }
    }
    assert_eq!(FIRST.lines().map(parse).collect::<Vec<_>>(), expected);
}

#[test]
fn rows_come_back_whole_or_not_at_all() {
    for (key, row) in rows() {
        let (key_bytes, bytes) = (key.encode(), row.encode());
        assert_eq!(Key::decode(&key_bytes), Ok(key.clone()));
        assert_eq!(Row::decode(&key, &bytes), Ok(row));
        for end in 0..bytes.len() {
            Row::decode(&key, &bytes[..end]).expect_err("it is cut off");
        }
        Row::decode(&key, &[&bytes[..], &[0]].concat()).expect_err("it is too long");
        for end in 0..key_bytes.len() {
            // What is cut off a name leaves a name.
            if let Ok(other) = Key::decode(&key_bytes[..end]) {
                assert_ne!(other, key);
            }
        }
    }
    for bad in [
        "",
        "s",
        "s/",
        "t/a",
        "q/a",
        "e/a/b/0000000G",
        "e/a/b/0000000A",
        "x/a/b/é",
    ] {
        Key::decode(bad.as_bytes()).expect_err(bad);
    }
    Key::decode(&[0xff]).expect_err("it is no text");
}

/// What is nearly a row is none, or another one that can be written.
#[test]
fn hostile_bytes_are_refused_or_are_rows() {
    for (key, row) in rows() {
        let bytes = row.encode();
        for at in 0..bytes.len() {
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                let mut nearly = bytes.clone();
                nearly[at] = byte;
                if let Ok(row) = Row::decode(&key, &nearly) {
                    assert_eq!(Row::decode(&key, &row.encode()), Ok(row), "{nearly:?}");
                }
            }
        }
    }
}
