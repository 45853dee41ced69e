//! Where the log ends: the one decision of recovery, over bytes.
//!
//! The last segment of a log that was not closed ends with what a crash left of the writes since the last completed sync: any of their
//! sectors may be missing, in any order. So a place that cannot be read is one of two things:
//!
//! - A *torn tail*: it was never synced, hence never acknowledged. It and all behind it is cut.
//! - *Rot*: it was synced, and has changed since. To cut it would lose acknowledged records without a word, so it is refused.
//!
//! Every record says how far the log was synced when it was written, and so does the mark that is written behind a batch after its sync,
//! before anyone is told. A sound header anywhere behind the bad place that says "synced beyond there" is proof of rot. That header cannot be
//! a part of the torn tail that lies: what it says was true before it was written, whichever of its neighbours reached the disk. It
//! cannot be older than the file's present life either (see [`format`](crate::format)). What the slot says to be truncated was synced, too.
//! Without proof the place is cut.
//!
//! What is left: a mark is not synced itself. When the machine loses power before the kernel has written it, *and* the last batch rots,
//! then nothing tells that from a torn tail. To close that hole would take a second sync for every acknowledgement.

use std::collections::VecDeque;

use crate::Position;
use crate::format::{Header, RECORD_HEAD_BYTES, Slot, Table, u64_at};

/// How the records of a segment end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Up to here they are sound, and the head of the last one.
    pub end: Position,
    pub chain: u32,
    /// Up to here they are known to have been synced, and the head of the last record before it.
    pub synced: Position,
    pub synced_chain: u32,
    pub table: Table,
}

/// Reads `records`, the bytes behind `slot`. The error is the offset in them of the first damage.
pub(crate) fn scan(records: &[u8], slot: &Slot) -> Result<Scan, usize> {
    let base = slot.id.base;
    let mut table = slot.table.clone();
    let mut offset = 0;
    // The ends of records from the last one on that is known to be synced, each with its record's head.
    let mut ends = VecDeque::from([(base, slot.chain)]);
    loop {
        let (end, chain) = *ends.back().expect("never empty");
        let header = Header::parse(&records[offset..], slot.salt)
            .filter(|header| header.position == end && header.prev == chain);
        let Some(header) = header else { break };
        while ends
            .get(1)
            .is_some_and(|(next, _)| *next <= header.synced())
        {
            ends.pop_front();
        }
        if header.is_mark() {
            break;
        }
        let bytes = usize::try_from(header.bytes()).ok();
        let next = bytes.and_then(|bytes| offset.checked_add(bytes));
        let whole = next.and_then(|next| records.get(offset..next));
        if !whole.is_some_and(|whole| header.is_of(&whole[RECORD_HEAD_BYTES..])) {
            break;
        }
        table.note(header.log, header.position, header.end());
        ends.push_back((header.end(), header.head));
        offset = next.unwrap_or(offset);
    }
    let (end, chain) = *ends.back().expect("never empty");
    if table.was_synced_beyond(end) || was_synced_beyond(&records[offset..], end, slot.salt) {
        return Err(offset);
    }
    let (synced, synced_chain) = ends[0];
    table.settle(end);
    Ok(Scan {
        end,
        chain,
        synced,
        synced_chain,
        table,
    })
}

/// Whether a sound header in `bytes`, which begin at the position `limit`, says that the log was synced beyond that.
fn was_synced_beyond(bytes: &[u8], limit: Position, salt: u32) -> bool {
    let candidates = (limit.0..).zip(bytes.windows(RECORD_HEAD_BYTES));
    let mut headers = candidates
        .filter(|(place, bytes)| u64_at(bytes, 0) == *place)
        .filter_map(|(_, bytes)| Header::parse(bytes, salt));
    headers.any(|header| header.synced() > limit)
}
