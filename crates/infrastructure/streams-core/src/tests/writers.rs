//! More writers than there is room for.

use bytes::Bytes;
use ids::Epoch;
use proptest::prelude::*;

use super::{all_durable, append, container, done, name, why};
use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::names::Position;
use crate::op::Append;
use crate::segment::Kind;
use crate::{Container, Limits, Op, Recovery, Refusal};

/// Of writers, beside the count of events and a mark.
const WRITERS_MAX: usize = 3;
const MARK: AttributeId = AttributeId(77);

fn limits() -> Limits {
    Limits {
        segment_attributes_max: 2 + WRITERS_MAX,
        pending_max: 4,
        ..Limits::default()
    }
}

fn set(id: AttributeId, value: i64) -> AttributeUpdate {
    let kind = UpdateKind::Replace;
    AttributeUpdate { id, value, kind }
}

fn create() -> Op {
    Op::Create {
        segment: name("a"),
        kind: Kind::Stream,
        attributes: vec![set(AttributeId::EVENT_COUNT, 0), set(MARK, 5)],
    }
}

fn number(container: &Container, writer: u128) -> i64 {
    let answer = container.attribute(&name("a"), AttributeId(writer));
    answer.expect("it is there").value
}

#[test]
fn the_writer_that_was_idle_longest_is_given_up_for_a_new_one() {
    let mut container = container(limits());
    done(&mut container, &create());
    for writer in 1..=3 {
        done(&mut container, &append("a", writer, NO_VALUE, b"x"));
        all_durable(&mut container);
    }
    let fourth = append("a", 4, NO_VALUE, b"x");
    let what = "attributes of a segment";
    // The first one has written three records ago, and may wait for that.
    assert_eq!(why(&mut container, &fourth), Refusal::Limit { what });
    done(&mut container, &append("a", 2, 1, b"x"));
    all_durable(&mut container);
    assert_eq!(why(&mut container, &fourth), Refusal::Limit { what });
    done(&mut container, &append("a", 2, 2, b"x"));
    all_durable(&mut container);
    done(&mut container, &fourth);
    all_durable(&mut container);
    let numbers = [1, 2, 3, 4, 77].map(|writer| number(&container, writer));
    assert_eq!(numbers, [NO_VALUE, 3, 1, 1, 5]);
    // What is no writer's takes no writer's place.
    let other = Op::UpdateAttributes {
        segment: name("a"),
        updates: vec![set(AttributeId(78), 1)],
    };
    assert_eq!(why(&mut container, &other), Refusal::Limit { what });
    for previous in 1..=3 {
        done(&mut container, &append("a", 4, previous, b"x"));
        all_durable(&mut container);
    }
    // Nor is one given up that changes with it.
    let both = Op::Append(Append {
        segment: name("a"),
        data: Bytes::new(),
        attributes: vec![set(AttributeId(5), 1), set(AttributeId(3), 2)],
        expected_offset: None,
    });
    done(&mut container, &both);
    let numbers = [2, 3, 4, 5].map(|writer| number(&container, writer));
    assert_eq!(numbers, [NO_VALUE, 2, 4, 1]);
}

/// What is known of writers, said as simply as it can be: who, the number, and the record that changed it last.
type Naive = Vec<(u128, i64, u64)>;

fn write(naive: &mut Naive, writer: u128, record: u64) -> bool {
    if let Some(known) = naive.iter_mut().find(|known| known.0 == writer) {
        *known = (writer, known.1 + 1, record);
        return true;
    }
    if naive.len() == WRITERS_MAX {
        let oldest = naive.iter().enumerate().min_by_key(|(_, known)| known.2);
        let (idx, (_, _, changed)) = oldest.expect("there are some");
        if changed + 4 >= record {
            return false;
        }
        naive.remove(idx);
    }
    naive.push((writer, 1, record));
    true
}

proptest! {
    #[test]
    fn writers_are_given_up_in_the_order_in_which_they_wrote(
        writers in prop::collection::vec(1_u128..9, 1..80),
    ) {
        let mut naive = Naive::new();
        let opened = Recovery::new().open(limits(), Epoch(1), 0);
        let (mut container, first) = opened.expect("it is the first owner");
        let mut records = vec![first];
        records.push(done(&mut container, &create()));
        all_durable(&mut container);
        for writer in writers {
            let last = number(&container, writer);
            let op = append("a", writer, last, b"x");
            let record = container.proposed_to().0 + 1;
            let mut after = naive.clone();
            if write(&mut after, writer, record) {
                records.push(done(&mut container, &op));
                naive = after;
            } else {
                why(&mut container, &op);
                // Something else goes on.
                records.push(done(&mut container, &append("a", naive[0].0, naive[0].1, b"")));
                naive[0] = (naive[0].0, naive[0].1 + 1, record);
            }
            all_durable(&mut container);
            for writer in 1..9 {
                let known = naive.iter().find(|known| known.0 == writer);
                let known = known.map_or(NO_VALUE, |known| known.1);
                prop_assert_eq!(number(&container, writer), known);
            }
        }
        let pieces: Vec<_> = container.checkpoint().collect();
        let positions = container.positions(container.proposed_to());
        let loaded = Recovery::load(pieces.into_iter().chain(positions));
        prop_assert_eq!(&loaded.expect("it is one").state, &container.state);
        let mut replayed = Recovery::new();
        for proposal in records {
            let record = Bytes::from(proposal.record.parts().concat());
            let read = replayed.replay(Position(proposal.seq.0), &record);
            read.expect("it is one");
        }
        prop_assert_eq!(&replayed.state, &container.state);
    }
}
