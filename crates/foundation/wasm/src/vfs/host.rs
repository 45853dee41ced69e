//! A directory of the host as a [`Vfs`].
//!
//! The kernel keeps guests inside: every look-up is an `openat2` with `RESOLVE_BENEATH` from the
//! root of the tree, which no `..`, link or concurrent rename can leave. Calls that take the last
//! part of a path (make, remove, rename, link) get the directory above it that way, and then a
//! single name, in which the kernel follows no link.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::{self, ReadWriteFlags, retry_on_intr};

use super::{
    Appended, ENTRIES_MAX, Entry, Errno, File, How, Kind, Opened, PATH_BYTES_MAX, Stat, Time,
    Times, Vfs,
};

/// How often a look-up is tried that the kernel gives up because somebody renames a directory on
/// the way.
const LOOKUPS_MAX: u32 = 32;

/// A directory of the host, see the module.
#[derive(Debug)]
pub struct HostDir {
    root: OwnedFd,
}

impl HostDir {
    /// Takes the directory `path`, in which there may be no links: who has checked where it leads means this one and no other.
    ///
    /// # Errors
    /// When it cannot be opened, or when the kernel cannot keep a guest inside.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat2(
            fs::CWD,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        )?;
        fs::openat2(&root, ".", flags, Mode::empty(), BENEATH).map_err(|errno| {
            let errno = std::io::Error::from(errno);
            std::io::Error::new(
                errno.kind(),
                format!("openat2 fails, which keeps guests inside (since Linux 5.6): {errno}"),
            )
        })?;
        Ok(Self { root })
    }

    /// The one way to a file.
    fn look_up(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Errno::NameTooLong);
        }
        let flags = flags | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            match fs::openat2(&self.root, path, flags, mode, BENEATH) {
                Err(io::Errno::AGAIN | io::Errno::INTR) if tries < LOOKUPS_MAX => tries += 1,
                // This is how the kernel says that the path leads out.
                Err(io::Errno::XDEV) => return Err(Errno::Perm),
                done => return done.map_err(errno),
            }
        }
    }

    /// A handle that only names the file.
    fn locate(&self, path: &str, follow: bool) -> Result<OwnedFd, Errno> {
        let nofollow = if follow {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        self.look_up(path, OFlags::PATH | nofollow, Mode::empty())
    }

    /// The directory above, and the last part of `path` with its trailing slashes, which mean
    /// something to the kernel.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Errno::NameTooLong);
        }
        let end = path.trim_end_matches('/').len();
        if end == 0 {
            return Err(if path.is_empty() {
                Errno::NoEnt
            } else {
                Errno::Perm
            });
        }
        let (above, name) = match path[..end].rfind('/') {
            Some(0) => return Err(Errno::Perm),
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (".", path),
        };
        let above = self.look_up(above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((above, name))
    }

    fn read_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.look_up(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }
}

impl Vfs for HostDir {
    fn open(&self, path: &str, how: How) -> Result<Opened, Errno> {
        if how.directory && (how.create || how.truncate) {
            return Err(Errno::Inval);
        }
        let flags = open_flags(how);
        let mode = if how.create {
            Mode::from_raw_mode(0o666)
        } else {
            Mode::empty()
        };
        let file = self
            .look_up(path, flags, mode)
            .map_err(|errno| match errno {
                // A socket, a device without a driver, or a pipe that nobody reads.
                Errno::Nxio | Errno::NoDev => Errno::Acces,
                errno => errno,
            })?;
        let stat = stat(&file)?;
        match stat.kind {
            Kind::File => Ok(Opened::File(
                Box::new(HostFile {
                    file,
                    readable: how.read,
                }),
                stat,
            )),
            Kind::Directory => Ok(Opened::Directory(stat)),
            _ => Err(Errno::Acces),
        }
    }

    fn stat(&self, path: &str, follow: bool) -> Result<Stat, Errno> {
        stat(self.locate(path, follow)?)
    }

    fn entries(&self, path: &str) -> Result<Vec<Entry>, Errno> {
        let mut entries = Vec::new();
        for entry in fs::Dir::new(self.read_directory(path)?).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(Errno::Overflow);
            }
            entries.push(Entry {
                name: name.to_owned(),
                inode: entry.ino(),
                kind: kind(entry.file_type()),
            });
        }
        Ok(entries)
    }

    fn make_directory(&self, path: &str) -> Result<(), Errno> {
        let (above, name) = self.parent(path)?;
        fs::mkdirat(above, name, Mode::from_raw_mode(0o777)).map_err(errno)
    }

    fn remove_directory(&self, path: &str) -> Result<(), Errno> {
        let (above, name) = self.parent(path)?;
        fs::unlinkat(above, name, AtFlags::REMOVEDIR).map_err(errno)
    }

    fn remove_file(&self, path: &str) -> Result<(), Errno> {
        let (above, name) = self.parent(path)?;
        fs::unlinkat(above, name, AtFlags::empty()).map_err(errno)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let (from_above, from) = self.parent(from)?;
        let (to_above, to) = self.parent(to)?;
        fs::renameat(from_above, from, to_above, to).map_err(errno)
    }

    fn link(&self, from: &str, to: &str) -> Result<(), Errno> {
        if from.ends_with('/') {
            // A directory cannot be linked, and the kernel would follow a link here, to anywhere.
            return Err(if self.stat(from, true)?.kind == Kind::Directory {
                Errno::Perm
            } else {
                Errno::NotDir
            });
        }
        let (from_above, from) = self.parent(from)?;
        let (to_above, to) = self.parent(to)?;
        fs::linkat(from_above, from, to_above, to, AtFlags::empty()).map_err(errno)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        if target.starts_with('/') {
            return Err(Errno::Perm);
        }
        let (above, name) = self.parent(path)?;
        fs::symlinkat(target, above, name).map_err(errno)
    }

    fn read_link(&self, path: &str) -> Result<String, Errno> {
        let link = self.locate(path, false)?;
        if stat(&link)?.kind != Kind::SymbolicLink {
            return Err(Errno::Inval);
        }
        let target = fs::readlinkat(link, "", Vec::new()).map_err(errno)?;
        target.into_string().map_err(|_| Errno::Ilseq)
    }

    fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<(), Errno> {
        let file = self.locate(path, follow)?;
        fs::utimensat(file, "", &timestamps(times)?, AtFlags::EMPTY_PATH).map_err(errno)
    }

    fn sync_directory(&self, path: &str) -> Result<(), Errno> {
        fs::fsync(self.read_directory(path)?).map_err(errno)
    }
}

/// A regular file of the host. Its file description holds nothing that matters: the position in it
/// is used within [`File::append`] only.
#[derive(Debug)]
struct HostFile {
    file: OwnedFd,
    /// The kernel knows no file that can be neither read nor written.
    readable: bool,
}

impl File for HostFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if !self.readable {
            return Err(Errno::Badf);
        }
        retry_on_intr(|| io::pread(&self.file, &mut *buffer, checked(offset)?)).map_err(errno)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        retry_on_intr(|| io::pwrite(&self.file, bytes, checked(offset)?)).map_err(errno)
    }

    fn append(&self, bytes: &[u8]) -> Result<Appended, Errno> {
        // The offset that is none: at and with the position of the file description, which then
        // tells where the end was.
        let here = u64::MAX;
        let bytes = [IoSlice::new(bytes)];
        let count =
            retry_on_intr(|| io::pwritev2(&self.file, &bytes, here, ReadWriteFlags::APPEND))
                .map_err(errno)?;
        let end = fs::tell(&self.file).map_err(errno)?;
        Ok(Appended { count, end })
    }

    fn set_len(&self, len: u64) -> Result<(), Errno> {
        let len = checked(len).map_err(errno)?;
        match retry_on_intr(|| fs::ftruncate(&self.file, len)) {
            // The kernel's word for a file that is open for reading only.
            Err(io::Errno::INVAL) => Err(Errno::Badf),
            done => done.map_err(errno),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let (offset, len) = (
            checked(offset).map_err(errno)?,
            checked(len).map_err(errno)?,
        );
        retry_on_intr(|| fs::fallocate(&self.file, FallocateFlags::empty(), offset, len))
            .map_err(errno)
    }

    fn sync(&self) -> Result<(), Errno> {
        retry_on_intr(|| fs::fsync(&self.file)).map_err(errno)
    }

    fn datasync(&self) -> Result<(), Errno> {
        retry_on_intr(|| fs::fdatasync(&self.file)).map_err(errno)
    }

    fn set_times(&self, times: Times) -> Result<(), Errno> {
        fs::futimens(&self.file, &timestamps(times)?).map_err(errno)
    }

    fn stat(&self) -> Result<Stat, Errno> {
        stat(&self.file)
    }
}

/// No path leads out, and none through the magic links of `/proc`.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

fn open_flags(how: How) -> OFlags {
    let mut flags = match (how.read, how.write) {
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
        (true, true) => OFlags::RDWR,
    };
    // A pipe or device must neither block the cell here nor become the terminal of the host.
    flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::CREATE, how.create);
    flags.set(OFlags::EXCL, how.create && how.exclusive);
    flags.set(OFlags::TRUNC, how.truncate);
    flags.set(OFlags::DIRECTORY, how.directory);
    flags.set(OFlags::NOFOLLOW, !how.follow);
    flags
}

/// The kernel takes offsets as signed numbers, and -1 is more than an offset to it.
fn checked(offset: u64) -> io::Result<u64> {
    if i64::try_from(offset).is_ok() {
        Ok(offset)
    } else {
        Err(io::Errno::INVAL)
    }
}

fn stat(file: impl AsFd) -> Result<Stat, Errno> {
    let stat = fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(errno)?;
    Ok(Stat {
        device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        kind: kind(FileType::from_raw_mode(stat.stx_mode.into())),
        links: stat.stx_nlink.into(),
        size: stat.stx_size,
        accessed_ns: nanoseconds(stat.stx_atime),
        modified_ns: nanoseconds(stat.stx_mtime),
        changed_ns: nanoseconds(stat.stx_ctime),
    })
}

fn kind(kind: FileType) -> Kind {
    match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::SymbolicLink,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo | FileType::Unknown => Kind::Unknown,
    }
}

/// Times before 1970 are 1970: there is no way to say them in WASI.
fn nanoseconds(time: fs::StatxTimestamp) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec.into())
}

fn timestamps(times: Times) -> Result<fs::Timestamps, Errno> {
    let time = |time| {
        let (tv_sec, tv_nsec) = match time {
            Time::Keep => (0, fs::UTIME_OMIT),
            Time::Now => (0, fs::UTIME_NOW),
            Time::At(ns) => {
                let seconds = i64::try_from(ns / 1_000_000_000).map_err(|_| Errno::Inval)?;
                let rest = i64::try_from(ns % 1_000_000_000).map_err(|_| Errno::Inval)?;
                (seconds, rest)
            }
        };
        Ok(fs::Timespec { tv_sec, tv_nsec })
    };
    Ok(fs::Timestamps {
        last_access: time(times.accessed)?,
        last_modification: time(times.modified)?,
    })
}

/// What the kernel says, in WASI's numbers.
fn errno(errno: io::Errno) -> Errno {
    use io::Errno as Os;
    match errno {
        Os::ACCESS => Errno::Acces,
        Os::AGAIN => Errno::Again,
        Os::BADF => Errno::Badf,
        Os::BUSY => Errno::Busy,
        Os::DQUOT => Errno::Dquot,
        Os::EXIST => Errno::Exist,
        Os::FAULT => Errno::Fault,
        Os::FBIG => Errno::Fbig,
        Os::ILSEQ => Errno::Ilseq,
        Os::INTR => Errno::Intr,
        Os::INVAL => Errno::Inval,
        Os::ISDIR => Errno::IsDir,
        Os::LOOP => Errno::Loop,
        Os::MFILE | Os::NFILE => Errno::Nfile,
        Os::MLINK => Errno::Mlink,
        Os::NAMETOOLONG => Errno::NameTooLong,
        Os::NODEV => Errno::NoDev,
        Os::NOENT => Errno::NoEnt,
        Os::NOLCK => Errno::NoLck,
        Os::NOMEM => Errno::NoMem,
        Os::NOSPC => Errno::NoSpc,
        Os::NOSYS => Errno::NoSys,
        Os::NOTDIR => Errno::NotDir,
        Os::NOTEMPTY => Errno::NotEmpty,
        Os::NXIO => Errno::Nxio,
        Os::OPNOTSUPP => Errno::NotSup,
        Os::OVERFLOW => Errno::Overflow,
        Os::PERM => Errno::Perm,
        Os::PIPE => Errno::Pipe,
        Os::ROFS => Errno::Rofs,
        Os::SPIPE => Errno::Spipe,
        Os::STALE => Errno::Stale,
        Os::TIMEDOUT => Errno::TimedOut,
        Os::TXTBSY => Errno::TxtBsy,
        Os::XDEV => Errno::Xdev,
        _ => Errno::Io,
    }
}
