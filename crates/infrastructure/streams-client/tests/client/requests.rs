//! What a store answers at once.

use anyhow::{Result, bail};
use streams_core::attributes::{AttributeId, AttributeUpdate, UpdateKind};
use streams_core::op::{Outcome, Put, Remove};
use streams_core::segment::{KeyLength, Kind};
use streams_core::table::{Bounds, Found, Page};
use streams_core::{Op, Refusal, SegmentName};
use streams_wire::replies::{self as to, Reply};
use streams_wire::requests::Request;
use streams_wire::shapes::{TableEntry, TableKey, TableRange, TableValue};

use crate::store::Store;

pub(crate) fn answer(store: &Store, request: Request) -> Result<Reply> {
    match request {
        Request::CreateSegment(_)
        | Request::SealSegment(_)
        | Request::TruncateSegment(_)
        | Request::DeleteSegment(_)
        | Request::MergeSegments(_)
        | Request::UpdateSegmentAttribute(_) => change(store, request),
        Request::GetStreamSegmentInfo(_) | Request::GetSegmentAttribute(_) => ask(store, request),
        Request::CreateTableSegment(_)
        | Request::DeleteTableSegment(_)
        | Request::UpdateTableEntries(_)
        | Request::RemoveTableKeys(_) => change_table(store, request),
        other => ask_table(store, other),
    }
}

fn change(store: &Store, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::CreateSegment(it) => {
            create(store, &it.segment, Kind::Stream)?;
            to::SegmentCreated {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        Request::SealSegment(it) => {
            store.propose(&Op::Seal(SegmentName::new(&it.segment)?))?;
            to::SegmentSealed {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        Request::TruncateSegment(it) => {
            store.propose(&Op::Truncate {
                segment: SegmentName::new(&it.segment)?,
                offset: it.truncation_offset.try_into()?,
            })?;
            to::SegmentTruncated {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        Request::DeleteSegment(it) => {
            store.propose(&Op::Delete(SegmentName::new(&it.segment)?))?;
            to::SegmentDeleted {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        other => return change_what_it_has(store, other),
    })
}

fn change_what_it_has(store: &Store, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::MergeSegments(it) => {
            let merged = store.propose(&Op::Merge {
                target: SegmentName::new(&it.target)?,
                source: SegmentName::new(&it.source)?,
                attributes: Vec::new(),
            })?;
            let Outcome::Merged { lengths } = merged else {
                bail!("{merged:?}");
            };
            to::SegmentsMerged {
                request_id: it.request_id,
                target: it.target,
                source: it.source,
                new_target_write_offset: lengths[0].try_into()?,
            }
            .into()
        }
        Request::UpdateSegmentAttribute(it) => {
            let update = AttributeUpdate {
                id: AttributeId(it.attribute_id),
                value: it.new_value,
                kind: UpdateKind::ReplaceIfEquals(it.expected_value),
            };
            let updated = store.propose(&Op::UpdateAttributes {
                segment: SegmentName::new(&it.segment)?,
                updates: vec![update],
            });
            let success = match updated {
                Ok(_) => true,
                Err(Refusal::BadAttribute { .. }) => false,
                Err(why) => return Err(why.into()),
            };
            to::SegmentAttributeUpdated {
                request_id: it.request_id,
                success,
            }
            .into()
        }
        other => bail!("{} is no change", other.name()),
    })
}

pub(crate) fn create(store: &Store, segment: &str, kind: Kind) -> Result<()> {
    store.propose(&Op::Create {
        segment: SegmentName::new(segment)?,
        kind,
        attributes: Vec::new(),
    })?;
    Ok(())
}

fn ask(store: &Store, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::GetStreamSegmentInfo(it) => {
            let name = SegmentName::new(&it.segment)?;
            let info = store.ask(|container| container.info(&name));
            let info = info.map_err(|refused| refused.why)?.value;
            to::StreamSegmentInfo {
                request_id: it.request_id,
                segment: it.segment,
                exists: true,
                is_sealed: info.is_sealed,
                is_deleted: false,
                last_modified: 0,
                write_offset: info.length.try_into()?,
                start_offset: info.start_offset.try_into()?,
            }
            .into()
        }
        Request::GetSegmentAttribute(it) => {
            let name = SegmentName::new(&it.segment)?;
            let id = AttributeId(it.attribute_id);
            let answer = store.ask(|container| container.attribute(&name, id));
            to::SegmentAttribute {
                request_id: it.request_id,
                value: answer.map_err(|refused| refused.why)?.value,
            }
            .into()
        }
        other => bail!("{} is no question", other.name()),
    })
}

fn change_table(store: &Store, request: Request) -> Result<Reply> {
    let expected = |length: i64| u64::try_from(length).ok();
    Ok(match request {
        Request::CreateTableSegment(it) => {
            create(store, &it.segment, Kind::Table(KeyLength::Any))?;
            to::SegmentCreated {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        Request::DeleteTableSegment(it) => {
            store.propose(&Op::Delete(SegmentName::new(&it.segment)?))?;
            to::SegmentDeleted {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        Request::UpdateTableEntries(it) => {
            let put = |entry: &TableEntry| Put {
                key: entry.key.key().clone(),
                value: entry.value.0.clone(),
                when: entry.key.version().into(),
            };
            let done = store.propose(&Op::PutEntries {
                table: SegmentName::new(&it.segment)?,
                entries: it.entries.iter().map(put).collect(),
                expected_length: expected(it.table_segment_offset),
            })?;
            let Outcome::Put { versions } = done else {
                bail!("{done:?}");
            };
            to::TableEntriesUpdated {
                request_id: it.request_id,
                updated_versions: versions,
            }
            .into()
        }
        Request::RemoveTableKeys(it) => {
            let remove = |key: &TableKey| Remove {
                key: key.key().clone(),
                when: key.version().into(),
            };
            store.propose(&Op::RemoveEntries {
                table: SegmentName::new(&it.segment)?,
                keys: it.keys.iter().map(remove).collect(),
                expected_length: expected(it.table_segment_offset),
            })?;
            to::TableKeysRemoved {
                request_id: it.request_id,
                segment: it.segment,
            }
            .into()
        }
        other => bail!("{} is no change of a table", other.name()),
    })
}

fn ask_table(store: &Store, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::GetTableSegmentInfo(it) => {
            let name = SegmentName::new(&it.segment)?;
            let info = store.ask(|container| container.info(&name));
            let info = info.map_err(|refused| refused.why)?.value;
            to::TableSegmentInfo {
                request_id: it.request_id,
                segment: it.segment,
                start_offset: info.start_offset.try_into()?,
                length: info.length.try_into()?,
                entry_count: info.n_entries.try_into()?,
                key_length: 0,
            }
            .into()
        }
        Request::ReadTable(it) => {
            let name = SegmentName::new(&it.segment)?;
            let keys: Vec<_> = it.keys.iter().map(|key| key.key().clone()).collect();
            let found = store.ask(|container| container.entries_of(&name, &keys));
            let found = found.map_err(|refused| refused.why)?.value;
            to::TableRead {
                request_id: it.request_id,
                segment: it.segment,
                entries: entries(found),
            }
            .into()
        }
        other => return list_table(store, other),
    })
}

fn list_table(store: &Store, request: Request) -> Result<Reply> {
    let page = |n_items: i32| Page {
        items_max: usize::try_from(n_items).unwrap_or(1),
        bytes_max: 1 << 20,
    };
    Ok(match request {
        Request::ReadTableKeys(it) => {
            let name = SegmentName::new(&it.segment)?;
            let (bounds, page) = (bounds(it.range), page(it.suggested_key_count));
            let found = store.ask(|container| container.keys(&name, &bounds, page));
            let found = found.map_err(|refused| refused.why)?.value;
            let keys = found.keys.into_iter();
            to::TableKeysRead {
                request_id: it.request_id,
                segment: it.segment,
                keys: keys
                    .map(|(key, version)| TableKey::new(key, version))
                    .collect(),
                continuation_token: found.token,
            }
            .into()
        }
        Request::ReadTableEntries(it) => {
            let name = SegmentName::new(&it.segment)?;
            let (bounds, page) = (bounds(it.range), page(it.suggested_entry_count));
            let found = store.ask(|container| container.entries(&name, &bounds, page));
            let found = found.map_err(|refused| refused.why)?.value;
            to::TableEntriesRead {
                request_id: it.request_id,
                segment: it.segment,
                entries: entries(found.entries),
                continuation_token: found.token,
            }
            .into()
        }
        Request::ReadTableEntriesDelta(it) => {
            let name = SegmentName::new(&it.segment)?;
            let (from, page) = (it.from_position.try_into()?, page(it.suggested_entry_count));
            let delta = store.ask(|container| container.delta(&name, from, page));
            let delta = delta.map_err(|refused| refused.why)?.value;
            to::TableEntriesDeltaRead {
                request_id: it.request_id,
                segment: it.segment,
                entries: entries(delta.entries),
                should_clear: false,
                reached_end: delta.reached_end,
                last_position: delta.last_position.try_into()?,
            }
            .into()
        }
        other => bail!("{} is not known here", other.name()),
    })
}

fn bounds(range: TableRange) -> Bounds {
    Bounds {
        from: range.from_key,
        to: range.to_key,
        token: range.continuation_token,
    }
}

fn entries(found: Vec<Found>) -> Vec<TableEntry> {
    let entry = |it: Found| TableEntry {
        key: TableKey::new(it.key, it.version),
        value: TableValue(it.value),
    };
    found.into_iter().map(entry).collect()
}
