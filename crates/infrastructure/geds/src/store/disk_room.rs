//! Room on the disk: what leaves it when it is short.
//!
//! ```text
//!             ┌── in S3 too: forgotten
//!  victims ───┼── spent: deleted
//!             └── dirty: brought to S3 if its bucket is there, and a victim again when it is
//! ```

use super::Store;
use super::objects::on_disk;
use crate::core::index::{Cause, ObjectId, Op, Residency};
use crate::core::victims::Backing;
use crate::error::{Kind, Result};

/// When it is used to more than this, it is made less, in percent.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 80;
/// So many are passed over at once that cannot go.
const STAY_MAX: usize = 1024;

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
        let is_wanted = stats.waiting > 0 || used > limit / 100 * HIGH_PERCENT;
        if !is_wanted {
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
            let gone = if victim.is_spent {
                self.delete_spent(id, now_ms)
            } else {
                self.leave_disk(id)
            };
            match gone {
                Ok(true) => n_bytes += victim.bytes,
                Ok(false) => {
                    if victim.is_dirty {
                        self.bring_soon(id);
                    }
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
            object.is_ok_and(|object| super::remote::in_s3(object.placement()).is_some())
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
        let is_in_s3 = self.0.namespace.read(|index| {
            let object = index.object(id).ok()?;
            Some(super::remote::in_s3(object.placement()).is_some())
        });
        let Some(is_in_s3) = is_in_s3 else { return };
        let backing = if is_in_s3 {
            Backing::Clean
        } else {
            Backing::Dirty
        };
        self.0.on_disk().insert(id, bytes.max(1), backing);
    }
}
