//! The pass that lets a WebAssembly module stop at a control point, travel, and go on.
//!
//! [`instrument`] rewrites the functions that can have a control point below them on the stack; all
//! other code stays as it is, byte by byte. What the rewritten module does when it unwinds and
//! rewinds is the contract in `docs/cell-abi.md`, section "Instrumentation".
//!
//! A rewritten function keeps its structure. It costs one test where it begins, one test per round
//! of a loop that has a control point inside, and one test after each call that may unwind.
//!
//! What the pass is not: a guard. A module can say that it is instrumented and behave otherwise; it
//! harms nobody but itself. [`inspect`] tells the host what it needs to know to save and restore an
//! instance, and refuses what could not be restored whatever the code does.
//! It runs nothing: who calls it brings an engine.
//!
//! Reading order: `module` (what there is), `graph` (which functions can stop), `shape` and
//! `liveness` (where, and what to save there), `emit` (the new code), `rewrite` (the new module).

#![forbid(unsafe_code)]

mod emit;
mod graph;
mod inspect;
mod liveness;
mod module;
mod rewrite;
mod shape;
#[cfg(test)]
mod tests;

pub use inspect::{Mobility, inspect};

use graph::Suspendable;
use module::Module;

/// The name and version that the pass leaves in the modules that it makes.
pub const PASS: &str = "cloudskin-cells";
pub const VERSION: u32 = 1;

const SECTION: &str = "cloudskin.instrument";
const RESERVED: &str = "cloudskin:";
/// The exported memory that holds the frames of an unwound stack.
pub const FRAMES: &str = "cloudskin:frames";
/// The exported global that says whether the module runs, unwinds or rewinds.
pub const STATE: &str = "cloudskin:state";
/// The exported global that says where the frames end.
pub const FRAMES_END: &str = "cloudskin:frames_end";
const GLOBAL: &str = "cloudskin:global:";
/// Room for the frames of a very deep stack: 16 MiB.
const FRAMES_PAGES: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the module")]
    Invalid(#[from] wasmparser::Error),
    #[error("the module cannot move: {0}")]
    CannotMove(String),
    #[error("the module is instrumented already")]
    AlreadyInstrumented,
}

/// Makes a module that can move out of one that cannot.
///
/// # Errors
/// [`Error::CannotMove`] if something in the module cannot be saved or rebuilt; the module can still
/// run as it is.
pub fn instrument(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let module = Module::parse(wasm)?;
    if module.custom_section(SECTION).is_some() {
        return Err(Error::AlreadyInstrumented);
    }
    if let Some(obstacle) = module.obstacle() {
        return Err(Error::CannotMove(obstacle));
    }
    if module.memories.len() > 1 {
        let n_memories = module.memories.len();
        return Err(Error::CannotMove(format!("it has {n_memories} memories")));
    }
    if let Some(name) = module
        .exports
        .keys()
        .find(|name| name.starts_with(RESERVED))
    {
        let reason = format!("it exports `{}`, a reserved name", module::shorten(name));
        return Err(Error::CannotMove(reason));
    }
    let suspendable = Suspendable::of(&module);
    let output = rewrite::module(wasm, &module, &suspendable).map_err(Error::CannotMove)?;
    // Saving many values takes many locals and much code: an engine's limits may be exceeded.
    wasmparser::Validator::new_with_features(module::features())
        .validate_all(&output)
        .map_err(|error| Error::CannotMove(format!("instrumented, it is invalid: {error}")))?;
    Ok(output)
}
