//! What segments are to hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use streams_core::attributes::AttributeId;
use streams_core::op::{Append, EventNumbers, Put, Remove, Version};
use streams_core::segment::{KeyLength, Kind};
use streams_core::{Op, SegmentName};

use crate::route;

/// Beside the platform's own.
pub(super) const CONTAINERS: u32 = 2;
pub(super) const WRITER: AttributeId = AttributeId(7);
const STREAMS: u64 = 4;
const TABLES: u64 = 2;
const KEYS: u64 = 5;
const DATA_BYTES_MAX: u64 = 6_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Segment {
        start: u64,
        /// From there on.
        bytes: Vec<u8>,
        /// The number of the last event of the one writer.
        last: i64,
        is_sealed: bool,
    },
    Table(BTreeMap<Bytes, Bytes>),
}

/// By name.
pub(super) type Things = BTreeMap<String, Thing>;

/// `SplitMix64`.
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Bytes that nothing else has.
    fn bytes(&mut self) -> Bytes {
        let n_bytes = usize::try_from(1 + self.below(DATA_BYTES_MAX)).expect("few");
        let words = std::iter::repeat_with(|| self.below(u64::MAX).to_le_bytes());
        words.flatten().take(n_bytes).collect()
    }
}

pub(super) fn name(text: &str) -> SegmentName {
    SegmentName::new(text).expect("it is a name")
}

/// Those that are ever there.
pub(super) fn names() -> Vec<String> {
    let streams = (0..STREAMS).flat_map(|n| [stream(n), transaction(n)]);
    streams.chain((0..TABLES).map(table)).collect()
}

pub(super) fn container_of(name: &str) -> u32 {
    route::container_of(name, CONTAINERS)
}

fn stream(n: u64) -> String {
    format!("a/b/{n}.#epoch.0")
}

fn transaction(n: u64) -> String {
    format!("{}#transaction.{n:032x}", stream(n))
}

fn table(n: u64) -> String {
    format!("a/t{n}/0.#epoch.0")
}

/// What is done next, and what it makes of what is there. It is never refused.
pub(super) fn next(random: &mut Random, things: &mut Things) -> Op {
    if random.below(4) == 0 {
        return change_table(random, things);
    }
    let n = random.below(STREAMS);
    let (stream, transaction) = (stream(n), transaction(n));
    let what = random.below(16);
    match (is_open(things, &stream), is_open(things, &transaction)) {
        (None, _) => create(things, stream),
        (Some(_), Some(_)) if what < 8 => match what {
            0..5 => append(random, things, &transaction),
            5 => delete(things, &transaction),
            _ if is_open(things, &stream) == Some(true) => merge(things, &stream, &transaction),
            _ => delete(things, &transaction),
        },
        (Some(true), None) if what < 3 => create(things, transaction),
        (Some(true), _) if what < 13 => append(random, things, &stream),
        (Some(_), _) if what == 13 => truncate(random, things, &stream),
        (Some(true), _) if what == 14 => {
            if let Some(Thing::Segment { is_sealed, .. }) = things.get_mut(&stream) {
                *is_sealed = true;
            }
            Op::Seal(name(&stream))
        }
        (Some(false), None) => delete(things, &stream),
        _ => change_table(random, things),
    }
}

/// `None`: it is not there.
fn is_open(things: &Things, segment: &str) -> Option<bool> {
    match things.get(segment) {
        Some(Thing::Segment { is_sealed, .. }) => Some(!is_sealed),
        _ => None,
    }
}

fn create(things: &mut Things, segment: String) -> Op {
    let op = Op::Create {
        segment: name(&segment),
        kind: Kind::Stream,
        attributes: Vec::new(),
    };
    let thing = Thing::Segment {
        start: 0,
        bytes: Vec::new(),
        last: EventNumbers::NO_EVENT,
        is_sealed: false,
    };
    things.insert(segment, thing);
    op
}

fn append(random: &mut Random, things: &mut Things, segment: &str) -> Op {
    let data = random.bytes();
    let Some(Thing::Segment {
        start, bytes, last, ..
    }) = things.get_mut(segment)
    else {
        unreachable!("it is there");
    };
    let numbers = EventNumbers {
        writer: WRITER,
        previous: *last,
        last: (*last).max(0) + 1,
        n_events: 1,
    };
    let offset = *start + bytes.len() as u64;
    bytes.extend_from_slice(&data);
    *last = numbers.last;
    let append = Append::events(name(segment), data, numbers);
    Op::Append(match random.below(3) {
        0 => append.at(offset),
        _ => append,
    })
}

fn truncate(random: &mut Random, things: &mut Things, segment: &str) -> Op {
    let Some(Thing::Segment { start, bytes, .. }) = things.get_mut(segment) else {
        unreachable!("it is there");
    };
    let n_bytes = random.below(bytes.len() as u64 + 1);
    *start += n_bytes;
    bytes.drain(..usize::try_from(n_bytes).expect("it is in memory"));
    Op::Truncate {
        segment: name(segment),
        offset: *start,
    }
}

fn merge(things: &mut Things, target: &str, source: &str) -> Op {
    let Some(Thing::Segment { bytes: more, .. }) = things.remove(source) else {
        unreachable!("it is there");
    };
    if let Some(Thing::Segment { bytes, .. }) = things.get_mut(target) {
        bytes.extend(more);
    }
    Op::Merge {
        target: name(target),
        source: name(source),
        attributes: Vec::new(),
    }
}

fn delete(things: &mut Things, segment: &str) -> Op {
    things.remove(segment);
    Op::Delete(name(segment))
}

fn change_table(random: &mut Random, things: &mut Things) -> Op {
    let table = table(random.below(TABLES));
    let Some(Thing::Table(entries)) = things.get_mut(&table) else {
        things.insert(table.clone(), Thing::Table(BTreeMap::new()));
        return Op::Create {
            segment: name(&table),
            kind: Kind::Table(KeyLength::Any),
            attributes: Vec::new(),
        };
    };
    let key = Bytes::from(format!("key {}", random.below(KEYS)));
    if random.below(4) == 0 {
        entries.remove(&key);
        let keys = vec![Remove {
            key,
            when: Version::Any,
        }];
        return Op::RemoveEntries {
            table: name(&table),
            keys,
            expected_length: None,
        };
    }
    // Two at once, with the same value.
    let value = random.bytes();
    let both = [key, Bytes::from_static(b"always")];
    let entries = both.map(|key| {
        entries.insert(key.clone(), value.clone());
        Put {
            key,
            value: value.clone(),
            when: Version::Any,
        }
    });
    Op::PutEntries {
        table: name(&table),
        entries: entries.into(),
        expected_length: None,
    }
}
