//! The two files that hold snapshots of the catalogue.
//!
//! Each holds one, with its head written and synced last. While one file is written over, the other is whole; after that it is written over
//! too, with the same edition. So between checkpoints there are two copies of what nothing else tells.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wal::{Disk, DiskFile};

use super::aligned::{Aligned, PAGE};
use super::format::{
    self, BLOCKS_AT, Head, PAYLOAD_BYTES, Reader, SNAPSHOT_BLOCK_BYTES, payload_mut,
};
use crate::core::catalogue::{Entry, Weight};

const NAMES: [&str; 2] = ["tier1-catalogue-0", "tier1-catalogue-1"];

#[derive(Debug)]
pub(crate) struct Snapshots {
    files: [Arc<dyn DiskFile>; 2],
    /// How many blocks both files have room for. Room is taken before it is needed, so that there always is a way to shorten the log.
    blocks: AtomicU64,
    growing: Mutex<()>,
}

impl Snapshots {
    /// Opens the files, makes them where they are missing, and reads their heads.
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<(Self, [Option<Head>; 2])> {
        let names = disk.list()?;
        let open = |name: &str| {
            if names.iter().any(|there| there == name) {
                return disk.open(name);
            }
            disk.create(name)
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        let snapshots = Self {
            files,
            blocks: AtomicU64::new(0),
            growing: Mutex::default(),
        };
        let mut heads = [None; 2];
        let mut n_blocks = u64::MAX;
        for (file, head) in snapshots.files.iter().zip(&mut heads) {
            let size = file.size()?;
            n_blocks = n_blocks.min(size.saturating_sub(BLOCKS_AT) / SNAPSHOT_BLOCK_BYTES as u64);
            *head = read_head(&**file)?;
        }
        if n_blocks == 0 {
            snapshots.resize(1)?;
            disk.sync()?;
        } else {
            snapshots.blocks.store(n_blocks, Ordering::Relaxed);
        }
        Ok((snapshots, heads))
    }

    fn resize(&self, n_blocks: u64) -> io::Result<()> {
        let bytes = BLOCKS_AT + n_blocks * SNAPSHOT_BLOCK_BYTES as u64;
        for file in &self.files {
            if file.size()? < bytes {
                file.allocate(bytes)?;
            }
        }
        self.blocks.store(n_blocks, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is room for a catalogue of that weight, twice: it may change while its snapshot is made.
    pub(crate) fn has_room(&self, weight: Weight) -> bool {
        let payload = self.blocks.load(Ordering::Relaxed) * PAYLOAD_BYTES as u64;
        2 * format::entries_bytes(weight) <= payload
    }

    /// Makes that room, and more.
    pub(crate) fn grow(&self, weight: Weight) -> io::Result<()> {
        let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_room(weight) {
            return Ok(());
        }
        let n_blocks = (2 * format::entries_bytes(weight)).div_ceil(PAYLOAD_BYTES as u64);
        self.resize(n_blocks.next_power_of_two())
    }

    /// What a head tells of. `None`: it is damaged.
    pub(crate) fn load(&self, copy: usize, head: Head) -> io::Result<Option<Loaded>> {
        let mut payload = Vec::new();
        let mut block = Aligned::zeroed(SNAPSHOT_BLOCK_BYTES);
        for number in 0..head.blocks {
            let offset = BLOCKS_AT + number * SNAPSHOT_BLOCK_BYTES as u64;
            match self.files[copy].read_at(&mut block, offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                result => result?,
            }
            let Some(bytes) = format::open_block(&block, head.edition, number) else {
                return Ok(None);
            };
            payload.extend_from_slice(bytes);
        }
        let mut reader = Reader(&payload);
        let mut n_entries = 0;
        while reader.entry().is_ok() {
            n_entries += 1;
        }
        let is_whole = reader.0.is_empty() && n_entries == head.entries;
        Ok(is_whole.then_some(Loaded { payload, at: 0 }))
    }

    /// The edition of a copy. `None`: it is damaged.
    pub(crate) fn check(&self, copy: usize) -> io::Result<Option<u64>> {
        let Some(head) = read_head(&*self.files[copy])? else {
            return Ok(None);
        };
        let loaded = self.load(copy, head)?;
        Ok(loaded.map(|_| head.edition))
    }

    /// Writes over one of the files.
    pub(crate) fn begin(&self, copy: usize, edition: u64) -> Writing<'_> {
        Writing {
            file: &*self.files[copy],
            blocks_max: self.blocks.load(Ordering::Relaxed),
            edition,
            block: Aligned::zeroed(SNAPSHOT_BLOCK_BYTES),
            n_filled: 0,
            n_blocks: 0,
            n_entries: 0,
        }
    }
}

fn read_head(file: &dyn DiskFile) -> io::Result<Option<Head>> {
    let mut page = Aligned::zeroed(PAGE);
    match file.read_at(&mut page, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        result => result.map(|()| Head::decode(&page)),
    }
}

/// The entries of a snapshot that was found whole.
#[derive(Debug)]
pub(crate) struct Loaded {
    payload: Vec<u8>,
    at: usize,
}

impl Iterator for Loaded {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut reader = Reader(&self.payload[self.at..]);
        let entry = reader.entry().ok()?;
        self.at = self.payload.len() - reader.0.len();
        Some(entry)
    }
}

/// A snapshot while it is written.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    file: &'a dyn DiskFile,
    blocks_max: u64,
    edition: u64,
    block: Aligned,
    n_filled: usize,
    n_blocks: u64,
    n_entries: u64,
}

impl Writing<'_> {
    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(64);
        format::push_entry(&mut bytes, entry);
        self.n_entries += 1;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = &mut payload_mut(&mut self.block)[self.n_filled..];
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.n_filled += now.len();
            rest = later;
            if self.n_filled == PAYLOAD_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.n_blocks == self.blocks_max {
            // The catalogue has grown a lot since it was begun.
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        format::seal_block(&mut self.block, self.edition, self.n_blocks, self.n_filled);
        let offset = BLOCKS_AT + self.n_blocks * SNAPSHOT_BLOCK_BYTES as u64;
        self.file.write_at(&self.block, offset)?;
        self.n_blocks += 1;
        self.n_filled = 0;
        Ok(())
    }

    /// Makes it durable, and the snapshot that counts.
    pub(crate) fn finish(mut self, position: wal::Position, epoch: u64) -> io::Result<Head> {
        if self.n_filled > 0 {
            self.write_block()?;
        }
        self.file.sync()?;
        let head = Head {
            edition: self.edition,
            position,
            epoch,
            blocks: self.n_blocks,
            entries: self.n_entries,
        };
        let mut page = Aligned::zeroed(PAGE);
        head.encode(&mut page);
        self.file.write_at(&page, 0)?;
        self.file.sync()?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests;
