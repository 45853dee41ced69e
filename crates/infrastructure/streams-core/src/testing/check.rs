//! What clients have seen, and whether that can be.

use std::collections::{BTreeMap, BTreeSet};

use crate::{SegmentId, SegmentName};

/// Events have that many bytes: writer, piece, number, and the first and last number of what was appended with it.
pub(super) const UNIT: usize = 8;

/// One of several events, or a piece of one, that must be appended together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) writer: u8,
    pub(super) number: u16,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Unit {
    pub(super) fn bytes(self) -> [u8; UNIT] {
        let [a, b] = self.number.to_be_bytes();
        let [c, d] = self.first.to_be_bytes();
        let [e, f] = self.last.to_be_bytes();
        [self.writer, 0, a, b, c, d, e, f]
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let &[writer, 0, a, b, c, d, e, f] = bytes else {
            return Err(format!("part of an event: {bytes:?}"));
        };
        Ok(Self {
            writer,
            number: u16::from_be_bytes([a, b]),
            first: u16::from_be_bytes([c, d]),
            last: u16::from_be_bytes([e, f]),
        })
    }
}

/// What was seen of an entry of a table, or of a segment (see [`History::saw_segment`]), and when it was asked and told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) asked: u64,
    pub(super) told: u64,
    /// The version was this one, or a later one if there is no value.
    pub(super) version: i64,
    pub(super) value: Option<u64>,
}

/// What a segment of a name that is used again and again is in, in the order in which that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Open,
    Sealed,
    Gone,
}

/// All that clients know.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By segment and writer, the last number that is known to be there.
    pub(super) acknowledged: BTreeMap<(SegmentName, u8), u16>,
    /// Conditional appends: where each is, or that it is not there.
    pub(super) conditional: Vec<(u16, Option<u64>)>,
    pub(super) seen: BTreeMap<(SegmentName, &'static [u8]), Vec<Seen>>,
    /// What entries were not set to.
    pub(super) refused: BTreeSet<u64>,
    /// Updates that were done: of which version, and to which.
    pub(super) updates: BTreeMap<(SegmentName, &'static [u8], i64), i64>,
    /// How often a writer came back and its number was not known any more.
    pub(super) n_given_up: u64,
    /// Transactions that were.
    pub(super) n_committed: u64,
    /// From when to when somebody had a lock, and knew it.
    pub(super) held: Vec<(u64, u64)>,
    /// The numbers of segments that were made.
    pub(super) created: BTreeSet<SegmentId>,
    /// How long segments were when they were sealed.
    pub(super) sealed: BTreeMap<SegmentName, u64>,
    /// What the reader has read, from the begin on.
    pub(super) read: BTreeMap<SegmentName, Vec<u8>>,
    /// What has been seen that cannot be.
    pub(super) wrong: Vec<String>,
}

/// A segment at the end.
pub(super) struct Content {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl History {
    pub(super) fn acknowledge(&mut self, segment: &SegmentName, writer: u8, number: i64) {
        let number = u16::try_from(number).unwrap_or(0);
        let last = self.acknowledged.entry((segment.clone(), writer));
        let last = last.or_default();
        *last = number.max(*last);
    }

    pub(super) fn update(&mut self, table: &SegmentName, key: &'static [u8], from: i64, to: i64) {
        let former = self.updates.insert((table.clone(), key, from), to);
        if let Some(former) = former {
            self.wrong
                .push(format!("versions {former} and {to} both replaced {from}"));
        }
    }

    /// As if a name were an entry whose versions are these: segments come one after the other, and each only gets older.
    pub(super) fn saw_segment(
        &mut self,
        name: &SegmentName,
        (asked, told): (u64, u64),
        id: SegmentId,
        stage: Stage,
    ) {
        let version = i64::try_from(id.0).expect("it is small") * 3 + stage as i64;
        let seen = Seen {
            asked,
            told,
            version,
            value: Some(0),
        };
        let key = (name.clone(), &b""[..]);
        self.seen.entry(key).or_default().push(seen);
    }

    /// All that cannot be.
    pub(super) fn check(&self, contents: &BTreeMap<SegmentName, Content>) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        for (name, content) in contents {
            match self.whole(name, content) {
                Ok(bytes) => self.check_content(name, &bytes, &mut wrong),
                Err(what) => wrong.push(what),
            }
        }
        for ((table, key), seen) in &self.seen {
            if let Err(what) = check_seen(seen) {
                wrong.push(format!("{table} {key:?}: {what}"));
            }
            let mut values = seen.iter().filter_map(|it| it.value);
            if let Some(value) = values.find(|it| self.refused.contains(it)) {
                wrong.push(format!("{table} {key:?}: {value} was refused"));
            }
        }
        let mut held = self.held.clone();
        held.sort_unstable();
        if let Some(two) = held.windows(2).find(|two| two[0].1 > two[1].0) {
            wrong.push(format!("a lock was held twice: {two:?}"));
        }
        wrong
    }

    fn check_content(&self, name: &SegmentName, bytes: &[u8], wrong: &mut Vec<String>) {
        let mut last = BTreeMap::new();
        if let Err(what) = check_events(name, bytes, &mut last) {
            wrong.push(format!("{name}: {what}"));
        }
        for ((segment, writer), number) in &self.acknowledged {
            if segment == name && last.get(writer).copied().unwrap_or(0) < *number {
                wrong.push(format!("{name}: event {number} of {writer} is lost"));
            }
        }
        if let Some(length) = self.sealed.get(name)
            && bytes.len() as u64 != *length
        {
            let length = (*length, bytes.len());
            wrong.push(format!("{name} grew while sealed: {length:?}"));
        }
        if name.as_str() == "state" {
            wrong.extend(self.check_conditional(bytes).err());
        }
    }

    /// With what was truncated, as the reader has read it.
    fn whole(&self, name: &SegmentName, content: &Content) -> Result<Vec<u8>, String> {
        let start = usize::try_from(content.start).expect("it is small");
        let read = self.read.get(name).map_or(&[][..], |read| read);
        let Some(before) = read.get(..start) else {
            return Err(format!("{name} begins behind what was read"));
        };
        let whole = [before, &content.bytes].concat();
        if !whole.starts_with(read) {
            return Err(format!("{name} is not what was read of it"));
        }
        Ok(whole)
    }

    fn check_conditional(&self, bytes: &[u8]) -> Result<(), String> {
        let mut places = BTreeMap::new();
        for (offset, bytes) in (0..).step_by(UNIT).zip(bytes.chunks(UNIT)) {
            let unit = Unit::parse(bytes)?;
            places.insert(u16::from(unit.writer) << 12 | unit.number, offset);
        }
        for (unit, wanted) in &self.conditional {
            let found = places.get(unit).copied();
            if found != *wanted {
                let places = (found, wanted);
                return Err(format!("a conditional append is elsewhere: {places:?}"));
            }
        }
        Ok(())
    }
}

/// Events are once, in the order of their writers, with those that were appended with them. `last` is which were the last ones.
fn check_events(
    name: &SegmentName,
    bytes: &[u8],
    last: &mut BTreeMap<u8, u16>,
) -> Result<(), String> {
    let mut wrong = Ok(());
    let mut open: Option<Unit> = None;
    for bytes in bytes.chunks(UNIT) {
        let unit = Unit::parse(bytes)?;
        let follows = match open {
            None => unit.number == unit.first,
            Some(before) => {
                let number = before.number + 1;
                unit == Unit { number, ..before }
            }
        };
        if !follows {
            return Err(format!("part of an append: {unit:?}"));
        }
        open = (unit.number < unit.last).then_some(unit);
        let last = last.entry(unit.writer).or_default();
        // In the state, what was refused leaves a gap.
        let may_skip = name.as_str() == "state" && unit.number > *last;
        if unit.number != *last + 1 && !may_skip {
            let what = "an event is not once, or not in order";
            wrong = Err(format!("{what}: {unit:?} after {last}"));
        }
        *last = unit.number;
    }
    match open {
        Some(unit) => Err(format!("part of an append: {unit:?}")),
        None => wrong,
    }
}

/// One version has one value, and who asks after somebody was told sees no older one.
fn check_seen(seen: &[Seen]) -> Result<(), String> {
    let mut values = BTreeMap::new();
    for it in seen {
        if let Some(value) = it.value
            && *values.entry(it.version).or_insert(value) != value
        {
            return Err(format!("version {} is two values", it.version));
        }
    }
    let mut by_told: Vec<_> = seen.iter().collect();
    by_told.sort_by_key(|it| it.told);
    let mut by_asked = by_told.clone();
    by_asked.sort_by_key(|it| it.asked);
    let (mut told, mut newest) = (by_told.into_iter().peekable(), i64::MIN);
    for it in by_asked {
        while let Some(before) = told.next_if(|before| before.told < it.asked) {
            newest = newest.max(before.version);
        }
        // A refusal says only that there was a later one.
        if it.value.is_some() && it.version < newest {
            return Err(format!("version {} was seen after {newest}", it.version));
        }
    }
    Ok(())
}

/// Bytes of a segment that has been made anew say of which one they are.
pub(super) fn check_tags(id: SegmentId, bytes: &[u8]) -> Result<(), String> {
    let tag = id.0.to_be_bytes();
    match bytes.chunks(UNIT).find(|unit| **unit != tag[..]) {
        Some(other) => Err(format!(
            "segment {id:?} has bytes of another one: {other:?}"
        )),
        None => Ok(()),
    }
}
