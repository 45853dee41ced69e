//! What is in memory, and what leaves it.
//!
//! ```text
//!             ┌── clean: forgotten
//!  victims ───┼── spent, and only in memory: deleted
//!             └── dirty: to the disk, many with one sync ──▶ the index says so ──▶ forgotten
//! ```
//!
//! Memory is made when it is used to nine tenths, by [`Store::maintain`], and by writers that find none. What is read from the disk comes back,
//! if there is room or something clean to forget.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ids::Name as Tenant;

use super::objects::on_disk;
use super::reader::{Content, Reader};
use super::tenants::Share;
use super::{Ack, Store, now_ms};
use crate::arena;
use crate::core::index::{Cause, Name, Object, ObjectId, Op, Precondition, Residency};
use crate::core::victims::{Backing, Victim};
use crate::error::{Error, Kind, Result};
use crate::tier1;

/// So much is moved to the disk with one sync, and by so many objects.
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_OBJECTS: usize = 256;
/// So long a writer waits before it looks whether readers have let go of something.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// When it is used to more than this, it is made less, in percent.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 80;
/// Longer objects stay on the disk when they are read, until somebody writes them anew.
const PROMOTED_BYTES_MAX: u64 = 16 << 20;
/// A tenant that has all but one of so many parts of what it may have is to have what is spent deleted; so many objects at once.
const OWNED_PARTS: u64 = 8;
const DELETED_MAX: usize = 10_000;
/// So many objects wait at most to be brought back to memory. More are not.
const WANTED_MAX: usize = 256;

/// Counted since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From memory to the disk.
    pub spilled_objects: u64,
    pub spilled_bytes: u64,
    /// Of which there was another copy, so that memory could forget them.
    pub forgotten_objects: u64,
    /// From the disk to memory.
    pub promoted_objects: u64,
    pub promoted_bytes: u64,
    /// From the disk, because they are in S3 too.
    pub left_disk_objects: u64,
    /// Spent, and deleted because room was needed.
    pub deleted_objects: u64,
}

impl Store {
    /// What has moved between memory and the disk.
    #[must_use]
    pub fn moved(&self) -> Moved {
        *self.moved_mut()
    }

    pub(super) fn room_by(&self) -> Instant {
        rt::now() + self.0.room_wait
    }

    /// Does what needs memory of a tenant, again and again until there is some, or it has waited for long enough: it is told until when it may wait if
    /// nothing was found that could go.
    pub(super) fn with_room<T>(
        &self,
        share: &Arc<Share>,
        mut act: impl FnMut(Option<Instant>) -> Result<T>,
    ) -> Result<T> {
        let (mut by, mut stuck_by) = (None, None);
        loop {
            match act(stuck_by) {
                Err(error) if error.kind == Kind::Exhausted => {
                    let by = *by.get_or_insert_with(|| self.room_by());
                    if rt::now() >= by {
                        return Err(error);
                    }
                    let may_help = self.make_room(share, by);
                    stuck_by = (!may_help).then_some(by);
                }
                result => return result,
            }
        }
    }

    /// Has room in a tenant's memory for what another process writes, and for it to be sealed, until somebody takes it. Waits for it.
    ///
    /// # Errors
    /// `Exhausted`: there is none, or was none in time.
    pub fn make_room_for(&self, tenant: &Tenant, bytes: u64) -> Result<()> {
        let share = self.share(tenant)?;
        let mut written = share.domain.writer();
        self.with_room(&share, |_| Ok(written.reserve(bytes)?))?;
        // What others own in part is of no use to a process that has no memory yet.
        self.with_room(&share, |_| Ok(share.domain.try_room_of_client(bytes)?))
    }

    /// Moves something out of memory so that a tenant may have more, or waits a little while somebody else does. `false`: nothing can go.
    fn make_room(&self, share: &Arc<Share>, by: Instant) -> bool {
        self.drop_kept();
        let mut is_under_way = true;
        if let Ok(_alone) = self.0.evicting.try_lock() {
            is_under_way = false;
            match self.evict(&self.whose(share), BATCH_BYTES, true) {
                Ok(bytes) if bytes > 0 => return true,
                Ok(_) => {}
                // Whoever waits is told.
                Err(error) if error.kind == Kind::Exhausted => {}
                Err(error) => tracing::warn!(%error, "make room in memory"),
            }
        }
        // What is read or written stays. Whoever ends with something says so, but for readers.
        let left = by.saturating_duration_since(rt::now()).min(LOOK_AGAIN);
        let freed = self
            .0
            .freed
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.freed.1.wait_timeout(freed, left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        is_under_way
    }

    /// Makes room before somebody needs it.
    pub(super) fn keep_room(&self) -> Result<()> {
        for share in self.shares() {
            let limit = share.domain.limit_bytes();
            self.shrink(limit, |_| Arc::clone(&share), || share.victims().bytes())?;
        }
        let used = || {
            self.shares()
                .iter()
                .map(|share| share.victims().bytes())
                .sum()
        };
        self.shrink(self.0.arena.limit_bytes(), Self::largest, used)
    }

    fn shrink(
        &self,
        limit: u64,
        from: impl Fn(&Self) -> Arc<Share>,
        used: impl Fn() -> u64,
    ) -> Result<()> {
        if used() <= limit / 100 * HIGH_PERCENT {
            return Ok(());
        }
        while used() > limit / 100 * LOW_PERCENT && self.evict(&from(self), BATCH_BYTES, true)? > 0
        {
        }
        Ok(())
    }

    /// Who has to give: the tenant itself, if it has all that it may have or more than the others, else who has the most.
    fn whose(&self, share: &Arc<Share>) -> Arc<Share> {
        let own = &share.domain;
        if own.used_bytes() + self.0.arena.segment_bytes() > own.limit_bytes() {
            return Arc::clone(share);
        }
        let largest = self.largest();
        if largest.domain.used_bytes() > 2 * own.used_bytes() {
            largest
        } else {
            Arc::clone(share)
        }
    }

    fn largest(&self) -> Arc<Share> {
        let shares = self.shares();
        let largest = shares
            .into_iter()
            .max_by_key(|share| share.victims().bytes());
        largest.expect("whoever asks has a share")
    }

    /// Moves about so many bytes out of the memory of a tenant. Gives the number of those that have left; dirty ones only if that is allowed.
    fn evict(&self, share: &Arc<Share>, bytes_max: u64, with_dirty: bool) -> Result<u64> {
        let now_ms = now_ms();
        let (mut n_bytes, mut dirty, mut dirty_bytes) = (0, Vec::new(), 0);
        // Those that cannot go, so that they are not looked at again and again.
        let mut stay = Vec::new();
        let mut failed = Ok(());
        while n_bytes + dirty_bytes < bytes_max
            && dirty.len() < BATCH_OBJECTS
            && stay.len() < BATCH_OBJECTS
        {
            let Some(victim) = share.victims().next_victim(now_ms) else {
                break;
            };
            if self.0.residents.get(victim.key).is_none() {
                continue;
            }
            if !victim.is_dirty {
                if self.is_backed(victim.key) {
                    self.forget(victim.key);
                    self.moved_mut().forgotten_objects += 1;
                    n_bytes += victim.bytes;
                } else {
                    stay.push(victim);
                }
            } else if !with_dirty {
                stay.push(victim);
                break;
            } else {
                let deleted = if victim.is_spent {
                    self.delete_spent(victim.key, now_ms)
                } else {
                    Ok(false)
                };
                match deleted {
                    Ok(true) => n_bytes += victim.bytes,
                    Ok(false) => {
                        dirty_bytes += victim.bytes;
                        dirty.push(victim);
                    }
                    Err(error) => {
                        stay.push(victim);
                        failed = Err(error);
                        break;
                    }
                }
            }
        }
        let spilled = self.spill(dirty, &mut stay);
        for victim in stay {
            if self.0.residents.get(victim.key).is_some() {
                share.victims().put_back(victim);
            }
        }
        n_bytes += spilled?;
        if n_bytes > 0 {
            Ok(n_bytes)
        } else {
            failed.map(|()| 0)
        }
    }

    /// Is it, whole and for good, on the disk or in S3 too, or at another node? If it is lost there, memory has nothing that anybody can ask for.
    fn is_backed(&self, id: ObjectId) -> bool {
        let inner = &*self.0;
        let is_damaged = || {
            let damaged = inner.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.contains(&id)
        };
        let is_lost_or_elsewhere = || {
            inner.namespace.read(|index| {
                let placement = index.object(id).ok().map(Object::placement);
                placement.is_some_and(|placement| {
                    let copies = placement.copies();
                    let is_elsewhere = |copy: &Residency| copy.node() != Some(inner.node);
                    copies.is_empty() || copies.iter().any(is_elsewhere)
                })
            })
        };
        Self::is_block(id)
            || (inner.disk.is_durable(on_disk(id)) && !is_damaged())
            || is_lost_or_elsewhere()
    }

    /// Forgets what is in memory of an object that is somewhere else too.
    fn forget(&self, id: ObjectId) {
        let inner = &*self.0;
        inner.residents.remove(id);
        inner.namespace.read(|index| {
            // Whoever comes in between does not keep it: see `Warm::insert`.
            let names = index.object(id).map_or(&[][..], |object| object.names());
            names.iter().for_each(|name| inner.warm.remove(name));
        });
        inner.freed.1.notify_all();
    }

    /// Deletes an object all names of which are spent. `false`: somebody may want it.
    pub(super) fn delete_spent(&self, id: ObjectId, now_ms: u64) -> Result<bool> {
        let inner = &*self.0;
        loop {
            let name = inner.namespace.read(|index| {
                let names = index.object(id).map_or(&[][..], |object| object.names());
                let mut entries = names.iter().filter_map(|name| index.entry(name).ok());
                let is_spent = entries.all(|entry| entry.hints.is_spent(now_ms));
                let name = names.first().filter(|_| is_spent)?;
                Some((name.clone(), index.entry(name).ok()?.generation))
            });
            let Some((name, generation)) = name else {
                return Ok(inner.namespace.read(|index| index.object(id).is_err()));
            };
            let when = Precondition::Generation(generation);
            match self.commit(when, Op::Delete(name)) {
                Ok(ack) => {
                    // Nobody waits for it: it is spent as well after a crash.
                    drop(ack);
                    self.moved_mut().deleted_objects += 1;
                }
                // It is another now.
                Err(error) if matches!(error.kind, Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes what is spent of tenants that have nearly as much as they may: nobody else may need its room. Looks at all their names.
    pub(super) fn delete_spent_of_full(&self) -> Result<()> {
        let now_ms = now_ms();
        let spent = self.0.namespace.read(|index| {
            let limits = index.limits();
            let enough = limits.owned_bytes_max / OWNED_PARTS * (OWNED_PARTS - 1);
            let is_full = |owner: &Tenant| {
                limits.unlimited_owner.as_ref() != Some(owner) && index.owned_bytes(owner) > enough
            };
            let buckets = index.buckets().filter(|(_, bucket)| is_full(&bucket.owner));
            let names = buckets.filter_map(|(name, _)| index.names(name).ok());
            let entries = names.flat_map(|names| names.values());
            let spent = entries.filter(|entry| entry.hints.is_spent(now_ms));
            let ids = spent.map(|entry| entry.sealed.id);
            ids.take(DELETED_MAX).collect::<Vec<_>>()
        });
        for id in spent {
            self.delete_spent(id, now_ms)?;
        }
        Ok(())
    }

    /// Moves objects to the disk, and forgets them when they are there. Gives how many bytes of memory that has freed. What does not go stays.
    fn spill(
        &self,
        victims: Vec<Victim<ObjectId>>,
        stay: &mut Vec<Victim<ObjectId>>,
    ) -> Result<u64> {
        let mut put = Vec::new();
        let mut victims = victims.into_iter();
        let mut failed = Ok(());
        for victim in victims.by_ref() {
            let Some(resident) = self.0.residents.get(victim.key) else {
                continue;
            };
            match self.put(victim.key, &resident.object, rt::now()) {
                Ok(ticket) => put.push((victim, resident.object.len(), Some(ticket))),
                // It has been put before, or somebody else is doing it.
                Err(error) if error.kind == Kind::Conflict => {
                    if self.0.disk.is_durable(on_disk(victim.key)) {
                        put.push((victim, resident.object.len(), None));
                    } else {
                        stay.push(victim);
                    }
                }
                Err(error) => {
                    stay.push(victim);
                    failed = Err(error);
                    break;
                }
            }
        }
        stay.extend(victims);
        let mut n_bytes = 0;
        for (victim, len, ticket) in put {
            let durable = ticket.map_or(Ok(()), |ticket| {
                ticket.wait().map(|_| ()).map_err(Error::from)
            });
            match durable.and_then(|()| self.place_spilled(victim.key, len)) {
                Ok(()) => {
                    self.forget(victim.key);
                    n_bytes += victim.bytes;
                }
                Err(error) => {
                    stay.push(victim);
                    failed = Err(error);
                }
            }
        }
        if n_bytes > 0 {
            Ok(n_bytes)
        } else {
            failed.map(|()| 0)
        }
    }

    /// The disk has it; so memory need not.
    fn place_spilled(&self, id: ObjectId, bytes: u64) -> Result<()> {
        let [here, memory] = [Residency::Disk(self.0.node), Residency::Dram(self.0.node)];
        for op in [
            Op::AddCopy(id, here),
            Op::DropCopy(id, memory, Cause::Moved),
        ] {
            match self.place(op) {
                Ok(()) => {}
                Err(error) if error.kind == Kind::NotFound => {
                    // It was replaced or deleted meanwhile.
                    self.free(id);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.came_to_disk(id, bytes);
        let mut moved = self.moved_mut();
        moved.spilled_objects += 1;
        moved.spilled_bytes += bytes;
        Ok(())
    }

    /// Has an object on the disk that is only in memory, where it stays as well as long as there is room: the end of the node does not lose it any more.
    /// Waits for the disk.
    ///
    /// # Errors
    /// `NotFound`, `Lost`; `Exhausted`: there is no room on the disk.
    pub fn relocate(&self, tenant: &Tenant, name: &Name) -> Result<Ack> {
        let inner = &*self.0;
        let entry = Arc::clone(self.open_object(tenant, name)?.entry());
        let id = entry.sealed.id;
        let at = inner.namespace.read(|index| {
            let object = index.object(id).ok()?;
            let copies = object.placement().copies();
            let is_dirty = !copies.iter().any(Residency::is_durable);
            is_dirty.then(|| copies.first().and_then(Residency::node))
        });
        let resident = inner.residents.get(id);
        if let (Some(Some(at)), None) = (at, &resident)
            && at != inner.node
        {
            let what = format!("the object is in the memory of node {}: ask that one", at.0);
            return Err(Error::new(Kind::Unavailable, what));
        }
        if let (Some(_), Some(resident)) = (at, resident) {
            match self.put(id, &resident.object, self.room_by()) {
                Ok(ticket) => drop(ticket.wait()?),
                // Somebody else is doing it.
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
            self.place_spilled(id, resident.object.len())?;
            resident.share.victims().set_clean(&id);
        }
        self.barrier()
    }

    /// A consumer has read it: if nobody else is expected, it is a first victim.
    pub(super) fn note_consumed(&self, id: ObjectId) {
        let now_ms = now_ms();
        let is_spent = self.0.namespace.read(|index| {
            let names = index.object(id).map_or(&[][..], |object| object.names());
            let mut entries = names.iter().filter_map(|name| index.entry(name).ok());
            entries.all(|entry| entry.hints.is_spent(now_ms))
        });
        if is_spent {
            if let Some(resident) = self.0.residents.get(id) {
                resident.share.victims().set_spent(&id);
            }
            self.0.on_disk().set_spent(&id);
        }
    }

    /// Somebody reads it from the disk or from S3.
    pub(super) fn want(&self, reader: &Reader, share: &Arc<Share>) {
        let id = reader.entry().sealed.id;
        if let (Content::S3(_), Some(requests)) = (reader.content(), &self.0.requests) {
            return requests.want(id, share);
        }
        let mut wanted = self.wanted_mut();
        if wanted.len() < WANTED_MAX && wanted.iter().all(|(other, _)| *other != id) {
            wanted.push_back((id, Arc::clone(share)));
        }
    }

    fn wanted_mut(&self) -> MutexGuard<'_, VecDeque<(ObjectId, Arc<Share>)>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings to memory what was read from the disk, as far as there is room or something to forget for it.
    pub(super) fn promote_wanted(&self) {
        // Not those that come meanwhile: readers may go round in circles.
        let wanted = self.wanted_mut().drain(..).collect::<Vec<_>>();
        for (id, share) in wanted {
            match self.promote(id, &share) {
                Ok(()) => {}
                Err(error) if matches!(error.kind, Kind::Exhausted | Kind::NotFound) => {}
                // The node that has it is gone, perhaps.
                Err(error) if error.kind == Kind::Unavailable => {
                    tracing::debug!(?id, %error, "bring an object to memory");
                }
                Err(error) => tracing::warn!(?id, %error, "bring an object to memory"),
            }
        }
    }

    fn promote(&self, id: ObjectId, share: &Arc<Share>) -> Result<()> {
        const PIECE_BYTES: usize = 1 << 20;
        let inner = &*self.0;
        if inner.residents.get(id).is_some() {
            return Ok(());
        }
        if inner.disk.len_of(on_disk(id)).is_none()
            && let Some(reader) = self.find_elsewhere(id, &share.tenant)?
        {
            return self.bring_from(&reader, share);
        }
        let pinned = inner.disk.pin(on_disk(id))?;
        let mut written = self.room_for(share, pinned.len())?;
        let mut buffer = tier1::Aligned::zeroed(PIECE_BYTES);
        while written.len() < pinned.len() {
            let n = pinned.read_at(written.len(), &mut buffer)?;
            written.append(&buffer[..n])?;
        }
        let bytes = written.len();
        if self.keep_copy(id, share, written)? {
            let mut moved = self.moved_mut();
            moved.promoted_objects += 1;
            moved.promoted_bytes += bytes;
        }
        Ok(())
    }

    /// An object that another node has.
    fn find_elsewhere(&self, id: ObjectId, tenant: &Tenant) -> Result<Option<Reader>> {
        self.0.namespace.read(|index| {
            let object = index.object(id)?;
            let Some(name) = object.names().first() else {
                return Ok(None);
            };
            let entry = Arc::clone(index.entry(name)?);
            let content = self.content(&entry, object.placement(), tenant)?;
            let reader = Reader::new(entry, content);
            Ok(reader.is_elsewhere().then_some(reader))
        })
    }

    /// It never changes, and nobody is told of the copy: it goes when it is released.
    fn bring_from(&self, reader: &Reader, share: &Arc<Share>) -> Result<()> {
        let mut written = self.room_for(share, reader.len())?;
        for piece in reader.pieces(0..reader.len()) {
            written.append(&piece?)?;
        }
        let (id, bytes) = (reader.entry().sealed.id, reader.len());
        if self.keep_copy(id, share, written)? {
            let mut moved = self.moved_mut();
            moved.promoted_objects += 1;
            moved.promoted_bytes += bytes;
        }
        Ok(())
    }

    /// For a copy of something, if there is room or something to forget for it.
    pub(super) fn room_for(&self, share: &Arc<Share>, bytes: u64) -> Result<arena::Writer> {
        let mut written = share.domain.writer();
        if written.reserve(bytes).is_err() {
            self.evict(share, bytes, false)?;
            written.reserve(bytes)?;
        }
        Ok(written)
    }

    /// Keeps a copy of an object in memory. `false`: there is one, or nobody names it any more.
    pub(super) fn keep_copy(
        &self,
        id: ObjectId,
        share: &Arc<Share>,
        written: arena::Writer,
    ) -> Result<bool> {
        let object = share.domain.seal(written)?;
        let residents = &self.0.residents;
        self.0.namespace.read(|index| {
            // Once nobody names it, nobody takes it away again.
            if index.object(id).is_err() || residents.get(id).is_some() {
                return Ok(false);
            }
            residents.insert(id, object, share, Backing::Clean)?;
            Ok(true)
        })
    }
}

/// Is an object brought to memory when it is read?
pub(super) fn may_be_promoted(bytes: u64) -> bool {
    bytes <= PROMOTED_BYTES_MAX
}

#[cfg(test)]
mod tests;
