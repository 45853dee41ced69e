//! The rules of MPI and of the protocol, one by one.

use super::super::call::{Error, Pending};
use super::super::frame::{Body, Delivery, Outcome};
use super::sim::Rng;
use super::{Endpoint, Envelope, Limits, Mode, Source, Span, TIGHT, Wanted, World};

use Step::{Message, Receive};

/// What happens at rank 0 of three, in order.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One from this rank with this tag arrives.
    Message(u32, i32),
    Receive(Source, Option<i32>),
}

const ANY: Source = Source::Any;
const R1: Source = Source::Rank(1);
const R2: Source = Source::Rank(2);

/// `expected`: for each receive the index of its message among the messages.
#[track_caller]
fn check(steps: &[Step], expected: &[Option<u64>]) {
    for mode in [Mode::Standard, Mode::Synchronous] {
        let mut world = World::new(3, TIGHT);
        let (mut n_messages, mut requests) = (0, Vec::new());
        for step in steps {
            match *step {
                // A message is as long as its index.
                Message(source, tag) => {
                    world.send(source, 0, (0, tag), n_messages, mode);
                    n_messages += 1;
                }
                Receive(source, tag) => requests.push(world.recv(0, source, tag, 64)),
            }
            world.settle();
        }
        let mut take = |request: &u32| {
            let completed = world.ranks[0].completed(*request).expect("it was posted");
            completed.then(|| world.consume(0, *request).len)
        };
        let got: Vec<_> = requests.iter().map(&mut take).collect();
        assert_eq!(got, expected, "{mode:?} {steps:?}");
    }
}

#[test]
fn a_message_goes_to_the_earliest_receive_that_asks_for_it() {
    check(&[Receive(R1, Some(7)), Message(1, 7)], &[Some(0)]);
    check(&[Receive(R1, Some(7)), Message(1, 8)], &[None]);
    check(&[Receive(R1, Some(7)), Message(2, 7)], &[None]);
    check(&[Receive(R1, None), Message(1, -5)], &[Some(0)]);
    check(&[Receive(ANY, Some(7)), Message(2, 7)], &[Some(0)]);
    check(
        &[Receive(R1, None), Receive(R1, Some(7)), Message(1, 7)],
        &[Some(0), None],
    );
    check(
        &[Receive(R1, Some(7)), Receive(R1, None), Message(1, 7)],
        &[Some(0), None],
    );
    check(
        &[Receive(ANY, None), Receive(R1, Some(7)), Message(1, 7)],
        &[Some(0), None],
    );
    check(
        &[Receive(R2, None), Receive(ANY, Some(7)), Message(1, 7)],
        &[None, Some(0)],
    );
    check(
        &[Receive(R1, Some(8)), Receive(ANY, None), Message(1, 7)],
        &[None, Some(0)],
    );
}

#[test]
fn a_receive_gets_the_earliest_message_that_it_asks_for() {
    check(
        &[Message(1, 7), Message(1, 7), Receive(R1, Some(7))],
        &[Some(0)],
    );
    check(
        &[
            Message(1, 7),
            Message(1, 8),
            Receive(R1, Some(8)),
            Receive(R1, None),
        ],
        &[Some(1), Some(0)],
    );
    check(
        &[
            Message(1, 7),
            Message(2, 7),
            Receive(R2, None),
            Receive(ANY, None),
        ],
        &[Some(1), Some(0)],
    );
    check(
        &[
            Message(2, 8),
            Message(1, 7),
            Message(2, 7),
            Receive(ANY, Some(7)),
        ],
        &[Some(1)],
    );
    check(
        &[
            Message(2, 8),
            Message(1, 7),
            Receive(ANY, None),
            Receive(ANY, None),
        ],
        &[Some(0), Some(1)],
    );
    check(
        &[
            Message(1, 7),
            Receive(R1, Some(7)),
            Receive(R1, Some(7)),
            Message(1, 7),
        ],
        &[Some(0), Some(1)],
    );
}

#[test]
fn contexts_do_not_meet() {
    let mut world = World::new(2, TIGHT);
    world.send(1, 0, (1, 7), 4, Mode::Standard);
    let request = world.recv(0, ANY, None, 64);
    world.settle();
    assert_eq!(world.ranks[0].completed(request), Ok(false));
    let other = Wanted {
        ctx: 1,
        source: ANY,
        tag: None,
    };
    let found = world.ranks[0]
        .probe(other)
        .expect("the arguments are in order");
    assert_eq!(
        found.map(|status| (status.source, status.tag, status.len)),
        Some((1, 7, 4))
    );
    assert_eq!(world.ranks[0].probe(Wanted { ctx: 0, ..other }), Ok(None));
}

#[test]
fn what_does_not_fit_is_cut() {
    for (len, buffer, kept, truncated) in [
        (0, 0, 0, false),
        (9, 9, 9, false),
        (9, 8, 8, true),
        (9, 0, 0, true),
        (500, 77, 77, true),
    ] {
        for mode in [Mode::Standard, Mode::Synchronous] {
            let mut world = World::new(2, TIGHT);
            let before = world.memories[0].clone();
            let sent = world.send(1, 0, (0, 7), len, mode);
            let request = world.recv(0, R1, None, buffer);
            world.settle();
            let status = world.consume(0, request);
            assert_eq!(
                (status.len, status.truncated),
                (kept, truncated),
                "{len} in {buffer}"
            );
            let kept = usize::try_from(kept).expect("it is small");
            assert_eq!(world.memories[0][2048..][..kept], world.memories[1][..kept]);
            assert_eq!(world.memories[0][2048 + kept..], before[2048 + kept..]);
            world.consume(1, sent);
            world.settle();
            let quiet = world
                .ranks
                .iter()
                .all(|rank| rank.pending() == Pending::default());
            assert!(quiet, "{len} in {buffer}");
        }
    }
}

#[test]
fn a_synchronous_send_ends_when_it_is_matched() {
    for len in [0, 9, 500] {
        let mut world = World::new(2, TIGHT);
        let request = world.send(0, 1, (0, 7), len, Mode::Synchronous);
        world.settle();
        assert_eq!(world.ranks[0].completed(request), Ok(false));
        world.recv(1, ANY, None, len);
        world.settle();
        assert_eq!(world.ranks[0].completed(request), Ok(true));
    }
}

#[test]
fn a_rank_sends_to_itself() {
    let mut world = World::new(1, TIGHT);
    let sent = [9, 500].map(|len| world.send(0, 0, (0, 7), len, Mode::Standard));
    world.settle();
    let received = [9, 500].map(|_| world.recv(0, Source::Rank(0), Some(7), 500));
    world.settle();
    assert_eq!(
        received.map(|request| world.consume(0, request).len),
        [9, 500]
    );
    for request in sent {
        world.consume(0, request);
    }
    world.settle();
    assert_eq!(world.ranks[0].pending(), Pending::default());
}

#[test]
fn numbers_are_the_lowest_that_are_free() {
    let mut world = World::new(2, TIGHT);
    assert_eq!([0, 1, 2].map(|_| world.recv(0, R1, None, 0)), [0, 1, 2]);
    assert_eq!(world.send(0, 1, (0, 7), 1, Mode::Standard), 3);
    assert_eq!(
        [1, 0].map(|request| world.ranks[0].cancel(request)),
        [Ok(true), Ok(true)]
    );
    assert_eq!([4, 4, 4].map(|_| world.recv(0, R1, None, 0)), [0, 1, 4]);
    world.consume(0, 3);
    assert_eq!(world.recv(0, R1, None, 0), 3);
}

#[test]
fn calls_that_cannot_be_done_do_nothing() {
    let mut world = World::new(2, TIGHT);
    let memory = super::memory();
    let (span, outside) = (Span { ptr: 4095, len: 1 }, Span { ptr: 4095, len: 2 });
    let far = Span {
        ptr: u32::MAX,
        len: u32::MAX,
    };
    let envelope = Envelope {
        ctx: 0,
        dest: 1,
        tag: 0,
    };
    let wanted = Wanted {
        ctx: 0,
        source: ANY,
        tag: None,
    };
    let nobody = Envelope {
        dest: 2,
        ..envelope
    };
    let mut out = Vec::new();
    let rank = &mut world.ranks[0];
    let mut send = |envelope, span| rank.send(envelope, span, Mode::Standard, &memory, &mut out);
    assert_eq!(send(envelope, outside), Err(Error::Memory(outside)));
    assert_eq!(send(envelope, far), Err(Error::Memory(far)));
    assert_eq!(send(nobody, span), Err(Error::Rank(2)));
    let mut recv = |wanted, span| rank.recv(wanted, span, &memory, &mut out);
    assert_eq!(recv(wanted, outside), Err(Error::Memory(outside)));
    assert_eq!(
        recv(
            Wanted {
                source: Source::Rank(2),
                ..wanted
            },
            span
        ),
        Err(Error::Rank(2))
    );
    assert_eq!(
        rank.probe(Wanted {
            source: Source::Rank(9),
            ..wanted
        }),
        Err(Error::Rank(9))
    );
    assert_eq!(rank.cancel(0), Err(Error::Request(0)));
    assert_eq!(rank.completed(0), Err(Error::Request(0)));
    assert_eq!(
        rank.consume(0, &mut memory.clone(), &mut out),
        Err(Error::Request(0))
    );
    assert_eq!((rank.pending(), out.len()), (Pending::default(), 0));
    let request = rank
        .recv(wanted, span, &memory, &mut out)
        .expect("the receive is in order");
    let consumed = rank.consume(request, &mut memory.clone(), &mut out);
    assert_eq!(consumed, Err(Error::Incomplete(request)));
    for _ in 1..TIGHT.requests {
        rank.recv(wanted, span, &memory, &mut out)
            .expect("there are requests left");
    }
    assert_eq!(
        rank.recv(wanted, span, &memory, &mut out),
        Err(Error::Exhausted)
    );
    let sent = rank.send(envelope, span, Mode::Standard, &memory, &mut out);
    assert_eq!((sent, out.len()), (Err(Error::Exhausted), 0));
}

#[test]
fn messages_beyond_the_credit_wait_until_they_are_asked_for() {
    // By number, by bytes, and because a single one is too long.
    for (len, n_eager) in [(0, 6), (1, 6), (60, 4), (64, 4), (65, 0)] {
        let mut world = World::new(2, TIGHT);
        for _ in 0..8 {
            world.send(0, 1, (0, 7), len, Mode::Standard);
        }
        let n = world
            .wires
            .iter()
            .filter(|frame| matches!(frame.body, Body::Eager { .. }))
            .count();
        assert_eq!(n, n_eager, "messages of {len} bytes");
        world.settle();
        for _ in 0..8 {
            let request = world.recv(1, ANY, None, len);
            world.settle();
            world.consume(1, request);
        }
        world.settle();
        world.send(0, 1, (0, 7), len, Mode::Standard);
        let is_eager = matches!(world.wires[0].body, Body::Eager { .. });
        assert_eq!(
            is_eager,
            n_eager > 0,
            "credit for messages of {len} bytes came back"
        );
    }
}

#[test]
fn data_waits_for_acknowledgements_and_wakes_the_rank() {
    let mut world = World::new(2, TIGHT);
    world.send(0, 1, (0, 7), 400, Mode::Standard);
    let rts = world.wires.remove(0);
    world.recv(1, ANY, None, 400);
    world.deliver(rts).expect("the frame is honest");
    let cts = world.wires.remove(0);
    let woken = world.deliver(cts).expect("the frame is honest");
    assert_eq!(
        woken,
        Delivery {
            outcome: Outcome::Accepted,
            ack: 1,
            wake: true
        }
    );
    let memory = super::memory();
    let mut out = Vec::new();
    let mut n_shipped = Vec::new();
    // The window holds two chunks of 40 bytes, the announcement is number 0.
    for upto in [1, 2, 2, 4, 4, 3] {
        let wake = world.ranks[0].acked(1, upto).expect("so much was sent");
        world.ranks[0]
            .progress(&memory, &mut out)
            .expect("spans are in memory");
        n_shipped.push((wake, out.len()));
    }
    assert_eq!(
        n_shipped,
        [
            (false, 2),
            (true, 3),
            (false, 3),
            (true, 5),
            (false, 5),
            (false, 5)
        ]
    );
    assert!(out.iter().all(|frame| frame.body.payload() == 40));
}

#[test]
fn a_chunk_above_the_window_goes_alone() {
    let limits = Limits {
        window_bytes: 30,
        ..TIGHT
    };
    let mut world = World::new(2, limits);
    world.send(0, 1, (0, 7), 100, Mode::Standard);
    let request = world.recv(1, ANY, None, 100);
    world.settle();
    assert_eq!(world.consume(1, request).len, 100);
}

#[test]
fn answers_acknowledge_what_they_answer() {
    let mut world = World::new(2, TIGHT);
    for (mode, len) in [(Mode::Standard, 60), (Mode::Synchronous, 40)] {
        for _ in 0..200 {
            let sent = world.send(0, 1, (0, 7), len, mode);
            // All acknowledgements but those in frames are lost.
            while !world.wires.is_empty() {
                let frame = world.wires.remove(0);
                world.deliver(frame).expect("the frame is honest");
                if world.ranks[1].pending().requests == 0 {
                    world.recv(1, ANY, None, len);
                }
                let memory = super::memory();
                world.ranks[0]
                    .progress(&memory, &mut world.wires)
                    .expect("spans are in memory");
            }
            world.consume(1, 0);
            world.consume(0, sent);
            // The last messages, and the credit for those before.
            assert!(world.ranks[0].pending().unacked_frames <= 4);
        }
    }
}

#[test]
fn only_what_a_rank_may_wait_for_wakes_it() {
    let mut world = World::new(2, TIGHT);
    let mut wakes = Vec::new();
    world.send(0, 1, (0, 7), 60, Mode::Standard);
    world.send(0, 1, (0, 7), 60, Mode::Synchronous);
    world.send(0, 1, (0, 7), 0, Mode::Synchronous);
    while !world.wires.is_empty() {
        let frame = world.wires.remove(0);
        let (to, body) = (frame.to, frame.body.clone());
        let wake = world.deliver(frame).expect("the frame is honest").wake;
        wakes.push((to, wake, body.payload()));
        if wakes.len() == 1 {
            world.recv(1, ANY, None, 64);
            world.recv(1, ANY, None, 64);
        }
        let memory = super::memory();
        world.ranks[0]
            .progress(&memory, &mut world.wires)
            .expect("spans are in memory");
    }
    // A message; an announcement that is granted; one that waits; the grant; data, more data.
    let expected = [
        (1, true, 60),
        (1, false, 0),
        (1, true, 0),
        (0, true, 0),
        (1, false, 40),
        (1, true, 20),
    ];
    assert_eq!(wakes, expected);
}

#[test]
fn a_frame_kept_for_too_long_names_its_sender() {
    let limits = Limits {
        requests: 2,
        credit_messages: 1,
        ..TIGHT
    };
    let mut endpoint = Endpoint::new(0, 2, limits);
    let mut world = World::new(2, limits);
    world.send(1, 0, (0, 7), 1, Mode::Standard);
    let frame = world.wires.remove(0);
    let mut outcome = |seq| {
        let frame = super::Frame {
            seq,
            ..frame.clone()
        };
        endpoint
            .deliver(frame, &mut Vec::new())
            .map(|delivery| delivery.outcome)
    };
    assert_eq!(outcome(limits.frames_ahead() - 1), Ok(Outcome::Held));
    assert_eq!(outcome(limits.frames_ahead() - 1), Ok(Outcome::Duplicate));
    assert_eq!(outcome(limits.frames_ahead()), Err(super::Violation::Ahead));
    assert_eq!(outcome(0), Ok(Outcome::Accepted));
    assert_eq!(outcome(0), Ok(Outcome::Duplicate));
    assert_eq!(outcome(1), Err(super::Violation::Credit));
}

/// Receives `N` messages of `senders` in an order that `rng` decides, and says what came.
fn master(rng: &mut Rng, sources: impl Fn(usize) -> Source) -> Vec<(Option<u64>, u32, u64)> {
    const N: usize = 18;
    let mut world = World::new(4, TIGHT);
    for len in 0..6 {
        for from in 1..4 {
            world.send(from, 0, (0, 7), from * 10 + len, Mode::Standard);
        }
    }
    let mut air = std::mem::take(&mut world.wires);
    let mut requests = Vec::new();
    while requests.len() < N || !air.is_empty() {
        if requests.len() < N && rng.percent(50) {
            requests.push(world.recv(0, sources(requests.len()), Some(7), 64));
        } else if !air.is_empty() {
            let frame = air.swap_remove(rng.index(air.len()));
            world.deliver(frame).expect("the frame is honest");
        }
    }
    let statuses = requests.iter().map(|request| world.consume(0, *request));
    statuses
        .map(|status| (status.wildcard, status.source, status.len))
        .collect()
}

#[test]
fn a_replay_receives_what_was_recorded() {
    for seed in 0..50 {
        let record = master(&mut Rng(seed), |_| ANY);
        let replayed = |n: usize| Source::Replay(record[n].1);
        assert_eq!(
            master(&mut Rng(seed + 1000), replayed),
            record,
            "seed {seed}"
        );
        assert!(
            record
                .iter()
                .zip(0..)
                .all(|((wildcard, ..), n)| *wildcard == Some(n))
        );
    }
}
