//! What the host has to know about a module that somebody hands it.

use wasmparser::{ExternalKind, ValType};

use super::module::{Module, to_usize};
use super::{Error, FRAMES, FRAMES_END, FRAMES_PAGES, GLOBAL, PASS, SECTION, STATE, VERSION};

/// Whether an instance of a module can be saved and rebuilt elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mobility {
    Movable {
        version: u32,
        /// In hexadecimal, of the module before instrumentation, as the module itself says.
        source_sha256: String,
        /// Mutable globals to save: the name each is exported by, and its index.
        globals: Vec<(String, u32)>,
        /// Just past the last byte of memory 0 that instantiation may write. Pages below it are not
        /// zero in a fresh instance.
        data_end: u64,
    },
    /// It runs, but where it started.
    Fixed { reason: String },
}

/// Tells whether instances of a module can move. Whatever it answers for a hostile module is safe to
/// act on: the exports that it promises exist and have the right types.
///
/// # Errors
/// [`Error::Invalid`] if this is no module at all.
pub fn inspect(wasm: &[u8]) -> Result<Mobility, Error> {
    let module = Module::parse(wasm)?;
    Ok(match movable(&module) {
        Ok(mobility) => mobility,
        Err(reason) => Mobility::Fixed { reason },
    })
}

fn movable(module: &Module<'_>) -> Result<Mobility, String> {
    if let Some(obstacle) = module.obstacle() {
        return Err(obstacle);
    }
    let Some(note) = module.custom_section(SECTION) else {
        return Err("not instrumented (compile it with `cloudskin cc`)".to_owned());
    };
    let source_sha256 = read_note(note).ok_or_else(|| {
        format!("not instrumented by `{PASS}` version {VERSION} (compile it again)")
    })?;
    frames_memory(module)?;
    let pass_globals = [
        pass_global(module, STATE)?,
        pass_global(module, FRAMES_END)?,
    ];
    if pass_globals[0] == pass_globals[1] {
        return Err(format!("`{STATE}` and `{FRAMES_END}` are the same global"));
    }
    let mut globals = Vec::new();
    for (index, _) in module.mutable_globals() {
        if pass_globals.contains(&index) {
            continue;
        }
        let name = format!("{GLOBAL}{index}");
        if module.exports.get(name.as_str()) != Some(&(ExternalKind::Global, index)) {
            return Err(format!("it does not export global {index} as `{name}`"));
        }
        globals.push((name, index));
    }
    Ok(Mobility::Movable {
        version: VERSION,
        source_sha256,
        globals,
        data_end: module.data_end,
    })
}

/// The pass writes its note in one way only, so there is no need for a JSON parser.
fn read_note(note: &[u8]) -> Option<String> {
    let note = std::str::from_utf8(note).ok()?;
    let prefix = format!(r#"{{"pass":"{PASS}","version":{VERSION},"source_sha256":""#);
    let sha256 = note.strip_prefix(&prefix)?.strip_suffix(r#""}"#)?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (sha256.len() == 64 && sha256.bytes().all(is_hex)).then(|| sha256.to_owned())
}

fn frames_memory(module: &Module<'_>) -> Result<(), String> {
    let exported = module.exports.get(FRAMES) == Some(&(ExternalKind::Memory, 1));
    let fixed = match module.memories[..] {
        [_, frames] => {
            frames.initial == FRAMES_PAGES
                && frames.maximum == Some(FRAMES_PAGES)
                && !frames.memory64
                && !frames.shared
        }
        _ => false,
    };
    if exported && fixed {
        return Ok(());
    }
    Err(format!("it has no memory for frames, `{FRAMES}`"))
}

fn pass_global(module: &Module<'_>, name: &str) -> Result<u32, String> {
    if let Some((ExternalKind::Global, index)) = module.exports.get(name)
        && *index >= module.imported_globals
    {
        let ty = module.globals[to_usize(*index)];
        if ty.mutable && ty.content_type == ValType::I32 {
            return Ok(*index);
        }
    }
    Err(format!("it exports no global `{name}`"))
}
