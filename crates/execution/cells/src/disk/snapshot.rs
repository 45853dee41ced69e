//! A stopped rank as bytes, the same for a transfer and for a checkpoint, and independent of the engine that ran it.
//!
//! ```text
//! snapshot = magic "CSKNCELL" · version u16 · flags u16 · block*
//! block    = kind u8 · offset u64 · len u32 · crc32c(kind, offset, len, payload) u32 · payload
//! kind       1 header (postcard of Header, first)   2 memory 0 at `offset`   3 memory 1 at `offset`   4 end (offset = number of blocks before it)
//! ```
//! Pages of 4 KiB that are all zero are left out. No flag is defined: flags are how an encrypted body, a parent snapshot (delta), or
//! 64-bit memories will be announced, and a reader refuses those that it does not know. A snapshot without its end block is not one.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::core::endpoint::format;
use crate::core::trace::Trace;
use crate::wire::invalid;

const MAGIC: &[u8; 8] = b"CSKNCELL";
const VERSION: u16 = 1;
const PAGE_BYTES: usize = 4096;
const BLOCK_BYTES_MAX: usize = 256 << 10;
const HEADER_BYTES_MAX: usize = 1 << 30;

/// Everything about a rank but the content of its memories.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// SHA-256 of the module, hexadecimal.
    pub module: String,
    pub rank: u32,
    pub size: u32,
    /// Size of memory 0, Wasm pages of 64 KiB.
    pub memory_pages: u64,
    /// Saved frames in memory 1, bytes.
    pub frames_bytes: u32,
    /// Exported mutable globals by name.
    pub globals: Vec<(String, Value)>,
    /// `None` of a rank that has ended.
    pub wasi: Option<wasm::wasi::State>,
    pub endpoint: format::State,
    pub trace: Trace,
    /// The guest's monotonic clock, and the wall clock at the same moment, ns.
    pub monotonic_ns: u64,
    pub wall_ns: u64,
    /// Pieces of output written so far.
    pub output_seq: u64,
    /// The tag of the last collective.
    pub collective_tag: Option<i32>,
    /// Exit code of a rank that has ended and is kept for its messages.
    pub exited: Option<i32>,
}

/// The value of a global; floats by their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(u128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Header = 1,
    Memory = 2,
    Frames = 3,
    End = 4,
}

/// A range of one of the two memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub memory: Memory,
    pub offset: usize,
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Linear,
    Frames,
}

/// Writes a snapshot; returns its size in bytes.
pub(crate) fn write(
    out: &mut impl Write,
    header: &Header,
    memory: &[u8],
    frames: &[u8],
) -> io::Result<u64> {
    let mut blocks = Blocks {
        out,
        n_blocks: 0,
        bytes: 12,
    };
    blocks.out.write_all(MAGIC)?;
    blocks.out.write_all(&VERSION.to_le_bytes())?;
    blocks.out.write_all(&0_u16.to_le_bytes())?;
    let header = postcard::to_stdvec(header).map_err(io::Error::other)?;
    blocks.write(Kind::Header, 0, &header)?;
    for (kind, bytes) in [(Kind::Memory, memory), (Kind::Frames, frames)] {
        for (start, end) in used_runs(bytes) {
            blocks.write(kind, start, &bytes[start..end])?;
        }
    }
    let n_blocks = blocks.n_blocks;
    blocks.write(Kind::End, n_blocks, &[])?;
    let bytes = blocks.bytes;
    out.flush()?;
    Ok(bytes)
}

struct Blocks<'a, W> {
    out: &'a mut W,
    n_blocks: usize,
    bytes: u64,
}

impl<W: Write> Blocks<'_, W> {
    fn write(&mut self, kind: Kind, offset: usize, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut head = [0; 17];
        head[0] = kind as u8;
        head[1..9].copy_from_slice(&(offset as u64).to_le_bytes());
        head[9..13].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..13]), payload);
        head[13..].copy_from_slice(&crc.to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(payload)?;
        self.n_blocks += 1;
        self.bytes += 17 + u64::from(len);
        Ok(())
    }
}

/// The runs of pages with content, none longer than a block.
fn used_runs(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && is_zero(page(bytes, at)) {
            at += PAGE_BYTES;
        }
        let start = at;
        while at < bytes.len() && at - start < BLOCK_BYTES_MAX && !is_zero(page(bytes, at)) {
            at += PAGE_BYTES;
        }
        (start < bytes.len()).then(|| (start, at.min(bytes.len())))
    })
}

fn page(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at..bytes.len().min(at + PAGE_BYTES)]
}

fn is_zero(page: &[u8]) -> bool {
    page == &[0; PAGE_BYTES][..page.len()]
}

/// Reads a snapshot from an untrusted source.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    n_blocks: u64,
    pending: Option<(Range, Sum)>,
}

/// A block's checksum: as stored, and over its head.
#[derive(Clone, Copy, Debug)]
struct Sum {
    stored: u32,
    head: u32,
}

impl Sum {
    fn check(self, payload: &[u8]) -> io::Result<()> {
        if crc32c::crc32c_append(self.head, payload) == self.stored {
            return Ok(());
        }
        Err(invalid("a block's checksum is wrong"))
    }
}

impl<R: Read> Reader<R> {
    /// Checks the magic and reads the header.
    pub(crate) fn new(mut input: R) -> io::Result<(Self, Header)> {
        let mut start = [0; 12];
        input.read_exact(&mut start)?;
        if &start[..8] != MAGIC {
            return Err(invalid("this is not a snapshot of a cell"));
        }
        let version = u16::from_le_bytes([start[8], start[9]]);
        let flags = u16::from_le_bytes([start[10], start[11]]);
        if version != VERSION || flags != 0 {
            return Err(invalid(format!(
                "snapshot version {version}, flags {flags:#x}: this program reads version {VERSION} without flags"
            )));
        }
        let mut reader = Self {
            input,
            n_blocks: 0,
            pending: None,
        };
        let (kind, _, len, sum) = reader.head()?;
        if kind != Kind::Header || len > HEADER_BYTES_MAX {
            return Err(invalid("a snapshot starts with its header"));
        }
        let mut header = Vec::with_capacity(len.min(1 << 20));
        if reader
            .input
            .by_ref()
            .take(len as u64)
            .read_to_end(&mut header)?
            < len
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sum.check(&header)?;
        let header = postcard::from_bytes(&header).map_err(invalid)?;
        Ok((reader, header))
    }

    /// The next range that has content, to be filled with [`fill`](Self::fill); `None` at the proper end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Range>> {
        assert!(self.pending.is_none(), "the range before was filled");
        let n_before = self.n_blocks;
        let (kind, offset, len, sum) = self.head()?;
        let memory = match kind {
            Kind::Memory => Memory::Linear,
            Kind::Frames => Memory::Frames,
            Kind::Header => return Err(invalid("a second header")),
            Kind::End if offset as u64 == n_before && len == 0 => {
                sum.check(&[])?;
                return Ok(None);
            }
            Kind::End => return Err(invalid("blocks are missing")),
        };
        if len > BLOCK_BYTES_MAX {
            return Err(invalid("block too long"));
        }
        let range = Range {
            memory,
            offset,
            len,
        };
        self.pending = Some((range, sum));
        Ok(Some(range))
    }

    /// Reads the content of the last range into `target`, which has its length.
    pub(crate) fn fill(&mut self, target: &mut [u8]) -> io::Result<()> {
        let (range, sum) = self.pending.take().expect("`next` gave a range");
        assert_eq!(range.len, target.len(), "the target has the range's length");
        self.input.read_exact(target)?;
        sum.check(target)
    }

    /// The source, after the end.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn head(&mut self) -> io::Result<(Kind, usize, usize, Sum)> {
        let mut head = [0; 17];
        self.input.read_exact(&mut head)?;
        let kind = match head[0] {
            1 => Kind::Header,
            2 => Kind::Memory,
            3 => Kind::Frames,
            4 => Kind::End,
            other => return Err(invalid(format!("unknown block kind {other}"))),
        };
        let offset = u64::from_le_bytes(head[1..9].try_into().expect("8 bytes"));
        let len = u32::from_le_bytes(head[9..13].try_into().expect("4 bytes"));
        let stored = u32::from_le_bytes(head[13..].try_into().expect("4 bytes"));
        self.n_blocks += 1;
        let offset = usize::try_from(offset).map_err(invalid)?;
        let len = usize::try_from(len).map_err(invalid)?;
        Ok((
            kind,
            offset,
            len,
            Sum {
                stored,
                head: crc32c::crc32c(&head[..13]),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use wasm::wasi::Wasi;

    use super::*;
    use crate::core::endpoint::Endpoint;
    use crate::core::endpoint::call::{Envelope, Limits, Mode, Source, Span, Wanted};
    use crate::core::trace::{Log, Trace};

    /// A rank with a posted receive, a message to itself in flight, and a page between two empty ones.
    fn sample() -> (Header, Vec<u8>, Vec<u8>) {
        let mut memory = vec![0; 3 * PAGE_BYTES];
        memory[PAGE_BYTES + 5] = 7;
        let mut endpoint = Endpoint::new(1, 2, Limits::default());
        let (span, mut out) = (Span { ptr: 0, len: 8 }, Vec::new());
        let source = Source::Rank(0);
        let wanted = Wanted {
            ctx: 0,
            source,
            tag: Some(3),
        };
        endpoint
            .recv(wanted, span, &memory, &mut out)
            .expect("posted");
        let envelope = Envelope {
            ctx: 0,
            dest: 0,
            tag: 4,
        };
        endpoint
            .send(envelope, span, Mode::Standard, &memory, &mut out)
            .expect("sent");
        let wasi = Wasi::new(
            vec!["prog".into()],
            vec![("KEY".into(), "value".into())],
            Vec::new(),
        );
        let header = Header {
            module: "ab".repeat(32),
            rank: 1,
            size: 2,
            memory_pages: 1,
            frames_bytes: 4,
            globals: vec![
                ("cloudskin:global:0".into(), Value::I32(-1)),
                ("cloudskin:global:1".into(), Value::F64(f64::NAN.to_bits())),
            ],
            wasi: Some(wasi.save().expect("no file is open")),
            endpoint: endpoint.save(),
            trace: Trace::Record(Log::default()),
            monotonic_ns: 5,
            wall_ns: 6,
            output_seq: 7,
            collective_tag: Some(4 << 24),
            exited: None,
        };
        (header, memory, vec![1, 2, 3, 4])
    }

    fn written() -> Vec<u8> {
        let (header, memory, frames) = sample();
        let mut bytes = Vec::new();
        let size = write(&mut bytes, &header, &memory, &frames).expect("a vector takes all");
        assert_eq!(size, bytes.len() as u64);
        bytes
    }

    type Ranges = Vec<(Range, Vec<u8>)>;

    fn read(bytes: &[u8]) -> io::Result<(Header, Ranges)> {
        let (mut reader, header) = Reader::new(bytes)?;
        let mut ranges = Vec::new();
        while let Some(range) = reader.next()? {
            let mut content = vec![0; range.len];
            reader.fill(&mut content)?;
            ranges.push((range, content));
        }
        Ok((header, ranges))
    }

    #[test]
    fn what_is_written_is_read_and_empty_pages_are_left_out() {
        let (header, memory, frames) = sample();
        let (header_again, ranges) = read(&written()).expect("a snapshot");
        assert_eq!(format!("{header:?}"), format!("{header_again:?}"));
        let (linear, saved) = (Memory::Linear, Memory::Frames);
        let page = Range {
            memory: linear,
            offset: PAGE_BYTES,
            len: PAGE_BYTES,
        };
        let stack = Range {
            memory: saved,
            offset: 0,
            len: 4,
        };
        let content = memory[PAGE_BYTES..2 * PAGE_BYTES].to_vec();
        assert_eq!(ranges, [(page, content), (stack, frames)]);
    }

    /// The layout of version 1 does not change: what it wrote must be readable for ever.
    #[test]
    fn golden() {
        let golden = include_bytes!("golden/snapshot-1.bin");
        read(golden).expect("the snapshot of version 1 is readable");
        assert_eq!(
            written(),
            golden,
            "the layout has changed: raise VERSION, and keep reading the old one"
        );
    }

    #[test]
    fn a_snapshot_cut_anywhere_is_refused() {
        let bytes = written();
        for cut in 0..bytes.len() {
            read(&bytes[..cut]).expect_err("a snapshot cut short");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let bytes = written();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            read(&bytes).expect_err("a damaged snapshot");
        }
    }
}
