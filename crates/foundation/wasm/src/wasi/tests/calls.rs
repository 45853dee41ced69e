//! What the calls do for a program that means well.

use super::super::*;
use super::guest::*;

#[test]
fn files_are_read_and_written_at_their_offsets() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest.open("f", CREATE, READ | WRITE).expect("a file");
    assert_eq!(guest.write(fd, &[b"hello ", b"", b"world"]), Ok(11));
    assert_eq!(guest.seek(fd, -5, 1), Ok(6));
    assert_eq!(guest.read(fd, 100).as_deref(), Ok(&b"world"[..]));
    assert_eq!(guest.read(fd, 100).as_deref(), Ok(&b""[..]));
    assert_eq!(guest.seek(fd, -11, 2), Ok(0));
    assert_eq!(guest.seek(fd, -1, 1), Err(is(Errno::Inval)));
    assert_eq!(guest.seek(fd, i64::MAX, 2), Err(is(Errno::Overflow)));
    assert_eq!(guest.seek(fd, 0, 3), Err(is(Errno::Inval)));
    assert_eq!(guest.write(fd, &[b"J"]), Ok(1));
    assert_eq!(guest.seek(fd, 0, 1), Ok(1));

    assert_eq!(
        guest.call("fd_pwrite", &[fd.into(), IOVS.into(), 1, 5, 16]),
        Ok(())
    );
    assert_eq!(guest.call("fd_tell", &[fd.into(), 16]), Ok(()));
    assert_eq!(guest.u64_at(16), 1, "pwrite leaves the offset");
    assert_eq!(
        std::fs::read(dir.path().join("f")).expect("a file"),
        b"JelloJworld"
    );

    // Pieces that are too large to be put together.
    let (big, small) = ([b'x'; 50 << 10], [b'y'; 20 << 10]);
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(
        guest.write(fd, &[&small, &big, &small, b"z"]),
        Ok(90 << 10 | 1)
    );
    let expected = [&small[..], &big, &small, b"z"].concat();
    assert!(std::fs::read(dir.path().join("f")).expect("a file") == expected);
}

#[test]
fn appending_goes_to_the_end_whoever_else_writes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest
        .open_at(ROOT, "log", CREATE, READ | WRITE, 1)
        .expect("a file");
    assert_eq!(guest.write(fd, &[b"one"]), Ok(3));
    std::fs::write(dir.path().join("log"), "one and two").expect("another writer");
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, &[b", th", b"ree"]), Ok(7));
    assert_eq!(
        guest.seek(fd, 0, 1),
        Ok(18),
        "the offset is behind what was written"
    );
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd.into(), 0]), Ok(()));
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, &[b"ONE"]), Ok(3));
    assert_eq!(
        std::fs::read(dir.path().join("log")).expect("a file"),
        b"ONE and two, three"
    );
    assert_eq!(
        guest.call("fd_fdstat_set_flags", &[fd.into(), 32]),
        Err(is(Errno::Inval))
    );
}

#[test]
fn access_is_what_was_asked_for_and_can_be_given_away() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let both = guest.open("f", CREATE, READ | WRITE).expect("a file");
    let read = guest.open("f", 0, READ).expect("a file");
    let write = guest.open("f", 0, WRITE).expect("a file");
    assert_eq!(guest.write(read, &[b"x"]), Err(is(Errno::Badf)));
    assert_eq!(guest.read(write, 1), Err(is(Errno::Badf)));
    assert_eq!(
        guest.call("fd_filestat_set_size", &[read.into(), 0]),
        Err(is(Errno::Badf))
    );
    assert_eq!(
        guest.call("fd_allocate", &[read.into(), 0, 1]),
        Err(is(Errno::Badf))
    );

    assert_eq!(
        guest.call("fd_fdstat_set_rights", &[both.into(), READ, 0]),
        Ok(())
    );
    assert_eq!(guest.write(both, &[b"x"]), Err(is(Errno::Badf)));
    assert_eq!(guest.read(both, 1).as_deref(), Ok(&b""[..]));
    assert_eq!(
        guest.call("fd_fdstat_set_rights", &[both.into(), READ | WRITE, 0]),
        Err(is(Errno::NotCapable))
    );
}

#[test]
fn output_goes_to_the_host_and_looks_like_a_pipe() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    assert_eq!(guest.write(1, &[b"a ", b"line\n"]), Ok(7));
    assert_eq!(guest.write(2, &[b"an error\n"]), Ok(9));
    let expected = [
        (Stream::Stdout, b"a line\n".to_vec()),
        (Stream::Stderr, b"an error\n".to_vec()),
    ];
    assert_eq!(guest.host().output, expected);
    for fd in [0, 1, 2] {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, 64]), Ok(()));
        assert_eq!(guest.bytes(64, 1), [0], "no terminal");
        assert_eq!(
            guest.call("fd_seek", &[fd, 0, 0, 64]),
            Err(is(Errno::Spipe))
        );
    }
    assert_eq!(guest.read(0, 10).as_deref(), Ok(&b""[..]));
    assert_eq!(guest.write(0, &[b"x"]), Err(is(Errno::Badf)));
    assert_eq!(guest.read(1, 10), Err(is(Errno::Badf)));
    guest.host().reader_gone = true;
    assert_eq!(guest.write(1, &[b"x"]), Err(is(Errno::Pipe)));
    assert_eq!(guest.call("fd_close", &[1]), Ok(()));
    assert_eq!(guest.write(1, &[b"x"]), Err(is(Errno::Badf)));
}

#[test]
fn directories_are_read_in_pieces_and_in_one_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let mut names: Vec<String> = (0..200).map(|number| format!("file-{number}")).collect();
    for name in &names {
        std::fs::write(dir.path().join(name), "").expect("a file");
    }
    let (all, full) = guest.readdir(ROOT, 40_000, 0).expect("a directory");
    assert!(!full && all[0].0 == "." && all[1].0 == "..");
    assert!(all.is_sorted_by(|a, b| a.1 < b.1), "cookies grow");
    assert!(
        all.iter().all(|(_, cookie)| i32::try_from(*cookie).is_ok()),
        "cookies fit `long`"
    );

    // Through a small buffer, while others come and go.
    let (mut seen, mut cookie) = (Vec::new(), 0);
    loop {
        let (entries, full) = guest.readdir(ROOT, 100, cookie).expect("a directory");
        if let Some((_, last)) = entries.last() {
            cookie = *last;
        }
        seen.extend(entries);
        if seen.len() == 50 {
            std::fs::write(dir.path().join("late"), "").expect("a file");
        }
        if !full {
            break;
        }
    }
    assert_eq!(seen, all);
    names.extend([".".to_owned(), "..".to_owned()]);
    let mut found: Vec<String> = seen.into_iter().map(|(name, _)| name).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names);

    // A second look, from the middle: what is behind a cookie is there again.
    let (rest, _) = guest.readdir(ROOT, 40_000, all[99].1).expect("a directory");
    assert_eq!(rest, all[100..]);
    assert_eq!(
        guest
            .readdir(ROOT, 10, 0)
            .map(|(entries, full)| (entries.len(), full)),
        Ok((0, true))
    );
    assert_eq!(guest.readdir(1, 100, 0), Err(is(Errno::NotDir)));
}

#[test]
fn a_descriptor_can_take_the_place_of_another() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest.open("f", CREATE, WRITE).expect("a file");
    assert_eq!(guest.call("fd_renumber", &[fd.into(), 1]), Ok(()));
    assert_eq!(guest.write(1, &[b"to the file"]), Ok(11));
    assert_eq!(guest.call("fd_close", &[fd.into()]), Err(is(Errno::Badf)));
    assert_eq!(
        guest.call("fd_renumber", &[1, fd.into()]),
        Err(is(Errno::Badf))
    );
    assert_eq!(guest.call("fd_renumber", &[1, 1]), Ok(()));
    assert_eq!(
        std::fs::read(dir.path().join("f")).expect("a file"),
        b"to the file"
    );
    assert_eq!(guest.host().output, []);
}

#[test]
fn arguments_environment_and_mounts_reach_the_program() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let args = vec!["prog".to_owned(), "é".to_owned()];
    let env = vec![("A".to_owned(), "1=2".to_owned())];
    let mut guest = Program::new().guest(Wasi::new(args, env, mounts(dir.path())));
    assert_eq!(guest.call("args_sizes_get", &[64, 68]), Ok(()));
    assert_eq!((guest.u32_at(64), guest.u32_at(68)), (2, 8));
    assert_eq!(guest.call("args_get", &[64, 128]), Ok(()));
    assert_eq!((guest.u32_at(64), guest.u32_at(68)), (128, 133));
    assert_eq!(guest.bytes(128, 8), "prog\0é\0".as_bytes());
    assert_eq!(guest.call("environ_sizes_get", &[64, 68]), Ok(()));
    assert_eq!((guest.u32_at(64), guest.u32_at(68)), (1, 6));
    assert_eq!(guest.call("environ_get", &[64, 128]), Ok(()));
    assert_eq!(guest.bytes(128, 6), b"A=1=2\0");
    let end = u64::from(MEMORY_BYTES);
    assert_eq!(
        guest.call("args_get", &[64, end - 7]),
        Err(is(Errno::Fault))
    );
    assert_eq!(
        guest.call("args_get", &[end - 7, 64]),
        Err(is(Errno::Fault))
    );

    assert_eq!(guest.call("fd_prestat_get", &[3, 64]), Ok(()));
    assert_eq!((guest.u32_at(64), guest.u32_at(68)), (0, 1));
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 64, 1]), Ok(()));
    assert_eq!(guest.bytes(64, 1), b"/");
    assert_eq!(
        guest.call("fd_prestat_dir_name", &[3, 64, 0]),
        Err(is(Errno::NameTooLong))
    );
    assert_eq!(guest.call("fd_prestat_get", &[4, 64]), Err(is(Errno::Badf)));
    assert_eq!(guest.call("fd_prestat_get", &[1, 64]), Err(is(Errno::Badf)));
}

#[test]
fn clocks_randomness_and_the_end_come_from_and_go_to_the_host() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    guest.host().now_ns = 5;
    for (id, expected) in [(0, 5 + REALTIME_NS), (1, 5), (2, 7), (3, 7)] {
        assert_eq!(guest.call("clock_time_get", &[id, 0, 64]), Ok(()));
        assert_eq!(guest.u64_at(64), expected);
        assert_eq!(guest.call("clock_res_get", &[id, 64]), Ok(()));
        assert_eq!(guest.u64_at(64), 1);
    }
    assert_eq!(
        guest.call("clock_time_get", &[4, 0, 64]),
        Err(is(Errno::Inval))
    );
    assert_eq!(guest.call("random_get", &[64, 8]), Ok(()));
    assert_eq!(guest.bytes(64, 9), b"\xa5\xa5\xa5\xa5\xa5\xa5\xa5\xa5\0");
    assert_eq!(guest.call("proc_raise", &[9]), Err(is(Errno::NoSys)));
    for (fd, errno) in [(1, Errno::NotSock), (99, Errno::Badf)] {
        assert_eq!(guest.call("sock_shutdown", &[fd, 0]), Err(is(errno)));
    }
    let error = guest
        .try_call("proc_exit", &[val('i', 300)])
        .expect_err("it does not return");
    assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit(300)));
}
