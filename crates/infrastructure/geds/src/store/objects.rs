//! The objects on the disk, as the index knows them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ids::Epoch;
use wal::Ticket;

use super::Store;
use super::tenants::Share;
use crate::arena::Object;
use crate::core::index::{By, Cause, Command, NodeId, ObjectId, Op, Precondition, Residency};
use crate::error::Result;
use crate::tier1::{self, Prepared};

/// So many are looked at in one step.
const BATCH: usize = 1_000;

pub(super) fn on_disk(id: ObjectId) -> tier1::Id {
    tier1::Id {
        node: id.node.0,
        epoch: id.epoch.0,
        serial: id.serial,
    }
}

fn in_index(id: tier1::Id) -> ObjectId {
    ObjectId {
        node: NodeId(id.node),
        epoch: Epoch(id.epoch),
        serial: id.serial,
    }
}

/// What was written to its end and wants a name, and is on the disk if it is to be durable. It is gone when it is dropped.
#[derive(Debug)]
pub struct Unnamed {
    pub(super) object: Object,
    pub(super) share: Arc<Share>,
    /// `None`: it is ephemeral.
    pub(super) prepared: Option<Prepared>,
}

impl Store {
    /// Brings an object to the disk, where it wants a name and a record. If there is no room, waits for some until `room_by`.
    pub(super) fn prepare(&self, object: &Object, room_by: Instant) -> Result<Prepared> {
        let opened = object.open()?;
        let views: Vec<_> = opened.views().collect();
        let pieces: Vec<&[u8]> = views.iter().map(|view| &**view).collect();
        Ok(self.0.disk.prepare(&pieces, object.sums(), room_by)?)
    }

    /// The same for one that has a name. It is on the disk when the ticket is kept.
    pub(super) fn put(&self, id: ObjectId, object: &Object, room_by: Instant) -> Result<Ticket> {
        let prepared = self.prepare(object, room_by)?;
        Ok(self.0.disk.put_prepared(on_disk(id), prepared)?)
    }

    /// Nobody names it any more.
    pub(super) fn free(&self, id: ObjectId) {
        if let Err(error) = self.0.disk.free(on_disk(id)) {
            // The next start finds that nobody names it.
            tracing::debug!(?id, %error, "free an object on the disk");
        }
    }

    /// Makes the index and the disk agree, at the start: what nobody names is freed, what was believed lost is found, and what is not there is lost.
    pub(super) fn reconcile(&self) -> Result<()> {
        let inner = &*self.0;
        let here = Residency::Disk(inner.node);
        let mut after = None;
        loop {
            let found = inner.disk.objects(after, BATCH);
            let Some((last, _)) = found.last() else { break };
            after = Some(*last);
            for (id, _) in found {
                let id = in_index(id);
                let is_known = inner.namespace.read(|index| {
                    let object = index.object(id).ok()?;
                    Some(object.placement().copies().contains(&here))
                });
                match is_known {
                    Some(true) => {}
                    Some(false) => self.place(Op::AddCopy(id, here.clone()))?,
                    None => self.free(id),
                }
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

    /// Goes on after the disk was full.
    pub(super) fn resume(&self) -> Result<()> {
        let inner = &*self.0;
        inner.namespace.resume(|| {
            let refused = inner.disk.forget_refused();
            let mut all = lock(&inner.refused);
            all.extend(refused.into_iter().map(in_index));
            drop(all);
            inner.wal.resume();
        })
    }

    /// Puts to the disk what its log has refused. What is not in memory any more is lost.
    pub(super) fn put_refused(&self) -> Result<()> {
        let inner = &*self.0;
        let here = Residency::Disk(inner.node);
        loop {
            let Some(id) = lock(&inner.refused).first().copied() else {
                return Ok(());
            };
            let is_wanted = inner.namespace.read(|index| {
                let object = index.object(id);
                object.is_ok_and(|object| object.placement().copies().contains(&here))
            });
            if is_wanted {
                match inner.residents.get(id) {
                    Some(resident) => {
                        let put = self.put(id, &resident.object, rt::now())?;
                        put.wait()?;
                    }
                    None => self.place(Op::DropCopy(id, here.clone(), Cause::Corrupt))?,
                }
            }
            lock(&inner.refused).remove(&id);
        }
    }

    /// Tells where there is a copy now. It may be that nobody names it any more.
    pub(super) fn place(&self, op: Op) -> Result<()> {
        let inner = &*self.0;
        let command = Command {
            by: By::Node(inner.node, inner.epoch),
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
