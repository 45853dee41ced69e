//! What can be asked of one segment.

use bytes::Bytes;
use streams_wire::replies::{self, Reply};
use streams_wire::requests::{
    CreateSegment, DeleteSegment, GetSegmentAttribute, GetStreamSegmentInfo, MergeSegments,
    ReadSegment, SealSegment, TruncateSegment, UpdateSegmentAttribute,
};
use streams_wire::shapes::ScaleType;

use crate::controller::Access;
use crate::names::SegmentName;
use crate::{Client, Error};

/// A segment of bytes, by its name. Whether there is one is another matter.
#[derive(Clone, Debug)]
pub struct Segment {
    client: Client,
    name: SegmentName,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub start_offset: i64,
    /// Where it ends now.
    pub length: i64,
    pub is_sealed: bool,
    /// Since 1970.
    pub modified_at_ms: i64,
}

/// Bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub data: Bytes,
    /// There was nothing behind them. Nor may there be any of these: whoever waits asks again.
    pub is_at_tail: bool,
    /// There will never be anything behind them.
    pub is_at_end: bool,
}

/// What went wrong is said as the store says it: see [`Error`]. What may be done twice is tried again; what may not fails with `Disconnected` if
/// nobody knows whether it was done.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Segment {
    #[must_use]
    pub fn new(client: &Client, name: SegmentName) -> Self {
        Self {
            client: client.clone(),
            text: name.to_string(),
            name,
        }
    }

    #[must_use]
    pub fn name(&self) -> &SegmentName {
        &self.name
    }

    /// `Exists`.
    pub async fn create(&self) -> Result<(), Error> {
        let created = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                CreateSegment {
                    request_id,
                    segment,
                    target_rate: 0,
                    scale_type: ScaleType::NoScaling,
                    token,
                    rollover_size_bytes: 0,
                }
                .into()
            });
        match created.await? {
            Reply::SegmentCreated(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn info(&self) -> Result<SegmentInfo, Error> {
        let info = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                GetStreamSegmentInfo {
                    request_id,
                    segment,
                    token,
                }
                .into()
            });
        match info.await? {
            Reply::StreamSegmentInfo(it) if !it.exists || it.is_deleted => {
                Err(Error::NoSuchSegment(it.segment))
            }
            Reply::StreamSegmentInfo(it) => Ok(SegmentInfo {
                start_offset: it.start_offset,
                length: it.write_offset,
                is_sealed: it.is_sealed,
                modified_at_ms: it.last_modified,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// Waits at the tail until there is something, or the store has waited enough. `Truncated`.
    pub async fn read(&self, offset: i64, bytes_max: i32) -> Result<Read, Error> {
        let read = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                ReadSegment {
                    segment,
                    offset,
                    suggested_length: bytes_max,
                    token,
                    request_id,
                }
                .into()
            });
        match read.await? {
            Reply::SegmentRead(it) if it.offset == offset => Ok(Read {
                data: it.data,
                is_at_tail: it.at_tail,
                is_at_end: it.end_of_segment,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn seal(&self) -> Result<(), Error> {
        let sealed = self
            .client
            .ask(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                SealSegment {
                    request_id,
                    segment,
                    token,
                }
                .into()
            });
        match sealed.await {
            Ok(Reply::SegmentSealed(_)) | Err(Error::Sealed(_)) => Ok(()),
            Ok(other) => Err(Error::unexpected(&other)),
            Err(why) => Err(why),
        }
    }

    /// Gives up what is before the offset.
    pub async fn truncate(&self, offset: i64) -> Result<(), Error> {
        let truncated = self
            .client
            .ask(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                TruncateSegment {
                    request_id,
                    segment,
                    truncation_offset: offset,
                    token,
                }
                .into()
            });
        match truncated.await? {
            Reply::SegmentTruncated(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn delete(&self) -> Result<(), Error> {
        let deleted = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                DeleteSegment {
                    request_id,
                    segment,
                    token,
                }
                .into()
            });
        match deleted.await? {
            Reply::SegmentDeleted(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// Appends another one to it, which is then gone. Returns where this one ends.
    pub async fn merge(&self, source: &SegmentName) -> Result<i64, Error> {
        let merged = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                MergeSegments {
                    request_id,
                    target: self.text.clone(),
                    source: source.to_string(),
                    token,
                    attribute_updates: Vec::new(),
                }
                .into()
            });
        match merged.await? {
            Reply::SegmentsMerged(it) => Ok(it.new_target_write_offset),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// [`NO_ATTRIBUTE`](streams_wire::limits::NO_ATTRIBUTE) if there is none.
    pub async fn attribute(&self, attribute_id: u128) -> Result<i64, Error> {
        let attribute = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                GetSegmentAttribute {
                    request_id,
                    segment,
                    attribute_id,
                    token,
                }
                .into()
            });
        match attribute.await? {
            Reply::SegmentAttribute(replies::SegmentAttribute { value, .. }) => Ok(value),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// Whether it had the value `from`, and now has the value `to`.
    pub async fn set_attribute(
        &self,
        attribute_id: u128,
        from: i64,
        to: i64,
    ) -> Result<bool, Error> {
        let updated = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                UpdateSegmentAttribute {
                    request_id,
                    segment,
                    attribute_id,
                    new_value: to,
                    expected_value: from,
                    token,
                }
                .into()
            });
        match updated.await? {
            Reply::SegmentAttributeUpdated(it) => Ok(it.success),
            other => Err(Error::unexpected(&other)),
        }
    }
}
