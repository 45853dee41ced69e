//! What other processes of the machine do with the memory of their tenant: the arena shares it, and asks here what names stand for.

use std::sync::Arc;

use ids::Name as Tenant;

use super::{Ack, Store, Terms, Unnamed, check};
use crate::arena::{Domain, Object};
use crate::core::index::{Entry, Name};
use crate::error::Result;

impl Store {
    /// The memory of a tenant, for another process. From now on it is told which names stand for something else.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn lend(&self, tenant: &Tenant) -> Result<Domain> {
        let share = self.share(tenant)?;
        self.0.shares.set_shared(&share);
        Ok(share.domain.clone())
    }

    /// May a tenant name something so?
    ///
    /// # Errors
    /// `NotFound`; `Denied`.
    pub fn check_name(&self, tenant: &Tenant, name: &Name) -> Result<()> {
        self.check(tenant, &name.bucket)
    }

    /// Gives a name to what another process has written in the memory of its tenant. It is ephemeral.
    ///
    /// # Errors
    /// `Conflict` when it is not as the terms say; nothing was changed then.
    pub fn seal_object(
        &self,
        tenant: &Tenant,
        name: &Name,
        object: Object,
        terms: Terms,
    ) -> Result<(Arc<Entry>, Ack)> {
        let unnamed = Unnamed {
            len: object.len(),
            object: Some(object),
            share: self.share(tenant)?,
            prepared: None,
        };
        self.seal_with(name, unnamed, |index| {
            check(tenant, &name.bucket, index.bucket(&name.bucket)?)?;
            Ok(terms.clone())
        })
    }

    /// What a name stands for, if it is in memory. Else it is brought there soon, if it can be.
    ///
    /// # Errors
    /// Those of [`open_object`](Self::open_object).
    pub fn find_in_memory(
        &self,
        tenant: &Tenant,
        name: &Name,
    ) -> Result<Option<(Arc<Entry>, Object)>> {
        if self.through(&name.bucket).is_some() {
            // Blocks of it may be. They are read by the node protocol.
            return Ok(None);
        }
        let reader = self.open_object(tenant, name)?;
        Ok(reader
            .object()
            .map(|object| (Arc::clone(reader.entry()), object)))
    }
}
