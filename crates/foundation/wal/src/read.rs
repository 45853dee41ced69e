//! Reading back, with every checksum and link looked at.

use std::io;
use std::sync::Arc;

use crate::error::during;
use crate::format::{HEAD_BYTES, Header, RECORD_HEAD_BYTES};
use crate::recover::{Part, corrupt};
use crate::{Error, Position, VisitAll};

/// So much is read at a time, unless a record is larger.
const WINDOW_BYTES: u64 = 256 << 10;

/// Visits the records from `from`, or the first that is kept, to `end`, which is durable, and returns where the next one begins. `parts` are
/// not empty.
pub(crate) fn read(
    parts: &[Arc<Part>],
    (from, end): (Position, Position),
    visit: &mut VisitAll<'_>,
) -> Result<Position, Error> {
    // A log of which nothing is kept may begin before all that is kept of others.
    let mut at = from.max(parts[0].id.base);
    let first = parts.partition_point(|part| part.id.base <= at) - 1;
    // The head of the record before, if that is known.
    let mut chain = None;
    for (idx, part) in parts.iter().enumerate().skip(first) {
        let part_end = parts.get(idx + 1).map_or(end, |next| next.id.base.min(end));
        let mut window = Window {
            part,
            end: part_end,
            bytes: Vec::new(),
            first: at,
        };
        while at < part_end {
            let (header, body) = window.record(at, chain)?;
            let next = header.end();
            if visit(header.log, at, body).is_break() {
                return Ok(next);
            }
            chain = Some(header.head);
            at = next;
        }
    }
    Ok(at)
}

struct Window<'a> {
    part: &'a Part,
    /// Of the records in the part.
    end: Position,
    /// From position `first` on.
    bytes: Vec<u8>,
    first: Position,
}

impl Window<'_> {
    fn record(&mut self, at: Position, chain: Option<u32>) -> Result<(Header, &[u8]), Error> {
        let offset = HEAD_BYTES + (at.0 - self.part.id.base.0);
        let damage = |what| corrupt(self.part.id, offset, what);
        let salt = self.part.salt;
        let head = self.get(at, RECORD_HEAD_BYTES as u64)?;
        let header = Header::parse(head, salt).filter(|header| header.position == at);
        let header = header.ok_or_else(|| damage("no record begins here"))?;
        if chain.is_some_and(|chain| chain != header.prev) {
            return Err(damage("the record does not follow the one before"));
        }
        let part = self.part;
        let whole = self.get(at, header.bytes())?;
        let body = &whole[RECORD_HEAD_BYTES..];
        if !header.is_of(body) {
            return Err(corrupt(part.id, offset, "the record has changed"));
        }
        Ok((header, body))
    }

    fn get(&mut self, at: Position, n_bytes: u64) -> Result<&[u8], Error> {
        let offset = HEAD_BYTES + (at.0 - self.part.id.base.0);
        let left = self.end.0 - at.0;
        if n_bytes > left {
            return Err(corrupt(self.part.id, offset, "the record is cut off"));
        }
        let held = self.first.0 + self.bytes.len() as u64;
        if at < self.first || at.0 + n_bytes > held {
            let wanted = n_bytes.max(WINDOW_BYTES).min(left);
            let wanted = usize::try_from(wanted).expect("a record fits in memory");
            self.bytes.resize(wanted, 0);
            self.first = at;
            match self.part.file.read_at(&mut self.bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(corrupt(self.part.id, offset, "the file is cut off"));
                }
                result => during("read the log", result)?,
            }
        }
        let from = usize::try_from(at.0 - self.first.0).expect("it is in the window");
        let n_bytes = usize::try_from(n_bytes).expect("it is in the window");
        Ok(&self.bytes[from..from + n_bytes])
    }
}
