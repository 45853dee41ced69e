//! A guest's instance: how it begins, how it is written down when it stands still, and how it is built again.

use std::io::{self, Read, Write};
use std::sync::Arc;

use instrument::Mobility;
use wasm::engine::Engine;
use wasm::vfs::Vfs;
use wasm::wasi::Wasi;
use wasmtime::{
    Extern, Global, Instance, InstancePre, Memory, Module, ModuleExport, Store, TypedFunc, Val,
};

use super::clock::{Clock, wall_now_ns};
use super::iterations::Iterations;
use super::{Cell, Marks, REWINDING, UNWINDING, linker, sys};
use crate::core::endpoint::Endpoint;
use crate::core::endpoint::call::Limits;
use crate::core::endpoint::format;
use crate::core::trace::Trace;
use crate::disk::snapshot::{self, Header, Value};
use crate::host::node::Node;
use crate::wire::invalid;
use crate::wire::messages::{Rank, TraceMode};

const PAGE_BYTES: usize = 4096;
const WASM_PAGE_BYTES: u64 = 64 << 10;
/// As much memory is filled with pages ahead of a move; a larger rank is probably sparse.
const ROOM_BYTES_MAX: usize = 256 << 20;

/// A module, compiled and with its imports resolved, as all cells of a world on this host run it.
pub(crate) struct Program {
    pre: InstancePre<Cell>,
    exports: Exports,
    pub(crate) mobility: Mobility,
    pub(crate) sha256: String,
}

/// Where in an instance its exports are: looking them up by name would take as long as the rest of
/// an instantiation.
struct Exports {
    memory: ModuleExport,
    start: ModuleExport,
    moving: Option<MovingExports>,
}

struct MovingExports {
    state: ModuleExport,
    frames: ModuleExport,
    frames_end: ModuleExport,
    globals: Vec<ModuleExport>,
}

impl Exports {
    fn of(module: &Module, mobility: &Mobility) -> Result<Self, String> {
        let find = |name: &str| {
            let export = module.get_export_index(name);
            export.ok_or_else(|| format!("the module exports no `{name}`: it is not a program"))
        };
        let moving = match mobility {
            Mobility::Movable { globals, .. } => Some(MovingExports {
                state: find(instrument::STATE)?,
                frames: find(instrument::FRAMES)?,
                frames_end: find(instrument::FRAMES_END)?,
                globals: globals
                    .iter()
                    .map(|(name, _)| find(name))
                    .collect::<Result<_, _>>()?,
            }),
            Mobility::Fixed { .. } => None,
        };
        Ok(Self {
            memory: find("memory")?,
            start: find("_start")?,
            moving,
        })
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// # Errors
    /// When the module is not valid, or has imports that cells do not have.
    pub(crate) fn new(engine: &Engine, wasm: &[u8]) -> Result<Self, String> {
        let chain = |error: wasmtime::Error| format!("{error:#}");
        let mobility = instrument::inspect(wasm).map_err(|error| match error {
            instrument::Error::Invalid(reason) => {
                let first_line = reason.message().lines().next().unwrap_or_default();
                format!("this is no module: {first_line}")
            }
            other => other.to_string(),
        })?;
        if has_start_function(wasm) {
            return Err("a program with a start function cannot be a cell".into());
        }
        let module = engine.module(wasm).map_err(|error| error.to_string())?;
        let linker = linker(engine.inner()).map_err(chain)?;
        let pre = linker.instantiate_pre(&module).map_err(chain)?;
        Ok(Self {
            pre,
            exports: Exports::of(&module, &mobility)?,
            mobility,
            sha256: wasm::engine::sha256(wasm),
        })
    }
}

impl Program {
    /// The exports of the mutable globals that travel.
    fn mobile_globals(&self) -> impl Iterator<Item = &String> {
        let globals = match &self.mobility {
            Mobility::Movable { globals, .. } => globals.as_slice(),
            Mobility::Fixed { .. } => &[],
        };
        globals.iter().map(|(name, _)| name)
    }
}

/// A start function would run before the instance is ready for calls.
fn has_start_function(wasm: &[u8]) -> bool {
    let mut sections = wasmparser::Parser::new(0).parse_all(wasm);
    sections.any(|section| matches!(section, Ok(wasmparser::Payload::StartSection { .. })))
}

/// One instance.
pub(crate) struct Image {
    pub(super) store: Store<Cell>,
    start: TypedFunc<(), ()>,
    memory: Memory,
    moving: Option<Moving>,
}

/// What an instrumented instance has in addition.
#[derive(Debug)]
struct Moving {
    state: Global,
    frames: Memory,
    frames_end: Global,
    /// In the order of [`Program::mobile_globals`].
    globals: Vec<Global>,
}

impl Image {
    /// An instance that has not run.
    pub(crate) fn new(node: &Arc<Node>, rank: Rank, trace: Trace) -> Result<Self, String> {
        let spec = &node.spec;
        let args = spec.args.clone();
        let env = spec.env.clone();
        let cell = Cell {
            rank,
            node: Arc::clone(node),
            wasi: Wasi::new(args, env, node.mounts.clone()),
            trace,
            clock: Clock::start(),
            memory: None,
            state: None,
            is_rewinding: false,
            n_calls: 0,
            stop: None,
            frozen: None,
            n_idle: 0,
            output_seq: 0,
            marks: Marks {
                is_on: spec.marks,
                ..Marks::default()
            },
            iterations: Iterations::new(rank, &node.metrics),
            inside_collective: None,
            has_diverged: false,
            memory_bytes_max: spec.memory_bytes_max,
            resuming: None,
        };
        let program = &node.program;
        let mut store = Store::new(program.pre.module().engine(), cell);
        store.limiter(|cell| cell);
        let instance = program
            .pre
            .instantiate(&mut store)
            .map_err(|error| format!("{error:#}"))?;
        let exports = &program.exports;
        let memory = instance
            .get_module_export(&mut store, &exports.memory)
            .and_then(Extern::into_memory)
            .ok_or("the module's export `memory` is no memory")?;
        let start = instance
            .get_module_export(&mut store, &exports.start)
            .and_then(Extern::into_func)
            .and_then(|start| start.typed(&store).ok())
            .ok_or("the module's export `_start` is no function without arguments")?;
        let moving = exports.moving.as_ref();
        let moving = moving.map(|exports| Moving::of(&instance, &mut store, exports));
        let cell = store.data_mut();
        cell.memory = Some(memory);
        cell.wasi.set_memory(memory);
        cell.state = moving.as_ref().map(|moving| moving.state);
        Ok(Self {
            store,
            start,
            memory,
            moving,
        })
    }

    /// Runs the guest until it ends, or has unwound.
    pub(crate) fn run(&mut self) -> wasmtime::Result<()> {
        self.start.call(&mut self.store, ())
    }

    /// Whether the guest has unwound because it had to stop.
    pub(crate) fn is_unwound(&mut self) -> bool {
        let Some(moving) = &self.moving else {
            return false;
        };
        let is_unwound = matches!(moving.state.get(&mut self.store), Val::I32(UNWINDING));
        // A hostile guest can say so at any time.
        is_unwound && self.store.data().frozen.is_some()
    }

    /// Lets [`run`](Self::run) go on where the guest unwound.
    pub(crate) fn rewind(&mut self) {
        let moving = self
            .moving
            .as_ref()
            .expect("only instrumented guests unwind");
        moving
            .state
            .set(&mut self.store, Val::I32(REWINDING))
            .expect("the state is a mutable i32");
        self.store.data_mut().is_rewinding = true;
    }

    pub(crate) fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    /// Writes the whole state of the unwound guest; returns its size in bytes.
    ///
    /// # Errors
    /// Of kind `InvalidInput` when the guest has something that cannot follow it: nothing is written then.
    pub(crate) fn write(
        &mut self,
        endpoint: format::State,
        out: &mut impl Write,
    ) -> io::Result<u64> {
        let header = self.header(endpoint)?;
        let moving = self
            .moving
            .as_ref()
            .expect("only instrumented guests unwind");
        let frames = &moving.frames.data(&self.store)[..header.frames_bytes as usize];
        snapshot::write(out, &header, self.memory.data(&self.store), frames)
    }

    fn header(&mut self, endpoint: format::State) -> io::Result<Header> {
        let moving = self
            .moving
            .as_ref()
            .expect("only instrumented guests unwind");
        let Val::I32(frames_end) = moving.frames_end.get(&mut self.store) else {
            return Err(invalid("the guest has no end of frames"));
        };
        // A hostile guest may have put anything there.
        let room = moving.frames.data_size(&self.store);
        let frames_bytes = u32::try_from(frames_end)
            .ok()
            .filter(|end| *end as usize <= room);
        let frames_bytes =
            frames_bytes.ok_or_else(|| invalid("the guest's frames leave their memory"))?;
        let node = Arc::clone(&self.store.data().node);
        let names = node.program.mobile_globals();
        let globals = names
            .zip(&moving.globals)
            .map(|(name, global)| Ok((name.clone(), value_of(&global.get(&mut self.store))?)));
        let globals = globals.collect::<io::Result<_>>()?;
        let memory_pages = self.memory.size(&self.store);
        let cell = self.store.data_mut();
        let wasi = cell
            .wasi
            .save()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Header {
            module: cell.node.program.sha256.clone(),
            rank: cell.rank,
            size: cell.node.spec.size,
            memory_pages,
            frames_bytes,
            globals,
            wasi: Some(wasi),
            endpoint,
            trace: cell.trace.clone(),
            monotonic_ns: cell.clock.now_ns(),
            wall_ns: wall_now_ns(),
            output_seq: cell.output_seq,
            collective_tag: cell.marks.last_tag,
            exited: None,
        })
    }

    /// Empties the pages that instantiation has filled, so that what a snapshot leaves out is zero. Takes its time: not during a move.
    pub(crate) fn blank(&mut self) {
        let Mobility::Movable { data_end, .. } = self.store.data().node.program.mobility else {
            return;
        };
        let memory = self.memory.data_mut(&mut self.store);
        let end = usize::try_from(data_end)
            .unwrap_or(usize::MAX)
            .min(memory.len());
        for page in memory[..end].chunks_mut(PAGE_BYTES) {
            if page != &[0; PAGE_BYTES][..page.len()] {
                page.fill(0);
            }
        }
    }

    /// Makes room for a rank that has `bytes` of memory, with pages that are there already: faults one
    /// by one would take most of the time of a move.
    pub(crate) fn make_room(&mut self, bytes: u64) {
        let Mobility::Movable { data_end, .. } = self.store.data().node.program.mobility else {
            return;
        };
        let missing = (bytes / WASM_PAGE_BYTES).saturating_sub(self.memory.size(&self.store));
        if let Err(error) = self.memory.grow(&mut self.store, missing) {
            tracing::debug!(%error, "no room is made ahead");
            return;
        }
        let memory = self.memory.data_mut(&mut self.store);
        let start = usize::try_from(data_end)
            .unwrap_or(usize::MAX)
            .min(memory.len());
        let end = memory.len().min(start.saturating_add(ROOM_BYTES_MAX));
        sys::populate(&mut memory[start..end]);
    }

    /// Takes on the state that an untrusted source sends; returns the endpoint that belongs to it.
    pub(crate) fn restore<R: Read>(&mut self, input: R) -> io::Result<(Endpoint, R)> {
        let (mut reader, header) = snapshot::Reader::new(input)?;
        let (endpoint, exited) = self.take_on(&mut reader, header)?;
        if exited.is_some() {
            return Err(invalid("the snapshot is of a rank that has ended"));
        }
        Ok((endpoint, reader.into_inner()))
    }

    /// Like [`restore`](Self::restore), from a checkpoint, which may be of a rank that has ended: then its exit code comes along.
    pub(crate) fn restore_or_ended(
        &mut self,
        input: impl Read,
    ) -> io::Result<(Endpoint, Option<i32>)> {
        let (mut reader, header) = snapshot::Reader::new(input)?;
        self.take_on(&mut reader, header)
    }

    fn take_on<R: Read>(
        &mut self,
        reader: &mut snapshot::Reader<R>,
        header: Header,
    ) -> io::Result<(Endpoint, Option<i32>)> {
        let cell = self.store.data();
        let program = (header.module.as_str(), header.rank, header.size);
        if program
            != (
                cell.node.program.sha256.as_str(),
                cell.rank,
                cell.node.spec.size,
            )
        {
            return Err(invalid("the snapshot is of another module, rank or world"));
        }
        if header.exited.is_none() {
            self.take_on_memories(reader, &header)?;
        } else if reader.next()?.is_some() {
            return Err(invalid("a rank that has ended has no memory"));
        }
        let cell = self.store.data_mut();
        if let Some(wasi) = header.wasi {
            cell.wasi = Wasi::restore(wasi, &cell.node.mounts).map_err(invalid)?;
            cell.wasi.set_memory(self.memory);
        }
        cell.trace = header.trace;
        cell.clock = Clock::resume(header.monotonic_ns, header.wall_ns);
        cell.output_seq = header.output_seq;
        cell.marks.last_tag = header.collective_tag;
        let endpoint = Endpoint::restore(header.endpoint, Limits::default()).map_err(invalid)?;
        if endpoint.place() != (header.rank, header.size) {
            return Err(invalid("the snapshot has the messages of another rank"));
        }
        Ok((endpoint, header.exited))
    }

    fn take_on_memories<R: Read>(
        &mut self,
        reader: &mut snapshot::Reader<R>,
        header: &Header,
    ) -> io::Result<()> {
        let moving = self
            .moving
            .as_ref()
            .ok_or_else(|| invalid("the module is not instrumented"))?;
        let pages = self.memory.size(&self.store);
        let more = header.memory_pages.checked_sub(pages);
        let more = more.ok_or_else(|| invalid("the snapshot has less memory than its module"))?;
        self.memory
            .grow(&mut self.store, more)
            .map_err(|error| invalid(error.to_string()))?;
        while let Some(range) = reader.next()? {
            let memory = match range.memory {
                snapshot::Memory::Linear => self.memory,
                snapshot::Memory::Frames => moving.frames,
            };
            let target = range
                .offset
                .checked_add(range.len)
                .and_then(|end| memory.data_mut(&mut self.store).get_mut(range.offset..end));
            reader.fill(target.ok_or_else(|| invalid("a block leaves its memory"))?)?;
        }
        moving.restore_globals(&mut self.store, header)?;
        self.rewind();
        Ok(())
    }
}

impl Moving {
    fn of(instance: &Instance, store: &mut Store<Cell>, exports: &MovingExports) -> Self {
        const PROMISED: &str = "`inspect` has seen this export";
        let mut find = |export| {
            instance
                .get_module_export(&mut *store, export)
                .expect(PROMISED)
        };
        let mut global = |export| find(export).into_global().expect(PROMISED);
        Self {
            state: global(&exports.state),
            frames_end: global(&exports.frames_end),
            globals: exports.globals.iter().map(&mut global).collect(),
            frames: find(&exports.frames).into_memory().expect(PROMISED),
        }
    }

    fn restore_globals(&self, store: &mut Store<Cell>, header: &Header) -> io::Result<()> {
        let node = Arc::clone(&store.data().node);
        let names = node.program.mobile_globals();
        if !header.globals.iter().map(|(name, _)| name).eq(names) {
            return Err(invalid("the snapshot has other globals than its module"));
        }
        for (global, (_, value)) in self.globals.iter().zip(&header.globals) {
            global
                .set(&mut *store, val_of(*value))
                .map_err(|error| invalid(error.to_string()))?;
        }
        let frames_end = i32::try_from(header.frames_bytes).map_err(invalid)?;
        self.frames_end
            .set(store, Val::I32(frames_end))
            .map_err(|error| invalid(error.to_string()))
    }
}

fn value_of(val: &Val) -> io::Result<Value> {
    Ok(match val {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(*bits),
        Val::F64(bits) => Value::F64(*bits),
        Val::V128(value) => Value::V128(value.as_u128()),
        _ => {
            return Err(invalid(
                "the guest has a mutable global that holds a reference",
            ));
        }
    })
}

fn val_of(value: Value) -> Val {
    match value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(value) => Val::V128(value.into()),
    }
}

/// The trace of a rank that begins.
pub(crate) fn trace_of(mode: TraceMode, recorded: &[u8]) -> io::Result<Trace> {
    Ok(match mode {
        TraceMode::Off => Trace::Off,
        TraceMode::Record => Trace::Record(Default::default()),
        TraceMode::Replay => {
            let trace: Trace = postcard::from_bytes(recorded).map_err(invalid)?;
            trace.into_replay()
        }
    })
}

/// Mounts as cells use them.
pub(crate) type Mounts = Vec<(String, Arc<dyn Vfs>)>;
