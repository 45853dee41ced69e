//! What several threads see of the log when the disk stops in the middle of something.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::testing::{Call, CrashDisk};
use crate::{Config, Disk as _, DurableLog as _, Error, Log, LogId, Wal};

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
    let first = log.append(&[b"first"]).expect("it works");
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
fn who_is_fenced_while_it_closes_says_so() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    let (has_come, go) = hold(&disk, Call::IsLinked, 0);
    let late = log.append(&[b"late"]).expect("queued");
    has_come.recv().expect("it is synced");
    let _new = open(&disk);
    close(wal, &log, &go);
    assert!(matches!(late.wait(), Err(Error::Fenced)));
    let barrier = log.barrier().wait();
    assert!(matches!(barrier, Err(Error::Fenced)), "{barrier:?}");
}

#[test]
fn a_full_log_is_full_when_it_is_closed() {
    let disk = CrashDisk::default();
    let (wal, log) = open(&disk);
    disk.set_room(0);
    while log
        .append(&[&[7; 100_000]])
        .and_then(crate::Ticket::wait)
        .is_ok()
    {}
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
