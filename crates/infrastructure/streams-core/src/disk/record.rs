//! A record: its fields, and behind them the bytes that it brings for a segment, so that these are written from where they lie.

use bytes::Bytes;
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::{decode, encode};
use crate::Corrupt;
use crate::attributes::{AttributeId, Values};
use crate::names::{ConnectionId, SegmentId, SegmentName, Seq};
use crate::record::{Body, Encoded, Record};
use crate::segment::{KeyLength, Kind};

impl Record {
    pub(crate) fn encode(&self) -> Encoded {
        let payload = self.body.payload();
        let header = encode(&RecordV1 {
            seq: self.seq.0,
            at_ms: self.at_ms,
            body: (&self.body).into(),
            payload_bytes: payload.len() as u64,
        });
        Encoded {
            header: header.into(),
            payload,
        }
    }

    /// The record, and where in it its payload begins.
    ///
    /// # Errors
    /// [`Corrupt`]: it is no record.
    pub(crate) fn decode(bytes: &Bytes) -> Result<(Self, u64), Corrupt> {
        let (record, payload): (RecordV1<'_>, &[u8]) = decode(bytes)?;
        if record.payload_bytes != payload.len() as u64 {
            return Err(Corrupt("a record that is cut"));
        }
        let at = bytes.len() - payload.len();
        let record = Self {
            seq: Seq(record.seq),
            at_ms: record.at_ms,
            body: record.body.parse(bytes.slice(at..))?,
        };
        Ok((record, at as u64))
    }
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    seq: u64,
    at_ms: u64,
    #[serde(borrow)]
    body: BodyV1<'a>,
    payload_bytes: u64,
}

#[derive(Serialize, Deserialize)]
enum BodyV1<'a> {
    Opened(u64),
    Created(u64, &'a str, KindV1, ValuesV1),
    Appended(u64, u64, ValuesV1),
    Sealed(u64),
    Truncated(u64, u64),
    Merged(u64, u64, Vec<u64>, ValuesV1),
    AttributesSet(u64, ValuesV1),
    Deleted(u64),
    TableChanged(u64, u64),
    Stored(u64, u64),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum KindV1 {
    Stream,
    Transient(u64),
    Table,
    TableOfFixedKeys(u16),
}

/// Of an attribute the name and the value.
pub(super) type ValuesV1 = Vec<(u128, i64)>;

impl<'a> From<&'a Body> for BodyV1<'a> {
    fn from(body: &'a Body) -> Self {
        match body {
            Body::Opened(epoch) => Self::Opened(epoch.0),
            Body::Created {
                id,
                name,
                kind,
                attributes,
            } => Self::Created(id.0, name.as_str(), (*kind).into(), to_v1(attributes)),
            Body::Appended {
                id,
                offset,
                attributes,
                data: _,
            } => Self::Appended(id.0, *offset, to_v1(attributes)),
            Body::Sealed(id) => Self::Sealed(id.0),
            Body::Truncated { id, start } => Self::Truncated(id.0, *start),
            Body::Merged {
                target,
                offset,
                sources,
                attributes,
            } => {
                let sources = sources.iter().map(|id| id.0).collect();
                Self::Merged(target.0, *offset, sources, to_v1(attributes))
            }
            Body::AttributesSet { id, attributes } => Self::AttributesSet(id.0, to_v1(attributes)),
            Body::Deleted(id) => Self::Deleted(id.0),
            Body::TableChanged { id, offset, .. } => Self::TableChanged(id.0, *offset),
            Body::Stored { id, to } => Self::Stored(id.0, *to),
        }
    }
}

impl BodyV1<'_> {
    fn parse(self, payload: Bytes) -> Result<Body, Corrupt> {
        let brings_bytes = matches!(self, Self::Appended(..) | Self::TableChanged(..));
        if !brings_bytes && !payload.is_empty() {
            return Err(Corrupt("bytes behind a record"));
        }
        Ok(match self {
            Self::Opened(epoch) => Body::Opened(Epoch(epoch)),
            Self::Created(id, name, kind, attributes) => Body::Created {
                id: SegmentId(id),
                name: parse_name(name)?,
                kind: kind.parse()?,
                attributes: parse_values(attributes),
            },
            Self::Appended(id, offset, attributes) => Body::Appended {
                id: SegmentId(id),
                offset,
                attributes: parse_values(attributes),
                data: payload,
            },
            Self::Sealed(id) => Body::Sealed(SegmentId(id)),
            Self::Truncated(id, start) => Body::Truncated {
                id: SegmentId(id),
                start,
            },
            Self::Merged(target, offset, sources, attributes) => Body::Merged {
                target: SegmentId(target),
                offset,
                sources: sources.into_iter().map(SegmentId).collect(),
                attributes: parse_values(attributes),
            },
            Self::AttributesSet(id, attributes) => Body::AttributesSet {
                id: SegmentId(id),
                attributes: parse_values(attributes),
            },
            Self::Deleted(id) => Body::Deleted(SegmentId(id)),
            Self::TableChanged(id, offset) => Body::TableChanged {
                id: SegmentId(id),
                offset,
                entries: payload,
            },
            Self::Stored(id, to) => Body::Stored {
                id: SegmentId(id),
                to,
            },
        })
    }
}

impl From<Kind> for KindV1 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Stream => Self::Stream,
            Kind::Transient(connection) => Self::Transient(connection.0),
            Kind::Table(KeyLength::Any) => Self::Table,
            Kind::Table(KeyLength::Bytes(bytes)) => Self::TableOfFixedKeys(bytes),
        }
    }
}

impl KindV1 {
    pub(super) fn parse(self) -> Result<Kind, Corrupt> {
        Ok(match self {
            Self::Stream => Kind::Stream,
            Self::Transient(connection) => Kind::Transient(ConnectionId(connection)),
            Self::Table => Kind::Table(KeyLength::Any),
            Self::TableOfFixedKeys(bytes) if KeyLength::BYTES.contains(&bytes) => {
                Kind::Table(KeyLength::Bytes(bytes))
            }
            Self::TableOfFixedKeys(_) => return Err(Corrupt("a table with keys of that length")),
        })
    }
}

pub(super) fn parse_name(text: &str) -> Result<SegmentName, Corrupt> {
    SegmentName::new(text).map_err(|_| Corrupt("a segment with such a name"))
}

pub(super) fn to_v1(values: &[(AttributeId, i64)]) -> ValuesV1 {
    values.iter().map(|(id, value)| (id.0, *value)).collect()
}

pub(super) fn parse_values(values: ValuesV1) -> Values {
    let values = values.into_iter();
    values.map(|(id, value)| (AttributeId(id), value)).collect()
}
