//! Engine profiles, and a private cache of compiled code.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, InstanceAllocationStrategy, Module, OptLevel, PoolingAllocationConfig};

/// The native stack that a guest may use, bytes. A thread that runs a guest needs this and some for the host's own calls.
pub const GUEST_STACK_BYTES: usize = 8 << 20;

/// What the code cache may hold, bytes. What was not used for the longest time makes room.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// How guests are run. A profile is part of a compiled module's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Native code from Cranelift. No fuel and no epochs: hot loops carry no checks, and who must be stopped is stopped with its process.
    Cell,
    /// The portable Pulley interpreter: slow, the same on every processor.
    Pulley,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the engine cannot be set up: {0}")]
    Engine(wasmtime::Error),
    #[error("the module is not valid: {0}")]
    Module(wasmtime::Error),
    #[error("the code cache {path} {problem}")]
    Cache { path: PathBuf, problem: String },
}

/// A configured engine with its code cache.
#[derive(Clone, Debug)]
pub struct Engine {
    engine: wasmtime::Engine,
    cache_dir: PathBuf,
    cache_tag: String,
}

impl Engine {
    /// An engine with room for `slots` cells at a time, which keeps compiled code in `cache_dir` (created, 0700).
    ///
    /// # Errors
    /// When the address space does not hold the slots, or `cache_dir` is not this user's alone.
    pub fn new(profile: Profile, slots: u32, cache_dir: &Path) -> Result<Self, Error> {
        let engine = wasmtime::Engine::new(&config(profile, slots)).map_err(Error::Engine)?;
        private_dir(cache_dir).map_err(|problem| Error::Cache {
            path: cache_dir.to_owned(),
            problem,
        })?;
        let mut hasher = StableHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache_tag = hex(&hasher.0.finalize()[..8]);
        Ok(Self {
            engine,
            cache_dir: cache_dir.to_owned(),
            cache_tag,
        })
    }

    #[must_use]
    pub fn inner(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// The compiled form of `wasm`, from the cache if it was compiled here before.
    ///
    /// # Errors
    /// [`Error::Module`] when it does not validate. A cache that cannot be written is not an error: the module is compiled again next time.
    pub fn module(&self, wasm: &[u8]) -> Result<Module, Error> {
        let path = self
            .cache_dir
            .join(format!("{}-{}.cwasm", sha256(wasm), self.cache_tag));
        if let Some(module) = self.cached(&path) {
            // Only that it stays longer depends on it.
            fs::File::open(&path)
                .and_then(|file| file.set_modified(rt::wall()))
                .ok();
            return Ok(module);
        }
        let module = Module::new(&self.engine, wasm).map_err(Error::Module)?;
        if let Err(error) = module
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| store(&path, &code))
            .and_then(|()| make_room(&self.cache_dir, CACHE_BYTES_MAX))
        {
            tracing::warn!(path = %path.display(), %error, "compiled code was not cached");
        }
        Ok(module)
    }

    fn cached(&self, path: &Path) -> Option<Module> {
        if !path.exists() {
            return None;
        }
        // SAFETY: `deserialize_file` trusts the file's content. The directory is this user's alone (checked in `new`: owner and mode 0700),
        // files come into it only by the rename in `store`, from code that this program compiled, and the name carries the engine's hash.
        match unsafe { Module::deserialize_file(&self.engine, path) } {
            Ok(module) => Some(module),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cached code does not load; it is compiled again");
                None
            }
        }
    }
}

fn config(profile: Profile, slots: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots)
        .total_memories(slots * 2)
        .total_tables(slots)
        .max_memories_per_module(2)
        .max_tables_per_module(1)
        .table_elements(1 << 20)
        .max_memory_size(1 << 32)
        .max_unused_warm_slots(slots)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(64 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // No guest runs on such a stack, but it must not be smaller.
        .async_stack_size(GUEST_STACK_BYTES)
        .relaxed_simd_deterministic(true)
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_tail_call(false);
    if profile == Profile::Pulley {
        config
            .target("pulley64")
            .expect("wasmtime is built with the Pulley interpreter");
    }
    config
}

fn private_dir(path: &Path) -> Result<(), String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| format!("cannot be created: {error}"))?;
    let meta = fs::symlink_metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_dir() {
        return Err("is not a directory".into());
    }
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err("is open to other users: remove it, or make it yours with mode 0700".into());
    }
    Ok(())
}

fn store(path: &Path, code: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("{:016x}.partial", rt::random_u64()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let written = file
        .write_all(code)
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        fs::remove_file(&partial)?;
    }
    written
}

/// Removes the code that was not used for the longest time until the rest has `bytes_max`. Who has it mapped keeps it.
fn make_room(dir: &Path, bytes_max: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Another process may have removed it.
        if let Ok(meta) = entry.metadata() {
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    files.sort_unstable();
    let mut n_bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in files {
        if n_bytes <= bytes_max {
            break;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => n_bytes -= len,
        }
    }
    Ok(())
}

/// The name of a module: the SHA-256 of its bytes, in hexadecimal.
#[must_use]
pub fn sha256(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A `Hasher` whose result does not depend on the process.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_engine_loads_what_the_first_compiled() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let wasm = wat::parse_str("(module (memory 1))").expect("valid text");
        for profile in [Profile::Cell, Profile::Pulley] {
            let engine = Engine::new(profile, 1, &dir.path().join("code")).expect("an engine");
            engine.module(&wasm).expect("a valid module");
            let path =
                engine
                    .cache_dir
                    .join(format!("{}-{}.cwasm", sha256(&wasm), engine.cache_tag));
            assert!(engine.cached(&path).is_some(), "{profile:?}");
            fs::write(&path, b"broken").expect("writable");
            engine.module(&wasm).expect("broken code is compiled again");
        }
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let then = rt::wall();
        for (name, age) in [("a", 3), ("b", 1), ("c", 2)] {
            let path = dir.path().join(name);
            fs::write(&path, [0; 100]).expect("writable");
            let file = fs::File::open(&path).expect("readable");
            file.set_modified(then - Duration::from_secs(age))
                .expect("mine");
        }
        make_room(dir.path(), 300).expect("there is room");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 3);
        make_room(dir.path(), 150).expect("removable");
        assert!(dir.path().join("b").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_cache_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("permitted");
        assert!(matches!(
            Engine::new(Profile::Cell, 1, dir.path()),
            Err(Error::Cache { .. })
        ));
    }
}
