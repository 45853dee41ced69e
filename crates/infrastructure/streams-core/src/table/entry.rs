//! Entries as records bring them, which is as upstream has them: clients see it in the versions of entries, which are offsets.
//!
//! ```text
//!  0 u8 | length of the key i32 | length of the value, -1: removed, i32 | version i64, i64::MIN: the offset, as it always is | key | value
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// `EntrySerializer.java`, `HEADER_LENGTH`.
pub const HEADER_BYTES: usize = 17;
/// `TableStore.java`, `MAXIMUM_KEY_LENGTH`.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// Of an entry with its header. `EntrySerializer.java`, `MAX_SERIALIZATION_LENGTH`.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

const FORMAT: u8 = 0;
const REMOVED: i32 = -1;
const OFFSET_IS_VERSION: i64 = i64::MIN;

pub(crate) fn put_entry(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    put_header(out, key, length(value));
    out.put_slice(value);
}

pub(crate) fn put_removal(out: &mut BytesMut, key: &[u8]) {
    put_header(out, key, REMOVED);
}

fn put_header(out: &mut BytesMut, key: &[u8], value_length: i32) {
    out.put_u8(FORMAT);
    out.put_i32(length(key));
    out.put_i32(value_length);
    out.put_i64(OFFSET_IS_VERSION);
    out.put_slice(key);
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("it was looked at: an entry has 1 MiB")
}

/// What is written at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) offset: u64,
    pub(crate) key: Bytes,
    /// `None`: it is removed here.
    pub(crate) value: Option<Bytes>,
}

/// The entries in bytes that begin at an offset of the segment; an error if they are none.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    offset: u64,
    rest: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoEntry;

impl Entries {
    pub(crate) fn new(offset: u64, bytes: Bytes) -> Self {
        Self {
            offset,
            rest: bytes,
        }
    }

    fn parse(&mut self) -> Result<RawEntry, NoEntry> {
        let before = self.rest.len();
        let format = self.rest.try_get_u8().map_err(|_| NoEntry)?;
        let key_bytes = self.rest.try_get_i32().map_err(|_| NoEntry)?;
        let value_bytes = self.rest.try_get_i32().map_err(|_| NoEntry)?;
        let version = self.rest.try_get_i64().map_err(|_| NoEntry)?;
        if format != FORMAT || value_bytes < REMOVED || version != OFFSET_IS_VERSION {
            return Err(NoEntry);
        }
        let key_bytes = usize::try_from(key_bytes).map_err(|_| NoEntry)?;
        let value_bytes = usize::try_from(value_bytes).ok();
        let key = self.split(key_bytes)?;
        let value = value_bytes.map(|bytes| self.split(bytes)).transpose()?;
        let offset = self.offset;
        self.offset += (before - self.rest.len()) as u64;
        Ok(RawEntry { offset, key, value })
    }

    fn split(&mut self, bytes: usize) -> Result<Bytes, NoEntry> {
        if bytes > self.rest.len() {
            return Err(NoEntry);
        }
        Ok(self.rest.split_to(bytes))
    }
}

impl Iterator for Entries {
    type Item = Result<RawEntry, NoEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.parse();
        if entry.is_err() {
            self.rest.clear();
        }
        Some(entry)
    }
}
