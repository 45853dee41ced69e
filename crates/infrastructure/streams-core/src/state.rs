//! All segments of a container, all proposals included.

use std::collections::{BTreeMap, BTreeSet};

use ids::Epoch;

use crate::names::{SegmentId, SegmentName, Seq};
use crate::op::Refusal;
use crate::segment::{Kind, Segment};
use crate::table::Table;

/// What is allowed from now on. What is there, or in the log, may exceed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub segments_max: usize,
    /// Of one segment. Each writer that ever wrote to it has one, until there is no room for the next one: then that of the writer is given up
    /// that has not written for the longest time, if that is [`Self::pending_max`] records or more.
    pub segment_attributes_max: usize,
    /// Of all segments. There a segment gives up writers of its own as well, and one that has none takes no new ones.
    pub attributes_max: usize,
    /// Of all segments: runs of bytes that are in memory as numbers, mostly one for each append that is not in long-term storage yet.
    pub runs_max: usize,
    /// Of all tables: their entries, as what they take in memory.
    pub tables_bytes_max: u64,
    /// Of one change of a table.
    pub table_batch_bytes_max: usize,
    /// Of one merge.
    pub sources_max: usize,
    /// Proposed and not durable.
    pub pending_max: usize,
    /// The same in bytes. One record is let in however large it is.
    pub pending_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segments_max: 100_000,
            segment_attributes_max: 100_000,
            attributes_max: 10_000_000,
            runs_max: 4_000_000,
            tables_bytes_max: 1 << 30,
            table_batch_bytes_max: 32 << 20,
            sources_max: 1_000,
            pending_max: 16_384,
            pending_bytes_max: 256 << 20,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) names: BTreeMap<SegmentName, SegmentId>,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    /// The highest there ever was.
    pub(crate) last_id: SegmentId,
    /// The last record.
    pub(crate) seq: Seq,
    /// The last record that took away a name.
    pub(crate) unnamed: Seq,
    /// Of the last owner.
    pub(crate) epoch: Epoch,
    /// Segments of which some is to be stored.
    pub(crate) unstored: BTreeSet<SegmentId>,
    /// Of all segments.
    pub(crate) totals: Totals,
}

/// What is limited for all segments together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) n_attributes: usize,
    pub(crate) n_runs: usize,
    pub(crate) tables_bytes: u64,
}

impl Totals {
    pub(crate) fn of(segment: &Segment) -> Self {
        Self {
            n_attributes: segment.attributes.len(),
            n_runs: segment.content.n_runs(),
            tables_bytes: segment.table.as_ref().map_or(0, Table::memory),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.n_attributes += other.n_attributes;
        self.n_runs += other.n_runs;
        self.tables_bytes += other.tables_bytes;
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        self.n_attributes -= other.n_attributes;
        self.n_runs -= other.n_runs;
        self.tables_bytes -= other.tables_bytes;
    }
}

impl State {
    pub(crate) fn find(&self, name: &SegmentName) -> Result<(SegmentId, &Segment), Refusal> {
        let id = self.names.get(name);
        let id = *id.ok_or_else(|| Refusal::NoSuchSegment(name.clone()))?;
        Ok((id, &self.segments[&id]))
    }

    pub(crate) fn get(&self, id: SegmentId) -> Result<&Segment, Refusal> {
        self.segments.get(&id).ok_or(Refusal::Gone(id))
    }

    /// Nothing of it is a table, and it goes on.
    pub(crate) fn find_bytes(&self, name: &SegmentName) -> Result<(SegmentId, &Segment), Refusal> {
        let (id, segment) = self.find(name)?;
        if segment.table.is_some() {
            return Err(Refusal::WrongKind(name.clone()));
        }
        Ok((id, segment))
    }

    pub(crate) fn find_table(
        &self,
        name: &SegmentName,
    ) -> Result<(SegmentId, &Segment, &Table), Refusal> {
        let (id, segment) = self.find(name)?;
        match &segment.table {
            Some(table) => Ok((id, segment, table)),
            None => Err(Refusal::WrongKind(name.clone())),
        }
    }

    pub(crate) fn transient(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        let is_transient =
            |(_, segment): &(_, &Segment)| matches!(segment.kind, Kind::Transient(_));
        self.segments
            .iter()
            .map(|(id, segment)| (*id, segment))
            .filter(is_transient)
    }
}
