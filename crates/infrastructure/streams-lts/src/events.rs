//! Where the events of a segment begin: an index for those who read a chunk from the middle.
//!
//! Events lie one behind the other as `streams_wire::events` has them: type 0, length, data. Nothing says of a segment that it holds events. So an
//! index is a hint: where the bytes say something else it is empty from then on, and of bytes that look like events by chance it means nothing.

use bytes::{Buf as _, Bytes};

const HEADER_BYTES: usize = 8;
const EVENT_TYPE_ID: i32 = 0;
/// Between two events of an index are at least so many bytes.
pub const STRIDE_BYTES: u64 = 64 << 10;

/// Some of the events that begin in a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Offsets in the segment, ascending: the first event that begins in the chunk, and then one in each 64 KiB or so.
    pub begins: Vec<u64>,
    /// Where the first event begins of which the chunk has no whole header: at most 7 bytes before the end of the chunk. `None`: nobody knows.
    pub next: Option<u64>,
}

/// Which event is to come, between one chunk and the next. To be kept when the chunk is.
///
/// ```text
///  state        | bytes                     | then
///  Header, 0..8 | more of the header        | Header
///  Header       | the rest of it            | Header of the event behind this one, 0: its data is stepped over
///  Header       | the rest, of no event     | Lost
///  any          | that do not follow        | Lost
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// An event begins there, and so much has been seen of its header.
    Header { at: u64, seen: Vec<u8> },
    /// These are no events, or nobody knows where they begin.
    Lost,
}

impl Cursor {
    /// An event begins there: where a segment begins, and where it was truncated to.
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self::Header {
            at: offset,
            seen: Vec::new(),
        }
    }

    /// The index of bytes that begin at the offset, and where it goes on behind them.
    #[must_use]
    pub fn index(&self, offset: u64, data: &[Bytes]) -> (Index, Self) {
        self.walk(offset, data)
            .unwrap_or((Index::default(), Self::Lost))
    }

    fn walk(&self, offset: u64, data: &[Bytes]) -> Option<(Index, Self)> {
        let Self::Header { mut at, mut seen } = self.clone() else {
            return None;
        };
        let (mut begins, mut here) = (Vec::new(), offset);
        for piece in data {
            let mut piece = &piece[..];
            while !piece.is_empty() {
                let ahead = at.checked_add(len(&seen))?.checked_sub(here)?;
                if ahead >= len(piece) {
                    here = here.checked_add(len(piece))?;
                    break;
                }
                piece.advance(usize::try_from(ahead).ok()?);
                here += ahead;
                if seen.is_empty() && begins.last().is_none_or(|last| at - last >= STRIDE_BYTES) {
                    begins.push(at);
                }
                let (more, rest) = piece.split_at(piece.len().min(HEADER_BYTES - seen.len()));
                seen.extend_from_slice(more);
                (piece, here) = (rest, here.checked_add(len(more))?);
                if seen.len() == HEADER_BYTES {
                    at = here.checked_add(event_bytes(&seen)?)?;
                    seen.clear();
                }
            }
        }
        let next = Some(at);
        Some((Index { begins, next }, Self::Header { at, seen }))
    }
}

/// Behind a whole header.
fn event_bytes(mut header: &[u8]) -> Option<u64> {
    let is_event = header.get_i32() == EVENT_TYPE_ID;
    is_event
        .then(|| u64::try_from(header.get_i32()).ok())
        .flatten()
}

fn len(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(bytes: usize) -> Vec<u8> {
        let mut event = vec![0; 4];
        event.extend(i32::try_from(bytes).expect("short").to_be_bytes());
        event.resize(HEADER_BYTES + bytes, 0xFF);
        event
    }

    #[test]
    fn the_first_event_and_one_in_each_stride_are_known() {
        let stride = usize::try_from(STRIDE_BYTES).expect("short");
        let sizes = [0, 10, stride, 5, 3 * stride, 1];
        let data: Vec<Bytes> = sizes.map(|bytes| event(bytes).into()).into();
        let (index, next) = Cursor::at(100).index(100, &data);
        let first_big = 100 + 8 + 18;
        let begins = [
            100,
            first_big + 8 + STRIDE_BYTES,
            first_big + 8 + STRIDE_BYTES + 13 + 8 + 3 * STRIDE_BYTES,
        ];
        assert_eq!(index.begins, begins);
        let end = 100 + data.iter().map(|event| len(event)).sum::<u64>();
        assert_eq!((index.next, next), (Some(end), Cursor::at(end)));
    }

    #[test]
    fn bytes_that_are_no_events_have_no_index() {
        let check = |cursor: Cursor, offset, bytes: &'static [u8]| {
            let found = cursor.index(offset, &[Bytes::from_static(bytes)]);
            assert_eq!(found, (Index::default(), Cursor::Lost));
        };
        check(Cursor::at(0), 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        check(Cursor::at(0), 0, &[0, 0, 0, 0, 0xFF, 0, 0, 0]);
        check(Cursor::Lost, 0, &[0; 8]);
        // A gap.
        check(Cursor::at(0), 1, &[0; 8]);
        check(Cursor::at(u64::MAX), u64::MAX, &[0; 8]);
    }

    proptest! {
        /// However the bytes are cut into chunks and pieces, the same events begin in them.
        #[test]
        fn an_index_goes_on_from_chunk_to_chunk(
            sizes in prop::collection::vec(0usize..30, 1..20),
            cuts in prop::collection::vec(1usize..25, 1..50),
        ) {
            let mut bytes: Bytes = sizes.iter().flat_map(|bytes| event(*bytes)).collect();
            let mut begins = Vec::new();
            let mut at = 0;
            for size in &sizes {
                begins.push(at);
                at += 8 + *size as u64;
            }
            let (mut cursor, mut offset) = (Cursor::at(0), 0);
            for cut in cuts {
                let chunk = bytes.split_to(cut.min(bytes.len()));
                let half = chunk.len() / 2;
                let end = offset + len(&chunk);
                let pieces = [chunk.slice(..half), chunk.slice(half..)];
                let (index, next) = cursor.index(offset, &pieces);
                let first = begins.iter().copied().find(|at| (offset..end).contains(at));
                prop_assert_eq!(index.begins.first().copied(), first);
                let next_at = index.next.expect("these are events");
                prop_assert!(next_at == at || begins.contains(&next_at));
                prop_assert!(next_at + 8 > end);
                (cursor, offset) = (next, end);
            }
        }

        #[test]
        fn any_bytes_are_walked(bytes: Vec<u8>, offset: u64) {
            let (index, next) = Cursor::at(offset).index(offset, &[bytes.into()]);
            prop_assert_eq!(index.next.is_none(), next == Cursor::Lost);
        }
    }
}
