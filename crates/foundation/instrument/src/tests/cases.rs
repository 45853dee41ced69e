//! Programs written for one difficulty each.

use super::harness::check;
use crate::instrument;

/// What all programs have: imports that are control points and one that is not, a memory, globals.
/// `$put` writes where the next result goes, so that final memory tells what the program computed.
fn program(functions: &str) -> String {
    format!(
        r#"(module
        (import "cloudskin_mpi" "send" (func $send (param i32 i32) (result i32)))
        (import "cloudskin_mpi" "recv" (func $recv (param i64) (result i64)))
        (import "cloudskin_mpi" "wait" (func $wait (param f32 f64) (result f64 f32)))
        (import "cloudskin_mpi" "probe" (func $probe (param v128) (result v128)))
        (import "cloudskin_mpi" "finalize" (func $finalize))
        (import "cloudskin_mpi" "clock" (func $clock (result i32)))
        (memory (export "memory") 1)
        (global $at (mut i32) (i32.const 64))
        (global $wide (mut i64) (i64.const 7))
        (func $put (param $value i32)
            (i32.store (global.get $at) (local.get $value))
            (global.set $at (i32.add (global.get $at) (i32.const 4))))
        (func $put64 (param $value i64)
            (i64.store (global.get $at) (local.get $value))
            (global.set $at (i32.add (global.get $at) (i32.const 8))))
        (func $ask (param i32) (result i32)
            (call $send (local.get 0) (i32.const 1)))
        {functions})"#
    )
}

/// Checks a program, the number of host calls that it makes, and the size of the largest stack.
fn check_program(name: &str, functions: &str, n_calls: usize, frames_bytes: usize) {
    let (outcome, moves) = check(name, &program(functions));
    assert_eq!(outcome.calls.len(), n_calls, "{name}: {:?}", outcome.calls);
    assert_eq!(moves.frames_bytes_max, frames_bytes, "{name}");
}

#[test]
fn calls_at_the_borders_of_a_function() {
    check_program(
        "one call",
        r#"(func (export "_start") call $finalize)"#,
        1,
        4,
    );
    check_program(
        "results of the function",
        r#"(func (export "_start") (result i32 i64)
            (call $send (i32.const 1) (i32.const 2)) (call $recv (i64.const 3)))"#,
        2,
        16,
    );
    check_program(
        "calls without a host call below them",
        r#"(func $quiet (param i32) (if (local.get 0) (then (call $finalize))))
        (func (export "_start") (call $quiet (i32.const 0)) (call $quiet (i32.const 1)))"#,
        1,
        8,
    );
    check_program(
        "a call that is never reached",
        r#"(func (export "_start") (return) (call $finalize))"#,
        0,
        0,
    );
}

#[test]
fn values_below_constructs() {
    check_program(
        "operands of each type",
        r#"(func (export "_start") (local $wide i64)
            i32.const 5
            i64.const 6
            f32.const 1.5
            f64.const 2.5
            v128.const i64x2 8 9
            (block (result i32)
                i32.const 20
                (block (result i32) (call $ask (i32.const 30)))
                i32.add)
            call $put
            i64x2.extract_lane 1
            call $put64
            i64.trunc_f64_s
            call $put64
            i32.trunc_f32_s
            call $put
            call $put64
            call $put)"#,
        1,
        // 5, 6, 1.5, 2.5 and the vector, 20, the number; below it the parameter of $ask is dead,
        // but it is an argument of the control point, as is the constant.
        (4 + 8 + 4 + 8 + 16 + 4 + 4) + (4 + 4 + 4),
    );
    check_program(
        "parameters and results of constructs",
        r#"(type $pair (func (param i32 i64) (result i64 i32)))
        (func $mix (type $pair)
            local.get 0
            local.get 1
            (block (type $pair)
                (call $put64 (call $recv))
                (call $ask)
                (local.set 0)
                (i64.const 4)
                (local.get 0)))
        (func (export "_start")
            i32.const 77
            i32.const 3
            i64.const 4
            (call $ask (i32.const 1))
            (if (type $pair)
                (then (call $recv) (i64.const 1) (i64.add) (call $mix))
                (else (call $mix)))
            call $put
            call $put64
            call $put)"#,
        4,
        // The first $ask, below which _start keeps 77, 3 and 4.
        4 + 4 + 8 + 4 + 12,
    );
}

#[test]
fn branches() {
    check_program(
        "arms",
        r#"(func $arms (param $which i32) (result i32)
            i32.const 100
            (if (result i32) (local.get $which)
                (then (call $ask (i32.const 1)))
                (else (call $ask (i32.const 2)) (call $ask (i32.const 3)) i32.sub))
            (if (local.get $which) (then (call $finalize)))
            (if (local.get $which) (then) (else (call $finalize)))
            (if (result i32) (local.get $which) (then (i32.const 8)) (else (call $ask (i32.const 4))))
            i32.add
            i32.add)
        (func (export "_start")
            (call $put (call $arms (i32.const 1)))
            (call $put (call $arms (i32.const 0))))"#,
        6,
        // The second call of the arm with two: $arms keeps the 100, $which and the first result.
        4 + (12 + 4) + 12,
    );
    check_program(
        "out of loops in loops by table",
        r#"(func (export "_start") (local $i i32) (local $j i32)
            (loop $outer
                (local.set $j (i32.const 0))
                (block $next
                    (loop $inner
                        (local.set $j (i32.add (local.get $j) (i32.const 1)))
                        (call $put (call $ask (local.get $j)))
                        (block $leave
                            (block $again
                                (br_table $again $again $leave $next
                                    (i32.sub (local.get $j) (local.get $i)) ))
                            (br $inner))
                        (call $finalize)))
                (br_if $outer (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                    (i32.const 4)))))"#,
        9,
        24,
    );
    check_program(
        "with values, over other values, and into dead code",
        r#"(func $leave (param i32) (result i32 i64)
            i32.const 9
            (block (result i64)
                i32.const 5
                (call $recv (i64.const 1))
                (br_if 0 (i32.mul (call $ask (local.get 0)) (local.get 0)))
                (br 0 (call $recv))
                (call $finalize)
                (block (br 1 (i64.const 3)))
                unreachable)
            (br_if 0 (local.get 0))
            (return)
            (call $finalize))
        (func (export "_start")
            (call $leave (i32.const 1)) call $put64 call $put
            (call $leave (i32.const 0)) call $put64 call $put)"#,
        5,
        40,
    );
}

#[test]
fn loops() {
    check_program(
        "a call at the head",
        r#"(func (export "_start") (local $i i32) (local $sum i64)
            (loop
                (local.set $sum (i64.add (local.get $sum) (call $recv (local.get $sum))))
                (br_if 0 (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                    (i32.const 5))))
            (call $put64 (local.get $sum)))"#,
        5,
        // The operand, the argument, $i, the number: $sum itself is dead across the call.
        8 + 8 + 4 + 4,
    );
    check_program(
        "a local that only the next round of the outer loop reads",
        r#"(func (export "_start") (local $i i32) (local $j i32) (local $kept i32)
            (local.set $kept (i32.const 42))
            (loop $outer
                (call $put (local.get $kept))
                (local.set $j (i32.const 0))
                (block $done
                    (loop $inner
                        (br_if $done (i32.eq (local.get $j) (i32.const 2)))
                        (local.set $j (i32.add (local.get $j) (i32.const 1)))
                        (call $finalize)
                        (br $inner)))
                (br_if $outer (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                    (i32.const 3)))))"#,
        6,
        4 + 4 + 4 + 4,
    );
    check_program(
        "a result, and a condition that calls",
        r#"(func (export "_start") (local $i i32)
            (call $put (loop (result i32)
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (call $put (local.get $i))
                (i32.const 17)
                (br_if 0 (i32.and
                    (i32.lt_s (local.get $i) (i32.const 6))
                    (i32.ne (call $ask (local.get $i)) (i32.const 12345678))))
                (drop)
                (select (call $ask (i32.const 3)) (local.get $i) (local.get $i)))))"#,
        7,
        28,
    );
}

#[test]
fn calls_of_all_kinds() {
    check_program(
        "recursion",
        r#"(func $down (param $n i32) (result i32) (local $own i32)
            (if (i32.eqz (local.get $n)) (then (return (call $ask (i32.const 50)))))
            (local.set $own (i32.mul (local.get $n) (local.get $n)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (i32.add (call $down (local.get $n)) (i32.add (local.get $own) (local.get $n))))
        (func (export "_start") (call $put (call $down (i32.const 100))))"#,
        1,
        100 * 12 + 4 + 4 + 12,
    );
    check_program(
        "through a table, which also holds a control point",
        r#"(table 4 funcref)
        (elem (i32.const 1) $ask $send $twice)
        (type $one (func (param i32) (result i32)))
        (type $two (func (param i32 i32) (result i32)))
        (func $twice (param $x i32) (result i32)
            (local.set $x (call $ask (local.get $x)))
            (i32.add (local.get $x) (call $ask (local.get $x))))
        (func (export "_start") (local $i i32)
            (local.set $i (i32.const 1))
            (call $put (call_indirect (type $one) (i32.const 10) (local.get $i)))
            (call $put (call_indirect (type $two) (i32.const 5) (i32.const 6)
                (i32.add (local.get $i) (i32.const 1))))
            (local.set $i (i32.const 3))
            (call $put (call_indirect (type $one) (i32.const 10) (local.get $i)))
            (call $put (local.get $i)))"#,
        4,
        // Two arguments, $i and the number; the operand in $twice; $ask.
        16 + 8 + 12,
    );
    check_program(
        "several results and all types of arguments",
        r#"(func (export "_start") (local $d f64) (local $f f32) (local $v v128)
            (local.set $v (v128.const i64x2 1 2))
            (local.set $f (f32.const 3))
            (call $wait (local.get $f) (f64.const 4))
            local.set $f
            local.set $d
            (local.set $v (call $probe (i64x2.add (local.get $v)
                (call $probe (local.get $v)))))
            (call $put (i32.trunc_sat_f64_s (local.get $d)))
            (call $put (i32.trunc_sat_f32_s (local.get $f)))
            (call $put64 (i64x2.extract_lane 0 (local.get $v))))"#,
        3,
        16 + 16 + 8 + 4 + 4,
    );
}

#[test]
fn state_outside_of_the_stack() {
    check_program(
        "globals and grown memory",
        r#"(func (export "_start")
            (global.set $wide (i64.const 99))
            (call $finalize)
            (drop (memory.grow (i32.const 2)))
            (i32.store (i32.const 150000) (i32.const 4))
            (call $finalize)
            (call $put64 (global.get $wide))
            (call $put (memory.size)))"#,
        2,
        4,
    );
    check_program(
        "a trap after moves",
        r#"(func (export "_start") (call $finalize) (call $put (call $ask (i32.const 2))) unreachable)"#,
        2,
        16,
    );
}

/// Sections that speak of the code's positions go; the others stay.
#[test]
fn custom_sections() {
    let wasm = wat::parse_str(program(
        r#"(func $name (export "_start") (call $finalize))
        (@custom ".debug_line" "stale") (@custom "metadata.code.branch_hint" "\00")
        (@custom "producers" "\00")"#,
    ))
    .expect("the program parses");
    let output = instrument(&wasm).expect("the program can move");
    let payloads = wasmparser::Parser::new(0).parse_all(&output);
    let names: Vec<String> = payloads
        .filter_map(|payload| match payload {
            Ok(wasmparser::Payload::CustomSection(custom)) => Some(custom.name().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["producers", "name", "cloudskin.instrument"]);
}

/// What cannot be stopped is not touched.
#[test]
fn other_functions_stay_as_they_are() {
    let wasm = wat::parse_str(program(
        r#"(func $hot (param i32) (result i32) (block (br 0) (nop)) (return (i32.const 1)))
        (func (export "_start") (call $put (call $hot (i32.const 1))) (call $finalize))"#,
    ))
    .expect("the program parses");
    let output = instrument(&wasm).expect("the program can move");
    let bodies = |wasm: &[u8]| -> Vec<Vec<u8>> {
        let payloads = wasmparser::Parser::new(0).parse_all(wasm);
        payloads
            .filter_map(|payload| match payload {
                Ok(wasmparser::Payload::CodeSectionEntry(body)) => Some(body.as_bytes().to_vec()),
                _ => None,
            })
            .collect()
    };
    let changed: Vec<bool> = bodies(&wasm)
        .iter()
        .zip(bodies(&output))
        .map(|(before, after)| *before != after)
        .collect();
    // $put, $put64, $ask, $hot, _start
    assert_eq!(changed, [false, false, true, false, true]);
}
