//! What benchmarks need from the inside of this crate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasm::engine::{Engine, Profile};

use crate::cell::image::{Image, Program};
use crate::core::trace::Trace;
use crate::disk::journal::Journal;
use crate::error::{Error, Kind};
use crate::host::metrics::Metrics;
use crate::host::node::{Node, NodeConfig};
use crate::host::uplink::Uplink;
use crate::wire::messages::{Location, TraceMode, WorldId, WorldSpec};

const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// A host of a world of one rank, which can make that rank's cell again and again.
#[derive(Debug)]
pub struct Instantiation {
    node: Arc<Node>,
}

impl Instantiation {
    /// Compiles the module. `dir` is for the host's own files.
    ///
    /// # Errors
    /// When the module is no cell, or `dir` cannot be used.
    pub fn new(module: &[u8], dir: &Path) -> Result<Self, Error> {
        let invalid = |reason: String| Error::new(Kind::Invalid, reason);
        let engine = Engine::new(Profile::Cell, 1, &dir.join("code"))
            .map_err(|error| invalid(error.to_string()))?;
        let (journal, _) =
            Journal::open(dir).map_err(|error| Error::io("open the journal", error))?;
        let up = Uplink::to_nobody();
        let config = NodeConfig {
            me: 0,
            spec: WorldSpec {
                world: WorldId {
                    id: 0,
                    incarnation: 0,
                },
                size: 1,
                module: wasm::engine::sha256(module),
                args: vec!["bench".into()],
                env: Vec::new(),
                mounts: Vec::new(),
                memory_bytes_max: MEMORY_BYTES_MAX,
                hash_memory: false,
                marks: false,
                trace: TraceMode::Off,
            },
            program: Program::new(&engine, module).map_err(invalid)?,
            mounts: Vec::new(),
            up,
            metrics: Arc::new(Metrics::new(&telemetry::Metrics::new())),
            journal,
            fail_point: None,
        };
        let here = Location {
            rank: 0,
            host: 0,
            epoch: 0,
        };
        let node =
            Node::new(config, &[here]).map_err(|error| Error::io("set up the host", error))?;
        Ok(Self { node })
    }

    /// Makes the cell as a host does, up to where its first instruction could run; returns how long that took.
    ///
    /// The engine has one slot for instances. From the second time on it is the one that the last cell left.
    ///
    /// # Errors
    /// When the module does not instantiate.
    pub fn time(&self) -> Result<Duration, Error> {
        let start = rt::now();
        let image = Image::new(&self.node, 0, Trace::Off);
        let took = start.elapsed();
        // Emptying the slot is not part of making the cell.
        drop(image.map_err(|reason| Error::new(Kind::Invalid, reason))?);
        Ok(took)
    }
}
