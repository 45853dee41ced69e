//! Writing, with patience: when memory is full, others are moved out of it first.

use std::sync::Arc;

use super::Store;
use super::tenants::Share;
use crate::arena::{self, Object};
use crate::error::{Error, Kind, Result};

/// Writes an object in the memory of a tenant. What it has written is seen by nobody, and gone when it is dropped before it is sealed.
#[derive(Debug)]
pub struct Writer {
    pub(super) written: arena::Writer,
    pub(super) share: Arc<Share>,
    store: Store,
}

impl Writer {
    pub(super) fn new(store: Store, share: Arc<Share>) -> Self {
        Self {
            written: share.domain.writer(),
            share,
            store,
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.written.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Makes room for an object of `len` bytes, in one piece if there is one. Waits for it, as all of these do, while others are moved to the disk.
    ///
    /// # Errors
    /// `Exhausted`: there is no room, or was none in time ([`Config::room_wait`](super::Config::room_wait)). Then the writer has as much as before.
    pub fn reserve(&mut self, len: u64) -> Result<()> {
        self.wait_for(len, |written| written.reserve(len))
    }

    /// # Errors
    /// As [`reserve`](Self::reserve). Then nothing of `bytes` is written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.len().saturating_add(bytes.len() as u64);
        self.wait_for(end, |written| written.append(bytes))
    }

    /// As [`reserve`](Self::reserve), without waiting.
    ///
    /// # Errors
    /// `Exhausted`: there is no room now.
    pub fn try_reserve(&mut self, len: u64) -> Result<()> {
        Ok(self.written.reserve(len)?)
    }

    /// As [`append`](Self::append), without waiting.
    ///
    /// # Errors
    /// `Exhausted`: there is no room now.
    pub fn try_append(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.written.append(bytes)?)
    }

    /// Writes over what is there, and lengthens the object if `bytes` end behind its end. What lies between is zero.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve). Then nothing of `bytes` is written.
    pub fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        let end = position.saturating_add(bytes.len() as u64);
        self.wait_for(end, |written| written.write_at(position, bytes))
    }

    /// Gives the object another length. What is added is zero.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve). Then it has the length that it had.
    pub fn truncate(&mut self, len: u64) -> Result<()> {
        self.wait_for(len, |written| written.truncate(len))
    }

    /// # Errors
    /// `Exhausted`: an object of `len` bytes has no room in memory at all.
    pub fn check_len(&self, len: u64) -> Result<()> {
        let limit = self.share.domain.limit_bytes();
        if len > limit {
            let what = format!("an object of {len} bytes, and {limit} of memory at most");
            return Err(Error::new(Kind::Exhausted, what));
        }
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(self) -> Result<(Object, Arc<Share>)> {
        let Self {
            written,
            share,
            store,
        } = self;
        let domain = &share.domain;
        let charges = store.with_room(&share, || Ok(domain.admission(&written)?))?;
        let object = domain.seal_admitted(written, charges)?;
        Ok((object, share))
    }

    fn wait_for(
        &mut self,
        end: u64,
        mut write: impl FnMut(&mut arena::Writer) -> arena::Result<()>,
    ) -> Result<()> {
        self.check_len(end)?;
        let Self {
            written,
            share,
            store,
        } = self;
        store.with_room(share, || Ok(write(written)?))
    }
}
