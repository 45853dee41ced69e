//! Every function of the MPI standard either links or is named by the linker as missing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

const FUNCTIONS: &str = include_str!("../../../../guests/libmpi/functions.txt");

/// What programs can count on. The library may have more.
const PROMISED: &str = "
    Init Init_thread Initialized Finalize Finalized Abort Query_thread Is_thread_main
    Get_version Get_library_version Get_processor_name Wtime Wtick Alloc_mem Free_mem Get_address
    Error_class Error_string Comm_create_errhandler Comm_set_errhandler Comm_get_errhandler
    Comm_call_errhandler Errhandler_free
    Comm_rank Comm_size Comm_compare Comm_dup Comm_split Comm_create Comm_group Comm_free
    Comm_get_attr Comm_set_name Comm_get_name
    Group_size Group_rank Group_incl Group_excl Group_range_incl Group_range_excl Group_union
    Group_intersection Group_difference Group_compare Group_translate_ranks Group_free
    Send Ssend Rsend Recv Sendrecv Sendrecv_replace Isend Issend Irsend Irecv Probe Iprobe
    Wait Waitall Waitany Waitsome Test Testall Testany Testsome Request_free Request_get_status
    Cancel Test_cancelled Get_count Get_elements Status_set_elements Status_set_cancelled
    Barrier Bcast Gather Gatherv Scatter Scatterv Allgather Allgatherv
    Alltoall Alltoallv Alltoallw Reduce Allreduce Scan Exscan Reduce_scatter Reduce_scatter_block
    Reduce_local Op_create Op_free Op_commutative Type_size Type_get_extent Type_get_name";

/// Of every source file of the library, one that a program with its own names uses.
const ONE_OF_EACH_FILE: [&str; 9] = [
    "MPI_Init",
    "MPI_Comm_split",
    "MPI_Group_union",
    "MPI_Sendrecv",
    "MPI_Waitsome",
    "MPI_Bcast",
    "MPI_Alltoall",
    "MPI_Reduce_scatter",
    "MPI_Type_size",
];

/// A program that takes the address of each function. Every address has a function of its own, so
/// that each is a symbol of its own for the linker.
fn program<'a>(functions: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut text = String::from("#include <mpi.h>\ntypedef void (*any)(void);\n");
    let mut main = String::from("int main(void) {\n    int n = 0;\n");
    for name in functions {
        writeln!(text, "any take_{name}(void) {{ return (any){name}; }}")?;
        writeln!(main, "    n += take_{name}() != 0;")?;
    }
    write!(text, "{main}    return n == 0;\n}}\n")?;
    Ok(text)
}

fn cc(dir: &Path, args: &[&str]) -> Result<Output> {
    Command::new(it::cloudskin())
        .arg("cc")
        .args(args)
        .current_dir(dir)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .context("run cloudskin cc")
}

/// The functions that the linker calls missing.
fn missing(stderr: &str) -> BTreeSet<&str> {
    stderr
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("error: ")?;
            rest.strip_suffix(" is not implemented yet (called in index.o)")
        })
        .collect()
}

#[test]
fn every_function_links_or_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let all: BTreeSet<&str> = FUNCTIONS.lines().collect();
    ensure!(
        all.len() == FUNCTIONS.lines().count(),
        "a function is listed twice"
    );
    ensure!(
        all.len() > 400,
        "{} functions are not the standard",
        all.len()
    );

    // Each name is declared: this compiles without any warning.
    fs::write(dir.path().join("index.c"), program(all.iter().copied())?)?;
    let compiled = cc(dir.path(), &["-c", "-Wall", "-Werror", "index.c"])?;
    ensure!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );

    let linked = cc(dir.path(), &["index.o", "-o", "index"])?;
    ensure!(
        linked.status.code() == Some(1),
        "linked, but not every function is implemented"
    );
    ensure!(
        !dir.path().join("index").exists(),
        "a failed link left a program"
    );
    let stderr = String::from_utf8(linked.stderr)?;
    let missing = missing(&stderr);
    ensure!(
        missing.len() == stderr.lines().count(),
        "one line for each function:\n{stderr}"
    );
    ensure!(missing.is_subset(&all));

    // All that were not named are there: the same program without the others links.
    let present: BTreeSet<&str> = all.difference(&missing).copied().collect();
    for name in PROMISED.split_whitespace() {
        let name = format!("MPI_{name}");
        ensure!(
            present.contains(name.as_str()),
            "{name} is missing or not of the standard"
        );
    }
    fs::write(
        dir.path().join("present.c"),
        program(present.iter().copied())?,
    )?;
    let linked = cc(
        dir.path(),
        &["present.c", "-o", "present", "--no-instrument"],
    )?;
    ensure!(
        linked.status.success(),
        "{}",
        String::from_utf8_lossy(&linked.stderr)
    );
    ensure!(fs::read(dir.path().join("present"))?.starts_with(b"\0asm"));
    Ok(())
}

#[test]
fn the_profiling_interface_is_named_too() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = "int PMPI_Barrier(void *); int main(void) { return PMPI_Barrier(0); }\n";
    fs::write(dir.path().join("profile.c"), text)?;
    let linked = cc(dir.path(), &["profile.c"])?;
    ensure!(linked.status.code() == Some(1));
    let stderr = String::from_utf8(linked.stderr)?;
    ensure!(stderr.contains("PMPI_Barrier: the profiling interface is not implemented yet"));
    Ok(())
}

/// The library's own functions have names that leave the program's alone.
#[test]
fn a_program_may_have_functions_with_any_names() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let header = include_str!("../../../../guests/libmpi/src/internal.h");
    let names: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(" cloudskin_"))
        .map(|(name, _)| name)
        .collect();
    ensure!(names.contains(&"report"));
    let mut text = program(ONE_OF_EACH_FILE.iter().copied())?;
    for name in names
        .iter()
        .chain(&["send", "recv", "probe", "scan", "exchange"])
    {
        writeln!(text, "void {name}(int a, char b) {{ (void)a, (void)b; }}")?;
    }
    fs::write(dir.path().join("names.c"), text)?;
    let linked = cc(dir.path(), &["names.c", "-o", "names"])?;
    ensure!(
        linked.status.success(),
        "{}",
        String::from_utf8_lossy(&linked.stderr)
    );
    // The linker only warns when a call and a function of the same name differ in their types.
    ensure!(
        linked.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&linked.stderr)
    );
    Ok(())
}
