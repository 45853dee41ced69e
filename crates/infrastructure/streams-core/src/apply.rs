//! What a record changes. The owner does it when it proposes, and the next one when it reads the log: there is one way to do it.

use bytes::Bytes;
use ids::Epoch;

use crate::Corrupt;
use crate::content::{ALL, Freed, Place, Run};
use crate::names::SegmentId;
use crate::record::{Body, Record};
use crate::segment::{LENGTH_MAX, Segment};
use crate::state::{State, Totals};
use crate::table::Entries;

/// What came of a record beside the new state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Segments that are no more.
    pub(crate) gone: Vec<SegmentId>,
    pub(crate) freed: Freed,
}

impl State {
    /// `payload_at` is where in the record its payload begins.
    ///
    /// # Errors
    /// The record does not belong behind the ones before it. Nothing is to be done with the state any more.
    pub(crate) fn apply(&mut self, record: &Record, payload_at: u64) -> Result<Change, Corrupt> {
        if record.seq != self.seq.next() {
            return Err(Corrupt("a record is missing"));
        }
        self.seq = record.seq;
        let mut change = Change::default();
        match &record.body {
            Body::Opened(epoch) => {
                self.check_epoch(*epoch)?;
                self.epoch = *epoch;
                let transient: Vec<_> = self.transient().map(|(id, _)| id).collect();
                for id in transient {
                    self.remove(id, &mut change)?;
                }
            }
            Body::Created { .. } => self.add(record)?,
            Body::Merged {
                target,
                offset,
                sources,
                attributes,
            } => {
                let mut taken = Vec::with_capacity(sources.len());
                for id in sources {
                    if id == target {
                        return Err(Corrupt("a segment is merged into itself"));
                    }
                    let source = self.take(*id)?;
                    if source.content.stored_to(*id, 0) == 0 {
                        change.freed.stored.push((*id, ALL));
                    }
                    taken.push(source);
                    change.gone.push(*id);
                }
                self.change(*target, record, |segment| {
                    // All may have been merged before, and the target sealed since.
                    if !taken.is_empty() {
                        segment.begins_at(*offset)?;
                    }
                    segment.attributes.write(attributes, record.seq);
                    taken
                        .into_iter()
                        .try_for_each(|source| segment.absorb(source))
                })?;
            }
            Body::Deleted(id) => self.remove(*id, &mut change)?,
            body => {
                let id = body.segment().expect("the others have been matched");
                change.freed =
                    self.change(id, record, |segment| segment.apply(id, record, payload_at))?;
            }
        }
        Ok(change)
    }

    pub(crate) fn check_epoch(&self, epoch: Epoch) -> Result<(), Corrupt> {
        if epoch <= self.epoch {
            return Err(Corrupt("an owner that is not later than the one before"));
        }
        Ok(())
    }

    fn add(&mut self, record: &Record) -> Result<(), Corrupt> {
        let Body::Created {
            id,
            name,
            kind,
            attributes,
        } = &record.body
        else {
            unreachable!("it has been matched");
        };
        if *id <= self.last_id || *id > SegmentId::MAX {
            return Err(Corrupt("a number of a segment is used twice"));
        }
        self.last_id = *id;
        if self.names.insert(name.clone(), *id).is_some() {
            return Err(Corrupt("a name of a segment is used twice"));
        }
        let mut segment = Segment::new(name.clone(), *kind);
        segment.attributes.set(attributes);
        segment.changed = record.seq;
        segment.modified_at_ms = record.at_ms;
        self.totals.add(Totals::of(&segment));
        self.segments.insert(*id, segment);
        Ok(())
    }

    fn change<T>(
        &mut self,
        id: SegmentId,
        record: &Record,
        change: impl FnOnce(&mut Segment) -> Result<T, Corrupt>,
    ) -> Result<T, Corrupt> {
        let segment = self.segments.get_mut(&id).ok_or(NO_SEGMENT)?;
        self.totals.subtract(Totals::of(segment));
        let done = change(segment)?;
        self.totals.add(Totals::of(segment));
        if segment.is_unstored(id) {
            self.unstored.insert(id);
        } else {
            self.unstored.remove(&id);
        }
        segment.changed = record.seq;
        if !matches!(record.body, Body::Stored { .. }) {
            segment.modified_at_ms = record.at_ms;
        }
        Ok(done)
    }

    fn take(&mut self, id: SegmentId) -> Result<Segment, Corrupt> {
        let segment = self.segments.remove(&id).ok_or(NO_SEGMENT)?;
        self.totals.subtract(Totals::of(&segment));
        self.unstored.remove(&id);
        self.names.remove(&segment.name);
        self.unnamed = self.seq;
        Ok(segment)
    }

    fn remove(&mut self, id: SegmentId, change: &mut Change) -> Result<(), Corrupt> {
        let segment = self.take(id)?;
        let Freed { records, stored } = segment.content.remove(id);
        change.freed.records.extend(records);
        change.freed.stored.extend(stored);
        change.gone.push(id);
        Ok(())
    }
}

const NO_SEGMENT: Corrupt = Corrupt("a record about no segment");

impl Segment {
    fn apply(&mut self, id: SegmentId, record: &Record, payload_at: u64) -> Result<Freed, Corrupt> {
        match &record.body {
            Body::Appended {
                offset,
                attributes,
                data,
                ..
            } => {
                self.has_bytes()?;
                self.begins_at(*offset)?;
                self.attributes.write(attributes, record.seq);
                let bytes = data.len() as u64;
                let place = Place::Log {
                    record: record.seq,
                    at: payload_at,
                };
                self.grow(bytes)?;
                self.content.push(*offset, Run { bytes, place });
            }
            Body::Sealed(_) => self.is_sealed = true,
            Body::Truncated { start, .. } => return self.truncate(id, *start),
            Body::AttributesSet { attributes, .. } => self.attributes.set(attributes),
            Body::TableChanged {
                offset, entries, ..
            } => self.write(*offset, entries)?,
            Body::Stored { to, .. } => {
                self.has_bytes()?;
                if *to <= self.content.stored_to(id, self.start) || *to > self.length {
                    return Err(Corrupt("more is stored than there is"));
                }
                return Ok(self.content.store(id, self.start, *to));
            }
            Body::Opened(_) | Body::Created { .. } | Body::Merged { .. } | Body::Deleted(_) => {
                unreachable!("not about one segment that lives on")
            }
        }
        Ok(Freed::default())
    }

    fn begins_at(&self, offset: u64) -> Result<(), Corrupt> {
        if offset == self.length && !self.is_sealed {
            Ok(())
        } else {
            Err(Corrupt("a segment does not go on where it ended"))
        }
    }

    fn has_bytes(&self) -> Result<(), Corrupt> {
        match self.table {
            Some(_) => Err(Corrupt("a record about bytes of a table")),
            None => Ok(()),
        }
    }

    fn grow(&mut self, bytes: u64) -> Result<(), Corrupt> {
        let length = self.length.checked_add(bytes);
        match length {
            Some(length) if length <= LENGTH_MAX => self.length = length,
            _ => return Err(Corrupt("a segment is longer than any")),
        }
        Ok(())
    }

    fn absorb(&mut self, source: Segment) -> Result<(), Corrupt> {
        self.has_bytes()?;
        source.has_bytes()?;
        if source.start != 0 {
            return Err(Corrupt("a segment is merged that cannot be"));
        }
        let offset = self.length;
        self.grow(source.length)?;
        self.content.absorb(offset, source.content);
        Ok(())
    }

    fn truncate(&mut self, id: SegmentId, start: u64) -> Result<Freed, Corrupt> {
        self.has_bytes()?;
        if start < self.start || start > self.length {
            return Err(Corrupt("a segment is truncated where it is not"));
        }
        if start == self.start {
            return Ok(Freed::default());
        }
        self.start = start;
        Ok(self.content.truncate(id, start))
    }

    fn write(&mut self, offset: u64, entries: &Bytes) -> Result<(), Corrupt> {
        self.begins_at(offset)?;
        self.grow(entries.len() as u64)?;
        let no_table = Corrupt("entries for a segment that is no table");
        let table = self.table.as_mut().ok_or(no_table)?;
        for entry in Entries::new(offset, entries.clone()) {
            let entry = entry.map_err(|_| Corrupt("a table has bytes that are no entry"))?;
            table.apply(&entry);
        }
        Ok(())
    }
}
