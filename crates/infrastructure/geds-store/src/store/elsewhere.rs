//! Objects that are open: here, or where another node has them.

use std::sync::Arc;
use std::time::Duration;

use ids::Name as Tenant;

use super::Store;
use super::disk_reader::OnDisk;
use super::reader::{Content, Reader};
use super::remote::in_s3;
use crate::core::index::{Entry, Name, ObjectId, Placement, Residency};
use crate::error::{Error, Kind, Result};
use crate::site::member::OWNER;

/// So often an object is looked for where the index says that it is, with so much time for the index to say something else.
const HOLD_TRIES: usize = 10;
const NEWS_WAIT: Duration = Duration::from_millis(50);

impl Store {
    /// The same, and what another node has is held there. May wait for that node, and for the index to know what it knows.
    ///
    /// # Errors
    /// Those of [`open_object`](Self::open_object); `Unavailable`: the node that has it does not answer.
    pub fn open_and_hold(&self, tenant: &Tenant, name: &Name) -> Result<Reader> {
        let mut n_tries = 0;
        loop {
            let reader = self.open_object(tenant, name)?;
            let Err(error) = reader.hold() else {
                return Ok(reader);
            };
            n_tries += 1;
            if error.kind != Kind::NotFound || n_tries == HOLD_TRIES {
                let what = "read from another node";
                return Err(Error::caused(Kind::Unavailable, what, error));
            }
            if let Some(peers) = self.0.peers.get() {
                let mut revisions = self.0.namespace.revisions();
                let news = async { revisions.changed().await };
                let waited = async { tokio::time::timeout(NEWS_WAIT, news).await };
                drop(peers.runtime().block_on(waited));
            }
        }
    }

    /// What this node itself has of an object that a tenant has a name for.
    ///
    /// # Errors
    /// `NotFound`; `Denied`.
    pub fn open_here(&self, tenant: &Tenant, id: ObjectId) -> Result<Reader> {
        self.live()?;
        self.0.namespace.read(|index| {
            let object = index.object(id)?;
            let is_own = |name: &&Name| {
                let bucket = index.bucket(&name.bucket);
                bucket.is_ok_and(|bucket| bucket.owner == *tenant)
            };
            let denied = || Error::new(Kind::Denied, "an object of another tenant");
            let name = object.names().iter().find(is_own).ok_or_else(denied)?;
            let entry = Arc::clone(index.entry(name)?);
            let content = self.content_here(id, object.placement())?;
            let missing = || Error::new(Kind::NotFound, "the object is not at this node");
            let reader = Reader::new(entry, content.ok_or_else(missing)?);
            reader.touch();
            Ok(reader)
        })
    }

    /// The nearest copy of an object. To be called while the index cannot change.
    pub(super) fn content(
        &self,
        entry: &Arc<Entry>,
        placement: &Placement,
        tenant: &Tenant,
    ) -> Result<Content> {
        let inner = &*self.0;
        let id = entry.sealed.id;
        if let Some(content) = self.content_here(id, placement)? {
            return Ok(content);
        }
        let found = inner.peers.get().and_then(|peers| {
            let (here, owner) = (inner.node, OWNER);
            peers.find((here, owner), entry, placement, tenant)
        });
        match found {
            Some(elsewhere) => Ok(Content::Elsewhere(elsewhere)),
            None if in_s3(placement).is_some() => {
                let what = "an object is in S3, which this node was not told of";
                Err(Error::new(Kind::Unavailable, what))
            }
            None => {
                let what = "an object is at another node, and this one knows no other";
                Err(Error::new(Kind::Unavailable, what))
            }
        }
    }

    /// The same, if there is one at this node, or in S3 for this node.
    fn content_here(&self, id: ObjectId, placement: &Placement) -> Result<Option<Content>> {
        let inner = &*self.0;
        if let Some(resident) = inner.residents.get(id) {
            return Ok(Some(Content::Memory(resident)));
        }
        if placement.copies().contains(&Residency::Disk(inner.node)) {
            inner.on_disk().touch(&id);
            return Ok(Some(Content::Disk(OnDisk::new(self, id)?)));
        }
        match (in_s3(placement), &inner.requests) {
            (Some(at), Some(requests)) => Ok(Some(Content::S3(requests.pin(at)))),
            _ => Ok(None),
        }
    }
}
