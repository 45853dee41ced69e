//! `cloudskin cc` as makefiles and people call it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

const HELLO: &str = "#include <mpi.h>
#include <math.h>
#include <stdio.h>
int twice(int);
int main(int argc, char **argv) {
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    printf(\"%d %f\\n\", twice(rank), sqrt(rank));
    MPI_Finalize();
    return 0;
}
";
const TWICE: &str = "#include \"factor.h\"\nint twice(int x) { return FACTOR * x; }\n";
const FACTOR: &str = "#ifdef TWO\n#define FACTOR TWO\n#endif\n";

/// The section that the instrumentation leaves in a module.
const MARK: &[u8] = b"cloudskin.instrument";

/// A directory with a program of two sources and a header.
fn project() -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("inc"))?;
    fs::write(dir.path().join("hello.c"), HELLO)?;
    fs::write(dir.path().join("twice.c"), TWICE)?;
    fs::write(dir.path().join("inc/factor.h"), FACTOR)?;
    Ok(dir)
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(it::cloudskin());
    command
        .arg("cc")
        .current_dir(dir)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn cc(dir: &Path, line: &str) -> Result<Output> {
    command(dir)
        .args(line.split_whitespace())
        .output()
        .context("run cloudskin cc")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs and expects success and silence.
fn quiet(dir: &Path, line: &str) -> Result<()> {
    let output = cc(dir, line)?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{line}: {}",
        stderr(&output)
    );
    Ok(())
}

/// Runs, expects exit code 1, and returns what it said.
fn failing(dir: &Path, line: &str) -> Result<String> {
    let output = cc(dir, line)?;
    ensure!(
        output.status.code() == Some(1),
        "{line}: {}\n{}",
        output.status,
        stderr(&output)
    );
    Ok(stderr(&output))
}

fn contains(file: &Path, needle: &[u8]) -> Result<bool> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(
        bytes.starts_with(b"\0asm"),
        "{} is no module",
        file.display()
    );
    Ok(bytes.windows(needle.len()).any(|window| window == needle))
}

#[test]
fn sources_objects_and_archives_link() -> Result<()> {
    let dir = project()?;
    quiet(dir.path(), "-O2 -Iinc -DTWO=2 hello.c twice.c -lm -o prog")?;
    ensure!(contains(&dir.path().join("prog"), MARK)?);
    quiet(dir.path(), "-c -I inc -D TWO=2 hello.c twice.c")?;
    quiet(dir.path(), "hello.o twice.o -lm")?;
    ensure!(contains(&dir.path().join("a.wasm"), MARK)?);
    quiet(
        dir.path(),
        "-Iinc -DTWO=2 twice.c hello.o -o mixed --no-instrument",
    )?;
    ensure!(!contains(&dir.path().join("mixed"), MARK)?);
    Ok(())
}

#[test]
fn a_missing_define_fails_with_clang_s_words_and_code() -> Result<()> {
    let dir = project()?;
    let words = failing(dir.path(), "-Iinc -c twice.c")?;
    ensure!(
        words.contains("twice.c:2:") && words.contains("FACTOR"),
        "{words}"
    );
    ensure!(!dir.path().join("twice.o").exists());
    fs::write(dir.path().join("bad.c"), "int main(void) { return }\n")?;
    let words = failing(dir.path(), "bad.c -o bad")?;
    ensure!(
        words.contains("bad.c:1:") && words.contains("expected expression"),
        "{words}"
    );
    ensure!(!dir.path().join("bad").exists());
    Ok(())
}

#[test]
fn missing_inputs_and_functions_are_named() -> Result<()> {
    let dir = project()?;
    ensure!(failing(dir.path(), "nowhere.c")?.contains("nowhere.c"));
    ensure!(failing(dir.path(), "nowhere.o")?.contains("nowhere.o"));
    ensure!(failing(dir.path(), "")?.contains("no input files"));
    ensure!(failing(dir.path(), "hello.c")?.contains("hello.c: undefined reference to `twice`"));
    Ok(())
}

#[test]
fn processor_flags_are_ignored_with_a_warning() -> Result<()> {
    let dir = project()?;
    let line = "-march=native -O3 -Iinc -DTWO=2 hello.c twice.c -o prog";
    let output = cc(dir.path(), line)?;
    ensure!(output.status.success());
    ensure!(stderr(&output).lines().count() == 1, "{}", stderr(&output));
    ensure!(stderr(&output).contains("warning: ignored -march=native"));
    Ok(())
}

#[test]
fn threads_compile_and_do_not_link() -> Result<()> {
    let dir = project()?;
    for flag in ["-fopenmp", "-pthread"] {
        quiet(
            dir.path(),
            &format!("{flag} -Iinc -DTWO=2 -c hello.c twice.c"),
        )?;
        let words = failing(dir.path(), &format!("{flag} hello.o twice.o -o prog"))?;
        ensure!(words.contains("not yet") && words.contains(flag), "{words}");
        ensure!(!dir.path().join("prog").exists());
    }
    ensure!(failing(dir.path(), "-shared hello.c -o libhello.so")?.contains("not yet"));
    ensure!(failing(dir.path(), "hello.cpp")?.contains("not yet: C++"));
    Ok(())
}

#[test]
fn headers_of_the_host_are_not_seen() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::write(
        dir.path().join("host.c"),
        "#include <linux/futex.h>\nint main(void) { return 0; }\n",
    )?;
    ensure!(failing(dir.path(), "host.c")?.contains("file not found"));
    Ok(())
}

#[test]
fn a_makefile_with_dependency_files_builds_and_rebuilds() -> Result<()> {
    let dir = project()?;
    let makefile = "CFLAGS = -O2 -Wall -Iinc -DTWO=2 -MMD -MP\n\
        prog: hello.o twice.o\n\t$(CC) $(LDFLAGS) $^ -lm -o $@\n\
        -include hello.d twice.d\n";
    fs::write(dir.path().join("Makefile"), makefile)?;
    let make = || {
        Command::new("make")
            .arg(format!("CC={} cc", it::cloudskin().display()))
            .current_dir(dir.path())
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env_remove("MAKEFLAGS")
            .output()
            .context("run make")
    };
    let built = make()?;
    ensure!(built.status.success(), "{}", stderr(&built));
    ensure!(contains(&dir.path().join("prog"), MARK)?);
    ensure!(fs::read_to_string(dir.path().join("twice.d"))?.contains("inc/factor.h"));
    let again = String::from_utf8(make()?.stdout)?;
    ensure!(again.contains("up to date"), "{again}");
    Ok(())
}

#[test]
fn paths_may_have_spaces() -> Result<()> {
    let dir = project()?;
    let inner = dir.path().join("a b");
    fs::create_dir(&inner)?;
    fs::copy(dir.path().join("twice.c"), inner.join("two times.c"))?;
    let args = [
        "-Iinc",
        "-DTWO=2",
        "a b/two times.c",
        "hello.c",
        "-o",
        "a b/the program",
    ];
    let output = command(dir.path()).args(args).output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(contains(&inner.join("the program"), MARK)?);
    Ok(())
}

#[test]
fn preprocessing_assembly_and_queries_go_to_clang() -> Result<()> {
    let dir = project()?;
    let output = cc(dir.path(), "-E -Iinc -DTWO=7 twice.c")?;
    ensure!(String::from_utf8(output.stdout)?.contains("return 7 * x"));
    quiet(dir.path(), "-S -Iinc -DTWO=2 twice.c")?;
    ensure!(fs::read_to_string(dir.path().join("twice.s"))?.contains("i32.shl"));
    let output = cc(dir.path(), "--version")?;
    ensure!(output.status.success() && !output.stdout.is_empty());
    Ok(())
}

#[test]
fn drivers_that_start_together_share_an_empty_cache() -> Result<()> {
    let dir = project()?;
    let cache = tempfile::tempdir()?;
    let mut drivers = Vec::new();
    for number in 0..3 {
        let output = format!("prog{number}");
        let args = ["-Iinc", "-DTWO=2", "hello.c", "twice.c", "-o", &output];
        drivers.push(
            command(dir.path())
                .args(args)
                .env("XDG_CACHE_HOME", cache.path())
                .spawn()?,
        );
    }
    for (number, mut driver) in drivers.into_iter().enumerate() {
        ensure!(driver.wait()?.success());
        ensure!(contains(&dir.path().join(format!("prog{number}")), MARK)?);
    }
    // One library, and no temporary directories.
    let caches: Vec<_> = fs::read_dir(cache.path().join("cloudskin/cc"))?.collect();
    ensure!(caches.len() == 1, "{caches:?}");
    Ok(())
}
