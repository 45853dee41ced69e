//! Modules from outside: what `inspect` promises holds, whatever the bytes are.

use sha2::{Digest, Sha256};
use wasmparser::Parser;

use crate::{Error, Mobility, inspect, instrument};

const PROGRAM: &str = r#"(module
    (import "cloudskin_mpi" "recv" (func $recv (param i64) (result i64)))
    (table 2 funcref)
    (memory (export "memory") 2)
    (global $const i32 (i32.const 1))
    (global $a (mut i32) (i32.const 1))
    (global $b (mut f64) (f64.const 1))
    (elem (i32.const 0) $f)
    (data (i32.const 1000) "four")
    (data (i32.const 16) "x")
    (func $f (export "_start") (local i64)
        (loop (local.set 0 (i64.add (local.get 0) (call $recv (i64.const 3))))
            (br_if 0 (i64.eqz (local.get 0))))))"#;

fn program() -> Vec<u8> {
    wat::parse_str(PROGRAM).expect("the program parses")
}

#[test]
fn what_inspect_tells() {
    let movable = instrument(&program()).expect("the program can move");
    let hash = Sha256::digest(program());
    let sha256: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = Mobility::Movable {
        version: 1,
        source_sha256: sha256,
        globals: vec![
            ("cloudskin:global:1".to_owned(), 1),
            ("cloudskin:global:2".to_owned(), 2),
        ],
        data_end: 1004,
    };
    assert_eq!(inspect(&movable).expect("it is a module"), expected);
}

#[test]
fn computed_offsets_count_as_all_of_memory() {
    let computed = PROGRAM.replace(
        "(i32.const 16)",
        "(offset (i32.add (i32.const 1) (i32.const 2)))",
    );
    let wasm = wat::parse_str(computed).expect("the program parses");
    let movable = instrument(&wasm).expect("the program can move");
    let Ok(Mobility::Movable { data_end, .. }) = inspect(&movable) else {
        panic!("the program can move");
    };
    assert_eq!(data_end, 2 << 16);
}

/// A module may lie about being instrumented, but not about what it exports.
#[test]
fn false_notes() {
    let note = |name: &str, version: u32, digit: char| {
        let sha256 = digit.to_string().repeat(64);
        format!(r#"{{"pass":"{name}","version":{version},"source_sha256":"{sha256}"}}"#)
            .replace('"', "\\\"")
    };
    let good = note("cloudskin-cells", 1, 'a');
    let frames = r#"(memory (export "cloudskin:frames") 256 256)"#;
    let state = r#"(global (export "cloudskin:state") (mut i32) (i32.const 0))"#;
    let end = r#"(global (export "cloudskin:frames_end") (mut i32) (i32.const 0))"#;
    let whole = format!("{frames} {state} {end}");
    let fixed = [
        (note("other", 1, 'a'), whole.clone()),
        (note("cloudskin-cells", 2, 'a'), whole.clone()),
        (note("cloudskin-cells", 1, 'z'), whole.clone()),
        (String::new(), whole.clone()),
        (good.clone(), format!("{state} {end}")),
        (
            good.clone(),
            format!("{} {state} {end}", frames.replace("256)", "257)")),
        ),
        (good.clone(), format!("{frames} {end}")),
        (good.clone(), format!("{frames} {state}")),
        (
            good.clone(),
            whole
                .replace("mut i32", "mut i64")
                .replace("i32.const 0", "i64.const 0"),
        ),
        (good.clone(), whole.replace("(mut i32)", "i32")),
        (
            good.clone(),
            format!("{whole} (global (mut i32) (i32.const 0))"),
        ),
        (
            good.clone(),
            format!(
                r#"{whole} (global (mut i32) (i32.const 0)) (export "cloudskin:global:2" (global 0))"#
            ),
        ),
        (
            good.clone(),
            format!(r#"{frames} {state} (export "cloudskin:frames_end" (global 0))"#),
        ),
    ];
    let told = |note: &str, fields: &str| {
        let text =
            format!(r#"(module (memory 1) {fields} (@custom "cloudskin.instrument" "{note}"))"#);
        let wasm = wat::parse_str(text).expect("the module parses");
        inspect(&wasm).expect("it is a module")
    };
    assert!(matches!(told(&good, &whole), Mobility::Movable { .. }));
    for (note, fields) in fixed {
        let told = told(&note, &fields);
        assert!(
            matches!(told, Mobility::Fixed { .. }),
            "{note} {fields}: {told:?}"
        );
    }
}

#[test]
fn truncated_modules_are_errors() {
    let plain = program();
    let movable = instrument(&plain).expect("the program can move");
    for whole in [plain, movable] {
        // Cut between sections, what is left may be a whole module: an empty one, or one that only
        // lacks its data or its note.
        let header = 8;
        let sections: Vec<usize> = Parser::new(0)
            .parse_all(&whole)
            .filter_map(|payload| Some(payload.ok()?.as_section()?.1.end))
            .chain([header])
            .collect();
        for len in 0..whole.len() {
            let part = &whole[..len];
            match (instrument(part), inspect(part)) {
                (Err(Error::Invalid(_)), Err(Error::Invalid(_))) => {}
                (_, Ok(Mobility::Fixed { .. })) if sections.contains(&len) => {}
                other => panic!("{len} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn damaged_modules_do_not_panic() {
    let movable = instrument(&program()).expect("the program can move");
    let mut errors = 0;
    for source in [program(), movable] {
        for at in 0..source.len() {
            for change in [1, 0x10, 0x80, 0xff] {
                let mut damaged = source.clone();
                damaged[at] ^= change;
                errors += usize::from(inspect(&damaged).is_err());
                match instrument(&damaged) {
                    Ok(output) => {
                        inspect(&output).expect("what the pass writes is a module");
                    }
                    Err(_) => errors += 1,
                }
            }
        }
    }
    assert!(errors > 1_000, "damage is noticed: {errors}");
}

#[test]
fn deep_and_wide_functions_end() {
    let import = r#"(import "cloudskin_mpi" "finalize" (func $f))"#;
    let deep = 20_000;
    let nested = format!(
        "(module {import} (memory 1) (func {} call $f {}))",
        "block ".repeat(deep),
        "end ".repeat(deep)
    );
    let loops = nested.replace("block", "loop");
    let wide = format!(
        "(module {import} (memory 1) (func {} {} {}))",
        "i32.const 1 ".repeat(3_000),
        "call $f ".repeat(3_000),
        "drop ".repeat(3_000)
    );
    for text in [nested, loops] {
        let wasm = wat::parse_str(text).expect("the module parses");
        instrument(&wasm).expect("deep code can move");
    }
    let wasm = wat::parse_str(wide).expect("the module parses");
    assert!(matches!(instrument(&wasm), Err(Error::CannotMove(_))));
}
