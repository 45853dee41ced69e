//! What is asked of tables.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use streams_core::op::{Answer, Outcome, Put, Refused, Remove};
use streams_core::segment::{KeyLength, Kind};
use streams_core::table::{Bounds, Page};
use streams_core::{Container, Op, SegmentName};
use streams_store::Error;
use streams_wire::limits::READ_BYTES_MAX;
use streams_wire::replies::{
    Reply, SegmentCreated, SegmentDeleted, TableEntriesDeltaRead, TableEntriesRead,
    TableEntriesUpdated, TableKeysRead, TableKeysRemoved, TableRead, TableSegmentInfo,
};
use streams_wire::requests::{
    CreateTableSegment, DeleteTableSegment, ReadTable, ReadTableEntries, ReadTableEntriesDelta,
    ReadTableKeys, RemoveTableKeys, Request, UpdateTableEntries,
};
use streams_wire::shapes::{TableEntry, TableKey, TableRange, TableValue};

use super::connection::Connection;
use super::refusals::{Subject, refuse};

/// Entries of one answer, however many are asked for.
const ITEMS_MAX: usize = 10_000;

impl Connection {
    pub(super) async fn answer_of_table(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::CreateTableSegment(it) => self.create_table(it).await,
            Request::DeleteTableSegment(it) => self.delete_table(it).await,
            Request::UpdateTableEntries(it) => self.put_entries(it).await,
            Request::RemoveTableKeys(it) => self.remove_keys(it).await,
            Request::GetTableSegmentInfo(it) => {
                let subject = Subject::new(it.request_id, &it.segment);
                self.ask_table(subject, Container::info, |subject, info| {
                    let reply = TableSegmentInfo {
                        request_id: subject.request_id,
                        segment: subject.segment,
                        start_offset: info.start_offset.cast_signed(),
                        length: info.length.cast_signed(),
                        entry_count: info.n_entries.cast_signed(),
                        key_length: match info.kind {
                            Kind::Table(KeyLength::Bytes(n_bytes)) => n_bytes.into(),
                            _ => 0,
                        },
                    };
                    reply.into()
                });
            }
            Request::ReadTable(it) => self.read_table(it),
            Request::ReadTableKeys(it) => self.read_keys(it),
            Request::ReadTableEntries(it) => self.read_entries(it),
            Request::ReadTableEntriesDelta(it) => self.read_delta(it),
            other => self.unsupported(&other),
        }
        Ok(())
    }

    async fn create_table(&mut self, request: CreateTableSegment) {
        let subject = Subject::new(request.request_id, &request.segment);
        let length = match u16::try_from(request.key_length) {
            Ok(0) => KeyLength::Any,
            Ok(n_bytes) if KeyLength::BYTES.contains(&n_bytes) => KeyLength::Bytes(n_bytes),
            _ => return self.illegal(&subject, "keys have 1 to 256 bytes, or any length (0)"),
        };
        let op = |segment| Op::Create {
            segment,
            kind: Kind::Table(length),
            attributes: Vec::new(),
        };
        let reply = SegmentCreated {
            request_id: request.request_id,
            segment: request.segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    async fn delete_table(&mut self, request: DeleteTableSegment) {
        let subject = Subject::new(request.request_id, &request.segment);
        let must_be_empty = request.must_be_empty;
        let op = |segment| {
            if must_be_empty {
                Op::DeleteEmptyTable(segment)
            } else {
                Op::Delete(segment)
            }
        };
        let reply = SegmentDeleted {
            request_id: request.request_id,
            segment: request.segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    async fn put_entries(&mut self, request: UpdateTableEntries) {
        let request_id = request.request_id;
        let subject = Subject::new(request_id, &request.segment).at(request.table_segment_offset);
        let entries = request.entries.into_iter().map(|entry| Put {
            when: entry.key.version().into(),
            key: entry.key.key().clone(),
            value: entry.value.0,
        });
        let entries = entries.collect();
        let expected_length = u64::try_from(request.table_segment_offset).ok();
        let op = |table| Op::PutEntries {
            table,
            entries,
            expected_length,
        };
        let reply = move |outcome| {
            let updated_versions = match outcome {
                Outcome::Put { versions } => versions,
                _ => Vec::new(),
            };
            let updated = TableEntriesUpdated {
                request_id,
                updated_versions,
            };
            updated.into()
        };
        self.change(subject, op, reply).await;
    }

    async fn remove_keys(&mut self, request: RemoveTableKeys) {
        let subject = Subject::new(request.request_id, &request.segment);
        let subject = subject.at(request.table_segment_offset);
        let keys = request.keys.iter().map(|key| Remove {
            key: key.key().clone(),
            when: key.version().into(),
        });
        let keys = keys.collect();
        let expected_length = u64::try_from(request.table_segment_offset).ok();
        let op = |table| Op::RemoveEntries {
            table,
            keys,
            expected_length,
        };
        let reply = TableKeysRemoved {
            request_id: request.request_id,
            segment: request.segment,
        };
        self.change(subject, op, move |_| reply.into()).await;
    }

    /// Answers a question about a table when the answer is durable.
    fn ask_table<T: Send + 'static>(
        &mut self,
        subject: Subject,
        question: impl FnOnce(&Container, &SegmentName) -> Result<Answer<T>, Refused>,
        reply: impl FnOnce(Subject, T) -> Reply + Send + 'static,
    ) {
        let Some(segment) = self.name(&subject) else {
            return;
        };
        let outbox = Arc::clone(&self.outbox);
        self.shared.store.ask_then(
            &segment,
            |container| question(container, &segment),
            move |answer: Result<T, Error>| match answer {
                Ok(answer) => outbox.send(reply(subject, answer)),
                Err(error) => refuse(&outbox, &subject, &error),
            },
        );
    }

    fn read_table(&mut self, request: ReadTable) {
        let subject = Subject::new(request.request_id, &request.segment);
        let keys: Vec<Bytes> = request.keys.iter().map(|key| key.key().clone()).collect();
        self.ask_table(
            subject,
            |container, table| container.entries_of(table, &keys),
            |subject, found| {
                let entries = found.into_iter().map(entry).collect();
                let read = TableRead {
                    request_id: subject.request_id,
                    segment: subject.segment,
                    entries,
                };
                read.into()
            },
        );
    }

    fn read_keys(&mut self, request: ReadTableKeys) {
        let subject = Subject::new(request.request_id, &request.segment);
        let page = page(request.suggested_key_count);
        let bounds = bounds(request.range);
        self.ask_table(
            subject,
            |container, table| container.keys(table, &bounds, page),
            |subject, found| {
                let keys = found.keys.into_iter();
                let read = TableKeysRead {
                    request_id: subject.request_id,
                    segment: subject.segment,
                    keys: keys
                        .map(|(key, version)| TableKey::new(key, version))
                        .collect(),
                    continuation_token: found.token,
                };
                read.into()
            },
        );
    }

    fn read_entries(&mut self, request: ReadTableEntries) {
        let subject = Subject::new(request.request_id, &request.segment);
        let page = page(request.suggested_entry_count);
        let bounds = bounds(request.range);
        self.ask_table(
            subject,
            |container, table| container.entries(table, &bounds, page),
            |subject, found| {
                let read = TableEntriesRead {
                    request_id: subject.request_id,
                    segment: subject.segment,
                    entries: found.entries.into_iter().map(entry).collect(),
                    continuation_token: found.token,
                };
                read.into()
            },
        );
    }

    fn read_delta(&mut self, request: ReadTableEntriesDelta) {
        let subject = Subject::new(request.request_id, &request.segment);
        let page = page(request.suggested_entry_count);
        let Ok(from) = u64::try_from(request.from_position) else {
            return self.illegal(&subject, "positions are not below zero");
        };
        self.ask_table(
            subject,
            |container, table| container.delta(table, from, page),
            |subject, delta| {
                let read = TableEntriesDeltaRead {
                    request_id: subject.request_id,
                    segment: subject.segment,
                    entries: delta.entries.into_iter().map(entry).collect(),
                    // All that is true is in the table, however old the position is.
                    should_clear: false,
                    reached_end: delta.reached_end,
                    last_position: delta.last_position.cast_signed(),
                };
                read.into()
            },
        );
    }
}

fn entry(found: streams_core::table::Found) -> TableEntry {
    TableEntry {
        key: TableKey::new(found.key, found.version),
        value: TableValue(found.value),
    }
}

fn page(suggested: i32) -> Page {
    Page {
        items_max: usize::try_from(suggested).unwrap_or(0).clamp(1, ITEMS_MAX),
        bytes_max: READ_BYTES_MAX,
    }
}

fn bounds(range: TableRange) -> Bounds {
    Bounds {
        from: range.from_key,
        to: range.to_key,
        token: range.continuation_token,
    }
}
