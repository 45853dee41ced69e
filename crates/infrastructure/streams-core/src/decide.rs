//! Whether an operation may be done, and what it comes to: a pure function of the state, all proposals included.

use bytes::{Bytes, BytesMut};

use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, Room, UpdateKind, Values};
use crate::names::{SegmentId, SegmentName, Seq};
use crate::op::{Append, Op, Outcome, Put, Refusal, Remove};
use crate::record::Body;
use crate::segment::{KeyLength, Kind, LENGTH_MAX, Segment};
use crate::state::{Limits, State};
use crate::table::{
    ENTRY_BYTES_MAX, ENTRY_MEMORY, HEADER_BYTES, KEY_BYTES_MAX, put_entry, put_removal, version_at,
};

type Decision = Result<(Body, Outcome), Refusal>;

impl State {
    pub(crate) fn decide(&self, op: &Op, limits: &Limits) -> Decision {
        match op {
            Op::Create {
                segment,
                kind,
                attributes,
            } => self.create(segment, *kind, attributes, limits),
            Op::Append(append) => self.append(append, limits),
            Op::Seal(name) => {
                let (id, segment) = self.find(name)?;
                segment.goes_on()?;
                Ok((Body::Sealed(id), Outcome::Done))
            }
            Op::Truncate { segment, offset } => {
                let (id, segment) = self.find_bytes(segment)?;
                let start = *offset;
                if start < segment.start || start > segment.length {
                    let expected = segment.start;
                    return Err(Refusal::BadOffset { expected });
                }
                Ok((Body::Truncated { id, start }, Outcome::Done))
            }
            Op::Merge {
                target,
                source,
                attributes,
            } => {
                self.find(target)?;
                self.find(source)?;
                self.merge(target, std::slice::from_ref(source), attributes, limits)
            }
            Op::MergeBatch { target, sources } => self.merge(target, sources, &[], limits),
            Op::UpdateAttributes { segment, updates } => {
                let (id, segment) = self.find(segment)?;
                segment.goes_on()?;
                let attributes = self.evaluate(segment, updates, limits)?;
                Ok((Body::AttributesSet { id, attributes }, Outcome::Done))
            }
            Op::Delete(name) => Ok((Body::Deleted(self.find(name)?.0), Outcome::Done)),
            Op::DeleteEmptyTable(name) => {
                let (id, _, table) = self.find_table(name)?;
                if table.n_entries() > 0 {
                    return Err(Refusal::NotEmpty(name.clone()));
                }
                Ok((Body::Deleted(id), Outcome::Done))
            }
            Op::PutEntries {
                table,
                entries,
                expected_length,
            } => self.put(table, entries, *expected_length, limits),
            Op::RemoveEntries {
                table,
                keys,
                expected_length,
            } => self.remove_entries(table, keys, *expected_length, limits),
            Op::Store { segment, to } => {
                let (id, segment) = (*segment, self.get(*segment)?);
                if segment.table.is_some() {
                    return Err(Refusal::WrongKind(segment.name.clone()));
                }
                let stored_to = segment.content.stored_to(id, segment.start);
                if *to <= stored_to || *to > segment.length {
                    return Err(Refusal::Invalid("that is stored already, or not there"));
                }
                Ok((Body::Stored { id, to: *to }, Outcome::Done))
            }
        }
    }

    fn create(
        &self,
        name: &SegmentName,
        kind: Kind,
        attributes: &[AttributeUpdate],
        limits: &Limits,
    ) -> Decision {
        if self.names.contains_key(name) {
            return Err(Refusal::Exists(name.clone()));
        }
        if let Kind::Table(KeyLength::Bytes(bytes)) = kind
            && !KeyLength::BYTES.contains(&bytes)
        {
            return Err(Refusal::Invalid("keys of a table have 1 to 256 bytes"));
        }
        if self.segments.len() >= limits.segments_max || self.last_id >= SegmentId::MAX {
            return Err(Refusal::Limit { what: "segments" });
        }
        let id = SegmentId(self.last_id.0 + 1);
        let empty = Segment::new(name.clone(), kind);
        let attributes = self.evaluate(&empty, attributes, limits)?;
        let name = name.clone();
        let body = Body::Created {
            id,
            name,
            kind,
            attributes,
        };
        Ok((body, Outcome::Created(id)))
    }

    fn append(&self, append: &Append, limits: &Limits) -> Decision {
        let (id, segment) = self.find_bytes(&append.segment)?;
        segment.goes_on()?;
        // The writer is looked at before the offset, as upstream: one that is wrong about itself is not only told that others were faster.
        let attributes = self.evaluate_written(segment, &append.attributes, limits)?;
        segment.ends_at(append.expected_offset)?;
        let length = segment.grown(append.data.len() as u64)?;
        self.limit_runs(1, limits)?;
        let body = Body::Appended {
            id,
            offset: segment.length,
            attributes,
            data: append.data.clone(),
        };
        Ok((body, Outcome::Appended { length }))
    }

    fn merge(
        &self,
        target: &SegmentName,
        sources: &[SegmentName],
        updates: &[AttributeUpdate],
        limits: &Limits,
    ) -> Decision {
        let (id, segment) = self.find_bytes(target)?;
        if sources.len() > limits.sources_max {
            let what = "segments to be merged";
            return Err(Refusal::Limit { what });
        }
        let mut updates = updates.to_vec();
        let mut ids = Vec::with_capacity(sources.len());
        let mut lengths = Vec::with_capacity(sources.len());
        let mut length = segment.length;
        for name in sources {
            let (source_id, source) = match self.find_bytes(name) {
                Ok(found) if !ids.contains(&found.0) => found,
                Ok(_) | Err(Refusal::NoSuchSegment(_)) => {
                    lengths.push(length);
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            if source_id == id {
                return Err(Refusal::Invalid("a segment is not merged into itself"));
            }
            if source.start > 0 {
                return Err(Refusal::Truncated(name.clone()));
            }
            segment.goes_on()?;
            ids.push(source_id);
            updates.push(AttributeUpdate {
                id: AttributeId::EVENT_COUNT,
                value: source.n_events(),
                kind: UpdateKind::Accumulate,
            });
            // Each for itself: all together may be more than a number holds.
            length += source.length;
            segment.grown(length - segment.length)?;
            lengths.push(length);
        }
        let body = Body::Merged {
            target: id,
            offset: segment.length,
            sources: ids,
            attributes: self.evaluate_written(segment, &updates, limits)?,
        };
        Ok((body, Outcome::Merged { lengths }))
    }

    fn put(
        &self,
        name: &SegmentName,
        entries: &[Put],
        expected_length: Option<u64>,
        limits: &Limits,
    ) -> Decision {
        let (id, segment, table) = self.find_table(name)?;
        segment.goes_on()?;
        let mut bytes = 0;
        for entry in entries {
            segment.check_key(&entry.key)?;
            let entry_bytes = HEADER_BYTES + entry.key.len() + entry.value.len();
            if entry_bytes > ENTRY_BYTES_MAX {
                return Err(Refusal::Invalid("an entry has at most 1 MiB"));
            }
            bytes += entry_bytes;
        }
        let new = entries.iter().filter(|it| table.get(&it.key).is_none());
        let memory = bytes as u64 + ENTRY_MEMORY * new.count() as u64;
        let tables_bytes = self.totals.tables_bytes + memory;
        if bytes > limits.table_batch_bytes_max || tables_bytes > limits.tables_bytes_max {
            let what = "bytes of entries";
            return Err(Refusal::Limit { what });
        }
        table.check(entries.iter().map(|entry| (&entry.key, entry.when)))?;
        segment.ends_at(expected_length)?;
        let mut written = BytesMut::with_capacity(bytes);
        let mut versions = Vec::with_capacity(entries.len());
        for entry in entries {
            versions.push(version_at(segment.length + written.len() as u64));
            put_entry(&mut written, &entry.key, &entry.value);
        }
        let body = segment.changed_by(id, written.freeze())?;
        Ok((body, Outcome::Put { versions }))
    }

    fn remove_entries(
        &self,
        name: &SegmentName,
        keys: &[Remove],
        expected_length: Option<u64>,
        limits: &Limits,
    ) -> Decision {
        let (id, segment, table) = self.find_table(name)?;
        segment.goes_on()?;
        let mut bytes = 0;
        for remove in keys {
            segment.check_key(&remove.key)?;
            bytes += HEADER_BYTES + remove.key.len();
        }
        if bytes > limits.table_batch_bytes_max {
            let what = "bytes of keys";
            return Err(Refusal::Limit { what });
        }
        table.check(keys.iter().map(|remove| (&remove.key, remove.when)))?;
        segment.ends_at(expected_length)?;
        let mut written = BytesMut::with_capacity(bytes);
        for remove in keys {
            put_removal(&mut written, &remove.key);
        }
        let body = segment.changed_by(id, written.freeze())?;
        Ok((body, Outcome::Done))
    }

    fn evaluate(
        &self,
        segment: &Segment,
        updates: &[AttributeUpdate],
        limits: &Limits,
    ) -> Result<Values, Refusal> {
        let room = Room {
            attributes_max: self.attributes_max(segment, limits),
            idle_before: None,
        };
        segment.attributes.evaluate(updates, room)
    }

    /// Those that come with events: if there is no room, other writers' are given up. What is not durable yet is of writers that wait for it.
    fn evaluate_written(
        &self,
        segment: &Segment,
        updates: &[AttributeUpdate],
        limits: &Limits,
    ) -> Result<Values, Refusal> {
        let pending_max = limits.pending_max as u64;
        let room = Room {
            attributes_max: self.attributes_max(segment, limits),
            idle_before: self.seq.next().0.checked_sub(pending_max).map(Seq),
        };
        segment.attributes.evaluate(updates, room)
    }

    fn attributes_max(&self, segment: &Segment, limits: &Limits) -> usize {
        let room = limits
            .attributes_max
            .saturating_sub(self.totals.n_attributes);
        let max = limits.segment_attributes_max;
        max.min(segment.attributes.len() + room)
    }

    fn limit_runs(&self, more: usize, limits: &Limits) -> Result<(), Refusal> {
        if self.totals.n_runs + more > limits.runs_max {
            let what = "bytes that are not in long-term storage";
            return Err(Refusal::Limit { what });
        }
        Ok(())
    }
}

impl Segment {
    fn goes_on(&self) -> Result<(), Refusal> {
        if self.is_sealed {
            return Err(Refusal::Sealed(self.name.clone()));
        }
        Ok(())
    }

    fn ends_at(&self, expected: Option<u64>) -> Result<(), Refusal> {
        if expected.is_some_and(|expected| expected != self.length) {
            let expected = self.length;
            return Err(Refusal::BadOffset { expected });
        }
        Ok(())
    }

    fn grown(&self, bytes: u64) -> Result<u64, Refusal> {
        let length = self.length.checked_add(bytes);
        let length = length.filter(|length| *length <= LENGTH_MAX);
        let what = "bytes of a segment";
        length.ok_or(Refusal::Limit { what })
    }

    fn changed_by(&self, id: SegmentId, entries: Bytes) -> Result<Body, Refusal> {
        self.grown(entries.len() as u64)?;
        let offset = self.length;
        Ok(Body::TableChanged {
            id,
            offset,
            entries,
        })
    }

    fn n_events(&self) -> i64 {
        match (self.kind, self.attributes.get(AttributeId::EVENT_COUNT)) {
            // The one that was too large to be appended at once.
            (Kind::Transient(_), _) => 1,
            (_, NO_VALUE) => 0,
            (_, n_events) => n_events,
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refusal> {
        let fits = match self.kind {
            Kind::Table(KeyLength::Bytes(bytes)) => key.len() == usize::from(bytes),
            _ => (1..=KEY_BYTES_MAX).contains(&key.len()),
        };
        if !fits {
            return Err(Refusal::Invalid("the table has no keys of that length"));
        }
        Ok(())
    }
}
