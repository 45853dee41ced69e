//! Looking at what lies on the disk before somebody needs it.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ids::Name as Tenant;

use super::objects::{in_index, on_disk};
use super::{Condition, Status, Store};
use crate::core::index::{Cause, Name, ObjectId, Op, Placement, Residency};
use crate::core::sums::CHUNK_BYTES;
use crate::core::to_usize;
use crate::error::{Error, Kind, Result};
use crate::tier1::{self, Damage};

/// Where the next part of a scrub begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbing(Option<tier1::Cursor>);

/// How often an object is looked at that is read wrong, and then right, or that is replaced meanwhile.
const TRIES: usize = 4;

/// So much is looked at when the store is maintained.
const STEP_BYTES: u64 = 4 << 20;

/// The scrub that goes on beside everything else.
#[derive(Debug)]
pub(super) struct Scrubber {
    every: Duration,
    at: Scrubbing,
    begins: Instant,
}

impl Scrubber {
    pub(super) fn every(every: Duration) -> Self {
        Self {
            every,
            at: Scrubbing::default(),
            begins: rt::now(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    pub bytes: u64,
    /// Were damaged, and are whole again, or are in S3 too, and read from there.
    pub repaired: Vec<ObjectId>,
    /// Are damaged, and there is no other copy: they are [`Lost`](Placement::Lost) now.
    pub lost: Vec<ObjectId>,
    /// The disk does not give them now.
    pub unreadable: Vec<ObjectId>,
    /// All has been looked at: the next call begins again.
    pub is_over: bool,
}

impl Store {
    /// A step of the scrub that goes on, if it is time.
    pub(super) fn scrub_on(&self) -> Result<()> {
        let mut scrubber = self
            .0
            .scrubber
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if rt::now() >= scrubber.begins && self.scrub(&mut scrubber.at, STEP_BYTES)?.is_over {
            scrubber.begins = rt::now() + scrubber.every;
        }
        Ok(())
    }

    /// Reads about so many bytes of what is on the disk, from where the last call has stopped, and compares them with their checksums. What is
    /// damaged is written anew from memory, if it is there; else nobody is given it any more. Waits for the disk.
    ///
    /// # Errors
    /// `Unavailable`; `Exhausted`: there is no room to write something anew.
    pub fn scrub(&self, at: &mut Scrubbing, bytes_max: u64) -> Result<Scrubbed> {
        let part = self.0.disk.scrub(at.0, bytes_max)?;
        let mut scrubbed = Scrubbed {
            bytes: part.bytes,
            is_over: part.next.is_none(),
            ..Scrubbed::default()
        };
        let mut failed = Ok(());
        for damage in part.damages {
            let id = in_index(damage.id);
            match self.mend(id, &damage) {
                Ok(Condition::Repaired) => scrubbed.repaired.push(id),
                Ok(Condition::Lost) => scrubbed.lost.push(id),
                Ok(Condition::Unreadable) => scrubbed.unreadable.push(id),
                Ok(Condition::Whole) => {}
                // It was replaced or deleted meanwhile.
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => failed = Err(error),
            }
        }
        // Else it is looked at once more.
        failed?;
        at.0 = part.next;
        Ok(scrubbed)
    }

    /// Reads what is on the disk of an object, and does about damage what [`scrub`](Self::scrub) does. Waits for the disk.
    ///
    /// # Errors
    /// `NotFound`; `Exhausted`: there is no room to write it anew.
    pub fn scrub_object(&self, tenant: &Tenant, name: &Name) -> Result<Condition> {
        for _ in 0..TRIES {
            let Status { entry, placement } = self.status(tenant, name)?;
            if matches!(placement, Placement::Lost(_)) {
                return Ok(Condition::Lost);
            }
            let id = entry.sealed.id;
            let damage = match self.0.disk.scrub_one(on_disk(id)) {
                Ok(Some(damage)) => damage,
                Ok(None) => return Ok(Condition::Whole),
                // It is in memory or in S3 only.
                Err(error) if error.kind() == Kind::NotFound => return Ok(Condition::Whole),
                Err(error) => return Err(error.into()),
            };
            match self.mend(id, &damage) {
                // It was misread, and what lies behind was not looked at; or it was replaced meanwhile.
                Ok(Condition::Whole) => {}
                Err(error) if error.kind == Kind::NotFound => {}
                mended => return mended,
            }
        }
        Ok(Condition::Unreadable)
    }

    /// Does the same about an object of which a block was read that is damaged.
    pub(super) fn mend_named(&self, id: ObjectId) -> Result<()> {
        match self.0.disk.scrub_one(on_disk(id))? {
            Some(damage) => self.mend(id, &damage).map(drop),
            None => Ok(()),
        }
    }

    fn mend(&self, id: ObjectId, damage: &Damage) -> Result<Condition> {
        if let Some(resident) = self.0.residents.get(id) {
            self.damaged().insert(id);
            let views: Vec<_> = resident.opened.views().collect();
            let pieces: Vec<&[u8]> = views.iter().map(|view| &**view).collect();
            let repaired = self.0.disk.repair(on_disk(id), &pieces, rt::now());
            let repaired = repaired.map_err(Error::from);
            if let Err(error) = repaired.and_then(|ticket| Ok(ticket.wait()?)) {
                if error.kind == Kind::NotFound {
                    // It has left the disk meanwhile.
                    self.damaged().remove(&id);
                }
                return Err(error);
            }
            self.damaged().remove(&id);
            tracing::warn!(?id, error = %damage.error, "an object was damaged on the disk, and is repaired");
            return Ok(Condition::Repaired);
        }
        // It may lie somewhere else now, or have been misread.
        let mut block = vec![0; to_usize(CHUNK_BYTES)];
        let disk = &self.0.disk;
        let error = match disk.read_at(on_disk(id), damage.block * CHUNK_BYTES, &mut block) {
            Ok(_) => return Ok(Condition::Whole),
            Err(error) => error,
        };
        if error.kind() == Kind::NotFound {
            return Err(error.into());
        }
        if error.kind() != Kind::Corrupt {
            // The disk may be out of reach, and come back.
            tracing::error!(?id, %error, "an object cannot be read from the disk");
            return Ok(Condition::Unreadable);
        }
        let here = Residency::Disk(self.0.node);
        self.place(Op::DropCopy(id, here, Cause::Corrupt))?;
        self.free(id);
        let is_elsewhere = self.0.namespace.read(|index| {
            let object = index.object(id);
            object.is_ok_and(|object| !object.placement().copies().is_empty())
        });
        if is_elsewhere {
            tracing::warn!(?id, %error, "an object was damaged on the disk, and is read from S3");
            return Ok(Condition::Repaired);
        }
        tracing::error!(?id, %error, "an object is damaged on the disk, and lost");
        Ok(Condition::Lost)
    }

    pub(super) fn damaged(&self) -> MutexGuard<'_, BTreeSet<ObjectId>> {
        self.0
            .damaged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wal::testing::CrashDisk;

    use super::*;
    use crate::core::index::{Class, Precondition};
    use crate::store::tests::{Sizes, content, name, put_as, read, store_of, tenant};

    /// A bit of an object where it lies.
    fn flip(disk: &CrashDisk, store: &Store, key: &str) {
        let entry = store
            .status(&tenant("acme"), &name(key))
            .expect("it is there")
            .entry;
        let (file, offset) =
            tier1::testing::locate(&store.0.disk, on_disk(entry.sealed.id), 100_000);
        disk.flip(&file, offset, 4);
    }

    #[test]
    fn a_flipped_bit_is_found_and_repaired_from_memory_or_called_lost() {
        let disk = CrashDisk::default();
        let before = store_of(&disk, &Sizes::default());
        for n in 0..3 {
            let sealed = put_as(
                Class::Durable,
                &before,
                &format!("key-{n}"),
                &content(200_000, n),
                Precondition::None,
            );
            sealed.expect("sealed").1.wait().expect("durable");
        }
        let scrub = |store: &Store| {
            let (mut at, mut all) = (Scrubbing::default(), Scrubbed::default());
            while !all.is_over {
                let part = store.scrub(&mut at, 100_000).expect("it works");
                all.bytes += part.bytes;
                all.repaired.extend(part.repaired);
                all.lost.extend(part.lost);
                all.is_over = part.is_over;
            }
            all
        };
        let whole = scrub(&before);
        assert!(whole.bytes >= 600_000 && whole.repaired.is_empty() && whole.lost.is_empty());
        flip(&disk, &before, "key-1");
        let found = scrub(&before);
        assert_eq!((found.repaired.len(), found.lost.len()), (1, 0));
        assert!(scrub(&before).repaired.is_empty());
        drop(before);
        // Now nothing is in memory.
        let after = store_of(&disk, &Sizes::default());
        flip(&disk, &after, "key-2");
        assert_eq!(
            read(&after, "key-2").expect_err("it is damaged").kind,
            Kind::Corrupt
        );
        let found = scrub(&after);
        assert_eq!((found.repaired.len(), found.lost.len()), (0, 1));
        assert_eq!(read(&after, "key-2").expect_err("it is").kind, Kind::Lost);
        assert!(read(&after, "key-1").expect("it is there") == content(200_000, 1));
        assert!(scrub(&after).lost.is_empty());
    }

    #[test]
    fn one_object_can_be_looked_at() {
        let disk = CrashDisk::default();
        let before = store_of(&disk, &Sizes::default());
        for (n, class) in [Class::Durable, Class::Durable, Class::Ephemeral]
            .into_iter()
            .enumerate()
        {
            let key = format!("key-{n}");
            let sealed = put_as(
                class,
                &before,
                &key,
                &content(200_000, 0),
                Precondition::None,
            );
            sealed.expect("sealed").1.wait().expect("durable");
        }
        let scrub = |store: &Store, key: &str| store.scrub_object(&tenant("acme"), &name(key));
        let conditions = |store: &Store| {
            let all = ["key-0", "key-1", "key-2"].map(|key| scrub(store, key));
            all.map(|condition| condition.expect("it is there"))
        };
        flip(&disk, &before, "key-1");
        assert_eq!(
            conditions(&before),
            [Condition::Whole, Condition::Repaired, Condition::Whole]
        );
        assert_eq!(conditions(&before), [Condition::Whole; 3]);
        let missing = scrub(&before, "none").expect_err("it is not there");
        assert_eq!(missing.kind, Kind::NotFound);
        let theirs = before.scrub_object(&tenant("other"), &name("key-0"));
        assert_eq!(theirs.expect_err("it is acme's").kind, Kind::Denied);
        drop(before);
        // Now nothing is in memory, and what was only there is lost.
        let after = store_of(&disk, &Sizes::default());
        flip(&disk, &after, "key-1");
        let lost = [Condition::Whole, Condition::Lost, Condition::Lost];
        assert_eq!(conditions(&after), lost);
        assert_eq!(conditions(&after), lost);
    }
}
