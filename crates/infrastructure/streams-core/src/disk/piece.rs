//! A checkpoint: the state in pieces, each of a bounded size, and made of them again.
//!
//! They come in this order: the head; each segment, followed by its attributes, writers, runs and entries; where the records lie that the runs are in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ids::Epoch;
use serde::{Deserialize, Serialize};

use super::record::{KindV1, ValuesV1, parse_name, parse_values};
use super::{decode, encode};
use crate::Corrupt;
use crate::attributes::{Attribute, AttributeId, NO_VALUE};
use crate::container::Container;
use crate::content::{Content, Place, Run};
use crate::dump::{self, Field, Fields};
use crate::names::{Position, SegmentId, Seq};
use crate::recovery::Recovery;
use crate::segment::{LENGTH_MAX, Segment};
use crate::state::{State, Totals};
use crate::table::{Entry, Table};

/// How many of anything are in one piece.
const ITEMS_MAX: usize = 4096;
/// A piece with entries ends when it has that much.
const ENTRIES_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
enum PieceV1<'a> {
    Head {
        seq: u64,
        unnamed: u64,
        last_id: u64,
        epoch: u64,
        n_segments: u64,
    },
    #[serde(borrow)]
    Segment(SegmentV1<'a>),
    /// Of the segment before, and no writer's. The next two are of that segment, too.
    Attributes(ValuesV1),
    Runs(Vec<RunV1>),
    Entries(Vec<EntryV1<'a>>),
    /// Of records the number and the position.
    Positions(Vec<(u64, u64)>),
    /// Further attributes of the segment before, which are of writers: with the record that has changed them last.
    Writers(Vec<(u128, i64, u64)>),
}

#[derive(Serialize, Deserialize)]
struct SegmentV1<'a> {
    id: u64,
    name: &'a str,
    kind: KindV1,
    start: u64,
    length: u64,
    is_sealed: bool,
    modified_at_ms: u64,
    changed: u64,
    n_attributes: u64,
    n_entries: u64,
}

/// Bytes, and where they lie: their offsets follow.
#[derive(Serialize, Deserialize)]
struct RunV1(u64, PlaceV1);

#[derive(Serialize, Deserialize)]
enum PlaceV1 {
    Log(u64, u64),
    Stored(u64, u64),
}

#[derive(Serialize, Deserialize)]
struct EntryV1<'a> {
    #[serde(borrow)]
    key: &'a [u8],
    offset: u64,
    value: &'a [u8],
}

impl Container {
    /// The state after [`Self::proposed_to`], durable or not, as pieces that [`Recovery::load`] makes it of. They are to be kept in this order,
    /// with those of [`Self::positions`] behind them. The one that was drawn before is given up if it has not been kept.
    pub fn checkpoint(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.drawn = self.proposed_to();
        self.kept.clear();
        let state = &self.state;
        let head = PieceV1::Head {
            seq: state.seq.0,
            unnamed: state.unnamed.0,
            last_id: state.last_id.0,
            epoch: state.epoch.0,
            n_segments: state.segments.len() as u64,
        };
        let segments = state.segments.iter();
        std::iter::once(head)
            .chain(segments.flat_map(|(id, segment)| pieces(*id, segment)))
            .map(|piece| encode(&piece))
    }

    /// The last pieces of the checkpoint that was drawn last, when all of it is durable: where its records lie.
    ///
    /// # Panics
    /// If it is another one, or is not durable.
    pub fn positions(&self, checkpoint: Seq) -> impl Iterator<Item = Vec<u8>> {
        assert_eq!(checkpoint, self.drawn, "one checkpoint is drawn at a time");
        let is_durable = checkpoint <= self.durable_to();
        assert!(is_durable, "a checkpoint is kept when it is durable");
        let needed = self.records.range(..=checkpoint);
        let needed = needed.filter_map(|(seq, position)| Some((seq.0, (*position)?.0)));
        let kept = self.kept.iter();
        let kept = kept.map(|(seq, position)| (seq.0, position.0));
        chunks(needed.chain(kept)).map(|some| encode(&PieceV1::Positions(some)))
    }

    /// The oldest record that a checkpoint needs which is drawn at the same moment, if it needs one for its bytes. When the checkpoint is kept, the
    /// log may be truncated up to that record ([`Self::position`]); if it needs none, up to the first one behind the checkpoint.
    #[must_use]
    pub fn needs(&self) -> Option<Seq> {
        self.records.first_key_value().map(|(seq, _)| *seq)
    }

    /// Where a record lies that bytes are in, or were when the last checkpoint was drawn, if it is durable.
    #[must_use]
    pub fn position(&self, record: Seq) -> Option<Position> {
        let needed = self.records.get(&record).copied().flatten();
        needed.or_else(|| self.kept.get(&record).copied())
    }

    /// The log has been truncated up to there.
    pub fn truncated(&mut self, before: Position) {
        self.kept.retain(|_, position| *position >= before);
    }
}

fn pieces(id: SegmentId, segment: &Segment) -> impl Iterator<Item = PieceV1<'_>> {
    let n_entries = segment.table.as_ref().map_or(0, Table::n_entries);
    let head = PieceV1::Segment(SegmentV1 {
        id: id.0,
        name: segment.name.as_str(),
        kind: segment.kind.into(),
        start: segment.start,
        length: segment.length,
        is_sealed: segment.is_sealed,
        modified_at_ms: segment.modified_at_ms,
        changed: segment.changed.0,
        n_attributes: segment.attributes.len() as u64,
        n_entries: n_entries as u64,
    });
    let attributes = segment.attributes.iter();
    let others = attributes
        .filter(|(_, attribute)| attribute.written.is_none())
        .map(|(id, attribute)| (id.0, attribute.value));
    let attributes = segment.attributes.iter();
    let writers = attributes.filter_map(|(id, attribute)| {
        let written = attribute.written?;
        Some((id.0, attribute.value, written.0))
    });
    let runs = segment.content.iter().map(|(_, run)| {
        let place = match run.place {
            Place::Log { record, at } => PlaceV1::Log(record.0, at),
            Place::Stored { of, offset } => PlaceV1::Stored(of.0, offset),
        };
        RunV1(run.bytes, place)
    });
    let entries = segment.table.iter().flat_map(|table| table.since(0));
    std::iter::once(head)
        .chain(chunks(others).map(PieceV1::Attributes))
        .chain(chunks(writers).map(PieceV1::Writers))
        .chain(chunks(runs).map(PieceV1::Runs))
        .chain(chunks_of_entries(entries).map(PieceV1::Entries))
}

fn chunks<T>(mut items: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let some: Vec<_> = items.by_ref().take(ITEMS_MAX).collect();
        (!some.is_empty()).then_some(some)
    })
}

fn chunks_of_entries<'a>(
    mut entries: impl Iterator<Item = (&'a Bytes, &'a Entry)>,
) -> impl Iterator<Item = Vec<EntryV1<'a>>> {
    std::iter::from_fn(move || {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while bytes < ENTRIES_BYTES
            && some.len() < ITEMS_MAX
            && let Some((key, entry)) = entries.next()
        {
            bytes += key.len() + entry.value.len();
            some.push(EntryV1 {
                key,
                offset: entry.offset,
                value: &entry.value,
            });
        }
        (!some.is_empty()).then_some(some)
    })
}

impl Recovery {
    /// Of a container that has a checkpoint: its log is read from there on, or from before.
    ///
    /// # Errors
    /// [`Corrupt`]: these are not all pieces of one checkpoint.
    pub fn load<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Result<Self, Corrupt> {
        let mut pieces = pieces.into_iter();
        let head = pieces.next();
        let mut loader = Loader::new(head.as_ref().map_or(&[], B::as_ref))?;
        for piece in pieces {
            loader.take(whole(piece.as_ref())?)?;
        }
        loader.finish()
    }
}

fn whole(bytes: &[u8]) -> Result<PieceV1<'_>, Corrupt> {
    match decode(bytes)? {
        (piece, []) => Ok(piece),
        _ => Err(Corrupt("bytes behind a piece")),
    }
}

/// What a piece says, for people.
pub(crate) fn describe(bytes: &[u8]) -> Result<Vec<Fields>, Corrupt> {
    let count = |piece: &str, n: usize| {
        let n = Field::Number(n as u64);
        vec![vec![("piece", piece.into()), ("count", n)]]
    };
    Ok(match whole(bytes)? {
        PieceV1::Head {
            seq,
            unnamed,
            last_id,
            epoch,
            n_segments,
        } => vec![vec![
            ("piece", "head".into()),
            ("seq", seq.into()),
            ("unnamed", unnamed.into()),
            ("last_id", last_id.into()),
            ("epoch", epoch.into()),
            ("segments", n_segments.into()),
        ]],
        PieceV1::Segment(segment) => vec![describe_segment(&segment)?],
        PieceV1::Attributes(values) => count("attributes", values.len()),
        PieceV1::Writers(writers) => count("writers", writers.len()),
        PieceV1::Entries(entries) => count("entries", entries.len()),
        PieceV1::Runs(runs) => runs.into_iter().map(describe_run).collect(),
        PieceV1::Positions(positions) => {
            let position = |(seq, position): (u64, u64)| {
                vec![
                    ("piece", "position".into()),
                    ("seq", seq.into()),
                    ("position", position.into()),
                ]
            };
            positions.into_iter().map(position).collect()
        }
    })
}

fn describe_segment(segment: &SegmentV1<'_>) -> Result<Fields, Corrupt> {
    Ok(vec![
        ("piece", "segment".into()),
        ("segment", segment.id.into()),
        ("name", segment.name.into()),
        ("kind", dump::kind(segment.kind.parse()?).into()),
        ("start", segment.start.into()),
        ("length", segment.length.into()),
        ("sealed", u64::from(segment.is_sealed).into()),
        ("modified_at_ms", segment.modified_at_ms.into()),
        ("changed", segment.changed.into()),
        ("attributes", segment.n_attributes.into()),
        ("entries", segment.n_entries.into()),
    ])
}

fn describe_run(RunV1(bytes, place): RunV1) -> Fields {
    let (place, of, at) = match place {
        PlaceV1::Log(record, at) => ("log", record, at),
        PlaceV1::Stored(of, at) => ("stored", of, at),
    };
    vec![
        ("piece", "run".into()),
        ("bytes", bytes.into()),
        ("place", place.into()),
        ("of", of.into()),
        ("at", at.into()),
    ]
}

/// What the pieces so far come to.
struct Loader {
    recovery: Recovery,
    n_segments: u64,
    current: Option<Loading>,
}

/// A segment of which not all pieces have come.
struct Loading {
    id: SegmentId,
    segment: Segment,
    runs: BTreeMap<u64, Run>,
    /// So far there are runs.
    end: u64,
    n_attributes: u64,
    n_entries: u64,
}

impl Loader {
    fn new(head: &[u8]) -> Result<Self, Corrupt> {
        let PieceV1::Head {
            seq,
            unnamed,
            last_id,
            epoch,
            n_segments,
        } = whole(head)?
        else {
            return Err(Corrupt("a checkpoint begins with its head"));
        };
        if Seq(seq) > Seq::MAX || SegmentId(last_id) > SegmentId::MAX {
            return Err(Corrupt("more than there can be"));
        }
        let state = State {
            seq: Seq(seq),
            unnamed: Seq(unnamed),
            last_id: SegmentId(last_id),
            epoch: Epoch(epoch),
            ..State::default()
        };
        let recovery = Recovery {
            state,
            positions: BTreeMap::new(),
        };
        Ok(Self {
            recovery,
            n_segments,
            current: None,
        })
    }

    fn take(&mut self, piece: PieceV1<'_>) -> Result<(), Corrupt> {
        match piece {
            PieceV1::Head { .. } => return Err(Corrupt("a checkpoint has one head")),
            PieceV1::Segment(segment) => {
                self.close()?;
                self.current = Some(Loading::new(&segment)?);
            }
            PieceV1::Attributes(values) => {
                let current = self.current.as_mut().ok_or(NO_SEGMENT)?;
                for (id, value) in parse_values(values) {
                    current.attribute(id, value, None)?;
                }
            }
            PieceV1::Writers(writers) => {
                let current = self.current.as_mut().ok_or(NO_SEGMENT)?;
                for (id, value, written) in writers {
                    current.attribute(AttributeId(id), value, Some(Seq(written)))?;
                }
            }
            PieceV1::Runs(runs) => {
                let current = self.current.as_mut().ok_or(NO_SEGMENT)?;
                runs.iter().try_for_each(|run| current.run(run))?;
            }
            PieceV1::Entries(entries) => {
                let current = self.current.as_mut().ok_or(NO_SEGMENT)?;
                let table = current.segment.table.as_mut();
                let table = table.ok_or(Corrupt("entries of what is no table"))?;
                for entry in entries {
                    if table.get(entry.key).is_some() || entry.offset > LENGTH_MAX {
                        return Err(Corrupt("an entry that is there twice, or nowhere"));
                    }
                    let key = Bytes::copy_from_slice(entry.key);
                    let entry = Entry {
                        offset: entry.offset,
                        value: Bytes::copy_from_slice(entry.value),
                    };
                    table.insert(key, entry);
                }
            }
            PieceV1::Positions(positions) => {
                let positions = positions.into_iter();
                let positions = positions.map(|(seq, position)| (Seq(seq), Position(position)));
                self.recovery.positions.extend(positions);
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Corrupt> {
        let Some(loading) = self.current.take() else {
            return Ok(());
        };
        let (id, segment) = loading.finish()?;
        let state = &mut self.recovery.state;
        state.totals.add(Totals::of(&segment));
        if segment.is_unstored(id) {
            state.unstored.insert(id);
        }
        if id > state.last_id || segment.changed > state.seq {
            return Err(Corrupt("a segment that is not there yet"));
        }
        let name = state.names.insert(segment.name.clone(), id);
        let former = state.segments.insert(id, segment);
        if name.is_some() || former.is_some() {
            return Err(Corrupt("a segment that is there twice"));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Recovery, Corrupt> {
        self.close()?;
        let Recovery { state, positions } = &self.recovery;
        if state.segments.len() as u64 != self.n_segments || state.unnamed > state.seq {
            return Err(Corrupt("a checkpoint that is cut"));
        }
        let mut records = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for (id, segment) in &state.segments {
            for (offset, run) in segment.content.iter() {
                let is_somewhere = match run.place {
                    Place::Log { record, .. } => {
                        record <= state.seq
                            && positions.contains_key(&record)
                            && records.insert(record)
                    }
                    Place::Stored { of, offset: at } if of == *id => {
                        offset == segment.start && at == offset
                    }
                    Place::Stored { of, .. } => {
                        of <= state.last_id
                            && !state.segments.contains_key(&of)
                            && numbers.insert(of)
                    }
                };
                if !is_somewhere {
                    return Err(Corrupt("bytes that lie nowhere, or twice"));
                }
            }
        }
        let positions = &mut self.recovery.positions;
        positions.retain(|record, _| records.contains(record));
        Ok(self.recovery)
    }
}

const NO_SEGMENT: Corrupt = Corrupt("a piece of no segment");

impl Loading {
    fn new(head: &SegmentV1<'_>) -> Result<Self, Corrupt> {
        if head.start > head.length || head.length > LENGTH_MAX {
            return Err(Corrupt("a segment that ends before it begins"));
        }
        let mut segment = Segment::new(parse_name(head.name)?, head.kind.parse()?);
        segment.start = head.start;
        segment.length = head.length;
        segment.is_sealed = head.is_sealed;
        segment.modified_at_ms = head.modified_at_ms;
        segment.changed = Seq(head.changed);
        Ok(Self {
            id: SegmentId(head.id),
            segment,
            runs: BTreeMap::new(),
            end: head.start,
            n_attributes: head.n_attributes,
            n_entries: head.n_entries,
        })
    }

    fn attribute(
        &mut self,
        id: AttributeId,
        value: i64,
        written: Option<Seq>,
    ) -> Result<(), Corrupt> {
        if value == NO_VALUE || written > Some(self.segment.changed) {
            return Err(Corrupt("an attribute that is not there"));
        }
        if written.is_some() && id.is_core() {
            return Err(Corrupt("a writer with the name of something else"));
        }
        let attribute = Attribute { value, written };
        self.segment.attributes.put(id, attribute);
        Ok(())
    }

    fn run(&mut self, RunV1(bytes, piece_place): &RunV1) -> Result<(), Corrupt> {
        let place = match *piece_place {
            PlaceV1::Log(record, at) => Place::Log {
                record: Seq(record),
                at,
            },
            PlaceV1::Stored(of, offset) => Place::Stored {
                of: SegmentId(of),
                offset,
            },
        };
        let bytes = *bytes;
        let (PlaceV1::Log(_, at) | PlaceV1::Stored(_, at)) = *piece_place;
        let ends = [at.checked_add(bytes), self.end.checked_add(bytes)];
        let is_within = |end: Option<u64>| end.is_some_and(|end| end <= LENGTH_MAX);
        if self.segment.table.is_some() {
            return Err(Corrupt("runs of a table"));
        }
        if bytes == 0 || !ends.into_iter().all(is_within) {
            return Err(Corrupt("a run of no bytes, or of more than any"));
        }
        self.runs.insert(self.end, Run { bytes, place });
        self.end += bytes;
        Ok(())
    }

    fn finish(self) -> Result<(SegmentId, Segment), Corrupt> {
        let Self {
            id,
            mut segment,
            runs,
            end,
            n_attributes,
            n_entries,
        } = self;
        let is_whole = match &segment.table {
            Some(table) => {
                segment.start == 0
                    && table.n_entries() as u64 == n_entries
                    && table.lies_within(segment.length)
            }
            None => end == segment.length && n_entries == 0,
        };
        if !is_whole || segment.attributes.len() as u64 != n_attributes {
            return Err(Corrupt("a segment that is cut"));
        }
        segment.content = runs.into_iter().collect::<Content>();
        Ok((id, segment))
    }
}
