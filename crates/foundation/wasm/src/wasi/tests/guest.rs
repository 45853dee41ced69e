//! A guest that is driven from outside: a module that exports every import under its own name.

use std::path::Path;
use std::sync::Arc;

use wasmtime::{Caller, Engine, Instance, Linker, Module, Store, Val};

use super::super::*;
use crate::vfs::HostDir;

/// Everything in `wasi_snapshot_preview1`: name, and the parameters as `i` for 32 and `I` for 64
/// bits. All but `proc_exit` return an `errno`.
pub(super) const IMPORTS: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

pub(super) const READ: u64 = types::rights::FD_READ;
pub(super) const WRITE: u64 = types::rights::FD_WRITE;
pub(super) const CREATE: u32 = 1;

const MODULE: &str = "wasi_snapshot_preview1";

/// The descriptor of the mount.
pub(super) const ROOT: u32 = 3;

/// Where results go, and where paths and buffers are put.
const RESULT: u32 = 16;
pub(super) const PATH: u32 = 1024;
pub(super) const PATH2: u32 = 2048;
pub(super) const IOVS: u32 = 4096;
pub(super) const BUFFER: u32 = 16 << 10;
pub(super) const MEMORY_BYTES: u32 = 2 << 16;

/// A host whose clock stands still but in sleeps.
#[derive(Debug)]
pub(super) struct TestHost {
    wasi: Wasi,
    pub(super) now_ns: u64,
    pub(super) output: Vec<(Stream, Vec<u8>)>,
    pub(super) reader_gone: bool,
    /// What control points get, in order; then they proceed.
    pub(super) steps: Vec<Step>,
    pub(super) sleeps: Vec<u64>,
}

/// By so much the wall clock is ahead of the monotonic one.
pub(super) const REALTIME_NS: u64 = 1_000_000_000_000;

impl TestHost {
    pub(super) fn new(wasi: Wasi) -> Self {
        Self {
            wasi,
            now_ns: 0,
            output: Vec::new(),
            reader_gone: false,
            steps: Vec::new(),
            sleeps: Vec::new(),
        }
    }

    fn step(&mut self) -> Step {
        if self.steps.is_empty() {
            Step::Proceed
        } else {
            self.steps.remove(0)
        }
    }
}

impl Host for TestHost {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn clock(&mut self, clock: Clock) -> u64 {
        match clock {
            Clock::Realtime => self.now_ns + REALTIME_NS,
            Clock::Monotonic => self.now_ns,
            Clock::ProcessCpu | Clock::ThreadCpu => 7,
        }
    }

    fn random(&mut self, buffer: &mut [u8]) {
        buffer.fill(0xa5);
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Errno> {
        if self.reader_gone {
            return Err(Errno::Pipe);
        }
        self.output.push((stream, bytes.to_vec()));
        Ok(())
    }

    fn enter(caller: &mut Caller<'_, Self>) -> Step {
        caller.data_mut().step()
    }

    fn sleep_until(caller: &mut Caller<'_, Self>, deadline_ns: u64) -> Step {
        let host = caller.data_mut();
        host.sleeps.push(deadline_ns);
        let step = host.step();
        if step == Step::Proceed {
            host.now_ns = host.now_ns.max(deadline_ns);
        }
        step
    }
}

/// Compiled once for a test.
pub(super) struct Program {
    module: Module,
    linker: Linker<TestHost>,
}

impl Program {
    pub(super) fn new() -> Self {
        let mut text = String::from("(module (memory (export \"memory\") 2)");
        let mut exports = String::new();
        for (name, parameters) in IMPORTS {
            let types: Vec<&str> = parameters
                .chars()
                .map(|c| if c == 'i' { "i32" } else { "i64" })
                .collect();
            let types = types.join(" ");
            let result = if name == "proc_exit" {
                ""
            } else {
                "(result i32)"
            };
            let arguments: String = (0..parameters.len())
                .map(|index| format!("(local.get {index})"))
                .collect();
            text += &format!(
                "(import \"{MODULE}\" \"{name}\" (func ${name} (param {types}) {result}))"
            );
            exports += &format!(
                "(func (export \"{name}\") (param {types}) {result} (call ${name} {arguments}))"
            );
        }
        // Imports come first in a module.
        let (head, imports) = text.split_at("(module ".len());
        let (memory, imports) =
            imports.split_at(imports.find("(import").expect("there are imports"));
        let text = format!("{head}{imports}{memory}{exports})");
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(text).expect("valid text"))
            .expect("a valid module");
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).expect("nothing is defined twice");
        Self { module, linker }
    }

    pub(super) fn guest(&self, wasi: Wasi) -> Guest {
        let mut store = Store::new(self.module.engine(), TestHost::new(wasi));
        let instance = self
            .linker
            .instantiate(&mut store, &self.module)
            .expect("all imports are defined");
        Guest { store, instance }
    }

    /// With `dir` mounted as its root.
    pub(super) fn guest_in(&self, dir: &Path) -> Guest {
        self.guest(Wasi::new(Vec::new(), Vec::new(), mounts(dir)))
    }
}

pub(super) fn mounts(dir: &Path) -> Vec<(String, Arc<dyn Vfs>)> {
    vec![(
        "/".to_owned(),
        Arc::new(HostDir::open(dir).expect("a directory")),
    )]
}

pub(super) struct Guest {
    store: Store<TestHost>,
    instance: Instance,
}

impl Guest {
    pub(super) fn host(&mut self) -> &mut TestHost {
        self.store.data_mut()
    }

    pub(super) fn try_call(&mut self, name: &str, arguments: &[Val]) -> wasmtime::Result<u32> {
        let function = self
            .instance
            .get_func(&mut self.store, name)
            .expect("exported");
        let mut results = [Val::I32(0)];
        let results = if name == "proc_exit" {
            &mut results[..0]
        } else {
            &mut results[..]
        };
        function.call(&mut self.store, arguments, results)?;
        Ok(results
            .first()
            .map_or(0, |value| value.unwrap_i32().cast_unsigned()))
    }

    /// Calls with these arguments, given as the types of the call need them.
    pub(super) fn call(&mut self, name: &str, arguments: &[u64]) -> Result<(), u32> {
        let (_, parameters) = IMPORTS
            .iter()
            .find(|import| import.0 == name)
            .expect("an import");
        let arguments: Vec<Val> = parameters
            .chars()
            .zip(arguments)
            .map(|(c, &value)| val(c, value))
            .collect();
        match self.try_call(name, &arguments).expect(name) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    pub(super) fn memory(&mut self) -> &mut [u8] {
        let memory = self
            .instance
            .get_memory(&mut self.store, "memory")
            .expect("exported");
        memory.data_mut(&mut self.store)
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) {
        let at = usize::try_from(at).expect("small");
        self.memory()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, at: u32, len: u32) -> Vec<u8> {
        let (at, len) = (
            usize::try_from(at).expect("small"),
            usize::try_from(len).expect("small"),
        );
        self.memory()[at..at + len].to_vec()
    }

    pub(super) fn u32_at(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().expect("four bytes"))
    }

    pub(super) fn u64_at(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().expect("eight bytes"))
    }

    /// Calls something that takes descriptor and path first, then `rest`.
    pub(super) fn path_call(
        &mut self,
        name: &str,
        fd: u32,
        path: &str,
        rest: &[u64],
    ) -> Result<(), u32> {
        self.put(PATH, path.as_bytes());
        let mut arguments = vec![fd.into(), PATH.into(), len(path)];
        arguments.extend_from_slice(rest);
        self.call(name, &arguments)
    }

    pub(super) fn open_at(
        &mut self,
        fd: u32,
        path: &str,
        oflags: u32,
        rights: u64,
        flags: u32,
    ) -> Result<u32, u32> {
        self.put(PATH, path.as_bytes());
        let lookup = 1;
        let arguments = [
            fd.into(),
            lookup,
            PATH.into(),
            len(path),
            oflags.into(),
            rights,
            0,
            flags.into(),
            RESULT.into(),
        ];
        self.call("path_open", &arguments)?;
        Ok(self.u32_at(RESULT))
    }

    pub(super) fn open(&mut self, path: &str, oflags: u32, rights: u64) -> Result<u32, u32> {
        self.open_at(ROOT, path, oflags, rights, 0)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), u32> {
        self.put(PATH2, to.as_bytes());
        self.path_call(
            "path_rename",
            ROOT,
            from,
            &[ROOT.into(), PATH2.into(), len(to)],
        )
    }

    /// `fd_write` of these pieces.
    pub(super) fn write(&mut self, fd: u32, pieces: &[&[u8]]) -> Result<u32, u32> {
        let mut at = BUFFER;
        for (index, piece) in (0u32..).zip(pieces) {
            self.put(at, piece);
            let len = u32::try_from(piece.len()).expect("small");
            self.put(IOVS + index * 8, &at.to_le_bytes());
            self.put(IOVS + index * 8 + 4, &len.to_le_bytes());
            at += len;
        }
        let count = u64::try_from(pieces.len()).expect("small");
        self.call("fd_write", &[fd.into(), IOVS.into(), count, RESULT.into()])?;
        Ok(self.u32_at(RESULT))
    }

    /// `fd_read` into one piece.
    pub(super) fn read(&mut self, fd: u32, len: u32) -> Result<Vec<u8>, u32> {
        self.put(IOVS, &BUFFER.to_le_bytes());
        self.put(IOVS + 4, &len.to_le_bytes());
        self.call("fd_read", &[fd.into(), IOVS.into(), 1, RESULT.into()])?;
        let count = self.u32_at(RESULT);
        Ok(self.bytes(BUFFER, count))
    }

    pub(super) fn seek(&mut self, fd: u32, delta: i64, whence: u32) -> Result<u64, u32> {
        self.call(
            "fd_seek",
            &[
                fd.into(),
                delta.cast_unsigned(),
                whence.into(),
                RESULT.into(),
            ],
        )?;
        Ok(self.u64_at(RESULT))
    }

    /// One `fd_readdir`: the whole entries in the buffer with their cookies, and whether the buffer
    /// was filled.
    pub(super) fn readdir(
        &mut self,
        fd: u32,
        len: u32,
        cookie: u64,
    ) -> Result<(Vec<(String, u64)>, bool), u32> {
        self.call(
            "fd_readdir",
            &[fd.into(), BUFFER.into(), len.into(), cookie, RESULT.into()],
        )?;
        let used = self.u32_at(RESULT);
        let bytes = self.bytes(BUFFER, used);
        let mut rest = &bytes[..];
        let mut entries = Vec::new();
        while let Some((header, names)) = rest.split_at_checked(24) {
            let cookie = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"));
            let len = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
            let Some((name, next)) = names.split_at_checked(usize::try_from(len).expect("small"))
            else {
                break;
            };
            entries.push((String::from_utf8(name.to_vec()).expect("text"), cookie));
            rest = next;
        }
        Ok((entries, used == len))
    }
}

pub(super) fn val(kind: char, value: u64) -> Val {
    if kind == 'i' {
        let low = u32::try_from(value & 0xffff_ffff).expect("32 bits");
        Val::I32(low.cast_signed())
    } else {
        Val::I64(value.cast_signed())
    }
}

fn len(text: &str) -> u64 {
    u64::try_from(text.len()).expect("small")
}

pub(super) fn is(errno: Errno) -> u32 {
    errno.code().into()
}
