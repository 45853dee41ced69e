//! What records and pieces of checkpoints say, for people who look for what is wrong.

use bytes::Bytes;

use crate::Corrupt;
use crate::disk::piece;
use crate::record::{Body, Record};
use crate::segment::{KeyLength, Kind};

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Number(u64),
    Text(String),
}

/// Names, and what is said under them, in an order that is good to read.
pub type Fields = Vec<(&'static str, Field)>;

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// # Errors
/// [`Corrupt`]: it is no record.
pub fn record(bytes: &Bytes) -> Result<Fields, Corrupt> {
    let (record, _) = Record::decode(bytes)?;
    let mut fields: Fields = vec![
        ("seq", record.seq.0.into()),
        ("at_ms", record.at_ms.into()),
        ("op", op(&record.body).into()),
    ];
    if let Some(id) = record.body.segment() {
        fields.push(("segment", id.0.into()));
    }
    let count = |n: usize| Field::Number(n as u64);
    match &record.body {
        Body::Opened(epoch) => fields.push(("epoch", epoch.0.into())),
        Body::Created { name, kind, .. } => {
            fields.push(("name", name.as_str().into()));
            fields.push(("kind", self::kind(*kind).into()));
        }
        Body::Appended {
            offset,
            attributes,
            data,
            ..
        } => {
            fields.push(("offset", (*offset).into()));
            fields.push(("bytes", count(data.len())));
            fields.push(("attributes", count(attributes.len())));
        }
        Body::Truncated { start, .. } => fields.push(("start", (*start).into())),
        Body::Merged {
            offset, sources, ..
        } => {
            let sources: Vec<_> = sources.iter().map(|id| id.0.to_string()).collect();
            fields.push(("offset", (*offset).into()));
            fields.push(("sources", sources.join(",").into()));
        }
        Body::AttributesSet { attributes, .. } => {
            fields.push(("attributes", count(attributes.len())));
        }
        Body::TableChanged {
            offset, entries, ..
        } => {
            fields.push(("offset", (*offset).into()));
            fields.push(("bytes", count(entries.len())));
        }
        Body::Stored { to, .. } => fields.push(("to", (*to).into())),
        Body::Deleted(id) => fields.push(("segment", id.0.into())),
        Body::Sealed(_) => {}
    }
    Ok(fields)
}

/// One line for what it has one of, or one for each.
///
/// # Errors
/// [`Corrupt`]: it is no piece of a checkpoint.
pub fn piece(bytes: &[u8]) -> Result<Vec<Fields>, Corrupt> {
    piece::describe(bytes)
}

fn op(body: &Body) -> &'static str {
    match body {
        Body::Opened(_) => "opened",
        Body::Created { .. } => "created",
        Body::Appended { .. } => "appended",
        Body::Sealed(_) => "sealed",
        Body::Truncated { .. } => "truncated",
        Body::Merged { .. } => "merged",
        Body::AttributesSet { .. } => "attributes",
        Body::Deleted(_) => "deleted",
        Body::TableChanged { .. } => "table",
        Body::Stored { .. } => "stored",
    }
}

pub(crate) fn kind(kind: Kind) -> String {
    match kind {
        Kind::Stream => "stream".to_owned(),
        Kind::Transient(connection) => format!("transient of connection {}", connection.0),
        Kind::Table(KeyLength::Any) => "table".to_owned(),
        Kind::Table(KeyLength::Bytes(bytes)) => format!("table with keys of {bytes} bytes"),
    }
}
