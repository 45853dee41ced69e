//! What nodes of a site say to each other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ids::Name as Tenant;

use super::connection::Asked;
use super::{Client, Object};
use crate::core::index::Entry;
use crate::error::Result;
use crate::wire::{Reply, Request, Site};

impl Client {
    /// Is there nothing to be had from it any more?
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }

    pub(crate) async fn tell<T: Reply>(&self, site: Site) -> Result<(T, Bytes)> {
        self.0.ask(&Request::Site(site)).await
    }

    /// Sent, and not yet answered: what is sent later is heard later.
    pub(crate) async fn begin_to_tell(&self, site: Site) -> Result<Asked> {
        self.0.send(&Request::Site(site), Vec::new()).await
    }

    /// Opens what the node has of an object, and reads its beginning.
    pub(crate) async fn hold(
        &self,
        entry: &Arc<Entry>,
        tenant: &Tenant,
        first: Range<u64>,
    ) -> Result<Object> {
        Object::hold(&self.0, entry, tenant, first).await
    }
}
