//! What an object says of itself, for those who have no table of chunks: other tools, and who repairs a container whose log is lost.

use std::sync::Arc;

use streams_core::SegmentName;

use crate::chunk::Chunk;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub scope: Arc<str>,
    pub stream: Arc<str>,
    pub segment: SegmentName,
    pub chunk: Chunk,
    /// See [`Index::begins`](crate::events::Index::begins).
    pub events: Vec<u64>,
}
