//! What is much, or for long.

use streams_control::{Epoch, Refusal, Request, TxnStatus};

use crate::tables::{current, id, scale, world};
use crate::world::{World, by_age, config, scope, stream};

fn remove(world: &mut World, idx: u8) {
    world
        .ask(Request::SealStream(stream(idx)))
        .expect("it ends");
    world
        .ask(Request::DeleteStream(stream(idx)))
        .expect("it goes");
}

fn create(world: &mut World, idx: u8, n_segments: u32) {
    let create = Request::CreateStream(stream(idx), config(n_segments));
    world.ask(create).expect("a stream");
}

#[test]
fn names_are_deleted_without_end() {
    let mut world = world(1);
    world.limits.graves_max = 4;
    world.kill(0);
    for idx in 1..30 {
        create(&mut world, idx, 2);
        remove(&mut world, idx);
        world.drain();
        assert!(world.control.usage().n_graves <= 4);
    }
    // Whether there is a grave of a name or not, its numbers are not used again; and those of the others are not used up.
    let first = |world: &World, idx| {
        let segments = world.control.epoch_segments(&stream(idx), Epoch(0));
        segments.expect("it is there")[0].id.number
    };
    world.kill(0);
    world.drain();
    for (idx, expected) in [(1, 2..=64), (29, 2..=64), (99, 1..=64)] {
        create(&mut world, idx, 1);
        assert!(
            expected.contains(&first(&world, idx)),
            "{idx}: {}",
            first(&world, idx)
        );
    }
    world.check().expect("it is whole");
}

/// The graves of others are folded while a stream of one of these names is deleted again.
#[test]
fn a_grave_is_written_by_one_at_a_time() {
    for n_acts in 0..40 {
        let mut world = world(1);
        create(&mut world, 1, 3);
        remove(&mut world, 1);
        create(&mut world, 1, 3);
        world.ask(Request::SealStream(stream(1))).expect("it ends");
        world.limits.graves_max = 0;
        world.kill(0);
        // The plan that folds them waits.
        world.tick();
        let delete = world.request(Request::DeleteStream(stream(1)));
        for idx in 0..n_acts {
            if !world.plans.is_empty() {
                world.act(idx * 7 % world.plans.len(), 1);
            }
        }
        world.drain();
        world.answers[&delete].clone().expect("it goes");
        world.drain();
        assert_eq!(world.control.usage().n_graves, 0);
        create(&mut world, 1, 1);
        world.check().expect("it is whole");
    }
}

#[test]
fn a_large_stream_goes_through_small_plans() {
    let mut world = world(40);
    let txns: Vec<_> = (0..3).map(|_| world.begin(&stream(0))).collect();
    world.commit(&txns[0]);
    let all: Vec<_> = current(&world);
    world
        .ask(scale(&all, &[(0.0, 0.5), (0.5, 1.0)]))
        .expect_err("too few");
    let ranges: Vec<_> = (0..50)
        .map(|n| (f64::from(n) / 50.0, f64::from(n + 1) / 50.0))
        .collect();
    world.ask(scale(&all, &ranges)).expect("it scales");
    world.append(&stream(0), 8);
    world.commit(&txns[1]);
    world.drain();
    let cut = world.tail(&stream(0), 1);
    world
        .ask(Request::TruncateStream(stream(0), cut))
        .expect("it is truncated");
    world.check().expect("it is whole");
    let recursive = Request::DeleteScopeRecursive(scope());
    world.ask(recursive).expect("all of it goes");
    world.check().expect("nothing is left");
}

#[test]
fn a_scope_with_many_streams_goes_a_few_at_a_time() {
    let mut world = world(1);
    for idx in 1..30 {
        create(&mut world, idx, 1);
    }
    world.request(Request::DeleteScopeRecursive(scope()));
    world.act(0, 1);
    assert!(world.plans.len() <= world.limits.plan_max);
    world.drain();
    assert!(!world.control.has_scope(&scope()));
    world.check().expect("nothing is left");
}

#[test]
fn time_without_an_owner_does_not_make_data_old() {
    let mut world = world(1);
    let create = Request::CreateStream(stream(1), by_age(2_000));
    world.ask(create).expect("a stream");
    let head = |world: &World| -> i64 {
        let head = world.control.head(&stream(1)).expect("it is there");
        head.values().sum()
    };
    for _ in 0..3 {
        world.append(&stream(1), 10);
        world.now_ms += 600;
        world.drain();
    }
    // The clock is a year ahead, and it is killed again and again.
    for _ in 0..3 {
        world.now_ms += 365 * 24 * 60 * 60 * 1_000;
        world.kill(0);
        world.drain();
        assert_eq!(head(&world), 0);
    }
    for _ in 0..4 {
        world.now_ms += 600;
        world.drain();
    }
    assert!(head(&world) > 0);
    world.check().expect("it is whole");
}

#[test]
fn transactions_that_have_just_ended_are_remembered() {
    let mut world = world(1);
    world.limits.ended_max = 3;
    world.limits.ended_ms_min = 2_000;
    world.limits.ended_ms_max = 5_000;
    world.kill(0);
    let ends = |world: &mut World| {
        let txn = world.begin(&stream(0));
        world.commit(&txn);
        world.drain();
        txn
    };
    let txns: Vec<_> = (0..3).map(|_| ends(&mut world)).collect();
    let begin = Request::CreateTxn {
        stream: stream(0),
        lease_ms: 1_000,
        unique: world.unique(),
    };
    match world.ask(begin) {
        Err(Refusal::Limit { max: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
    let status = |world: &World, idx: usize| {
        let status = world.control.txn_status(&stream(0), txns[idx].id);
        status.expect("a stream")
    };
    assert_eq!(status(&world, 0), TxnStatus::Committed);
    for _ in 0..2 {
        world.now_ms += 1_000;
        world.drain();
    }
    // Now it is old enough to make room; others stay as long as there is some.
    ends(&mut world);
    assert_eq!(status(&world, 0), TxnStatus::Unknown);
    assert_eq!(status(&world, 1), TxnStatus::Committed);
    for _ in 0..4 {
        world.now_ms += 1_000;
        world.drain();
    }
    ends(&mut world);
    assert_eq!(status(&world, 1), TxnStatus::Unknown);
}

#[test]
fn a_row_that_no_table_takes_is_refused() {
    let mut world = world(1);
    world.limits.row_bytes_max = 500;
    world.kill(0);
    let mut large = config(1);
    large.tags = (0..5).map(|idx| format!("{idx}").repeat(100)).collect();
    for request in [
        Request::CreateStream(stream(1), large.clone()),
        Request::UpdateStream(stream(0), large),
        Request::CreateStream(stream(1), config(11)),
    ] {
        match world.ask(request) {
            Err(Refusal::Limit { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    world
        .ask(scale(&[id(0, 0)], &[(0.0, 1.0)]))
        .expect("it scales");
    world.check().expect("it is whole");
}
