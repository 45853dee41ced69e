use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const READ: How = How {
    read: true,
    write: false,
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    follow: true,
};

fn tree() -> (tempfile::TempDir, HostDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let vfs = HostDir::open(dir.path()).expect("a directory");
    (dir, vfs)
}

#[test]
fn a_host_directory_keeps_the_contract() {
    let (_dir, vfs) = tree();
    contract(&vfs);
}

#[test]
fn a_root_that_is_no_directory_is_refused() {
    let (dir, _) = tree();
    fs::write(dir.path().join("file"), "").expect("a file");
    assert!(HostDir::open(&dir.path().join("file")).is_err());
    assert!(HostDir::open(&dir.path().join("none")).is_err());
}

#[test]
fn links_that_others_made_do_not_lead_out() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    fs::write(outside.path().join("secret"), "x").expect("a file");
    let (dir, vfs) = tree();
    symlink(outside.path(), dir.path().join("absolute")).expect("a link");
    let up = Path::new("..").join(outside.path().file_name().expect("a name"));
    symlink(up, dir.path().join("relative")).expect("a link");
    // Absolute links are refused even where they lead back inside: their meaning depends on the
    // host.
    symlink(dir.path(), dir.path().join("home")).expect("a link");
    for link in ["absolute", "relative", "home"] {
        assert!(matches!(vfs.open(link, READ), Err(Errno::Perm)));
        let inside = format!("{link}/secret");
        assert!(matches!(vfs.open(&inside, READ), Err(Errno::Perm)));
        assert_eq!(vfs.stat(&inside, false), Err(Errno::Perm));
        assert_eq!(vfs.remove_file(&inside), Err(Errno::Perm));
        assert_eq!(vfs.entries(link), Err(Errno::Perm));
        assert_eq!(vfs.rename(&inside, "mine"), Err(Errno::Perm));
    }
    assert_eq!(
        fs::read(outside.path().join("secret")).expect("untouched"),
        b"x"
    );
}

#[test]
fn special_files_are_refused_and_block_nobody() {
    let (dir, vfs) = tree();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), pipe, mode, 0).expect("a pipe");
    let _socket =
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("a socket");
    for how in [
        READ,
        How {
            read: false,
            write: true,
            ..READ
        },
        How {
            write: true,
            ..READ
        },
    ] {
        assert!(matches!(vfs.open("pipe", how), Err(Errno::Acces)));
        assert!(matches!(vfs.open("socket", how), Err(Errno::Acces)));
    }
    assert_eq!(
        vfs.stat("socket", false).map(|stat| stat.kind),
        Ok(Kind::Socket)
    );
}

#[test]
fn names_that_are_not_utf8_are_not_visible() {
    use std::os::unix::ffi::OsStrExt as _;
    let (dir, vfs) = tree();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").expect("a file");
    assert_eq!(vfs.entries("."), Ok(Vec::new()));
}

/// One thread swaps a directory for a link that leads out, the other keeps looking behind it.
#[test]
fn a_race_does_not_lead_out() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    fs::write(outside.path().join("secret"), "").expect("a file");
    let (dir, vfs) = tree();
    fs::create_dir(dir.path().join("real")).expect("a directory");
    symlink(outside.path(), dir.path().join("fake")).expect("a link");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (from, to) in [
                    ("real", "way"),
                    ("way", "real"),
                    ("fake", "way"),
                    ("way", "fake"),
                ] {
                    fs::rename(dir.path().join(from), dir.path().join(to)).expect("a rename");
                }
            }
        });
        // Until the link has often been in the way.
        let mut refusals = 0;
        while refusals < 1000 {
            let found = vfs.open("way/secret", READ).map(drop);
            assert_ne!(found, Ok(()));
            refusals += u32::from(found == Err(Errno::Perm));
            if vfs.make_directory("way/made").is_ok() {
                assert!(!outside.path().join("made").exists());
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}
