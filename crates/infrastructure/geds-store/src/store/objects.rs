//! The objects on the disk, as the index knows them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ids::{Epoch, Name as Tenant};
use wal::Ticket;

use super::Store;
use super::tenants::Share;
use crate::arena::Object;
use crate::core::index::{
    By, Cause, Command, Loss, NodeId, ObjectId, Op, Placement, Precondition, Residency,
};
use crate::core::sums::CHUNK_BYTES;
use crate::core::to_usize;
use crate::error::{Kind, Result};
use crate::tier1::{self, Aligned, Prepared};

/// So many are looked at in one step.
const BATCH: usize = 1_000;
/// So much is copied at once on the disk.
const COPIED_BYTES: u64 = 1 << 20;

pub(super) fn on_disk(id: ObjectId) -> tier1::Id {
    tier1::Id {
        node: id.node.0,
        epoch: id.epoch.0,
        serial: id.serial,
    }
}

pub(super) fn in_index(id: tier1::Id) -> ObjectId {
    ObjectId {
        node: NodeId(id.node),
        epoch: Epoch(id.epoch),
        serial: id.serial,
    }
}

/// What was written to its end and wants a name, and is on the disk if it is to be durable. It is gone when it is dropped.
#[derive(Debug)]
pub struct Unnamed {
    /// `None`: it is on the disk only.
    pub(super) object: Option<Object>,
    pub(super) len: u64,
    pub(super) share: Arc<Share>,
    /// `None`: it is ephemeral.
    pub(super) prepared: Option<Prepared>,
}

impl Store {
    /// Brings an object to the disk, where it wants a name and a record. If there is no room, makes some, and waits for it until `room_by`. Not while
    /// nothing can be committed.
    pub(super) fn prepare(&self, object: &Object, room_by: Instant) -> Result<Prepared> {
        if let Err(error) = self.make_disk_room(object.len()) {
            tracing::warn!(%error, "make room on the disk");
        }
        self.write(object, room_by)
    }

    fn write(&self, object: &Object, room_by: Instant) -> Result<Prepared> {
        let opened = object.open()?;
        let views: Vec<_> = opened.views().collect();
        let pieces: Vec<&[u8]> = views.iter().map(|view| &**view).collect();
        Ok(self.0.disk.prepare(&pieces, object.sums(), room_by)?)
    }

    /// Makes one object of others, one after the other, where they lie on the disk of this node. `None`: they do not, or cannot be one.
    ///
    /// # Errors
    /// `Exhausted` when there is no room on the disk; what the disk says.
    pub fn join(&self, tenant: &Tenant, ids: &[ObjectId]) -> Result<Option<Unnamed>> {
        // What is to be repaired is read from where it is whole.
        if ids.iter().any(|id| self.damaged().contains(id)) {
            return Ok(None);
        }
        let ids: Vec<_> = ids.iter().map(|id| on_disk(*id)).collect();
        let joined = match self.0.disk.join(&ids, self.room_by()) {
            Err(tier1::Error::NotFound(_)) => None,
            joined => joined?,
        };
        let share = self.share(tenant)?;
        Ok(joined.map(|prepared| Unnamed {
            object: None,
            len: prepared.len(),
            share,
            prepared: Some(prepared),
        }))
    }

    /// Has it on the disk once more, to try again under another number.
    pub(super) fn prepare_again(&self, id: ObjectId, room_by: Instant) -> Result<Prepared> {
        let (disk, mut position) = (&self.0.disk, 0);
        // It shares its pages with the one before, if it is long.
        if let Some(prepared) = disk.join(&[on_disk(id)], room_by)? {
            return Ok(prepared);
        }
        let pinned = disk.pin(on_disk(id))?;
        let mut writer = disk.writer();
        let mut buffer = Aligned::zeroed(to_usize(COPIED_BYTES));
        while position < pinned.len() {
            let n = pinned.read_at(position, &mut buffer)?;
            let end = position + n as u64;
            let chunks = position / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES);
            let sums = &pinned.sums()[to_usize(chunks.start)..to_usize(chunks.end)];
            writer.append(&[&buffer[..n]], sums, room_by)?;
            position = end;
        }
        Ok(writer.finish()?)
    }

    /// The same for one that has a name. It is on the disk when the ticket is kept.
    pub(super) fn put(&self, id: ObjectId, object: &Object, room_by: Instant) -> Result<Ticket> {
        let prepared = self.prepare(object, room_by)?;
        Ok(self.0.disk.put_prepared(on_disk(id), prepared)?)
    }

    /// How many the disk has that are not freed. Takes as long as there are.
    pub(crate) fn n_on_disk(&self) -> usize {
        self.0.disk.objects(None, usize::MAX).len()
    }

    /// Nobody names it any more.
    pub(super) fn free(&self, id: ObjectId) {
        self.0.on_disk().remove(&id);
        match self.0.disk.free(on_disk(id)) {
            Ok(()) | Err(tier1::Error::NotFound(_)) => {}
            // The next start finds that nobody names it.
            Err(error) => tracing::warn!(?id, %error, "free an object on the disk"),
        }
    }

    /// Does the index say that there is this copy? `None`: nobody names the object, or it is known to be damaged.
    pub(super) fn is_known(&self, id: ObjectId, copy: &Residency) -> Option<bool> {
        self.0.namespace.read(|index| {
            let placement = index.object(id).ok()?.placement();
            let is_damaged = matches!(placement, Placement::Lost(Loss::Corrupt));
            (!is_damaged).then(|| placement.copies().contains(copy))
        })
    }

    /// Makes the index and the disk agree, at the start: what nobody names, or is known to be damaged, is freed, what was believed lost with the node
    /// is found, and what is not there is lost.
    pub(super) fn reconcile(&self) -> Result<()> {
        let inner = &*self.0;
        let here = Residency::Disk(inner.node);
        let mut after = None;
        loop {
            let found = inner.disk.objects(after, BATCH);
            let Some((last, _)) = found.last() else { break };
            after = Some(*last);
            for (id, bytes) in found {
                let id = in_index(id);
                match self.is_known(id, &here) {
                    Some(true) => {}
                    Some(false) => self.place(Op::AddCopy(id, here.clone()))?,
                    None => {
                        self.free(id);
                        continue;
                    }
                }
                self.came_to_disk(id, bytes);
            }
        }
        let missing = inner.namespace.read(|index| {
            let believed = index.objects().filter(|(id, object)| {
                object.placement().copies().contains(&here)
                    && inner.disk.len_of(on_disk(*id)).is_none()
            });
            believed.map(|(id, _)| id).collect::<Vec<_>>()
        });
        for id in missing {
            tracing::error!(?id, "an object that was on the disk is not there any more");
            self.place(Op::DropCopy(id, here.clone(), Cause::Corrupt))?;
        }
        Ok(())
    }

    /// Goes on after the disk was full, if it was. The bytes come before the names that promise them, and before what those replace is freed.
    pub(super) fn resume(&self) -> Result<()> {
        let inner = &*self.0;
        let is_full = || inner.wal.stats().is_full;
        inner.namespace.resume(is_full, || {
            if is_full() {
                let again = inner.disk.forget_refused().into_iter();
                let again = again.map(|(id, prepared)| (in_index(id), prepared));
                lock(&inner.refused).extend(again);
                inner.wal.resume();
            }
            self.put_refused()
        })?;
        inner.disk.free_again();
        self.put_refused()?;
        self.lose_refused()
    }

    /// Puts to the disk what its log has refused, also what nobody names any more: the log is told of its name, too, before it is told of another.
    fn put_refused(&self) -> Result<()> {
        let inner = &*self.0;
        let refused: Vec<_> = lock(&inner.refused).keys().copied().collect();
        let mut put = Vec::new();
        for id in refused {
            match self.put_again(id) {
                Ok(Some(ticket)) => put.push((id, ticket)),
                Ok(None) => {}
                Err(error) if error.kind == Kind::Conflict => {
                    lock(&inner.refused).remove(&id);
                }
                // Others have taken its place. It is tried again, and names go on meanwhile, or nothing could be deleted.
                Err(error) if error.kind == Kind::Exhausted && !inner.wal.stats().is_full => {}
                Err(error) => return Err(error),
            }
        }
        for (id, ticket) in put {
            ticket.wait()?;
            lock(&inner.refused).remove(&id);
            match inner.disk.len_of(on_disk(id)) {
                Some(bytes) if self.is_believed_here(id) => self.came_to_disk(id, bytes),
                _ => self.free(id),
            }
        }
        Ok(())
    }

    /// Its bytes may be where they were. `None`: they are gone, and not in memory.
    fn put_again(&self, id: ObjectId) -> Result<Option<Ticket>> {
        let inner = &*self.0;
        let prepared = lock(&inner.refused).get_mut(&id).and_then(Option::take);
        if let Some(mut prepared) = prepared {
            let put = inner.disk.try_put_prepared(on_disk(id), &mut prepared);
            if put.is_err() {
                lock(&inner.refused).insert(id, Some(prepared));
            }
            return Ok(Some(put?));
        }
        let kept = lock(&inner.kept).get(&id).cloned();
        let Some(resident) = kept.or_else(|| inner.residents.get(id)) else {
            return Ok(None);
        };
        let prepared = self.write(&resident.object, rt::now())?;
        Ok(Some(inner.disk.put_prepared(on_disk(id), prepared)?))
    }

    /// Nobody names it any more.
    pub(super) fn release(&self, id: ObjectId) {
        let inner = &*self.0;
        if let Some(resident) = inner.residents.remove(id) {
            let refused = lock(&inner.refused);
            if refused.contains_key(&id) || inner.disk.is_undecided(on_disk(id)) {
                lock(&inner.kept).insert(id, resident);
            }
        }
        inner.freed.1.notify_all();
        // Also if it came there in this moment, and the index does not know.
        self.free(id);
    }

    /// Lets go what the log knows now.
    pub(super) fn drop_kept(&self) {
        let inner = &*self.0;
        let refused = lock(&inner.refused);
        let is_needed =
            |id: &ObjectId| refused.contains_key(id) || inner.disk.is_undecided(on_disk(*id));
        lock(&inner.kept).retain(|id, _| is_needed(id));
    }

    /// What was refused and is not in memory any more is lost.
    fn lose_refused(&self) -> Result<()> {
        let here = Residency::Disk(self.0.node);
        let refused = lock(&self.0.refused);
        let gone = refused.iter().filter(|(_, prepared)| prepared.is_none());
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        drop(refused);
        for id in gone {
            let is_kept = lock(&self.0.kept).contains_key(&id);
            let is_here = is_kept || self.0.disk.len_of(on_disk(id)).is_some();
            if !is_here && self.0.residents.get(id).is_none() {
                if self.is_believed_here(id) {
                    self.place(Op::DropCopy(id, here.clone(), Cause::Corrupt))?;
                }
                lock(&self.0.refused).remove(&id);
            }
        }
        Ok(())
    }

    fn is_believed_here(&self, id: ObjectId) -> bool {
        let here = Residency::Disk(self.0.node);
        self.0.namespace.read(|index| {
            let object = index.object(id);
            object.is_ok_and(|object| object.placement().copies().contains(&here))
        })
    }

    /// Tells where there is a copy now. It may be that nobody names it any more.
    pub(super) fn place(&self, op: Op) -> Result<()> {
        let inner = &*self.0;
        if let Some(member) = &inner.member {
            return self.commit_there(member, Precondition::None, op).map(drop);
        }
        let (node, epoch) = self.identity();
        let command = Command {
            by: By::Node(node, epoch),
            when: Precondition::None,
            op,
        };
        let committed = inner.namespace.commit(command)?;
        self.settle(committed);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
