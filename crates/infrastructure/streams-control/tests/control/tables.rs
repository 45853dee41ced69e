//! Small cases.

use streams_control::{
    Cut, Epoch, Ping, Range, Refusal, Request, Response, ScaleStatus, SegmentId, TxnStatus,
};

use crate::world::{Fault, World, by_size, config, scope, stream};

pub(crate) fn id(epoch: u32, number: u32) -> SegmentId {
    let epoch = Epoch(epoch);
    SegmentId { epoch, number }
}

fn ranges(ranges: &[(f64, f64)]) -> Vec<Range> {
    let ranges = ranges.iter();
    let ranges = ranges.map(|&(low, high)| Range::new(low, high).expect("a range"));
    ranges.collect()
}

pub(crate) fn scale(sealed: &[SegmentId], to: &[(f64, f64)]) -> Request {
    Request::Scale {
        stream: stream(0),
        sealed: sealed.to_vec(),
        ranges: ranges(to),
    }
}

/// With one stream of that many segments.
pub(crate) fn world(n_segments: u32) -> World {
    let mut world = World::new(Fault::None);
    world.ask(Request::CreateScope(scope())).expect("a scope");
    let create = Request::CreateStream(stream(0), config(n_segments));
    world.ask(create).expect("a stream");
    world
}

pub(crate) fn current(world: &World) -> Vec<SegmentId> {
    let segments = world.control.current_segments(&stream(0));
    segments
        .expect("it is there")
        .iter()
        .map(|it| it.id)
        .collect()
}

#[test]
fn a_stream_comes_with_its_marks_and_goes_with_them() {
    let mut world = world(2);
    let names = |world: &World| -> Vec<_> {
        let streams = world.streams();
        streams.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&world), ["lab/_MARKs0", "lab/s0"]);
    let again = Request::CreateStream(stream(0), config(1));
    assert_eq!(world.ask(again.clone()), Err(Refusal::StreamExists));
    let delete = Request::DeleteStream(stream(0));
    assert_eq!(world.ask(delete.clone()), Err(Refusal::StreamNotSealed));
    let not_empty = world.ask(Request::DeleteScope(scope()));
    assert_eq!(not_empty, Err(Refusal::ScopeNotEmpty));
    world.ask(Request::SealStream(stream(0))).expect("it ends");
    let update = Request::UpdateStream(stream(0), config(1));
    assert_eq!(world.ask(update), Err(Refusal::StreamSealed));
    assert_eq!(current(&world), []);
    world.ask(delete.clone()).expect("it goes");
    assert_eq!(names(&world), [""; 0]);
    assert_eq!(world.ask(delete), Err(Refusal::NoStream));
    // None of its segments is one of the former stream.
    world.ask(again).expect("it comes again");
    assert_eq!(current(&world), [id(0, 2)]);
    let recursive = Request::DeleteScopeRecursive(scope());
    world.ask(recursive).expect("all of it goes");
    assert!(!world.control.has_scope(&scope()));
    world.check().expect("nothing is left");
}

#[test]
fn a_scale_replaces_what_is_written_by_the_same_keys() {
    let mut world = world(2);
    let refused = |world: &mut World, request| match world.ask(request) {
        Err(Refusal::Precondition(_)) => {}
        other => panic!("{other:?}"),
    };
    refused(&mut world, scale(&[], &[]));
    refused(&mut world, scale(&[id(0, 0)], &[(0.0, 0.4)]));
    refused(&mut world, scale(&[id(0, 0)], &[(0.0, 0.6)]));
    refused(&mut world, scale(&[id(0, 0)], &[(0.0, 0.3), (0.2, 0.5)]));
    refused(&mut world, scale(&[id(0, 5)], &[(0.0, 0.5)]));
    // Fewer than it is to have.
    refused(&mut world, scale(&[id(0, 0), id(0, 1)], &[(0.0, 1.0)]));
    let status = |world: &World, epoch| world.control.scale_status(&stream(0), Epoch(epoch));
    assert_eq!(status(&world, 1), Ok(ScaleStatus::InvalidInput));
    let ticket = world.request(scale(&[id(0, 0)], &[(0.0, 0.1), (0.1, 0.5)]));
    assert_eq!(status(&world, 0), Ok(ScaleStatus::InProgress));
    world.drain();
    let Ok(Response::Scaling { epoch, segments }) = &world.answers[&ticket] else {
        panic!("{:?}", world.answers);
    };
    assert_eq!((*epoch, segments.len()), (Epoch(0), 2));
    assert_eq!(status(&world, 0), Ok(ScaleStatus::Success));
    assert_eq!(current(&world), [id(0, 1), id(1, 2), id(1, 3)]);
    refused(&mut world, scale(&[id(0, 0)], &[(0.0, 0.5)]));
    let join = scale(&[id(1, 3), id(0, 1)], &[(0.1, 1.0)]);
    world.ask(join).expect("it is joined");
    assert_eq!(current(&world), [id(1, 2), id(2, 4)]);
    let successors = world
        .control
        .successors(&stream(0), id(0, 1))
        .expect("it was");
    assert_eq!(successors[0].predecessors, [id(0, 1), id(1, 3)]);
    world.check().expect("it is whole");
}

#[test]
fn a_transaction_of_an_earlier_epoch_is_rolled() {
    let mut world = world(1);
    let (one, other) = (world.begin(&stream(0)), world.begin(&stream(0)));
    world.append_in(&one, 5);
    world.append(&stream(0), 100);
    world
        .ask(scale(&[id(0, 0)], &[(0.0, 0.5), (0.5, 1.0)]))
        .expect("it scales");
    world.commit(&one);
    world.drain();
    assert_eq!(current(&world), [id(3, 1), id(3, 2)]);
    assert_eq!(world.length("lab/s0/0.#epoch.2"), Some(5));
    // One that begins now is of the epoch that is repeated, and so are those that began there.
    let third = world.begin(&stream(0));
    assert_eq!(third.id.epoch(), Epoch(1));
    world.append_in(&third, 7);
    world.commit(&third);
    world.drain();
    assert_eq!(world.length("lab/s0/1.#epoch.3"), Some(7));
    assert_eq!(current(&world), [id(3, 1), id(3, 2)]);
    // Sealing aborts what is open, and commits what is to be.
    let last = world.begin(&stream(0));
    world.commit(&other);
    world.ask(Request::SealStream(stream(0))).expect("it ends");
    let status = |world: &World, txn| world.control.txn_status(&stream(0), txn);
    assert_eq!(status(&world, other.id), Ok(TxnStatus::Committed));
    assert_eq!(status(&world, last.id), Ok(TxnStatus::Aborted));
    // A page of them, the last ones first.
    let ended = world.control.ended_txns(&stream(0)).expect("it is there");
    assert_eq!((ended.len(), ended[0]), (2, (last.id, false)));
    world.check().expect("it is whole");
}

#[test]
fn a_transaction_lives_as_long_as_it_is_pinged() {
    let mut world = world(1);
    let txn = world.begin(&stream(0));
    let ping = |world: &mut World, lease_ms| {
        world.ask(Request::PingTxn {
            stream: stream(0),
            txn: txn.id,
            lease_ms,
        })
    };
    let is = |ping| Ok(Response::Ping(ping));
    assert_eq!(ping(&mut world, 10_001), is(Ping::LeaseTooLarge));
    assert_eq!(ping(&mut world, 3_000), is(Ping::Ok));
    // A clock that leaps, either way, ends nothing.
    for now_ms in [1_000_000, 5, 900] {
        world.now_ms = now_ms;
        world.drain();
        assert_eq!(ping(&mut world, 3_000), is(Ping::Ok), "at {now_ms}");
    }
    let status = |world: &World| world.control.txn_status(&stream(0), txn.id);
    world.now_ms += 1_000;
    world.kill(0);
    // It lives for its last lease, from when it was loaded.
    for (wait_ms, expected) in [
        (900, TxnStatus::Open),
        (900, TxnStatus::Open),
        (900, TxnStatus::Open),
        (300, TxnStatus::Aborted),
    ] {
        world.now_ms += wait_ms;
        world.drain();
        assert_eq!(status(&world), Ok(expected));
    }
    assert_eq!(ping(&mut world, 3_000), is(Ping::Aborted));
    let late = world.commit(&txn);
    assert_eq!(world.answers[&late], Err(Refusal::TransactionEnded));
    world.check().expect("it is whole");
}

#[test]
fn a_transaction_does_not_live_for_ever() {
    let mut world = world(1);
    world.limits.execution_ms_max = 2_500;
    world.kill(0);
    let txn = world.begin(&stream(0));
    let mut answers = Vec::new();
    for _ in 0..4 {
        world.now_ms += 800;
        let answer = world.ask(Request::PingTxn {
            stream: stream(0),
            txn: txn.id,
            lease_ms: 900,
        });
        answers.push(answer);
        // How long it lived is remembered.
        world.kill(0);
    }
    let is = |ping| Ok(Response::Ping(ping));
    let exceeded = is(Ping::ExecutionTimeExceeded);
    assert_eq!(
        answers,
        [is(Ping::Ok), is(Ping::Ok), exceeded.clone(), exceeded]
    );
}

#[test]
fn a_stream_begins_where_it_was_truncated() {
    let mut world = world(2);
    let cut = |offsets: &[(SegmentId, i64)]| -> Cut { offsets.iter().copied().collect() };
    let head = |world: &World| world.control.head(&stream(0)).expect("it is there");
    assert_eq!(head(&world), cut(&[(id(0, 0), 0), (id(0, 1), 0)]));
    world.append(&stream(0), 100);
    world
        .ask(scale(&[id(0, 0)], &[(0.0, 0.5)]))
        .expect("it scales");
    world.append(&stream(0), 10);
    let truncate = |world: &mut World, offsets: &[(SegmentId, i64)]| {
        world.ask(Request::TruncateStream(stream(0), cut(offsets)))
    };
    let check = |world: &mut World, offsets: &[(SegmentId, i64)], is_good: bool| {
        let answer = truncate(world, offsets);
        assert_eq!(answer.is_ok(), is_good, "{offsets:?}: {answer:?}");
    };
    check(&mut world, &[(id(0, 0), 50)], false);
    check(&mut world, &[(id(0, 0), 101), (id(0, 1), 0)], false);
    check(&mut world, &[(id(0, 0), 50), (id(0, 1), 111)], false);
    check(&mut world, &[(id(0, 0), 50), (id(0, 1), 60)], true);
    check(&mut world, &[(id(0, 0), 40), (id(0, 1), 70)], false);
    check(&mut world, &[(id(1, 2), 5), (id(0, 1), 70)], true);
    assert_eq!(world.length("lab/s0/0.#epoch.0"), None);
    assert_eq!(head(&world), cut(&[(id(1, 2), 5), (id(0, 1), 70)]));
    check(&mut world, &[(id(0, 0), 100), (id(0, 1), 110)], false);
    world.check().expect("it is whole");
}

#[test]
fn as_much_is_kept_as_is_to_be() {
    let mut world = world(1);
    world
        .ask(Request::CreateStream(stream(1), by_size(100)))
        .expect("a stream");
    let mut begins = Vec::new();
    for _ in 0..6 {
        world.append(&stream(1), 30);
        world.now_ms += 600;
        world.drain();
        let head = world.control.head(&stream(1)).expect("it is there");
        begins.push(head.values().sum::<i64>());
    }
    // Sixty bytes come each time, into two segments.
    assert_eq!(begins, [0, 0, 60, 120, 180, 240]);
    world.check().expect("it is whole");
}

#[test]
fn streams_are_found_by_tags() {
    let mut world = world(1);
    let tagged = |idx, tags: &[&str]| {
        let mut config = config(1);
        config.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        Request::CreateStream(stream(idx), config)
    };
    for (idx, tags) in [(1, &["a"][..]), (2, &["a", "b"]), (3, &["a"]), (4, &[])] {
        world.ask(tagged(idx, tags)).expect("a stream");
    }
    let found = |world: &World, tag, token: &str| {
        let page = world
            .control
            .list_tagged(&scope(), tag, token)
            .expect("a scope");
        let names: Vec<_> = page.names.iter().map(ToString::to_string).collect();
        (names.join(" "), page.token)
    };
    let (names, token) = found(&world, "a", "");
    assert_eq!(names, "s1 s2");
    let (names, token) = found(&world, "a", &token);
    assert_eq!(names, "s3");
    assert_eq!(found(&world, "a", &token).0, "");
    world
        .ask(Request::UpdateStream(stream(2), config(1)))
        .expect("it changes");
    assert_eq!(found(&world, "b", "").0, "");
    world.kill(0);
    assert_eq!(found(&world, "a", "").0, "s1 s3");
}

#[test]
fn requests_wait_but_not_too_many() {
    let mut world = world(1);
    world.limits.queue_max = 2;
    world.kill(0);
    let tickets: Vec<_> = (0..5)
        .map(|_| world.request(Request::UpdateStream(stream(0), config(1))))
        .collect();
    world.drain();
    let is_done = tickets.iter().map(|it| world.answers[it].is_ok());
    assert_eq!(
        is_done.collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
}

#[test]
fn transactions_are_merged_in_the_order_of_their_commits() {
    let mut world = world(1);
    let txns: Vec<_> = (0..7).map(|_| world.begin(&stream(0))).collect();
    // They wait for each other, in batches of three.
    let order = [4, 1, 5, 0, 6, 2];
    for idx in order {
        world.commit(&txns[idx]);
    }
    world.drain();
    let part = |idx: usize| stream(0).transaction_segment(0, txns[idx].id);
    let expected: Vec<_> = order.iter().map(|idx| part(*idx)).collect();
    assert_eq!(world.merged("lab/s0/0.#epoch.0"), expected);
    world.check().expect("it is whole");
}

#[test]
fn sealing_ends_more_transactions_than_one_batch() {
    let mut world = world(1);
    let txns: Vec<_> = (0..8).map(|_| world.begin(&stream(0))).collect();
    let seal = world.request(Request::SealStream(stream(0)));
    let late = world.commit(&txns[0]);
    world.drain();
    assert_eq!(world.answers[&seal], Ok(Response::Done));
    assert_eq!(world.answers[&late], Err(Refusal::TransactionEnded));
    for txn in txns {
        let status = world.control.txn_status(&stream(0), txn.id);
        assert_eq!(status, Ok(TxnStatus::Aborted));
    }
    world.check().expect("it is whole");
}

#[test]
fn a_ping_before_the_end_is_not_too_late() {
    let mut world = world(1);
    let txn = world.begin(&stream(0));
    world.request(scale(&[id(0, 0)], &[(0.0, 0.5), (0.5, 1.0)]));
    // The end of the lease waits for the scale.
    world.now_ms += 1_000;
    world.tick();
    world
        .ask(Request::PingTxn {
            stream: stream(0),
            txn: txn.id,
            lease_ms: 1_000,
        })
        .expect("it lives");
    world.drain();
    let status = world.control.txn_status(&stream(0), txn.id);
    assert_eq!(status, Ok(TxnStatus::Open));
}

#[test]
fn a_ping_while_the_end_is_written_is_too_late() {
    let mut world = world(1);
    let txn = world.begin(&stream(0));
    world.drain();
    world.now_ms += 1_000;
    // The write that says so is under way.
    world.tick();
    let ping = world.ask(Request::PingTxn {
        stream: stream(0),
        txn: txn.id,
        lease_ms: 1_000,
    });
    assert_eq!(ping, Ok(Response::Ping(Ping::Aborted)));
    world.drain();
    let status = world.control.txn_status(&stream(0), txn.id);
    assert_eq!(status, Ok(TxnStatus::Aborted));
}

#[test]
fn what_a_rolled_transaction_has_added_counts() {
    let mut world = world(1);
    let txn = world.begin(&stream(0));
    world.append_in(&txn, 5);
    world.append(&stream(0), 100);
    let split = scale(&[id(0, 0)], &[(0.0, 0.5), (0.5, 1.0)]);
    world.ask(split).expect("it scales");
    world.append(&stream(0), 10);
    world.commit(&txn);
    world.drain();
    world.append(&stream(0), 1);
    let tail = world.tail(&stream(0), 2);
    let size = world.control.size_until(&stream(0), &tail);
    assert_eq!(size, Ok(100 + 2 * 10 + 5 + 2));
}

#[test]
fn there_is_a_limit_to_everything() {
    let check = |what: &str, limit: fn(&mut World), requests: &[Request]| {
        let mut world = world(1);
        limit(&mut world);
        world.kill(0);
        world.drain();
        let answers = requests.iter().map(|it| world.ask(it.clone()));
        let mut answers: Vec<_> = answers.collect();
        let last = answers.pop();
        assert!(answers.iter().all(Result::is_ok), "{what}: {answers:?}");
        match last {
            Some(Err(Refusal::Limit { what: found, .. })) => assert!(found.contains(what)),
            other => panic!("{what}: {other:?}"),
        }
        world.check().expect("it is whole");
    };
    let create = |idx, n| Request::CreateStream(stream(idx), config(n));
    let scope = |name| Request::CreateScope(streams_control::Name::new(name).expect("a name"));
    let begin = |low| Request::CreateTxn {
        stream: stream(0),
        lease_ms: 1_000,
        unique: streams_control::Unique { high: 9, low },
    };
    let split = scale(&[id(0, 0)], &[(0.0, 0.5), (0.5, 1.0)]);
    let join = scale(&[id(1, 1), id(1, 2)], &[(0.0, 1.0)]);
    // The scope of the system counts, and so do the streams of watermarks.
    check(
        "scopes",
        |it| it.limits.scopes_max = 3,
        &[scope("a"), scope("b")],
    );
    check(
        "streams",
        |it| it.limits.streams_max = 4,
        &[create(1, 1), create(2, 1)],
    );
    check(
        "segments",
        |it| it.limits.segments_max = 2,
        &[create(1, 2), create(2, 3)],
    );
    check(
        "epochs",
        |it| it.limits.epochs_max = 2,
        &[split.clone(), join],
    );
    check("segments", |it| it.limits.segments_max = 1, &[split]);
    check(
        "transactions",
        |it| it.limits.txns_max = 2,
        &[begin(1), begin(2), begin(3)],
    );
}
