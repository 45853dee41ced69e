//! The table of imports.

use wasmtime::{Caller, Linker};

use super::call::with_call;
use super::{Errno, Exit, Host, poll};

const MODULE: &str = "wasi_snapshot_preview1";

/// Defines calls that need the guest's memory and its host: `name(parameters) => arguments` of the
/// method of the same name.
macro_rules! define {
    ($linker:ident: $($name:ident($($parameter:ident: $type:ty),*) => ($($argument:expr),*);)*) => {
        $($linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, T>, $($parameter: $type),*| {
                status(with_call(&mut caller, |call| call.$name($($argument),*)))
            },
        )?;)*
    };
}

/// Defines all of WASI preview 1 in `linker`.
///
/// # Errors
/// When one of its names is defined already.
pub fn add_to_linker<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    process(linker)?;
    descriptors(linker)?;
    paths(linker)?;
    control(linker)?;
    sockets(linker)
}

fn process<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker:
        args_get(pointers: u32, buffer: u32) => (pointers, buffer);
        args_sizes_get(count: u32, bytes: u32) => (count, bytes);
        environ_get(pointers: u32, buffer: u32) => (pointers, buffer);
        environ_sizes_get(count: u32, bytes: u32) => (count, bytes);
        clock_res_get(id: u32, out: u32) => (id, out);
        clock_time_get(id: u32, precision: u64, out: u32) => (id, precision, out);
        random_get(at: u32, len: u32) => (at, len);
    }
    Ok(())
}

fn descriptors<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker:
        fd_advise(fd: u32, offset: u64, len: u64, advice: u32) => (fd, offset, len, advice);
        fd_allocate(fd: u32, offset: u64, len: u64) => (fd, offset, len);
        fd_close(fd: u32) => (fd);
        fd_datasync(fd: u32) => (fd);
        fd_fdstat_get(fd: u32, out: u32) => (fd, out);
        fd_fdstat_set_flags(fd: u32, flags: u32) => (fd, flags);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) => (fd, base, inheriting);
        fd_filestat_get(fd: u32, out: u32) => (fd, out);
        fd_filestat_set_size(fd: u32, size: u64) => (fd, size);
        fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32)
            => (fd, accessed, modified, flags);
        fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, out: u32)
            => (fd, iovs, count, offset, out);
        fd_prestat_get(fd: u32, out: u32) => (fd, out);
        fd_prestat_dir_name(fd: u32, at: u32, len: u32) => (fd, at, len);
        fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, out: u32)
            => (fd, iovs, count, offset, out);
        fd_read(fd: u32, iovs: u32, count: u32, out: u32) => (fd, iovs, count, out);
        fd_readdir(fd: u32, at: u32, len: u32, cookie: u64, out: u32) => (fd, at, len, cookie, out);
        fd_renumber(from: u32, to: u32) => (from, to);
        fd_seek(fd: u32, delta: i64, whence: u32, out: u32) => (fd, delta, whence, out);
        fd_sync(fd: u32) => (fd);
        fd_tell(fd: u32, out: u32) => (fd, out);
        fd_write(fd: u32, iovs: u32, count: u32, out: u32) => (fd, iovs, count, out);
    }
    Ok(())
}

fn paths<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker:
        path_create_directory(fd: u32, at: u32, len: u32) => (fd, (at, len));
        path_filestat_get(fd: u32, lookup: u32, at: u32, len: u32, out: u32)
            => (fd, lookup, (at, len), out);
        path_filestat_set_times(
            fd: u32, lookup: u32, at: u32, len: u32,
            accessed: u64, modified: u64, flags: u32
        )
            => (fd, lookup, (at, len), accessed, modified, flags);
        path_link(from: u32, lookup: u32, at: u32, len: u32, to: u32, to_at: u32, to_len: u32)
            => (from, lookup, (at, len), to, (to_at, to_len));
        path_open(
            fd: u32, lookup: u32, at: u32, len: u32, oflags: u32,
            base: u64, inheriting: u64, flags: u32, out: u32
        )
            => (fd, lookup, (at, len), oflags, base, inheriting, flags, out);
        path_readlink(fd: u32, at: u32, len: u32, buffer: u32, room: u32, out: u32)
            => (fd, (at, len), buffer, room, out);
        path_remove_directory(fd: u32, at: u32, len: u32) => (fd, (at, len));
        path_rename(from: u32, at: u32, len: u32, to: u32, to_at: u32, to_len: u32)
            => (from, (at, len), to, (to_at, to_len));
        path_symlink(target: u32, target_len: u32, fd: u32, at: u32, len: u32)
            => ((target, target_len), fd, (at, len));
        path_unlink_file(fd: u32, at: u32, len: u32) => (fd, (at, len));
    }
    Ok(())
}

fn control<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, T>, input: u32, output: u32, count: u32, out: u32| {
            status(poll::poll_oneoff(&mut caller, input, output, count, out))
        },
    )?;
    linker.func_wrap(MODULE, "sched_yield", |mut caller: Caller<'_, T>| {
        status(poll::sched_yield(&mut caller))
    })?;
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(Exit(code).into())
    })?;
    linker.func_wrap(MODULE, "proc_raise", |_signal: u32| {
        status(Err(Errno::NoSys))
    })?;
    Ok(())
}

/// No descriptor is a socket: who talks to others does it by messages that the host can follow.
fn sockets<T: Host>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    define! { linker:
        sock_accept(fd: u32, _flags: u32, _out: u32) => (fd);
        sock_recv(fd: u32, _iovs: u32, _count: u32, _flags: u32, _out: u32, _out_flags: u32)
            => (fd);
        sock_send(fd: u32, _iovs: u32, _count: u32, _flags: u32, _out: u32) => (fd);
        sock_shutdown(fd: u32, _how: u32) => (fd);
    }
    Ok(())
}

/// The result of a call, as the guest gets it.
fn status(result: Result<(), Errno>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(errno) => errno.code().into(),
    }
}
