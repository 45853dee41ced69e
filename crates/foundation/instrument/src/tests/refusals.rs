//! What cannot move, and what is said about it.

use crate::{Error, Mobility, inspect, instrument};

const IMPORT: &str = r#"(import "cloudskin_mpi" "finalize" (func $finalize))"#;

/// `fields` come after an import and before a memory, so they may hold imports themselves.
#[track_caller]
fn check_refused(fields: &str, memory: &str, reason: &str) {
    let wasm = wat::parse_str(format!("(module {IMPORT} {fields} {memory})"));
    let wasm = wasm.expect("the program parses");
    match instrument(&wasm) {
        Err(Error::CannotMove(told)) => assert_eq!(told, reason),
        other => panic!("{other:?}"),
    }
    assert!(matches!(inspect(&wasm), Ok(Mobility::Fixed { .. })));
}

#[track_caller]
fn check_refused_function(fields: &str, reason: &str) {
    check_refused(fields, "(memory 1)", reason);
}

#[test]
fn memories() {
    check_refused("", "", "it has no memory");
    check_refused("", "(memory 1) (memory 1)", "it has 2 memories");
    check_refused(
        "",
        r#"(import "a" "b" (memory 1))"#,
        "it imports its memory",
    );
    check_refused("", "(memory 1 1 shared)", "its memory is shared");
    check_refused("", "(memory i64 1)", "its memory is 64-bit");
}

#[test]
fn tables_and_segments() {
    let tables = "(table 1 funcref) (elem $e funcref (ref.null func))";
    let changes = [
        ("table.set", "(table.set (i32.const 0) (ref.null func))"),
        (
            "table.grow",
            "(drop (table.grow (ref.null func) (i32.const 0)))",
        ),
        (
            "table.fill",
            "(table.fill (i32.const 0) (ref.null func) (i32.const 0))",
        ),
        (
            "table.copy",
            "(table.copy (i32.const 0) (i32.const 0) (i32.const 0))",
        ),
        (
            "table.init",
            "(table.init $e (i32.const 0) (i32.const 0) (i32.const 0))",
        ),
    ];
    for (name, instruction) in changes {
        check_refused_function(
            &format!("{tables} (func $f {instruction})"),
            &format!("function `f` mutates table 0 ({name})"),
        );
    }
    let uses = [
        (
            "memory.init",
            "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))",
        ),
        ("data.drop", "(data.drop $d)"),
        ("elem.drop", "(elem.drop $e)"),
    ];
    for (name, instruction) in uses {
        check_refused_function(
            &format!(r#"{tables} (data $d "x") (func $f {instruction})"#),
            &format!("function `f` uses a passive segment ({name})"),
        );
    }
}

#[test]
fn the_rest_of_the_module() {
    check_refused_function("(func $go) (start $go)", "it has a start function, `go`");
    check_refused_function(
        "(global (mut externref) (ref.null extern))",
        "its mutable global 0 holds a reference",
    );
    check_refused_function(
        r#"(func (export "cloudskin:state"))"#,
        "it exports `cloudskin:state`, a reserved name",
    );
}

#[test]
fn functions() {
    let stopped = "function `f`, which a control point may stop,";
    check_refused_function(
        "(func $f call $finalize return_call $finalize)",
        &format!("{stopped} makes a tail call (return_call)"),
    );
    check_refused_function(
        "(table 1 funcref) (elem (i32.const 0) $finalize)
        (func $f (return_call_indirect (i32.const 0)))",
        &format!("{stopped} makes a tail call (return_call_indirect)"),
    );
    let exceptions = [
        ("throw", "(throw $t)"),
        ("throw_ref", "(throw_ref (ref.null exn))"),
        ("try_table", "(try_table)"),
    ];
    for (name, instruction) in exceptions {
        check_refused_function(
            &format!("(tag $t) (func $f (call $finalize) {instruction})"),
            &format!("{stopped} uses exceptions ({name})"),
        );
    }
    check_refused_function(
        "(func $f (i32.const 1) (loop (param i32) (call $finalize) (drop)))",
        &format!("{stopped} has a loop with parameters around a control point"),
    );
    let reference = "function `f` keeps a reference across a call that may stop";
    check_refused_function(
        "(func $f (param externref) (result externref) (call $finalize) (local.get 0))",
        reference,
    );
    check_refused_function(
        "(func $f (param externref) (result externref) (local.get 0) (call $finalize))",
        reference,
    );
}

/// The same things are no obstacle where they cannot be stopped.
#[test]
fn functions_that_never_stop_may_do_anything() {
    let wasm = wat::parse_str(format!(
        "(module {IMPORT} (memory 1) (tag $t) (global externref (ref.null extern))
        (func $tail return_call $tail)
        (func (try_table (throw $t)))
        (func (i32.const 1) (loop (param i32) (drop)))
        (func (param externref) (result externref) (call $finalize) (ref.null extern)))"
    ));
    instrument(&wasm.expect("the program parses")).expect("the program can move");
}

#[test]
fn a_function_without_a_name_has_a_number() {
    check_refused_function(
        "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))",
        "function `#1` mutates table 0 (table.set)",
    );
}

#[test]
fn a_second_pass() {
    let wasm = wat::parse_str(format!("(module {IMPORT} (memory 1))"));
    let wasm = wasm.expect("the program parses");
    let movable = instrument(&wasm).expect("the program can move");
    assert!(matches!(
        instrument(&movable),
        Err(Error::AlreadyInstrumented)
    ));
    let Ok(Mobility::Fixed { reason }) = inspect(&wasm) else {
        panic!("a module that is not instrumented stays");
    };
    assert_eq!(reason, "not instrumented (compile it with `cloudskin cc`)");
}
