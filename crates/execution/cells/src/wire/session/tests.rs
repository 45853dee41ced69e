use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use super::*;

const LIMITS: Limits = Limits {
    items_max: 8,
    bytes_max: 1 << 20,
};

/// Both directions between two sessions, until it is cut.
struct Connection {
    sockets: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

fn connect(
    (a, to_a): (&Arc<Session>, &SyncSender<u32>),
    (b, to_b): (&Arc<Session>, &SyncSender<u32>),
) -> Connection {
    let mut connection = Connection {
        sockets: Vec::new(),
        threads: Vec::new(),
    };
    for (from, to, sink) in [(a, b, to_b), (b, a, to_a)] {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        connection
            .sockets
            .push(near.try_clone().expect("a descriptor"));
        let (from, to, sink) = (Arc::clone(from), Arc::clone(to), sink.clone());
        let number = from.connected();
        connection.spawn(move || {
            // It is cut by the test.
            from.carry(number, &mut near).ok();
        });
        connection.spawn(move || {
            to.reader()
                .receive(&mut far, |item| sink.send(item).map_err(io::Error::other));
        });
    }
    connection
}

impl Connection {
    fn spawn(&mut self, body: impl FnOnce() + Send + 'static) {
        let thread = rt::thread("connection".into(), 1 << 20, body);
        self.threads.push(thread.expect("a thread"));
    }

    fn cut(self) {
        for socket in self.sockets {
            socket
                .shutdown(std::net::Shutdown::Both)
                .expect("it was open");
        }
        for thread in self.threads {
            thread.join().expect("no panic");
        }
    }
}

#[test]
fn everything_arrives_once_and_in_order_whatever_is_cut() {
    const N: u32 = 2_000;
    let (a, b) = (
        Arc::new(Session::new(LIMITS)),
        Arc::new(Session::new(LIMITS)),
    );
    let (to_a, at_a) = sync_channel(1);
    let (to_b, at_b) = sync_channel(1);
    let mut pushers = Vec::new();
    for session in [&a, &b] {
        let session = Arc::clone(session);
        let body = move || (0..N).try_for_each(|n| session.push(&n));
        pushers.push(rt::thread("pusher".into(), 1 << 20, body).expect("a thread"));
    }
    let (progress, changed) = std::sync::mpsc::sync_channel::<()>(2 * N as usize);
    let readers: Vec<_> = [at_a, at_b]
        .into_iter()
        .map(|items| {
            let progress = progress.clone();
            let body = move || {
                let check = |n| {
                    assert_eq!(items.recv(), Ok(n), "once, and in order");
                    progress.send(()).expect("there is room for all");
                };
                (0..N).for_each(check);
            };
            rt::thread("reader".into(), 1 << 20, body).expect("a thread")
        })
        .collect();
    // Each connection lives for some hundred items.
    let mut n_seen = 0;
    while n_seen < 2 * N {
        let connection = connect((&a, &to_a), (&b, &to_b));
        let wanted = (n_seen + 1 + n_seen % 311).min(2 * N);
        while n_seen < wanted {
            changed.recv().expect("nothing is lost");
            n_seen += 1;
        }
        connection.cut();
    }
    for thread in pushers {
        thread.join().expect("no panic").expect("it was queued");
    }
    for thread in readers {
        thread.join().expect("no panic");
    }
}

#[test]
fn a_full_queue_takes_no_more_until_something_is_acknowledged() {
    let session = Session::new(LIMITS);
    for n in 0..LIMITS.items_max {
        session.try_push(&n).expect("there is room");
    }
    session.try_push(&0).expect_err("it is full");
    let barrier = session.barrier();
    let n_items = LIMITS.items_max as u64;
    session
        .lock()
        .acknowledged(n_items + 1)
        .expect_err("never sent");
    session.lock().acknowledged(1).expect("sent");
    session.try_push(&0).expect("there is room again");
    assert!(barrier.try_recv().is_err(), "seven are under way");
    session.lock().acknowledged(n_items).expect("sent");
    assert!(barrier.try_recv().is_ok(), "all before it have arrived");
}

#[test]
fn the_depth_of_a_queue_is_to_be_seen() {
    let metrics = telemetry::Metrics::new();
    let depth = Depth {
        items: metrics.gauge("queued_items", "Items."),
        bytes: metrics.gauge("queued_bytes", "Bytes."),
        waited: metrics.counter("waited_total", "Items."),
    };
    let seen = || (depth.items.get(), depth.bytes.get(), depth.waited.get());
    let session = Session::measured(LIMITS, depth.clone());
    assert_eq!(seen(), (0, 0, 0));
    for n in 0..LIMITS.items_max {
        session.push(&n).expect("there is room");
    }
    let n_bytes = 8 * 7;
    assert_eq!(seen(), (8, n_bytes, 0));
    let ack = |upto| {
        let bytes = encode(&Packet::<u32>::Ack(upto)).expect("encodes");
        session.reader().receive(&mut &*bytes, |_: u32| Ok(()))
    };
    std::thread::scope(|scope| {
        // One that waits for room shows it at once.
        let pusher = scope.spawn(|| session.push(&0_u8));
        while depth.waited.get() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(seen(), (8, n_bytes, 1));
        ack(3);
        pusher.join().expect("no panic").expect("it was queued");
    });
    assert_eq!(seen(), (6, n_bytes / 8 * 6, 1));
    session.close();
    assert_eq!(seen(), (0, 0, 1));
}

#[test]
fn what_is_held_is_passed_on_and_not_acknowledged() {
    let session = Session::new(LIMITS);
    let connection = session.connected();
    let take = |seq| {
        let item = Packet::Item { seq, item: 7_u32 };
        let bytes = encode(&item).expect("encodes");
        let mut heard = Vec::new();
        session.reader().receive(&mut &*bytes, |item: u32| {
            heard.push(item);
            Ok(())
        });
        assert_eq!(heard, [7]);
    };
    // An item of its own each time, so that there is always something to be carried.
    let carried = || {
        session.push(&8_u32).expect("there is room");
        let (batch, _) = session.next_batch(connection).expect("it stands");
        let packets = batch.iter().map(|bytes| receive(&mut &**bytes));
        packets
            .map(|packet| match packet.expect("decodes") {
                Packet::<u32>::Ack(upto) => Some(upto),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    take(0);
    assert_eq!(carried(), [Some(1), None]);
    session.hold(true);
    take(1);
    take(2);
    assert_eq!(carried(), [None]);
    session.hold(false);
    assert_eq!(carried(), [Some(3), None]);
    assert_eq!(carried(), [None]);
}

#[test]
fn a_full_queue_has_a_reserve_for_those_who_cannot_wait() {
    let session = Session::new(LIMITS);
    for n in 0..LIMITS.items_max {
        session.try_push(&n).expect("there is room");
    }
    for n in 0..RESERVE_ITEMS {
        session.push_beyond(&n).expect("it is their own");
    }
    session.push_beyond(&0).expect_err("it is full, too");
    session
        .lock()
        .acknowledged(RESERVE_ITEMS as u64)
        .expect("sent");
    session.try_push(&0).expect_err("it is still full");
    session.push_beyond(&0).expect("there is room again");
}

#[test]
fn the_other_side_hears_of_the_end() {
    let (a, b) = (
        Arc::new(Session::new(LIMITS)),
        Arc::new(Session::new(LIMITS)),
    );
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    a.end();
    a.push(&1_u32).expect("it goes nowhere");
    a.carry(a.connected(), &mut near).expect("it says the end");
    let ended = b.reader().receive(&mut far, |_: u32| Ok(()));
    assert!(matches!(ended, Broken::Over), "{ended:?}");
    assert_eq!(b.reach(), Reach::Unreachable);
}

#[test]
fn what_was_sent_before_the_end_may_be_acknowledged_behind_it() {
    let session = Session::new(LIMITS);
    session.push(&1_u32).expect("there is room");
    session.close();
    let packets = [
        encode(&Packet::<u32>::Ack(1)),
        encode(&Packet::Item {
            seq: 0,
            item: 7_u32,
        }),
        encode(&Packet::<u32>::Over),
    ];
    let bytes = packets.map(|packet| packet.expect("encodes")).concat();
    let mut heard = Vec::new();
    let ended = session.reader().receive(&mut &*bytes, |item: u32| {
        heard.push(item);
        Ok(())
    });
    assert!(matches!(ended, Broken::Over), "{ended:?}");
    assert_eq!(heard, [7]);
}

#[test]
fn a_gap_or_garbage_breaks_the_connection() {
    let check = |bytes: &[u8]| {
        let session = Session::new(LIMITS);
        let ended = session.reader().receive(&mut &*bytes, |_: u32| Ok(()));
        assert!(matches!(ended, Broken::Cut(_)), "{ended:?}");
    };
    check(&encode(&Packet::Item { seq: 1, item: 7 }).expect("encodes"));
    check(&encode(&Packet::<u32>::Ack(1)).expect("encodes"));
    check(&[1, 0, 0, 0, 99]);
    check(&[]);
}
