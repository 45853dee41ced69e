//! What the ranks of a world have written, for readers in other processes and for the process that runs the world next.
//!
//! The text is one stream of bytes: the lines of all ranks in the order in which they were complete. Offsets count from the beginning of
//! the world. The log also knows which piece of output of each rank comes next, so that a world that starts again from a checkpoint
//! repeats nothing, and what has been written of unfinished lines.
//!
//! ```text
//! output-NUMBER.log = magic "CSKNOUT1" · offset u64 · crc32c(offset) u32 · record*
//! record            = len u32 · crc32c(len, body) u32 · body: postcard of Record
//! ```
//! `offset` is where the text of the segment begins. Its first records repeat what is known of every rank, so that older segments can go:
//! the oldest goes when all together are larger than the limit.
//!
//! This is output, not a promise: only [`Log::sync`] puts it on the disk, and a checkpoint should come after one. A record that is torn or
//! damaged costs the rest of its segment, and never the world: the log goes on behind it in a new segment, and readers jump there. So
//! only a crash of the machine or damage can take back text that a reader has seen.
//!
//! A disk that is full ends nothing: what comes is held in memory, in its order, until [`Log::retry`] finds room. Whoever feeds the log
//! looks at [`Log::held_bytes`] and lets less come.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::output::{Order, Passed};
use crate::wire::messages::Rank;

const MAGIC: &[u8; 8] = b"CSKNOUT1";
const HEAD_BYTES: usize = 20;
const FRAME_BYTES: usize = 8;
/// A smaller limit is taken as this.
const LIMIT_BYTES_MIN: u64 = 256 << 10;
/// The limit is for so many segments.
const SEGMENTS: u64 = 16;
/// How often a reader looks again for a segment that is gone before it could open it.
const LOOKS_MAX: usize = 8;

/// What a held piece takes beside its bytes, about.
const PIECE_BYTES: u64 = 64;

/// The log of a running world; it has one writer.
#[derive(Debug)]
pub(crate) struct Log<V = Disk> {
    order: Order,
    segments: Segments<V>,
    /// What came while the disk was full, oldest first.
    held: VecDeque<Piece>,
    held_bytes: u64,
}

#[derive(Debug)]
struct Piece {
    rank: Rank,
    seq: u64,
    stderr: bool,
    bytes: Vec<u8>,
}

impl Piece {
    fn size(&self) -> u64 {
        self.bytes.len() as u64 + PIECE_BYTES
    }
}

/// How segments are made and written.
pub(crate) trait Volume: std::fmt::Debug {
    fn create(&self, path: &Path) -> io::Result<File>;
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct Disk;

impl Volume for Disk {
    fn create(&self, path: &Path) -> io::Result<File> {
        // One that could not be begun on a full disk may be there.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }
}

/// One piece as it is kept; see [`Passed`].
#[derive(Debug, Serialize, Deserialize)]
struct Record<'a> {
    rank: Rank,
    next: u64,
    stderr: bool,
    /// `rest` is the whole unfinished line.
    is_whole: bool,
    text: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn new(passed: &Passed<'a>, is_whole: bool) -> Self {
        Self {
            rank: passed.rank,
            next: passed.next,
            stderr: passed.stderr,
            is_whole,
            text: passed.text,
            rest: passed.rest,
        }
    }

    fn passed(&self) -> Passed<'a> {
        Passed {
            rank: self.rank,
            next: self.next,
            stderr: self.stderr,
            text: self.text,
            rest: self.rest,
        }
    }
}

impl Log {
    /// Opens the log in `dir`, which is made if need be, and goes on where it ends. The segments take about `limit` bytes: at most one
    /// piece more.
    ///
    /// # Errors
    /// On I/O errors. Damage is none.
    pub(crate) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        Self::open_on(Disk, dir, limit)
    }
}

impl<V: Volume> Log<V> {
    fn open_on(volume: V, dir: &Path, limit: u64) -> io::Result<Self> {
        durable::make_dir(dir)?;
        let limit = limit.max(LIMIT_BYTES_MIN);
        // Every segment begins with the unfinished lines: they may take half of it.
        let held_bytes_max = limit / SEGMENTS / 2;
        let mut order = Order::new(usize::try_from(held_bytes_max).unwrap_or(usize::MAX));
        let mut segments = Segments {
            volume,
            dir: dir.to_owned(),
            limit,
            kept: VecDeque::new(),
            current: None,
            n_fresh: 0,
            end: 0,
            is_full: false,
            waiting: VecDeque::new(),
        };
        let mut is_intact = false;
        for (number, path) in numbered(dir)? {
            let bytes = fs::read(&path)?;
            let segment = Segment::parse(&bytes);
            for record in segment.records() {
                order.recall(&record.passed(), record.is_whole);
            }
            segments.end = segments.end.max(segment.end());
            segments.n_fresh = bytes.len() as u64;
            segments.kept.push_back((number, bytes.len() as u64));
            is_intact = segment.is_intact();
        }
        if is_intact && let Some((number, _)) = segments.kept.back() {
            let path = path_of(dir, *number);
            segments.current = Some(OpenOptions::new().write(true).open(path)?);
        }
        let mut log = Self {
            order,
            segments,
            held: VecDeque::new(),
            held_bytes: 0,
        };
        log.segments.begin_wanted(&log.order)?;
        Ok(log)
    }

    /// Takes piece `seq` of what `rank` writes. What it has had, it drops; what comes too early, it keeps in memory until its turn; and so it
    /// does with all that comes while the disk is full.
    ///
    /// # Errors
    /// When a piece cannot be written for another reason: it is lost, and the log must not be used any more.
    pub(crate) fn take(
        &mut self,
        rank: Rank,
        seq: u64,
        stderr: bool,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        let piece = Piece {
            rank,
            seq,
            stderr,
            bytes,
        };
        if self.is_full() {
            self.held_bytes += piece.size();
            self.held.push_back(piece);
            return Ok(());
        }
        self.write(piece)
    }

    fn write(&mut self, piece: Piece) -> io::Result<()> {
        let (order, segments) = (&mut self.order, &mut self.segments);
        order.take(
            piece.rank,
            piece.seq,
            (piece.stderr, piece.bytes),
            |passed| segments.append(&passed),
        )?;
        segments.begin_wanted(order)
    }

    /// The disk was full when it was written to last.
    pub(crate) fn is_full(&self) -> bool {
        self.segments.is_full
    }

    /// How much is held until there is room on the disk.
    pub(crate) fn held_bytes(&self) -> u64 {
        let waiting = self.segments.waiting.iter();
        self.held_bytes + waiting.map(|record| record.bytes.len() as u64).sum::<u64>()
    }

    /// Writes what is held, as far as there is room. Nothing is written twice.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn retry(&mut self) -> io::Result<()> {
        self.segments.retry(&self.order)?;
        while !self.is_full()
            && let Some(piece) = self.held.pop_front()
        {
            self.held_bytes -= piece.size();
            self.write(piece)?;
        }
        Ok(())
    }

    /// Whether the first `count` pieces of the rank are in the log.
    pub(crate) fn has_all(&self, rank: Rank, count: u64) -> bool {
        !self.is_full() && self.order.has_all(rank, count)
    }

    /// The world is over: lines without an end become text, and so do pieces behind a gap that will not be filled.
    ///
    /// # Errors
    /// As [`take`](Self::take); and when the disk is full: then it may be called again.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.retry()?;
        if !self.is_full() {
            let segments = &mut self.segments;
            self.order.finish(|passed| segments.append(&passed))?;
        }
        self.sync()
    }

    /// Puts everything taken so far on the disk.
    ///
    /// # Errors
    /// When the disk is full, or what was taken may for another reason not be there: then the log must not be used any more.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.is_full() {
            let problem = "the disk is full: output is held";
            return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
        }
        match &self.segments.current {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }
}

/// The files.
#[derive(Debug)]
struct Segments<V> {
    volume: V,
    dir: PathBuf,
    limit: u64,
    /// Numbers and sizes, the oldest first.
    kept: VecDeque<(u64, u64)>,
    /// The last of `kept`; `None`: it cannot be added to.
    current: Option<File>,
    /// Bytes added to the last one since its beginning was complete.
    n_fresh: u64,
    /// How much text there is, and has been.
    end: u64,
    /// There was no room for the first of `waiting`, or for another segment.
    is_full: bool,
    /// What the order has passed and is not in the file.
    waiting: VecDeque<Encoded>,
}

#[derive(Debug)]
struct Encoded {
    bytes: Vec<u8>,
    text_bytes: u64,
}

impl Encoded {
    fn new(record: &Record<'_>) -> io::Result<Self> {
        let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        let len = len.to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&len), &body).to_le_bytes();
        Ok(Self {
            bytes: [len.as_slice(), &crc, &body].concat(),
            text_bytes: record.text.len() as u64,
        })
    }
}

impl<V: Volume> Segments<V> {
    fn append(&mut self, passed: &Passed<'_>) -> io::Result<()> {
        self.waiting
            .push_back(Encoded::new(&Record::new(passed, false))?);
        if self.is_full {
            return Ok(());
        }
        self.write_waiting()
    }

    /// Goes on where the disk was full.
    fn retry(&mut self, order: &Order) -> io::Result<()> {
        self.is_full = false;
        self.write_waiting()?;
        self.begin_wanted(order)
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        while let Some(record) = self.waiting.front() {
            let (Some(file), Some((_, size))) = (&self.current, self.kept.back_mut()) else {
                return Err(io::Error::other("the log failed before"));
            };
            // What a full disk has taken of a record is written over.
            match self.volume.write(file, &record.bytes, *size) {
                Ok(()) => {}
                Err(error) if durable::is_full(&error) => {
                    self.is_full = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            *size += record.bytes.len() as u64;
            self.n_fresh += record.bytes.len() as u64;
            self.end += record.text_bytes;
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Begins another segment if it is time. A disk without room for one is full, though there were room in the last.
    fn begin_wanted(&mut self, order: &Order) -> io::Result<()> {
        if self.is_full || !self.wants_another() {
            return Ok(());
        }
        match self.begin_another(order) {
            Err(error) if durable::is_full(&error) => {
                self.is_full = true;
                Ok(())
            }
            begun => begun,
        }
    }

    fn wants_another(&self) -> bool {
        self.current.is_none() || self.n_fresh > self.limit / SEGMENTS
    }

    /// Begins a segment with what `order` remembers, and drops the oldest ones that are too many.
    fn begin_another(&mut self, order: &Order) -> io::Result<()> {
        // What is behind may not survive a crash that takes what is before it.
        if let Some(file) = &self.current {
            file.sync_data()?;
        }
        let number = self.kept.back().map_or(0, |(number, _)| number + 1);
        let offset = self.end.to_le_bytes();
        let crc = crc32c::crc32c(&offset).to_le_bytes();
        let mut beginning = [MAGIC.as_slice(), &offset, &crc].concat();
        for passed in order.memory() {
            beginning.extend(Encoded::new(&Record::new(&passed, true))?.bytes);
        }
        let path = path_of(&self.dir, number);
        let file = self.volume.create(&path)?;
        if let Err(error) = self.volume.write(&file, &beginning, 0) {
            // A part of a beginning may look like a whole one. What cannot be removed is made anew.
            fs::remove_file(path).ok();
            return Err(error);
        }
        file.sync_data()?;
        File::open(&self.dir)?.sync_all()?;
        self.current = Some(file);
        self.kept.push_back((number, beginning.len() as u64));
        self.n_fresh = 0;
        let mut total: u64 = self.kept.iter().map(|(_, size)| size).sum();
        // The last one may grow to its full size before anything is dropped again.
        total += self.limit / SEGMENTS;
        while total > self.limit && self.kept.len() > 1 {
            if let Some((number, size)) = self.kept.pop_front() {
                fs::remove_file(path_of(&self.dir, number))?;
                total -= size;
            }
        }
        Ok(())
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("output-{number:010}.log"))
}

/// The segments in `dir` by their numbers.
fn numbered(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name
            .and_then(|name| name.strip_prefix("output-")?.strip_suffix(".log"))
            .and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A segment as it was read, up to the first damage.
#[derive(Debug)]
struct Segment<'a> {
    /// Where its text begins; `None`: not even that is readable.
    begin: Option<u64>,
    records: &'a [u8],
}

impl<'a> Segment<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let begin = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .and_then(|(head, _)| {
                let (offset, crc) = head.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
                let is_sound = crc32c::crc32c(offset).to_le_bytes() == *crc;
                is_sound.then(|| u64::from_le_bytes(*offset))
            });
        let records = match begin {
            Some(_) => &bytes[HEAD_BYTES..],
            None => &[],
        };
        Self { begin, records }
    }

    fn records(&self) -> Records<'a> {
        Records {
            bytes: self.records,
        }
    }

    /// Where its text ends; 0 of one without a beginning.
    fn end(&self) -> u64 {
        let text = self.records().map(|record| record.text.len() as u64);
        text.fold(self.begin.unwrap_or(0), u64::saturating_add)
    }

    fn is_intact(&self) -> bool {
        let mut records = self.records();
        records.by_ref().for_each(drop);
        self.begin.is_some() && records.bytes.is_empty()
    }
}

/// Goes over records until one is not sound.
#[derive(Debug)]
struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (frame, rest) = self.bytes.split_first_chunk::<FRAME_BYTES>()?;
        let (len, crc) = frame.split_first_chunk::<4>()?;
        let (body, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        if crc32c::crc32c_append(crc32c::crc32c(len), body).to_le_bytes() != *crc {
            return None;
        }
        let record = postcard::from_bytes(body).ok()?;
        self.bytes = rest;
        Some(record)
    }
}

/// The text from `offset` on, at most `max` bytes of it, and where it really begins: what was asked for may be gone, and then this is the
/// next that is kept. At the end of the log nothing is returned, and where the end is.
///
/// The piece ends with a line if it has the end of one; the rest is for the next call. The writer may be at work meanwhile.
///
/// # Errors
/// On I/O errors.
pub(crate) fn read(dir: &Path, offset: u64, max: usize) -> io::Result<(u64, Vec<u8>)> {
    let mut n_looks = 0;
    loop {
        n_looks += 1;
        match try_read(dir, offset, max) {
            // The oldest segment may go after it was found.
            Err(error) if error.kind() == io::ErrorKind::NotFound && n_looks < LOOKS_MAX => {}
            result => return result,
        }
    }
}

fn try_read(dir: &Path, offset: u64, max: usize) -> io::Result<(u64, Vec<u8>)> {
    if !dir.try_exists()? {
        return Ok((0, Vec::new()));
    }
    let mut segments = Vec::new();
    for (_, path) in numbered(dir)? {
        let mut head = Vec::new();
        let file = File::open(&path)?;
        file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if let Some(begin) = Segment::parse(&head).begin {
            segments.push((begin, path));
        }
    }
    let first = segments.partition_point(|(begin, _)| *begin <= offset);
    let mut end = 0;
    for (begin, path) in segments.into_iter().skip(first.saturating_sub(1)) {
        let bytes = fs::read(path)?;
        let segment = Segment::parse(&bytes);
        let offset = offset.max(begin);
        let text = text_of(&segment, offset, max);
        if !text.is_empty() {
            return Ok((offset, text));
        }
        end = segment.end();
    }
    Ok((end, Vec::new()))
}

/// At most `max` bytes of a segment's text from `offset` on.
fn text_of(segment: &Segment<'_>, offset: u64, max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut skip = offset.saturating_sub(segment.begin.unwrap_or(0));
    for record in segment.records() {
        let len = record.text.len() as u64;
        let from = usize::try_from(skip.min(len)).unwrap_or(usize::MAX);
        skip -= skip.min(len);
        let part = &record.text[from..];
        text.extend_from_slice(&part[..part.len().min(max - text.len())]);
        if text.len() == max {
            break;
        }
    }
    if let Some(end) = text.iter().rposition(|byte| *byte == b'\n') {
        text.truncate(end + 1);
    }
    text
}

#[cfg(test)]
mod tests;
