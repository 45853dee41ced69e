//! The parts of the driver that need no toolchain. The whole of it is tested in `crates/it`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::Error;
use super::args::{Invocation, Item, Mode, parse};
use super::library::{SOURCES, is_mpi_function};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn parsed(line: &str) -> Invocation {
    parse(&words(line)).expect("a valid command line")
}

fn refused(line: &str) -> String {
    match parse(&words(line)) {
        Ok(invocation) => panic!("`{line}` was accepted: {invocation:?}"),
        Err(error) => error.to_string(),
    }
}

fn source(path: &str) -> Item {
    Item::Source {
        path: path.into(),
        language: None,
    }
}

#[test]
fn objects_and_libraries_keep_their_order() {
    let invocation = parsed("-O2 main.c -L lib -la util.o -l b -o prog");
    assert_eq!(invocation.mode, Mode::Link);
    assert_eq!(
        invocation.items,
        [
            source("main.c"),
            Item::Library("-la".into()),
            Item::Object("util.o".into()),
            Item::Library("-lb".into()),
        ]
    );
    assert_eq!(invocation.compile_flags, words("-O2"));
    assert_eq!(invocation.link_flags, words("-Llib"));
    assert_eq!(invocation.output, Some("prog".into()));
    assert!(invocation.instrument);
    assert!(invocation.warnings.is_empty());
}

#[test]
fn arguments_of_flags_are_not_inputs() {
    let invocation = parsed("-c -I inc -D N=3 -include config.h -MMD -MF x.d -MT x.o -ox.o x.c");
    assert_eq!(invocation.mode, Mode::Compile);
    assert_eq!(invocation.items, [source("x.c")]);
    assert_eq!(invocation.output, Some("x.o".into()));
    assert!(!invocation.dependency_file_by_name);
    assert!(parsed("-MMD x.c").dependency_file_by_name);
}

#[test]
fn flags_of_a_processor_are_dropped_with_a_warning() {
    let invocation = parsed("-march=native -mtune=native -mavx2 -m64 -mno-simd128 x.c");
    assert_eq!(invocation.warnings.len(), 4);
    assert!(invocation.warnings[0].contains("-march=native"));
    assert_eq!(invocation.compile_flags, words("-mno-simd128"));
}

#[test]
fn flags_of_a_host_executable_are_dropped() {
    let invocation = parsed("-static -fPIC -pie -rdynamic -lmpi x.c");
    assert!(invocation.warnings.is_empty());
    assert!(invocation.compile_flags.is_empty());
    assert_eq!(invocation.items, [source("x.c")]);
}

#[test]
fn linker_words_are_filtered() {
    let invocation = parsed("-Wl,--gc-sections,-rpath,/lib -Xlinker -s -Wl,--as-needed x.c");
    assert_eq!(invocation.link_flags, words("--gc-sections -s"));
    assert_eq!(invocation.warnings.len(), 3);
}

#[test]
fn threads_are_refused_by_the_link_step_only() {
    for flag in ["-fopenmp", "-pthread", "-lgomp"] {
        let reason = parsed(&format!("{flag} x.c"))
            .refused_at_link
            .expect("a reason");
        assert!(reason.contains(flag));
        assert_eq!(parsed(&format!("-c {flag} x.c")).mode, Mode::Compile);
    }
}

#[test]
fn languages_that_are_not_c_are_refused() {
    assert!(refused("x.cpp").contains("not yet: C++"));
    assert!(refused("x.f90").contains("not yet: Fortran"));
    assert!(refused("-x c++ x").contains("not yet: the language c++"));
    assert!(refused("-shared x.c").contains("not yet: shared libraries"));
    assert!(refused("x.c @more").contains("not yet"));
}

#[test]
fn incomplete_command_lines_are_refused() {
    assert_eq!(refused(""), "no input files");
    assert_eq!(refused("-c x.o"), "no input files");
    assert_eq!(refused("x.c -o"), "argument to -o is missing");
    assert!(refused("-c a.c b.c -o x.o").contains("single source"));
    assert!(refused("--target=x86_64 x.c").contains("the target of a cell is given"));
    assert!(refused("-").contains("-E or -x is required"));
}

#[test]
fn standard_input_is_c_for_the_preprocessor() {
    let language = Some("c".into());
    assert_eq!(
        parsed("- -E").items,
        [Item::Source {
            path: "-".into(),
            language
        }]
    );
}

#[test]
fn x_names_the_language_until_none() {
    let items = parsed("-c -x c a.txt -x none b.c").items;
    let a = Item::Source {
        path: "a.txt".into(),
        language: Some("c".into()),
    };
    assert_eq!(items, [a, source("b.c")]);
}

#[test]
fn queries_need_no_input() {
    for query in ["--version", "-v", "-dumpmachine", "-print-search-dirs"] {
        assert_eq!(parsed(query).mode, Mode::Query, "{query}");
    }
    assert_eq!(parsed("-v x.c").mode, Mode::Link);
}

#[test]
fn names_that_are_not_utf_8_stay_what_they_are() {
    use std::os::unix::ffi::OsStringExt as _;
    let name = OsString::from_vec(b"caf\xe9.c".to_vec());
    let flag = OsString::from_vec(b"-Icaf\xe9".to_vec());
    let invocation = parse(&[flag.clone(), name.clone()]).expect("valid");
    assert_eq!(
        invocation.items,
        [Item::Source {
            path: name,
            language: None
        }]
    );
    assert_eq!(invocation.compile_flags, [flag]);
}

#[test]
fn every_file_of_the_library_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../guests/libmpi");
    let mut on_disk = BTreeSet::new();
    for dir in ["include", "src"] {
        for entry in fs::read_dir(root.join(dir)).expect("the library's sources") {
            let name = entry.expect("an entry").file_name();
            on_disk.insert(format!("{dir}/{}", name.display()));
        }
    }
    let embedded: BTreeSet<String> = SOURCES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(embedded, on_disk);
}

#[test]
fn functions_of_the_standard_are_known_by_name() {
    assert!(is_mpi_function("MPI_Type_vector"));
    assert!(!is_mpi_function("MPI_Type"));
    assert!(!is_mpi_function(""));
}

#[test]
fn errors_say_what_to_do() {
    let error = Error::MissingTool {
        file: "/usr/bin/clang-19".into(),
        packages: "clang-19".into(),
    };
    assert!(error.to_string().contains("apt-get install clang-19"));
}
