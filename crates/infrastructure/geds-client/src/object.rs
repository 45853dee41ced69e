//! Objects that are open for reading.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use geds_core::index::{Entry, Name, Precondition};
use geds_core::to_usize;
use geds_core::{Error, Kind, Result};
use ids::Name as Tenant;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::connection::{Asked, Connection, Ending};
use crate::wire::{Found, Read, Request};

/// So much is asked for at a time, and so many pieces ahead.
pub(super) const PIECE_BYTES: u64 = 1 << 20;
const PIECES_AHEAD: usize = 4;

/// An object that is open. Its bytes stay, whatever its name stands for meanwhile.
pub struct Object {
    connection: Arc<Connection>,
    entry: Arc<Entry>,
    /// What came when it was opened: its beginning.
    first: Bytes,
    ending: Ending,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.entry).finish()
    }
}

impl Object {
    pub(super) async fn open(
        connection: &Arc<Connection>,
        name: &Name,
        when: Precondition,
        first: Range<u64>,
    ) -> Result<Self> {
        let mut ending = connection.handle().await?;
        let handle = ending.handle;
        let open = Read::Open {
            name: name.clone(),
            when,
            range: first,
            keep: Some(handle),
        };
        let asked = connection.send(&Request::Read(open), Vec::new()).await?;
        ending.request = Some(Request::Read(Read::Close { open: handle }));
        let answer = asked.answer::<Found>().await;
        let (Found(entry), first) = match answer {
            Ok(found) => found,
            Err(error) => {
                ending.request = None;
                return Err(error);
            }
        };
        Ok(Self {
            connection: Arc::clone(connection),
            entry,
            first,
            ending,
        })
    }

    /// The same by its number, of which everything is known but the bytes.
    pub(super) async fn hold(
        connection: &Arc<Connection>,
        entry: &Arc<Entry>,
        tenant: &Tenant,
        first: Range<u64>,
    ) -> Result<Self> {
        let mut ending = connection.handle().await?;
        let handle = ending.handle;
        let n_bytes = clamp(&first, entry.sealed.size);
        let hold = Read::Hold {
            id: entry.sealed.id,
            tenant: tenant.clone(),
            range: first,
            keep: handle,
        };
        let asked = connection.send(&Request::Read(hold), Vec::new()).await?;
        ending.request = Some(Request::Read(Read::Close { open: handle }));
        let answer = asked.answer::<()>().await;
        let ((), first) = match answer {
            Ok(held) => held,
            Err(error) => {
                ending.request = None;
                return Err(error);
            }
        };
        if first.len() as u64 != n_bytes {
            let what = "the node gives less than there is";
            return Err(Error::new(Kind::Unavailable, what));
        }
        Ok(Self {
            connection: Arc::clone(connection),
            entry: Arc::clone(entry),
            first,
            ending,
        })
    }

    /// So much has come when it was opened.
    #[must_use]
    pub fn first_bytes(&self) -> usize {
        self.first.len()
    }

    /// What its name said when it was opened.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.entry.sealed.size
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What there is of a range, in memory.
    ///
    /// # Errors
    /// `Corrupt` or `Lost` when it cannot be read any more.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let n_bytes = to_usize(clamp(&range, self.len()));
        let mut pieces = self.pieces(range);
        let Some(first) = pieces.next().await? else {
            return Ok(Bytes::new());
        };
        if first.len() == n_bytes {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(n_bytes);
        all.extend_from_slice(&first);
        while let Some(piece) = pieces.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Copies what there is of a range; gives its length.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); `Unavailable` when it cannot be written.
    pub async fn copy_to(
        &self,
        range: Range<u64>,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64> {
        let mut n_bytes = 0;
        let mut pieces = self.pieces(range);
        while let Some(piece) = pieces.next().await? {
            let written = into.write_all(&piece).await;
            written.map_err(|error| Error::io("write what was read", error))?;
            n_bytes += piece.len() as u64;
        }
        Ok(n_bytes)
    }

    /// What there is of a range, in pieces of about a megabyte. A few are asked for ahead of need.
    #[must_use]
    pub fn pieces(&self, range: Range<u64>) -> Pieces<'_> {
        let start = range.start.min(self.len());
        Pieces {
            object: self,
            next: start,
            end: start + clamp(&range, self.len()),
            asked: VecDeque::new(),
        }
    }
}

/// How long a range is within an object.
fn clamp(range: &Range<u64>, len: u64) -> u64 {
    range.end.min(len).saturating_sub(range.start)
}

/// Pieces of an object that is open, in order.
pub struct Pieces<'a> {
    object: &'a Object,
    /// Where the first piece begins that is not asked for.
    next: u64,
    end: u64,
    asked: VecDeque<(u64, Asked)>,
}

impl fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pieces")
            .field(&(self.next..self.end))
            .finish()
    }
}

impl Pieces<'_> {
    /// The next one, which is not empty.
    ///
    /// # Errors
    /// Those of [`Object::read`]. There is nothing behind an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.asked.is_empty() && self.next < (self.object.first.len() as u64).min(self.end) {
            let first = &self.object.first;
            let end = self.end.min(first.len() as u64);
            let piece = first.slice(to_usize(self.next)..to_usize(end));
            self.next = end;
            return Ok(Some(piece));
        }
        while self.asked.len() < PIECES_AHEAD && self.next < self.end {
            let range = self.next..self.end.min(self.next + PIECE_BYTES);
            let n_bytes = range.end - range.start;
            let open = self.object.ending.handle;
            let read = Request::Read(Read::More {
                open,
                range: range.clone(),
            });
            let asked = self.object.connection.send(&read, Vec::new()).await?;
            self.next = range.end;
            self.asked.push_back((n_bytes, asked));
        }
        let Some((n_bytes, asked)) = self.asked.pop_front() else {
            return Ok(None);
        };
        let ((), piece) = asked.answer().await?;
        if piece.len() as u64 == n_bytes {
            Ok(Some(piece))
        } else {
            let what = "the node gives less than there is";
            Err(Error::new(Kind::Unavailable, what))
        }
    }
}
