//! What the engine costs. The numbers are printed; only ratios within one run are checked.

use std::time::Duration;

use super::{Endpoint, Envelope, Frame, Limits, Mode, Source, Span, Wanted, memory};

/// Two ranks and one message at a time: send, deliver, receive, consume, acknowledge.
struct Pair {
    ranks: [Endpoint; 2],
    memory: Vec<u8>,
    wires: Vec<Frame>,
}

const SPAN: Span = Span { ptr: 8, len: 8 };

impl Pair {
    fn new() -> Self {
        let limits = Limits {
            credit_messages: 1 << 20,
            ..Limits::default()
        };
        let ranks = [0, 1].map(|rank| Endpoint::new(rank, 2, limits));
        Pair {
            ranks,
            memory: memory(),
            wires: Vec::with_capacity(16),
        }
    }

    fn send(&mut self, tag: i32) -> u32 {
        let envelope = Envelope {
            ctx: 0,
            dest: 1,
            tag,
        };
        let (memory, wires) = (&self.memory, &mut self.wires);
        self.ranks[0]
            .send(envelope, SPAN, Mode::Standard, memory, wires)
            .expect("it may send")
    }

    fn recv(&mut self, source: Source, tag: Option<i32>) -> u32 {
        let wanted = Wanted {
            ctx: 0,
            source,
            tag,
        };
        self.ranks[1]
            .recv(wanted, SPAN, &self.memory, &mut self.wires)
            .expect("it may receive")
    }

    fn carry(&mut self) {
        let mut out = Vec::new();
        for frame in self.wires.drain(..) {
            let (from, to) = (frame.from, frame.to);
            let delivery = self.ranks[to as usize]
                .deliver(frame, &mut out)
                .expect("it is honest");
            self.ranks[from as usize]
                .acked(to, delivery.ack)
                .expect("it is honest");
        }
        assert!(out.is_empty(), "no small message causes an answer");
    }

    fn consume(&mut self, rank: usize, request: u32) {
        let (memory, wires) = (&mut self.memory, &mut self.wires);
        self.ranks[rank]
            .consume(request, memory, wires)
            .expect("it is complete");
    }
}

/// The best of some rounds, per operation: noise only adds.
fn best_of<T>(n_ops: u32, prepare: impl Fn() -> T, run: impl Fn(&mut T)) -> Duration {
    let round = |_| {
        let mut subject = prepare();
        let start = rt::now();
        run(&mut subject);
        start.elapsed() / n_ops
    };
    (0..5).map(round).min().expect("there are rounds")
}

#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
fn report(what: &str, cost: Duration) {
    println!("{what}: {} ns", cost.as_nanos());
}

#[test]
fn a_small_message() {
    const N: u32 = 20_000;
    let expected = best_of(N, Pair::new, |pair| {
        for _ in 0..N {
            let received = pair.recv(Source::Rank(0), Some(1));
            let sent = pair.send(1);
            pair.carry();
            pair.consume(1, received);
            pair.consume(0, sent);
        }
    });
    report("8 bytes, receive posted first", expected);
    let unexpected = best_of(N, Pair::new, |pair| {
        for _ in 0..N {
            let sent = pair.send(1);
            pair.carry();
            let received = pair.recv(Source::Rank(0), Some(1));
            pair.consume(1, received);
            pair.consume(0, sent);
        }
    });
    report("8 bytes, message there first", unexpected);
}

/// `n` messages wait, each with its own tag; they are received in the reverse order.
fn selective(n: i32, source: Source, is_tagged: bool) -> Duration {
    let prepare = || {
        let mut pair = Pair::new();
        for tag in 0..n {
            let sent = pair.send(tag);
            pair.carry();
            pair.consume(0, sent);
        }
        pair
    };
    best_of(n.unsigned_abs(), prepare, |pair| {
        for tag in (0..n).rev() {
            let received = pair.recv(source, is_tagged.then_some(tag));
            pair.consume(1, received);
        }
    })
}

#[test]
fn ten_thousand_messages_in_the_wrong_order() {
    for source in [Source::Rank(0), Source::Any] {
        for is_tagged in [true, false] {
            let few = selective(100, source, is_tagged);
            let many = selective(10_000, source, is_tagged);
            report(
                &format!("a receive from {source:?}, tagged {is_tagged}, of 100"),
                few,
            );
            report(
                &format!("a receive from {source:?}, tagged {is_tagged}, of 10000"),
                many,
            );
            // A search through all would cost a hundred times as much.
            assert!(
                many < few * 25,
                "{many:?} with 10000 waiting, {few:?} with 100"
            );
        }
    }
}
