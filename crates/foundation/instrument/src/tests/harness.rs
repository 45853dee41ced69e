//! Runs programs and moves them.

use std::sync::LazyLock;

use wasmtime::{
    Caller, Config, Engine, Extern, ExternType, Func, Instance, Memory, Module, OptLevel, Store,
    Val, ValType,
};

use crate::{Mobility, inspect, instrument};

/// A program runs in vain if it makes more calls than this.
const CALLS_MAX: usize = 5_000;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::None)
        .cranelift_nan_canonicalization(true);
    Engine::new(&config).expect("the engine's configuration is sound")
});

/// Which control-point calls are answered by unwinding first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stops {
    Never,
    At(usize),
    Every,
    /// At each call, and again when the call is made after the rewind.
    EveryTwice,
}

/// All that a run leaves behind.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    /// Each host call with its arguments.
    pub(super) calls: Vec<String>,
    results: Result<Vec<String>, Trapped>,
    memory: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Trapped;

#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) count: usize,
    /// The largest stack that travelled.
    pub(super) frames_bytes_max: usize,
}

struct Host {
    stops: Stops,
    calls: Vec<String>,
    /// How many control-point calls have been executed.
    executed: usize,
    unwound: usize,
}

/// Runs a program all ways; returns what it does and what the moves were like.
pub(super) fn check(name: &str, wat: &str) -> (Outcome, Moves) {
    let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
    check_wasm(name, &wasm)
}

pub(super) fn check_wasm(name: &str, wasm: &[u8]) -> (Outcome, Moves) {
    let movable = instrument(wasm).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plain = compile(name, wasm);
    let module = compile(name, &movable);
    let globals = saved_globals(name, &movable);
    let (expected, _) = run(name, &plain, &[], Stops::Never);
    let (still, none) = run(name, &module, &globals, Stops::Never);
    assert_eq!(still, expected, "{name}, instrumented, without a stop");
    assert_eq!(none.count, 0, "{name} moves without being asked");
    let n_points = expected.calls.iter().filter(|call| is_point(call)).count();
    // Long programs are not stopped everywhere one by one, which would take quadratic time.
    for point in (0..n_points).step_by(n_points.div_ceil(8).max(1)) {
        let (moved, moves) = run(name, &module, &globals, Stops::At(point));
        assert_eq!(moved, expected, "{name}, stopped at call {point}");
        assert_eq!(moves.count, 1, "{name}, stopped at call {point}");
    }
    let (moved, _) = run(name, &module, &globals, Stops::EveryTwice);
    assert_eq!(moved, expected, "{name}, stopped twice at every call");
    let (moved, moves) = run(name, &module, &globals, Stops::Every);
    assert_eq!(moved, expected, "{name}, stopped at every call");
    assert_eq!(moves.count, n_points, "{name}, stopped at every call");
    (expected, moves)
}

fn compile(name: &str, wasm: &[u8]) -> Module {
    Module::new(&ENGINE, wasm).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

fn saved_globals(name: &str, movable: &[u8]) -> Vec<String> {
    match inspect(movable) {
        Ok(Mobility::Movable { globals, .. }) => {
            globals.into_iter().map(|(export, _)| export).collect()
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn run(name: &str, module: &Module, globals: &[String], stops: Stops) -> (Outcome, Moves) {
    let mut host = Host {
        stops,
        calls: Vec::new(),
        executed: 0,
        unwound: 0,
    };
    let mut moves = Moves::default();
    let (mut store, mut instance) = instantiate(module, host);
    loop {
        let results = start(&mut store, instance);
        if results.is_err() || stops == Stops::Never || state(&mut store, instance) == 0 {
            let memory = memory(&mut store, instance, "memory").data(&store).to_vec();
            let outcome = Outcome {
                calls: store.into_data().calls,
                results: results.map_err(|_| Trapped),
                memory,
            };
            return (outcome, moves);
        }
        assert_eq!(state(&mut store, instance), 1, "{name} returns unwinding");
        let zero = |result: &String| result == "0" || result == "null";
        assert!(results.iter().flatten().all(zero), "{name}: {results:?}");
        moves.count += 1;
        let image = Image::take(&mut store, instance, globals);
        moves.frames_bytes_max = moves.frames_bytes_max.max(image.frames.len());
        host = store.into_data();
        (store, instance) = instantiate(module, host);
        image.restore(&mut store, instance);
    }
}

fn instantiate(module: &Module, host: Host) -> (Store<Host>, Instance) {
    let mut store = Store::new(&ENGINE, host);
    let mut imports = Vec::new();
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else {
            panic!("only functions are imported");
        };
        let name = import.name().to_owned();
        let types: Vec<ValType> = ty.results().collect();
        let function = Func::new(&mut store, ty, move |caller, arguments, results| {
            for (result, ty) in results.iter_mut().zip(&types) {
                *result = value(ty, 0);
            }
            call(&name, caller, arguments, results)
        });
        imports.push(Extern::Func(function));
    }
    let instance = Instance::new(&mut store, module, &imports).expect("the module instantiates");
    (store, instance)
}

/// A host call: it leaves the zeros in `results` and unwinds, or it notes its arguments and makes
/// results from them.
fn call(
    name: &str,
    mut caller: Caller<'_, Host>,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    if is_point(name)
        && let Some(Extern::Global(state)) = caller.get_export("cloudskin:state")
    {
        let before = state.get(&mut caller).unwrap_i32();
        let host = caller.data_mut();
        let unwind = match host.stops {
            Stops::Never => false,
            Stops::At(point) => before == 0 && host.executed == point,
            Stops::Every => before == 0,
            Stops::EveryTwice => before == 0 || host.unwound < 2,
        };
        if before == 2 {
            let Some(Extern::Global(end)) = caller.get_export("cloudskin:frames_end") else {
                panic!("a module with a state has frames");
            };
            assert_eq!(end.get(&mut caller).unwrap_i32(), 0, "{name} is innermost");
        }
        if unwind {
            caller.data_mut().unwound += 1;
            return state.set(&mut caller, Val::I32(1));
        }
        state.set(&mut caller, Val::I32(0))?;
    }
    let host = caller.data_mut();
    host.unwound = 0;
    if is_point(name) {
        host.executed += 1;
    }
    let arguments: Vec<String> = arguments.iter().map(show).collect();
    host.calls.push(format!("{name}({})", arguments.join(", ")));
    if host.calls.len() > CALLS_MAX {
        return Err(wasmtime::Error::msg("too many calls"));
    }
    let mut seed = u64::try_from(host.calls.len()).expect("a small number");
    for byte in arguments.join(" ").bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for result in results {
        seed = seed.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *result = value(&number_type(result), seed);
    }
    Ok(())
}

fn is_point(call: &str) -> bool {
    let name = call.split('(').next().expect("a first part");
    [
        "send",
        "recv",
        "wait",
        "probe",
        "finalize",
        "poll_oneoff",
        "sched_yield",
    ]
    .contains(&name)
}

fn start(store: &mut Store<Host>, instance: Instance) -> wasmtime::Result<Vec<String>> {
    let start = instance
        .get_func(&mut *store, "_start")
        .expect("the program has a _start");
    let types: Vec<ValType> = start.ty(&*store).results().collect();
    let mut results: Vec<Val> = types.iter().map(|ty| value(ty, 0)).collect();
    start.call(&mut *store, &[], &mut results)?;
    Ok(results.iter().map(show).collect())
}

fn state(store: &mut Store<Host>, instance: Instance) -> i32 {
    let state = instance.get_global(&mut *store, "cloudskin:state");
    state.map_or(0, |global| global.get(store).unwrap_i32())
}

fn memory(store: &mut Store<Host>, instance: Instance, name: &str) -> Memory {
    let memory = instance.get_memory(store, name);
    memory.unwrap_or_else(|| panic!("{name} is exported"))
}

/// A stopped instance, as far as it travels.
struct Image {
    memory: Vec<u8>,
    globals: Vec<(String, Val)>,
    frames: Vec<u8>,
}

impl Image {
    fn take(store: &mut Store<Host>, instance: Instance, globals: &[String]) -> Image {
        let end = global(store, instance, "cloudskin:frames_end").unwrap_i32();
        let end = usize::try_from(end).expect("the end is not negative");
        let frames = memory(store, instance, "cloudskin:frames").data(&*store)[..end].to_vec();
        let memory = memory(store, instance, "memory").data(&*store).to_vec();
        let globals = globals
            .iter()
            .map(|name| (name.clone(), global(store, instance, name)))
            .collect();
        Image {
            memory,
            globals,
            frames,
        }
    }

    fn restore(&self, store: &mut Store<Host>, instance: Instance) {
        let main = memory(store, instance, "memory");
        let missing = self.memory.len() - main.data_size(&*store);
        let pages = u64::try_from(missing >> 16).expect("a small number");
        main.grow(&mut *store, pages).expect("memory grows");
        main.data_mut(&mut *store).copy_from_slice(&self.memory);
        let frames = memory(store, instance, "cloudskin:frames");
        frames.data_mut(&mut *store)[..self.frames.len()].copy_from_slice(&self.frames);
        let end = i32::try_from(self.frames.len()).expect("frames are few");
        let own = [
            ("cloudskin:frames_end".to_owned(), Val::I32(end)),
            ("cloudskin:state".to_owned(), Val::I32(2)),
        ];
        for (name, value) in self.globals.iter().chain(&own) {
            let global = instance.get_global(&mut *store, name);
            let global = global.expect("the global is exported");
            global.set(&mut *store, *value).expect("it is mutable");
        }
    }
}

fn global(store: &mut Store<Host>, instance: Instance, name: &str) -> Val {
    let global = instance.get_global(&mut *store, name);
    global.expect("the global is exported").get(store)
}

fn number_type(result: &Val) -> ValType {
    match result {
        Val::I32(_) => ValType::I32,
        Val::I64(_) => ValType::I64,
        Val::F32(_) => ValType::F32,
        Val::F64(_) => ValType::F64,
        Val::V128(_) => ValType::V128,
        other => panic!("{other:?} is not a number"),
    }
}

/// A small value, so that floating-point ones are not all infinite.
fn value(ty: &ValType, seed: u64) -> Val {
    let small = i16::from_le_bytes([seed.to_le_bytes()[3], seed.to_le_bytes()[4]]);
    match ty {
        ValType::I32 => Val::I32(small.into()),
        ValType::I64 => Val::I64(seed.cast_signed()),
        ValType::F32 => Val::F32(f32::from(small).to_bits()),
        ValType::F64 => Val::F64(f64::from(small).to_bits()),
        ValType::V128 => Val::V128((u128::from(seed) * 0x1_0000_0000_0000_0001).into()),
        ValType::Ref(ty) => Val::null_ref(ty.heap_type()),
    }
}

fn show(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => bits.to_string(),
        Val::F64(bits) => bits.to_string(),
        Val::V128(value) => value.as_u128().to_string(),
        Val::FuncRef(None) | Val::ExternRef(None) => "null".to_owned(),
        other => format!("{other:?}"),
    }
}
