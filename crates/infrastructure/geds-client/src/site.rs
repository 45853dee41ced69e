//! What nodes of a site say to each other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use geds_core::Result;
use geds_core::index::Entry;
use ids::Name as Tenant;

use crate::connection::Asked;
use crate::wire::{Reply, Request, Site};
use crate::{Client, Object};

impl Client {
    /// Is there nothing to be had from it any more?
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    pub async fn tell<T: Reply>(&self, site: Site) -> Result<(T, Bytes)> {
        self.0.ask(&Request::Site(site)).await
    }

    /// Sent, and not yet answered: what is sent later is heard later.
    pub async fn begin_to_tell(&self, site: Site) -> Result<Asked> {
        self.0.send(&Request::Site(site), Vec::new()).await
    }

    /// Opens what the node has of an object, and reads its beginning.
    pub async fn hold(
        &self,
        entry: &Arc<Entry>,
        tenant: &Tenant,
        first: Range<u64>,
    ) -> Result<Object> {
        Object::hold(&self.0, entry, tenant, first).await
    }
}
