//! Content that is sealed, and so never changes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use geds_client::Result;
use geds_client::index::{Entry, Name, Precondition};
use geds_client::{Object, Writer};
use tokio::sync::OwnedSemaphorePermit;

use crate::door::Link;
use crate::memory::Room;

pub(crate) enum Content {
    /// All of it is in the memory of this process, and is read there.
    Here(Bytes),
    /// The node keeps it open.
    Remote {
        object: Box<Object>,
        _handle: OwnedSemaphorePermit,
    },
}

impl Content {
    /// And what the name says.
    pub(crate) async fn open(
        link: &Link,
        name: &Name,
        when: Precondition,
    ) -> Result<(Arc<Entry>, Self)> {
        let handle = link.handle()?;
        let object = link.client.open(name, when).await?;
        let entry = Arc::clone(object.entry());
        let content = Self::Remote {
            object: Box::new(object),
            _handle: handle,
        };
        Ok((entry, content))
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Remote { object, .. } => object.len(),
        }
    }

    /// Puts what there is from `position` on into `room`, as much as has room; gives how much that was.
    pub(crate) async fn read(&self, position: u64, room: Room<'_>) -> Result<usize> {
        let range = self.within(position..position.saturating_add(room.len() as u64));
        let mut at = 0;
        match self {
            Self::Here(bytes) => {
                let part = &bytes[index(range.start)..index(range.end)];
                room.put(0, part);
                at = part.len();
            }
            Self::Remote { object, .. } => {
                let mut pieces = object.pieces(range);
                while let Some(piece) = pieces.next().await? {
                    room.put(at, &piece);
                    at += piece.len();
                }
            }
        }
        Ok(at)
    }

    /// All of it, to be kept.
    pub(crate) async fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Here(bytes) => Ok(bytes.clone()),
            Self::Remote { object, .. } => object.read(0..object.len()).await,
        }
    }

    /// Appends the first `len` bytes to what is being written.
    pub(crate) async fn copy_to(&self, len: u64, writer: &mut Writer) -> Result<()> {
        let range = self.within(0..len);
        match self {
            Self::Here(bytes) => writer.append(bytes.slice(..index(range.end))).await,
            Self::Remote { object, .. } => {
                let mut pieces = object.pieces(range);
                while let Some(piece) = pieces.next().await? {
                    writer.append(piece).await?;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn within(&self, range: Range<u64>) -> Range<u64> {
        let start = range.start.min(self.len());
        start..range.end.clamp(start, self.len())
    }
}

/// Of bytes that are in memory, or shall be.
pub(crate) fn index(position: u64) -> usize {
    usize::try_from(position).expect("addresses have 64 bits")
}
