//! What the newest records brought, in memory: who reads at the tail reads no file.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use streams_core::names::Position;

/// Payloads of records by where these lie; the oldest ones go first.
#[derive(Debug)]
pub(crate) struct Recent {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    payloads: BTreeMap<Position, Payload>,
    bytes: usize,
}

#[derive(Debug)]
struct Payload {
    /// Where in the record it begins.
    at: u64,
    bytes: Bytes,
}

/// What a payload takes beside its bytes.
const OVERHEAD: usize = 128;

/// Smaller ones are copied: they would keep the buffer that they were received in, of which they are a small part.
const SHARED_BYTES_MIN: usize = 64 << 10;

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn put(&self, record: Position, at: usize, bytes: &Bytes) {
        let bytes = if bytes.len() < SHARED_BYTES_MIN {
            Bytes::copy_from_slice(bytes)
        } else {
            bytes.clone()
        };
        let mut kept = self.kept();
        kept.bytes += bytes.len() + OVERHEAD;
        let at = at as u64;
        kept.payloads.insert(record, Payload { at, bytes });
        while kept.bytes > self.bytes_max
            && let Some((_, oldest)) = kept.payloads.pop_first()
        {
            kept.bytes -= oldest.bytes.len() + OVERHEAD;
        }
    }

    /// So many bytes that lie so far behind the begin of a record.
    pub(crate) fn get(&self, record: Position, at: u64, n_bytes: u64) -> Option<Bytes> {
        let kept = self.kept();
        let payload = kept.payloads.get(&record)?;
        let from = usize::try_from(at.checked_sub(payload.at)?).ok()?;
        let to = from.checked_add(usize::try_from(n_bytes).ok()?)?;
        (to <= payload.bytes.len()).then(|| payload.bytes.slice(from..to))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_ranges_are_looked_at() {
        let recent = Recent::new(3 * (10 + OVERHEAD));
        let put = |position, byte: u8| {
            recent.put(Position(position), 5, &Bytes::from(vec![byte; 10]));
        };
        let get = |position, at, n_bytes| recent.get(Position(position), at, n_bytes);
        for n in 1..=3 {
            put(n * 100, u8::try_from(n).expect("small"));
        }
        assert_eq!(get(100, 5, 10), Some(Bytes::from(vec![1; 10])));
        assert_eq!(get(300, 8, 2), Some(Bytes::from(vec![3; 2])));
        put(400, 4);
        assert_eq!(get(100, 5, 10), None);
        for (at, n_bytes) in [(4, 1), (5, 11), (15, 1), (u64::MAX, 1), (5, u64::MAX)] {
            assert_eq!(get(400, at, n_bytes), None, "{n_bytes} at {at}");
        }
        assert_eq!(get(400, 15, 0), Some(Bytes::new()));
    }
}
