//! A container between a log and a long-term storage that are vectors, beside its model.

use std::collections::BTreeMap;

use bytes::Bytes;
use ids::Epoch;

use crate::container::{Proposal, Readable, Source};
use crate::model::{Model, Segment};
use crate::names::{Position, Seq};
use crate::op::{Op, Refused, Version};
use crate::segment::Kind;
use crate::table::{Bounds, Page};
use crate::{Container, Limits, Recovery, Refusal, SegmentId, SegmentName};

pub(super) struct World {
    pub(super) container: Container,
    pub(super) limits: Limits,
    /// Records that were proposed, from the first on.
    log: Vec<Bytes>,
    /// The model after each record.
    models: Vec<Model>,
    stored: BTreeMap<SegmentId, BTreeMap<u64, u8>>,
    /// Long-term storage, that is, than is needed.
    may_have_more: bool,
    epoch: u64,
    checkpoint: Option<Checkpoint>,
    /// How often what came of an operation.
    pub(super) counts: BTreeMap<String, usize>,
}

struct Checkpoint {
    seq: Seq,
    pieces: Vec<Vec<u8>>,
}

/// Not the number of the record, which the core could take for it.
fn position(seq: Seq) -> Position {
    Position(seq.0 * 10 + 3)
}

fn record_at(position: Position) -> usize {
    usize::try_from(position.0 / 10 - 1).expect("it is small")
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let opened = Recovery::new().open(limits.clone(), Epoch(1), 0);
        let (container, first) = opened.expect("it is the first owner");
        let mut world = Self {
            container,
            limits,
            log: Vec::new(),
            models: vec![Model::default()],
            stored: BTreeMap::new(),
            may_have_more: false,
            epoch: 1,
            checkpoint: None,
            counts: BTreeMap::new(),
        };
        world.push(&first, Model::default());
        world
    }

    fn push(&mut self, proposal: &Proposal, model: Model) {
        assert_eq!(proposal.seq.0, self.log.len() as u64 + 1);
        self.log.push(proposal.record.parts().concat().into());
        self.models.push(model);
    }

    pub(super) fn model(&self) -> &Model {
        self.models.last().expect("there is one at the start")
    }

    pub(super) fn id(&self, name: &SegmentName) -> Option<SegmentId> {
        let info = self.container.info(name).ok()?;
        Some(info.value.id)
    }

    /// Whether it was done.
    pub(super) fn propose(&mut self, op: &Op) -> bool {
        let at_ms = self.log.len() as u64;
        let mut model = self.model().clone();
        match self.container.propose(op, at_ms) {
            Err(Refused {
                why: Refusal::Busy, ..
            }) => {
                self.durable(1);
                self.propose(op)
            }
            Ok(proposal) => {
                let wanted = model.apply(op);
                assert_eq!(wanted.as_ref(), Ok(&proposal.outcome), "{op:?}");
                self.count(op, "done");
                self.push(&proposal, model);
                true
            }
            Err(refused) => {
                assert_eq!(refused.as_of, self.container.proposed_to());
                self.count(op, &word(&refused.why));
                if !matches!(op, Op::Store { .. }) {
                    assert_eq!(model.apply(op), Err(refused.why), "{op:?}");
                }
                false
            }
        }
    }

    fn count(&mut self, op: &Op, what: &str) {
        *self
            .counts
            .entry(format!("{} {what}", word(op)))
            .or_default() += 1;
    }

    pub(super) fn durable(&mut self, n_records: usize) {
        let n_pending = self.container.usage().n_pending;
        for _ in 0..n_records.min(n_pending) {
            let seq = Seq(self.container.durable_to().0 + 1);
            let effects = self.container.durable(position(seq));
            assert_eq!(effects.seq, seq);
            for (of, before) in effects.free {
                self.free(of, before);
            }
        }
    }

    fn free(&mut self, of: SegmentId, before: u64) {
        if let Some(bytes) = self.stored.get_mut(&of) {
            *bytes = bytes.split_off(&before);
        }
    }

    /// Nothing is stored that nobody needs; but what the owner before did not learn of has to be looked for.
    fn check_free(&mut self) {
        let references = self.container.references();
        for of in self.stored.keys().copied().collect::<Vec<_>>() {
            let before = references.get(&of).copied().unwrap_or(u64::MAX);
            let needless = self.stored[&of].range(..before).next();
            assert!(self.may_have_more || needless.is_none(), "{of:?}");
            self.free(of, before);
        }
        self.may_have_more = false;
    }

    /// What is durable of a segment goes to long-term storage, up to an offset.
    pub(super) fn store(&mut self, name: &SegmentName, to: u64) {
        let Some(id) = self.id(name) else { return };
        let tiering = self.container.tiering().find(|tiering| tiering.id == id);
        let Some(tiering) = tiering else {
            self.check_unstored(name, id);
            return;
        };
        let to = to.min(tiering.durable_to);
        if to <= tiering.stored_to {
            return;
        }
        let mut offset = tiering.stored_to;
        let sources = self.container.locate(id, tiering.stored_to, to);
        let bytes: Vec<_> = sources
            .iter()
            .flat_map(|source| self.fetch(*source))
            .collect();
        for byte in bytes {
            self.stored.entry(id).or_default().insert(offset, byte);
            offset += 1;
        }
        assert_eq!(offset, to, "{tiering:?}");
        let is_done = self.propose(&Op::Store { segment: id, to });
        assert!(is_done);
    }

    /// A table never is.
    fn check_unstored(&mut self, name: &SegmentName, id: SegmentId) {
        if !matches!(self.model().segments[name].kind, Kind::Table(_)) {
            return;
        }
        assert_eq!(self.container.locate(id, 0, u64::MAX), []);
        let is_done = self.propose(&Op::Store { segment: id, to: 0 });
        assert!(!is_done);
    }

    pub(super) fn draw_checkpoint(&mut self) {
        let seq = self.container.proposed_to();
        let mut pieces: Vec<_> = self.container.checkpoint().collect();
        self.durable(usize::MAX);
        self.check_free();
        pieces.extend(self.container.positions(seq));
        self.checkpoint = Some(Checkpoint { seq, pieces });
    }

    /// The log keeps what was durable, and so many records more.
    pub(super) fn crash(&mut self, n_more: usize) {
        let durable = to_usize(self.container.durable_to().0);
        let kept = self.log.len().min(durable.saturating_add(n_more));
        self.log.truncate(kept);
        self.models.truncate(kept + 1);
        let whole = self.read_log(Recovery::new(), 0);
        let recovery = match &self.checkpoint {
            Some(checkpoint) => {
                let recovery = Recovery::load(&checkpoint.pieces).expect("it is one");
                // It may read some again.
                let from = to_usize(checkpoint.seq.0).saturating_sub(2);
                let from_checkpoint = self.read_log(recovery, from);
                assert_eq!(from_checkpoint.state, whole.state);
                from_checkpoint
            }
            None => whole,
        };
        self.may_have_more = true;
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let opened = recovery.open(self.limits.clone(), epoch, 0);
        let (container, first) = opened.expect("it is a later owner");
        self.container = container;
        let mut model = self.model().clone();
        model.open();
        self.push(&first, model);
    }

    fn read_log(&self, mut recovery: Recovery, from: usize) -> Recovery {
        for (idx, record) in self.log.iter().enumerate().skip(from) {
            let seq = Seq(idx as u64 + 1);
            recovery.replay(position(seq), record).expect("it is one");
        }
        recovery
    }

    fn fetch(&self, source: Source) -> Vec<u8> {
        match source {
            Source::Log { record, at, bytes } => {
                let (at, bytes) = (to_usize(at), to_usize(bytes));
                self.log[record_at(record)][at..at + bytes].to_vec()
            }
            Source::Stored { of, offset, bytes } => {
                let stored = self.stored.get(&of).expect("it is needed");
                (offset..offset + bytes).map(|at| stored[&at]).collect()
            }
        }
    }

    fn bytes(&self, name: &SegmentName, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < to - from {
            let offset = from + bytes.len() as u64;
            let Ok(Readable::Bytes(sources)) = self.container.read(name, offset, to - offset)
            else {
                panic!("there are bytes at {offset} of {name}");
            };
            bytes.extend(sources.iter().flat_map(|source| self.fetch(*source)));
        }
        bytes
    }

    /// What can be seen is what the models say.
    pub(super) fn check(&self) {
        let tail = self.model();
        let durable = &self.models[to_usize(self.container.durable_to().0)];
        assert_eq!(self.container.state.names.len(), tail.segments.len());
        let mut totals = crate::state::Totals::default();
        for segment in self.container.state.segments.values() {
            totals.add(crate::state::Totals::of(segment));
        }
        assert_eq!(self.container.state.totals, totals);
        for (name, segment) in &tail.segments {
            let info = self.container.info(name).expect("it is there").value;
            assert_eq!(info.kind, segment.kind);
            assert_eq!(info.length, segment.bytes.len() as u64);
            assert_eq!(info.start_offset, segment.start as u64);
            assert_eq!(info.is_sealed, segment.is_sealed);
            let attributes = self.container.state.segments[&info.id].attributes.iter();
            let attributes = attributes.map(|(id, attribute)| (id, attribute.value));
            let attributes: BTreeMap<_, _> = attributes.collect();
            assert_eq!(attributes, segment.attributes);
            if matches!(segment.kind, Kind::Table(_)) {
                self.check_table(name, segment);
            } else {
                self.check_bytes(name, segment, durable);
            }
        }
    }

    fn check_bytes(&self, name: &SegmentName, tail: &Segment, durable: &Model) {
        let id = self.id(name).expect("it is there");
        // One of that name that is not this one is not durable.
        let is_this = id.0 <= durable.n_created;
        let before = durable.segments.get(name).filter(|_| is_this);
        let length = before.map_or(0, |segment| segment.bytes.len());
        let is_sealed = before.is_some_and(|segment| segment.is_sealed);
        let start = tail.start;
        if start < length {
            let bytes = self.bytes(name, start as u64, length as u64);
            assert_eq!(bytes, tail.bytes[start..length], "{name}");
        }
        let behind = self.container.read(name, start.max(length) as u64, 1);
        let wanted = if is_sealed {
            Readable::End
        } else {
            Readable::AtTail(id)
        };
        assert_eq!(behind.expect("it is there"), wanted);
        if start > 0 {
            let refused = self.container.read(name, start as u64 - 1, 1);
            let expected = start as u64;
            assert_eq!(
                refused.expect_err("gone").why,
                Refusal::BadOffset { expected }
            );
        }
    }

    fn check_table(&self, name: &SegmentName, table: &Segment) {
        let page = Page {
            items_max: 2,
            bytes_max: 100,
        };
        let mut listed = BTreeMap::new();
        let mut bounds = Bounds::default();
        loop {
            let pages = self.container.entries(name, &bounds, page);
            let pages = pages.expect("it is a table").value;
            let keys = self.container.keys(name, &bounds, page).expect("so");
            let n_more = pages.entries.len();
            assert!(keys.value.keys.len() >= n_more);
            for entry in pages.entries {
                let value = (entry.version, entry.value.to_vec());
                assert_eq!(listed.insert(entry.key.to_vec(), value), None);
            }
            assert_eq!(pages.token.is_empty(), n_more == 0);
            if pages.token.is_empty() {
                break;
            }
            bounds.token = pages.token;
        }
        assert_eq!(listed, table.entries);
        let refused = self.container.read(name, 0, 1).expect_err("it is a table");
        assert_eq!(refused.why, Refusal::WrongKind(name.clone()));
        let asked = [&b"k0"[..], b"k1", b"nobody"].map(Bytes::from_static);
        let found = self.container.entries_of(name, &asked).expect("so").value;
        for (key, found) in asked.iter().zip(found) {
            let wanted = table.entries.get(&key[..]).cloned();
            let wanted = wanted.unwrap_or((Version::ABSENT, Vec::new()));
            assert_eq!(
                (found.key, found.version, found.value.to_vec()),
                (key.clone(), wanted.0, wanted.1)
            );
        }
        self.check_delta(name, table, page);
    }

    /// Who knew all that was true at a position knows it again behind the delta, but for what was removed.
    fn check_delta(&self, name: &SegmentName, table: &Segment, page: Page) {
        let length = table.bytes.len();
        for from in [0, length / 2, length] {
            let mut position = from as u64;
            let mut found = BTreeMap::new();
            loop {
                let delta = self
                    .container
                    .delta(name, position, page)
                    .expect("so")
                    .value;
                for entry in delta.entries {
                    found.insert(entry.key.to_vec(), (entry.version, entry.value.to_vec()));
                }
                if delta.reached_end {
                    assert_eq!(delta.last_position, length as u64);
                    break;
                }
                assert!(delta.last_position > position);
                position = delta.last_position;
            }
            let mut wanted = table.entries.clone();
            wanted.retain(|_, (version, _)| version.unsigned_abs() >= from as u64);
            assert_eq!(found, wanted);
        }
    }
}

/// What it is called in code.
fn word(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    let word = text.split(|letter: char| !letter.is_alphanumeric()).next();
    word.unwrap_or_default().to_owned()
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}
