//! Looking at what nobody reads, before it is needed.

use super::aligned::Aligned;
use super::error::{Error, Result};
use super::reading::Pinned;
use super::store::Store;
use crate::core::catalogue::{BLOCK_BYTES, Id};

const READ_BYTES: usize = 1 << 20;

/// Where a scrub goes on: in that object, at that block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    id: Id,
    block: u64,
}

impl Cursor {
    /// Behind an object that has been looked at to its end.
    const BEHIND: u64 = u64::MAX;
}

/// A block that is not what it was, or that the disk does not give.
#[derive(Clone, Debug)]
pub struct Damage {
    pub id: Id,
    pub block: u64,
    pub error: Error,
}

#[derive(Debug)]
pub struct Scrubbed {
    /// At most one of each object, in the order of their names. Whoever has another copy [repairs](Store::repair) it; else the object is lost.
    pub damages: Vec<Damage>,
    pub bytes: u64,
    /// Where to go on. `None`: all has been looked at.
    pub next: Option<Cursor>,
}

impl Store {
    /// Reads what lies on the disk and compares it with its checksums: about so many bytes, from where the last call has stopped, or from the
    /// beginning. At the end it looks at the copies of the catalogue, and writes a damaged one anew.
    ///
    /// # Errors
    /// `Unavailable`, when the catalogue cannot be written.
    pub fn scrub(&self, from: Option<Cursor>, bytes_max: u64) -> Result<Scrubbed> {
        let mut scrubbed = Scrubbed {
            damages: Vec::new(),
            bytes: 0,
            next: from,
        };
        let mut buffer = Aligned::zeroed(READ_BYTES);
        while scrubbed.bytes < bytes_max {
            let Some((pinned, block)) = self.next_to_scrub(scrubbed.next) else {
                scrubbed.next = None;
                self.scrub_catalogue()?;
                break;
            };
            let block = scrub_object(&pinned, block, &mut buffer, bytes_max, &mut scrubbed);
            let id = pinned.id();
            scrubbed.next = Some(Cursor { id, block });
        }
        Ok(scrubbed)
    }

    /// The same for one object, to its end: what is damaged of it, if anything is.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn scrub_one(&self, id: Id) -> Result<Option<Damage>> {
        let mut scrubbed = Scrubbed {
            damages: Vec::new(),
            bytes: 0,
            next: None,
        };
        let mut buffer = Aligned::zeroed(READ_BYTES);
        scrub_object(&self.pin(id)?, 0, &mut buffer, u64::MAX, &mut scrubbed);
        Ok(scrubbed.damages.pop())
    }

    fn next_to_scrub(&self, from: Option<Cursor>) -> Option<(Pinned, u64)> {
        let within = from.filter(|cursor| cursor.block != Cursor::BEHIND);
        if let Some(cursor) = within
            && let Ok(pinned) = self.pin(cursor.id)
        {
            return Some((pinned, cursor.block));
        }
        let mut after = from.map(|cursor| cursor.id);
        loop {
            let (id, _) = *self.objects(after, 1).first()?;
            if let Ok(pinned) = self.pin(id) {
                return Some((pinned, 0));
            }
            // It has been freed in between.
            after = Some(id);
        }
    }

    fn scrub_catalogue(&self) -> Result<()> {
        let inner = &self.inner;
        let mut keeping = inner.keeping();
        let edition = keeping.editions.into_iter().max().unwrap_or(0);
        for copy in 0..keeping.editions.len() {
            let whole = inner.snapshots.check(copy);
            let is_whole = matches!(whole, Ok(Some(found)) if found == edition);
            keeping.editions[copy] = if is_whole { edition } else { 0 };
        }
        if keeping.editions.contains(&0) {
            inner.checkpoint(&mut keeping)?;
        }
        Ok(())
    }
}

/// Looks at an object from that block on. Returns where it has stopped.
fn scrub_object(
    pinned: &Pinned,
    mut block: u64,
    buffer: &mut [u8],
    bytes_max: u64,
    scrubbed: &mut Scrubbed,
) -> u64 {
    while pinned.is_on_disk() && block * BLOCK_BYTES < pinned.len() {
        if scrubbed.bytes >= bytes_max {
            return block;
        }
        match pinned.read_at(block * BLOCK_BYTES, buffer) {
            Ok(n) => {
                scrubbed.bytes += n as u64;
                block += (n as u64).div_ceil(BLOCK_BYTES);
            }
            Err(error) => {
                if let Error::Corrupt { id, block } | Error::Unreadable { id, block, .. } = error {
                    scrubbed.damages.push(Damage { id, block, error });
                }
                break;
            }
        }
    }
    Cursor::BEHIND
}
