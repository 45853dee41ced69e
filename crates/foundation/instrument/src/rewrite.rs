//! Puts the new module together: what is not concerned is copied byte by byte.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, Encode, ExportKind, GlobalType, MemoryType, RawSection,
    SectionId,
};

use super::emit::{self, Globals};
use super::graph::Suspendable;
use super::module::{Module, Section, split_count, to_u32};
use super::shape::Shape;
use super::{FRAMES, FRAMES_END, FRAMES_PAGES, GLOBAL, PASS, SECTION, STATE, VERSION};

/// Sections in the order in which a module has them. Custom sections may stand anywhere.
const ORDER: [SectionId; 13] = [
    SectionId::Type,
    SectionId::Import,
    SectionId::Function,
    SectionId::Table,
    SectionId::Memory,
    SectionId::Tag,
    SectionId::Global,
    SectionId::Export,
    SectionId::Start,
    SectionId::Element,
    SectionId::DataCount,
    SectionId::Code,
    SectionId::Data,
];

/// # Errors
/// The reason why the module cannot be instrumented.
pub(super) fn module(
    wasm: &[u8],
    module: &Module<'_>,
    suspendable: &Suspendable,
) -> Result<Vec<u8>, String> {
    let n_globals = to_u32(module.globals.len());
    let places = Globals {
        state: n_globals,
        frames_end: n_globals + 1,
    };
    let mut output = Output {
        wasm,
        encoder: wasm_encoder::Module::new(),
        additions: VecDeque::from([memory(), globals(), exports(module, places)]),
    };
    for section in &module.sections {
        if section.custom.is_some_and(|(name, _)| is_stale(name)) {
            continue;
        }
        if section.id == u8::from(SectionId::Code) {
            let code = code(wasm, module, suspendable, places)?;
            output.add_before(rank(section.id));
            output.encoder.section(&code);
        } else {
            output.copy(section)?;
        }
    }
    output.add_before(ORDER.len());
    output.encoder.section(&CustomSection {
        name: SECTION.into(),
        data: note(wasm).into_bytes().into(),
    });
    Ok(output.encoder.finish())
}

/// Custom sections that speak of positions in the code, which change.
fn is_stale(name: &str) -> bool {
    name.starts_with(".debug") || name.starts_with("metadata.code.")
}

/// What [`inspect`](super::inspect()) reads back.
pub(super) fn note(source: &[u8]) -> String {
    let mut sha256 = String::new();
    for byte in Sha256::digest(source) {
        sha256.push_str(&format!("{byte:02x}"));
    }
    format!(r#"{{"pass":"{PASS}","version":{VERSION},"source_sha256":"{sha256}"}}"#)
}

struct Output<'a> {
    wasm: &'a [u8],
    encoder: wasm_encoder::Module,
    /// What is still to be added, in the order of sections.
    additions: VecDeque<Addition>,
}

struct Addition {
    section: SectionId,
    count: u32,
    items: Vec<u8>,
}

impl Output<'_> {
    fn copy(&mut self, section: &Section<'_>) -> Result<(), String> {
        let content = &self.wasm[section.content.clone()];
        if section.custom.is_none() {
            self.add_before(rank(section.id));
        }
        let concerned = self
            .additions
            .pop_front_if(|addition| u8::from(addition.section) == section.id);
        let extended = match concerned {
            Some(addition) => addition.extend(content)?,
            None => content.to_vec(),
        };
        self.encoder.section(&RawSection {
            id: section.id,
            data: &extended,
        });
        Ok(())
    }

    /// Makes the sections that the module lacks, up to the one of rank `next`.
    fn add_before(&mut self, next: usize) {
        while let Some(addition) = self
            .additions
            .pop_front_if(|addition| rank(u8::from(addition.section)) < next)
        {
            let mut data = Vec::new();
            addition.count.encode(&mut data);
            data.extend(&addition.items);
            self.encoder.section(&RawSection {
                id: u8::from(addition.section),
                data: &data,
            });
        }
    }
}

impl Addition {
    fn extend(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        let (count, items) = split_count(content).map_err(|error| error.to_string())?;
        let mut data = Vec::new();
        (count + self.count).encode(&mut data);
        data.extend(items);
        data.extend(&self.items);
        Ok(data)
    }
}

fn rank(id: u8) -> usize {
    let found = ORDER.iter().position(|section| u8::from(*section) == id);
    found.expect("a validated module has known sections")
}

fn memory() -> Addition {
    let frames = MemoryType {
        minimum: FRAMES_PAGES,
        maximum: Some(FRAMES_PAGES),
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    let mut items = Vec::new();
    frames.encode(&mut items);
    Addition {
        section: SectionId::Memory,
        count: 1,
        items,
    }
}

fn globals() -> Addition {
    let mut items = Vec::new();
    for _ in 0..2 {
        let ty = GlobalType {
            val_type: wasm_encoder::ValType::I32,
            mutable: true,
            shared: false,
        };
        ty.encode(&mut items);
        ConstExpr::i32_const(0).encode(&mut items);
    }
    Addition {
        section: SectionId::Global,
        count: 2,
        items,
    }
}

fn exports(module: &Module<'_>, globals: Globals) -> Addition {
    let mut exports = vec![
        (FRAMES.to_owned(), ExportKind::Memory, emit::FRAMES_MEMORY),
        (STATE.to_owned(), ExportKind::Global, globals.state),
        (
            FRAMES_END.to_owned(),
            ExportKind::Global,
            globals.frames_end,
        ),
    ];
    for (index, _) in module.mutable_globals() {
        exports.push((format!("{GLOBAL}{index}"), ExportKind::Global, index));
    }
    let mut items = Vec::new();
    for (name, kind, index) in &exports {
        name.as_str().encode(&mut items);
        kind.encode(&mut items);
        index.encode(&mut items);
    }
    Addition {
        section: SectionId::Export,
        count: to_u32(exports.len()),
        items,
    }
}

fn code(
    wasm: &[u8],
    module: &Module<'_>,
    suspendable: &Suspendable,
    globals: Globals,
) -> Result<CodeSection, String> {
    let mut code = CodeSection::new();
    for body in &module.bodies {
        if !suspendable.functions.contains(&body.function) {
            code.raw(&wasm[body.body.range()]);
            continue;
        }
        let shape = Shape::of(module, suspendable, body)?;
        let ty = module.function_type(body.function);
        let n_parameters = ty.params().len();
        code.function(&emit::function(
            wasm,
            &shape,
            n_parameters,
            ty.results(),
            globals,
        ));
    }
    Ok(code)
}
