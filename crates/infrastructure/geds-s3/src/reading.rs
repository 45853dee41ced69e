//! Objects on their way out of S3.

use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use geds_core::index::InS3;
use geds_core::{Error, Kind, Result};
use object_store::GetOptions;

use crate::{Tier2, etag, failed, keys};

impl Tier2 {
    /// A part of what was persisted, which is within its size, piece by piece as it comes. Whoever stops before the end has heard no error.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when something else is there; also in the stream, which ends with one or with the last byte that was asked for.
    pub async fn read(
        &self,
        of: &InS3,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let bucket = self.bucket(&of.name)?;
        let options = GetOptions::new()
            .with_if_match(Some(format!("\"{}\"", of.etag)))
            .with_range(Some(range.clone()));
        let path = keys::path(&of.name.key);
        let got = bucket.objects().get_opts(&path, options).await;
        let got = got.map_err(|error| failed("read from S3", error))?;
        // Not all stores mind the condition.
        if etag(got.meta.e_tag.clone())? != of.etag {
            let what = format!("S3 has another `{}` than was asked for", of.name.key);
            return Err(Error::new(Kind::Conflict, what));
        }
        if got.range != range {
            let what = format!("S3 has {:?} of {range:?}", got.range);
            return Err(Error::new(Kind::Corrupt, what));
        }
        let pieces = got
            .into_stream()
            .map_err(|error| failed("read from S3", error));
        Ok(whole(pieces.boxed(), range.end - range.start).boxed())
    }
}

/// So many bytes, or an error.
fn whole(
    pieces: BoxStream<'static, Result<Bytes>>,
    size: u64,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((pieces, size), |(mut pieces, missing)| async move {
        let cut = |what: String| Error::new(Kind::Unavailable, what);
        let Some(piece) = pieces.try_next().await? else {
            return match missing {
                0 => Ok(None),
                _ => Err(cut(format!("S3 has ended {missing} bytes too early"))),
            };
        };
        let missing = missing.checked_sub(piece.len() as u64);
        let missing = missing.ok_or_else(|| cut("S3 has sent more than it has said".to_owned()))?;
        Ok(Some((piece, (pieces, missing))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_much_comes_as_was_asked_for() {
        for (pieces, size, is_whole) in [
            (&["ab", "c"][..], 3, true),
            (&["ab"], 3, false),
            (&["ab", "cd"], 3, false),
            (&[], 1, false),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from(*piece))).collect();
            let read: Result<Vec<_>> = whole(stream::iter(pieces).boxed(), size)
                .try_collect()
                .await;
            assert_eq!(read.is_ok(), is_whole);
        }
    }
}
