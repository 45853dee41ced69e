//! A log, for who does not own it. Nothing is written, and whoever owns it goes on: what is read may have changed by then.

use ids::Epoch;

use crate::disk::Disk;
use crate::format::{FIRST, HEAD_BYTES, Header, RECORD_HEAD_BYTES, SegmentId, Slot};
use crate::read;
use crate::recover::{self, Found, corrupt};
use crate::scan::scan;
use crate::{Error, LogId, Position, VisitAll};

/// What there is in a directory, as its next owner would find it.
#[derive(Debug)]
pub struct Inspection(Found);

impl Inspection {
    /// # Errors
    /// [`Error::Corrupt`]: a segment's head, or something behind it that was synced, has changed. [`Error::Failed`].
    pub fn of(disk: &dyn Disk) -> Result<Self, Error> {
        let (found, _) = recover::find(disk)?;
        Ok(Self(found.unwrap_or_else(Found::nothing)))
    }

    /// Of its last owner that has written.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.0.slot.id.epoch)
    }

    /// Where each log begins: what was before has been truncated.
    pub fn starts(&self) -> impl Iterator<Item = (LogId, Position)> {
        let kept = self.0.scan.table.0.iter();
        kept.map(|(log, kept)| (*log, kept.start))
    }

    /// How many files it has.
    #[must_use]
    pub fn n_segments(&self) -> usize {
        self.0.parts.len()
    }

    /// Visits the records of all logs that are still there, also such as have been truncated, and looks at every checksum. Returns where they end.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Failed`].
    pub fn read(&self, visit: &mut VisitAll<'_>) -> Result<Position, Error> {
        match self.0.parts.first() {
            Some(first) => read::read(&self.0.parts, (first.id.base, self.0.scan.end), visit),
            None => Ok(FIRST),
        }
    }
}

/// What a segment file has. Offsets are in the file.
#[derive(Debug)]
pub enum Dumped<'a> {
    /// Once, before all others.
    Head {
        epoch: Epoch,
        /// Of its first record.
        first: Position,
        /// The file of the segment before.
        before: Option<String>,
        /// Where each log begins, as the file says.
        starts: Vec<(LogId, Position)>,
    },
    Record {
        offset: u64,
        log: LogId,
        position: Position,
        bytes: &'a [u8],
    },
    /// Once, behind all others.
    End {
        offset: u64,
        /// What is there.
        what: &'static str,
    },
}

/// Tells what is in the bytes of a segment file, as far as they are sound.
///
/// # Errors
/// [`Error::Corrupt`]: its head has changed, or something behind the last sound record was synced; or it has no name of one.
pub fn dump(file_name: &str, bytes: &[u8], each: &mut dyn FnMut(Dumped<'_>)) -> Result<(), Error> {
    let id = SegmentId::parse(file_name).ok_or_else(|| Error::Corrupt {
        file: file_name.to_owned(),
        offset: 0,
        what: "no segment of a log is called so",
    })?;
    let head_bytes = usize::try_from(HEAD_BYTES).expect("it is small");
    let (head, records) = bytes
        .split_at_checked(head_bytes)
        .ok_or_else(|| corrupt(id, 0, "the file is cut off"))?;
    let slot = Slot::newest(head, id).ok_or_else(|| corrupt(id, 0, "its head has changed"))?;
    let starts = slot.table.0.iter();
    each(Dumped::Head {
        epoch: Epoch(id.epoch),
        first: id.base,
        before: slot.prev.map(SegmentId::file_name),
        starts: starts.map(|(log, kept)| (*log, kept.start)).collect(),
    });
    let (mut at, mut chain) = (0, slot.chain);
    let what = loop {
        let position = Position(id.base.0 + at as u64);
        let header = Header::parse(&records[at..], slot.salt)
            .filter(|header| header.position == position && header.prev == chain);
        let Some(header) = header else {
            break if at == records.len() {
                "the end of the file"
            } else {
                "no record"
            };
        };
        if header.is_mark() {
            break "the mark of the last sync";
        }
        let n_bytes = usize::try_from(header.bytes()).unwrap_or(usize::MAX);
        let whole = records[at..].get(..n_bytes);
        let body = whole.map(|whole| &whole[RECORD_HEAD_BYTES..]);
        let Some(body) = body.filter(|body| header.is_of(body)) else {
            break "a record that is torn, or has changed";
        };
        each(Dumped::Record {
            offset: HEAD_BYTES + at as u64,
            log: header.log,
            position,
            bytes: body,
        });
        (at, chain) = (at + n_bytes, header.head);
    };
    let offset = HEAD_BYTES + at as u64;
    each(Dumped::End { offset, what });
    let scanned = scan(records, &slot);
    scanned.map(drop).map_err(|offset| {
        let offset = HEAD_BYTES + offset as u64;
        corrupt(id, offset, "a synced record has changed")
    })
}
