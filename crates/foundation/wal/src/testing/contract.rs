//! What every log must do, as a test that any implementation can run.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::{DurableLog, Error, Position, Ticket};

/// Two logs of one owner.
#[derive(Debug)]
pub struct Opened {
    pub logs: [Arc<dyn DurableLog>; 2],
    /// Dropping it closes them.
    pub owner: Box<dyn Any>,
}

type Open = dyn Fn() -> Result<Opened, Error>;

/// Checks a kind of log. `fresh` makes a place without logs, and what it returns opens the logs in it, as a new owner each time.
///
/// # Panics
/// When it does not keep the contract.
pub fn contract(fresh: &dyn Fn() -> Box<Open>) {
    an_empty_log_is_empty(&*fresh());
    what_is_acknowledged_can_be_read(&*fresh());
    logs_do_not_see_each_other(&*fresh());
    a_new_owner_finds_everything(&*fresh());
    truncation_takes_the_front(&*fresh());
    a_snapshot_can_be_gone_on_from(&*fresh());
    limits_hold(&*fresh());
    a_new_owner_fences_the_old_one(&*fresh());
    a_closed_log_has_kept_its_promises(&*fresh());
    tickets_can_be_awaited(&*fresh());
    appenders_do_not_lose_each_other(&*fresh());
}

const OK: &str = "the log works";

fn an_empty_log_is_empty(open: &Open) {
    let Opened {
        logs: [log, _],
        owner,
    } = open().expect(OK);
    assert_eq!(log.start(), log.end());
    assert!(records(&*log).is_empty());
    assert_eq!(log.barrier().wait().expect(OK), log.end());
    drop(owner);
    let Opened {
        logs: [log, _],
        owner: _owner,
    } = open().expect("nothing is no damage");
    assert!(records(&*log).is_empty());
}

fn what_is_acknowledged_can_be_read(open: &Open) {
    let Opened {
        logs: [log, _],
        owner: _owner,
    } = open().expect(OK);
    let bodies: [&[&[u8]]; 5] = [
        &[b"one"],
        &[],
        &[b"", b"two", b"", b" three"],
        &[b""],
        &[&[0; 700]],
    ];
    let mut positions = Vec::new();
    for parts in bodies {
        let ticket = log.append(parts).expect(OK);
        let position = ticket.position();
        assert_eq!(ticket.wait().expect(OK), position);
        positions.push(position);
    }
    assert!(positions.is_sorted_by(|a, b| a < b), "positions grow");
    assert!(positions[4] < log.end());
    let expected: Vec<_> = bodies.iter().map(|parts| parts.concat()).collect();
    for (n, from) in positions.iter().enumerate() {
        let (found, next) = read(&*log, *from, usize::MAX);
        let (at, found): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        assert_eq!(at, positions[n..]);
        assert_eq!(found, expected[n..]);
        assert_eq!(next, log.end());
    }
    // One at a time, each from where the one before said.
    let mut from = log.start();
    for (position, body) in positions.iter().zip(&expected) {
        let (found, next) = read(&*log, from, 1);
        assert_eq!(found, [(*position, body.clone())]);
        from = next;
    }
    assert_eq!(from, log.end());
    assert_eq!(read(&*log, from, 1), (vec![], from));
}

fn logs_do_not_see_each_other(open: &Open) {
    let Opened {
        logs: [one, two],
        owner: _owner,
    } = open().expect(OK);
    let mut last = Position::default();
    for n in 0..20_u8 {
        let log = if n % 3 == 0 { &one } else { &two };
        let position = log.append(&[&[n]]).expect(OK).wait().expect(OK);
        assert!(last < position);
        last = position;
    }
    let third = |is_third: bool| (0..20_u8).filter(move |n| (n % 3 == 0) == is_third);
    assert_eq!(
        records(&*one),
        third(true).map(|n| vec![n]).collect::<Vec<_>>()
    );
    assert_eq!(
        records(&*two),
        third(false).map(|n| vec![n]).collect::<Vec<_>>()
    );
    two.truncate(two.end()).expect(OK);
    assert_eq!(records(&*one).len(), 7);
    assert!(records(&*two).is_empty());
}

fn a_new_owner_finds_everything(open: &Open) {
    let mut expected = Vec::new();
    let mut epoch = None;
    for n in 0..4_u8 {
        let Opened {
            logs: [log, _],
            owner: _owner,
        } = open().expect(OK);
        assert!(epoch < Some(log.epoch()), "every owner has a higher epoch");
        epoch = Some(log.epoch());
        assert_eq!(records(&*log), expected);
        for m in 0..3 {
            log.append(&[&[n], &[m; 50]]).expect(OK).wait().expect(OK);
            expected.push([vec![n], vec![m; 50]].concat());
        }
    }
}

fn truncation_takes_the_front(open: &Open) {
    let Opened {
        logs: [log, _],
        owner,
    } = open().expect(OK);
    let tickets: Vec<_> = (0..9_u8).map(|n| log.append(&[&[n]]).expect(OK)).collect();
    let positions: Vec<_> = tickets
        .into_iter()
        .map(|ticket| ticket.wait().expect(OK))
        .collect();
    log.truncate(positions[4]).expect(OK);
    assert_eq!(log.start(), positions[4]);
    assert_eq!(records(&*log), [[4], [5], [6], [7], [8]]);
    let below = log.read(positions[3], &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(below, Err(Error::Truncated { start }) if start == positions[4]));
    log.truncate(positions[2])
        .expect("what is gone can be given up again");
    assert_eq!(log.start(), positions[4]);
    log.truncate(Position(u64::MAX))
        .expect("as far as there is something");
    assert_eq!(log.start(), log.end());
    let again = log.append(&[b"again"]).expect(OK).wait().expect(OK);
    assert!(again > positions[8]);
    assert_eq!(records(&*log), [b"again"]);
    drop(owner);
    let Opened {
        logs: [log, _],
        owner: _owner,
    } = open().expect(OK);
    assert_eq!(records(&*log), [b"again"], "closing makes it durable");
}

/// Who keeps a snapshot, and where the log ended then, finds the rest there, however busy other logs were in the meantime.
fn a_snapshot_can_be_gone_on_from(open: &Open) {
    let busy = |log: &dyn DurableLog| {
        for n in 0..60 {
            log.append(&[&[n; 1000]]).expect(OK).wait().expect(OK);
            log.truncate(log.end()).expect(OK);
        }
    };
    let reopen = |snapshots: [Position; 2], n_new| {
        let opened = open().expect(OK);
        let n_found = [0, 1].map(|n| read(&*opened.logs[n], snapshots[n], usize::MAX).0.len());
        assert_eq!(n_found, [n_new, 0], "records behind the snapshots");
        opened
    };
    let opened = open().expect(OK);
    // The second log has never been appended to.
    let nothing = opened.logs[1].end();
    busy(&*opened.logs[0]);
    let first = opened.logs[0].barrier().wait().expect(OK);
    drop(opened);
    let opened = reopen([first, nothing], 0);
    busy(&*opened.logs[1]);
    let snapshots = [first, opened.logs[1].end()];
    drop(opened);
    let opened = reopen(snapshots, 0);
    opened.logs[0]
        .append(&[b"new"])
        .expect(OK)
        .wait()
        .expect(OK);
    drop(opened);
    let opened = reopen(snapshots, 1);
    busy(&*opened.logs[1]);
    let snapshots = [first, opened.logs[1].end()];
    drop(opened);
    drop(reopen(snapshots, 1));
}

fn limits_hold(open: &Open) {
    let Opened {
        logs: [log, _],
        owner: _owner,
    } = open().expect(OK);
    let max = log.record_bytes_max();
    let body = vec![7; usize::try_from(max).expect("it fits in memory") + 1];
    assert!(matches!(log.append(&[&body]), Err(Error::TooLarge { max: m }) if m == max));
    assert!(matches!(
        log.try_append(&[&body]),
        Err(Error::TooLarge { .. })
    ));
    for _ in 0..3 {
        log.append(&[&body[1..]])
            .expect("just at the limit")
            .wait()
            .expect(OK);
    }
    assert_eq!(records(&*log), [&body[1..]; 3]);
    let end = log.end();
    let beyond = log.read(Position(end.0 + 1), &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(beyond, Err(Error::Beyond { end: e }) if e == end));
}

fn a_new_owner_fences_the_old_one(open: &Open) {
    let Opened {
        logs: [old, old_other],
        owner: _old_owner,
    } = open().expect(OK);
    old.append(&[b"old"]).expect(OK).wait().expect(OK);
    let Opened {
        logs: [new, _],
        owner: _owner,
    } = open().expect("the old owner has no say");
    assert!(new.epoch() > old.epoch());
    new.append(&[b"new"]).expect(OK).wait().expect(OK);
    let late = old.append(&[b"late"]).and_then(Ticket::wait);
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    for log in [&old, &old_other] {
        assert!(matches!(log.append(&[b"later"]), Err(Error::Fenced)));
        assert!(matches!(log.truncate(log.end()), Err(Error::Fenced)));
        assert!(matches!(log.barrier().wait(), Err(Error::Fenced)));
    }
    new.append(&[b"newer"]).expect(OK).wait().expect(OK);
    assert_eq!(records(&*new), [&b"old"[..], b"new", b"newer"]);
    assert_eq!(records(&*old), [b"old"], "it can still read what it knew");
}

fn a_closed_log_has_kept_its_promises(open: &Open) {
    let Opened {
        logs: [log, _],
        owner,
    } = open().expect(OK);
    let tickets: Vec<_> = (0..100_u8)
        .map(|n| log.append(&[&[n]]).expect(OK))
        .collect();
    drop(owner);
    for ticket in tickets {
        ticket.wait().expect("what is queued is written first");
    }
    assert!(matches!(log.append(&[b"late"]), Err(Error::Closed)));
    assert!(matches!(log.try_append(&[b"late"]), Err(Error::Closed)));
    assert_eq!(records(&*log).len(), 100);
}

fn tickets_can_be_awaited(open: &Open) {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let Opened {
        logs: [log, _],
        owner: _owner,
    } = open().expect(OK);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    for n in 0..20_u8 {
        let mut ticket = pin!(log.append(&[&[n]]).expect(OK));
        let position = ticket.position();
        let result = loop {
            match ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => break result,
                Poll::Pending => thread::park(),
            }
        };
        assert_eq!(result.expect(OK), position);
        assert!(log.end() > position);
    }
}

fn appenders_do_not_lose_each_other(open: &Open) {
    const APPENDERS: u8 = 8;
    const EACH: u8 = 40;
    let Opened { logs, owner } = open().expect(OK);
    let append = |appender: u8| {
        let log = &logs[usize::from(appender % 2)];
        let mut tickets = Vec::new();
        for n in 0..EACH {
            let ticket = match log.try_append(&[&[appender, n]]) {
                Err(Error::Busy) => log.append(&[&[appender, n]]),
                result => result,
            };
            tickets.push(ticket.expect(OK));
        }
        for ticket in tickets {
            let position = ticket.wait().expect(OK);
            assert!(position < log.end(), "what is acknowledged can be read");
        }
    };
    thread::scope(|scope| {
        for appender in 0..APPENDERS {
            scope.spawn(move || append(appender));
        }
    });
    let found = logs.each_ref().map(|log| records(&**log));
    let mut next = BTreeMap::new();
    for body in found.iter().flatten() {
        let n = next.entry(body[0]).or_insert(0);
        assert_eq!(body[1], *n, "each appender's records are in order");
        *n += 1;
    }
    assert_eq!(next.len(), usize::from(APPENDERS));
    assert!(next.values().all(|n| *n == EACH));
    drop(owner);
    let Opened {
        logs,
        owner: _owner,
    } = open().expect(OK);
    assert_eq!(logs.each_ref().map(|log| records(&**log)), found);
}

fn read(log: &dyn DurableLog, from: Position, max: usize) -> (Vec<(Position, Vec<u8>)>, Position) {
    let mut found = Vec::new();
    let next = log.read(from, &mut |position, body| {
        found.push((position, body.to_vec()));
        if found.len() == max {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    (found, next.expect(OK))
}

fn records(log: &dyn DurableLog) -> Vec<Vec<u8>> {
    let (found, _) = read(log, log.start(), usize::MAX);
    found.into_iter().map(|(_, body)| body).collect()
}
