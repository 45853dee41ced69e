//! What a container has to do, said as simply as it can be: segments are their bytes, and an operation is done or changes nothing.

use std::collections::BTreeMap;

use crate::attributes::{AttributeId, AttributeUpdate, NO_VALUE, UpdateKind};
use crate::op::{Append, Op, Outcome, Put, Refusal, Remove, Version};
use crate::segment::{KeyLength, Kind};
use crate::table::HEADER_BYTES;
use crate::{SegmentId, SegmentName};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) segments: BTreeMap<SegmentName, Segment>,
    /// How many there have been.
    pub(crate) n_created: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: Kind,
    /// All there ever were. Those of a table are only as many.
    pub(crate) bytes: Vec<u8>,
    pub(crate) start: usize,
    pub(crate) is_sealed: bool,
    pub(crate) attributes: BTreeMap<AttributeId, i64>,
    /// Of a table, with their versions.
    pub(crate) entries: BTreeMap<Vec<u8>, (i64, Vec<u8>)>,
}

type Attributes = BTreeMap<AttributeId, i64>;

impl Model {
    /// A new owner.
    pub(crate) fn open(&mut self) {
        self.segments
            .retain(|_, segment| !matches!(segment.kind, Kind::Transient(_)));
    }

    /// Operations about numbers are not the model's: they change nothing that it knows.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<Outcome, Refusal> {
        match op {
            Op::Create {
                segment,
                kind,
                attributes,
            } => self.create(segment, *kind, attributes),
            Op::Append(append) => self.append(append),
            Op::Seal(name) => {
                self.open_segment(name)?.is_sealed = true;
                Ok(Outcome::Done)
            }
            Op::Truncate { segment, offset } => self.truncate(segment, *offset),
            Op::Merge {
                target,
                source,
                attributes,
            } => {
                self.segment(target)?;
                self.segment(source)?;
                let length = self.merge(target, source, attributes)?;
                let lengths = vec![length];
                Ok(Outcome::Merged { lengths })
            }
            Op::MergeBatch { target, sources } => {
                let mut after = self.clone();
                let lengths = after.merge_batch(target, sources)?;
                *self = after;
                Ok(Outcome::Merged { lengths })
            }
            Op::UpdateAttributes { segment, updates } => {
                let segment = self.open_segment(segment)?;
                segment.attributes = update(&segment.attributes, updates)?;
                Ok(Outcome::Done)
            }
            Op::Delete(name) => {
                self.segment(name)?;
                self.segments.remove(name);
                Ok(Outcome::Done)
            }
            Op::DeleteEmptyTable(name) => {
                if !self.table(name)?.entries.is_empty() {
                    return Err(Refusal::NotEmpty(name.clone()));
                }
                self.segments.remove(name);
                Ok(Outcome::Done)
            }
            Op::PutEntries {
                table,
                entries,
                expected_length,
            } => self.put(table, entries, *expected_length),
            Op::RemoveEntries {
                table,
                keys,
                expected_length,
            } => self.remove(table, keys, *expected_length),
            Op::Store { .. } => Ok(Outcome::Done),
        }
    }

    fn segment(&mut self, name: &SegmentName) -> Result<&mut Segment, Refusal> {
        let segment = self.segments.get_mut(name);
        segment.ok_or_else(|| Refusal::NoSuchSegment(name.clone()))
    }

    fn open_segment(&mut self, name: &SegmentName) -> Result<&mut Segment, Refusal> {
        let segment = self.segment(name)?;
        if segment.is_sealed {
            return Err(Refusal::Sealed(name.clone()));
        }
        Ok(segment)
    }

    fn no_table(&mut self, name: &SegmentName) -> Result<&mut Segment, Refusal> {
        let segment = self.segment(name)?;
        if matches!(segment.kind, Kind::Table(_)) {
            return Err(Refusal::WrongKind(name.clone()));
        }
        Ok(segment)
    }

    fn table(&mut self, name: &SegmentName) -> Result<&mut Segment, Refusal> {
        let segment = self.segment(name)?;
        if !matches!(segment.kind, Kind::Table(_)) {
            return Err(Refusal::WrongKind(name.clone()));
        }
        Ok(segment)
    }

    fn create(
        &mut self,
        name: &SegmentName,
        kind: Kind,
        attributes: &[AttributeUpdate],
    ) -> Result<Outcome, Refusal> {
        if self.segments.contains_key(name) {
            return Err(Refusal::Exists(name.clone()));
        }
        let new = Segment {
            kind,
            bytes: Vec::new(),
            start: 0,
            is_sealed: false,
            attributes: update(&Attributes::new(), attributes)?,
            entries: BTreeMap::new(),
        };
        self.n_created += 1;
        self.segments.insert(name.clone(), new);
        Ok(Outcome::Created(SegmentId(self.n_created)))
    }

    fn truncate(&mut self, name: &SegmentName, offset: u64) -> Result<Outcome, Refusal> {
        let segment = self.no_table(name)?;
        if offset < segment.start as u64 || offset > segment.bytes.len() as u64 {
            let expected = segment.start as u64;
            return Err(Refusal::BadOffset { expected });
        }
        segment.start = to_usize(offset);
        Ok(Outcome::Done)
    }

    fn append(&mut self, append: &Append) -> Result<Outcome, Refusal> {
        self.no_table(&append.segment)?;
        let segment = self.open_segment(&append.segment)?;
        let attributes = update(&segment.attributes, &append.attributes)?;
        segment.ends_at(append.expected_offset)?;
        segment.attributes = attributes;
        segment.bytes.extend_from_slice(&append.data);
        let length = segment.bytes.len() as u64;
        Ok(Outcome::Appended { length })
    }

    fn merge(
        &mut self,
        target: &SegmentName,
        source: &SegmentName,
        updates: &[AttributeUpdate],
    ) -> Result<u64, Refusal> {
        self.no_table(target)?;
        let from = self.no_table(source)?.clone();
        if target == source {
            return Err(Refusal::Invalid("a segment is not merged into itself"));
        }
        if from.start > 0 {
            return Err(Refusal::Truncated(source.clone()));
        }
        let n_events = from.attributes.get(&AttributeId::EVENT_COUNT).copied();
        let n_events = match from.kind {
            Kind::Transient(_) => 1,
            _ => n_events.unwrap_or(0),
        };
        let mut updates = updates.to_vec();
        updates.push(AttributeUpdate {
            id: AttributeId::EVENT_COUNT,
            value: n_events,
            kind: UpdateKind::Accumulate,
        });
        let into = self.open_segment(target)?;
        into.attributes = update(&into.attributes, &updates)?;
        into.bytes.extend_from_slice(&from.bytes);
        let length = into.bytes.len() as u64;
        self.segments.remove(source);
        Ok(length)
    }

    fn merge_batch(
        &mut self,
        target: &SegmentName,
        sources: &[SegmentName],
    ) -> Result<Vec<u64>, Refusal> {
        let mut length = self.no_table(target)?.bytes.len() as u64;
        let mut lengths = Vec::new();
        for source in sources {
            if self.segments.contains_key(source) {
                length = self.merge(target, source, &[])?;
            }
            lengths.push(length);
        }
        Ok(lengths)
    }

    fn put(
        &mut self,
        name: &SegmentName,
        entries: &[Put],
        expected_length: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        self.table(name)?;
        let table = self.open_segment(name)?;
        for entry in entries {
            table.has_keys_like(&entry.key)?;
        }
        table.check(entries.iter().map(|entry| (&entry.key[..], entry.when)))?;
        table.ends_at(expected_length)?;
        let mut versions = Vec::new();
        for Put { key, value, .. } in entries {
            let version = i64::try_from(table.bytes.len()).expect("it is short");
            versions.push(version);
            table.grow(key, value);
            table
                .entries
                .insert(key.to_vec(), (version, value.to_vec()));
        }
        Ok(Outcome::Put { versions })
    }

    fn remove(
        &mut self,
        name: &SegmentName,
        keys: &[Remove],
        expected_length: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        self.table(name)?;
        let table = self.open_segment(name)?;
        for remove in keys {
            table.has_keys_like(&remove.key)?;
        }
        table.check(keys.iter().map(|remove| (&remove.key[..], remove.when)))?;
        table.ends_at(expected_length)?;
        for Remove { key, .. } in keys {
            table.grow(key, &[]);
            table.entries.remove(&key[..]);
        }
        Ok(Outcome::Done)
    }
}

impl Segment {
    fn ends_at(&self, expected: Option<u64>) -> Result<(), Refusal> {
        match expected {
            Some(offset) if offset != self.bytes.len() as u64 => {
                let expected = self.bytes.len() as u64;
                Err(Refusal::BadOffset { expected })
            }
            _ => Ok(()),
        }
    }

    fn has_keys_like(&self, key: &[u8]) -> Result<(), Refusal> {
        let fits = match self.kind {
            Kind::Table(KeyLength::Bytes(bytes)) => key.len() == usize::from(bytes),
            _ => !key.is_empty(),
        };
        if fits {
            return Ok(());
        }
        Err(Refusal::Invalid("the table has no keys of that length"))
    }

    fn check<'a>(&self, keys: impl Iterator<Item = (&'a [u8], Version)>) -> Result<(), Refusal> {
        let mut is_other = false;
        for (key, when) in keys {
            let found = self.entries.get(key).map(|(version, _)| *version);
            match when {
                Version::Is(_) if found.is_none() => return Err(Refusal::KeyDoesNotExist),
                Version::Is(version) => is_other |= found != Some(version),
                Version::Absent => is_other |= found.is_some(),
                Version::Any => {}
            }
        }
        if is_other {
            return Err(Refusal::KeyBadVersion);
        }
        Ok(())
    }

    fn grow(&mut self, key: &[u8], value: &[u8]) {
        let length = self.bytes.len() + HEADER_BYTES + key.len() + value.len();
        self.bytes.resize(length, 0);
    }
}

fn update(before: &Attributes, updates: &[AttributeUpdate]) -> Result<Attributes, Refusal> {
    let mut after = before.clone();
    for AttributeUpdate { id, value, kind } in updates.iter().copied() {
        let found = after.get(&id).copied();
        let new = match (kind, found) {
            (UpdateKind::None, None)
            | (UpdateKind::Replace | UpdateKind::ReplaceIfGreater, None)
            | (UpdateKind::Replace, Some(_))
            | (UpdateKind::Accumulate, None) => value,
            (UpdateKind::ReplaceIfGreater, Some(found)) if value > found => value,
            (UpdateKind::Accumulate, Some(found)) => found.wrapping_add(value),
            (UpdateKind::ReplaceIfEquals(expected), found)
                if found.unwrap_or(NO_VALUE) == expected =>
            {
                value
            }
            _ => {
                let found = found.unwrap_or(NO_VALUE);
                return Err(Refusal::BadAttribute { id, found });
            }
        };
        if new == NO_VALUE {
            after.remove(&id);
        } else {
            after.insert(id, new);
        }
    }
    Ok(after)
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("it is short")
}
