//! The descriptors of a guest.

use crate::vfs::{File, Stat, Vfs};

use super::{Errno, Stream, Wasi};

/// As many descriptors may be open.
pub(super) const DESCRIPTORS_MAX: usize = 1024;

/// The descriptors by their numbers.
#[derive(Debug)]
pub(super) struct Table(Vec<Option<Descriptor>>);

/// What a descriptor stands for.
#[derive(Debug)]
pub(super) enum Descriptor {
    /// An empty input.
    Stdin,
    /// Output that the host takes.
    Output(Stream),
    /// A directory: a place to start paths from. It holds no handle, so that it costs nothing and
    /// has nothing to lose.
    Directory(Place),
    /// A regular file.
    File(OpenFile),
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) at: Place,
    pub(super) read: bool,
    pub(super) write: bool,
    /// `fdflags`.
    pub(super) flags: u16,
    pub(super) offset: u64,
    pub(super) file: Box<dyn File>,
}

/// Where something is, and what was there when it was opened.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Index of the mount.
    pub(super) mount: usize,
    /// The path below it, without empty parts and `.`; the root is `.`.
    pub(super) path: String,
    /// The file's device and inode. None for the roots of the mounts that the guest finds open at
    /// its start.
    pub(super) identity: Option<(u64, u64)>,
}

impl Place {
    pub(super) fn new(mount: usize, path: &str, stat: &Stat) -> Self {
        Self {
            mount,
            path: tidy(path),
            identity: Some((stat.device, stat.inode)),
        }
    }
}

impl Table {
    /// Input, output, and the mounts from descriptor 3 on, as wasi-libc expects them.
    pub(super) fn new(mounts: usize) -> Self {
        let mut table = vec![
            Some(Descriptor::Stdin),
            Some(Descriptor::Output(Stream::Stdout)),
            Some(Descriptor::Output(Stream::Stderr)),
        ];
        for mount in 0..mounts {
            let at = Place {
                mount,
                path: ".".to_owned(),
                identity: None,
            };
            table.push(Some(Descriptor::Directory(at)));
        }
        Self(table)
    }

    pub(super) fn from_slots(slots: Vec<Option<Descriptor>>) -> Self {
        Self(slots)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Option<&Descriptor>> {
        self.0.iter().map(Option::as_ref)
    }

    pub(super) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        index(fd)
            .and_then(|fd| self.0.get(fd)?.as_ref())
            .ok_or(Errno::Badf)
    }

    pub(super) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        index(fd)
            .and_then(|fd| self.0.get_mut(fd)?.as_mut())
            .ok_or(Errno::Badf)
    }

    /// A file; what is none says so in the words of POSIX.
    pub(super) fn file(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        match self.get_mut(fd)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Directory(_) => Err(Errno::IsDir),
            Descriptor::Stdin | Descriptor::Output(_) => Err(Errno::Spipe),
        }
    }

    pub(super) fn directory(&self, fd: u32) -> Result<&Place, Errno> {
        match self.get(fd)? {
            Descriptor::Directory(at) => Ok(at),
            _ => Err(Errno::NotDir),
        }
    }

    /// Refuses when there is no room, for who must not have opened something in vain.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        let full = self.0.len() >= DESCRIPTORS_MAX && self.0.iter().all(Option::is_some);
        if full { Err(Errno::Mfile) } else { Ok(()) }
    }

    /// Takes the lowest free number, so that it is the same in every run.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.check_room()?;
        let fd = self
            .0
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.0.len());
        match self.0.get_mut(fd) {
            Some(slot) => *slot = Some(descriptor),
            None => self.0.push(Some(descriptor)),
        }
        u32::try_from(fd).map_err(|_| Errno::Mfile)
    }

    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        index(fd)
            .and_then(|fd| self.0.get_mut(fd)?.take())
            .ok_or(Errno::Badf)
    }

    /// Puts `from` where `to` is, and closes what was there. Both must be open.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(to)?;
        self.get(from)?;
        if from != to {
            let moved = self.remove(from)?;
            *self.get_mut(to)? = moved;
        }
        Ok(())
    }

    /// Notes that the guest has renamed something, so that what is open there can still be found.
    pub(super) fn renamed(&mut self, mount: usize, from: &str, to: &str) {
        let (from, to) = (tidy(from), tidy(to));
        for descriptor in self.0.iter_mut().flatten() {
            let at = match descriptor {
                Descriptor::File(file) => &mut file.at,
                Descriptor::Directory(at) => at,
                Descriptor::Stdin | Descriptor::Output(_) => continue,
            };
            if at.mount != mount {
                continue;
            }
            match at.path.strip_prefix(&from) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    at.path = format!("{to}{rest}")
                }
                _ => {}
            }
        }
    }
}

impl Wasi {
    pub(super) fn vfs(&self, at: &Place) -> &dyn Vfs {
        &*self.mounts[at.mount].vfs
    }
}

/// `path` without empty parts and `.`, or `.` alone.
fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

fn index(fd: u32) -> Option<usize> {
    usize::try_from(fd).ok()
}
