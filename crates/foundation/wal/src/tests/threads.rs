//! What several threads see of the log when the disk stops in the middle of something.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future as _;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Wake, Waker};
use std::thread;

use crate::testing::{Call, CrashDisk};
use crate::{Config, Directory, Disk, DurableLog as _, Error, Log, LogId, Ticket, Wal};

const OK: &str = "it works";

/// Holds a call of that kind, after `n_before` others: says when it has come, and waits to be told to go on.
fn hold(disk: &CrashDisk, kind: Call, n_before: usize) -> (Receiver<()>, SyncSender<()>) {
    let (come, has_come) = sync_channel(1);
    let (go, may_go) = sync_channel(1);
    let mut calls = (0..=n_before).rev();
    disk.hook(move |call| {
        if call == kind && calls.next() == Some(0) {
            come.send(()).expect("somebody waits");
            may_go.recv().expect("somebody goes on");
        }
        Ok(())
    });
    (has_come, go)
}

fn open(disk: &CrashDisk) -> (Wal, Log) {
    let config = Config {
        segment_bytes: 8 << 20,
        queue_bytes: 1 << 20,
    };
    let wal = Wal::open(Arc::new(disk.clone()), config).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    (wal, log)
}

/// Has the thread of the log begin with a record.
fn begin(log: &Log, body: &[u8]) -> Ticket {
    let mut ticket = log.append(&[body]).expect("queued");
    let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    ticket
}

/// Closes it, and lets the disk go on when that has begun.
fn close(wal: Wal, log: &Log, go: &SyncSender<()>) {
    let closing = thread::scope(|scope| {
        let closing = scope.spawn(|| drop(wal));
        while !matches!(log.try_append(&[]), Err(Error::Closed)) {
            thread::yield_now();
        }
        go.send(()).expect("it is held");
        closing.join()
    });
    closing.expect("closed");
}

#[test]
fn what_many_logs_append_during_a_sync_shares_the_next_one() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    let (has_come, go) = hold(&disk, Call::IsLinked, 0);
    let n_syncs = wal.stats().n_syncs;
    let first = begin(&log, b"first");
    has_come.recv().expect("it is synced");
    let logs = (0..30).map(|id| wal.log(LogId(id)).expect("a log"));
    let tickets = logs.map(|log| log.append(&[b"later"]).expect("it works"));
    let tickets: Vec<_> = tickets.collect();
    assert_eq!(wal.stats().n_syncs, n_syncs);
    go.send(()).expect("it is held");
    first.wait().expect("it works");
    for ticket in tickets {
        ticket.wait().expect("it works");
    }
    assert_eq!(wal.stats().n_syncs, n_syncs + 2);
}

#[test]
fn who_waits_for_the_last_record_waits_for_one_sync() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    let n_syncs = wal.stats().n_syncs;
    let kept = log.append(&[b"kept"]).expect("queued");
    let other = wal.log(LogId(1)).expect("a log");
    other.append(&[b"other"]).and_then(Ticket::wait).expect(OK);
    assert_eq!(wal.stats().n_syncs, n_syncs + 1);
    kept.wait().expect(OK);
    log.barrier().wait().expect(OK);
    assert_eq!(wal.stats().n_syncs, n_syncs + 1);
}

/// Whoever began to write, be it a thread that waits or that of the log, what has come meanwhile is written, also if nobody waits for it.
#[test]
fn what_nobody_waits_for_is_written_too() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    let written = || {
        while wal.stats().queued_bytes > 0 {
            thread::yield_now();
        }
    };
    drop(log.append(&[b"alone"]).expect("queued"));
    written();
    let (has_come, go) = hold(&disk, Call::IsLinked, 0);
    thread::scope(|scope| {
        let waits = scope.spawn(|| log.append(&[b"waits"]).and_then(Ticket::wait));
        has_come.recv().expect("it is synced");
        drop(log.append(&[b"meanwhile"]).expect("queued"));
        go.send(()).expect("it is held");
        waits.join().expect("no panic").expect(OK);
    });
    written();
    let kept = log.append(&[b"kept"]).expect("queued");
    let mut n_records = 0;
    log.append(&[b"last"]).and_then(Ticket::wait).expect(OK);
    log.read(log.start(), &mut |_, _| {
        n_records += 1;
        ControlFlow::Continue(())
    })
    .expect(OK);
    assert_eq!(n_records, 5);
    drop(kept);
}

#[test]
fn who_is_fenced_while_it_closes_says_so() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    let (has_come, go) = hold(&disk, Call::IsLinked, 0);
    let late = begin(&log, b"late");
    has_come.recv().expect("it is synced");
    let later = log.append(&[b"later"]).expect("queued");
    let _new = open(&disk);
    close(wal, &log, &go);
    assert!(matches!(late.wait(), Err(Error::Fenced)));
    assert!(matches!(later.wait(), Err(Error::Fenced)));
    let barrier = log.barrier().wait();
    assert!(matches!(barrier, Err(Error::Fenced)), "{barrier:?}");
}

#[test]
fn a_full_log_is_full_when_it_is_closed() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    disk.set_room(0);
    while log.append(&[&[7; 100_000]]).and_then(Ticket::wait).is_ok() {}
    drop(wal);
    assert!(matches!(log.append(&[b"late"]), Err(Error::Full)));
    assert!(matches!(log.barrier().wait(), Err(Error::Full)));
}

#[test]
fn a_panic_leaves_nobody_waiting() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    disk.hook(|call| {
        assert!(call != Call::IsLinked, "a mistake");
        Ok(())
    });
    let ticket = log.append(&[b"late"]).expect("queued");
    assert!(matches!(ticket.wait(), Err(Error::Failed { .. })));
    assert!(matches!(log.append(&[b"later"]), Err(Error::Failed { .. })));
    drop(wal);
}

#[test]
fn closing_does_not_wait_for_another_segment() {
    let disk = CrashDisk::default();
    // The opening makes four of them.
    let (has_come, go) = hold(&disk, Call::Write, 6);
    let (wal, log) = open(&disk);
    has_come.recv().expect("it is being made");
    close(wal, &log, &go);
    let names = disk.list().expect("listed");
    assert!(
        names.iter().all(|name| !name.starts_with("spare-")),
        "{names:?}"
    );
}

/// A task may be polled with another waker each time; only the last one is to be woken.
#[test]
fn a_ticket_keeps_one_waker() {
    #[derive(Default)]
    struct Woken(AtomicU32);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let disk = CrashDisk::default();
    let (_wal, log) = open(&disk);
    let (has_come, go) = hold(&disk, Call::IsLinked, 0);
    let mut ticket = pin!(log.append(&[b"record"]).expect("queued"));
    let woken: [Arc<Woken>; 3] = Default::default();
    for woken in &woken {
        let waker = Waker::from(Arc::clone(woken));
        let poll = ticket.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
    }
    has_come.recv().expect("it is synced");
    go.send(()).expect("it is held");
    while woken[2].0.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    assert_eq!(
        woken.map(|woken| woken.0.load(Ordering::Relaxed)),
        [0, 0, 1]
    );
}

/// Readers see an unbroken run of records while others are appended, given up, and written over.
#[test]
fn reading_goes_on_while_others_append_and_truncate() {
    const N_RECORDS: u32 = 3000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = Directory::open(dir.path()).expect("a directory");
    let config = Config {
        segment_bytes: 12 << 10,
        queue_bytes: 4 << 10,
    };
    let wal = Wal::open(Arc::new(disk), config).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let read = || {
        let (mut last, mut n_reads) = (None, 0);
        while last != Some(N_RECORDS - 1) {
            let start = log.start();
            let mut before = None;
            let read = log.read(start, &mut |_, body| {
                let n = u32::from_le_bytes(body[..4].try_into().expect("4 bytes"));
                assert!(before.is_none_or(|before: u32| before + 1 == n));
                assert!(body[4..].iter().all(|byte| u32::from(*byte) == n % 251));
                before = Some(n);
                ControlFlow::Continue(())
            });
            match read {
                Ok(_) => {
                    assert!(last <= before || before.is_none());
                    last = last.max(before);
                }
                Err(Error::Truncated { start: later }) => assert!(later > start),
                Err(other) => panic!("{other}"),
            }
            n_reads += 1;
        }
        assert!(n_reads > 1);
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(read);
        }
        let mut positions = VecDeque::new();
        for n in 0..N_RECORDS {
            let body = [u8::try_from(n % 251).expect("a byte"); 200];
            let ticket = log.append(&[&n.to_le_bytes(), &body]).expect("it works");
            positions.push_back(ticket.wait().expect("it works"));
            if positions.len() > 50 {
                log.truncate(positions[25]).expect("it works");
                positions.drain(..25);
            }
        }
    });
}

/// Several threads open the log, append, give up what is old, and are fenced by each other at any time. What any of them was told to be
/// durable is there.
fn fight(disk: &Arc<dyn Disk>) {
    let config = Config {
        segment_bytes: 12 << 10,
        queue_bytes: 4 << 10,
    };
    let n_acknowledged = AtomicU32::new(0);
    let given_up = [0, 1].map(AtomicU64::new);
    let own = |thread: u32, round: u32, acknowledged: &mut Vec<_>| {
        let wal = Wal::open(Arc::clone(disk), config)?;
        let id = thread % 2;
        let log = wal.log(LogId(id))?;
        for n in 0..40_u32 {
            let body = [thread, round, n].map(u32::to_le_bytes).concat();
            let position = log.append(&[&body, &[7; 300]])?.wait()?;
            acknowledged.push((id, position, body));
            n_acknowledged.fetch_add(1, Ordering::Relaxed);
            if n % 8 == 7 {
                let (_, before, _) = acknowledged[acknowledged.len() - 4];
                given_up[usize::from(id == 1)].fetch_max(before.0, Ordering::Relaxed);
                log.truncate(before)?;
            }
        }
        Ok(())
    };
    let own_often = |thread: u32| {
        let mut acknowledged = Vec::new();
        for round in 0..8 {
            // Not before others have done something.
            while n_acknowledged.load(Ordering::Relaxed) < (3 * round + thread) * 7 {
                thread::yield_now();
            }
            match own(thread, round, &mut acknowledged) {
                Ok(()) | Err(Error::Fenced) => {}
                Err(other) => {
                    // Nobody has to wait for this one.
                    n_acknowledged.fetch_add(1000, Ordering::Relaxed);
                    panic!("{other}");
                }
            }
        }
        acknowledged
    };
    let own_often = &own_often;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|n| scope.spawn(move || own_often(n))).collect();
        let all = threads
            .into_iter()
            .map(|thread| thread.join().expect("it works"));
        all.flatten().collect()
    });
    let wal = Wal::open(Arc::clone(disk), config).expect("opens");
    let mut found = BTreeMap::new();
    wal.read_all(&mut |_, position, body| {
        found.insert(position, body[..12].to_vec());
        ControlFlow::Continue(())
    })
    .expect("it can be read");
    assert!(acknowledged.len() > 150, "{}", acknowledged.len());
    for (id, position, body) in acknowledged {
        if position.0 >= given_up[usize::from(id == 1)].load(Ordering::Relaxed) {
            assert_eq!(found.get(&position), Some(&body), "{position}");
        }
    }
}

#[test]
fn owners_that_fight_lose_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for n in 0..5 {
        fight(&(Arc::new(CrashDisk::default()) as Arc<dyn Disk>));
        let path = dir.path().join(n.to_string());
        fight(&(Arc::new(Directory::open(&path).expect("a directory")) as Arc<dyn Disk>));
    }
}
