//! A suspendable function's new body.
//!
//! Nothing is flattened: the code keeps its structure, and each sequence that has items gets a
//! dispatch at its beginning and blocks to jump out of it. For a sequence with two items:
//!
//! ```text
//! block A2 block K2 block A1 block K1
//!   dispatch                  ;; resume = 0: fall through; else br to the K that leads there
//!   code; operands to locals; br A1
//! end K1
//!   landing                   ;; only when rewinding
//! end A1
//!   operands from locals; item 1
//!   code; operands to locals; br A2
//! end K2
//!   landing
//! end A2
//!   operands from locals; item 2
//!   code
//! ```
//!
//! The landing of a call takes the frame from memory 1. The landing of a construct sets the locals
//! that the construct reads to zero: they are restored inside, and without this the engine would have
//! to keep their old values alive from the dispatch on, through all the code in between. So the code
//! between items runs as if the dispatch were not there.
//!
//! An operand at height `h` of type `t` always goes to the same local. At any moment there is only
//! one operand at a height, so the operands kept below nested constructs do not collide.

use std::collections::HashMap;

use wasm_encoder::{BlockType, Function, HeapType, Ieee32, Ieee64, InstructionSink, MemArg};
use wasmparser::{RefType, ValType};

use super::module::{to_u32, to_usize};
use super::shape::{CallSite, Item, Kind, Shape, What};

/// The index of the memory with the frames.
pub(super) const FRAMES_MEMORY: u32 = 1;
pub(super) const REWINDING: i32 = 2;

/// Where the pass's own globals are.
#[derive(Clone, Copy)]
pub(super) struct Globals {
    pub(super) state: u32,
    pub(super) frames_end: u32,
}

/// Writes the body of a function, `results` being what it returns.
pub(super) fn function(
    wasm: &[u8],
    shape: &Shape,
    parameters: usize,
    results: &[ValType],
    globals: Globals,
) -> Function {
    let mut emitter = Emitter {
        wasm,
        shape,
        results,
        globals,
        resume: to_u32(shape.locals.len()),
        spill_locals: HashMap::new(),
        spill_types: Vec::new(),
        code: Vec::new(),
        labels: 1,
        open: Vec::new(),
    };
    emitter.run();
    let mut locals: Vec<ValType> = shape.locals[parameters..].to_vec();
    locals.push(ValType::I32);
    locals.extend(&emitter.spill_types);
    let mut function = Function::new_with_locals_types(locals.into_iter().map(encoded));
    function.raw(emitter.code);
    function
}

/// A construct, or the function's body, that has been entered.
struct Open<'s> {
    /// The number of labels around it, which is also the number of its own.
    label: u32,
    /// Items of its current sequence that are still to come.
    items: &'s [Item],
    /// The item that it is itself.
    item: Option<&'s Item>,
}

struct Emitter<'s> {
    wasm: &'s [u8],
    shape: &'s Shape,
    results: &'s [ValType],
    globals: Globals,
    /// The local with the number of the call to get to, 0 if none.
    resume: u32,
    spill_locals: HashMap<(u32, ValType), u32>,
    spill_types: Vec<ValType>,
    code: Vec<u8>,
    /// How many labels are around the place where code is being written.
    labels: u32,
    open: Vec<Open<'s>>,
}

impl<'s> Emitter<'s> {
    fn run(&mut self) {
        self.open.push(Open {
            label: 0,
            items: &[],
            item: None,
        });
        self.begin_sequence(0);
        let shape = self.shape;
        for (index, op) in shape.ops.iter().enumerate() {
            let item = self.next_item(index);
            if let Some(item) = item {
                self.reach(item);
            }
            match &op.kind {
                Kind::Block | Kind::Loop | Kind::If => {
                    self.copy(index);
                    self.open.push(Open {
                        label: self.labels,
                        items: &[],
                        item,
                    });
                    self.labels += 1;
                    self.begin_sequence(index + 1);
                }
                Kind::Else => {
                    self.copy(index);
                    self.begin_sequence(index + 1);
                }
                Kind::End(_) => self.end(index),
                Kind::Br(depth) => {
                    let depth = self.depth(*depth);
                    self.sink().br(depth);
                }
                Kind::BrIf(depth) => {
                    let depth = self.depth(*depth);
                    self.sink().br_if(depth);
                }
                Kind::BrTable(depths, default) => {
                    let depths: Vec<u32> = depths.iter().map(|depth| self.depth(*depth)).collect();
                    let default = self.depth(*default);
                    self.sink().br_table(depths, default);
                }
                Kind::Plain | Kind::Get(_) | Kind::Set(_) | Kind::Tee(_) | Kind::Leave => {
                    self.copy(index);
                }
            }
            if let Some(item) = item
                && item.what == What::Call
            {
                self.unwind_if_asked(item.last);
            }
        }
    }

    fn next_item(&mut self, op: usize) -> Option<&'s Item> {
        let open = self.open.last_mut().expect("the function's body is open");
        let (item, rest) = open.items.split_first()?;
        if item.op != op {
            return None;
        }
        open.items = rest;
        Some(item)
    }

    fn copy(&mut self, op: usize) {
        let bytes = self.shape.ops[op].bytes.clone();
        self.code.extend_from_slice(&self.wasm[bytes]);
    }

    fn end(&mut self, op: usize) {
        self.copy(op);
        let open = self.open.pop().expect("every end has a beginning");
        self.labels = open.label;
        let Some(item) = open.item else { return };
        let What::Construct { results, .. } = &item.what else {
            return;
        };
        if !item.kept.is_empty() {
            let bottom = item.bottom();
            self.spill(bottom, results);
            self.reload(item.base, &item.kept);
            self.reload(bottom, results);
        }
    }

    /// The depth, from here, of the label that was `depth` constructs away in the input.
    fn depth(&self, depth: u32) -> u32 {
        let target = &self.open[self.open.len() - 1 - to_usize(depth)];
        self.labels - 1 - target.label
    }

    /// Opens the blocks of a sequence and writes its dispatch.
    fn begin_sequence(&mut self, first: usize) {
        let shape = self.shape;
        let Some(items) = shape.sequences.get(&first) else {
            return;
        };
        let open = self.open.last_mut().expect("the function's body is open");
        open.items = items;
        let is_function = self.open.len() == 1;
        let (height, parameters) = self.parameters();
        self.spill(height, parameters);
        let mut depths = Vec::new();
        let mut blocks = 0;
        for item in items {
            depths.push(blocks);
            blocks += if Self::lands(item) { 2 } else { 1 };
        }
        for _ in 0..blocks {
            self.sink().block(BlockType::Empty);
        }
        self.labels += blocks;
        if is_function {
            self.dispatch_function(items, &depths);
        } else {
            self.dispatch(items, &depths);
        }
        self.reload(height, parameters);
    }

    /// The operands that the innermost construct finds on the stack, and the lowest one's height.
    fn parameters(&self) -> (u32, &'s [ValType]) {
        let Some(item) = self.open.last().and_then(|open| open.item) else {
            return (0, &[]);
        };
        let taken = &item.taken[..];
        let parameters = match self.shape.ops[item.op].kind {
            Kind::If => &taken[..taken.len() - 1],
            _ => taken,
        };
        (item.bottom(), parameters)
    }

    /// A function tests the state once: `resume` is set when and only when it is rewinding.
    fn dispatch_function(&mut self, items: &[Item], depths: &[u32]) {
        let Globals { state, frames_end } = self.globals;
        let resume = self.resume;
        let mut sink = self.sink();
        sink.block(BlockType::Empty);
        sink.global_get(state)
            .i32_const(REWINDING)
            .i32_ne()
            .br_if(0);
        sink.global_get(frames_end).i32_const(4).i32_sub();
        sink.i32_load(frame_slot(0)).local_set(resume);
        self.branch_to_item(items, depths);
        self.sink().end();
    }

    fn dispatch(&mut self, items: &[Item], depths: &[u32]) {
        let resume = self.resume;
        if let [depth] = depths {
            self.sink().local_get(resume).br_if(*depth);
            return;
        }
        let mut sink = self.sink();
        sink.block(BlockType::Empty);
        sink.local_get(resume).i32_eqz().br_if(0);
        self.branch_to_item(items, depths);
        self.sink().end();
    }

    /// Branches, from inside one more block, to the item that leads to `resume`.
    fn branch_to_item(&mut self, items: &[Item], depths: &[u32]) {
        let resume = self.resume;
        let mut sink = self.sink();
        let mut choices = items.iter().zip(depths).peekable();
        while let Some((item, depth)) = choices.next() {
            if choices.peek().is_none() {
                sink.br(depth + 1);
            } else {
                sink.local_get(resume).i32_const(item.last.cast_signed());
                sink.i32_le_u().br_if(depth + 1);
            }
        }
    }

    fn lands(item: &Item) -> bool {
        match &item.what {
            What::Call => true,
            What::Construct { stale, .. } => {
                !(item.kept.is_empty() && item.taken.is_empty() && stale.is_empty())
            }
        }
    }

    /// Ends the code before an item, up to where the item's own instruction follows.
    fn reach(&mut self, item: &Item) {
        self.spill(item.bottom(), &item.taken);
        self.spill(item.base, &item.kept);
        if Self::lands(item) {
            self.sink().br(1).end();
            match &item.what {
                What::Call => self.land_at_call(item),
                What::Construct { stale, .. } => self.land_at_construct(item, stale),
            }
            self.labels -= 1;
        }
        self.sink().end();
        self.labels -= 1;
        if item.what == What::Call {
            self.reload(item.base, &item.kept);
        }
        self.reload(item.bottom(), &item.taken);
    }

    fn land_at_call(&mut self, item: &Item) {
        let resume = self.resume;
        let frames_end = self.globals.frames_end;
        let site = &self.shape.calls[to_usize(item.last) - 1];
        let frame = self.frame(site);
        let mut sink = self.sink();
        sink.global_get(frames_end)
            .i32_const(frame.size.cast_signed());
        sink.i32_sub().global_set(frames_end);
        for (local, ty, offset) in frame.slots {
            sink.global_get(frames_end);
            load(&mut sink, ty, offset);
            sink.local_set(local);
        }
        if site.arguments.is_empty() {
            self.clear_operands(item.bottom(), &item.taken);
        }
        self.sink().i32_const(0).local_set(resume);
    }

    fn land_at_construct(&mut self, item: &Item, stale: &[u32]) {
        let shape = self.shape;
        self.clear_operands(item.base, &item.kept);
        self.clear_operands(item.bottom(), &item.taken);
        for local in stale {
            let ty = shape.locals[to_usize(*local)];
            let mut sink = self.sink();
            zero(&mut sink, ty);
            sink.local_set(*local);
        }
        if matches!(shape.ops[item.op].kind, Kind::If)
            && let Some(last) = shape
                .sequences
                .get(&(item.op + 1))
                .and_then(|arm| arm.last())
        {
            let height = item.bottom() + to_u32(item.taken.len()) - 1;
            let condition = self.spill_local(height, ValType::I32);
            let resume = self.resume;
            let mut sink = self.sink();
            sink.local_get(resume).i32_const(last.last.cast_signed());
            sink.i32_le_u().local_set(condition);
        }
    }

    /// After a call: if it unwinds, saves the frame and returns as well.
    fn unwind_if_asked(&mut self, number: u32) {
        let Globals { state, frames_end } = self.globals;
        let results = self.results;
        let frame = self.frame(&self.shape.calls[to_usize(number) - 1]);
        let mut sink = self.sink();
        sink.global_get(state).if_(BlockType::Empty);
        for (local, ty, offset) in frame.slots {
            sink.global_get(frames_end).local_get(local);
            store(&mut sink, ty, offset);
        }
        sink.global_get(frames_end).i32_const(number.cast_signed());
        sink.i32_store(frame_slot(frame.size - 4));
        sink.global_get(frames_end)
            .i32_const(frame.size.cast_signed());
        sink.i32_add().global_set(frames_end);
        for ty in results {
            zero(&mut sink, *ty);
        }
        sink.return_().end();
    }

    fn frame(&mut self, site: &CallSite) -> Frame {
        let mut frame = Frame {
            slots: Vec::new(),
            size: 0,
        };
        let operands = site.operands.iter().chain(&site.arguments);
        for (height, ty) in (0..).zip(operands) {
            frame.push(self.spill_local(height, *ty), *ty);
        }
        for local in &site.live {
            frame.push(*local, self.shape.locals[to_usize(*local)]);
        }
        frame.size += 4;
        frame
    }

    /// Moves the topmost operands, the lowest of them at `height`, to their locals.
    fn spill(&mut self, height: u32, types: &[ValType]) {
        let heights = height..height + to_u32(types.len());
        for (height, ty) in heights.zip(types).rev() {
            let local = self.spill_local(height, *ty);
            self.sink().local_set(local);
        }
    }

    fn reload(&mut self, height: u32, types: &[ValType]) {
        for (height, ty) in (height..).zip(types) {
            let local = self.spill_local(height, *ty);
            self.sink().local_get(local);
        }
    }

    fn clear_operands(&mut self, height: u32, types: &[ValType]) {
        for (height, ty) in (height..).zip(types) {
            let local = self.spill_local(height, *ty);
            let mut sink = self.sink();
            zero(&mut sink, *ty);
            sink.local_set(local);
        }
    }

    fn spill_local(&mut self, height: u32, ty: ValType) -> u32 {
        let next = self.resume + 1 + to_u32(self.spill_types.len());
        let local = *self.spill_locals.entry((height, ty)).or_insert(next);
        if local == next {
            self.spill_types.push(ty);
        }
        local
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }
}

/// What is saved for a call: local, type and offset of each value, then the call's number.
struct Frame {
    slots: Vec<(u32, ValType, u32)>,
    size: u32,
}

impl Frame {
    fn push(&mut self, local: u32, ty: ValType) {
        self.slots.push((local, ty, self.size));
        self.size += match ty {
            ValType::I32 | ValType::F32 => 4,
            ValType::I64 | ValType::F64 => 8,
            ValType::V128 => 16,
            ValType::Ref(_) => unreachable!("a shape has no references to save"),
        };
    }
}

fn frame_slot(offset: u32) -> MemArg {
    MemArg {
        offset: u64::from(offset),
        align: 0,
        memory_index: FRAMES_MEMORY,
    }
}

fn load(sink: &mut InstructionSink<'_>, ty: ValType, offset: u32) {
    let slot = frame_slot(offset);
    match ty {
        ValType::I32 => sink.i32_load(slot),
        ValType::I64 => sink.i64_load(slot),
        ValType::F32 => sink.f32_load(slot),
        ValType::F64 => sink.f64_load(slot),
        ValType::V128 => sink.v128_load(slot),
        ValType::Ref(_) => unreachable!("a frame has no references"),
    };
}

fn store(sink: &mut InstructionSink<'_>, ty: ValType, offset: u32) {
    let slot = frame_slot(offset);
    match ty {
        ValType::I32 => sink.i32_store(slot),
        ValType::I64 => sink.i64_store(slot),
        ValType::F32 => sink.f32_store(slot),
        ValType::F64 => sink.f64_store(slot),
        ValType::V128 => sink.v128_store(slot),
        ValType::Ref(_) => unreachable!("a frame has no references"),
    };
}

fn zero(sink: &mut InstructionSink<'_>, ty: ValType) {
    match ty {
        ValType::I32 => sink.i32_const(0),
        ValType::I64 => sink.i64_const(0),
        ValType::F32 => sink.f32_const(Ieee32::new(0)),
        ValType::F64 => sink.f64_const(Ieee64::new(0)),
        ValType::V128 => sink.v128_const(0),
        ValType::Ref(ty) => sink.ref_null(heap_type(ty)),
    };
}

fn heap_type(ty: RefType) -> HeapType {
    HeapType::try_from(ty.heap_type()).expect("no type without a name in these features")
}

fn encoded(ty: ValType) -> wasm_encoder::ValType {
    wasm_encoder::ValType::try_from(ty).expect("no type without a name in these features")
}
