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
use crate::scan::{Scan, scan};
use crate::spares::{self, Spares};
use crate::{Error, Position};

const CLAIM: &str = "owner-";

/// A segment of the log.
#[derive(Debug)]
pub(crate) struct Part {
    pub id: SegmentId,
    pub file: Arc<dyn DiskFile>,
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
        let claim = match disk.create(&format!("{CLAIM}{epoch:016x}")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => during("claim the log", result)?,
        };
        let names = during("list the log", disk.list())?;
        let mut others = names.iter().filter_map(|name| epoch_of(name));
        // Who has stood still between looking and claiming may be too late.
        if others.any(|other| other > epoch) {
            return Err(Error::Fenced);
        }
        // In this order, so that who finds its spare gone finds its claim gone, too.
        for prefix in [CLAIM, spares::PREFIX] {
            let of_others = names.iter().filter(|name| epoch_of(name) < Some(epoch));
            for name in of_others.filter(|name| name.starts_with(prefix)) {
                remove_if_there(disk, name)?;
            }
        }
        return Ok((epoch, claim));
    }
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
/// the segments that are not needed once all this is durable.
pub(crate) fn find(disk: &dyn Disk) -> Result<(Option<Found>, Vec<String>), Error> {
    let names = during("list the log", disk.list())?;
    let ids = names.iter().filter_map(|name| SegmentId::parse(name));
    let mut ids: Vec<_> = ids.collect();
    let Some(newest) = ids.iter().max() else {
        return Ok((None, Vec::new()));
    };
    let (file, slot) = open(disk, *newest)?;
    let mut found = end_of(file, slot)?;
    found.add_earlier(disk)?;
    ids.retain(|id| found.parts.iter().all(|part| part.id != *id));
    Ok((
        Some(found),
        ids.into_iter().map(SegmentId::file_name).collect(),
    ))
}

fn open(disk: &dyn Disk, id: SegmentId) -> Result<(Arc<dyn DiskFile>, Slot), Error> {
    let file = match disk.open(&id.file_name()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(id, 0, "it is gone"));
        }
        result => during("open a segment file", result)?,
    };
    let mut head = [0; 2 * SLOT_BYTES];
    let slot = match file.read_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        result => {
            during("read a segment file", result)?;
            Slot::newest(&head, id)
        }
    };
    let slot = slot.ok_or_else(|| corrupt(id, 0, "its head has changed"))?;
    Ok((file, slot))
}

fn end_of(file: Arc<dyn DiskFile>, slot: Slot) -> Result<Found, Error> {
    let read = || {
        let len = file.size()?.saturating_sub(HEAD_BYTES);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_at(&mut bytes, HEAD_BYTES)?;
        Ok(bytes)
    };
    let mut records = during("read a segment file", read())?;
    let id = slot.id;
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
            let file;
            (file, slot) = open(disk, id)?;
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
