//! One call in progress, and the guest's memory under it.

use std::ops::Range;

use wasmtime::{Caller, Extern};

use super::{Errno, Host};

/// As many pieces may one read or write have.
const PIECES_MAX: u32 = 1024;

/// Adjacent pieces of a write are copied together up to this size, which saves system calls and
/// keeps a line in one piece.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// A call in progress. The two parts do not overlap, so that file content goes straight between the
/// host and the guest's memory.
pub(super) struct Call<'a> {
    pub(super) memory: Bytes<'a>,
    pub(super) host: &'a mut dyn Host,
}

/// Runs `body` on the memory of the guest and its host.
pub(super) fn with_call<T: Host, R>(
    caller: &mut Caller<'_, T>,
    body: impl FnOnce(&mut Call<'_>) -> R,
) -> R {
    let mut memory = caller.data_mut().wasi().memory;
    if memory.is_none() {
        memory = caller.get_export("memory").and_then(Extern::into_memory);
        caller.data_mut().wasi().memory = memory;
    }
    match memory {
        Some(memory) => {
            let (bytes, host) = memory.data_and_store_mut(&mut *caller);
            body(&mut Call {
                memory: Bytes(bytes),
                host,
            })
        }
        // Every pointer of such a guest is bad.
        None => body(&mut Call {
            memory: Bytes(&mut []),
            host: caller.data_mut(),
        }),
    }
}

/// The guest's memory. What lies outside is [`Errno::Fault`].
pub(super) struct Bytes<'a>(&'a mut [u8]);

impl Bytes<'_> {
    pub(super) fn get(&self, at: u32, len: u32) -> Result<&[u8], Errno> {
        self.0.get(span(at, len)?).ok_or(Errno::Fault)
    }

    pub(super) fn get_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], Errno> {
        self.0.get_mut(span(at, len)?).ok_or(Errno::Fault)
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::Fault)?;
        let end = at.checked_add(bytes.len()).ok_or(Errno::Fault)?;
        self.0
            .get_mut(at..end)
            .ok_or(Errno::Fault)?
            .copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    /// A length, as the guest counts.
    pub(super) fn put_len(&mut self, at: u32, len: usize) -> Result<(), Errno> {
        self.put_u32(at, u32::try_from(len).map_err(|_| Errno::Overflow)?)
    }

    /// The pieces of a read or write. All of them are inside the memory, and together they are not
    /// longer than a count can say.
    pub(super) fn pieces(&self, at: u32, count: u32) -> Result<Vec<Range<usize>>, Errno> {
        if count > PIECES_MAX {
            return Err(Errno::Inval);
        }
        let mut total = 0u32;
        let mut pieces = Vec::new();
        for piece in self.get(at, count * 8)?.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *piece;
            let (at, len) = (
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            );
            total = total.checked_add(len).ok_or(Errno::Inval)?;
            self.get(at, len)?;
            if len > 0 {
                pieces.push(span(at, len)?);
            }
        }
        Ok(pieces)
    }

    /// Fills `pieces` one after the other. Stops where the source gives less than asked for.
    pub(super) fn read_into(
        &mut self,
        pieces: Vec<Range<usize>>,
        mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
    ) -> Result<u64, Errno> {
        let mut done = 0;
        for piece in pieces {
            let wanted = piece.len();
            let count = match read(&mut self.0[piece], done) {
                Ok(count) => count,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            done += wide(count);
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// Writes `pieces` one after the other, small ones together. Stops where the sink takes less
    /// than it is given.
    pub(super) fn write_from(
        &self,
        pieces: Vec<Range<usize>>,
        mut write: impl FnMut(&[u8], u64) -> Result<usize, Errno>,
    ) -> Result<u64, Errno> {
        let mut done = 0;
        let mut pieces = pieces.into_iter().peekable();
        let mut gathered = Vec::new();
        while let Some(piece) = pieces.next() {
            let mut bytes = &self.0[piece];
            gathered.clear();
            while let Some(next) =
                pieces.next_if(|next| bytes.len() + gathered.len() + next.len() <= GATHER_BYTES_MAX)
            {
                gathered.extend_from_slice(std::mem::take(&mut bytes));
                gathered.extend_from_slice(&self.0[next]);
            }
            let bytes = if gathered.is_empty() {
                bytes
            } else {
                &gathered
            };
            let count = match write(bytes, done) {
                Ok(count) => count,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            done += wide(count);
            if count < bytes.len() {
                break;
            }
        }
        Ok(done)
    }
}

fn span(at: u32, len: u32) -> Result<Range<usize>, Errno> {
    let at = usize::try_from(at).map_err(|_| Errno::Fault)?;
    let len = usize::try_from(len).map_err(|_| Errno::Fault)?;
    Ok(at..at.checked_add(len).ok_or(Errno::Fault)?)
}

/// A length in memory as an amount of file content.
pub(super) fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("usize is at most 64 bits")
}
