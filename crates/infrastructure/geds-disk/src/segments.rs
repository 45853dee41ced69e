//! The segment files: made ahead, written in place, synced together.
//!
//! All blocks of a segment are written once, with zeros, before it gets its name. So no sync of what is written there later has metadata to
//! write; on ext4 that halves what a synced write of 4 MiB costs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use geds_core::extents::{PAGE_BYTES, SegmentNo};
use wal::{Disk, DiskFile};

use super::aligned::{Aligned, PAGE, is_aligned, whole_pages};
use super::sync::Together;
use crate::core::catalogue::Place;

const PREFIX: &str = "tier1-segment-";
const MAKING: &str = "tier1-making-";

/// What does not lie on whole pages goes through memory that does; so much at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// So many such buffers are kept.
const BUFFERS_KEPT: usize = 4;
/// Less is cheaper to copy than to write on its own.
const DIRECT_BYTES_MIN: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    pages: u32,
    files: RwLock<BTreeMap<SegmentNo, Arc<Segment>>>,
    next: AtomicU64,
    buffers: Mutex<Vec<Aligned>>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    syncs: Together,
}

impl Segment {
    fn new(file: Arc<dyn DiskFile>) -> Arc<Self> {
        let syncs = Together::default();
        Arc::new(Self { file, syncs })
    }
}

impl Segments {
    /// Opens those that there are, and tells their sizes in pages. New ones will have so many pages.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        pages: u32,
    ) -> io::Result<(Self, Vec<(SegmentNo, u32)>)> {
        let mut files = BTreeMap::new();
        let mut sizes = Vec::new();
        for name in disk.list()? {
            if name.starts_with(MAKING) {
                disk.remove(&name)?;
            }
            let Some(segment) = parse(&name) else {
                continue;
            };
            let file = disk.open(&name)?;
            let size = file.size()?;
            // It has its room already. But before it answers, the kernel waits for what an owner that was killed had under way.
            file.allocate(size)?;
            let pages = u32::try_from(size / PAGE_BYTES).unwrap_or(u32::MAX);
            if pages > 0 {
                files.insert(segment, Segment::new(file));
                sizes.push((segment, pages));
            }
        }
        let last = files.keys().next_back().map_or(0, |last| last.0);
        let segments = Self {
            disk,
            pages,
            files: RwLock::new(files),
            next: AtomicU64::new(last + 1),
            buffers: Mutex::default(),
        };
        Ok((segments, sizes))
    }

    /// Numbers up to that one will not be given to new segments.
    pub(crate) fn skip(&self, segment: SegmentNo) {
        let next = segment.0.saturating_add(1);
        self.next.fetch_max(next, Ordering::Relaxed);
    }

    /// Makes another one.
    pub(crate) fn make(&self) -> io::Result<(SegmentNo, u32)> {
        let segment = SegmentNo(self.next.fetch_add(1, Ordering::Relaxed));
        let making = format!("{MAKING}{:016x}", segment.0);
        let made = self.disk.create(&making).and_then(|file| {
            self.fill(&*file)?;
            self.disk.rename(&making, &name_of(segment))?;
            self.disk.sync()?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
                files.insert(segment, Segment::new(file));
                Ok((segment, self.pages))
            }
            Err(error) => {
                // If it cannot be removed either, the next owner does it.
                self.disk.remove(&making).ok();
                Err(error)
            }
        }
    }

    fn fill(&self, file: &dyn DiskFile) -> io::Result<()> {
        let bytes = u64::from(self.pages) * PAGE_BYTES;
        file.allocate(bytes)?;
        let zeros = Aligned::zeroed(BUFFER_BYTES);
        let mut offset = 0;
        while offset < bytes {
            let n = usize::try_from(bytes - offset).map_or(BUFFER_BYTES, |n| n.min(BUFFER_BYTES));
            file.write_at(&zeros[..n], offset)?;
            offset += n as u64;
        }
        file.sync()
    }

    fn segment(&self, segment: SegmentNo) -> io::Result<Arc<Segment>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let found = files.get(&segment).map(Arc::clone);
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes the pieces one after the other to the places, one after the other; what is left of the last page becomes zero.
    pub(crate) fn write(&self, places: Vec<Place>, pieces: &[&[u8]]) -> io::Result<()> {
        let mut out = Out {
            segments: self,
            places: joined(places).into_iter(),
            place: None,
            buffer: self.buffer(),
            n_filled: 0,
        };
        pieces.iter().try_for_each(|piece| out.append(piece))?;
        out.finish()?;
        self.keep(out.buffer);
        Ok(())
    }

    pub(crate) fn buffer(&self) -> Aligned {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = buffers.pop();
        drop(buffers);
        kept.unwrap_or_else(|| Aligned::zeroed(BUFFER_BYTES))
    }

    pub(crate) fn keep(&self, buffer: Aligned) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(buffer);
        }
    }

    /// Reads what lies from `offset` on, counted from the beginning of the first place. `offset` is, and `into` has, whole pages.
    pub(crate) fn read(
        &self,
        places: impl Iterator<Item = Place>,
        mut offset: u64,
        mut into: &mut [u8],
    ) -> io::Result<()> {
        for place in places {
            if into.is_empty() {
                break;
            }
            let bytes = u64::from(place.pages) * PAGE_BYTES;
            if offset >= bytes {
                offset -= bytes;
                continue;
            }
            let n = usize::try_from(bytes - offset).map_or(into.len(), |n| n.min(into.len()));
            let (now, later) = into.split_at_mut(n);
            let start = u64::from(place.first) * PAGE_BYTES + offset;
            self.segment(place.segment)?.file.read_at(now, start)?;
            (offset, into) = (0, later);
        }
        if into.is_empty() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Makes what was written to the places durable.
    pub(crate) fn sync(&self, places: impl Iterator<Item = Place>) -> Result<(), Arc<io::Error>> {
        let segments: BTreeSet<_> = places.map(|place| place.segment).collect();
        for segment in segments {
            let segment = self.segment(segment).map_err(Arc::new)?;
            segment.syncs.sync(|| segment.file.sync())?;
        }
        Ok(())
    }
}

fn name_of(segment: SegmentNo) -> String {
    format!("{PREFIX}{:016x}", segment.0)
}

fn parse(name: &str) -> Option<SegmentNo> {
    let number = u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    (name_of(SegmentNo(number)) == name).then_some(SegmentNo(number))
}

/// Neighbours are one.
fn joined(places: Vec<Place>) -> Vec<Place> {
    let mut joined: Vec<Place> = Vec::with_capacity(places.len());
    for place in places {
        match joined.last_mut() {
            Some(last)
                if last.segment == place.segment && last.first + last.pages == place.first =>
            {
                last.pages += place.pages;
            }
            _ => joined.push(place),
        }
    }
    joined
}

/// Bytes on their way to their places.
struct Out<'a> {
    segments: &'a Segments,
    places: std::vec::IntoIter<Place>,
    /// Where the next bytes go, and how far that reaches.
    place: Option<(Arc<Segment>, u64, u64)>,
    buffer: Aligned,
    n_filled: usize,
}

impl Out<'_> {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let can_be_direct = is_aligned(bytes) && whole_pages(self.n_filled) == self.n_filled;
            let n_direct = whole_pages(bytes.len());
            if can_be_direct && n_direct >= DIRECT_BYTES_MIN {
                self.flush()?;
                self.put(&bytes[..n_direct])?;
                bytes = &bytes[n_direct..];
                continue;
            }
            let room = &mut self.buffer[self.n_filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.n_filled += now.len();
            bytes = later;
            if self.n_filled == self.buffer.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let end = self.n_filled.next_multiple_of(PAGE);
        self.buffer[self.n_filled..end].fill(0);
        self.n_filled = end;
        self.flush()
    }

    /// Writes what is in the buffer: whole pages.
    fn flush(&mut self) -> io::Result<()> {
        let buffer = std::mem::replace(&mut self.buffer, Aligned::zeroed(0));
        let result = self.put(&buffer[..self.n_filled]);
        self.buffer = buffer;
        self.n_filled = 0;
        result
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (segment, start, end) = match self.place.take() {
                Some(place) => place,
                None => {
                    let place = self.places.next().ok_or(io::ErrorKind::UnexpectedEof)?;
                    let start = u64::from(place.first) * PAGE_BYTES;
                    let end = start + u64::from(place.pages) * PAGE_BYTES;
                    (self.segments.segment(place.segment)?, start, end)
                }
            };
            let n = usize::try_from(end - start).map_or(bytes.len(), |n| n.min(bytes.len()));
            segment.file.write_at(&bytes[..n], start)?;
            let start = start + n as u64;
            bytes = &bytes[n..];
            if start < end {
                self.place = Some((segment, start, end));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
