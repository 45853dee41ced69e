//! The file systems that guests see.
//!
//! A [`Vfs`] is one tree of files, mounted into a guest under some path. It is the only way from a
//! guest to files, and it is narrow: names in, names and bytes out. Nothing in it is tied to a
//! process or a host, so that a cell which moves can say "this path, this access, this offset" and
//! go on elsewhere.
//!
//! [`HostDir`] is a directory of the host. [`contract`] is what every implementation must pass.

mod contract;
mod errno;
mod host;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use contract::contract;
pub use errno::Errno;
pub use host::HostDir;

/// The longest path that is looked up.
pub const PATH_BYTES_MAX: usize = 4096;

/// A directory with more entries cannot be listed.
pub const ENTRIES_MAX: usize = 1 << 18;

/// A tree of files.
///
/// # Contract
/// - Paths are relative to the root of the tree, with `/` between the parts; `.` is the root. `..`
///   and symbolic links are followed like on POSIX, but a path that leaves the tree, if only for
///   one step, is refused with [`Errno::Perm`]; so is an absolute path or link. No input reaches
///   anything outside the tree, also when others change the tree meanwhile.
/// - An empty path is [`Errno::NoEnt`]; a path with a NUL byte is [`Errno::Inval`]; a path longer
///   than [`PATH_BYTES_MAX`] is [`Errno::NameTooLong`].
/// - A path that ends in `/` means a directory. `follow` says whether a symbolic link in the last
///   part is followed; in calls without it, the link itself is meant.
/// - Names that are not UTF-8 are not visible.
/// - No call blocks for longer than the medium below takes: what is neither file nor directory is
///   not opened, but refused with [`Errno::Acces`].
/// - Opening a path again with the same access leads to the same file as long as nobody moves or
///   removes it: the pair ([`Stat::device`], [`Stat::inode`]) says whether it does.
pub trait Vfs: Debug + Send + Sync {
    /// Opens a file, or makes sure that a directory can be used.
    fn open(&self, path: &str, how: How) -> Result<Opened, Errno>;
    /// What `path` is.
    fn stat(&self, path: &str, follow: bool) -> Result<Stat, Errno>;
    /// All entries of a directory but `.` and `..`, in any order. More than [`ENTRIES_MAX`] are
    /// [`Errno::Overflow`].
    fn entries(&self, path: &str) -> Result<Vec<Entry>, Errno>;
    /// Makes an empty directory.
    fn make_directory(&self, path: &str) -> Result<(), Errno>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &str) -> Result<(), Errno>;
    /// Removes a name of anything but a directory. Whoever has it open can go on using it.
    fn remove_file(&self, path: &str) -> Result<(), Errno>;
    /// Renames, and replaces what `to` was, atomically.
    fn rename(&self, from: &str, to: &str) -> Result<(), Errno>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> Result<(), Errno>;
    /// Makes a symbolic link. An absolute target is [`Errno::Perm`]: in the tree it means nothing,
    /// outside it might.
    fn symlink(&self, target: &str, path: &str) -> Result<(), Errno>;
    /// The target of a symbolic link; [`Errno::Inval`] if `path` is none.
    fn read_link(&self, path: &str) -> Result<String, Errno>;
    /// Sets the access and modification times.
    fn set_times(&self, path: &str, follow: bool, times: Times) -> Result<(), Errno>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &str) -> Result<(), Errno>;
}

/// An open file. It has no position: every call says where.
///
/// An offset above [`i64::MAX`] is [`Errno::Inval`]. A call that the access given at [`Vfs::open`]
/// does not allow is [`Errno::Badf`].
pub trait File: Debug + Send + Sync {
    /// Reads; 0 means the end of the file, or an empty buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Writes, and returns how much of `bytes` it took. Fills a gap before `offset` with zeros.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno>;
    /// Writes at the end of the file, wherever that is at this moment: others may append too, and
    /// nothing is lost or interleaved within one call.
    fn append(&self, bytes: &[u8]) -> Result<Appended, Errno>;
    /// Cuts the file, or extends it by zeros.
    fn set_len(&self, len: u64) -> Result<(), Errno>;
    /// Makes sure that there is room for these bytes, and that the file is at least that long.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), Errno>;
    /// Makes content and attributes durable.
    fn sync(&self) -> Result<(), Errno>;
    /// Makes the content durable.
    fn datasync(&self) -> Result<(), Errno>;
    /// Sets the access and modification times; needs no access to the content.
    fn set_times(&self, times: Times) -> Result<(), Errno>;
    /// What the file is now.
    fn stat(&self) -> Result<Stat, Errno>;
}

/// How to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Its content will be read.
    pub read: bool,
    /// Its content will be written; a directory is then [`Errno::IsDir`].
    pub write: bool,
    /// Make a file if there is none.
    pub create: bool,
    /// With `create`: there must be none, [`Errno::Exist`].
    pub exclusive: bool,
    /// Cut the file to nothing; the file must be writable, also if `write` is not set.
    pub truncate: bool,
    /// It must be a directory, [`Errno::NotDir`]. Not together with `create` or `truncate`,
    /// [`Errno::Inval`].
    pub directory: bool,
    /// Follow a symbolic link in the last part; else it is [`Errno::Loop`].
    pub follow: bool,
}

/// What was opened.
#[derive(Debug)]
pub enum Opened {
    /// A regular file and what it was at that moment.
    File(Box<dyn File>, Stat),
    /// A directory. It needs no handle: whoever wants something of it says its path again.
    Directory(Stat),
}

/// The outcome of [`File::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How much was taken.
    pub count: usize,
    /// The offset behind the last byte written.
    pub end: u64,
}

/// The attributes of a file. Times are in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// With `inode`: the identity of the file.
    pub device: u64,
    /// With `device`: the identity of the file.
    pub inode: u64,
    /// What kind of file it is.
    pub kind: Kind,
    /// How many names it has.
    pub links: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last read.
    pub accessed_ns: u64,
    /// When its content last changed.
    pub modified_ns: u64,
    /// When its attributes last changed.
    pub changed_ns: u64,
}

impl Stat {
    /// Whether both are of the same file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Also pipes.
    Unknown,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A symbolic link.
    SymbolicLink,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without any `/`.
    pub name: String,
    /// The inode that it leads to.
    pub inode: u64,
    /// The kind, or [`Kind::Unknown`] where finding out costs extra.
    pub kind: Kind,
}

/// New times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was last read.
    pub accessed: Time,
    /// When its content last changed.
    pub modified: Time,
}

/// A new time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Leave it as it is.
    Keep,
    /// The time of the call.
    Now,
    /// This time, in nanoseconds since 1970.
    At(u64),
}
