//! Leaving a host and coming back.

use std::path::Path;

use super::super::*;
use super::guest::*;

fn moved(program: &Program, guest: &mut Guest, dir: &Path) -> Guest {
    let state = guest.host().wasi().save().expect("all files are in place");
    program.guest(Wasi::restore(state, &mounts(dir)).expect("all files are in place"))
}

fn why_not(guest: &mut Guest) -> String {
    guest
        .host()
        .wasi()
        .save()
        .expect_err("the cell must stay")
        .to_string()
}

#[test]
fn open_files_go_on_where_they_were() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = Program::new();
    let mut guest = program.guest_in(dir.path());
    let truncate = 8;
    let data = guest
        .open("data", CREATE | truncate, READ | WRITE)
        .expect("a file");
    let log = guest
        .open_at(ROOT, "log", CREATE | 4, WRITE, 1)
        .expect("a file");
    let sub = {
        guest
            .path_call("path_create_directory", ROOT, "sub", &[])
            .expect("a directory");
        guest.open("./sub//", 2, READ).expect("a directory")
    };
    guest.write(data, &[b"0123456789"]).expect("written");
    guest.seek(data, 4, 0).expect("inside");
    guest.write(log, &[b"one"]).expect("written");
    guest.call("fd_close", &[0]).expect("it was open");
    guest.call("fd_renumber", &[2, 1]).expect("both are open");

    let mut guest = moved(&program, &mut guest, dir.path());
    std::fs::write(dir.path().join("log"), "one two").expect("another writer");
    let mut guest = moved(&program, &mut guest, dir.path());
    assert_eq!(guest.read(data, 3).as_deref(), Ok(&b"456"[..]));
    assert_eq!(guest.write(data, &[b"X"]), Ok(1));
    assert_eq!(guest.write(log, &[b" three"]), Ok(6));
    assert_eq!(
        std::fs::read(dir.path().join("data")).expect("a file"),
        b"0123456X89"
    );
    assert_eq!(
        std::fs::read(dir.path().join("log")).expect("a file"),
        b"one two three"
    );
    assert!(
        guest
            .open_at(sub, "new", CREATE, READ, 0)
            .is_ok_and(|fd| fd == 0)
    );
    assert!(dir.path().join("sub/new").exists());
    guest.write(1, &[b"x"]).expect("written");
    assert_eq!(guest.host().output, [(Stream::Stderr, b"x".to_vec())]);
    assert_eq!(guest.call("fd_prestat_get", &[ROOT.into(), 64]), Ok(()));
}

#[test]
fn a_state_says_the_same_again() {
    fn plain<T: serde::Serialize + serde::de::DeserializeOwned>(_: &T) {}
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = Program::new();
    let mut guest = program.guest_in(dir.path());
    guest.open("data", CREATE, READ | WRITE).expect("a file");
    let first = guest.host().wasi().save().expect("all files are in place");
    let mut guest = moved(&program, &mut guest, dir.path());
    let second = guest.host().wasi().save().expect("all files are in place");
    assert_eq!(first, second);
    assert_eq!(first.mounts().collect::<Vec<_>>(), ["/"]);
    plain(&first);
}

#[test]
fn renaming_by_the_guest_itself_is_followed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = Program::new();
    let mut guest = program.guest_in(dir.path());
    for name in ["a", "a/b", "ab"] {
        guest
            .path_call("path_create_directory", ROOT, name, &[])
            .expect("a directory");
    }
    let file = guest.open("a/./b/f", CREATE, WRITE).expect("a file");
    let other = guest.open("ab/f", CREATE, WRITE).expect("a file");
    guest.rename("a/b", "c").expect("renamed");
    guest.rename("c/", "./a//d/").expect("renamed");
    guest.rename("a/d/f", "ab/g").expect("renamed");
    guest.rename("ab", "z").expect("renamed");
    let mut guest = moved(&program, &mut guest, dir.path());
    guest.write(file, &[b"file"]).expect("written");
    guest.write(other, &[b"other"]).expect("written");
    assert_eq!(
        std::fs::read(dir.path().join("z/g")).expect("a file"),
        b"file"
    );
    assert_eq!(
        std::fs::read(dir.path().join("z/f")).expect("a file"),
        b"other"
    );
}

#[test]
fn a_file_that_is_gone_keeps_the_cell_where_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest.open("out.txt", CREATE, WRITE).expect("a file");
    guest
        .path_call("path_unlink_file", ROOT, "out.txt", &[])
        .expect("removed");
    let removed = "`/out.txt` was removed while open: the file cannot follow the cell";
    assert_eq!(why_not(&mut guest), removed);
    guest.write(fd, &[b"it goes on here"]).expect("written");
    guest.open("out.txt", CREATE, WRITE).expect("another file");
    let replaced = "`/out.txt` was replaced while open: the file cannot follow the cell";
    assert_eq!(why_not(&mut guest), replaced);
    guest.call("fd_close", &[fd.into()]).expect("it was open");
    guest
        .host()
        .wasi()
        .save()
        .expect("only the second file is open");
    std::fs::rename(dir.path().join("out.txt"), dir.path().join("moved"))
        .expect("renamed by others");
    assert_eq!(why_not(&mut guest), removed);
}

#[test]
fn restoring_creates_nothing_and_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("f");
    let mut guest = Program::new().guest_in(dir.path());
    guest
        .open("f", CREATE | 4 | 8, READ | WRITE)
        .expect("a file");
    std::fs::write(&path, "content").expect("content");
    let state = guest.host().wasi().save().expect("all files are in place");
    let restore = |mounts: &[_]| Wasi::restore(state.clone(), mounts).map(drop);

    assert_eq!(restore(&mounts(dir.path())), Ok(()));
    assert_eq!(std::fs::read(&path).expect("a file"), b"content", "not cut");
    assert_eq!(
        restore(&[]),
        Err(RestoreError::NoMount {
            guest: "/".to_owned()
        })
    );
    std::fs::rename(&path, dir.path().join("kept")).expect("renamed");
    assert_eq!(
        restore(&mounts(dir.path())),
        Err(RestoreError::Open {
            path: "/f".to_owned(),
            errno: Errno::NoEnt
        })
    );
    assert!(!path.exists());
    std::fs::write(&path, "content").expect("another file");
    assert_eq!(
        restore(&mounts(dir.path())),
        Err(RestoreError::NotTheSame {
            path: "/f".to_owned()
        })
    );
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a directory");
    assert_eq!(
        restore(&mounts(dir.path())),
        Err(RestoreError::NotTheSame {
            path: "/f".to_owned()
        })
    );
}

#[test]
fn a_directory_is_read_on_after_a_move() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for number in 0..50 {
        std::fs::write(dir.path().join(format!("file-{number}")), "").expect("a file");
    }
    let program = Program::new();
    let mut guest = program.guest_in(dir.path());
    let (all, _) = guest.readdir(ROOT, 40_000, 0).expect("a directory");
    let (first, full) = guest.readdir(ROOT, 500, 0).expect("a directory");
    assert!(full && first.len() < 25);
    let (last_seen, cookie) = first.last().expect("some").clone();
    let mut guest = moved(&program, &mut guest, dir.path());
    std::fs::remove_file(dir.path().join(last_seen)).expect("removed");
    let (rest, _) = guest.readdir(ROOT, 40_000, cookie).expect("a directory");
    assert_eq!(rest, all[first.len()..]);
}
