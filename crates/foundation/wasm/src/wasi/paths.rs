//! The calls on paths: `path_*`.

use super::call::Call;
use super::files::fdflags;
use super::table::{Descriptor, OpenFile, Place};
use super::types::{self, rights};
use super::{Errno, Wasi};
use crate::vfs::{How, Opened, PATH_BYTES_MAX, Vfs};

/// `lookupflags`: follow a symbolic link in the last part.
const FOLLOW: u32 = 1;

impl Call<'_> {
    #[expect(clippy::too_many_arguments, reason = "preview 1 has them")]
    pub(super) fn path_open(
        &mut self,
        fd: u32,
        lookup: u32,
        path: (u32, u32),
        oflags: u32,
        base: u64,
        _inheriting: u64,
        flags: u32,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let flags = fdflags(flags)?;
        if oflags > 0xf {
            return Err(Errno::Inval);
        }
        let how = How {
            read: base & rights::FD_READ != 0,
            write: base & rights::FILE_WRITE != 0,
            create: oflags & 1 != 0,
            directory: oflags & 2 != 0,
            exclusive: oflags & 4 != 0,
            truncate: oflags & 8 != 0,
            follow: follow(lookup)?,
        };
        let (mount, path) = self.path(fd, path)?;
        let wasi = self.host.wasi();
        wasi.table.check_room()?;
        let descriptor = match wasi.mounts[mount].vfs.open(&path, how)? {
            Opened::File(file, stat) => Descriptor::File(OpenFile {
                at: Place::new(mount, &path, &stat),
                read: how.read,
                write: how.write,
                flags,
                offset: 0,
                file,
            }),
            Opened::Directory(stat) => Descriptor::Directory(Place::new(mount, &path, &stat)),
        };
        let number = wasi.table.insert(descriptor)?;
        self.memory.put_u32(result, number)
    }

    pub(super) fn path_create_directory(&mut self, fd: u32, path: (u32, u32)) -> Result<(), Errno> {
        let (mount, path) = self.path(fd, path)?;
        self.vfs(mount).make_directory(&path)
    }

    pub(super) fn path_filestat_get(
        &mut self,
        fd: u32,
        lookup: u32,
        path: (u32, u32),
        result: u32,
    ) -> Result<(), Errno> {
        let follow = follow(lookup)?;
        let (mount, path) = self.path(fd, path)?;
        let stat = self.vfs(mount).stat(&path, follow)?;
        self.memory.put(result, &types::filestat(&stat))
    }

    pub(super) fn path_filestat_set_times(
        &mut self,
        fd: u32,
        lookup: u32,
        path: (u32, u32),
        accessed_ns: u64,
        modified_ns: u64,
        flags: u32,
    ) -> Result<(), Errno> {
        let follow = follow(lookup)?;
        let times = types::times(accessed_ns, modified_ns, flags)?;
        let (mount, path) = self.path(fd, path)?;
        self.vfs(mount).set_times(&path, follow, times)
    }

    pub(super) fn path_link(
        &mut self,
        from_fd: u32,
        lookup: u32,
        from: (u32, u32),
        to_fd: u32,
        to: (u32, u32),
    ) -> Result<(), Errno> {
        if follow(lookup)? {
            return Err(Errno::Inval);
        }
        let (mount, from) = self.path(from_fd, from)?;
        let (to_mount, to) = self.path(to_fd, to)?;
        if mount != to_mount {
            return Err(Errno::Xdev);
        }
        self.vfs(mount).link(&from, &to)
    }

    pub(super) fn path_readlink(
        &mut self,
        fd: u32,
        path: (u32, u32),
        at: u32,
        len: u32,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let (mount, path) = self.path(fd, path)?;
        let target = self.vfs(mount).read_link(&path)?;
        let buffer = self.memory.get_mut(at, len)?;
        let count = buffer.len().min(target.len());
        buffer[..count].copy_from_slice(&target.as_bytes()[..count]);
        self.memory.put_len(result, count)
    }

    pub(super) fn path_remove_directory(&mut self, fd: u32, path: (u32, u32)) -> Result<(), Errno> {
        let (mount, path) = self.path(fd, path)?;
        self.vfs(mount).remove_directory(&path)
    }

    pub(super) fn path_rename(
        &mut self,
        from_fd: u32,
        from: (u32, u32),
        to_fd: u32,
        to: (u32, u32),
    ) -> Result<(), Errno> {
        let (mount, from) = self.path(from_fd, from)?;
        let (to_mount, to) = self.path(to_fd, to)?;
        if mount != to_mount {
            return Err(Errno::Xdev);
        }
        self.vfs(mount).rename(&from, &to)?;
        self.host.wasi().table.renamed(mount, &from, &to);
        Ok(())
    }

    pub(super) fn path_symlink(
        &mut self,
        target: (u32, u32),
        fd: u32,
        path: (u32, u32),
    ) -> Result<(), Errno> {
        let target = self.text(target)?.to_owned();
        let (mount, path) = self.path(fd, path)?;
        self.vfs(mount).symlink(&target, &path)
    }

    pub(super) fn path_unlink_file(&mut self, fd: u32, path: (u32, u32)) -> Result<(), Errno> {
        let (mount, path) = self.path(fd, path)?;
        self.vfs(mount).remove_file(&path)
    }

    fn vfs(&mut self, mount: usize) -> &dyn Vfs {
        &*self.host.wasi().mounts[mount].vfs
    }

    /// A path of the guest, from a directory of the guest: which mount, and the path from its root.
    fn path(&mut self, fd: u32, path: (u32, u32)) -> Result<(usize, String), Errno> {
        let path = self.text(path)?.to_owned();
        let wasi: &Wasi = self.host.wasi();
        let start = wasi.table.directory(fd)?;
        stays_below(&path)?;
        let path = if start.path == "." {
            path
        } else {
            format!("{}/{path}", start.path)
        };
        Ok((start.mount, path))
    }

    fn text(&self, (at, len): (u32, u32)) -> Result<&str, Errno> {
        let bytes = self.memory.get(at, len)?;
        if bytes.len() > PATH_BYTES_MAX {
            return Err(Errno::NameTooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Errno::Ilseq)?;
        if text.contains('\0') {
            Err(Errno::Inval)
        } else {
            Ok(text)
        }
    }
}

/// The tree keeps a guest in its mount; this keeps it below the directory that the path starts
/// from, as WASI has it. Links are not looked at: they lead where the guest can go anyway.
fn stays_below(path: &str) -> Result<(), Errno> {
    if path.is_empty() {
        return Err(Errno::NoEnt);
    }
    if path.starts_with('/') {
        return Err(Errno::Perm);
    }
    let mut depth = 0u32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or(Errno::Perm)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

fn follow(lookup: u32) -> Result<bool, Errno> {
    if lookup > FOLLOW {
        Err(Errno::Inval)
    } else {
        Ok(lookup == FOLLOW)
    }
}
