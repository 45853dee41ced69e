//! The calls on descriptors: `fd_*`.

use super::call::{Call, wide};
use super::table::{Descriptor, OpenFile, Place};
use super::types::{self, FDFLAG_APPEND, FDFLAG_DSYNC, FDFLAG_SYNC, FDFLAGS, rights};
use super::{Errno, Stream};
use crate::vfs::{Kind, Stat};

impl Call<'_> {
    pub(super) fn fd_advise(
        &mut self,
        fd: u32,
        _offset: u64,
        _len: u64,
        advice: u32,
    ) -> Result<(), Errno> {
        self.host.wasi().table.file(fd)?;
        if advice > 5 {
            Err(Errno::Inval)
        } else {
            Ok(())
        }
    }

    pub(super) fn fd_allocate(&mut self, fd: u32, offset: u64, len: u64) -> Result<(), Errno> {
        writable(self.host.wasi().table.file(fd)?)?
            .file
            .allocate(offset, len)
    }

    pub(super) fn fd_close(&mut self, fd: u32) -> Result<(), Errno> {
        let wasi = self.host.wasi();
        wasi.table.remove(fd)?;
        wasi.forget_listing(fd);
        Ok(())
    }

    pub(super) fn fd_datasync(&mut self, fd: u32) -> Result<(), Errno> {
        match self.host.wasi().table.get(fd)? {
            Descriptor::File(file) => file.file.datasync(),
            _ => self.fd_sync(fd),
        }
    }

    pub(super) fn fd_sync(&mut self, fd: u32) -> Result<(), Errno> {
        let wasi = self.host.wasi();
        match wasi.table.get(fd)? {
            Descriptor::File(file) => file.file.sync(),
            Descriptor::Directory(at) => wasi.vfs(at).sync_directory(&at.path),
            Descriptor::Stdin | Descriptor::Output(_) => Err(Errno::Inval),
        }
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, result: u32) -> Result<(), Errno> {
        let descriptor = self.host.wasi().table.get(fd)?;
        let (kind, flags) = match descriptor {
            // Not a terminal, and nothing that a program would seek in: wasi-libc then buffers
            // output as it does for a pipe.
            Descriptor::Stdin | Descriptor::Output(_) => (Kind::Unknown, 0),
            Descriptor::Directory(_) => (Kind::Directory, 0),
            Descriptor::File(file) => (Kind::File, file.flags),
        };
        let (base, inheriting) = granted(descriptor);
        self.memory
            .put(result, &types::fdstat(kind, flags, base, inheriting))
    }

    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Result<(), Errno> {
        let flags = fdflags(flags)?;
        // On anything but a file, the flags say nothing that would change a call.
        if let Descriptor::File(file) = self.host.wasi().table.get_mut(fd)? {
            file.flags = flags;
        }
        Ok(())
    }

    /// Rights can be given away. Only those to read and write a file are kept track of.
    pub(super) fn fd_fdstat_set_rights(
        &mut self,
        fd: u32,
        base: u64,
        inheriting: u64,
    ) -> Result<(), Errno> {
        let descriptor = self.host.wasi().table.get_mut(fd)?;
        let (old_base, old_inheriting) = granted(descriptor);
        if base & !old_base != 0 || inheriting & !old_inheriting != 0 {
            return Err(Errno::NotCapable);
        }
        if let Descriptor::File(file) = descriptor {
            file.read &= base & rights::FD_READ != 0;
            file.write &= base & rights::FD_WRITE != 0;
        }
        Ok(())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, result: u32) -> Result<(), Errno> {
        let wasi = self.host.wasi();
        let stat = match wasi.table.get(fd)? {
            Descriptor::File(file) => file.file.stat()?,
            Descriptor::Directory(at) => wasi.vfs(at).stat(&at.path, true)?,
            Descriptor::Stdin => stream(0),
            Descriptor::Output(Stream::Stdout) => stream(1),
            Descriptor::Output(Stream::Stderr) => stream(2),
        };
        self.memory.put(result, &types::filestat(&stat))
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Result<(), Errno> {
        writable(self.host.wasi().table.file(fd)?)?
            .file
            .set_len(size)
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        fd: u32,
        accessed_ns: u64,
        modified_ns: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let times = types::times(accessed_ns, modified_ns, flags)?;
        let wasi = self.host.wasi();
        match wasi.table.get(fd)? {
            Descriptor::File(file) => file.file.set_times(times),
            Descriptor::Directory(at) => wasi.vfs(at).set_times(&at.path, true, times),
            Descriptor::Stdin | Descriptor::Output(_) => Err(Errno::Inval),
        }
    }

    pub(super) fn fd_read(
        &mut self,
        fd: u32,
        at: u32,
        count: u32,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let pieces = self.memory.pieces(at, count)?;
        let wasi = self.host.wasi();
        if let Descriptor::Stdin = wasi.table.get(fd)? {
            return self.memory.put_u32(result, 0);
        }
        if let Descriptor::Output(_) = wasi.table.get(fd)? {
            return Err(Errno::Badf);
        }
        let file = readable(wasi.table.file(fd)?)?;
        let start = file.offset;
        let done = self.memory.read_into(pieces, |piece, done| {
            file.file.read_at(piece, after(start, done)?)
        })?;
        file.offset = after(start, done)?;
        self.put_count(result, done)
    }

    pub(super) fn fd_pread(
        &mut self,
        fd: u32,
        at: u32,
        count: u32,
        offset: u64,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let pieces = self.memory.pieces(at, count)?;
        let file = readable(self.host.wasi().table.file(fd)?)?;
        let done = self.memory.read_into(pieces, |piece, done| {
            file.file.read_at(piece, after(offset, done)?)
        })?;
        self.put_count(result, done)
    }

    pub(super) fn fd_write(
        &mut self,
        fd: u32,
        at: u32,
        count: u32,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let pieces = self.memory.pieces(at, count)?;
        let done = match self.host.wasi().table.get_mut(fd)? {
            Descriptor::Stdin => return Err(Errno::Badf),
            Descriptor::Directory(_) => return Err(Errno::IsDir),
            Descriptor::Output(stream) => {
                let stream = *stream;
                self.memory.write_from(pieces, |bytes, _| {
                    self.host.output(stream, bytes)?;
                    Ok(bytes.len())
                })?
            }
            Descriptor::File(file) => {
                let start = writable(file)?.offset;
                let append = file.flags & FDFLAG_APPEND != 0;
                let mut end = start;
                let done = self.memory.write_from(pieces, |bytes, done| {
                    let count = if append {
                        let appended = file.file.append(bytes)?;
                        end = appended.end;
                        appended.count
                    } else {
                        let count = file.file.write_at(bytes, after(start, done)?)?;
                        end = after(start, done + wide(count))?;
                        count
                    };
                    Ok(count)
                })?;
                file.offset = end;
                settle(file)?;
                done
            }
        };
        self.put_count(result, done)
    }

    /// Writes at an offset, also in a file that is open for appending: this is POSIX, and Linux
    /// that differs.
    pub(super) fn fd_pwrite(
        &mut self,
        fd: u32,
        at: u32,
        count: u32,
        offset: u64,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let pieces = self.memory.pieces(at, count)?;
        let file = writable(self.host.wasi().table.file(fd)?)?;
        let done = self.memory.write_from(pieces, |bytes, done| {
            file.file.write_at(bytes, after(offset, done)?)
        })?;
        settle(file)?;
        self.put_count(result, done)
    }

    pub(super) fn fd_prestat_get(&mut self, fd: u32, result: u32) -> Result<(), Errno> {
        let name = self.host.wasi().preopened(fd)?.len();
        self.memory.put_u32(result, 0)?;
        self.memory
            .put_len(result.checked_add(4).ok_or(Errno::Fault)?, name)
    }

    pub(super) fn fd_prestat_dir_name(&mut self, fd: u32, at: u32, len: u32) -> Result<(), Errno> {
        let name = self.host.wasi().preopened(fd)?;
        if wide(name.len()) > len.into() {
            return Err(Errno::NameTooLong);
        }
        self.memory.put(at, name.as_bytes())
    }

    pub(super) fn fd_renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        let wasi = self.host.wasi();
        wasi.table.renumber(from, to)?;
        if from != to {
            wasi.forget_listing(from);
            wasi.forget_listing(to);
        }
        Ok(())
    }

    pub(super) fn fd_seek(
        &mut self,
        fd: u32,
        delta: i64,
        whence: u32,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 8)?;
        let file = self.host.wasi().table.file(fd)?;
        let base = match whence {
            0 => 0,
            1 => file.offset,
            2 => file.file.stat()?.size,
            _ => return Err(Errno::Inval),
        };
        let offset = base.checked_add_signed(delta).ok_or(Errno::Inval)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::Overflow);
        }
        file.offset = offset;
        self.memory.put_u64(result, offset)
    }

    pub(super) fn fd_tell(&mut self, fd: u32, result: u32) -> Result<(), Errno> {
        let offset = self.host.wasi().table.file(fd)?.offset;
        self.memory.put_u64(result, offset)
    }

    fn put_count(&mut self, result: u32, count: u64) -> Result<(), Errno> {
        self.memory
            .put_u32(result, u32::try_from(count).map_err(|_| Errno::Overflow)?)
    }
}

impl super::Wasi {
    /// The guest's name of a mount that is still open under the descriptor it had at the start, or
    /// has been moved to.
    fn preopened(&self, fd: u32) -> Result<&str, Errno> {
        match self.table.get(fd)? {
            Descriptor::Directory(Place {
                mount,
                identity: None,
                ..
            }) => Ok(&self.mounts[*mount].guest),
            _ => Err(Errno::Badf),
        }
    }
}

/// Known flags only.
pub(super) fn fdflags(flags: u32) -> Result<u16, Errno> {
    u16::try_from(flags)
        .ok()
        .filter(|flags| flags & !FDFLAGS == 0)
        .ok_or(Errno::Inval)
}

/// The rights of a descriptor, and those of what is opened through it. Programs look here for what
/// they may do; what decides is the access that a file was opened with.
fn granted(descriptor: &Descriptor) -> (u64, u64) {
    match descriptor {
        Descriptor::Stdin => (rights::STREAM | rights::FD_READ, 0),
        Descriptor::Output(_) => (rights::STREAM | rights::FD_WRITE, 0),
        Descriptor::Directory(_) => (rights::DIRECTORY, rights::ALL),
        Descriptor::File(file) => {
            let read = if file.read { rights::FD_READ } else { 0 };
            let write = if file.write { rights::FILE_WRITE } else { 0 };
            (rights::FILE | read | write, 0)
        }
    }
}

/// The attributes of standard input and output.
fn stream(number: u64) -> Stat {
    Stat {
        device: 0,
        inode: number,
        kind: Kind::Unknown,
        links: 1,
        size: 0,
        accessed_ns: 0,
        modified_ns: 0,
        changed_ns: 0,
    }
}

fn readable(file: &mut OpenFile) -> Result<&mut OpenFile, Errno> {
    if file.read {
        Ok(file)
    } else {
        Err(Errno::Badf)
    }
}

fn writable(file: &mut OpenFile) -> Result<&mut OpenFile, Errno> {
    if file.write {
        Ok(file)
    } else {
        Err(Errno::Badf)
    }
}

/// Makes a write durable if the guest wants each to be.
fn settle(file: &OpenFile) -> Result<(), Errno> {
    if file.flags & FDFLAG_SYNC != 0 {
        file.file.sync()
    } else if file.flags & FDFLAG_DSYNC != 0 {
        file.file.datasync()
    } else {
        Ok(())
    }
}

fn after(offset: u64, done: u64) -> Result<u64, Errno> {
    offset.checked_add(done).ok_or(Errno::Inval)
}
