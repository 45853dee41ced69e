//! Bytes on their way in and out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ids::Name as Tenant;
use s3::Chunks;
use s3::backend::{Content, Error};
use s3::body::{Body, Piece, Verified};

use super::S3;
use crate::index::Class;
use crate::store::{Reader, Unnamed, Writer};

/// So much memory at most is taken ahead for a body that has said how long it is.
const AHEAD_BYTES: u64 = 16 << 20;
/// So much is copied before others have their turn.
const TURN_BYTES: usize = 4 << 20;

/// Content that is open.
pub(super) struct Opened(pub Reader);

impl Content for Opened {
    fn read(self: Box<Self>, range: Range<u64>) -> Chunks {
        if self.0.is_in_memory() {
            // None of them fails.
            Chunks::memory(self.0.pieces(range).flatten().map(Bytes::from))
        } else {
            Chunks::stream(self.0.stream(range).map_err(Error::from))
        }
    }
}

impl S3 {
    /// Takes a body to its end.
    pub(super) async fn receive(
        &self,
        tenant: &Tenant,
        mut body: Body,
    ) -> Result<(Writer, Verified), Error> {
        let mut writer = self.store.writer(tenant)?;
        writer.expect(body.length().unwrap_or(0))?;
        loop {
            match body.next().await? {
                Piece::Data(data) => {
                    // As much again as has come, and not more than that: it may be long in coming.
                    let end = writer.len() + data.len() as u64;
                    let length = body.length().unwrap_or(end);
                    let ahead = (end + end.min(AHEAD_BYTES)).min(length.max(end));
                    writer = self.append_to(writer, ahead, data).await?;
                }
                Piece::End(verified) => return Ok((writer, verified)),
            }
        }
    }
}

impl S3 {
    /// Ends what was written: brings it to the disk, if it is to be durable.
    pub(super) async fn finish(&self, class: Class, writer: Writer) -> Result<Unnamed, Error> {
        let store = self.store.clone();
        let finished = rt::blocking(move || store.finish(class, writer)).await;
        Ok(finished.map_err(|error| Error::Unavailable(error.to_string()))??)
    }

    /// Appends some bytes, and has room for `ahead` in all. Waits for room elsewhere, with few others: whoever has written to its end, and can be
    /// moved, needs such a thread too.
    async fn append_to(
        &self,
        mut writer: Writer,
        ahead: u64,
        bytes: Bytes,
    ) -> Result<Writer, Error> {
        if writer.try_reserve(ahead).is_ok() && writer.try_append(&bytes).is_ok() {
            return Ok(writer);
        }
        let turn = Arc::clone(&self.waiting).acquire_owned().await;
        let appended = rt::blocking(move || {
            writer.reserve(ahead)?;
            writer.append(&bytes)?;
            // It goes on when its client is gone, and others wait for that.
            drop(turn);
            Ok::<_, crate::error::Error>(writer)
        });
        Ok(appended
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))??)
    }

    /// Appends all of an object to another one.
    pub(super) async fn append(
        &self,
        mut writer: Writer,
        reader: &Reader,
    ) -> Result<Writer, Error> {
        let whole = Box::new(Opened(reader.clone()));
        let mut chunks = whole.read(0..reader.len());
        while let Some(chunk) = chunks.next().await {
            let mut chunk = chunk?;
            while !chunk.is_empty() {
                let piece = chunk.split_to(chunk.len().min(TURN_BYTES));
                let end = writer.len() + piece.len() as u64;
                writer = self.append_to(writer, end, piece).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(writer)
    }
}
