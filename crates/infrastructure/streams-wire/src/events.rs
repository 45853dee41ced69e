//! Events as they lie in a segment, one behind the other: type 0, length, data.
//!
//! Nothing says of a segment that it holds events. A store that takes appends need not know, and upstream's does not look.

use bytes::{Buf, Bytes};

use crate::Flaw;
use crate::blocks::Pieces;
use crate::limits::HEADER_BYTES;
use crate::shapes::EVENT_TYPE_ID;

/// Takes one event from the front of what was read, and returns its data. `None`, and nothing changes, where it is not there as a whole.
///
/// # Errors
/// `NotAnEvent`, `Length`: these are no events.
pub fn take(read: &mut Bytes) -> Result<Option<Bytes>, Flaw> {
    let Some(header) = read.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let length = length(header)?;
    if read.len() - HEADER_BYTES < length {
        return Ok(None);
    }
    read.advance(HEADER_BYTES);
    Ok(Some(read.split_to(length)))
}

/// How many whole events these are.
///
/// # Errors
/// `NotAnEvent`, `Length`: these are no events. `Cut`: the last one is not whole.
pub fn count(data: &Pieces) -> Result<usize, Flaw> {
    let mut data = data.buf();
    let mut n_events = 0;
    while data.has_remaining() {
        let mut header = [0; HEADER_BYTES];
        data.try_copy_to_slice(&mut header).map_err(|_| Flaw::Cut)?;
        let length = length(&header)?;
        if data.remaining() < length {
            return Err(Flaw::Cut);
        }
        data.advance(length);
        n_events += 1;
    }
    Ok(n_events)
}

/// `header` is a whole one.
fn length(mut header: &[u8]) -> Result<usize, Flaw> {
    let type_id = header.get_i32();
    if type_id != EVENT_TYPE_ID {
        return Err(Flaw::NotAnEvent(type_id));
    }
    let length = header.get_i32();
    usize::try_from(length).map_err(|_| Flaw::Length(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Event;

    fn events(data: &[&[u8]]) -> Bytes {
        let events = data.iter().map(|data| Event::new(data).expect("short"));
        events.flat_map(|event| event.framed().clone()).collect()
    }

    #[test]
    fn events_are_taken_while_they_are_whole() {
        let whole = events(&[b"abc", b"", b"de"]);
        for end in 0..=whole.len() {
            let mut read = whole.slice(..end);
            let mut taken = Vec::new();
            while let Some(event) = take(&mut read).expect("these are events") {
                taken.push(event);
            }
            let n_whole = [11, 19, 29].iter().filter(|&&event| event <= end).count();
            assert_eq!(taken, [&b"abc"[..], b"", b"de"][..n_whole]);
            assert_eq!(
                read.len() + taken.iter().map(|event| 8 + event.len()).sum::<usize>(),
                end
            );

            let counted = count(&whole.slice(..end).into());
            if [0, 11, 19, 29].contains(&end) {
                assert_eq!(counted, Ok(n_whole));
            } else {
                assert_eq!(counted, Err(Flaw::Cut));
            }
        }
    }

    #[test]
    fn what_are_no_events_is_refused() {
        let check = |bytes: &'static [u8], flaw| {
            assert_eq!(take(&mut Bytes::from_static(bytes)), Err(flaw));
            assert_eq!(count(&Bytes::from_static(bytes).into()), Err(flaw));
        };
        check(&[0, 0, 0, 1, 0, 0, 0, 0], Flaw::NotAnEvent(1));
        check(&[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], Flaw::Length(-1));
    }
}
