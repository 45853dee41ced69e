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

use ids::Epoch;

use crate::apply::Change;
use crate::names::{Position, SegmentId, SegmentName, Seq};
use crate::op::{Op, Outcome, Refusal, Refused};
use crate::record::{Body, Encoded, Record};
use crate::segment::Kind;
use crate::state::{Limits, State, Totals};

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
    /// What long-term storage has under these numbers before these offsets, if it has anything, is needed no more; all of it if the offset is the
    /// highest there is. A number is that of one segment for ever, so what was free once stays so.
    pub free: Vec<(SegmentId, u64)>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiering {
    pub id: SegmentId,
    pub name: SegmentName,
    pub kind: Kind,
    pub is_sealed: bool,
    pub start_offset: u64,
    /// From here on it is not, or not under its own number.
    pub stored_to: u64,
    /// Up to here it could be.
    pub durable_to: u64,
    /// The oldest record that it needs, durable or not: none if all of it is in long-term storage under some number.
    pub oldest: Option<Seq>,
}

/// For metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub n_segments: usize,
    pub n_attributes: usize,
    pub n_runs: usize,
    /// What entries of tables take in memory.
    pub tables_bytes: u64,
    pub n_pending: usize,
    pub pending_bytes: u64,
}

/// Segments that share a log. See the table above.
#[derive(Debug)]
pub struct Container {
    pub(crate) state: State,
    pub(crate) limits: Limits,
    durable: Seq,
    pending: VecDeque<Pending>,
    pending_bytes: u64,
    /// Segments that records under way are about: what was true before each of these.
    before: BTreeMap<SegmentId, VecDeque<Visible>>,
    /// The records that bytes of segments are in, and where these lie if they are durable.
    pub(crate) records: BTreeMap<Seq, Option<Position>>,
    /// The checkpoint that was drawn last, and where those of its records lie that are not needed any more but by it.
    pub(crate) drawn: Seq,
    pub(crate) kept: BTreeMap<Seq, Position>,
}

#[derive(Debug)]
struct Pending {
    bytes: u64,
    has_content: bool,
    effects: Effects,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible {
    pub(crate) length: u64,
    pub(crate) is_sealed: bool,
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
            records: positions
                .into_iter()
                .map(|(seq, position)| (seq, Some(position)))
                .collect(),
            drawn: Seq(0),
            kept: BTreeMap::new(),
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
        let has_content = body.has_content();
        let record = Record { seq, at_ms, body };
        let encoded = record.encode();
        if let Some(id) = changed {
            let tail = self.tail(id);
            self.before.entry(id).or_default().push_back(tail);
        }
        let applied = self.state.apply(&record, encoded.payload_at());
        let Change { gone, freed } = applied.expect("what is decided can be done");
        for id in &gone {
            self.before.remove(id);
        }
        if has_content {
            self.records.insert(seq, None);
        }
        for record in freed.records {
            let position = self.records.remove(&record).flatten();
            self.keep(record, position);
        }
        let bytes = encoded.bytes();
        self.pending_bytes += bytes;
        self.pending.push_back(Pending {
            bytes,
            has_content,
            effects: Effects {
                seq,
                changed,
                gone,
                free: freed.stored,
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
        if pending.has_content {
            match self.records.get_mut(&effects.seq) {
                Some(known) => *known = Some(position),
                None => self.keep(effects.seq, Some(position)),
            }
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

    /// A record that is not needed any more, but perhaps by the checkpoint.
    fn keep(&mut self, record: Seq, position: Option<Position>) {
        if record <= self.drawn {
            self.kept
                .extend(position.map(|position| (record, position)));
        }
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
    pub(crate) fn visible(&self, id: SegmentId) -> Visible {
        let before = self.before.get(&id).and_then(VecDeque::front);
        before.copied().unwrap_or_else(|| self.tail(id))
    }

    fn refused(&self, why: Refusal) -> Refused {
        let as_of = self.state.seq;
        Refused { why, as_of }
    }
}
