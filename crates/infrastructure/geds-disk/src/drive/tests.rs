//! What tier 1 asks of the files of a disk, on each kind of disk.

use std::io;
use std::sync::Arc;
use std::thread;

use wal::testing::CrashDisk;
use wal::{Disk, DiskFile};

use super::{Aligned, Drive};

/// Long enough for several rounds of a ring.
const LONG: usize = 6 << 20;

fn contract(disk: &dyn Disk) {
    let file = disk.create("one").expect("it is new");
    file.allocate(8 << 20).expect("there is room");
    assert_eq!(file.size().expect("it works"), 8 << 20);
    let exists = disk.create("one").expect_err("it is there");
    assert_eq!(exists.kind(), io::ErrorKind::AlreadyExists);
    let mut written = Aligned::zeroed(LONG);
    rt::fill_random(&mut written);
    // Neither a multiple of a piece nor of a ring.
    for (len, offset) in [
        (4096, 8192),
        (LONG, 4096),
        (1_044_480, 0),
        (135_168, 1 << 20),
    ] {
        check(&*file, &written[..len], offset);
    }
    file.sync().expect("it works");
    let again = disk.open("one").expect("it is there");
    check_read(&*again, &written[..135_168], 1 << 20);
    let mut beyond = Aligned::zeroed(1 << 20);
    let error = again
        .read_at(&mut beyond, (8 << 20) - 4096)
        .expect_err("it ends before");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    disk.rename("one", "two").expect("it works");
    disk.sync().expect("it works");
    assert!(disk.open("one").is_err());
    assert!(disk.list().expect("it works").contains(&"two".to_owned()));
    disk.remove("two").expect("it works");
    assert!(!again.is_linked().expect("it works"));
}

fn check(file: &dyn DiskFile, bytes: &[u8], offset: u64) {
    file.write_at(bytes, offset).expect("it works");
    check_read(file, bytes, offset);
}

fn check_read(file: &dyn DiskFile, bytes: &[u8], offset: u64) {
    let mut found = Aligned::zeroed(bytes.len());
    file.read_at(&mut found, offset).expect("it works");
    assert!(found[..] == *bytes, "at {offset}");
}

#[test]
fn every_kind_of_disk_does_what_is_asked() {
    contract(&CrashDisk::default());
    let directory = tempfile::tempdir().expect("a directory");
    let plain = Drive::open_without_rings(&directory.path().join("a/b")).expect("it opens");
    assert!(!plain.has_rings());
    contract(&plain);
    drop(plain);
    let drive = Drive::open(&directory.path().join("a/b")).expect("it opens again");
    contract(&drive);
}

#[test]
fn a_drive_has_one_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let drive = Drive::open(directory.path()).expect("it opens");
    let second = Drive::open(directory.path()).expect_err("it is locked");
    assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
    drop(drive);
    Drive::open(directory.path()).expect("it is free");
}

/// More transfers than there are rings.
#[test]
fn rings_are_shared() {
    let directory = tempfile::tempdir().expect("a directory");
    let drive = Drive::open(directory.path()).expect("it opens");
    let files: Vec<Arc<dyn DiskFile>> = (0..8)
        .map(|n| drive.create(&format!("{n}")).expect("it is new"))
        .collect();
    thread::scope(|scope| {
        for (n, file) in files.iter().enumerate() {
            scope.spawn(move || {
                let mut bytes = Aligned::zeroed(2 << 20);
                bytes.fill(u8::try_from(n).expect("few"));
                for round in 0..3 {
                    check(&**file, &bytes, round * 4096);
                }
            });
        }
    });
}
