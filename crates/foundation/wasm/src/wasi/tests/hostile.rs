//! Nothing that a guest says may harm the host.

use wasmtime::Val;

use super::super::*;
use super::guest::*;

/// Numbers that are likely to be at a border, among them the places where the test has put paths
/// and iovecs.
const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    15,
    24,
    48,
    1024,
    1025,
    2048,
    4096,
    4097,
    16 << 10,
    0xffff,
    0x1_fff0,
    0x2_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
    u64::MAX,
];

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

#[test]
fn garbage_arguments_are_refused_in_every_call() {
    let program = Program::new();
    let words = || vec!["a".to_owned(), "b".to_owned()];
    let env = || vec![("c".to_owned(), "d".to_owned())];
    for (name, parameters) in IMPORTS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut guest = program.guest(Wasi::new(words(), env(), mounts(dir.path())));
        let mut dice = Dice(1);
        let mut refused = 0;
        for round in 0..1500 {
            if round % 50 == 0 {
                guest = program.guest(Wasi::new(words(), env(), mounts(dir.path())));
                prepare(&mut guest, &mut dice);
            }
            let arguments: Vec<_> = parameters
                .chars()
                .map(|kind| val(kind, NUMBERS[dice.roll(NUMBERS.len())]))
                .collect();
            // This one is not refused, and takes gigabytes of the disk below the test.
            let big = |value: &Val| value.i64().is_some_and(|len| len > 1 << 20);
            if name == "fd_allocate" && arguments.iter().any(big) {
                continue;
            }
            match guest.try_call(name, &arguments) {
                Ok(errno) => {
                    assert!(
                        errno <= is(Errno::NotCapable),
                        "{name}{arguments:?} gives {errno}"
                    );
                    refused += u32::from(errno != 0);
                }
                Err(error) => assert!(
                    name == "proc_exit" && error.is::<Exit>(),
                    "{name}{arguments:?}: {error:?}"
                ),
            }
        }
        assert!(
            refused > 0 || ["proc_exit", "sched_yield"].contains(&name),
            "{name} refuses nothing"
        );
    }
}

/// Some files, and a memory full of paths and iovecs, good and bad.
fn prepare(guest: &mut Guest, dice: &mut Dice) {
    for index in 0..MEMORY_BYTES / 8 {
        let number = NUMBERS[dice.roll(NUMBERS.len())] & 0xffff_ffff;
        let other = NUMBERS[dice.roll(NUMBERS.len())] << 32;
        guest.put(index * 8, &(number | other).to_le_bytes());
    }
    guest.open("f", CREATE, READ | WRITE).expect("a file");
    guest
        .path_call("path_create_directory", ROOT, "d", &[])
        .ok();
    for (at, text) in [
        (1024, "f\0//../"),
        (2048, "d/../f"),
        (4096, "../x"),
        (0, "fdd"),
    ] {
        guest.put(at, text.as_bytes());
    }
}

#[test]
fn bad_iovecs_are_refused_before_anything_happens() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    let fd: u64 = guest
        .open("f", CREATE, READ | WRITE)
        .expect("a file")
        .into();
    let result = u64::from(BUFFER);
    let mut iovs = |pieces: &[(u32, u32)], name: &str, tail: &[u64]| {
        for (index, (at, len)) in (0u32..).zip(pieces) {
            guest.put(IOVS + index * 8, &at.to_le_bytes());
            guest.put(IOVS + index * 8 + 4, &len.to_le_bytes());
        }
        let count = u64::try_from(pieces.len()).expect("small");
        let mut arguments = vec![fd, IOVS.into(), count];
        arguments.extend_from_slice(tail);
        guest.call(name, &arguments)
    };
    for (name, tail) in [
        ("fd_read", &[result][..]),
        ("fd_write", &[result]),
        ("fd_pread", &[0, result]),
        ("fd_pwrite", &[0, result]),
    ] {
        assert_eq!(
            iovs(&[(0, 8), (MEMORY_BYTES - 4, 8)], name, tail),
            Err(is(Errno::Fault))
        );
        assert_eq!(
            iovs(&[(0, 8), (0xffff_ffff, 1)], name, tail),
            Err(is(Errno::Fault))
        );
        assert_eq!(
            iovs(&[(0, 8), (8, 0xffff_ffff)], name, tail),
            Err(is(Errno::Inval)),
            "too long together"
        );
        assert_eq!(iovs(&[(0, 0xffff_ffff)], name, tail), Err(is(Errno::Fault)));
        let outside = [&tail[..tail.len() - 1], &[u64::from(MEMORY_BYTES) - 3]].concat();
        assert_eq!(iovs(&[(0, 8)], name, &outside), Err(is(Errno::Fault)));
        assert_eq!(iovs(&[(0, 1); 1024], name, tail), Ok(()));
        assert_eq!(iovs(&[(0, 1); 1025], name, tail), Err(is(Errno::Inval)));
        assert_eq!(iovs(&[], name, tail), Ok(()));
    }
    let len = std::fs::metadata(dir.path().join("f"))
        .expect("a file")
        .len();
    assert_eq!(len, 1024, "only the good writes have written");
}

#[test]
fn paths_stay_below_where_they_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir_all(dir.path().join("in/deep")).expect("directories");
    let mut guest = Program::new().guest_in(dir.path());
    let fd = guest.open("in", 2, READ).expect("a directory");
    for path in [
        "..",
        "../in",
        "deep/../..",
        "/",
        "/etc/passwd",
        "deep/../../in",
        "./..",
    ] {
        assert_eq!(
            guest.open_at(fd, path, 0, READ, 0),
            Err(is(Errno::Perm)),
            "{path}"
        );
        assert_eq!(
            guest.path_call("path_create_directory", fd, path, &[]),
            Err(is(Errno::Perm)),
            "{path}"
        );
    }
    assert!(guest.open_at(fd, "deep/../deep//.", 2, READ, 0).is_ok());
    assert_eq!(guest.open("a\0b", CREATE, READ), Err(is(Errno::Inval)));
    assert_eq!(guest.open("", CREATE, READ), Err(is(Errno::NoEnt)));
    guest.put(PATH, b"\xff");
    assert_eq!(
        guest.call("path_unlink_file", &[ROOT.into(), PATH.into(), 1]),
        Err(is(Errno::Ilseq))
    );
    assert_eq!(
        guest.call("path_unlink_file", &[ROOT.into(), PATH.into(), 5000]),
        Err(is(Errno::NameTooLong))
    );
    assert_eq!(
        guest.call("path_unlink_file", &[1, PATH.into(), 1]),
        Err(is(Errno::Ilseq))
    );
    assert_eq!(
        guest.path_call("path_unlink_file", 1, "x", &[]),
        Err(is(Errno::NotDir))
    );
    assert_eq!(
        guest.path_call("path_unlink_file", 99, "x", &[]),
        Err(is(Errno::Badf))
    );
}

#[test]
fn descriptors_are_bounded_and_low_numbers_come_first() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Program::new().guest_in(dir.path());
    for expected in 4..1024 {
        assert_eq!(guest.open(".", 2, READ), Ok(expected));
    }
    assert_eq!(guest.open("new", CREATE, READ), Err(is(Errno::Mfile)));
    assert!(
        !dir.path().join("new").exists(),
        "nothing is created for a descriptor that there is no room for"
    );
    for fd in [700, 0, 30] {
        assert_eq!(guest.call("fd_close", &[fd]), Ok(()));
    }
    for expected in [0, 30, 700] {
        assert_eq!(guest.open(".", 2, READ), Ok(expected));
    }
}

#[test]
fn a_guest_without_memory_has_only_bad_pointers() {
    let engine = wasmtime::Engine::default();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (export "f" (func 0)))"#;
    let module =
        wasmtime::Module::new(&engine, wat::parse_str(text).expect("text")).expect("a module");
    let mut linker = wasmtime::Linker::new(&engine);
    add_to_linker(&mut linker).expect("nothing is defined twice");
    let host = TestHost::new(Wasi::new(Vec::new(), Vec::new(), Vec::new()));
    let mut store = wasmtime::Store::new(&engine, host);
    let instance = linker
        .instantiate(&mut store, &module)
        .expect("an instance");
    let f = instance
        .get_typed_func::<(i32, i32), u32>(&mut store, "f")
        .expect("a function");
    assert_eq!(
        f.call(&mut store, (0, 1)).expect("no trap"),
        is(Errno::Fault)
    );
}
