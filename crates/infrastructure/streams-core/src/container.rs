//! A container: what is proposed, what is durable, and what may be told of it.
//!
//! ```text
//!  input              | state                                    | comes of it
//!  propose, allowed   | changed at once; one more is under way   | a record for the log, and what to answer when it is durable
//!  propose, refused   | as it was                                | why, and when that may be told
//!  propose, too much  | as it was                                | Busy: to be asked again
//!  durable            | the oldest under way is not any more     | who is to be woken, and what storage may delete
//!  a question         | as it was                                | an answer, and when it may be told; bytes only if they are durable
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ids::Epoch;

use crate::apply::Change;
use crate::attributes::AttributeId;
use crate::content::{Place, Run};
use crate::names::{ConnectionId, Position, SegmentId, SegmentName, Seq};
use crate::op::{Answer, Op, Outcome, Refusal, Refused};
use crate::record::{Body, Encoded, Record};
use crate::segment::{Kind, Segment};
use crate::state::{Limits, State, Totals};
use crate::table::{Bounds, Delta, Found, Keys, Page, Pages, View};

/// What is to be done with an operation that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub seq: Seq,
    /// To be appended to the log behind those before it.
    pub record: Encoded,
    /// To be told when it is durable.
    pub outcome: Outcome,
}

/// What is to be done when a record is durable, beside telling its outcome and all that waits for its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub seq: Seq,
    /// Who waits for more bytes of this one, or for its end, is to ask again.
    pub changed: Option<SegmentId>,
    /// These are no more: who waits is to ask again, and is told so.
    pub gone: Vec<SegmentId>,
    /// What long-term storage has under these numbers is to be deleted.
    pub unreferenced: Vec<SegmentId>,
}

/// What is known of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub id: SegmentId,
    pub kind: Kind,
    pub start_offset: u64,
    pub length: u64,
    pub is_sealed: bool,
    /// Since 1970.
    pub modified_at_ms: u64,
    /// If it is a table.
    pub n_entries: u64,
}

/// What there is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readable {
    /// These bytes, in order.
    Bytes(Vec<Source>),
    /// Nothing yet: [`Effects::changed`] or [`Effects::gone`] says when it is worth asking again.
    AtTail(SegmentId),
    /// Nothing any more.
    End,
}

/// Bytes that lie together somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// So far behind the begin of the record at that position of the log.
    Log {
        record: Position,
        at: u64,
        bytes: u64,
    },
    /// In long-term storage, under that number.
    Stored {
        of: SegmentId,
        offset: u64,
        bytes: u64,
    },
}

/// How far a segment is in long-term storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiering {
    pub id: SegmentId,
    pub start_offset: u64,
    /// From here on it is not, or not under its own number.
    pub stored_to: u64,
    /// Up to here it could be.
    pub durable_to: u64,
}

/// For metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub n_segments: usize,
    pub n_attributes: usize,
    pub n_runs: usize,
    pub tables_bytes: u64,
    pub n_pending: usize,
    pub pending_bytes: u64,
}

/// Segments that share a log. See the table above.
#[derive(Debug)]
pub struct Container {
    pub(crate) state: State,
    limits: Limits,
    durable: Seq,
    pending: VecDeque<Pending>,
    pending_bytes: u64,
    /// Segments that records under way are about: what was true before each of these.
    before: BTreeMap<SegmentId, VecDeque<Visible>>,
    /// Where the records lie that brought bytes.
    pub(crate) positions: BTreeMap<Seq, Position>,
}

#[derive(Debug)]
struct Pending {
    bytes: u64,
    brings_bytes: bool,
    effects: Effects,
}

#[derive(Clone, Copy, Debug)]
struct Visible {
    length: u64,
    is_sealed: bool,
}

impl Container {
    /// The first record of every owner says that it is one.
    pub(crate) fn open(
        state: State,
        limits: Limits,
        positions: BTreeMap<Seq, Position>,
        epoch: Epoch,
        at_ms: u64,
    ) -> (Self, Proposal) {
        let mut container = Self {
            durable: state.seq,
            state,
            limits,
            pending: VecDeque::new(),
            pending_bytes: 0,
            before: BTreeMap::new(),
            positions,
        };
        let proposal = container.push(Body::Opened(epoch), Outcome::Done, at_ms);
        (container, proposal)
    }

    /// Takes an operation after all that were taken before, durable or not.
    ///
    /// # Errors
    /// [`Refused`]. After [`Refusal::Busy`] it may be asked again, and is not refused.
    pub fn propose(&mut self, op: &Op, at_ms: u64) -> Result<Proposal, Refused> {
        let bytes_max = self.limits.pending_bytes_max;
        if self.pending.len() >= self.limits.pending_max || self.pending_bytes > bytes_max {
            return Err(self.refused(Refusal::Busy));
        }
        if let Op::Store { segment, to } = op
            && self.state.get(*segment).is_ok()
            && *to > self.visible(*segment).length
        {
            let why = Refusal::Invalid("what is not durable is not stored");
            return Err(self.refused(why));
        }
        let decision = self.state.decide(op, &self.limits);
        let (body, outcome) = decision.map_err(|why| self.refused(why))?;
        Ok(self.push(body, outcome, at_ms))
    }

    fn push(&mut self, body: Body, outcome: Outcome, at_ms: u64) -> Proposal {
        let seq = self.state.seq.next();
        let changed = body.segment();
        let record = Record { seq, at_ms, body };
        let encoded = record.encode();
        if let Some(id) = changed {
            let tail = self.tail(id);
            self.before.entry(id).or_default().push_back(tail);
        }
        let applied = self.state.apply(&record, encoded.payload_at());
        let Change { gone, unreferenced } = applied.expect("what is decided can be done");
        for id in &gone {
            self.before.remove(id);
        }
        let bytes = encoded.bytes();
        self.pending_bytes += bytes;
        self.pending.push_back(Pending {
            bytes,
            brings_bytes: !encoded.payload.is_empty(),
            effects: Effects {
                seq,
                changed,
                gone,
                unreferenced,
            },
        });
        Proposal {
            seq,
            record: encoded,
            outcome,
        }
    }

    /// The oldest record that was under way is durable, and lies there.
    ///
    /// # Panics
    /// If none is under way.
    pub fn durable(&mut self, position: Position) -> Effects {
        let pending = self.pending.pop_front();
        let pending = pending.expect("a record is durable that was proposed");
        self.pending_bytes -= pending.bytes;
        let effects = pending.effects;
        self.durable = effects.seq;
        if pending.brings_bytes {
            self.positions.insert(effects.seq, position);
        }
        if let Some(id) = effects.changed
            && let Some(before) = self.before.get_mut(&id)
        {
            before.pop_front();
            if before.is_empty() {
                self.before.remove(&id);
            }
        }
        effects
    }

    /// The last record that is durable: what waits for it, or for less, may be told.
    #[must_use]
    pub fn durable_to(&self) -> Seq {
        self.durable
    }

    /// The last record that was proposed.
    #[must_use]
    pub fn proposed_to(&self) -> Seq {
        self.state.seq
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        let Totals {
            n_attributes,
            n_runs,
            tables_bytes,
        } = self.state.totals;
        Usage {
            n_segments: self.state.segments.len(),
            n_attributes,
            n_runs,
            tables_bytes,
            n_pending: self.pending.len(),
            pending_bytes: self.pending_bytes,
        }
    }

    fn tail(&self, id: SegmentId) -> Visible {
        let segment = self.state.segments.get(&id);
        Visible {
            length: segment.map_or(0, |segment| segment.length),
            is_sealed: segment.is_some_and(|segment| segment.is_sealed),
        }
    }

    /// What is durable of it.
    fn visible(&self, id: SegmentId) -> Visible {
        let before = self.before.get(&id).and_then(VecDeque::front);
        before.copied().unwrap_or_else(|| self.tail(id))
    }

    fn refused(&self, why: Refusal) -> Refused {
        let as_of = self.state.seq;
        Refused { why, as_of }
    }
}

/// Questions.
impl Container {
    fn find(&self, name: &SegmentName) -> Result<(SegmentId, &Segment), Refused> {
        let as_of = self.state.unnamed;
        self.state.find(name).map_err(|why| Refused { why, as_of })
    }

    /// # Errors
    /// [`Refusal::NoSuchSegment`].
    pub fn info(&self, name: &SegmentName) -> Result<Answer<Info>, Refused> {
        let (id, segment) = self.find(name)?;
        let n_entries = segment.table.as_ref().map_or(0, |table| table.n_entries());
        let value = Info {
            id,
            kind: segment.kind,
            start_offset: segment.start,
            length: segment.length,
            is_sealed: segment.is_sealed,
            modified_at_ms: segment.modified_at_ms,
            n_entries: n_entries as u64,
        };
        let as_of = segment.changed;
        Ok(Answer { value, as_of })
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
    /// [`Refusal::NoSuchSegment`], and [`Refusal::BadOffset`] with where the segment begins now.
    pub fn read(
        &self,
        name: &SegmentName,
        offset: u64,
        bytes_max: u64,
    ) -> Result<Readable, Refused> {
        let (id, segment) = self.find(name)?;
        if offset < segment.start {
            let expected = segment.start;
            return Err(Refused {
                why: Refusal::BadOffset { expected },
                as_of: segment.changed,
            });
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
                record: self.positions[&record],
                at,
                bytes,
            },
            Place::Stored { of, offset } => Source::Stored { of, offset, bytes },
        };
        segment.content.range(from, to).map(source).collect()
    }

    /// All segments, in the order of their numbers.
    pub fn tiering(&self) -> impl Iterator<Item = Tiering> {
        self.state.segments.iter().map(|(id, segment)| Tiering {
            id: *id,
            start_offset: segment.start,
            stored_to: segment.content.stored_to(*id, segment.start),
            durable_to: self.visible(*id).length.max(segment.start),
        })
    }

    /// Under which numbers long-term storage has something that is needed. What it has under others may be deleted when
    /// [`Self::proposed_to`] is durable, if nothing is being stored.
    #[must_use]
    pub fn references(&self) -> Vec<SegmentId> {
        let stored = self.state.segments.values();
        let mut ids: Vec<_> = stored
            .flat_map(|segment| segment.content.stored_of())
            .collect();
        ids.extend(self.state.segments.keys());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The transient segments of a connection: to be deleted when it ends.
    pub fn transient(&self, of: ConnectionId) -> impl Iterator<Item = &SegmentName> {
        let is_of = move |(_, segment): &(_, &Segment)| segment.kind == Kind::Transient(of);
        self.state
            .transient()
            .filter(is_of)
            .map(|(_, segment)| &segment.name)
    }

    /// Whether [`Op::CompactTable`] would save much: to be asked when a table has changed.
    #[must_use]
    pub fn wants_compaction(&self, id: SegmentId) -> bool {
        let segment = self.state.segments.get(&id);
        segment.is_some_and(|segment| segment.wants_compaction(&self.limits))
    }
}

/// Questions about tables. All may be refused with [`Refusal::NoSuchSegment`] and [`Refusal::WrongKind`].
impl Container {
    fn view(&self, name: &SegmentName) -> Result<View<'_>, Refused> {
        let (_, segment) = self.find(name)?;
        match &segment.table {
            Some(table) => Ok(View {
                table,
                start: segment.start,
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
    /// See above.
    pub fn entries_of(
        &self,
        name: &SegmentName,
        keys: &[Bytes],
    ) -> Result<Answer<Vec<Found>>, Refused> {
        Ok(self.view(name)?.get(keys))
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
