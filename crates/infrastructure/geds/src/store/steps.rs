//! Changes that depend on what there is at their moment, for the faces of the store: who calls them has found out what the caller may do.

use std::result::Result;
use std::sync::Arc;

use ids::Name as Tenant;

use super::{Ack, Store, Terms, entry_of, now_ms};
use crate::arena::Writer;
use crate::core::index::{
    By, Change, Class, Command, Entry, Etag, Index, Name, ObjectId, Op, Precondition, Residency,
    Seal, Sealed,
};
use crate::error::Error;

impl Store {
    /// Gives a name to what was written in the memory of a tenant, on terms that depend on what there is. Nothing is committed between the two.
    ///
    /// # Errors
    /// Those of `terms`, and when they are not as things are. Nothing was changed then, and what was written is gone.
    pub(crate) fn seal_with<E: From<Error>>(
        &self,
        tenant: &Tenant,
        name: &Name,
        writer: Writer,
        terms: impl FnOnce(&Index) -> Result<Terms, E>,
    ) -> Result<(Arc<Entry>, Ack), E> {
        let object = self.domain(tenant)?.1.seal(writer)?;
        let inner = &self.0;
        let (node, epoch) = (inner.node, inner.epoch);
        let mut id = None;
        let committed = inner.namespace.commit_with(|index| {
            let terms = terms(index)?;
            let serial = index.node(node).map_or(0, |node| node.last_serial) + 1;
            let new = ObjectId {
                node,
                epoch,
                serial,
            };
            let etag = match terms.etag {
                Some(etag) => etag,
                None => unique_etag(new)?,
            };
            let sealed = Sealed {
                id: new,
                size: object.len(),
                etag,
                class: Class::Ephemeral,
            };
            // Whoever sees the name finds the data.
            inner.residents.insert(new, object);
            id = Some(new);
            let seal = Seal {
                name: name.clone(),
                sealed,
                modified_at_ms: now_ms(),
                metadata: terms.metadata,
                expires_at_ms: terms.expires_at_ms,
                readers: terms.readers,
                copies: [Residency::Dram(node)].into_iter().collect(),
            };
            Ok::<_, E>(Some(Command {
                by: By::Node(node, epoch),
                when: terms.when,
                op: Op::Seal(Box::new(seal)),
            }))
        });
        if committed.is_err()
            && let Some(id) = id
        {
            inner.residents.remove(id);
        }
        let committed = committed?;
        let changes = committed.commit.iter().flat_map(|commit| &*commit.changes);
        let entry = entry_of(changes, name)?;
        Ok((entry, self.settle(committed)))
    }

    /// Changes names as what there is demands; `None`: not at all. Tells what has changed.
    ///
    /// # Errors
    /// Those of `op`, and why the index refuses it: nothing was changed.
    pub(crate) fn change_with<E: From<Error>>(
        &self,
        op: impl FnOnce(&Index) -> Result<Option<Op>, E>,
    ) -> Result<(Arc<[Change]>, Ack), E> {
        let committed = self.0.namespace.commit_with(|index| {
            let op = op(index)?;
            Ok::<_, E>(op.map(|op| Command {
                by: By::Owner,
                when: Precondition::None,
                op,
            }))
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
