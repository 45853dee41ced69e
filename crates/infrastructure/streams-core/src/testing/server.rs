//! What a server has to do around a container, as short as it can be.

use std::collections::BTreeMap;

use bytes::Bytes;
use ids::Epoch;

use super::net::{Arrival, Ask, Net, Tell};
use super::{Chance, Violation};
use crate::attributes::{AttributeId, UpdateKind};
use crate::container::{Proposal, Readable, Source};
use crate::names::{ConnectionId, Position, Seq};
use crate::op::{Answer, Append, EventNumbers, Outcome, Put, Refused, Version};
use crate::table::{Bounds, Found, Page};
use crate::{Container, Limits, Op, Recovery, Refusal, SegmentId, SegmentName};

/// A fault of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Outcomes are told before they are durable.
    TellEarly,
    /// Refusals are told before their reason is durable.
    RefuseEarly,
    /// Answers are told before what they say is durable.
    AnswerEarly,
    /// What a writer says of the event before is not looked at.
    ForgetWriters,
    /// An append of several events is two records.
    SplitAppend,
    /// A conditional append has no condition.
    IgnoreOffset,
    /// An entry is set whatever its version is.
    IgnoreVersion,
    /// An entry is set however long its table is.
    IgnoreLength,
    /// Each entry of a batch is set for itself.
    SplitBatch,
    /// Each segment of a batch is merged for itself.
    SplitMerge,
    /// A seal is told, and not done.
    LoseSeal,
    /// Bytes that were read are kept under the name of their segment.
    CacheByName,
    /// Bytes that were read are kept without their offset.
    CacheWithoutOffset,
    /// What writers have sent is kept under the name of their segment.
    WritersByName,
    /// Events are not counted.
    LoseCount,
    /// What long-term storage has is deleted before nothing needs it durably.
    DeleteEarly,
    /// The log is truncated up to the checkpoint, whatever bytes are needed.
    TruncateTooFar,
    /// Transient segments stay when their connection is gone.
    KeepTransient,
    /// A crash takes the last record that was durable.
    LoseTail,
    /// A checkpoint is not kept, and the log is truncated as if it were.
    LoseCheckpoint,
    /// What the last owner was is not looked at.
    IgnoreEpoch,
    /// Which numbers were given to segments that are gone is not looked at.
    ForgetNumbers,
}

/// What outlives a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// By their numbers, from 1 on.
    pub(super) log: BTreeMap<Seq, Bytes>,
    pub(super) stored: BTreeMap<SegmentId, BTreeMap<u64, u8>>,
    pub(super) checkpoint: Vec<Vec<u8>>,
}

impl Disk {
    fn free(&mut self, of: SegmentId, before: u64) {
        if let Some(bytes) = self.stored.get_mut(&of) {
            *bytes = bytes.split_off(&before);
        }
    }
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) container: Container,
    plant: Option<Plant>,
    writers: BTreeMap<(ConnectionId, SegmentName, AttributeId), i64>,
    waiting: BTreeMap<Seq, Vec<(ConnectionId, Tell)>>,
    readers: Vec<(ConnectionId, SegmentName, u64)>,
    cache: BTreeMap<(SegmentId, u64), Vec<u8>>,
    names: BTreeMap<SegmentName, SegmentId>,
    numbers: BTreeMap<(SegmentName, AttributeId), i64>,
    drawn: Option<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    seq: Seq,
    pieces: Vec<Vec<u8>>,
    needs: Option<Seq>,
}

fn position(seq: Seq) -> Position {
    Position(seq.0 * 10 + 3)
}

fn limits() -> Limits {
    Limits {
        segment_attributes_max: 8,
        pending_max: 40,
        ..Limits::default()
    }
}

impl Server {
    /// Reads what the one before has left.
    pub(super) fn open(
        disk: &mut Disk,
        epoch: u64,
        plant: Option<Plant>,
    ) -> Result<Self, Violation> {
        let mut recovery = match &disk.checkpoint[..] {
            [] => Recovery::new(),
            pieces => Recovery::load(pieces).map_err(|why| Violation(why.to_string()))?,
        };
        for (seq, record) in &disk.log {
            let read = recovery.replay(position(*seq), record);
            read.map_err(|why| Violation(why.to_string()))?;
        }
        if plant == Some(Plant::ForgetNumbers) {
            let last = recovery.state.segments.keys().next_back();
            recovery.state.last_id = last.copied().unwrap_or_default();
        }
        let epoch = match plant {
            Some(Plant::IgnoreEpoch) => Epoch(recovery.state.epoch.0 + 1),
            _ => Epoch(epoch),
        };
        let opened = recovery.open(limits(), epoch, 0);
        let (container, first) = opened.map_err(|why| Violation(why.to_string()))?;
        disk.log
            .insert(first.seq, first.record.parts().concat().into());
        Ok(Self {
            container,
            plant,
            writers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            readers: Vec::new(),
            cache: BTreeMap::new(),
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            drawn: None,
        })
    }

    fn has(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    pub(super) fn arrive(
        &mut self,
        arrival: Arrival,
        disk: &mut Disk,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), Violation> {
        match arrival {
            Arrival::Ask(on, ask) => self.answer(on, ask, disk, net, chance)?,
            Arrival::Closed(on) => {
                self.readers.retain(|(reader, ..)| *reader != on);
                self.writers.retain(|(writer, ..), _| *writer != on);
                let transient: Vec<_> = self.container.transient(on).cloned().collect();
                if !self.has(Plant::KeepTransient) {
                    for name in transient {
                        self.propose(&Op::Delete(name), disk)
                            .map_err(|refused| Violation(refused.to_string()))?;
                    }
                }
            }
        }
        self.tell_what_is_durable(net, chance);
        Ok(())
    }

    fn answer(
        &mut self,
        on: ConnectionId,
        ask: Ask,
        disk: &mut Disk,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), Violation> {
        match ask {
            Ask::Read(segment, offset) => {
                if let Some(tell) = self.read(on, segment, offset, disk)? {
                    net.tell(on, tell, chance);
                }
            }
            Ask::Setup(segment, writer) => {
                let mut answer = self.container.attribute(&segment, writer);
                if let Ok(answer) = &mut answer {
                    if self.has(Plant::WritersByName)
                        && let Some(number) = self.numbers.get(&(segment.clone(), writer))
                    {
                        answer.value = *number;
                    }
                    // Told later, but true from here on: nothing of that writer comes in between.
                    self.writers.insert((on, segment, writer), answer.value);
                }
                self.wait_for(on, answer.map(|it| (Tell::Setup(it.value), it.as_of)));
            }
            Ask::Attribute(segment, id) => {
                let answer = self.container.attribute(&segment, id);
                self.wait_for(on, answer.map(|it| (Tell::Attribute(it.value), it.as_of)));
            }
            Ask::Info(segment) => {
                let answer = self.container.info(&segment);
                self.wait_for(on, answer.map(|it| (Tell::Info(it.value), it.as_of)));
            }
            Ask::Get(table, keys) => {
                let keys: Vec<_> = keys.into_iter().map(Bytes::from_static).collect();
                let answer = self.container.entries_of(&table, &keys);
                self.wait_for(on, answer.map(|it| (Tell::Entries(it.value), it.as_of)));
            }
            Ask::List(table, keys) => {
                let answer = self.list(&table, &keys);
                self.wait_for(on, answer.map(|it| (Tell::Entries(it.value), it.as_of)));
            }
            Ask::Do(op) => self.change(on, op, disk),
            Ask::Append {
                segment,
                writer,
                last,
                n_events,
                data,
                at,
            } => {
                let Some(previous) = self.writers.get(&(on, segment.clone(), writer)) else {
                    // It was refused, and this is behind it.
                    return Ok(());
                };
                let numbers = EventNumbers {
                    writer,
                    previous: *previous,
                    last,
                    n_events,
                };
                let mut append = Append::events(segment, data.into(), numbers);
                append.expected_offset = at;
                self.append_events(on, append, numbers, disk);
            }
        }
        Ok(())
    }

    /// These of what is between the first and the last of them.
    fn list(
        &self,
        table: &SegmentName,
        keys: &[&'static [u8]],
    ) -> Result<Answer<Vec<Found>>, Refused> {
        let end =
            |key: Option<&&'static [u8]>| key.map_or(Bytes::new(), |it| Bytes::from_static(it));
        let mut bounds = Bounds {
            from: end(keys.iter().min()),
            to: end(keys.iter().max()),
            token: Bytes::new(),
        };
        let page = Page {
            items_max: 1,
            bytes_max: 1,
        };
        let mut listed = BTreeMap::new();
        loop {
            let Answer { value, as_of } = self.container.entries(table, &bounds, page)?;
            listed.extend(value.entries.into_iter().map(|it| (it.key.clone(), it)));
            bounds.token = value.token;
            if !bounds.token.is_empty() {
                continue;
            }
            let found = keys.iter().map(|key| {
                let absent = Found {
                    key: Bytes::from_static(key),
                    version: Version::ABSENT,
                    value: Bytes::new(),
                };
                listed.get(*key).cloned().unwrap_or(absent)
            });
            let value = found.collect();
            return Ok(Answer { value, as_of });
        }
    }

    fn append_events(
        &mut self,
        on: ConnectionId,
        append: Append,
        numbers: EventNumbers,
        disk: &mut Disk,
    ) {
        let EventNumbers { writer, last, .. } = numbers;
        let is_conditional = append.expected_offset.is_some();
        let key = (on, append.segment.clone(), writer);
        match self.append(append, disk) {
            Ok(proposal) => {
                self.numbers.insert((key.1.clone(), writer), last);
                self.writers.insert(key, last);
                let tell = Tell::Appended { last };
                self.wait(on, tell, proposal.seq, Plant::TellEarly);
            }
            Err(refused) if is_conditional && is_offset(&refused) => {
                let tell = Tell::ConditionFailed { last };
                self.wait(on, tell, refused.as_of, Plant::RefuseEarly);
            }
            Err(refused) => {
                self.writers.remove(&key);
                let tell = Tell::Refused(refused.why);
                self.wait(on, tell, refused.as_of, Plant::RefuseEarly);
            }
        }
    }

    fn append(&mut self, mut append: Append, disk: &mut Disk) -> Result<Proposal, Refused> {
        match self.plant {
            Some(Plant::ForgetWriters) => append.attributes[0].kind = UpdateKind::Replace,
            Some(Plant::LoseCount) => append.attributes.truncate(1),
            Some(Plant::IgnoreOffset) => append.expected_offset = None,
            Some(Plant::SplitAppend) if append.data.len() > 8 => {
                let mut first = append.clone();
                first.attributes.clear();
                first.data = append.data.split_to(8);
                append.expected_offset = None;
                self.propose(&Op::Append(first), disk)?;
            }
            _ => {}
        }
        self.propose(&Op::Append(append), disk)
    }

    fn change(&mut self, on: ConnectionId, mut op: Op, disk: &mut Disk) {
        match (&mut op, self.plant) {
            (Op::PutEntries { entries, .. }, Some(Plant::IgnoreVersion)) => {
                entries.iter_mut().for_each(|put| put.when = Version::Any);
            }
            (
                Op::PutEntries {
                    expected_length, ..
                },
                Some(Plant::IgnoreLength),
            ) => *expected_length = None,
            (Op::Seal(_), Some(Plant::LoseSeal)) => {
                let now = self.container.durable_to();
                return self.wait(on, Tell::Done(Outcome::Done), now, Plant::TellEarly);
            }
            _ => {}
        }
        match self.propose_in_parts(&op, disk) {
            Ok(it) => self.wait(on, Tell::Done(it.outcome), it.seq, Plant::TellEarly),
            Err(it) => self.wait(on, Tell::Refused(it.why), it.as_of, Plant::RefuseEarly),
        }
    }

    /// If that is its fault.
    fn propose_in_parts(&mut self, op: &Op, disk: &mut Disk) -> Result<Proposal, Refused> {
        let mut parts = match (op, self.plant) {
            (
                Op::PutEntries {
                    table,
                    entries,
                    expected_length: None,
                },
                Some(Plant::SplitBatch),
            ) => {
                let part = |entry: &Put| Op::PutEntries {
                    table: table.clone(),
                    entries: vec![entry.clone()],
                    expected_length: None,
                };
                entries.iter().map(part).collect()
            }
            (Op::MergeBatch { target, sources }, Some(Plant::SplitMerge)) => {
                let part = |source: &SegmentName| Op::MergeBatch {
                    target: target.clone(),
                    sources: vec![source.clone()],
                };
                sources.iter().map(part).collect()
            }
            _ => Vec::new(),
        };
        let Some(last) = parts.pop() else {
            return self.propose(op, disk);
        };
        for part in parts {
            self.propose(&part, disk)?;
        }
        self.propose(&last, disk)
    }

    pub(super) fn propose(&mut self, op: &Op, disk: &mut Disk) -> Result<Proposal, Refused> {
        let mut proposed = self.container.propose(op, 0);
        while matches!(&proposed, Err(refused) if refused.why == Refusal::Busy) {
            self.durable(disk);
            proposed = self.container.propose(op, 0);
        }
        let proposal = proposed?;
        let record = proposal.record.parts().concat();
        disk.log.insert(proposal.seq, record.into());
        Ok(proposal)
    }

    fn wait_for(&mut self, on: ConnectionId, answer: Result<(Tell, Seq), Refused>) {
        let (tell, as_of) =
            answer.unwrap_or_else(|refused| (Tell::Refused(refused.why), refused.as_of));
        self.wait(on, tell, as_of, Plant::AnswerEarly);
    }

    fn wait(&mut self, on: ConnectionId, tell: Tell, seq: Seq, early: Plant) {
        let seq = if self.has(early) { Seq(0) } else { seq };
        self.waiting.entry(seq).or_default().push((on, tell));
    }

    fn tell_what_is_durable(&mut self, net: &mut Net, chance: &mut Chance) {
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= self.container.durable_to()
        {
            for (on, tell) in first.remove() {
                let ends = matches!(tell, Tell::Refused(Refusal::BadAttribute { .. }));
                net.tell(on, tell, chance);
                if ends {
                    net.end(on, chance);
                }
            }
        }
    }

    fn read(
        &mut self,
        on: ConnectionId,
        name: SegmentName,
        offset: u64,
        disk: &Disk,
    ) -> Result<Option<Tell>, Violation> {
        let readable = match self.container.read(&name, offset, 40) {
            Ok(readable) => readable,
            Err(refused) => {
                self.wait_for(on, Err(refused));
                return Ok(None);
            }
        };
        Ok(match readable {
            Readable::Bytes(sources) => {
                let info = self.container.info(&name);
                let mut id = info.expect("it was just read").value.id;
                if self.has(Plant::CacheByName) {
                    id = *self.names.entry(name).or_insert(id);
                }
                let is_without = self.has(Plant::CacheWithoutOffset);
                let key = (id, if is_without { 0 } else { offset });
                if let Some(kept) = self.cache.get(&key) {
                    return Ok(Some(Tell::Bytes(offset, kept.clone())));
                }
                let bytes = fetch(&sources, disk)?;
                self.cache.insert(key, bytes.clone());
                Some(Tell::Bytes(offset, bytes))
            }
            Readable::AtTail(_) => {
                self.readers.push((on, name, offset));
                None
            }
            Readable::End => Some(Tell::End),
        })
    }

    /// One more record is durable, if there is one.
    fn durable(&mut self, disk: &mut Disk) {
        if self.container.usage().n_pending == 0 {
            return;
        }
        let seq = Seq(self.container.durable_to().0 + 1);
        let effects = self.container.durable(position(seq));
        if !self.has(Plant::DeleteEarly) {
            for (of, before) in effects.free {
                disk.free(of, before);
            }
        }
    }

    pub(super) fn sync(
        &mut self,
        n_records: u64,
        disk: &mut Disk,
        net: &mut Net,
        chance: &mut Chance,
    ) -> Result<(), Violation> {
        for _ in 0..n_records {
            self.durable(disk);
        }
        self.keep_checkpoint(disk);
        // Whoever waits may ask again, and waits again if there is nothing.
        for (on, name, offset) in std::mem::take(&mut self.readers) {
            if let Some(tell) = self.read(on, name, offset, disk)? {
                net.tell(on, tell, chance);
            }
        }
        self.tell_what_is_durable(net, chance);
        Ok(())
    }

    /// Some segment goes to long-term storage as far as it is durable.
    pub(super) fn store(&mut self, disk: &mut Disk, chance: &mut Chance) -> Result<(), Violation> {
        let all: Vec<_> = self.container.tiering().collect();
        let wanting: Vec<_> = all
            .iter()
            .filter(|it| it.stored_to < it.durable_to)
            .collect();
        if wanting.is_empty() {
            return Ok(());
        }
        let which = usize::try_from(chance.below(wanting.len() as u64)).expect("it is small");
        let it = wanting[which];
        let bytes = fetch(
            &self.container.locate(it.id, it.stored_to, it.durable_to),
            disk,
        )?;
        let stored = disk.stored.entry(it.id).or_default();
        stored.extend((it.stored_to..).zip(bytes));
        let op = Op::Store {
            segment: it.id,
            to: it.durable_to,
        };
        let proposal = self.propose(&op, disk);
        proposal.map_err(|refused| Violation(refused.to_string()))?;
        Ok(())
    }

    /// What the fault deletes.
    pub(super) fn delete_early(&mut self, disk: &mut Disk) {
        if self.has(Plant::DeleteEarly) {
            let references = self.container.references();
            let numbers: Vec<_> = disk.stored.keys().copied().collect();
            for of in numbers {
                disk.free(of, references.get(&of).copied().unwrap_or(u64::MAX));
            }
        }
    }

    pub(super) fn draw_checkpoint(&mut self) {
        self.drawn = Some(Drawn {
            seq: self.container.proposed_to(),
            pieces: self.container.checkpoint().collect(),
            needs: self.container.needs(),
        });
    }

    fn keep_checkpoint(&mut self, disk: &mut Disk) {
        let Some(drawn) = self
            .drawn
            .take_if(|it| it.seq <= self.container.durable_to())
        else {
            return;
        };
        disk.checkpoint = drawn.pieces;
        disk.checkpoint.extend(self.container.positions(drawn.seq));
        let behind = position(drawn.seq.next());
        let needs = drawn.needs.map_or(behind, |seq| {
            let position = self.container.position(seq);
            position.expect("it is durable, and needed")
        });
        self.container.truncated(needs);
        let needs = if self.has(Plant::TruncateTooFar) {
            behind
        } else {
            needs
        };
        if self.has(Plant::LoseCheckpoint) {
            disk.checkpoint.clear();
        }
        disk.log.retain(|seq, _| position(*seq) >= needs);
    }
}

fn is_offset(refused: &Refused) -> bool {
    matches!(refused.why, Refusal::BadOffset { .. })
}

pub(super) fn fetch(sources: &[Source], disk: &Disk) -> Result<Vec<u8>, Violation> {
    let lost = || Violation("bytes are lost that are needed".to_owned());
    let to_usize = |number| usize::try_from(number).expect("it is small");
    let mut bytes = Vec::new();
    for source in sources {
        match *source {
            Source::Log {
                record,
                at,
                bytes: n_bytes,
            } => {
                let record = disk.log.get(&Seq(record.0 / 10)).ok_or_else(lost)?;
                let (from, n_bytes) = (to_usize(at), to_usize(n_bytes));
                bytes.extend(&record[from..from + n_bytes]);
            }
            Source::Stored {
                of,
                offset,
                bytes: n_bytes,
            } => {
                let stored = disk.stored.get(&of).ok_or_else(lost)?;
                for at in offset..offset + n_bytes {
                    bytes.push(*stored.get(&at).ok_or_else(lost)?);
                }
            }
        }
    }
    Ok(bytes)
}
