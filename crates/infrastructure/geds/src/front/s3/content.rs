//! Bytes on their way in and out.

use std::ops::Range;

use bytes::Bytes;
use ids::Name as Tenant;
use s3::Chunks;
use s3::backend::{Content, Error};
use s3::body::{Body, Piece, Verified};

use super::S3;
use crate::arena::Writer;
use crate::store::Reader;

/// So much memory is taken ahead for a body that has said how long it is: it may be long in coming.
const AHEAD_BYTES: u64 = 16 << 20;
/// So much is copied before others have their turn.
const TURN_BYTES: usize = 4 << 20;

/// Content that is open.
pub(super) struct Opened(pub Reader);

impl Content for Opened {
    fn read(self: Box<Self>, range: Range<u64>) -> Chunks {
        let mut start = 0;
        let mut pieces = Vec::new();
        for view in self.0.views() {
            let end = start + view.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let within = |at: u64| usize::try_from(at - start).expect("it is in memory");
                pieces.push(Bytes::from(view.slice(within(from)..within(to))));
            }
            start = end;
        }
        Chunks::memory(pieces)
    }
}

impl S3 {
    /// Takes a body to its end, in the memory of a tenant.
    pub(super) async fn receive(
        &self,
        tenant: &Tenant,
        mut body: Body,
    ) -> Result<(Writer, Verified), Error> {
        let mut writer = self.store.writer(tenant)?;
        loop {
            match body.next().await? {
                Piece::Data(data) => {
                    let end = writer.len() + data.len() as u64;
                    if let Some(length) = body.length() {
                        let ahead = end.next_multiple_of(AHEAD_BYTES).min(length);
                        writer.reserve(ahead)?;
                    }
                    writer.append(&data)?;
                }
                Piece::End(verified) => return Ok((writer, verified)),
            }
        }
    }
}

/// Appends all of an object to another one.
pub(super) async fn append(writer: &mut Writer, reader: &Reader) -> Result<(), Error> {
    for view in reader.views() {
        for piece in view.chunks(TURN_BYTES) {
            writer.append(piece)?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
