//! A validated module, and what can be said about it without looking at any function in depth.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use wasmparser::{
    BinaryReader, CompositeInnerType, ConstExpr, DataKind, Element, ElementItems, ExternalKind,
    FuncToValidate, FuncType, FuncValidator, FuncValidatorAllocations, FunctionBody, GlobalType,
    KnownCustom, MemoryType, Name, Operator, Parser, Payload, TypeRef, ValType, ValidPayload,
    Validator, ValidatorResources, WasmFeatures,
};

/// What a control-point import may be called: module, then names.
const CONTROL_POINTS: [(&str, &[&str]); 2] = [
    (
        "cloudskin_mpi",
        &["send", "recv", "wait", "probe", "finalize"],
    ),
    ("wasi_snapshot_preview1", &["poll_oneoff", "sched_yield"]),
];

/// Names are for people; a hostile module does not get to fill a log with one.
const NAME_CHARS_MAX: usize = 80;

/// Everything that compilers emit today, without the garbage collector's types: all types are
/// function types and every reference has a null.
pub(super) fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        .union(WasmFeatures::TAIL_CALL)
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::MULTI_MEMORY)
        .union(WasmFeatures::RELAXED_SIMD)
        .union(WasmFeatures::THREADS)
        .union(WasmFeatures::EXCEPTIONS)
        .union(WasmFeatures::MEMORY64)
}

#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) sections: Vec<Section<'a>>,
    pub(super) types: Vec<FuncType>,
    /// The type of each function, imported ones first.
    pub(super) functions: Vec<u32>,
    pub(super) imported_functions: u32,
    /// Which imported functions are control points.
    pub(super) control_points: BTreeSet<u32>,
    pub(super) bodies: Vec<Body<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) imported_memories: u32,
    pub(super) globals: Vec<GlobalType>,
    pub(super) imported_globals: u32,
    pub(super) exports: HashMap<&'a str, (ExternalKind, u32)>,
    /// Functions that an indirect call may reach.
    pub(super) addressable: BTreeSet<u32>,
    pub(super) start: Option<u32>,
    /// Just past the last byte that an active data segment writes to memory 0.
    pub(super) data_end: u64,
    names: HashMap<u32, &'a str>,
    table_change: Option<(u32, String)>,
    passive_use: Option<(u32, &'static str)>,
}

pub(super) struct Section<'a> {
    pub(super) id: u8,
    /// Where the content lies in the module, without identifier and size.
    pub(super) content: Range<usize>,
    /// Name and data of a custom section.
    pub(super) custom: Option<(&'a str, &'a [u8])>,
}

pub(super) struct Body<'a> {
    pub(super) function: u32,
    pub(super) type_index: u32,
    pub(super) body: FunctionBody<'a>,
    resources: ValidatorResources,
    /// What its live code calls, by function and by type.
    pub(super) calls: BTreeSet<u32>,
    pub(super) indirect_calls: BTreeSet<u32>,
}

impl Body<'_> {
    pub(super) fn validator(&self) -> FuncValidator<ValidatorResources> {
        let function = FuncToValidate {
            resources: self.resources.clone(),
            index: self.function,
            ty: self.type_index,
            features: features(),
        };
        function.into_validator(FuncValidatorAllocations::default())
    }
}

/// Follows control flow over a function's instructions as far as to tell which of them can run.
#[derive(Default)]
pub(super) struct Reach {
    dead: bool,
    /// Constructs opened since the code went dead.
    nested: u32,
}

impl Reach {
    /// Whether `operator`, the next one, matters: it can run, or it closes a live construct.
    pub(super) fn admits(&mut self, operator: &Operator<'_>) -> bool {
        let opens = matches!(
            operator,
            Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::TryTable { .. }
        );
        match operator {
            _ if self.dead && opens => self.nested += 1,
            Operator::End if self.dead && self.nested > 0 => self.nested -= 1,
            Operator::End | Operator::Else if self.nested == 0 => {
                self.dead = false;
                return true;
            }
            _ if self.dead => {}
            _ => {
                self.dead = matches!(
                    operator,
                    Operator::Br { .. }
                        | Operator::BrTable { .. }
                        | Operator::Return
                        | Operator::Unreachable
                        | Operator::ReturnCall { .. }
                        | Operator::ReturnCallIndirect { .. }
                        | Operator::Throw { .. }
                        | Operator::ThrowRef
                );
                return true;
            }
        }
        false
    }
}

impl<'a> Module<'a> {
    pub(super) fn parse(wasm: &'a [u8]) -> wasmparser::Result<Module<'a>> {
        let mut module = Module::default();
        let mut validator = Validator::new_with_features(features());
        let mut offsets = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                module.bodies.push(Body {
                    function: function.index,
                    type_index: function.ty,
                    resources: function.resources,
                    body,
                    calls: BTreeSet::new(),
                    indirect_calls: BTreeSet::new(),
                });
            }
            if let Some((id, content)) = payload.as_section() {
                let custom = match &payload {
                    Payload::CustomSection(reader) => Some((reader.name(), reader.data())),
                    _ => None,
                };
                module.sections.push(Section {
                    id,
                    content,
                    custom,
                });
            }
            module.read(payload, &mut offsets)?;
        }
        module.data_end = module.end_of_data(&offsets)?;
        for index in 0..module.bodies.len() {
            module.scan(index)?;
        }
        Ok(module)
    }

    fn read(
        &mut self,
        payload: Payload<'a>,
        offsets: &mut Vec<(ConstExpr<'a>, u64)>,
    ) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(reader) => self.read_types(reader)?,
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    self.read_import(import?);
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    if let wasmparser::TableInit::Expr(init) = table?.init {
                        self.read_const(&init)?;
                    }
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    self.memories.push(memory?);
                }
            }
            Payload::GlobalSection(reader) => {
                for global in reader {
                    let global = global?;
                    self.globals.push(global.ty);
                    self.read_const(&global.init_expr)?;
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    self.exports
                        .insert(export.name, (export.kind, export.index));
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => {
                for element in reader {
                    self.read_element(element?)?;
                }
            }
            Payload::DataSection(reader) => {
                for data in reader {
                    let data = data?;
                    if let DataKind::Active {
                        memory_index: 0,
                        offset_expr,
                    } = data.kind
                    {
                        offsets.push((offset_expr, to_u64(data.data.len())));
                    }
                }
            }
            Payload::CustomSection(reader) => {
                if let KnownCustom::Name(names) = reader.as_known() {
                    self.read_names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_types(&mut self, types: wasmparser::TypeSectionReader<'a>) -> wasmparser::Result<()> {
        for group in types {
            for ty in group?.into_types() {
                if let CompositeInnerType::Func(ty) = ty.composite_type.inner {
                    self.types.push(ty);
                }
            }
        }
        Ok(())
    }

    fn read_import(&mut self, import: wasmparser::Import<'a>) {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                let control = CONTROL_POINTS.iter().any(|(module, names)| {
                    *module == import.module && names.contains(&import.name)
                });
                if control {
                    self.control_points.insert(self.imported_functions);
                }
                self.imported_functions += 1;
                self.functions.push(ty);
            }
            TypeRef::Memory(ty) => {
                self.imported_memories += 1;
                self.memories.push(ty);
            }
            TypeRef::Global(ty) => {
                self.imported_globals += 1;
                self.globals.push(ty);
            }
            TypeRef::Table(_) | TypeRef::Tag(_) => {}
        }
    }

    fn read_element(&mut self, element: Element<'a>) -> wasmparser::Result<()> {
        match element.items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    self.addressable.insert(function?);
                }
            }
            ElementItems::Expressions(_, items) => {
                for item in items {
                    self.read_const(&item?)?;
                }
            }
        }
        Ok(())
    }

    fn read_const(&mut self, expr: &ConstExpr<'_>) -> wasmparser::Result<()> {
        for operator in expr.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                self.addressable.insert(function_index);
            }
        }
        Ok(())
    }

    /// A broken name section is no fault of the program: it only makes messages poorer.
    fn read_names(&mut self, names: wasmparser::NameSectionReader<'a>) {
        for subsection in names {
            let Ok(Name::Function(functions)) = subsection else {
                continue;
            };
            for naming in functions.into_iter().flatten() {
                self.names.insert(naming.index, naming.name);
            }
        }
    }

    /// A segment whose offset is not one constant still lies in the memory's initial pages.
    fn end_of_data(&self, segments: &[(ConstExpr<'a>, u64)]) -> wasmparser::Result<u64> {
        let Some(memory) = self.memories.first() else {
            return Ok(0);
        };
        let memory_end = memory.initial.saturating_mul(1 << 16);
        let mut end = 0;
        for (offset, len) in segments {
            let operators = offset.get_operators_reader().into_iter();
            let operators = operators.collect::<wasmparser::Result<Vec<_>>>()?;
            let segment_end = match operators[..] {
                [Operator::I32Const { value }, Operator::End] => {
                    u64::from(value.cast_unsigned()).saturating_add(*len)
                }
                _ => memory_end,
            };
            end = end.max(segment_end);
        }
        Ok(end)
    }

    /// Validates a function and notes what it calls and what makes the module immovable.
    fn scan(&mut self, index: usize) -> wasmparser::Result<()> {
        let entry = &mut self.bodies[index];
        let function = entry.function;
        let mut validator = entry.validator();
        let mut reader = entry.body.get_binary_reader();
        validator.read_locals(&mut reader)?;
        let mut reader = wasmparser::OperatorsReader::new(reader);
        let mut reach = Reach::default();
        while !reader.eof() {
            let (operator, offset) = reader.read_with_offset()?;
            validator.op(offset, &operator)?;
            if let Operator::RefFunc { function_index } = operator {
                self.addressable.insert(function_index);
            }
            if let Some(change) = table_change(&operator) {
                self.table_change.get_or_insert((function, change));
            }
            if let Some(name) = passive_use(&operator) {
                self.passive_use.get_or_insert((function, name));
            }
            if !reach.admits(&operator) {
                continue;
            }
            match operator {
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    entry.calls.insert(function_index);
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. } => {
                    entry.indirect_calls.insert(type_index);
                }
                _ => {}
            }
        }
        reader.finish()
    }

    /// The first reason why no instance of this module could be rebuilt elsewhere, but for its
    /// memories, of which an instrumented module has one more.
    pub(super) fn obstacle(&self) -> Option<String> {
        if let Some(start) = self.start {
            let name = self.function_name(start);
            return Some(format!("it has a start function, `{name}`"));
        }
        if let Some((function, change)) = &self.table_change {
            let name = self.function_name(*function);
            return Some(format!("function `{name}` mutates {change}"));
        }
        if let Some((function, instruction)) = self.passive_use {
            let name = self.function_name(function);
            return Some(format!(
                "function `{name}` uses a passive segment ({instruction})"
            ));
        }
        if self.imported_memories > 0 {
            return Some("it imports its memory".to_owned());
        }
        let Some(memory) = self.memories.first() else {
            return Some("it has no memory".to_owned());
        };
        if memory.shared {
            return Some("its memory is shared".to_owned());
        }
        if memory.memory64 {
            return Some("its memory is 64-bit".to_owned());
        }
        let reference = self
            .mutable_globals()
            .find(|(_, ty)| matches!(ty.content_type, ValType::Ref(_)));
        reference.map(|(index, _)| format!("its mutable global {index} holds a reference"))
    }

    pub(super) fn mutable_globals(&self) -> impl Iterator<Item = (u32, &GlobalType)> {
        (0..)
            .zip(&self.globals)
            .skip(to_usize(self.imported_globals))
            .filter(|(_, ty)| ty.mutable)
    }

    pub(super) fn function_type(&self, function: u32) -> &FuncType {
        &self.types[to_usize(self.functions[to_usize(function)])]
    }

    pub(super) fn function_name(&self, function: u32) -> String {
        match self.names.get(&function) {
            Some(name) => shorten(name),
            None => format!("#{function}"),
        }
    }

    pub(super) fn custom_section(&self, wanted: &str) -> Option<&'a [u8]> {
        let mut customs = self.sections.iter().filter_map(|section| section.custom);
        customs.find_map(|(name, data)| (name == wanted).then_some(data))
    }
}

pub(super) fn shorten(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

fn table_change(operator: &Operator<'_>) -> Option<String> {
    let (table, name) = match operator {
        Operator::TableSet { table } => (table, "table.set"),
        Operator::TableGrow { table } => (table, "table.grow"),
        Operator::TableFill { table } => (table, "table.fill"),
        Operator::TableCopy { dst_table, .. } => (dst_table, "table.copy"),
        Operator::TableInit { table, .. } => (table, "table.init"),
        _ => return None,
    };
    Some(format!("table {table} ({name})"))
}

fn passive_use(operator: &Operator<'_>) -> Option<&'static str> {
    match operator {
        Operator::MemoryInit { .. } => Some("memory.init"),
        Operator::DataDrop { .. } => Some("data.drop"),
        Operator::ElemDrop { .. } => Some("elem.drop"),
        _ => None,
    }
}

/// Reads the number of items that a section's content begins with, and returns it with the rest.
pub(super) fn split_count(content: &[u8]) -> wasmparser::Result<(u32, &[u8])> {
    let mut reader = BinaryReader::new(content, 0);
    let count = reader.read_var_u32()?;
    Ok((count, &content[reader.current_position()..]))
}

pub(super) fn to_usize(index: u32) -> usize {
    usize::try_from(index).expect("a 32-bit index fits")
}

pub(super) fn to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a module is smaller than 4 GiB")
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("usize has at most 64 bits")
}
