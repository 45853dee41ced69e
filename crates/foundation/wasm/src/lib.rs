//! The one WebAssembly engine of the platform, and its own WASI preview 1.

pub mod engine;
pub mod vfs;
pub mod wasi;
