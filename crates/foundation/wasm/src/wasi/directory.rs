//! Reading directories: `fd_readdir`.
//!
//! A guest reads a directory in several calls and says each time, by a cookie, how far it has come.
//! Between two calls it may move to another host, whose file system lists in another order or under
//! other cookies. So the order and the cookies are ours: names in the order of a hash, and the hash
//! is the cookie. An entry that stays has its place in every listing, whatever comes and goes
//! around it.

use super::call::Call;
use super::table::Place;
use super::types::filetype;
use super::{Errno, Wasi};
use crate::vfs::{Entry, Kind};

/// The directory that is being read.
#[derive(Debug)]
pub(super) struct Listing {
    /// The descriptor that it is read through.
    fd: u32,
    entries: Vec<Listed>,
}

#[derive(Debug)]
struct Listed {
    /// Says "behind this entry".
    cookie: u64,
    entry: Entry,
}

impl Call<'_> {
    /// Fills the buffer; the last entry is cut where the buffer ends, and says so to the guest: a
    /// full buffer means there is more.
    pub(super) fn fd_readdir(
        &mut self,
        fd: u32,
        at: u32,
        len: u32,
        cookie: u64,
        result: u32,
    ) -> Result<(), Errno> {
        self.memory.get(result, 4)?;
        let listing = self.host.wasi().listing(fd, cookie)?;
        let buffer = self.memory.get_mut(at, len)?;
        let start = listing
            .entries
            .partition_point(|listed| listed.cookie <= cookie);
        let mut used = 0;
        for listed in &listing.entries[start..] {
            let header = listed.header()?;
            for bytes in [&header[..], listed.entry.name.as_bytes()] {
                let room = &mut buffer[used..];
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                used += count;
            }
            if used == buffer.len() {
                break;
            }
        }
        self.memory.put_len(result, used)
    }
}

impl Wasi {
    /// The listing to go on with at `cookie`: a new one at the start, or if it is gone.
    fn listing(&mut self, fd: u32, cookie: u64) -> Result<&Listing, Errno> {
        let at = self.table.directory(fd)?;
        let current = self
            .listing
            .take()
            .filter(|listing| cookie != 0 && listing.fd == fd);
        let listing = match current {
            Some(listing) => listing,
            None => Listing {
                fd,
                entries: list(self, at)?,
            },
        };
        Ok(self.listing.insert(listing))
    }

    /// To call when `fd` is no longer the directory that it was.
    pub(super) fn forget_listing(&mut self, fd: u32) {
        self.listing.take_if(|listing| listing.fd == fd);
    }
}

impl Listed {
    /// `dirent`.
    fn header(&self) -> Result<[u8; 24], Errno> {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.cookie.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.entry.inode.to_le_bytes());
        let len = u32::try_from(self.entry.name.len()).map_err(|_| Errno::Overflow)?;
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        bytes[20] = filetype(self.entry.kind);
        Ok(bytes)
    }
}

/// The entries of a directory in our order, `.` and `..` first.
fn list(wasi: &Wasi, at: &Place) -> Result<Vec<Listed>, Errno> {
    let vfs = wasi.vfs(at);
    let mut entries: Vec<(u64, Entry)> = vfs
        .entries(&at.path)?
        .into_iter()
        .map(|entry| (hash(&entry.name), entry))
        .collect();
    entries.sort_unstable_by(|(a, first), (b, second)| {
        a.cmp(b).then_with(|| first.name.cmp(&second.name))
    });

    let own = vfs.stat(&at.path, true)?.inode;
    // The root is its own parent, as the guest sees it.
    let above = vfs
        .stat(&format!("{}/..", at.path), true)
        .map_or(own, |stat| stat.inode);
    let mut listed = Vec::with_capacity(entries.len() + 2);
    for (cookie, name, inode) in [(1, ".", own), (2, "..", above)] {
        listed.push(Listed {
            cookie,
            entry: Entry {
                name: name.to_owned(),
                inode,
                kind: Kind::Directory,
            },
        });
    }
    let mut last = 2;
    for (hash, entry) in entries {
        // Names with the same hash get cookies one after the other.
        last = hash.max(last + 1);
        listed.push(Listed {
            cookie: last,
            entry,
        });
    }
    Ok(listed)
}

/// 30 bits, so that the cookies fit in the `long` of `telldir`.
fn hash(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d]) >> 2)
}
