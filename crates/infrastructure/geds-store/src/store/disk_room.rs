//! Room on the disk: what leaves it when it is short.
//!
//! ```text
//!             ┌── in S3 too: forgotten
//!  victims ───┼── spent: deleted
//!             └── dirty: brought to S3 if its bucket is there, and a victim again when it is
//! ```

use super::Store;
use super::objects::on_disk;
use super::remote::in_s3;
use crate::core::index::{Cause, Hints, ObjectId, Op, Residency};
use crate::core::victims::Backing;
use crate::error::{Kind, Result};

/// When it is used to more than this, it is made less, in percent.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 80;
/// So many are passed over at once that cannot go.
const STAY_MAX: usize = 256;
/// So much at least goes for who waits.
const BATCH_BYTES: u64 = 8 << 20;

impl Store {
    /// Makes room on the disk before somebody needs it.
    pub(super) fn keep_disk_room(&self) -> Result<()> {
        self.make_disk_room(0)
    }

    /// Makes room on the disk for so many bytes more, as far as something can go.
    pub(super) fn make_disk_room(&self, bytes: u64) -> Result<()> {
        let stats = self.0.disk.stats();
        let limit = stats.limit_bytes - stats.apart_bytes.min(stats.limit_bytes);
        let used = stats.used_bytes.saturating_add(bytes);
        let bytes = match stats.waiting {
            0 => bytes,
            // They want something, and do not say how much.
            _ => bytes.max(BATCH_BYTES),
        };
        if stats.waiting == 0 && used <= limit / 100 * HIGH_PERCENT {
            return Ok(());
        }
        // Who finds somebody at it waits for room like everybody.
        let Ok(_alone) = self.0.evicting_from_disk.try_lock() else {
            return Ok(());
        };
        self.evict_from_disk(used.saturating_sub(limit / 100 * LOW_PERCENT).max(bytes))
    }

    fn evict_from_disk(&self, bytes_max: u64) -> Result<()> {
        let now_ms = super::now_ms();
        let (mut n_bytes, mut stay) = (0, Vec::new());
        let mut evicted = Ok(());
        while n_bytes < bytes_max && stay.len() < STAY_MAX {
            let Some(victim) = self.0.on_disk().next_victim(now_ms) else {
                break;
            };
            let id = victim.key;
            if self.0.disk.len_of(on_disk(id)).is_none() {
                continue;
            }
            let gone = match victim.is_spent {
                true => self.delete_spent(id, now_ms),
                false => Ok(false),
            };
            let gone = gone.and_then(|is_gone| Ok(is_gone || self.leave_disk(id)?));
            match gone {
                Ok(true) => n_bytes += victim.bytes,
                // Somebody wants it again.
                Ok(false) if victim.is_spent => self.came_to_disk(id, victim.bytes),
                Ok(false) => {
                    self.bring_soon(id);
                    stay.push(victim);
                }
                Err(error) => {
                    stay.push(victim);
                    evicted = Err(error);
                    break;
                }
            }
        }
        for victim in stay {
            if self.0.disk.len_of(on_disk(victim.key)).is_some() {
                self.0.on_disk().put_back(victim);
            }
        }
        evicted
    }

    /// Forgets what is on the disk of an object that is in S3 too. `false`: it is not.
    fn leave_disk(&self, id: ObjectId) -> Result<bool> {
        let here = Residency::Disk(self.0.node);
        let is_in_s3 = self.0.namespace.read(|index| {
            let object = index.object(id);
            object.is_ok_and(|object| in_s3(object.placement()).is_some())
        });
        if !is_in_s3 {
            return Ok(false);
        }
        match self.place(Op::DropCopy(id, here, Cause::Moved)) {
            Ok(()) => {
                self.free(id);
                self.moved_mut().left_disk_objects += 1;
                Ok(true)
            }
            // It was replaced or deleted meanwhile.
            Err(error) if error.kind == Kind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// It is on the disk now.
    pub(super) fn came_to_disk(&self, id: ObjectId, bytes: u64) {
        let known = self.0.namespace.read(|index| {
            let object = index.object(id).ok()?;
            let backing = match in_s3(object.placement()) {
                Some(_) => Backing::Clean,
                None => Backing::Dirty,
            };
            // Of several names, the last one counts.
            let entries = object.names().iter().map(|name| index.entry(name).ok());
            let spent = entries.map(|entry| entry.map(|entry| spent_at(&entry.hints)));
            Some((backing, spent.max().flatten()?))
        });
        let Some((backing, spent_at_ms)) = known else {
            return;
        };
        let mut on_disk = self.0.on_disk();
        on_disk.insert(id, bytes.max(1), backing);
        on_disk.set_expiry(&id, (spent_at_ms < u64::MAX).then_some(spent_at_ms));
    }
}

/// From when on nobody needs it, as far as is known.
fn spent_at(hints: &Hints) -> u64 {
    if hints.is_spent(0) {
        return 0;
    }
    hints.expires_at_ms.unwrap_or(u64::MAX)
}
