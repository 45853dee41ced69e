//! Changes that depend on what there is at their moment, for the faces of the store: who calls them has found out what the caller may do.

use std::result::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ids::Epoch;

use super::objects::{Unnamed, on_disk};
use super::{Ack, Store, Terms, entry_of, now_ms};
use crate::core::index::{
    By, Change, Class, Command, Entry, Etag, Index, Name, ObjectId, Op, Precondition, Residency,
    Seal, Sealed,
};
use crate::core::victims::Backing;
use crate::error::Error;

/// What a new object is called under its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub epoch: Epoch,
    pub serial: u64,
}

impl Store {
    /// Gives a name to what was written, on terms that depend on what there is. Nothing is committed between the two.
    ///
    /// # Errors
    /// Those of `terms`, and when they are not as things are. Nothing was changed then, and what was written is gone.
    pub fn seal_with<E: From<Error>>(
        &self,
        name: &Name,
        unnamed: Unnamed,
        mut terms: impl FnMut(&Index) -> Result<Terms, E>,
    ) -> Result<(Arc<Entry>, Ack), E> {
        let inner = &self.0;
        self.check_index(&name.bucket)?;
        if let Some(member) = &inner.member {
            return self.seal_there(member, name, unnamed, terms);
        }
        let Unnamed {
            object,
            len: bytes,
            share,
            prepared,
        } = unnamed;
        let (class, backing) = match prepared {
            Some(_) => (Class::Durable, Backing::Clean),
            None => (Class::Ephemeral, Backing::Dirty),
        };
        let mut expires_at_ms = None;
        let (mut sealed, mut put) = (None, None);
        let committed = inner.namespace.commit_with(|index| {
            let terms = terms(index)?;
            expires_at_ms = terms.expires_at_ms;
            // It orders nothing else: who is here has a lock.
            let serial = inner.last_serial.fetch_add(1, Ordering::Relaxed) + 1;
            let (_, epoch) = self.identity();
            let numbered = Numbered { epoch, serial };
            let (id, command) = self.seal_command(name, (class, bytes), numbered, terms)?;
            let record = index.decide(command).map_err(Error::from)?;
            sealed = Some(id);
            if let Some(prepared) = prepared {
                let ticket = inner.disk.put_prepared(on_disk(id), prepared);
                put = Some(ticket.map_err(Error::from)?);
            }
            // Whoever sees the name finds the data.
            if let Some(object) = object {
                let inserted = inner.residents.insert(id, object, &share, backing);
                inserted.map_err(E::from)?;
            }
            Ok::<_, E>(record)
        });
        if committed.is_err()
            && let Some(id) = sealed
        {
            inner.residents.remove(id);
            if class == Class::Durable {
                self.free(id);
            }
        }
        let committed = committed?;
        if let Some(put) = put {
            // The record of the name is behind this one in the same log, and so is its ticket.
            put.leave_to_later();
        }
        if let Some(id) = sealed
            && class == Class::Durable
        {
            self.came_to_disk(id, bytes);
        }
        if let Some(id) = sealed
            && expires_at_ms.is_some()
        {
            share.victims().set_expiry(&id, expires_at_ms);
        }
        let changes = committed.commit.iter().flat_map(|commit| &*commit.changes);
        let entry = entry_of(changes, name)?;
        inner.counts.sealed(entry.sealed.size);
        Ok((entry, self.settle(committed)))
    }

    /// With a number that no other object has, also if nothing comes of it. Numbers only grow in the order of the index, so this is called when nobody
    /// else commits.
    pub(super) fn seal_command(
        &self,
        name: &Name,
        (class, size): (Class, u64),
        Numbered { epoch, serial }: Numbered,
        terms: Terms,
    ) -> Result<(ObjectId, Command), Error> {
        let node = self.0.node;
        let id = ObjectId {
            node,
            epoch,
            serial,
        };
        let etag = match terms.etag {
            Some(etag) => etag,
            None => unique_etag(id)?,
        };
        let copy = match class {
            Class::Ephemeral => Residency::Dram(node),
            Class::Durable => Residency::Disk(node),
        };
        let seal = Seal {
            name: name.clone(),
            sealed: Sealed {
                id,
                size,
                etag,
                class,
            },
            modified_at_ms: now_ms(),
            metadata: terms.metadata,
            expires_at_ms: terms.expires_at_ms,
            readers: terms.readers,
            copies: [copy].into_iter().collect(),
        };
        let command = Command {
            by: By::Node(node, epoch),
            when: terms.when,
            op: Op::Seal(Box::new(seal)),
        };
        Ok((id, command))
    }

    /// Changes names as what there is demands; `None`: not at all. Tells what has changed.
    ///
    /// # Errors
    /// Those of `op`, and why the index refuses it: nothing was changed.
    pub fn change_with<E: From<Error>>(
        &self,
        mut op: impl FnMut(&Index) -> Result<Option<Op>, E>,
    ) -> Result<(Arc<[Change]>, Ack), E> {
        if let Some(member) = &self.0.member {
            return self.change_there(member, op);
        }
        let committed = self.0.namespace.commit_with(|index| {
            let Some(op) = op(index)? else {
                return Ok(None);
            };
            let command = Command {
                by: By::Owner,
                when: Precondition::None,
                op,
            };
            Ok::<_, E>(index.decide(command).map_err(Error::from)?)
        })?;
        let commit = committed.commit.as_ref();
        let changes = commit.map_or_else(|| [].into(), |commit| Arc::clone(&commit.changes));
        Ok((changes, self.settle(committed)))
    }
}

/// Of data that nobody else has sealed.
fn unique_etag(id: ObjectId) -> Result<Etag, Error> {
    let ObjectId {
        node,
        epoch,
        serial,
    } = id;
    let text = format!("{:08x}{:08x}{serial:016x}", node.0, epoch.0);
    Ok(Etag::new(&text)?)
}
