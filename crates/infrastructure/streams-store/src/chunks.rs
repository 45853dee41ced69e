//! What of a segment is in long-term storage.

use futures_util::{StreamExt as _, TryStreamExt as _};
use streams_core::container::Source;
use streams_core::{Refusal, SegmentName};
use streams_lts::{Chunk, Error as LtsError, Lts};

use crate::error::{Error, Result};
use crate::owner::Owner;

/// Of one answer.
const CHUNKS_MAX: usize = 10_000;

/// Objects that are looked at once.
const AT_ONCE: usize = 8;

/// A chunk that has bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    pub name: String,
    /// Of its first byte, in the segment.
    pub start_offset: u64,
    /// What it has, as the table of chunks says,
    pub n_bytes: u64,
    /// and as its object says; 0: its footer is damaged. `None`: it is not there.
    pub n_stored_bytes: Option<u64>,
}

impl Owner {
    /// In order.
    pub(crate) async fn chunks(&self, segment: &SegmentName) -> Result<Vec<StoredChunk>> {
        let info = self.ask(|container| container.info(segment)).await?;
        let sources = {
            let state = self.lock();
            let container = &state.container;
            container.locate(info.id, info.start_offset, info.length)
        };
        let found = self.find_chunks(info.start_offset, &sources)?;
        let lts = self.behind.lts().await?;
        let looks = found.into_iter().map(|(at, chunk)| look(lts, at, chunk));
        let looks: Vec<_> = looks.collect();
        let looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
        looks.try_collect().await
    }

    /// Each with where in the segment it begins.
    fn find_chunks(&self, start: u64, sources: &[Source]) -> Result<Vec<(u64, Chunk)>> {
        let (mut found, mut at) = (Vec::new(), start);
        let chunks = self.behind.chunks();
        for source in sources {
            let (of, offset, bytes) = match *source {
                Source::Log { bytes, .. } => {
                    at += bytes;
                    continue;
                }
                Source::Stored { of, offset, bytes } => (of, offset, bytes),
            };
            let mut next = offset;
            while next < offset + bytes
                && let Some(chunk) = chunks.find(of, next)
            {
                if found.len() == CHUNKS_MAX {
                    let what = "chunks of one answer";
                    return Err(Refusal::Limit { what }.into());
                }
                let begin = (at + chunk.range().start).saturating_sub(offset);
                found.push((begin, chunk.clone()));
                next = chunk.range().end;
            }
            at += bytes;
        }
        Ok(found)
    }
}

/// What its object says.
async fn look(lts: &Lts, start_offset: u64, chunk: Chunk) -> Result<StoredChunk> {
    let bytes = |chunk: &Chunk| chunk.range().end - chunk.range().start;
    let n_stored_bytes = match lts.footer(chunk.name()).await {
        Ok(footer) => Some(bytes(&footer.chunk)),
        Err(LtsError::NotFound { .. }) => None,
        Err(LtsError::Corrupt { .. }) => Some(0),
        Err(error) => return Err(Error::unavailable(error)),
    };
    Ok(StoredChunk {
        name: chunk.name().to_string(),
        start_offset,
        n_bytes: bytes(&chunk),
        n_stored_bytes,
    })
}
