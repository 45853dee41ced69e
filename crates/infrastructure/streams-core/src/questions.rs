//! What a container answers: nothing changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::attributes::AttributeId;
use crate::container::{Container, Info, Readable, Source, Tiering, Visible};
use crate::content::{Place, Run};
use crate::names::{ConnectionId, SegmentId, SegmentName};
use crate::op::{Answer, Refusal, Refused};
use crate::segment::{Kind, Segment};
use crate::table::{Bounds, Delta, Found, Keys, Page, Pages, Table, View};

impl Container {
    fn find(&self, name: &SegmentName) -> Result<(SegmentId, &Segment), Refused> {
        let as_of = self.state.unnamed;
        self.state.find(name).map_err(|why| Refused { why, as_of })
    }

    /// # Errors
    /// [`Refusal::NoSuchSegment`].
    pub fn info(&self, name: &SegmentName) -> Result<Answer<Info>, Refused> {
        let (id, segment) = self.find(name)?;
        let value = info(id, segment);
        let as_of = segment.changed;
        Ok(Answer { value, as_of })
    }

    /// Of the segments whose names are behind that one, or of all, the first `n` in the order of their names.
    #[must_use]
    pub fn segments(
        &self,
        after: Option<&SegmentName>,
        n: usize,
    ) -> Answer<Vec<(SegmentName, Info)>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.state.names.range((from, Bound::Unbounded));
        let infos = names.map(|(name, id)| (name.clone(), info(*id, &self.state.segments[id])));
        Answer {
            value: infos.take(n).collect(),
            as_of: self.proposed_to(),
        }
    }

    /// [`NO_VALUE`](crate::attributes::NO_VALUE) if it is not there. Of a writer it is the number of its last event: to be told who sets up appends.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSegment`].
    pub fn attribute(&self, name: &SegmentName, id: AttributeId) -> Result<Answer<i64>, Refused> {
        let (_, segment) = self.find(name)?;
        Ok(Answer {
            value: segment.attributes.get(id),
            as_of: segment.changed,
        })
    }

    /// Bytes from an offset on, no more than so many: those that are durable, which may be told at once.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSegment`], [`Refusal::WrongKind`] of a table, and [`Refusal::BadOffset`] with where the segment begins now.
    pub fn read(
        &self,
        name: &SegmentName,
        offset: u64,
        bytes_max: u64,
    ) -> Result<Readable, Refused> {
        let (id, segment) = self.find(name)?;
        let as_of = segment.changed;
        if segment.table.is_some() {
            let why = Refusal::WrongKind(name.clone());
            return Err(Refused { why, as_of });
        }
        if offset < segment.start {
            let expected = segment.start;
            let why = Refusal::BadOffset { expected };
            return Err(Refused { why, as_of });
        }
        let Visible { length, is_sealed } = self.visible(id);
        if offset < length {
            let to = length.min(offset.saturating_add(bytes_max));
            return Ok(Readable::Bytes(self.sources(segment, offset, to)));
        }
        Ok(if is_sealed {
            Readable::End
        } else {
            Readable::AtTail(id)
        })
    }

    /// What is to be stored of a segment: the durable bytes of a range, as far as there are any.
    #[must_use]
    pub fn locate(&self, id: SegmentId, from: u64, to: u64) -> Vec<Source> {
        let Some(segment) = self.state.segments.get(&id) else {
            return Vec::new();
        };
        let from = from.max(segment.start);
        let to = to.min(self.visible(id).length);
        self.sources(segment, from, to)
    }

    fn sources(&self, segment: &Segment, from: u64, to: u64) -> Vec<Source> {
        let source = |Run { bytes, place }| match place {
            Place::Log { record, at } => Source::Log {
                record: self.records[&record].expect("it is durable"),
                at,
                bytes,
            },
            Place::Stored { of, offset } => Source::Stored { of, offset, bytes },
        };
        segment.content.range(from, to).map(source).collect()
    }

    /// The segments of which some is not in long-term storage, or not under their own number, in the order of their numbers.
    pub fn tiering(&self) -> impl Iterator<Item = Tiering> {
        self.state.unstored.iter().map(|id| {
            let segment = &self.state.segments[id];
            let Visible { length, is_sealed } = self.visible(*id);
            Tiering {
                id: *id,
                name: segment.name.clone(),
                kind: segment.kind,
                is_sealed,
                start_offset: segment.start,
                stored_to: segment.content.stored_to(*id, segment.start),
                durable_to: length.max(segment.start),
                oldest: segment.content.oldest(),
            }
        })
    }

    /// Under which numbers long-term storage may have something that is needed, and from which offset on. What it has before, or under others, may be
    /// deleted when [`Self::proposed_to`] is durable, if nothing is being stored.
    #[must_use]
    pub fn references(&self) -> BTreeMap<SegmentId, u64> {
        let segments = self.state.segments.iter();
        segments
            .filter(|(_, segment)| segment.table.is_none())
            .flat_map(|(id, segment)| {
                let runs = segment.content.iter();
                let runs = runs.filter_map(|(_, run)| match run.place {
                    Place::Stored { of, offset } => Some((of, offset)),
                    Place::Log { .. } => None,
                });
                std::iter::once((*id, segment.start)).chain(runs)
            })
            .collect()
    }

    /// The transient segments of a connection: to be deleted when it ends.
    pub fn transient(&self, of: ConnectionId) -> impl Iterator<Item = &SegmentName> {
        let is_of = move |(_, segment): &(_, &Segment)| segment.kind == Kind::Transient(of);
        self.state
            .transient()
            .filter(is_of)
            .map(|(_, segment)| &segment.name)
    }
}

fn info(id: SegmentId, segment: &Segment) -> Info {
    let n_entries = segment.table.as_ref().map_or(0, Table::n_entries);
    Info {
        id,
        kind: segment.kind,
        start_offset: segment.start,
        length: segment.length,
        is_sealed: segment.is_sealed,
        modified_at_ms: segment.modified_at_ms,
        n_entries: n_entries as u64,
    }
}

/// Questions about tables. All may be refused with [`Refusal::NoSuchSegment`] and [`Refusal::WrongKind`].
impl Container {
    fn view(&self, name: &SegmentName) -> Result<View<'_>, Refused> {
        let (_, segment) = self.find(name)?;
        match &segment.table {
            Some(table) => Ok(View {
                table,
                length: segment.length,
                as_of: segment.changed,
            }),
            None => Err(Refused {
                why: Refusal::WrongKind(name.clone()),
                as_of: segment.changed,
            }),
        }
    }

    /// The entries of these keys, in this order.
    ///
    /// # Errors
    /// See above; [`Refusal::Limit`] if they are more than [`ANSWER_BYTES_MAX`](crate::table::ANSWER_BYTES_MAX).
    pub fn entries_of(
        &self,
        name: &SegmentName,
        keys: &[Bytes],
    ) -> Result<Answer<Vec<Found>>, Refused> {
        let view = self.view(name)?;
        let as_of = view.as_of;
        view.get(keys).map_err(|why| Refused { why, as_of })
    }

    /// # Errors
    /// See above; [`Refusal::Invalid`] if the token is none.
    pub fn entries(
        &self,
        name: &SegmentName,
        bounds: &Bounds,
        page: Page,
    ) -> Result<Answer<Pages>, Refused> {
        let view = self.view(name)?;
        let as_of = view.as_of;
        view.pages(bounds, page)
            .map_err(|why| Refused { why, as_of })
    }

    /// # Errors
    /// See above; [`Refusal::Invalid`] if the token is none.
    pub fn keys(
        &self,
        name: &SegmentName,
        bounds: &Bounds,
        page: Page,
    ) -> Result<Answer<Keys>, Refused> {
        let view = self.view(name)?;
        let as_of = view.as_of;
        view.keys(bounds, page)
            .map_err(|why| Refused { why, as_of })
    }

    /// The entries that became true from a position of the table on, and are.
    ///
    /// # Errors
    /// See above; [`Refusal::Invalid`] if the table has no such position yet.
    pub fn delta(
        &self,
        name: &SegmentName,
        from: u64,
        page: Page,
    ) -> Result<Answer<Delta>, Refused> {
        let view = self.view(name)?;
        let as_of = view.as_of;
        view.delta(from, page).map_err(|why| Refused { why, as_of })
    }
}
