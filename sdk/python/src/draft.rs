//! Content that is not sealed yet.
//!
//! ```text
//!  Small: bytes here ──longer than SMALL_MAX──▶ Large: bytes at the node, but for a short tail
//! ```
//!
//! What is small is kept here, can be read, and is sent when it is sealed: many small writes are one request then. What is larger goes to the node as
//! it comes and cannot be read before it is sealed.

use bytes::{Bytes, BytesMut};
use geds_client::Writer;
use geds_client::{Error, Kind, Result};
use tokio::sync::OwnedSemaphorePermit;

use crate::content::{Content, index};
use crate::door::Link;
use crate::memory::{Room, Source};

const SMALL_MAX: u64 = 4 << 20;
/// So much is sent at a time. The client has a few of them on their way.
const BLOCK_BYTES: usize = 256 << 10;

pub(crate) enum Draft {
    Small(Vec<u8>),
    Large(Box<Large>),
}

pub(crate) struct Large {
    writer: Writer,
    handle: OwnedSemaphorePermit,
    /// With the tail.
    len: u64,
    /// What is to be appended.
    tail: BytesMut,
}

impl Draft {
    /// The first `len` bytes of what is sealed.
    pub(crate) async fn of(link: &Link, content: &Content, len: u64) -> Result<Self> {
        let len = content.within(0..len).end;
        if len > SMALL_MAX {
            let mut large = Large::begin(link, len).await?;
            content.copy_to(len, &mut large.writer).await?;
            large.len = len;
            return Ok(Self::Large(large));
        }
        let mut bytes = vec![0; index(len)];
        let room = Room::of(&mut bytes);
        content.read(0, room).await?;
        Ok(Self::Small(bytes))
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Small(bytes) => bytes.len() as u64,
            Self::Large(large) => large.len,
        }
    }

    /// Writes over what is there, and lengthens it if it ends behind the end; what lies between is zero.
    pub(crate) async fn write(self, link: &Link, position: u64, from: &Source) -> Result<Self> {
        let end = position.checked_add(from.len() as u64);
        let end = end.ok_or_else(|| Error::new(Kind::Invalid, "no object is so long"))?;
        let mut large = match self {
            Self::Small(mut bytes) if end <= SMALL_MAX => {
                let [start, end] = [position, end].map(index);
                bytes.resize(bytes.len().max(end), 0);
                from.copy_to(0, &mut bytes[start..end]);
                return Ok(Self::Small(bytes));
            }
            Self::Small(bytes) => Large::of(link, bytes, end).await?,
            Self::Large(large) => large,
        };
        large.write(position, from).await?;
        Ok(Self::Large(large))
    }

    pub(crate) async fn truncate(self, link: &Link, len: u64) -> Result<Self> {
        let mut large = match self {
            Self::Small(mut bytes) if len <= SMALL_MAX => {
                bytes.resize(index(len), 0);
                return Ok(Self::Small(bytes));
            }
            Self::Small(bytes) => Large::of(link, bytes, len).await?,
            Self::Large(large) => large,
        };
        large.flush().await?;
        large.writer.truncate(len).await?;
        large.len = len;
        Ok(Self::Large(large))
    }

    /// As [`Content::read`].
    pub(crate) fn read(&self, position: u64, room: Room<'_>) -> Result<usize> {
        let Self::Small(bytes) = self else {
            let what = "what is longer than 4 MiB is read when it is sealed";
            return Err(Error::new(Kind::Invalid, what));
        };
        let start = index(position).min(bytes.len());
        let n_bytes = room.len().min(bytes.len() - start);
        room.put(0, &bytes[start..start + n_bytes]);
        Ok(n_bytes)
    }
}

impl Large {
    async fn begin(link: &Link, expected_bytes: u64) -> Result<Box<Self>> {
        let handle = link.handle()?;
        let writer = link.client.writer(expected_bytes).await?;
        Ok(Box::new(Self {
            writer,
            handle,
            len: 0,
            tail: BytesMut::new(),
        }))
    }

    async fn of(link: &Link, bytes: Vec<u8>, expected_bytes: u64) -> Result<Box<Self>> {
        let mut large = Self::begin(link, expected_bytes).await?;
        large.len = bytes.len() as u64;
        large.writer.append(bytes.into()).await?;
        Ok(large)
    }

    async fn write(&mut self, mut position: u64, from: &Source) -> Result<()> {
        let mut at = 0;
        while at < from.len() {
            let n_bytes = BLOCK_BYTES.min(from.len() - at);
            if position == self.len {
                self.append(from, at, n_bytes).await?;
            } else {
                self.flush().await?;
                let block = from.copy(at, n_bytes);
                self.writer.write_at(position, block).await?;
            }
            at += n_bytes;
            position += n_bytes as u64;
            self.len = self.len.max(position);
        }
        Ok(())
    }

    async fn append(&mut self, from: &Source, at: usize, n_bytes: usize) -> Result<()> {
        if self.tail.len() + n_bytes > BLOCK_BYTES {
            self.flush().await?;
        }
        let end = self.tail.len();
        self.tail.resize(end + n_bytes, 0);
        from.copy_to(at, &mut self.tail[end..]);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let tail: Bytes = self.tail.split().freeze();
        self.writer.append(tail).await
    }

    /// All of it is on its way, and wants a name.
    pub(crate) async fn finish(mut self) -> Result<(Writer, OwnedSemaphorePermit)> {
        self.flush().await?;
        Ok((self.writer, self.handle))
    }
}
