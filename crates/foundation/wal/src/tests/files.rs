//! The whole log, threads and all: its contract, on files of this machine and on the simulated disk; its queue; its limits.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::testing::{Call, Choices, CrashDisk, Memory, Opened, contract};
use crate::{Config, Directory, Disk, DurableLog, Error, LOGS_MAX, LogId, Position, Wal};

const SMALL: Config = Config {
    segment_bytes: 12 << 10,
    queue_bytes: 4 << 10,
};

fn opened(disk: Arc<dyn Disk>, config: Config) -> Result<Opened, Error> {
    let wal = Wal::open(disk, config)?;
    let log = |id| Ok::<Arc<dyn DurableLog>, Error>(Arc::new(wal.log(LogId(id))?));
    let logs = [log(0)?, log(1)?];
    let owner = Box::new(wal);
    Ok(Opened { logs, owner })
}

fn directory(path: &Path) -> Arc<dyn Disk> {
    Arc::new(Directory::open(path).expect("a directory"))
}

#[test]
fn files_keep_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let counter = std::sync::atomic::AtomicUsize::new(0);
    for config in [
        SMALL,
        Config {
            segment_bytes: 1 << 20,
            ..Config::default()
        },
    ] {
        contract(&|| {
            let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = dir.path().join(format!("a/b/{n}"));
            Box::new(move || opened(directory(&path), config))
        });
    }
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    contract(&|| {
        let disk = CrashDisk::default();
        Box::new(move || opened(Arc::new(disk.clone()), SMALL))
    });
}

#[test]
fn memory_keeps_the_contract() {
    contract(&|| {
        let memory = Memory::default();
        Box::new(move || {
            let wal = memory.open();
            let log = |id| -> Arc<dyn DurableLog> { Arc::new(wal.log(LogId(id))) };
            let logs = [log(0), log(1)];
            let owner = Box::new(wal);
            Ok(Opened { logs, owner })
        })
    });
}

#[test]
fn files_are_used_again_and_take_bounded_room() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let wal = Wal::open(directory(dir.path()), SMALL).expect("opens");
    let log = wal.log(LogId(3)).expect("a log");
    for n in 0..500_u32 {
        let ticket = log
            .append(&[&n.to_le_bytes(), &[1; 1000]])
            .expect("it works");
        let position = ticket.wait().expect("it works");
        log.truncate(position).expect("it works");
    }
    let n_files = || std::fs::read_dir(dir.path()).expect("listed").count();
    assert!(n_files() < 12, "{} files", n_files());
    let n_segments = wal.stats().n_segments;
    assert!(n_segments < 4);
    drop(wal);
    assert!(
        n_files() <= n_segments + 1,
        "segments and the claim are left"
    );
    let wal = Wal::open(directory(dir.path()), SMALL).expect("opens");
    let mut last = None;
    wal.read_all(&mut |id, _, body| {
        assert_eq!(id, LogId(3));
        last = Some(u32::from_le_bytes(body[..4].try_into().expect("4 bytes")));
        ControlFlow::Continue(())
    })
    .expect("it can be read");
    assert_eq!(last, Some(499));
}

#[test]
fn a_reader_keeps_the_file_that_it_reads() {
    let wal = Wal::open(Arc::new(CrashDisk::default()), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let append = |n: u8| {
        log.append(&[&[n; 1000]])
            .expect("it works")
            .wait()
            .expect("it works");
    };
    (0..20).for_each(append);
    let mut n_read = 0;
    log.read(log.start(), &mut |_, body| {
        assert_eq!(body, [n_read; 1000]);
        n_read += 1;
        // All that is being read is given up and overwritten.
        log.truncate(Position(u64::MAX)).expect("it works");
        (100..110).for_each(append);
        ControlFlow::Continue(())
    })
    .expect("what was there at the beginning is read");
    assert_eq!(n_read, 20);
}

#[test]
fn a_full_disk_is_a_state() {
    let disk = CrashDisk::default();
    disk.set_room(4 * SMALL.segment_bytes);
    let wal = Wal::open(Arc::new(disk.clone()), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let mut kept = Vec::new();
    let error = loop {
        match log.append(&[&[7; 1000]]).and_then(crate::Ticket::wait) {
            Ok(position) => kept.push(position),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, Error::Full) && kept.len() >= 9,
        "{error}: {}",
        kept.len()
    );
    assert!(wal.stats().is_full && !wal.stats().has_ended);
    assert!(
        matches!(log.append(&[b"small enough"]), Err(Error::Full)),
        "nothing slips in behind it"
    );
    assert!(matches!(log.barrier().wait(), Err(Error::Full)));
    let mut found = Vec::new();
    let mut visit = |position, _: &[u8]| {
        found.push(position);
        ControlFlow::Continue(())
    };
    log.read(log.start(), &mut visit).expect("it can be read");
    assert_eq!(found, kept);
    log.truncate(kept[kept.len() - 1])
        .expect("it can be truncated");
    wal.resume();
    // Before the next record is written, segments have become free.
    log.append(&[&[8; 1000]])
        .expect("there is room")
        .wait()
        .expect("there is room");
    assert!(!wal.stats().is_full);
    drop(wal);
    let wal = Wal::open(Arc::new(disk), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let mut bodies = Vec::new();
    let mut visit = |_, body: &[u8]| {
        bodies.push(body[0]);
        ControlFlow::Continue(())
    };
    log.read(log.start(), &mut visit).expect("it can be read");
    assert_eq!(bodies, [7, 8]);
}

#[test]
fn a_failed_sync_ends_everything_with_the_first_cause() {
    let disk = CrashDisk::default();
    let wal = Wal::open(Arc::new(disk.clone()), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    log.append(&[b"kept"])
        .expect("it works")
        .wait()
        .expect("it works");
    assert!(!wal.stats().has_ended);
    disk.hook(|call| match call {
        Call::SyncFile => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    });
    let lost = log.append(&[b"lost"]).expect("queued").wait();
    assert!(
        matches!(
            lost,
            Err(Error::Failed {
                context: "sync the log",
                ..
            })
        ),
        "{lost:?}"
    );
    disk.hook(|_| Ok(()));
    assert!(wal.stats().has_ended);
    for _ in 0..3 {
        assert!(matches!(
            log.append(&[b"late"]),
            Err(Error::Failed {
                context: "sync the log",
                ..
            })
        ));
    }
    drop(wal);
    let disk = disk.crash(disk.n_ops(), &mut Choices::random(1));
    let wal = Wal::open(Arc::new(disk), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let mut first = None;
    let mut visit = |_, body: &[u8]| {
        first = Some(body.to_vec());
        ControlFlow::Break(())
    };
    log.read(log.start(), &mut visit).expect("it can be read");
    assert_eq!(first.as_deref(), Some(&b"kept"[..]));
}

#[test]
fn the_queue_is_bounded() {
    let wal = Wal::open(Arc::new(CrashDisk::default()), SMALL).expect("opens");
    let log = wal.log(LogId(0)).expect("a log");
    let mut n_busy = 0;
    for _ in 0..2000 {
        match log.try_append(&[&[0; 500]]) {
            Ok(_) => {}
            Err(Error::Busy) => {
                n_busy += 1;
                log.barrier().wait().expect("it works");
            }
            Err(other) => panic!("{other}"),
        }
        let stats = wal.stats();
        assert!(stats.queued_bytes <= stats.queue_bytes_max);
    }
    assert!(n_busy > 0);
}

#[test]
fn logs_are_counted() {
    let wal = Wal::open(
        Arc::new(CrashDisk::default()),
        Config {
            queue_bytes: 1 << 20,
            segment_bytes: 1 << 20,
        },
    )
    .expect("opens");
    let n_logs = u32::try_from(LOGS_MAX).expect("few");
    for n in 0..n_logs {
        let log = wal.log(LogId(n)).expect("as many as that");
        log.append(&[&n.to_le_bytes()])
            .expect("it works")
            .wait()
            .expect("it works");
    }
    assert!(matches!(wal.log(LogId(n_logs)), Err(Error::TooManyLogs)));
    assert!(matches!(wal.log(LogId::RESERVED), Err(Error::TooManyLogs)));
    wal.log(LogId(0)).expect("it is one of them");
}
