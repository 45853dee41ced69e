//! A log that is read by who does not own it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::inspect::{Dumped, Inspection, dump};
use crate::{Config, Directory, Disk as _, DurableLog as _, Error, LogId, Position, Wal};

const CONFIG: Config = Config {
    segment_bytes: 16 << 10,
    queue_bytes: 4 << 10,
};

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).expect("listed");
    let paths = paths.map(|entry| entry.expect("listed").path());
    paths
        .map(|path| (path.clone(), fs::read(path).expect("read")))
        .collect()
}

/// Two logs, in several files. One of them has been truncated, and where.
fn written(dir: &Path) -> Position {
    let disk = Arc::new(Directory::open(dir).expect("a directory"));
    let wal = Wal::open(disk, CONFIG).expect("opened");
    let logs = [0, 1].map(|id| wal.log(LogId(id)).expect("a log"));
    let mut positions = Vec::new();
    for n in 0..60_u8 {
        let ticket = logs[usize::from(n % 2)].append(&[&[n; 500]]);
        positions.push(ticket.expect("appended").wait().expect("durable"));
    }
    logs[0].truncate(positions[2]).expect("truncated");
    positions[2]
}

fn read(dir: &Path) -> Result<Vec<(u32, Vec<u8>)>, Error> {
    let disk = Directory::look_at(dir).expect("a directory");
    let mut records = Vec::new();
    Inspection::of(&disk)?.read(&mut |log, _, bytes| {
        records.push((log.0, bytes.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

#[test]
fn all_is_read_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = written(dir.path());
    let before = files(dir.path());
    let expected: Vec<_> = (0..60).map(|n| (u32::from(n % 2), vec![n; 500])).collect();
    assert_eq!(read(dir.path()).expect("sound"), expected);
    let disk = Directory::look_at(dir.path()).expect("a directory");
    let log = Inspection::of(&disk).expect("sound");
    assert!(log.n_segments() > 1);
    let starts: BTreeMap<_, _> = log.starts().collect();
    assert_eq!(starts[&LogId(0)], start);
    assert_eq!(files(dir.path()), before);
    disk.remove("x").expect_err("nothing is changed");
    disk.create("x").expect_err("nothing is changed");
}

#[test]
fn files_are_dumped_as_far_as_they_are_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let mut records = Vec::new();
    for (path, bytes) in files(dir.path()) {
        let name = path.file_name().and_then(|it| it.to_str()).expect("text");
        let told = dump(name, &bytes, &mut |dumped| {
            if let Dumped::Record { log, bytes, .. } = dumped {
                records.push((log.0, bytes.to_vec()));
            }
        });
        assert_eq!(told.is_ok(), name.ends_with(".wal"), "{name}");
        // Whatever is cut off, it is no reason to panic.
        for end in (0..bytes.len()).step_by(97) {
            dump(name, &bytes[..end], &mut |_| {}).ok();
        }
    }
    assert_eq!(records, read(dir.path()).expect("sound"));
}

#[test]
fn what_has_changed_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    for (path, mut bytes) in files(dir.path()) {
        if path.extension().is_none_or(|it| it != "wal") {
            continue;
        }
        // In the first record behind the two slots.
        let at = 8192 + 100;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let found = read(dir.path());
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
    }
    read(dir.path()).expect("it is as it was");
}
