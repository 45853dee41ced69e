//! An object while it is written: private, and gone if it is not sealed.

use std::ops::Range;
use std::sync::Arc;

use geds_core::extents::PAGE_BYTES;
use geds_core::sums::Sums;
use geds_core::to_usize;
use geds_core::{Error, Kind, Result};

use super::memory::{Home, Pages};

/// Copied and summed at a time: short enough to be in the first cache when it is read again.
const BLOCK_BYTES: usize = 8 << 10;

/// An object whose length is not known gets at least so much room at a time, and as much again as it has, up to the most.
const ROOM_BYTES_MIN: u64 = 64 << 10;
const ROOM_BYTES_MAX: u64 = 16 << 20;

/// Writes an object. What it has written is seen by nobody; it is sealed by who made the writer, and given up when it is dropped.
#[derive(Debug)]
pub struct Writer {
    home: Arc<dyn Home>,
    pieces: Vec<Piece>,
    room: u64,
    len: u64,
    sums: Sums,
}

#[derive(Debug)]
struct Piece {
    /// Where it begins in the object.
    start: u64,
    pages: Pages,
}

/// An object that is written to its end.
#[derive(Debug)]
pub(crate) struct Written {
    pub pages: Vec<Pages>,
    pub len: u64,
    pub sums: Box<[u32]>,
}

impl Writer {
    pub(crate) fn new(home: Arc<dyn Home>) -> Self {
        Self {
            home,
            pieces: Vec::new(),
            room: 0,
            len: 0,
            sums: Sums::default(),
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it has of the memory, in bytes.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room
    }

    /// Makes room for an object of `len` bytes, in one piece if there is one.
    ///
    /// # Errors
    /// When there is no room. Then the writer has as much as before.
    pub fn reserve(&mut self, len: u64) -> Result<()> {
        self.make_room(len, 0)
    }

    /// # Errors
    /// When there is no room. Then nothing of `bytes` is written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.len, bytes)
    }

    /// Writes over what is there, and lengthens the object if `bytes` end behind its end. What lies between is zero.
    ///
    /// # Errors
    /// When there is no room. Then nothing of `bytes` is written.
    pub fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        let end = position
            .checked_add(bytes.len() as u64)
            .ok_or_else(|| Error::new(Kind::Invalid, "an object is not as long as that"))?;
        self.make_room(end, self.ahead())?;
        self.zero_to(position);
        self.put(position, bytes);
        self.len = self.len.max(end);
        Ok(())
    }

    /// Gives the object another length. What is added is zero.
    ///
    /// # Errors
    /// When there is no room. Then it has the length that it had.
    pub fn truncate(&mut self, len: u64) -> Result<()> {
        self.make_room(len, 0)?;
        self.zero_to(len);
        self.len = len;
        self.sums.truncate(len);
        Ok(())
    }

    /// What lies in a range of what is written, in order.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = &[u8]> {
        let end = range.end.min(self.len);
        let mut position = range.start;
        std::iter::from_fn(move || {
            if position >= end {
                return None;
            }
            let piece = &self.pieces[self.piece_at(position)];
            let bytes = &piece.pages.bytes()[to_usize(position - piece.start)..];
            let bytes = &bytes[..bytes.len().min(to_usize(end - position))];
            position += bytes.len() as u64;
            Some(bytes)
        })
    }

    /// The CRC32C of each 64 KiB of what is written.
    #[must_use]
    pub fn sums(&self) -> Box<[u32]> {
        self.sums.clone().finish(self.len, |range| self.sum(range))
    }

    fn sum(&self, range: Range<u64>) -> u32 {
        let append = |crc, bytes: &[u8]| crc32c::crc32c_append(crc, bytes);
        self.slices(range).fold(0, append)
    }

    /// Forgets what is written. Of its room, keeps so much.
    pub fn restart(&mut self, room: u64) {
        self.len = 0;
        self.sums.truncate(0);
        self.cut(room.min(self.room));
    }

    /// How many extents it has.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn is_at(&self, home: &Arc<dyn Home>) -> bool {
        Arc::ptr_eq(&self.home, home)
    }

    pub(crate) fn finish(mut self) -> Written {
        let sums = std::mem::take(&mut self.sums);
        let sums = sums.finish(self.len, |range| self.sum(range));
        self.cut(self.len);
        // Not collected in place: it would keep the room that the pieces had.
        let mut pages = Vec::with_capacity(self.pieces.len());
        pages.extend(self.pieces.into_iter().map(|piece| piece.pages));
        Written {
            pages,
            len: self.len,
            sums,
        }
    }

    /// Gives back what lies behind the page with the last byte of `room`.
    fn cut(&mut self, room: u64) {
        self.pieces.retain(|piece| piece.start < room);
        self.room = room.next_multiple_of(PAGE_BYTES);
        if let Some(last) = self.pieces.last_mut() {
            let pages = (self.room - last.start) / PAGE_BYTES;
            last.pages.cut(u32::try_from(pages).unwrap_or(u32::MAX));
        }
    }

    /// How much an object whose length is not known is given at once.
    fn ahead(&self) -> u64 {
        match self.room {
            0 => 0,
            room => room.clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX),
        }
    }

    /// Makes room up to `end`, by so much at a time.
    fn make_room(&mut self, end: u64, step: u64) -> Result<()> {
        let before = self.room;
        while self.room < end {
            if let Err(error) = self.add_room(step.max(end - self.room)) {
                self.cut(before);
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_room(&mut self, bytes: u64) -> Result<()> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
        if let Some(last) = self.pieces.last_mut() {
            let before = last.pages.len();
            last.pages.grow(pages);
            let more = last.pages.len() - before;
            self.room += more;
            if more > 0 {
                return Ok(());
            }
        }
        let pages = Arc::clone(&self.home).take(pages)?;
        let start = self.room;
        self.room += pages.len();
        self.pieces.push(Piece { start, pages });
        Ok(())
    }

    /// Zeroes what lies between the end and `position`: the pages may have been used before.
    fn zero_to(&mut self, position: u64) {
        const ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        while self.len < position {
            let len = to_usize(position - self.len).min(BLOCK_BYTES);
            self.put(self.len, &ZEROES[..len]);
            self.len += len as u64;
        }
    }

    /// Copies and sums in one pass over memory. There is room.
    fn put(&mut self, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let idx = self.piece_at(position);
            let piece = &mut self.pieces[idx];
            let room = &mut piece.pages.bytes_mut()[to_usize(position - piece.start)..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()).min(BLOCK_BYTES));
            let stored = &mut room[..now.len()];
            stored.copy_from_slice(now);
            self.sums.note(position, stored);
            position += now.len() as u64;
            bytes = later;
        }
    }

    /// The piece that has a position. There is room there.
    fn piece_at(&self, position: u64) -> usize {
        match self.pieces.last() {
            Some(last) if last.start <= position => self.pieces.len() - 1,
            _ => self.pieces.partition_point(|piece| piece.start <= position) - 1,
        }
    }
}
