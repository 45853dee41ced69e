//! What a new owner finds in the directory.
//!
//! Several owners may believe in it at once: one may have been stopped for an hour in the middle of anything. So what was written by another
//! owner is only ever read, sealed where it was found to end, and removed; a new owner begins a segment of its own. An older owner that
//! goes on writes to where nobody looks, and learns after its next sync, before it acknowledges anything, that its claim is gone.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::during;
use crate::format::{FIRST, HEAD_BYTES, SLOT_BYTES, SegmentId, Slot};
use crate::scan::{Scan, scan, was_synced_beyond};
use crate::spares::Spares;
use crate::{Error, Position};

const CLAIM: &str = "owner-";

/// A segment of the log.
#[derive(Debug)]
pub(crate) struct Part {
    pub id: SegmentId,
    pub file: Arc<dyn DiskFile>,
    /// The head of the record before its first.
    pub chain: u32,
    pub salt: u32,
}

#[derive(Debug)]
pub(crate) struct Found {
    /// The oldest first. The last one is that of `slot`.
    pub parts: Vec<Arc<Part>>,
    pub slot: Slot,
    pub scan: Scan,
    /// The records from `scan.synced` to its end.
    pub unsynced: Vec<u8>,
}

/// Becomes the owner. The claim is a file of the next epoch; an owner whose claim has no name any more owns nothing. When this returns,
/// whatever earlier owners have acknowledged is to be seen in the directory, and they will acknowledge no more.
///
/// Claims need not be durable: they are between processes, and no process outlives the machine. Epochs are, in the names of segments.
pub(crate) fn claim(disk: &dyn Disk) -> Result<(u64, Arc<dyn DiskFile>), Error> {
    loop {
        let highest = during("list the log", disk.list())?;
        let highest = highest.iter().filter_map(|name| epoch_of(name)).max();
        // Epoch 0 is nobody's.
        let epoch = highest.unwrap_or(0).checked_add(1).ok_or(Error::Fenced)?;
        let claim = match disk.create(&claim_name(epoch)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => during("claim the log", result)?,
        };
        // Who has stood still between looking and claiming may be too late.
        let mut is_last = true;
        for name in during("list the log", disk.list())? {
            let other = name.strip_prefix(CLAIM).and_then(|_| epoch_of(&name));
            is_last &= other.is_none_or(|other| other <= epoch);
            if other.is_some_and(|other| other < epoch) {
                remove_if_there(disk, &name)?;
            }
        }
        return if is_last {
            Ok((epoch, claim))
        } else {
            Err(Error::Fenced)
        };
    }
}

fn claim_name(epoch: u64) -> String {
    format!("{CLAIM}{epoch:016x}")
}

/// The epoch in the name of a claim, a segment or a spare. All count: a crash may leave any of them without the others.
fn epoch_of(file_name: &str) -> Option<u64> {
    let claim = || {
        let epoch = file_name.strip_prefix(CLAIM)?;
        u64::from_str_radix(epoch, 16).ok()
    };
    let segment = || SegmentId::parse(file_name).map(|id| id.epoch);
    claim()
        .or_else(segment)
        .or_else(|| Spares::epoch_of(file_name))
}

pub(crate) fn remove_if_there(disk: &dyn Disk, name: &str) -> Result<(), Error> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => during("remove a file of the log", result),
    }
}

/// Finds the newest segment, where it ends, and those before it as far as something in them is kept; `None`: no log has been begun. And
/// the files that are not needed once all this is durable.
pub(crate) fn find(disk: &dyn Disk) -> Result<(Option<Found>, Vec<String>), Error> {
    let names = during("list the log", disk.list())?;
    let mut ids: Vec<_> = names
        .iter()
        .filter_map(|name| SegmentId::parse(name))
        .collect();
    ids.sort_unstable();
    let mut garbage: Vec<_> = names
        .into_iter()
        .filter(|name| Spares::epoch_of(name).is_some())
        .collect();
    while let Some(id) = ids.pop() {
        let file = open(disk, id)?;
        let Some(slot) = newest_slot(&*file, id)? else {
            // It was not begun when its owner stopped, or both slots have rotted since.
            let records = read_from(&*file, HEAD_BYTES)?;
            if was_synced_beyond(&records, id.base, id.base, None) {
                return Err(corrupt(id, 0, "it has records, and its head is gone"));
            }
            garbage.push(id.file_name());
            continue;
        };
        let mut found = end_of(id, file, slot)?;
        found.add_earlier(disk)?;
        let in_use = |id: &SegmentId| found.parts.iter().any(|part| part.id == *id);
        let unused = ids.into_iter().filter(|id| !in_use(id));
        garbage.extend(unused.map(SegmentId::file_name));
        return Ok((Some(found), garbage));
    }
    Ok((None, garbage))
}

fn open(disk: &dyn Disk, id: SegmentId) -> Result<Arc<dyn DiskFile>, Error> {
    match disk.open(&id.file_name()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(corrupt(id, 0, "it is gone")),
        result => during("open a segment file", result),
    }
}

/// All of the file from `offset` on.
fn read_from(file: &dyn DiskFile, offset: u64) -> Result<Vec<u8>, Error> {
    let read = || {
        let len = file.size()?.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    during("read a segment file", read())
}

fn newest_slot(file: &dyn DiskFile, id: SegmentId) -> Result<Option<Slot>, Error> {
    let mut head = [0; 2 * SLOT_BYTES];
    match file.read_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        result => {
            during("read a segment file", result)?;
            Ok(Slot::newest(&head, id))
        }
    }
}

fn end_of(id: SegmentId, file: Arc<dyn DiskFile>, slot: Slot) -> Result<Found, Error> {
    let mut records = read_from(&*file, HEAD_BYTES)?;
    let scan = scan(&records, &slot).map_err(|offset| {
        corrupt(
            id,
            HEAD_BYTES + offset as u64,
            "a synced record has changed",
        )
    })?;
    let offset =
        |position: Position| usize::try_from(position.0 - id.base.0).expect("it is in memory");
    let unsynced = records.split_off(offset(scan.synced));
    let n_unsynced = offset(scan.end) - offset(scan.synced);
    Ok(Found {
        parts: vec![Part::new(file, &slot)],
        unsynced: unsynced[..n_unsynced].to_vec(),
        slot,
        scan,
    })
}

impl Found {
    /// Of a log that has not been begun.
    pub(crate) fn nothing() -> Self {
        let mut salt = [0; 4];
        rt::fill_random(&mut salt);
        let id = SegmentId {
            base: FIRST,
            ..SegmentId::default()
        };
        Self {
            parts: Vec::new(),
            slot: Slot {
                id,
                salt: u32::from_le_bytes(salt),
                ..Slot::default()
            },
            scan: Scan {
                end: FIRST,
                synced: FIRST,
                ..Scan::default()
            },
            unsynced: Vec::new(),
        }
    }

    fn add_earlier(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        let floor = self.scan.table.floor(self.scan.end);
        let mut slot = self.slot.clone();
        while slot.id.base > floor {
            let id = slot
                .prev
                .ok_or_else(|| corrupt(slot.id, 0, "it names none before it"))?;
            let file = open(disk, id)?;
            slot = newest_slot(&*file, id)?.ok_or_else(|| corrupt(id, 0, "its head is gone"))?;
            self.parts.push(Part::new(file, &slot));
        }
        self.parts.reverse();
        Ok(())
    }
}

impl Part {
    pub(crate) fn new(file: Arc<dyn DiskFile>, slot: &Slot) -> Arc<Self> {
        Arc::new(Self {
            id: slot.id,
            file,
            chain: slot.chain,
            salt: slot.salt,
        })
    }
}

pub(crate) fn corrupt(id: SegmentId, offset: u64, what: &'static str) -> Error {
    Error::Corrupt {
        file: id.file_name(),
        offset,
        what,
    }
}
