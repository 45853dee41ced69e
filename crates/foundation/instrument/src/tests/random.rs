//! Random structured programs: nested constructs with values below them, branches with values, code
//! after branches, calls of all kinds, many locals of all types.

use std::borrow::Cow;

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, Ieee32, Ieee64,
    ImportSection, InstructionSink, MemArg, MemorySection, MemoryType, Module, RefType,
    TableSection, TableType, TypeSection, ValType,
};

use super::harness::check_wasm;

const PROGRAMS: u64 = 300;
const NUMBERS: [ValType; 5] = [
    ValType::I32,
    ValType::I64,
    ValType::F32,
    ValType::F64,
    ValType::V128,
];
/// Loop rounds and function entries that a whole program may spend.
const BUDGET: i32 = 40;
/// Global with what is left of the budget.
const LEFT: u32 = 0;

#[test]
fn random_programs_move() {
    let (mut calls, mut moves, mut frames_bytes) = (0, 0, 0);
    for seed in 0..PROGRAMS {
        let name = format!("program {seed}");
        let wasm = Program::new(seed).build();
        let (outcome, moved) = check_wasm(&name, &wasm);
        calls += outcome.calls.len();
        moves += moved.count;
        frames_bytes = frames_bytes.max(moved.frames_bytes_max);
    }
    // A generator that makes no calls, or only shallow ones, would prove nothing.
    assert!(calls > 1_000, "only {calls} host calls");
    assert!(moves > 1_000, "only {moves} moves");
    assert!(frames_bytes > 200, "at most {frames_bytes} bytes of frames");
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits are left");
        high % bound
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let bound = u32::try_from(from.len()).expect("few choices");
        from[usize::try_from(self.below(bound)).expect("an index")].clone()
    }

    fn types(&mut self, bound: u32) -> Vec<ValType> {
        (0..self.below(bound))
            .map(|_| self.pick(&NUMBERS))
            .collect()
    }
}

type Signature = (Vec<ValType>, Vec<ValType>);

struct Program {
    random: Random,
    imports: Vec<&'static str>,
    /// Of all functions; the one after the imports is `_start`. A function calls only later ones.
    signatures: Vec<Signature>,
    /// Functions in the table, by their place in it.
    table: Vec<u32>,
    types: TypeSection,
    n_types: u32,
}

impl Program {
    fn new(seed: u64) -> Program {
        let mut random = Random(seed);
        let imports = vec!["clock", "send", "recv", "wait", "probe", "finalize"];
        let mut signatures: Vec<Signature> = Vec::new();
        for _ in &imports {
            signatures.push((random.types(4), random.types(3)));
        }
        signatures.push((Vec::new(), random.types(3)));
        for _ in 0..=random.below(5) {
            signatures.push((random.types(4), random.types(3)));
        }
        let n_functions = u32::try_from(signatures.len()).expect("few functions");
        let table = (0..4)
            .map(|_| random.below(n_functions))
            .filter(|function| *function != 6)
            .collect();
        Program {
            random,
            imports,
            signatures,
            table,
            types: TypeSection::new(),
            n_types: 0,
        }
    }

    fn ty(&mut self, (parameters, results): &Signature) -> u32 {
        let types = self.types.ty();
        types.function(parameters.iter().copied(), results.iter().copied());
        self.n_types += 1;
        self.n_types - 1
    }

    fn build(mut self) -> Vec<u8> {
        let n_imports = self.imports.len();
        let mut imports = ImportSection::new();
        let mut functions = FunctionSection::new();
        for (index, signature) in self.signatures.clone().iter().enumerate() {
            let ty = self.ty(signature);
            match self.imports.get(index) {
                Some(name) => {
                    imports.import("cloudskin_mpi", name, EntityType::Function(ty));
                }
                None => {
                    functions.function(ty);
                }
            }
        }
        let mut code = CodeSection::new();
        for index in n_imports..self.signatures.len() {
            code.function(&self.function(u32::try_from(index).expect("a small index")));
        }
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        let start = u32::try_from(n_imports).expect("a small number");
        exports.export("_start", ExportKind::Func, start);
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&imports)
            .section(&functions)
            .section(&self.table())
            .section(&memory())
            .section(&globals())
            .section(&exports)
            .section(&self.elements())
            .section(&code);
        module.finish()
    }

    fn table(&self) -> TableSection {
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: 8,
            maximum: None,
            shared: false,
        });
        tables
    }

    fn elements(&self) -> ElementSection {
        let mut elements = ElementSection::new();
        let functions = Elements::Functions(Cow::Borrowed(&self.table));
        elements.active(None, &ConstExpr::i32_const(0), functions);
        elements
    }

    fn function(&mut self, index: u32) -> Function {
        let (parameters, results) = self.signature(index);
        let mut locals = parameters.clone();
        let n_declared = 4 + self.random.below(6);
        locals.extend((0..n_declared).map(|_| self.random.pick(&NUMBERS)));
        let mut body = Body {
            program: self,
            function: index,
            results: results.clone(),
            labels: vec![results.clone()],
            locals,
            counters: 0,
            code: Vec::new(),
            size: 0,
        };
        body.spend();
        for _ in 0..4 {
            body.statement(0);
        }
        body.values(&results, 0);
        body.sink().end();
        let (code, counters) = (body.code, body.counters);
        let mut declared = body.locals[parameters.len()..].to_vec();
        declared.extend((0..counters).map(|_| ValType::I32));
        let mut function = Function::new_with_locals_types(declared);
        function.raw(code);
        function
    }

    fn signature(&self, function: u32) -> Signature {
        self.signatures[usize::try_from(function).expect("an index")].clone()
    }
}

struct Body<'p> {
    program: &'p mut Program,
    function: u32,
    results: Vec<ValType>,
    /// What a branch to each label takes, outermost first.
    labels: Vec<Vec<ValType>>,
    locals: Vec<ValType>,
    /// Loop counters, which are locals after all others.
    counters: u32,
    code: Vec<u8>,
    /// Statements and values made; the deeper, the sooner they become simple.
    size: u32,
}

impl Body<'_> {
    /// Leaves the function if the program has run for long enough.
    fn spend(&mut self) {
        let results = self.results.clone();
        let mut sink = self.sink();
        sink.global_get(LEFT).i32_eqz().if_(BlockType::Empty);
        for ty in results {
            self.constant(ty);
        }
        let mut sink = self.sink();
        sink.return_().end();
        sink.global_get(LEFT)
            .i32_const(1)
            .i32_sub()
            .global_set(LEFT);
    }

    fn statement(&mut self, depth: u32) {
        self.size += 1;
        let simple = depth > 4 || self.size > 120;
        match self.random().below(if simple { 4 } else { 12 }) {
            0 | 1 => self.set_local(depth),
            2 => self.store(depth),
            3 | 4 => self.call(None, depth),
            5 => self.construct(&[], depth),
            6 => self.branch_if(depth),
            7 if self.random().one_in(3) => self.dead_end(depth),
            8 => self.branch_table(depth),
            9 => {
                let ty = self.random().pick(&NUMBERS);
                self.value(ty, depth + 1);
                self.sink().drop();
            }
            _ => {
                let results = self.random().types(3);
                self.construct(&results, depth);
                results.iter().for_each(|_| {
                    self.sink().drop();
                });
            }
        }
    }

    fn set_local(&mut self, depth: u32) {
        let local = self.any_local();
        let ty = self.local_type(local);
        self.value(ty, depth + 1);
        self.sink().local_set(local);
    }

    fn store(&mut self, depth: u32) {
        let ty = self.random().pick(&NUMBERS);
        let slot = self.slot();
        self.sink().i32_const(0);
        self.value(ty, depth + 1);
        let mut sink = self.sink();
        match ty {
            ValType::I32 => sink.i32_store(slot),
            ValType::I64 => sink.i64_store(slot),
            ValType::F32 => sink.f32_store(slot),
            ValType::F64 => sink.f64_store(slot),
            _ => sink.v128_store(slot),
        };
    }

    /// Calls something, directly or not; keeps only the result wanted, if there is one.
    fn call(&mut self, wanted: Option<ValType>, depth: u32) {
        let own = self.function;
        let n_imports = u32::try_from(self.program.imports.len()).expect("few");
        let n_functions = u32::try_from(self.program.signatures.len()).expect("few");
        let n_later = n_functions - own - 1;
        let choice = self.random().below(n_imports + 2 * n_later);
        let callee = match choice.checked_sub(n_imports) {
            None => choice,
            Some(later) => own + 1 + later % n_later,
        };
        let (parameters, results) = self.program.signature(callee);
        let place = self.program.table.iter().position(|entry| *entry == callee);
        self.values(&parameters, depth + 1);
        match place {
            Some(place) if self.random().one_in(2) => {
                let ty = self.program.ty(&(parameters, results.clone()));
                let place = i32::try_from(place).expect("a small index");
                self.sink().i32_const(place).call_indirect(0, ty);
            }
            _ => {
                self.sink().call(callee);
            }
        }
        // A result is kept if it has the type wanted and lies lowest.
        let kept = usize::from(wanted.is_some() && results.first().copied() == wanted);
        for _ in kept..results.len() {
            self.sink().drop();
        }
        if kept == 0
            && let Some(ty) = wanted
        {
            self.value(ty, depth + 2);
        }
    }

    fn construct(&mut self, results: &[ValType], depth: u32) {
        let kind = self.random().below(4);
        let parameters = match kind {
            0 => Vec::new(),
            _ => self.random().types(2),
        };
        match kind {
            0 => return self.counted_loop(results, depth),
            1 => {
                self.values(&parameters, depth + 1);
                let ty = self.program.ty(&(parameters.clone(), results.to_vec()));
                self.sink().block(BlockType::FunctionType(ty));
                self.inside(&parameters, results, depth);
            }
            _ => {
                self.values(&parameters, depth + 1);
                self.value(ValType::I32, depth + 1);
                let ty = self.program.ty(&(parameters.clone(), results.to_vec()));
                self.sink().if_(BlockType::FunctionType(ty));
                let one_arm = parameters == results && self.random().one_in(2);
                self.inside(&parameters, results, depth);
                if !one_arm {
                    self.sink().else_();
                    self.inside(&parameters, results, depth);
                }
            }
        }
        self.sink().end();
    }

    /// The inside of a block: uses its parameters, does something, makes its results.
    fn inside(&mut self, parameters: &[ValType], results: &[ValType], depth: u32) {
        self.labels.push(results.to_vec());
        if self.random().one_in(2) {
            self.statement(depth + 1);
        }
        for ty in parameters.iter().rev() {
            let same = |local: &u32| self.local_type(*local) == *ty;
            match (0..self.n_locals()).find(same) {
                Some(local) => self.sink().local_set(local),
                None => self.sink().drop(),
            };
        }
        for _ in 0..=self.random().below(2) {
            self.statement(depth + 1);
        }
        self.values(results, depth + 1);
        if self.random().one_in(5) {
            // Results and other values below a branch out of the block.
            self.sink().br(0);
            self.statement(depth + 3);
            self.values(results, depth + 3);
        }
        self.labels.pop();
    }

    /// A loop that ends after a few rounds however its inside branches.
    fn counted_loop(&mut self, results: &[ValType], depth: u32) {
        let counter = self.n_locals() + self.counters;
        self.counters += 1;
        let rounds = self.random().below(4).cast_signed();
        let ty = self.program.ty(&(Vec::new(), results.to_vec()));
        let mut sink = self.sink();
        sink.i32_const(rounds).local_set(counter);
        sink.loop_(BlockType::FunctionType(ty));
        self.labels.push(Vec::new());
        self.spend();
        for _ in 0..=self.random().below(3) {
            self.statement(depth + 1);
        }
        self.values(results, depth + 1);
        let mut sink = self.sink();
        sink.local_get(counter).i32_const(1).i32_sub();
        sink.local_tee(counter).i32_const(0).i32_gt_s().br_if(0);
        self.labels.pop();
        self.sink().end();
    }

    fn branch_if(&mut self, depth: u32) {
        let (label, types) = self.any_label();
        self.values(&types, depth + 1);
        self.value(ValType::I32, depth + 1);
        self.sink().br_if(label);
        types.iter().for_each(|_| {
            self.sink().drop();
        });
    }

    fn branch_table(&mut self, depth: u32) {
        let (label, types) = self.any_label();
        let alike: Vec<u32> = (0..)
            .zip(self.labels.iter().rev())
            .filter_map(|(depth, label)| (*label == types).then_some(depth + 1))
            .collect();
        let condition = self.random().one_in(2);
        self.sink().block(BlockType::Empty);
        self.labels.push(Vec::new());
        if condition {
            self.value(ValType::I32, depth + 1);
            self.sink().br_if(0);
        }
        self.values(&types, depth + 1);
        self.value(ValType::I32, depth + 1);
        self.sink().br_table(alike, label + 1);
        self.labels.pop();
        self.sink().end();
    }

    fn dead_end(&mut self, depth: u32) {
        self.value(ValType::I32, depth + 1);
        self.sink().if_(BlockType::Empty);
        self.labels.push(Vec::new());
        let (label, types) = self.any_label();
        match self.random().below(8) {
            0 => {
                self.sink().unreachable();
            }
            1 | 2 => {
                let results = self.results.clone();
                self.values(&results, depth + 1);
                self.sink().return_();
            }
            _ => {
                self.values(&types, depth + 1);
                self.sink().br(label);
            }
        }
        self.statement(depth + 3);
        self.labels.pop();
        self.sink().end();
    }

    fn values(&mut self, types: &[ValType], depth: u32) {
        for ty in types {
            self.value(*ty, depth);
        }
    }

    fn value(&mut self, ty: ValType, depth: u32) {
        self.size += 1;
        let simple = depth > 4 || self.size > 120;
        match self.random().below(if simple { 3 } else { 9 }) {
            0 => self.constant(ty),
            1 | 2 => self.local_value(ty),
            3 | 4 => {
                self.value(ty, depth + 1);
                self.value(ty, depth + 1);
                self.combine(ty);
            }
            5 => self.call(Some(ty), depth),
            6 => self.construct(&[ty], depth),
            7 => {
                let other = self.random().pick(&NUMBERS);
                self.construct(&[ty, other], depth);
                self.sink().drop();
            }
            _ => {
                let slot = self.slot();
                let mut sink = self.sink();
                sink.i32_const(0);
                match ty {
                    ValType::I32 => sink.i32_load(slot),
                    ValType::I64 => sink.i64_load(slot),
                    ValType::F32 => sink.f32_load(slot),
                    ValType::F64 => sink.f64_load(slot),
                    _ => sink.v128_load(slot),
                };
            }
        }
    }

    fn local_value(&mut self, ty: ValType) {
        let alike: Vec<u32> = (0..self.n_locals())
            .filter(|local| self.local_type(*local) == ty)
            .collect();
        if alike.is_empty() {
            return self.constant(ty);
        }
        let local = self.random().pick(&alike);
        if self.random().one_in(4) {
            self.constant(ty);
            self.sink().local_tee(local);
        } else {
            self.sink().local_get(local);
        }
    }

    fn constant(&mut self, ty: ValType) {
        let small = self.random().below(9);
        let mut sink = self.sink();
        match ty {
            ValType::I32 => sink.i32_const(small.cast_signed()),
            ValType::I64 => sink.i64_const(small.into()),
            ValType::F32 => sink.f32_const(Ieee32::new(0x3f80_0000 + (small << 20))),
            ValType::F64 => sink.f64_const(Ieee64::new((0x3ff0_0000 + u64::from(small)) << 32)),
            _ => sink.v128_const(small.into()),
        };
    }

    fn combine(&mut self, ty: ValType) {
        let subtract = self.random().one_in(2);
        let mut sink = self.sink();
        match ty {
            ValType::I32 if subtract => sink.i32_sub(),
            ValType::I32 => sink.i32_xor(),
            ValType::I64 if subtract => sink.i64_sub(),
            ValType::I64 => sink.i64_mul(),
            ValType::F32 => sink.f32_sub(),
            ValType::F64 => sink.f64_add(),
            _ => sink.i32x4_sub(),
        };
    }

    fn any_label(&mut self) -> (u32, Vec<ValType>) {
        let n_labels = u32::try_from(self.labels.len()).expect("few labels");
        let depth = self.random().below(n_labels);
        let index = usize::try_from(n_labels - 1 - depth).expect("an index");
        (depth, self.labels[index].clone())
    }

    fn any_local(&mut self) -> u32 {
        let bound = self.n_locals();
        self.random().below(bound)
    }

    fn n_locals(&self) -> u32 {
        u32::try_from(self.locals.len()).expect("few locals")
    }

    fn local_type(&self, local: u32) -> ValType {
        self.locals[usize::try_from(local).expect("an index")]
    }

    fn slot(&mut self) -> MemArg {
        MemArg {
            offset: u64::from(self.random().below(200)),
            align: 0,
            memory_index: 0,
        }
    }

    fn random(&mut self) -> &mut Random {
        &mut self.program.random
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }
}

fn memory() -> MemorySection {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    memories
}

fn globals() -> GlobalSection {
    let mut globals = GlobalSection::new();
    let ty = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    globals.global(ty, &ConstExpr::i32_const(BUDGET));
    globals
}
