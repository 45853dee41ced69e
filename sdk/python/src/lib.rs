//! The object store from Python: the part of the packages `pygeds`, `geds_smart_open` and `geds_fsspec` that is not Python.
//!
//! It is the module `pygeds._geds`, with two classes: [`node::Node`] is one node, and all that is done with names; [`file::File`] is one object, being
//! read or written. What upstream's names and defaults mean in these words is Python, in the folder `python/`.
//!
//! # What it is not
//! It has no cache and no decisions of its own, and reads neither the environment nor files. It speaks with nodes by `geds-client` only.
//!
//! # What it guarantees
//! - Nothing is waited for, and no content is copied, while the interpreter is held; who waits is interrupted by signals.
//! - Memory that Python gives or gets stays where it is while it is used, whatever is closed or dropped meanwhile.
//! - A forked child makes connections of its own; files that the parent had opened are refused there, and never hang.
//! - What is written is seen by others when it is sealed, all at once, and never if it is not.
//!
//! Read in this order: `runtime` (waiting, and forks), `node`, `content` and `draft` (what is sealed and what is not), `file`, `memory` (all the
//! `unsafe` there is).

mod content;
mod door;
mod draft;
mod failure;
mod file;
mod memory;
mod node;
mod runtime;

use pyo3::prelude::*;

#[pymodule]
mod _geds {
    #[pymodule_export]
    use super::file::File;
    #[pymodule_export]
    use super::node::Node;
}
