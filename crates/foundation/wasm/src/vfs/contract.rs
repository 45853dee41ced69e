//! What every [`Vfs`] must do, as a test to run on it.

use super::{Appended, Errno, File, How, Kind, Opened, PATH_BYTES_MAX, Stat, Time, Times, Vfs};

/// Runs the contract of [`Vfs`] on an empty tree, and leaves it empty.
///
/// # Panics
/// Where the tree breaks the contract.
pub fn contract(vfs: &dyn Vfs) {
    assert_eq!(vfs.entries("."), Ok(Vec::new()), "the tree must be empty");
    opening(vfs);
    content(vfs);
    access(vfs);
    directories(vfs);
    names(vfs);
    links(vfs);
    confinement(vfs);
    times(vfs);
    assert_eq!(vfs.entries("."), Ok(Vec::new()), "the contract cleans up");
}

const READ: How = How {
    read: true,
    write: false,
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    follow: false,
};
const WRITE: How = How {
    read: false,
    write: true,
    ..READ
};
const BOTH: How = How {
    write: true,
    ..READ
};
const CREATE: How = How {
    create: true,
    ..BOTH
};
const NEW: How = How {
    exclusive: true,
    ..CREATE
};
const CUT: How = How {
    truncate: true,
    ..BOTH
};
const DIRECTORY: How = How {
    directory: true,
    ..READ
};
const FOLLOW: How = How {
    follow: true,
    ..READ
};

fn file(vfs: &dyn Vfs, path: &str, how: How) -> (Box<dyn File>, Stat) {
    match vfs.open(path, how) {
        Ok(Opened::File(file, stat)) => (file, stat),
        other => panic!("`{path}` must open as a file: {other:?}"),
    }
}

fn refused(vfs: &dyn Vfs, path: &str, how: How) -> Errno {
    vfs.open(path, how).expect_err(path)
}

fn all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        match file.read_at(&mut bytes[count..], count.try_into().expect("a small file")) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(errno) => panic!("{errno}"),
        }
    }
    bytes.truncate(count);
    bytes
}

fn opening(vfs: &dyn Vfs) {
    assert_eq!(refused(vfs, "a", READ), Errno::NoEnt);
    assert_eq!(vfs.stat("a", true), Err(Errno::NoEnt));
    let (first, made) = file(vfs, "a", NEW);
    assert_eq!((made.kind, made.size, made.links), (Kind::File, 0, 1));
    assert_eq!(first.write_at(b"abc", 0), Ok(3));
    assert_eq!(refused(vfs, "a", NEW), Errno::Exist);

    let (second, again) = file(vfs, "a", CREATE);
    assert!(
        again.is_same_file(&made),
        "the same path leads to the same file"
    );
    assert_eq!(
        again.size, 3,
        "opening with `create` alone keeps the content"
    );
    assert_eq!(all(&*second), b"abc");
    let (_, cut) = file(vfs, "a", CUT);
    assert_eq!((cut.size, second.stat().map(|stat| stat.size)), (0, Ok(0)));

    assert_eq!(refused(vfs, "a", DIRECTORY), Errno::NotDir);
    assert_eq!(refused(vfs, "a/", READ), Errno::NotDir);
    assert_eq!(refused(vfs, "a/b", READ), Errno::NotDir);
    assert_eq!(
        refused(
            vfs,
            "b",
            How {
                directory: true,
                ..CREATE
            }
        ),
        Errno::Inval
    );
    assert_eq!(
        refused(
            vfs,
            ".",
            How {
                directory: true,
                truncate: true,
                ..BOTH
            }
        ),
        Errno::Inval
    );
    assert_eq!(refused(vfs, ".", BOTH), Errno::IsDir);

    assert_eq!(vfs.remove_file("a"), Ok(()));
    assert_eq!(
        first.write_at(b"still", 0),
        Ok(5),
        "a removed file can still be used"
    );
    assert_eq!(all(&*second), b"still");
    let (_, other) = file(vfs, "a", CREATE);
    assert!(
        !other.is_same_file(&made),
        "a new file under the old path is another file"
    );
    assert_eq!(vfs.remove_file("a"), Ok(()));
}

fn content(vfs: &dyn Vfs) {
    let (data, _) = file(vfs, "data", CREATE);
    assert_eq!(
        data.read_at(&mut [0; 4], 0),
        Ok(0),
        "an empty file is at its end"
    );
    assert_eq!(data.write_at(b"xyz", 4), Ok(3));
    assert_eq!(all(&*data), b"\0\0\0\0xyz", "the gap is zeros");
    assert_eq!(data.write_at(b"abcd", 0), Ok(4));
    let mut part = [0; 2];
    assert_eq!((data.read_at(&mut part, 3), &part), (Ok(2), b"dx"));
    assert_eq!(data.read_at(&mut part, 6), Ok(1), "a short read at the end");
    assert_eq!(
        data.read_at(&mut part, 1 << 40),
        Ok(0),
        "nothing behind the end"
    );

    let (log, _) = file(vfs, "data", WRITE);
    assert_eq!(log.append(b"12"), Ok(Appended { count: 2, end: 9 }));
    assert_eq!(data.append(b"34"), Ok(Appended { count: 2, end: 11 }));
    assert_eq!(
        log.append(b"5"),
        Ok(Appended { count: 1, end: 12 }),
        "the end is looked up each time"
    );
    assert_eq!(
        data.write_at(b"A", 0),
        Ok(1),
        "appending leaves no mark on the handle"
    );
    assert_eq!(all(&*data), b"Abcdxyz12345");

    assert_eq!(data.set_len(3), Ok(()));
    assert_eq!(data.set_len(5), Ok(()));
    assert_eq!(all(&*data), b"Abc\0\0");
    match data.allocate(3, 7) {
        Ok(()) => assert_eq!(all(&*data), b"Abc\0\0\0\0\0\0\0"),
        Err(errno) => assert_eq!(errno, Errno::NotSup),
    }
    assert_eq!((data.datasync(), data.sync()), (Ok(()), Ok(())));

    for beyond in [1 << 63, u64::MAX] {
        assert_eq!(data.read_at(&mut part, beyond), Err(Errno::Inval));
        assert_eq!(data.write_at(b"x", beyond), Err(Errno::Inval));
        assert_eq!(data.set_len(beyond), Err(Errno::Inval));
        assert_eq!(data.allocate(beyond, 1), Err(Errno::Inval));
    }
    assert_eq!(vfs.remove_file("data"), Ok(()));
}

fn access(vfs: &dyn Vfs) {
    let (writable, _) = file(
        vfs,
        "f",
        How {
            create: true,
            ..WRITE
        },
    );
    let (readable, _) = file(vfs, "f", READ);
    assert_eq!(writable.read_at(&mut [0], 0), Err(Errno::Badf));
    assert_eq!(readable.write_at(b"x", 0), Err(Errno::Badf));
    assert_eq!(readable.append(b"x"), Err(Errno::Badf));
    assert_eq!(readable.set_len(1), Err(Errno::Badf));
    assert_eq!(readable.allocate(0, 1), Err(Errno::Badf));
    let (neither, _) = file(
        vfs,
        "f",
        How {
            read: false,
            ..READ
        },
    );
    assert_eq!(neither.read_at(&mut [0], 0), Err(Errno::Badf));
    assert_eq!(neither.write_at(b"x", 0), Err(Errno::Badf));
    assert_eq!(vfs.remove_file("f"), Ok(()));
}

fn directories(vfs: &dyn Vfs) {
    assert_eq!(vfs.make_directory("d"), Ok(()));
    assert_eq!(vfs.make_directory("d"), Err(Errno::Exist));
    assert_eq!(vfs.make_directory("d/e/"), Ok(()));
    assert_eq!(vfs.make_directory("x/y"), Err(Errno::NoEnt));
    assert!(matches!(
        vfs.open("d/e/", DIRECTORY),
        Ok(Opened::Directory(_))
    ));
    assert!(
        matches!(vfs.open("d", READ), Ok(Opened::Directory(stat)) if stat.kind == Kind::Directory)
    );
    let (_, made) = file(vfs, "d/é", CREATE);

    let mut entries = vfs.entries("d").expect("a directory");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["e", "é"]);
    assert_eq!(entries[1].inode, made.inode);
    assert!(matches!(entries[0].kind, Kind::Directory | Kind::Unknown));
    assert!(matches!(entries[1].kind, Kind::File | Kind::Unknown));
    assert_eq!(vfs.entries("d/é"), Err(Errno::NotDir));
    assert_eq!(vfs.entries("no"), Err(Errno::NoEnt));
    assert_eq!(vfs.sync_directory("d"), Ok(()));
    assert_eq!(vfs.sync_directory("d/é"), Err(Errno::NotDir));

    assert_eq!(vfs.remove_directory("d"), Err(Errno::NotEmpty));
    assert_eq!(vfs.remove_directory("d/é"), Err(Errno::NotDir));
    assert_eq!(vfs.remove_file("d/e"), Err(Errno::IsDir));
    assert_eq!(vfs.remove_file("d/é/"), Err(Errno::NotDir));
    assert_eq!(vfs.remove_file("d/é"), Ok(()));
    assert_eq!(vfs.remove_directory("d/e"), Ok(()));
    assert_eq!(vfs.remove_directory("d"), Ok(()));
    assert_eq!(vfs.remove_directory("d"), Err(Errno::NoEnt));
}

fn names(vfs: &dyn Vfs) {
    let (handle, made) = file(vfs, "old", CREATE);
    assert_eq!(vfs.link("old", "second"), Ok(()));
    assert_eq!(
        vfs.stat("second", false)
            .map(|stat| (stat.inode, stat.links)),
        Ok((made.inode, 2))
    );
    assert_eq!(vfs.link("old", "second"), Err(Errno::Exist));
    assert_eq!(vfs.link("old/", "third"), Err(Errno::NotDir));
    assert_eq!(vfs.make_directory("d"), Ok(()));
    assert_eq!(vfs.link("d", "third"), Err(Errno::Perm));
    assert_eq!(vfs.remove_file("second"), Ok(()));

    assert_eq!(vfs.rename("old", "d/new"), Ok(()));
    assert_eq!(vfs.stat("old", false), Err(Errno::NoEnt));
    assert!(
        vfs.stat("d/new", false)
            .is_ok_and(|stat| stat.is_same_file(&made))
    );
    assert!(
        handle.stat().is_ok_and(|stat| stat.is_same_file(&made)),
        "a handle follows its file"
    );
    let (_, other) = file(vfs, "other", CREATE);
    assert_eq!(vfs.rename("other", "d/new"), Ok(()));
    assert!(
        vfs.stat("d/new", false)
            .is_ok_and(|stat| stat.is_same_file(&other)),
        "renaming replaces"
    );
    assert_eq!(vfs.rename("d/new", "d"), Err(Errno::NotEmpty));
    assert_eq!(vfs.rename("d", "d/inside"), Err(Errno::Inval));
    assert_eq!(vfs.rename("none", "some"), Err(Errno::NoEnt));
    assert_eq!(
        vfs.rename("d/", "e/"),
        Ok(()),
        "a directory may be named with a slash"
    );
    assert_eq!(
        vfs.rename("e/new/", "f"),
        Err(Errno::NotDir),
        "a file may not"
    );
    assert_eq!(vfs.remove_file("e/new"), Ok(()));
    assert_eq!(vfs.remove_directory("e"), Ok(()));
}

fn links(vfs: &dyn Vfs) {
    let (_, made) = file(vfs, "target", CREATE);
    assert_eq!(vfs.symlink("target", "link"), Ok(()));
    assert_eq!(vfs.symlink("target", "link"), Err(Errno::Exist));
    assert_eq!(vfs.read_link("link").as_deref(), Ok("target"));
    assert_eq!(vfs.read_link("target"), Err(Errno::Inval));
    assert!(file(vfs, "link", FOLLOW).1.is_same_file(&made));
    assert_eq!(refused(vfs, "link", READ), Errno::Loop);
    assert_eq!(vfs.stat("link", true).map(|stat| stat.kind), Ok(Kind::File));
    assert_eq!(
        vfs.stat("link", false).map(|stat| stat.kind),
        Ok(Kind::SymbolicLink)
    );
    assert_eq!(
        vfs.rename("link", "moved"),
        Ok(()),
        "a link is renamed, not what it leads to"
    );
    assert_eq!(vfs.link("moved", "link"), Ok(()), "and linked");
    assert_eq!(
        vfs.stat("link", false).map(|stat| stat.kind),
        Ok(Kind::SymbolicLink)
    );
    for name in ["moved", "link", "target"] {
        assert_eq!(vfs.remove_file(name), Ok(()));
    }

    assert_eq!(vfs.symlink("round", "round"), Ok(()));
    assert_eq!(refused(vfs, "round", FOLLOW), Errno::Loop);
    assert_eq!(vfs.remove_file("round"), Ok(()));
}

fn confinement(vfs: &dyn Vfs) {
    assert_eq!(vfs.make_directory("in"), Ok(()));
    assert_eq!(vfs.symlink("/etc", "x"), Err(Errno::Perm));
    assert_eq!(vfs.symlink("../..", "in/out"), Ok(()));
    let long = "a/".repeat(PATH_BYTES_MAX);
    let outside = [
        "..",
        "../x",
        "in/../..",
        "in/out",
        "in/out/",
        "in/out/x",
        "in/out/x/",
        "/",
        "/etc/passwd",
        "//",
    ];
    for (path, errno) in outside.map(|path| (path, Errno::Perm)).into_iter().chain([
        ("", Errno::NoEnt),
        ("in/a\0b", Errno::Inval),
        (&*long, Errno::NameTooLong),
    ]) {
        let is = |result: Result<(), Errno>| assert_eq!(result, Err(errno), "{path:?}");
        is(vfs.open(path, FOLLOW).map(drop));
        is(vfs.stat(path, true).map(drop));
        is(vfs.entries(path).map(drop));
        is(vfs.sync_directory(path));
        is(vfs.set_times(
            path,
            true,
            Times {
                accessed: Time::Keep,
                modified: Time::At(0),
            },
        ));
        // These mean the last part itself: it is inside, or is a `..` or a `/` that says no on
        // other grounds.
        if !["in/out", "in/out/"].contains(&path) {
            for result in [
                vfs.make_directory(path),
                vfs.remove_directory(path),
                vfs.remove_file(path),
                vfs.rename(path, "in/y"),
                vfs.rename("in", path),
                vfs.link(path, "in/y"),
                vfs.symlink("target", path),
                vfs.read_link(path).map(drop),
                vfs.open(path, CREATE).map(drop),
            ] {
                assert!(result.is_err(), "{path:?}");
            }
        }
    }
    assert_eq!(vfs.link("in/out/", "in/y"), Err(Errno::Perm));
    assert_eq!(
        vfs.stat("in/./../in", true).map(|stat| stat.kind),
        Ok(Kind::Directory)
    );
    assert_eq!(vfs.remove_file("in/out"), Ok(()));
    assert_eq!(vfs.remove_directory("in"), Ok(()));
}

fn times(vfs: &dyn Vfs) {
    let (handle, _) = file(vfs, "t", CREATE);
    assert_eq!(vfs.symlink("t", "l"), Ok(()));
    let at = |accessed, modified| Times { accessed, modified };
    assert_eq!(
        vfs.set_times(
            "t",
            false,
            at(Time::At(1_000_000_005_000_000_000), Time::At(7_000_000_000))
        ),
        Ok(())
    );
    let stat = handle.stat().expect("a file");
    assert_eq!(
        (stat.accessed_ns, stat.modified_ns),
        (1_000_000_005_000_000_000, 7_000_000_000)
    );
    assert_eq!(
        handle.set_times(at(Time::Keep, Time::At(9_000_000_000))),
        Ok(())
    );
    assert_eq!(
        vfs.set_times("l", true, at(Time::At(3_000_000_000), Time::Keep)),
        Ok(())
    );
    let stat = vfs.stat("l", true).expect("a file");
    assert_eq!(
        (stat.accessed_ns, stat.modified_ns),
        (3_000_000_000, 9_000_000_000)
    );
    assert_eq!(
        vfs.set_times("l", false, at(Time::At(0), Time::Keep)),
        Ok(())
    );
    assert_eq!(
        vfs.stat("t", true).map(|stat| stat.accessed_ns),
        Ok(3_000_000_000),
        "the link itself"
    );
    assert_eq!(handle.set_times(at(Time::Now, Time::Now)), Ok(()));
    let now = handle.stat().expect("a file");
    assert!(now.modified_ns > 1_000_000_000_000_000_000 && now.accessed_ns == now.modified_ns);
    for name in ["t", "l"] {
        assert_eq!(vfs.remove_file(name), Ok(()));
    }
}
