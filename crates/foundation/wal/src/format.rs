//! What a segment file holds, as bytes. Everything is little-endian.
//!
//! ```text
//! segment = slot · slot · record* · (mark | what was there before)
//! slot    = magic "CSKNWAL1" · this segment: epoch u64, seq u64, base u64 · the one before it: the same, zeros if there is none
//!           · chain u32 · salt u32 · edition u64 · n u32 · crc32c of all the rest u32 · n × (log u32 · start u64 · first u64 · end u64) · zeros
//! record  = position u64 · len u32 · log u32 · crc32c(body) u32 · unsynced u32 · prev u32 · head u32 · body
//! mark    = a record with log 2^32-1, without a body and with unsynced 0; the next record takes its place
//! ```
//! A record stands `position - base` bytes behind the slots. `prev` is the `head` of the record before it, across segments, and `head` is
//! the crc32c of the 28 bytes before it, with the log's random `salt` as the initial value. So what an earlier life of the file
//! left behind cannot be taken for a record (its position is another one), nothing can be missing in the middle, and who writes records
//! without knowing the salt cannot hide a false record in the body of a true one.
//!
//! `unsynced` is how far before the record the log was synced when it was written: the proof that a damaged place had been synced.
//!
//! A segment begins with two equal slots. Later changes of the table go to one and the other in turn, with a higher `edition`, so that a
//! torn one leaves the one before it.

use std::collections::BTreeMap;

use crc32c::{crc32c, crc32c_append};

use crate::{LogId, Position};

pub(crate) const SLOT_BYTES: usize = 4096;
/// Of the slots: where records begin in a file.
pub(crate) const HEAD_BYTES: u64 = 2 * SLOT_BYTES as u64;
pub(crate) const RECORD_HEAD_BYTES: usize = 32;
pub(crate) const MARK_BYTES: u64 = RECORD_HEAD_BYTES as u64;
/// No record is at position 0, so that zeros are no record.
pub(crate) const FIRST: Position = Position(1);

const MAGIC: &[u8; 8] = b"CSKNWAL1";
const TABLE_AT: usize = 80;
const ENTRY_BYTES: usize = 28;
const CRC_AT: usize = TABLE_AT - 4;
const SUFFIX: &str = ".wal";

const _: () = assert!(TABLE_AT + crate::LOGS_MAX * ENTRY_BYTES <= SLOT_BYTES);

/// Which segment: the `seq`th that the owner of that epoch has begun, and the position of its first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    pub epoch: u64,
    pub seq: u64,
    pub base: Position,
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        let Self { epoch, seq, base } = self;
        format!("{epoch:016x}-{seq:016x}-{:016x}{SUFFIX}", base.0)
    }

    /// `None`: it is not the name of a segment.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let mut numbers = file_name.strip_suffix(SUFFIX)?.split('-');
        let mut next = || u64::from_str_radix(numbers.next()?, 16).ok();
        let id = Self {
            epoch: next()?,
            seq: next()?,
            base: Position(next()?),
        };
        (id.file_name() == file_name).then_some(id)
    }

    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..].copy_from_slice(&self.base.0.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            epoch: u64_at(bytes, 0),
            seq: u64_at(bytes, 8),
            base: Position(u64_at(bytes, 16)),
        }
    }
}

/// What is kept of one logical log: nothing if `first` is not before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Records before it have been truncated.
    pub start: Position,
    /// No record that is kept is before it. It may be far behind `start`, when only other logs were written to in between.
    pub first: Position,
    /// Behind its last record.
    pub end: Position,
}

/// What is kept of all logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(pub BTreeMap<LogId, Kept>);

impl Table {
    /// There is a record of `log` from `position` to `end`.
    pub(crate) fn note(&mut self, log: LogId, position: Position, end: Position) {
        let kept = self.0.entry(log).or_insert(Kept {
            start: FIRST,
            first: position,
            end: position,
        });
        if kept.first >= kept.end {
            kept.first = kept.first.max(position);
        }
        kept.end = kept.end.max(end);
    }

    pub(crate) fn truncate(&mut self, log: LogId, before: Position) {
        if let Some(kept) = self.0.get_mut(&log) {
            kept.start = kept.start.max(before);
            kept.first = kept.first.max(before);
        }
    }

    /// Nothing before it is kept. `end` is where the log ends.
    pub(crate) fn floor(&self, end: Position) -> Position {
        let live = self.0.values().filter(|kept| kept.first < kept.end);
        live.map(|kept| kept.first).min().unwrap_or(end)
    }

    /// Makes the best of a table that may have been written before the records that it tells of, and those were lost: the log ends at
    /// `end`.
    pub(crate) fn settle(&mut self, end: Position) {
        for kept in self.0.values_mut() {
            kept.first = kept.first.min(end);
            kept.end = kept.end.min(end);
        }
    }

    /// What is truncated was synced.
    pub(crate) fn was_synced_beyond(&self, limit: Position) -> bool {
        self.0.values().any(|kept| kept.start > limit)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub id: SegmentId,
    pub prev: Option<SegmentId>,
    /// The head of the record before the first one here.
    pub chain: u32,
    pub salt: u32,
    pub edition: u64,
    pub table: Table,
}

impl Slot {
    /// Where this edition belongs in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.edition % 2 * SLOT_BYTES as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.id.encode());
        bytes.extend(self.prev.map_or([0; 24], SegmentId::encode));
        bytes.extend(self.chain.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        bytes.extend(self.edition.to_le_bytes());
        assert!(
            self.table.0.len() <= crate::LOGS_MAX,
            "who appends has looked"
        );
        let n_logs = u32::try_from(self.table.0.len()).expect("few");
        bytes.extend(n_logs.to_le_bytes());
        bytes.extend([0; 4]);
        for (log, kept) in &self.table.0 {
            bytes.extend(log.0.to_le_bytes());
            bytes.extend(kept.start.0.to_le_bytes());
            bytes.extend(kept.first.0.to_le_bytes());
            bytes.extend(kept.end.0.to_le_bytes());
        }
        bytes.resize(SLOT_BYTES, 0);
        let crc = Self::crc(&bytes);
        bytes[CRC_AT..TABLE_AT].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn crc(bytes: &[u8]) -> u32 {
        crc32c_append(crc32c(&bytes[..CRC_AT]), &bytes[TABLE_AT..])
    }

    /// The newer of the two slots at the beginning of the file of `id`. `None`: neither is sound and of that segment.
    pub(crate) fn newest(head: &[u8], id: SegmentId) -> Option<Self> {
        let slots = head.chunks_exact(SLOT_BYTES).filter_map(Self::decode);
        slots
            .filter(|slot| slot.id == id)
            .max_by_key(|slot| slot.edition)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let n_logs = usize::try_from(u32_at(bytes, 72)).ok()?;
        let is_sound = bytes.starts_with(MAGIC)
            && u32_at(bytes, CRC_AT) == Self::crc(bytes)
            && n_logs <= crate::LOGS_MAX;
        let prev = SegmentId::decode(&bytes[32..56]);
        let entries = bytes[TABLE_AT..].chunks_exact(ENTRY_BYTES).take(n_logs);
        let entries = entries.map(|entry| {
            let kept = Kept {
                start: Position(u64_at(entry, 4)),
                first: Position(u64_at(entry, 12)),
                end: Position(u64_at(entry, 20)),
            };
            (LogId(u32_at(entry, 0)), kept)
        });
        is_sound.then(|| Self {
            id: SegmentId::decode(&bytes[8..32]),
            prev: (prev.epoch > 0).then_some(prev),
            chain: u32_at(bytes, 56),
            salt: u32_at(bytes, 60),
            edition: u64_at(bytes, 64),
            table: Table(entries.collect()),
        })
    }
}

/// Of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub position: Position,
    pub len: u32,
    pub log: LogId,
    pub body_crc: u32,
    pub unsynced: u32,
    pub prev: u32,
    pub head: u32,
}

impl Header {
    /// `None`: the bytes do not begin with a sound header.
    pub(crate) fn parse(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEAD_BYTES)?;
        let head = u32_at(bytes, 28);
        (head == crc32c_append(salt, &bytes[..28])).then(|| Self {
            position: Position(u64_at(bytes, 0)),
            len: u32_at(bytes, 8),
            log: LogId(u32_at(bytes, 12)),
            body_crc: u32_at(bytes, 16),
            unsynced: u32_at(bytes, 20),
            prev: u32_at(bytes, 24),
            head,
        })
    }

    pub(crate) fn is_mark(&self) -> bool {
        self.log == LogId::RESERVED
    }

    /// Of header and body.
    pub(crate) fn bytes(&self) -> u64 {
        RECORD_HEAD_BYTES as u64 + u64::from(self.len)
    }

    pub(crate) fn end(&self) -> Position {
        Position(self.position.0.saturating_add(self.bytes()))
    }

    /// The log was synced up to there when this was written.
    pub(crate) fn synced(&self) -> Position {
        Position(self.position.0.saturating_sub(self.unsynced.into()))
    }

    pub(crate) fn is_of(&self, body: &[u8]) -> bool {
        self.body_crc == crc32c(body)
    }
}

/// The checksum of a body that comes in parts.
pub(crate) fn body_crc(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c_append(crc, part))
}

/// Adds a record to `records`; it is complete after [`seal`].
pub(crate) fn push(
    records: &mut Vec<u8>,
    (log, position): (LogId, Position),
    (len, body_crc): (u32, u32),
    parts: &[&[u8]],
) {
    records.extend_from_slice(&position.0.to_le_bytes());
    records.extend_from_slice(&len.to_le_bytes());
    records.extend_from_slice(&log.0.to_le_bytes());
    records.extend_from_slice(&body_crc.to_le_bytes());
    records.extend_from_slice(&[0; 12]);
    for part in parts {
        records.extend_from_slice(part);
    }
}

/// Completes whole records of [`push`], which follow the one with the head `chain` and are written when the log is synced up to `synced`;
/// `note` is told of each. Returns the head of the last one.
pub(crate) fn seal(
    mut records: &mut [u8],
    (salt, mut chain): (u32, u32),
    synced: Position,
    mut note: impl FnMut(LogId, Position, Position),
) -> u32 {
    while !records.is_empty() {
        let position = u64_at(records, 0);
        let unsynced = position - synced.0;
        let unsynced = u32::try_from(unsynced).expect("the queue is bounded");
        records[20..24].copy_from_slice(&unsynced.to_le_bytes());
        records[24..28].copy_from_slice(&chain.to_le_bytes());
        chain = crc32c_append(salt, &records[..28]);
        records[28..32].copy_from_slice(&chain.to_le_bytes());
        let n = record_bytes(records);
        let end = Position(position + n as u64);
        note(LogId(u32_at(records, 12)), Position(position), end);
        records = &mut records[n..];
    }
    chain
}

/// How many bytes of `records` are whole records and fit in `room`.
pub(crate) fn fitting(records: &[u8], room: u64) -> usize {
    let mut n = 0;
    while n < records.len() {
        let next = n + record_bytes(&records[n..]);
        if next as u64 > room {
            break;
        }
        n = next;
    }
    n
}

fn record_bytes(records: &[u8]) -> usize {
    RECORD_HEAD_BYTES + usize::try_from(u32_at(records, 8)).expect("it is in memory")
}

/// Says at the end of the log that all before it is synced.
pub(crate) fn mark(end: Position, salt: u32, chain: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEAD_BYTES);
    push(&mut bytes, (LogId::RESERVED, end), (0, 0), &[]);
    seal(&mut bytes, (salt, chain), end, |_, _, _| {});
    bytes
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
