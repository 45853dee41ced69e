//! What several tests have in common.

mod edges;
mod histories;
mod simulations;
mod storage;
mod world;
mod writers;

use bytes::Bytes;
use ids::Epoch;

use crate::attributes::AttributeId;
use crate::container::{Effects, Proposal};
use crate::names::Position;
use crate::op::{Append, EventNumbers, Put, Version};
use crate::segment::Kind;
use crate::table::Page;
use crate::{Container, Limits, Op, Recovery, Refusal, SegmentName};

const ALL: Page = Page {
    items_max: usize::MAX,
    bytes_max: usize::MAX,
};

fn name(text: &str) -> SegmentName {
    SegmentName::new(text).expect("a name")
}

fn container(limits: Limits) -> Container {
    let opened = Recovery::new().open(limits, Epoch(1), 0);
    let (mut container, _) = opened.expect("it is the first owner");
    container.durable(Position(1));
    container
}

fn create(segment: &str, kind: Kind) -> Op {
    Op::Create {
        segment: name(segment),
        kind,
        attributes: Vec::new(),
    }
}

fn append(segment: &str, writer: u128, previous: i64, data: &'static [u8]) -> Op {
    let numbers = EventNumbers {
        writer: AttributeId(writer),
        previous,
        last: previous.max(0) + 1,
        n_events: 1,
    };
    Op::Append(Append::events(
        name(segment),
        Bytes::from_static(data),
        numbers,
    ))
}

fn put(table: &str, key: &'static [u8], value: &[u8], when: Version) -> Op {
    Op::PutEntries {
        table: name(table),
        entries: vec![Put {
            key: Bytes::from_static(key),
            value: Bytes::copy_from_slice(value),
            when,
        }],
        expected_length: None,
    }
}

fn done(container: &mut Container, op: &Op) -> Proposal {
    container.propose(op, 0).expect("it is allowed")
}

fn all_durable(container: &mut Container) -> Vec<Effects> {
    let n_pending = u64::try_from(container.usage().n_pending).expect("it is small");
    let from = container.durable_to().0;
    (from + 1..=from + n_pending)
        .map(|seq| container.durable(Position(seq)))
        .collect()
}

fn why(container: &mut Container, op: &Op) -> Refusal {
    container.propose(op, 0).expect_err("it is refused").why
}
