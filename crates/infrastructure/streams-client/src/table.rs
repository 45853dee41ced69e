//! Segments that are tables: entries by key, each with a version.

use bytes::Bytes;
use streams_wire::limits::ANY_TABLE_LENGTH;
use streams_wire::replies::{self, Reply};
use streams_wire::requests::{
    CreateTableSegment, DeleteTableSegment, GetTableSegmentInfo, ReadTable, ReadTableEntries,
    ReadTableEntriesDelta, ReadTableKeys, RemoveTableKeys, UpdateTableEntries,
};
use streams_wire::shapes::{TableEntry, TableKey, TableRange};

use crate::controller::Access;
use crate::names::SegmentName;
use crate::{Client, Error};

/// A table segment, by its name.
#[derive(Clone, Debug)]
pub struct Table {
    client: Client,
    name: SegmentName,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub start_offset: i64,
    pub length: i64,
    pub n_entries: i64,
    /// 0: of any length.
    pub key_length: i32,
}

/// Some of what a table has, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePage<T> {
    pub items: Vec<T>,
    /// Where the next page begins; empty if there is none.
    pub token: Bytes,
}

/// What has changed in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub entries: Vec<TableEntry>,
    /// What was known of the table is not true any more.
    pub should_clear: bool,
    pub is_at_end: bool,
    /// From where to ask again.
    pub position: i64,
}

/// Versions are conditions: see [`TableKey`]. What went wrong is said as the store says it: see [`Error`]; `Condition` for versions, `Truncated` for
/// a length.
#[allow(clippy::missing_errors_doc, reason = "it is said above")]
impl Table {
    #[must_use]
    pub fn new(client: &Client, name: SegmentName) -> Self {
        Self {
            client: client.clone(),
            text: name.to_string(),
            name,
        }
    }

    /// `key_length` is 0 for keys of any length. `Exists`.
    pub async fn create(&self, key_length: i32) -> Result<(), Error> {
        let created = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                CreateTableSegment {
                    request_id,
                    segment,
                    token,
                    is_sorted: false,
                    key_length,
                    rollover_size_bytes: 0,
                }
                .into()
            });
        match created.await? {
            Reply::SegmentCreated(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn delete(&self, must_be_empty: bool) -> Result<(), Error> {
        let deleted = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                DeleteTableSegment {
                    request_id,
                    segment,
                    must_be_empty,
                    token,
                }
                .into()
            });
        match deleted.await? {
            Reply::SegmentDeleted(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn info(&self) -> Result<TableInfo, Error> {
        let info = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                GetTableSegmentInfo {
                    request_id,
                    segment,
                    token,
                }
                .into()
            });
        match info.await? {
            Reply::TableSegmentInfo(it) => Ok(TableInfo {
                start_offset: it.start_offset,
                length: it.length,
                n_entries: it.entry_count,
                key_length: it.key_length,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// All or none. Returns the new versions, in the same order.
    pub async fn put(&self, entries: &[TableEntry]) -> Result<Vec<i64>, Error> {
        self.put_if(entries, ANY_TABLE_LENGTH).await
    }

    /// The same, if the table is so long.
    pub async fn put_if(&self, entries: &[TableEntry], length: i64) -> Result<Vec<i64>, Error> {
        let updated = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                UpdateTableEntries {
                    request_id,
                    segment,
                    token,
                    entries: entries.to_vec(),
                    table_segment_offset: length,
                }
                .into()
            });
        match updated.await? {
            Reply::TableEntriesUpdated(it) => Ok(it.updated_versions),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// All or none.
    pub async fn remove(&self, keys: &[TableKey]) -> Result<(), Error> {
        let removed = self
            .client
            .change(&self.name, Access::Write, |request_id, token| {
                let segment = self.text.clone();
                RemoveTableKeys {
                    request_id,
                    segment,
                    token,
                    keys: keys.to_vec(),
                    table_segment_offset: ANY_TABLE_LENGTH,
                }
                .into()
            });
        match removed.await? {
            Reply::TableKeysRemoved(_) => Ok(()),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// In the order of the keys. One that is not there has the version [`TableKey::NOT_EXISTS`].
    pub async fn get(&self, keys: &[Bytes]) -> Result<Vec<TableEntry>, Error> {
        let read = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                let key = |key: &Bytes| TableKey::new(key.clone(), TableKey::NO_VERSION);
                ReadTable {
                    request_id,
                    segment,
                    token,
                    keys: keys.iter().map(key).collect(),
                }
                .into()
            });
        match read.await? {
            Reply::TableRead(it) if it.entries.len() == keys.len() => Ok(it.entries),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn keys(&self, token: &Bytes, n_max: i32) -> Result<TablePage<TableKey>, Error> {
        let range = from(token);
        let read = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                ReadTableKeys {
                    request_id,
                    segment,
                    token,
                    suggested_key_count: n_max,
                    range: range.clone(),
                }
                .into()
            });
        match read.await? {
            Reply::TableKeysRead(it) => Ok(TablePage {
                items: it.keys,
                token: it.continuation_token,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub async fn entries(&self, token: &Bytes, n_max: i32) -> Result<TablePage<TableEntry>, Error> {
        let range = from(token);
        let read = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                ReadTableEntries {
                    request_id,
                    segment,
                    token,
                    suggested_entry_count: n_max,
                    range: range.clone(),
                }
                .into()
            });
        match read.await? {
            Reply::TableEntriesRead(it) => Ok(TablePage {
                items: it.entries,
                token: it.continuation_token,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// What was put since a position, and is still there.
    pub async fn delta(&self, from_position: i64, n_max: i32) -> Result<Delta, Error> {
        let read = self
            .client
            .ask(&self.name, Access::Read, |request_id, token| {
                let segment = self.text.clone();
                ReadTableEntriesDelta {
                    request_id,
                    segment,
                    token,
                    from_position,
                    suggested_entry_count: n_max,
                }
                .into()
            });
        match read.await? {
            Reply::TableEntriesDeltaRead(replies::TableEntriesDeltaRead {
                entries,
                should_clear,
                reached_end,
                last_position,
                ..
            }) => Ok(Delta {
                entries,
                should_clear,
                is_at_end: reached_end,
                position: last_position,
            }),
            other => Err(Error::unexpected(&other)),
        }
    }
}

fn from(token: &Bytes) -> TableRange {
    TableRange {
        continuation_token: token.clone(),
        ..TableRange::default()
    }
}
