//! The numbers and layouts of preview 1.

use super::{Clock, Errno};
use crate::vfs::{Kind, Stat, Time, Times};

pub(super) mod rights {
    pub(in crate::wasi) const FD_DATASYNC: u64 = 1;
    pub(in crate::wasi) const FD_READ: u64 = 1 << 1;
    pub(in crate::wasi) const FD_SEEK: u64 = 1 << 2;
    pub(in crate::wasi) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(in crate::wasi) const FD_SYNC: u64 = 1 << 4;
    pub(in crate::wasi) const FD_TELL: u64 = 1 << 5;
    pub(in crate::wasi) const FD_WRITE: u64 = 1 << 6;
    pub(in crate::wasi) const FD_ADVISE: u64 = 1 << 7;
    pub(in crate::wasi) const FD_ALLOCATE: u64 = 1 << 8;
    pub(in crate::wasi) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(in crate::wasi) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub(in crate::wasi) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
    pub(in crate::wasi) const POLL_FD_READWRITE: u64 = 1 << 27;

    /// What any file can.
    pub(in crate::wasi) const FILE: u64 = FD_SEEK
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_DATASYNC
        | FD_TELL
        | FD_ADVISE
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | POLL_FD_READWRITE;
    /// What a file can that is open for writing.
    pub(in crate::wasi) const FILE_WRITE: u64 = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;
    /// What a stream can.
    pub(in crate::wasi) const STREAM: u64 =
        FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;
    /// What a directory can: all that begins with `PATH_` but the truncation by path, which there
    /// is no call for, and then a few.
    pub(in crate::wasi) const DIRECTORY: u64 = FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_DATASYNC
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | (0x1ff << 9)
        | (1 << 18)
        | (1 << 20)
        | (0x7 << 24);
    /// What can be asked for below a directory.
    pub(in crate::wasi) const ALL: u64 = FILE | FILE_WRITE | FD_READ | DIRECTORY;
}

/// Writes go to the end.
pub(super) const FDFLAG_APPEND: u16 = 1;
/// A write is durable when it returns, its content (`DSYNC`) or everything (`SYNC`).
pub(super) const FDFLAG_DSYNC: u16 = 1 << 1;
pub(super) const FDFLAG_SYNC: u16 = 1 << 4;
/// With the two that need no doing: not to block, and to read what is durable.
pub(super) const FDFLAGS: u16 = 0x1f;

/// The number of a kind of file.
pub(super) fn filetype(kind: Kind) -> u8 {
    match kind {
        Kind::Unknown => 0,
        Kind::BlockDevice => 1,
        Kind::CharacterDevice => 2,
        Kind::Directory => 3,
        Kind::File => 4,
        Kind::Socket => 6,
        Kind::SymbolicLink => 7,
    }
}

/// The clock with this number.
pub(super) fn clock(id: u32) -> Result<Clock, Errno> {
    match id {
        0 => Ok(Clock::Realtime),
        1 => Ok(Clock::Monotonic),
        2 => Ok(Clock::ProcessCpu),
        3 => Ok(Clock::ThreadCpu),
        _ => Err(Errno::Inval),
    }
}

/// `filestat`.
pub(super) fn filestat(stat: &Stat) -> [u8; 64] {
    let fields = [
        stat.device,
        stat.inode,
        filetype(stat.kind).into(),
        stat.links,
        stat.size,
        stat.accessed_ns,
        stat.modified_ns,
        stat.changed_ns,
    ];
    let mut bytes = [0; 64];
    for (place, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
        *place = field.to_le_bytes();
    }
    bytes
}

/// `fdstat`.
pub(super) fn fdstat(kind: Kind, flags: u16, base: u64, inheriting: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0] = filetype(kind);
    bytes[2..4].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    bytes[16..].copy_from_slice(&inheriting.to_le_bytes());
    bytes
}

/// `fstflags` and the times that belong to them.
pub(super) fn times(accessed_ns: u64, modified_ns: u64, flags: u32) -> Result<Times, Errno> {
    let time = |set: bool, now: bool, ns: u64| match (set, now) {
        (false, false) => Ok(Time::Keep),
        (true, false) => Ok(Time::At(ns)),
        (false, true) => Ok(Time::Now),
        (true, true) => Err(Errno::Inval),
    };
    if flags > 0xf {
        return Err(Errno::Inval);
    }
    Ok(Times {
        accessed: time(flags & 1 != 0, flags & 2 != 0, accessed_ns)?,
        modified: time(flags & 4 != 0, flags & 8 != 0, modified_ns)?,
    })
}
