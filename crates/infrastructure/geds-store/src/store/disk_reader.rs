//! Reading from the disk, and from elsewhere what is damaged there.

use std::sync::{Arc, Weak};

use super::objects::on_disk;
use super::remote::{Arriving, in_s3};
use super::{Inner, Store};
use crate::core::index::ObjectId;
use crate::core::to_usize;
use crate::error::{Kind, Result};
use crate::tier1;

/// An object on the disk that is open.
#[derive(Debug)]
pub(super) struct OnDisk {
    pinned: tier1::Pinned,
    /// Where there may be another copy. Who reads keeps no store open.
    named: Option<(ObjectId, Weak<Inner>)>,
}

impl OnDisk {
    pub(super) fn new(store: &Store, id: ObjectId) -> Result<Self> {
        Ok(Self {
            pinned: store.0.disk.pin(on_disk(id))?,
            named: Some((id, Arc::downgrade(&store.0))),
        })
    }

    /// Of what has no name yet.
    pub(super) fn unnamed(pinned: tier1::Pinned) -> Self {
        Self {
            pinned,
            named: None,
        }
    }

    /// As [`tier1::Pinned::read_at`]. If a block is damaged, it comes from memory or S3, and is repaired, or not read from here any more. May wait for S3.
    ///
    /// # Errors
    /// Those of the disk, if there is no other copy; else those of S3.
    pub(super) fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize> {
        let error = match self.pinned.read_at(position, into) {
            Ok(n) => return Ok(n),
            Err(error) => error,
        };
        if error.kind() == Kind::Corrupt
            && let Some((id, store)) = &self.named
            && let Some(store) = store.upgrade()
        {
            let n = to_usize(self.pinned.len().saturating_sub(position)).min(into.len());
            let read = Store(store).read_damaged(*id, position, &mut into[..n]);
            return read.unwrap_or_else(|| Err(error.into())).map(|()| n);
        }
        Err(error.into())
    }
}

impl Store {
    /// Reads what is damaged on the disk. `None`: there is no other copy.
    fn read_damaged(&self, id: ObjectId, position: u64, into: &mut [u8]) -> Option<Result<()>> {
        let inner = &*self.0;
        let read = match inner.residents.get(id) {
            Some(resident) => {
                resident.opened.read_at(position, into);
                Ok(())
            }
            None => {
                let at = inner.namespace.read(|index| {
                    let object = index.object(id).ok()?;
                    in_s3(object.placement()).cloned()
                })?;
                let pinned = inner.requests.as_ref()?.pin(&at);
                let end = position + into.len() as u64;
                let pieces = pinned.pieces(position..end);
                pieces.and_then(|pieces| Arriving::fill(pieces, into))
            }
        };
        if read.is_ok()
            && let Err(error) = self.mend_named(id)
        {
            tracing::warn!(?id, %error, "mend an object that is damaged on the disk");
        }
        Some(read)
    }
}
