//! The checksums of an object while it is written: CRC32C of each 64 KiB, made as the bytes come by.

use std::ops::Range;

use crate::to_usize;

/// What one checksum is of; the last chunk of an object may be shorter.
pub const CHUNK_BYTES: u64 = 64 << 10;

#[derive(Clone, Copy, Debug)]
enum Sum {
    /// Of so many bytes from the beginning of the chunk.
    Of(u64, u32),
    /// The bytes came in another order than that in which they lie.
    Unknown,
}

#[derive(Clone, Debug, Default)]
pub struct Sums(Vec<Sum>);

impl Sums {
    /// `bytes` are what now lies at `position`.
    pub fn note(&mut self, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (chunk, start) = (to_usize(position / CHUNK_BYTES), position % CHUNK_BYTES);
            let room = to_usize(CHUNK_BYTES - start).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            if self.0.len() <= chunk {
                self.0.resize(chunk + 1, Sum::Of(0, 0));
            }
            self.0[chunk] = match self.0[chunk] {
                Sum::Of(len, crc) if len == start => {
                    Sum::Of(len + now.len() as u64, crc32c::crc32c_append(crc, now))
                }
                _ => Sum::Unknown,
            };
            position += now.len() as u64;
            bytes = later;
        }
    }

    /// Forgets what lies at `len` and behind it.
    pub fn truncate(&mut self, len: u64) {
        self.0.truncate(to_usize(len.div_ceil(CHUNK_BYTES)));
    }

    /// The checksums of an object of `len` bytes. `sum` is asked about the chunks that were not written from front to back.
    pub fn finish(self, len: u64, mut sum: impl FnMut(Range<u64>) -> u32) -> Box<[u32]> {
        let sums = (0..len.div_ceil(CHUNK_BYTES)).zip(self.0);
        let sums = sums.map(|(chunk, known)| {
            let chunk = chunk_of(chunk, len);
            match known {
                Sum::Of(covered, crc) if covered == chunk.end - chunk.start => crc,
                _ => sum(chunk),
            }
        });
        sums.collect()
    }
}

/// Where a chunk of an object of `len` bytes lies.
pub fn chunk_of(chunk: u64, len: u64) -> Range<u64> {
    let start = chunk * CHUNK_BYTES;
    start..len.min(start + CHUNK_BYTES)
}

#[cfg(test)]
mod tests;
